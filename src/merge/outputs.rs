//! The tables of times that a merge writes, each whole or not at all.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::index::{Span, gone};
use super::shards::PublishedShard;
use super::{Merged, report};
use crate::records::ShardManifest;
use crate::table::{Aside, TIMING_HEADER, WholeFile, write_rows, write_whole};

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

/// Writes the tables of times and the report of `merged` into `out`.
///
/// # Errors
/// If one cannot be written.
pub fn write(out: &Path, merged: &Merged, compared: Option<&report::Compared>) -> Result<()> {
    let speedup = speedup(merged);
    write_rows(&out.join("speedup.csv"), &SPEEDUP_HEADER, std::slice::from_ref(&speedup))?;
    write_whole(&out.join("report.html"), report::html(out, merged, &speedup, compared).as_bytes())
}

/// Appends the lines of all shards' `timing.csv`, as they are, to one; its name it has still to get.
///
/// # Errors
/// If one cannot be read, or the file cannot be written.
pub fn timing(out: &Path, shards: &[PublishedShard]) -> Result<Aside> {
    let mut file = WholeFile::create(&out.join("timing.csv"))?;
    file.append(format!("{}\n", TIMING_HEADER.join(",")).as_bytes())?;
    let mut lines = Vec::new();
    for shard in shards {
        let path = shard.folder.join("timing.csv");
        lines.clear();
        read_lines(&path, shard.timing, &mut lines).with_context(|| gone(&path))?;
        file.append(&lines)?;
    }
    file.finish()
}

fn read_lines(path: &Path, span: Span, lines: &mut Vec<u8>) -> Result<()> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(span.start))?;
    let read = file.take(span.end - span.start).read_to_end(lines)?;
    ensure!(read as u64 == span.end - span.start, "it was changed while it was merged: merge again");
    Ok(())
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
