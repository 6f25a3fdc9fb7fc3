//! The surest impacts, each with a picture of its place cut from the scene's own file.

use std::collections::HashMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use super::super::Merged;
use super::run::read_settings;
use super::{escape, shortened};
use crate::config::{InputSettings, load};
use crate::picture::{data_uri, thumbnail};
use crate::raster::MappedScene;
use crate::records::{Impact, SceneOutcome, ShardManifest};

/// Side of the least piece of a scene, px.
const LEAST_PX: u64 = 96;
/// Side of the largest, px: what of a larger impact is shown is its middle.
const MOST_PX: u64 = 1600;
/// Side up to which a piece is shown pixel by pixel, px.
const SHOWN_PX: u64 = 160;
/// Characters of why there is no picture.
const MESSAGE: usize = 160;

/// A card an impact.
pub fn cards(out: &Path, merged: &Merged) -> String {
    let input = merged.manifests.first().and_then(|shard| read_settings(out, shard));
    let input = input.map(|settings| settings.input).or_else(|| Some(load("unet1").ok()?.input));
    let mut scenes: HashMap<&str, Result<Arc<MappedScene>>> = HashMap::new();
    let mut text = String::new();
    for impact in &merged.best {
        let scene = scenes
            .entry(&impact.scene)
            .or_insert_with(|| open_scene(&merged.manifests, &impact.scene, input));
        let picture = match scene {
            Ok(scene) => picture(impact, scene),
            Err(why) => Err(anyhow::anyhow!("{why:#}")),
        };
        let picture = picture.unwrap_or_else(|why| {
            format!("<div class='pic none'>{}</div>", shortened(&format!("{why:#}"), MESSAGE))
        });
        text += &card(impact, &picture);
    }
    if text.is_empty() {
        text += "<p>None was found.</p>";
    }
    text
}

/// The scene called `name`, from the file that the shards say they read.
///
/// # Errors
/// If it cannot be opened, or is not as large as it was.
pub fn open_scene(
    manifests: &[ShardManifest],
    name: &str,
    input: Option<InputSettings>,
) -> Result<Arc<MappedScene>> {
    let outcomes = || manifests.iter().flat_map(|shard| &shard.scenes).filter(|s| s.scene == name);
    let outcome: &SceneOutcome =
        outcomes().find(|s| s.file.is_some()).context("no picture: no shard says which file it read")?;
    let path = outcome.file.as_deref().unwrap_or(Path::new(name));
    let input = input.context("no picture: its settings cannot be read")?;
    let scene = MappedScene::open(path, input).context("no picture")?;
    let header = scene.header();
    let (rows, cols) =
        if outcome.rows > 0 { (outcome.rows, outcome.cols) } else { (header.rows, header.cols) };
    ensure!(
        (header.rows, header.cols) == (rows, cols),
        "no picture: {} has now {} x {} px, it was scanned with {rows} x {cols}",
        path.display(),
        header.rows,
        header.cols
    );
    Ok(scene)
}

/// First and one past the last of `want` pixels around `middle`, moved inside 0..`end` where there is room.
fn around(middle: u64, want: u64, end: u64) -> (u64, u64) {
    let first = middle.saturating_sub(want / 2).min(end.saturating_sub(want));
    (first, (first + want).min(end))
}

/// The piece of the scene around an impact, with a circle as large as the impact says it is.
fn picture(impact: &Impact, scene: &Arc<MappedScene>) -> Result<String> {
    let header = scene.header();
    let (tall, wide) = (impact.row1_px - impact.row0_px, impact.col1_px - impact.col0_px);
    let want = (2 * tall.max(wide)).clamp(LEAST_PX, MOST_PX);
    let step = want.div_ceil(SHOWN_PX);
    let (row0, row1) = around(u64::midpoint(impact.row0_px, impact.row1_px), want, header.rows);
    let (col0, col1) = around(u64::midpoint(impact.col0_px, impact.col1_px), want, header.cols);
    let pixels = scene.window(row0..row1, col0..col1).context("no picture")?;
    let png = thumbnail(&pixels, (col1 - col0) as usize, step as usize).context("no picture")?;
    // The centroid counts from the first pixel's centre, the picture from its edge.
    let (y, x) = (impact.row_px + 0.5 - row0 as f64, impact.col_px + 0.5 - col0 as f64);
    let radius = (0.5 * impact.diameter_px + 2.0).max(0.5 * tall.max(wide) as f64 + 1.0);
    let (height, width) = ((row1 - row0) / step * step, (col1 - col0) / step * step);
    Ok(format!(
        "<div class=pic><img alt='' src='{}'><svg viewBox='0 0 {width} {height}'>\
         <circle cx='{x:.1}' cy='{y:.1}' r='{radius:.1}' /></svg>{}</div>",
        data_uri("image/png", &png),
        scale_bar(impact, width)
    ))
}

/// A round length of less than half the picture, in metres where these are known.
fn scale_bar(impact: &Impact, width_px: u64) -> String {
    let m_per_px = impact.diameter_m.map(|m| m / impact.diameter_px.max(1e-9)).filter(|m| *m > 0.0);
    let (scale, unit) = m_per_px.map_or((1.0, "px"), |m| (m, "m"));
    let room = 0.45 * width_px as f64 * scale;
    let power = 10f64.powf(room.log10().floor());
    let length = power * [5.0, 2.0, 1.0].into_iter().find(|lead| lead * power <= room).unwrap_or(1.0);
    let share = 100.0 * length / scale / width_px as f64;
    let text = if length < 1.0 { format!("{length:.1}") } else { format!("{length:.0}") };
    format!("<span class=scale style='width:{share:.1}%'>{text} {unit}</span>")
}

fn card(impact: &Impact, picture: &str) -> String {
    let mut text = format!("<figure>{picture}<figcaption><b>{:.3}</b> ", impact.score);
    let size = impact.diameter_m.map_or(format!("{:.1} px", impact.diameter_px), |m| format!("{m:.1} m"));
    let _ = write!(text, "<span class=r>{size}</span><br>");
    if let Some((lat, lon)) = impact.lat_deg.zip(impact.lon_deg) {
        let (lat, side) = (lat.abs(), if lat < 0.0 { 'S' } else { 'N' });
        let _ = write!(text, "{lat:.4}° {side} {lon:.4}° E<br>");
    }
    let _ = writeln!(
        text,
        "<span class=name>{}</span><br><span class=dim>no. {}, row {:.0}, col {:.0}</span></figcaption></figure>",
        escape(&impact.scene),
        impact.id,
        impact.row_px,
        impact.col_px
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_stays_inside_the_scene() {
        assert_eq!(around(500, 96, 1000), (452, 548));
        assert_eq!((around(3, 96, 1000), around(999, 96, 1000)), ((0, 96), (904, 1000)));
        assert_eq!(around(20, 96, 40), (0, 40));
    }
}
