//! `marscan eval`: a catalogue against the truth.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args as ClapArgs;

use super::Done;
use crate::merge::shard_manifests;
use crate::records::{Impact, PixelError};
use crate::score::{Counts, count, truth};
use crate::space::ScenePx;
use crate::table::{read_rows, write_whole};

/// Score a catalogue against truth tables or masks, impact by impact, and its probabilities pixel by pixel.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Example:\n  marscan eval --catalogue found/catalogue.csv --truth scenes/ --sweep")]
pub struct Args {
    /// The catalogue; shards/ beside it tells the area scanned
    #[arg(long)]
    catalogue: PathBuf,
    /// CSV (row,col,diam_px and perhaps scene), mask TIFF, or a folder of NAME_truth.csv or NAME_gt.tif
    #[arg(long)]
    truth: PathBuf,
    /// Only candidates of at least this mean probability
    #[arg(long, default_value_t = 0.0)]
    min_score: f64,
    /// Side of a pixel where the scenes do not say, m
    #[arg(long, default_value_t = 6.0)]
    m_per_px: f64,
    /// Score for a range of lowest scores
    #[arg(long)]
    sweep: bool,
    /// Write the counts as JSON too
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Area that was scanned.
#[derive(Clone, Copy, Default)]
struct Area {
    valid_px: f64,
    km2: f64,
    /// Where the scan looked at the masks.
    error: PixelError,
}

/// Prints counts a scene and in all.
///
/// # Errors
/// If a file cannot be read.
pub fn run(args: &Args) -> Result<Done> {
    let catalogue: Vec<Impact> = read_rows(&args.catalogue)?;
    let folder = args.catalogue.parent().unwrap_or(Path::new(""));
    let areas = areas(folder, args.m_per_px)?;
    let mut truth = truth::read(&args.truth)?;
    // A scene that was not scanned is not missed; one that was and has no truth is not scored.
    truth.retain(|scene, _| areas.contains_key(scene));
    anyhow::ensure!(!truth.is_empty(), "none of the scenes in {} was scanned", args.truth.display());
    let counts = count(&catalogue, &truth, args.min_score);
    say!(
        "{:28} {:>6} {:>6} {:>6} {:>10} {:>7} {:>6} {:>13} {:>7} {:>7} {:>9}",
        "scene",
        "truth",
        "found",
        "false",
        "precision",
        "recall",
        "F1",
        "false/1000km2",
        "/Mpx",
        "MSE %",
        "nothing %"
    );
    let (mut total, mut whole) = (Counts::default(), Area::default());
    for (scene, counts) in &counts {
        let area = areas.get(scene).copied().unwrap_or_default();
        print(scene, counts, area);
        total = total.plus(counts);
        whole.valid_px += area.valid_px;
        whole.km2 += area.km2;
        whole.error = whole.error.plus(&area.error);
    }
    print("all", &total, whole);
    if whole.error.pixels == 0 {
        say!("no mean squared error: scan with --masks, and a scene list that names the masks");
    }
    if args.sweep {
        say!("lowest score  found  false  precision  recall     F1  false/1000km2");
        for step in 10..20 {
            let least = f64::from(step) * 0.05;
            let sum = count(&catalogue, &truth, least).values().fold(Counts::default(), |sum, c| sum.plus(c));
            say!(
                "{least:12.2} {:6} {:6} {:10.3} {:7.3} {:6.3} {:14.2}",
                sum.found,
                sum.false_positives,
                sum.precision(),
                sum.recall(),
                sum.f1(),
                per(sum.false_positives, whole.km2 / 1000.0)
            );
        }
    }
    if let Some(path) = &args.json {
        write_whole(path, serde_json::to_string_pretty(&counts)?.as_bytes())?;
    }
    Ok(Done::All)
}

fn print(scene: &str, counts: &Counts, area: Area) {
    let percent = |value: f64| if value.is_nan() { "-".to_owned() } else { format!("{value:.4}") };
    say!(
        "{scene:28} {:6} {:6} {:6} {:10.3} {:7.3} {:6.3} {:13.2} {:7.3} {:>7} {:>9}",
        counts.truth,
        counts.found,
        counts.false_positives,
        counts.precision(),
        counts.recall(),
        counts.f1(),
        per(counts.false_positives, area.km2 / 1000.0),
        per(counts.false_positives, area.valid_px / 1e6),
        percent(area.error.mse_percent()),
        percent(area.error.nothing_percent())
    );
}

fn per(count: u64, unit: f64) -> f64 {
    if unit > 0.0 { count as f64 / unit } else { f64::NAN }
}

/// The valid area of each scene that was scanned, from the shards' manifests.
fn areas(folder: &Path, m_per_px: f64) -> Result<BTreeMap<String, Area>> {
    let mut areas: BTreeMap<String, Area> = BTreeMap::new();
    for scene in shard_manifests(folder)?.into_iter().flat_map(|manifest| manifest.scenes) {
        let side_m =
            scene.georef.map_or(m_per_px, |georef| georef.metres_per_px(ScenePx { row: 0.0, col: 0.0 }));
        let area = areas.entry(scene.scene).or_default();
        area.valid_px += scene.valid_px as f64;
        area.error = area.error.plus(&scene.pixel_error.unwrap_or_default());
        area.km2 += scene.valid_px as f64 * side_m * side_m / 1e6;
    }
    Ok(areas)
}
