//! The same work on more and more workers: how much faster, how well shared, with the spread over repeats.
//!
//! One table for scans and trainings; a run is what its logs say, and runs of different work are never put side
//! by side.

mod figure;
mod log;
mod scan;
mod slots;
mod table;
mod training;

pub use table::{Row, Table};

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::fault::WrongUsage;
use log::RunLog;

/// What is asked of the runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Asked {
    /// What their logs say: strong scaling where all did the same work, weak where each worker did.
    #[default]
    ByLogs,
    /// Weak scaling, or nothing.
    Weak,
    /// The same workers, placed otherwise: no speed-up is expected.
    Flat,
}

/// How the work goes with the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scaling {
    /// The same work for all: ideally as many times faster as there are workers.
    Strong,
    /// The same work for each worker: ideally as long with many as with one.
    Weak,
    /// The same work on the same workers, placed otherwise.
    Flat,
}

impl Scaling {
    /// Its word in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Strong => "strong",
            Self::Weak => "weak",
            Self::Flat => "flat",
        }
    }
}

/// What is compared, and with what.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// Workers and the folder of a run, or of its repeats; the same count twice is repeats too.
    pub runs: Vec<(u64, PathBuf)>,
    /// Whose seconds the speed-up is of; the first run's workers where none are named.
    pub reference: Option<u64>,
    /// What a worker is, in the user's words: tasks and nodes are held against the logs. None for the kind's own.
    pub workers: Option<String>,
    /// Which scaling.
    pub asked: Asked,
}

/// What nodes are held against.
const MACHINES: &str = "machines";

/// How far the work a worker may differ between runs of weak scaling: scenes are cut at rows of windows.
const SAME_SHARE: f64 = 0.02;

/// The table of the runs in `question`, and what in their logs should be known beside it.
///
/// # Errors
/// If a folder holds no run that ended, or [`WrongUsage`] if two did other work, a log contradicts the count of
/// workers, or a run is named twice.
pub fn speedup(question: &Question) -> Result<(Table, Vec<String>)> {
    let mut groups: Vec<(u64, Vec<RunLog>)> = Vec::new();
    let mut seen = BTreeSet::new();
    for (workers, folder) in &question.runs {
        let logs = logs(folder)?;
        if let Some(log) = logs.iter().find(|log| !seen.insert(log.folder.canonicalize().ok())) {
            return Err(
                WrongUsage(format!("{} is named twice: name each run once", log.folder.display())).into()
            );
        }
        match groups.iter_mut().find(|group| group.0 == *workers) {
            // The same workers placed otherwise are lines of their own.
            Some(group) if question.asked != Asked::Flat => group.1.extend(logs),
            _ => groups.push((*workers, logs)),
        }
    }
    let first = groups.first().context("no run is named")?.0;
    let reference = question.reference.unwrap_or(first);
    let at = groups.iter().position(|group| group.0 == reference).ok_or_else(|| {
        let there: Vec<_> = groups.iter().map(|group| group.0.to_string()).collect();
        WrongUsage(format!("--reference {reference}: there are runs with {} workers", there.join(", ")))
    })?;
    let scaling = scaling(&groups, at, question.asked)?;
    let unit = question.workers.clone().unwrap_or_else(|| groups[at].1[0].kind.worker().to_owned());
    let notes = workers_by_logs(&groups, &unit)?;
    Ok((Table::of(&groups, at, scaling, unit), notes))
}

/// The log of a run, or those of its repeats in order.
fn logs(folder: &Path) -> Result<Vec<RunLog>> {
    let repeat = |number: usize| folder.join(format!("repeat-{number}"));
    let folders: Vec<PathBuf> = (0..1000).map(repeat).take_while(|folder| folder.exists()).collect();
    let folders = if folders.is_empty() { vec![folder.to_owned()] } else { folders };
    let log = |folder: &PathBuf| {
        if folder.join("shards").is_dir() { scan::log(folder) } else { training::log(folder) }
    };
    folders.iter().map(log).collect()
}

/// Strong or weak, by what the runs did.
fn scaling(groups: &[(u64, Vec<RunLog>)], reference: usize, asked: Asked) -> Result<Scaling> {
    let one = &groups[reference].1[0];
    let share = |workers: u64, log: &RunLog| log.amount as f64 / workers as f64;
    let mine = share(groups[reference].0, one);
    let all = || groups.iter().flat_map(|(workers, logs)| logs.iter().map(move |log| (*workers, log)));
    if let Some((_, other)) = all().find(|(_, log)| log.must != one.must) {
        return Err(one.other_work(other, "").into());
    }
    let strong = all().find(|(_, log)| log.same != one.same);
    // Repeats did the same work, whatever the scaling.
    let weak = groups.iter().find_map(|(workers, logs)| {
        logs.iter()
            .find(|log| log.same != logs[0].same || (share(*workers, log) / mine - 1.0).abs() > SAME_SHARE)
    });
    match (asked, strong, weak) {
        (Asked::Flat, None, _) => Ok(Scaling::Flat),
        (Asked::ByLogs, None, _) => Ok(Scaling::Strong),
        (Asked::ByLogs | Asked::Weak, _, None) => Ok(Scaling::Weak),
        (Asked::Weak, _, Some(other)) => {
            Err(one.other_work(other, " a worker: this is no weak scaling").into())
        }
        (_, Some((_, other)), _) => Err(one.other_work(other, "").into()),
    }
}

/// Holds the counts of workers that logs can tell against what was named.
fn workers_by_logs(groups: &[(u64, Vec<RunLog>)], unit: &str) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    let lower = unit.to_lowercase();
    for (workers, log) in
        groups.iter().flat_map(|(workers, logs)| logs.iter().map(move |log| (*workers, log)))
    {
        let counted = if lower.contains("node") || lower.contains("host") {
            Some((log.hosts, MACHINES))
        } else if lower.contains("task") || lower.contains("shard") {
            log.at_once.map(|count| (count, "shards at once"))
        } else {
            None
        };
        let Some((count, what)) = counted.filter(|(count, _)| *count as u64 != workers) else { continue };
        let message =
            format!("{}: named as {workers} {unit}, its logs show {count} {what}", log.folder.display());
        // Of tasks some may have ended before others began; machines are counted however long they worked.
        if count as u64 > workers || what == MACHINES {
            return Err(
                WrongUsage(format!("{message}: name as many, or say what is counted by --workers")).into()
            );
        }
        notes.push(message);
    }
    Ok(notes)
}

#[cfg(test)]
mod tests;
