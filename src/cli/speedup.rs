//! `marscan speedup`: the same work on more and more tasks, devices, ranks or nodes, as a table and a plot.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args as ClapArgs;

use super::Done;
use crate::fault::WrongUsage;
use crate::speedup::{Asked, Question, Row, Scaling, Table, speedup};
use crate::timing::Spread;

/// Speed-up of scans or trainings on more and more workers, with the spread over repeats and the ideal line.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  marscan speedup 1=scanned/1 2=scanned/2 4=scanned/4 --out speedup\n  \
    marscan train … --images 3200 --repeats 3 --devices 0 --out one\n  \
    marscan train … --images 3200 --repeats 3 --devices 0,1 --out two\n  \
    marscan speedup 1=one 2=two --workers GPUs --out speedup\n\n\
    A run is the folder of a scan (its shards/) or of a training, or holds such as repeat-0, repeat-1, …; the same \
    count twice is repeats too. Runs of the same work show strong scaling, runs of the same work a worker weak \
    scaling; any other mixture is refused.")]
pub struct Args {
    /// WORKERS=RUN: how many, and the folder of that run or of its repeats
    #[arg(required = true)]
    runs: Vec<String>,
    /// What is counted [default: tasks of scans, devices of trainings]; tasks, shards, nodes and hosts are held
    /// against the logs
    #[arg(long)]
    workers: Option<String>,
    /// Whose time is the reference [default: the first run's]
    #[arg(long, value_name = "WORKERS")]
    reference: Option<u64>,
    /// Refuse runs that do not show weak scaling
    #[arg(long)]
    weak: bool,
    /// The runs differ only in where the same number of workers is: no speed-up is expected
    #[arg(long, conflicts_with = "weak")]
    flat: bool,
    /// Gets speedup.csv, speedup.svg and speedup.png
    #[arg(long)]
    out: PathBuf,
}

/// Prints and writes the table, and draws the plot.
///
/// # Errors
/// If a run cannot be read, or two did other work.
pub fn run(args: &Args) -> Result<Done> {
    let question = Question {
        runs: args.runs.iter().map(|text| one(text)).collect::<Result<Vec<_>>>()?,
        reference: args.reference,
        workers: args.workers.clone(),
        asked: match (args.weak, args.flat) {
            (true, _) => Asked::Weak,
            (_, true) => Asked::Flat,
            _ => Asked::ByLogs,
        },
    };
    let (table, notes) = speedup(&question)?;
    for text in notes {
        note!("note: {text}");
    }
    print(&table);
    std::fs::create_dir_all(&args.out).with_context(|| format!("cannot make {}", args.out.display()))?;
    table.save(&args.out)?;
    say!("wrote speedup.csv, speedup.svg and speedup.png in {}", args.out.display());
    Ok(Done::All)
}

fn one(text: &str) -> Result<(u64, PathBuf)> {
    let parts = text.split_once('=').and_then(|(count, folder)| Some((count.parse().ok()?, folder.into())));
    parts
        .filter(|(count, _)| *count > 0)
        .ok_or_else(|| WrongUsage(format!("{text}: must be WORKERS=RUN, as in 4=runs/four")).into())
}

fn print(table: &Table) {
    let reference = table.rows.first().map_or(1, |row| row.reference);
    let how = match table.scaling {
        Scaling::Strong => "strong scaling: the same work in all runs",
        Scaling::Weak => "weak scaling: the same work a worker",
        Scaling::Flat => "the same work on the same workers, placed otherwise",
    };
    say!("{how}; reference: {reference} {}", table.unit);
    let rate = table.columns[1].replace("_per_s", "/s").replace("mpx", "Mpx");
    say!(
        "{:>8}  repeats         seconds  {rate:>15}        speed-up  efficiency  Karp-Flatt  balance  peak MiB",
        table.unit
    );
    table.rows.iter().for_each(line);
    if !table.stages.is_empty() {
        say!("share of each stage in the time of all, %");
        let names: Vec<_> = table.stages.iter().map(|name| format!("{name:>11}")).collect();
        say!("{:>8}  {}", table.unit, names.join("  "));
    }
    for row in table.rows.iter().filter(|row| !row.shares.is_empty()) {
        let shares: Vec<_> = row.shares.iter().map(|share| format!("{:11.1}", 100.0 * share)).collect();
        say!("{:8}  {}", row.workers, shares.join("  "));
    }
}

fn line(row: &Row) {
    let spread = |mean: f64, deviation: Option<f64>| match deviation {
        Some(deviation) => format!("{mean:.2} ± {deviation:.2}"),
        None => format!("{mean:.2}"),
    };
    let both = |value: &Spread| spread(value.mean, value.deviation);
    let maybe = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.3}"));
    say!(
        "{:8}  {:7}  {:>14}  {:>15}  {:>14}  {:10.3}  {:>10}  {:>7}  {:8.0}",
        row.workers,
        row.repeats,
        both(&row.seconds),
        both(&row.rate),
        spread(row.speedup, row.speedup_deviation),
        row.efficiency,
        maybe(row.karp_flatt),
        maybe(row.balance),
        row.peak_mib
    );
}
