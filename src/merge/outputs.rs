//! The files a merge writes, each whole or not at all.

use std::path::Path;

use anyhow::Result;
use serde::Serialize;
use serde_json::json;

use super::{Merged, report};
use crate::records::{ShardManifest, TimingRow};
use crate::scan::shard_folder;
use crate::table::{CATALOGUE_HEADER, TIMING_HEADER, read_rows, write_rows, write_whole};

/// One line of `speedup.csv`: how well `shards` shards shared the work.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SpeedupRow {
    /// Shards in the merge.
    pub shards: usize,
    /// Machines they ran on.
    pub hosts: usize,
    /// What the network ran on.
    pub device: String,
    /// Threads a shard.
    pub threads: usize,
    /// Pixels scanned, no-data included.
    pub pixels: u64,
    /// Of those, not no-data.
    pub valid_px: u64,
    /// Seconds of all shards together: the time one after the other.
    pub sum_s: f64,
    /// Seconds of the longest shard: the time all at once.
    pub longest_s: f64,
    /// `sum_s / longest_s`: at most the count of shards.
    pub speedup: f64,
    /// `speedup / shards`.
    pub efficiency: f64,
    /// Million valid pixels a second, one shard after the other.
    pub valid_mpx_s: f64,
}

const SPEEDUP_HEADER: [&str; 11] = [
    "shards",
    "hosts",
    "device",
    "threads",
    "pixels",
    "valid_px",
    "sum_s",
    "longest_s",
    "speedup",
    "efficiency",
    "valid_mpx_s",
];

/// Writes all outputs of `merged` into `out`.
///
/// # Errors
/// If one cannot be written.
pub fn write(out: &Path, merged: &Merged) -> Result<()> {
    write_rows(&out.join("catalogue.csv"), &CATALOGUE_HEADER, &merged.impacts)?;
    write_whole(&out.join("catalogue.geojson"), geojson(merged).as_bytes())?;
    let mut timing: Vec<TimingRow> = Vec::new();
    for manifest in &merged.manifests {
        let folder = shard_folder(out, manifest.shard, manifest.shards);
        timing.extend(read_rows::<TimingRow>(&folder.join("timing.csv"))?);
    }
    write_rows(&out.join("timing.csv"), &TIMING_HEADER, &timing)?;
    let speedup = speedup(merged);
    write_rows(&out.join("speedup.csv"), &SPEEDUP_HEADER, std::slice::from_ref(&speedup))?;
    write_whole(&out.join("report.html"), report::html(merged, &timing, &speedup).as_bytes())
}

fn speedup(merged: &Merged) -> SpeedupRow {
    // Shards without work finish at once and say nothing of the speed.
    let busy: Vec<&ShardManifest> = merged.manifests.iter().filter(|m| !m.scenes.is_empty()).collect();
    let sum_s: f64 = busy.iter().map(|m| m.seconds).sum();
    let longest_s = busy.iter().map(|m| m.seconds).fold(0.0, f64::max);
    let mut hosts: Vec<_> = busy.iter().map(|m| m.host.as_str()).collect();
    let mut devices: Vec<_> = busy.iter().map(|m| m.device.as_str()).collect();
    for names in [&mut hosts, &mut devices] {
        names.sort_unstable();
        names.dedup();
    }
    let ratio = |a: f64, b: f64| if b > 0.0 { a / b } else { 0.0 };
    let speedup = ratio(sum_s, longest_s);
    SpeedupRow {
        shards: busy.len(),
        hosts: hosts.len(),
        device: devices.join("; "),
        threads: busy.iter().map(|m| m.threads).max().unwrap_or(0),
        pixels: merged.pixels(),
        valid_px: merged.valid_px(),
        sum_s,
        longest_s,
        speedup,
        efficiency: ratio(speedup, busy.len() as f64),
        valid_mpx_s: ratio(merged.valid_px() as f64 / 1e6, sum_s),
    }
}

/// The catalogue as GeoJSON points; a scene that is not georeferenced gives features without geometry.
fn geojson(merged: &Merged) -> String {
    let features: Vec<_> = merged
        .impacts
        .iter()
        .map(|impact| {
            let geometry = impact.lon_deg.zip(impact.lat_deg);
            json!({
                "type": "Feature",
                "id": impact.id,
                "geometry": geometry.map(|(lon, lat)| json!({"type": "Point", "coordinates": [lon, lat]})),
                "properties": impact,
            })
        })
        .collect();
    json!({"type": "FeatureCollection", "features": features}).to_string()
}
