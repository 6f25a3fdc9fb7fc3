//! Where the time went, and how well the shards shared it.

use std::fmt::Write;

use super::super::Merged;
use super::{duration, escape};
use crate::records::ShardManifest;
use crate::timing::STAGES;

/// Shards up to which each has a bar of its own; of more the profile is drawn.
const BARS: usize = 40;
/// Points of a profile.
const POINTS: usize = 300;

/// A bar a stage, in the order of work.
pub fn stages(merged: &Merged) -> String {
    let sums = &merged.stage_seconds;
    let place = |name: &str| STAGES.iter().position(|stage| *stage == name).unwrap_or(STAGES.len());
    let mut all: Vec<(&String, f64)> = sums.iter().map(|(name, seconds)| (name, *seconds)).collect();
    all.sort_by_key(|(name, _)| place(name));
    let most = sums.values().copied().fold(f64::MIN_POSITIVE, f64::max);
    let total = sums.values().sum::<f64>().max(f64::MIN_POSITIVE);
    let mut text = "<table class=bars>\n".to_owned();
    for (stage, seconds) in all {
        text += &bar(
            &escape(stage),
            seconds / most,
            &format!("{} <i>{:.1} %</i>", duration(seconds), 100.0 * seconds / total),
        );
    }
    text + "</table>\n"
}

fn bar(name: &str, share: f64, value: &str) -> String {
    format!(
        "<tr><td>{name}<td class=bar><svg><rect width='{:.2}%' height='100%' /></svg><td class=n>{value}\n",
        100.0 * share.clamp(0.0, 1.0)
    )
}

/// How long the shards took: a bar each, or all of them, longest first, as one profile.
pub fn balance(merged: &Merged) -> String {
    // Shards without work finish at once and say nothing of the balance.
    let mut busy: Vec<&ShardManifest> =
        merged.manifests.iter().filter(|shard| !shard.scenes.is_empty()).collect();
    if busy.is_empty() {
        return "<p>No shard had work.</p>\n".to_owned();
    }
    let mean = busy.iter().map(|shard| shard.seconds).sum::<f64>() / busy.len() as f64;
    let longest = busy.iter().map(|shard| shard.seconds).fold(f64::MIN_POSITIVE, f64::max);
    let mut text = format!(
        "<p>Mean {}, longest {}: load balance <b>{:.3}</b> (mean over longest; 1 is even).</p>\n",
        duration(mean),
        duration(longest),
        mean / longest
    );
    if busy.len() <= BARS {
        text += "<table class=bars>\n";
        for shard in busy {
            text +=
                &bar(&format!("shard {}", shard.shard), shard.seconds / longest, &duration(shard.seconds));
        }
        return text + "</table>\n";
    }
    busy.sort_by(|a, b| b.seconds.total_cmp(&a.seconds).then(a.shard.cmp(&b.shard)));
    let _ = writeln!(
        text,
        "<svg class=profile viewBox='0 0 1000 200' preserveAspectRatio=none><path d='{}' />\
         <line x1=0 x2=1000 y1='{1:.1}' y2='{1:.1}' /></svg>\n<p class=note>{2} shards, longest first; \
         the dashed line is the mean. The longest are {3}.</p>",
        profile(&busy, longest),
        200.0 - 200.0 * mean / longest,
        busy.len(),
        busy.iter().take(5).map(|shard| shard.shard.to_string()).collect::<Vec<_>>().join(", ")
    );
    text
}

/// The sorted seconds as an area of 1000 x 200.
fn profile(sorted: &[&ShardManifest], longest: f64) -> String {
    let mut path = "M0 200".to_owned();
    let points = POINTS.min(sorted.len());
    for k in 0..=points {
        let shard = sorted[(k * sorted.len() / points).min(sorted.len() - 1)];
        let _ = write!(
            path,
            "L{:.1} {:.1}",
            1000.0 * k as f64 / points as f64,
            200.0 - 200.0 * shard.seconds / longest
        );
    }
    path + "L1000 200Z"
}
