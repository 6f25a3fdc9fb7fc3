//! The table: a line for each count of workers.

use std::path::Path;

use anyhow::Result;
use serde::Serialize;

use super::Scaling;
use super::log::{Kind, RunLog};
use crate::table::write_rows;
use crate::timing::Spread;

/// A line of `speedup.csv`: the repeats with one count of workers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// How many workers.
    pub workers: u64,
    /// How many runs.
    pub repeats: usize,
    /// strong, weak or flat.
    pub scaling: &'static str,
    /// The workers whose mean seconds the speed-up is of.
    pub reference: u64,
    /// Pixels or crops a run.
    pub amount: u64,
    /// Wall time: of a scan from the first shard's start to the last one's end; of a training until the validation
    /// loss was reached, where one was to be, otherwise of training alone.
    pub seconds: Spread,
    /// Million pixels, or crops, a second.
    pub rate: Spread,
    /// The reference's mean seconds over this one's; in weak scaling times the work done over the reference's.
    pub speedup: f64,
    /// By both lines' spread.
    pub speedup_deviation: Option<f64>,
    /// Speed-up over its ideal.
    pub efficiency: f64,
    /// Karp and Flatt's serial fraction (1990), of strong scaling over more workers than the reference has.
    pub karp_flatt: Option<f64>,
    /// Load balance: mean over longest time at work of the tasks or ranks, averaged over the repeats.
    pub balance: Option<f64>,
    /// Most shards at once in a repeat.
    pub at_once: Option<usize>,
    /// Machines.
    pub hosts: usize,
    /// Memory of the largest process, MiB.
    pub peak_mib: f64,
    /// What the first run's network ran on.
    pub device: String,
    /// Where.
    pub host: String,
    /// Share of each of the table's stages in the time of all, 0..=1.
    pub shares: Vec<f64>,
}

/// Runs beside each other.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// How the work goes with the workers.
    pub scaling: Scaling,
    /// What a worker is.
    pub unit: String,
    /// The columns of the amount, the rate and the memory.
    pub columns: [&'static str; 3],
    /// The stages that [`Row::shares`] is of.
    pub stages: Vec<String>,
    /// In the order that the runs were named.
    pub rows: Vec<Row>,
}

impl Table {
    /// The table of `groups`, with the one at `reference` as reference.
    pub(super) fn of(
        groups: &[(u64, Vec<RunLog>)],
        reference: usize,
        scaling: Scaling,
        unit: String,
    ) -> Self {
        let kind: Kind = groups[reference].1[0].kind;
        let mut stages: Vec<String> = Vec::new();
        for (name, _) in groups.iter().flat_map(|group| &group.1).flat_map(|log| &log.stages) {
            if !stages.contains(name) {
                stages.push(name.clone());
            }
        }
        let base = Base::of(&groups[reference]);
        let rows = groups.iter().map(|group| row(group, &base, scaling, &stages)).collect();
        Self { scaling, unit, columns: kind.columns(), stages, rows }
    }

    /// The names of the columns of `speedup.csv`.
    pub fn header(&self) -> Vec<String> {
        let [amount, rate, peak] = self.columns;
        let deviation = format!("{rate}_deviation");
        let fixed = [
            "workers",
            "repeats",
            "scaling",
            "reference_workers",
            amount,
            "seconds",
            "seconds_deviation",
            rate,
            &deviation,
            "speedup",
            "speedup_deviation",
            "efficiency",
            "karp_flatt",
            "balance",
            "shards_at_once",
            "hosts",
            peak,
            "device",
            "host",
        ];
        let shares = self.stages.iter().map(|stage| format!("share_{stage}"));
        fixed.into_iter().map(str::to_owned).chain(shares).collect()
    }

    /// Writes `speedup.csv`, `speedup.svg` and `speedup.png` into `folder`.
    ///
    /// # Errors
    /// If one cannot be written.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let header = self.header();
        let header: Vec<&str> = header.iter().map(String::as_str).collect();
        write_rows(&folder.join("speedup.csv"), &header, &self.rows)?;
        self.figure().save(&folder.join("speedup"))
    }
}

/// What every line is held against.
struct Base {
    workers: u64,
    seconds: Spread,
    amount: u64,
}

impl Base {
    fn of((workers, logs): &(u64, Vec<RunLog>)) -> Self {
        Self { workers: *workers, seconds: spread(logs, |log| log.seconds), amount: logs[0].amount }
    }
}

fn spread(logs: &[RunLog], of: fn(&RunLog) -> f64) -> Spread {
    Spread::of(&logs.iter().map(of).collect::<Vec<_>>())
}

fn row((workers, logs): &(u64, Vec<RunLog>), base: &Base, scaling: Scaling, stages: &[String]) -> Row {
    let seconds = spread(logs, |log| log.seconds);
    let times = *workers as f64 / base.workers as f64;
    let more_work = match scaling {
        Scaling::Weak => logs[0].amount as f64 / base.amount as f64,
        Scaling::Strong | Scaling::Flat => 1.0,
    };
    let speedup = more_work * base.seconds.mean / seconds.mean;
    let off = |spread: &Spread| spread.deviation.map(|deviation| deviation / spread.mean);
    let balances: Option<Vec<f64>> = logs.iter().map(RunLog::balance).collect();
    Row {
        workers: *workers,
        repeats: logs.len(),
        scaling: scaling.name(),
        reference: base.workers,
        amount: logs[0].amount,
        seconds,
        rate: spread(logs, |log| log.rate),
        speedup,
        speedup_deviation: off(&base.seconds).zip(off(&seconds)).map(|(a, b)| speedup * a.hypot(b)),
        efficiency: if scaling == Scaling::Flat { speedup } else { speedup / times },
        karp_flatt: (scaling == Scaling::Strong && times > 1.0)
            .then(|| (1.0 / speedup - 1.0 / times) / (1.0 - 1.0 / times)),
        balance: balances.map(|all| Spread::of(&all).mean),
        at_once: logs.iter().filter_map(|log| log.at_once).max(),
        hosts: logs.iter().map(|log| log.hosts).max().unwrap_or(0),
        peak_mib: logs.iter().map(|log| log.peak_bytes).max().unwrap_or(0) as f64 / f64::from(1 << 20),
        device: logs[0].device.clone(),
        host: logs[0].host.clone(),
        shares: shares(logs, stages),
    }
}

/// The share of each stage in the time of all, over all repeats.
fn shares(logs: &[RunLog], stages: &[String]) -> Vec<f64> {
    let times = || logs.iter().flat_map(|log| &log.stages);
    let all: f64 = times().map(|(_, seconds)| seconds).sum();
    let one = |stage: &String| times().filter(|(name, _)| name == stage).map(|(_, s)| s).sum::<f64>();
    stages.iter().map(|stage| if all > 0.0 { one(stage) / all } else { 0.0 }).collect()
}
