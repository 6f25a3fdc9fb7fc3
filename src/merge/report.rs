//! `report.html`: one self-contained page about a run.

use std::fmt::Write;

use super::Merged;
use super::outputs::SpeedupRow;
use super::shards::ranges;

/// The page.
pub fn html(merged: &Merged, speedup: &SpeedupRow) -> String {
    include_str!("report.html")
        .replace("{{cards}}", &cards(merged, speedup))
        .replace("{{warnings}}", &warnings(merged))
        .replace("{{stages}}", &stages(merged))
        .replace("{{scenes}}", &scenes(merged))
        .replace("{{impacts}}", &impacts(merged))
}

/// Text that cannot be read as markup.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '{' => safe.push_str("&#123;"),
            c => safe.push(c),
        }
    }
    safe
}

fn cards(merged: &Merged, speedup: &SpeedupRow) -> String {
    let card = |value: String, name: &str| format!("<div class=card><b>{value}</b>{name}</div>\n");
    [
        card(merged.impacts.to_string(), "impacts"),
        card(format!("{:.1} Mpx", merged.valid_px() as f64 / 1e6), "valid pixels scanned"),
        card(format!("{:.3} Mpx/s", speedup.valid_mpx_s), "valid, a shard"),
        card(format!("{:.1} s", speedup.sum_s), "of all shards together"),
        card(format!("{:.1} s", speedup.longest_s), "longest shard"),
        card(format!("{:.2} of {}", speedup.speedup, speedup.shards), "speed-up over the shards"),
        card(escape(&speedup.device), "device"),
    ]
    .concat()
}

fn warnings(merged: &Merged) -> String {
    let mut text = String::new();
    if !merged.missing.is_empty() {
        let share = merged.share().map_or(String::new(), |share| {
            format!(" {:.2} % of the pixels of the scene list are in.", 100.0 * share)
        });
        let _ = writeln!(text, "<p class=warn>Missing shards: {}.{share}</p>", ranges(&merged.missing));
    }
    for (scene, why) in &merged.failed {
        let _ = writeln!(text, "<p class=warn>{} is incomplete: {}</p>", escape(scene), escape(why));
    }
    text
}

fn stages(merged: &Merged) -> String {
    let sums = &merged.stage_seconds;
    let most = sums.values().copied().fold(f64::MIN_POSITIVE, f64::max);
    let mut text = String::new();
    for (stage, seconds) in sums {
        let _ = writeln!(
            text,
            "<tr><td>{}<td class=n>{seconds:.2}<td class=bar><svg width=100% height=12><rect width='{:.1}%' height=12 /></svg>",
            escape(stage),
            100.0 * seconds / most
        );
    }
    text
}

fn scenes(merged: &Merged) -> String {
    let mut text = String::new();
    for scene in &merged.scenes {
        let ratio = scene.computed_px as f64 / scene.valid_px.max(1) as f64;
        let _ = writeln!(
            text,
            "<tr><td>{}<td class=n>{}<td class=n>{:.2}<td class=n>{:.2}<td class=n>{ratio:.2}",
            escape(&scene.scene),
            scene.impacts,
            scene.pixels as f64 / 1e6,
            scene.valid_px as f64 / 1e6,
        );
    }
    text
}

fn impacts(merged: &Merged) -> String {
    let degrees = |value: Option<f64>| value.map_or(String::new(), |v| format!("{v:.4}"));
    let mut text = String::new();
    for impact in &merged.best {
        let _ = writeln!(
            text,
            "<tr><td class=n>{}<td>{}<td class=n>{:.1}<td class=n>{:.1}<td class=n>{}<td class=n>{}<td class=n>{:.1}<td class=n>{}<td class=n>{:.3}<td class=n>{:.3}",
            impact.id,
            escape(&impact.scene),
            impact.row_px,
            impact.col_px,
            degrees(impact.lat_deg),
            degrees(impact.lon_deg),
            impact.diameter_px,
            impact.diameter_m.map_or(String::new(), |m| format!("{m:.1}")),
            impact.score,
            impact.peak
        );
    }
    text
}
