//! A scan's log: what its shards published.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Result, ensure};

use super::log::{Kind, RunLog};
use super::slots::slots;
use crate::job::ranges;
use crate::merge::shard_manifests;
use crate::records::{ShardManifest, TimingRow};
use crate::scan::shard_folder;
use crate::table::read_rows;
use crate::timing::STAGES;

/// The log of the scan in `folder`.
///
/// # Errors
/// If a shard is missing, damaged, of another run, was interrupted, or does not say when it began.
pub fn log(folder: &Path) -> Result<RunLog> {
    let shards = shard_manifests(folder)?;
    let count = shards[0].shards;
    let missing: Vec<usize> = (0..count).filter(|k| shards.iter().all(|shard| shard.shard != *k)).collect();
    let place = folder.display();
    ensure!(
        missing.is_empty(),
        "{place} has not ended: its shards {} of {count} are missing",
        ranges(missing.iter().copied())
    );
    for shard in &shards {
        let said = shard.started_unix_s > 0.0 && shard.ended_unix_s >= shard.started_unix_s;
        ensure!(
            said,
            "{place}: shard {} does not say when it began and ended, it is of an older version: scan into another \
             folder",
            shard.shard
        );
    }
    // The time between its tasks is the queue's, and what the first one threw away is in no log.
    let interrupted: Vec<usize> = shards.iter().filter(|s| s.tasks > 1).map(|s| s.shard).collect();
    ensure!(
        interrupted.is_empty(),
        "{place}: its shards {} of {count} were interrupted and went on later, so how long the run takes is not \
         known: leave it out, or scan into another folder",
        ranges(interrupted.iter().copied())
    );
    // Shards without work end at once and say nothing of the speed.
    let busy: Vec<&ShardManifest> = shards.iter().filter(|shard| !shard.scenes.is_empty()).collect();
    ensure!(!busy.is_empty(), "{place} scanned nothing");
    let began = busy.iter().map(|shard| shard.started_unix_s).fold(f64::INFINITY, f64::min);
    let ended = busy.iter().map(|shard| shard.ended_unix_s).fold(0.0, f64::max);
    let seconds = (ended - began).max(1e-9);
    let outcomes = || busy.iter().flat_map(|shard| &shard.scenes);
    let pixels: u64 = outcomes().filter(|scene| scene.failed.is_none()).map(|scene| scene.pixels).sum();
    let ids = &busy[0].ids;
    let loads = slots(busy.iter().map(|shard| (shard.started_unix_s, shard.ended_unix_s)).collect());
    let names = |name: fn(&ShardManifest) -> &str| -> BTreeSet<String> {
        busy.iter().map(|shard| name(shard).to_owned()).collect()
    };
    let (hosts, devices) = (names(|shard| &shard.host), names(|shard| &shard.device));
    let joined = |names: &BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>().join("; ");
    Ok(RunLog {
        folder: folder.to_owned(),
        kind: Kind::Scan,
        must: vec![
            ("settings", ids.settings.clone()),
            ("weights", ids.weights.clone()),
            ("version", ids.version.clone()),
            ("kind", "scan".to_owned()),
        ],
        same: vec![("scene list", ids.scene_list.clone()), ("pixels", pixels.to_string())],
        amount: pixels,
        seconds,
        rate: pixels as f64 / 1e6 / seconds,
        at_once: Some(loads.len()),
        loads,
        hosts: hosts.len(),
        stages: stages(folder, &busy)?,
        peak_bytes: busy.iter().map(|shard| shard.peak_rss_anon_bytes).max().unwrap_or(0),
        device: joined(&devices),
        host: joined(&hosts),
    })
}

/// Seconds of each stage over all bands, one shard's table at a time.
fn stages(folder: &Path, shards: &[&ShardManifest]) -> Result<Vec<(String, f64)>> {
    let mut sums: Vec<(String, f64)> = STAGES.iter().map(|name| ((*name).to_owned(), 0.0)).collect();
    for shard in shards {
        let path = shard_folder(folder, shard.shard, shard.shards).join("timing.csv");
        for row in read_rows::<TimingRow>(&path)? {
            match sums.iter_mut().find(|(name, _)| *name == row.stage) {
                Some((_, seconds)) => *seconds += row.seconds,
                None => sums.push((row.stage, row.seconds)),
            }
        }
    }
    sums.retain(|(_, seconds)| *seconds > 0.0);
    Ok(sums)
}
