//! A training's log: its summary, and the seconds of its ranks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Result, bail};

use super::log::{Kind, RunLog};
use crate::table::read_rows;
use crate::train::{Summary, TimesRow};

/// The log of the training in `folder`.
///
/// # Errors
/// If it did not end, or a file cannot be read.
pub fn log(folder: &Path) -> Result<RunLog> {
    let path = folder.join("summary.json");
    let run = Summary::load(&path)?;
    if let Some(signal) = &run.stopped_by {
        bail!("{}: stopped by {signal}, not at its end", path.display());
    }
    let done = match (run.until_validation_loss, run.reached_s) {
        (Some(loss), None) => bail!("{}: validation loss {loss} was not reached", path.display()),
        (Some(loss), Some(_)) => ("to validation loss", loss.to_string()),
        (None, _) => ("images", run.images.to_string()),
    };
    let times: Vec<TimesRow> = match folder.join("timing.csv") {
        path if path.exists() => read_rows(&path)?,
        _ => Vec::new(),
    };
    let hosts: BTreeSet<&str> = times.iter().map(|row| row.host.as_str()).collect();
    Ok(RunLog {
        folder: folder.to_owned(),
        kind: Kind::Training,
        must: vec![
            ("settings", run.settings.clone()),
            ("weights", String::new()),
            ("version", run.version.clone()),
            ("kind", "training".to_owned()),
        ],
        same: vec![("settings, scenes and start", run.work_id.clone()), done],
        amount: run.images,
        seconds: run.reached_s.unwrap_or(run.images as f64 / run.images_per_s),
        rate: run.images_per_s,
        loads: loads(&times),
        at_once: None,
        hosts: hosts.len().max(1),
        stages: stages(&times),
        peak_bytes: run.peak_resident_bytes,
        device: run.device,
        host: if hosts.is_empty() { run.host } else { hosts.into_iter().collect::<Vec<_>>().join("; ") },
    })
}

/// Seconds of each rank's own work: where it communicates it waits for the others.
fn loads(times: &[TimesRow]) -> Vec<f64> {
    let mut ranks: BTreeMap<u64, f64> = BTreeMap::new();
    for row in times {
        *ranks.entry(row.rank).or_default() += row.read_s + row.forward_s + row.backward_s + row.step_s;
    }
    ranks.into_values().collect()
}

fn stages(times: &[TimesRow]) -> Vec<(String, f64)> {
    let stage = |name: &str, of: fn(&TimesRow) -> f64| (name.to_owned(), times.iter().map(of).sum());
    let mut stages = vec![
        stage("read", |row| row.read_s),
        stage("forward", |row| row.forward_s),
        stage("backward", |row| row.backward_s),
        stage("communicate", |row| row.communicate_s),
        stage("step", |row| row.step_s),
        stage("validate", |row| row.validate_s),
    ];
    stages.retain(|(_, seconds)| *seconds > 0.0);
    stages
}
