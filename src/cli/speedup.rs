//! `marscan speedup`: the same training on more and more devices, ranks or nodes, as a table and a plot.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args as ClapArgs;

use super::Done;
use crate::fault::WrongUsage;
use crate::table::write_rows;
use crate::train::speedup::{Ideal, SPEEDUP_HEADER, SpeedupRow, speedup, speedup_figure};

/// Speed-up of trainings on more and more workers, with the spread over repeats and the ideal line.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Example:\n  marscan train … --images 3200 --repeats 3 --devices 0 --out one\n  \
    marscan train … --images 3200 --repeats 3 --devices 0,1 --out two\n  \
    marscan speedup 1=one 2=two --workers GPUs --out speedup")]
pub struct Args {
    /// WORKERS=RUN: how many, and the folder of that training or of its repeats; the first is the reference
    #[arg(required = true)]
    runs: Vec<String>,
    /// What is counted: devices, ranks, nodes
    #[arg(long, default_value = "devices")]
    workers: String,
    /// The runs differ only in where the same number of workers is: no speed-up is expected
    #[arg(long)]
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
    let runs = args.runs.iter().map(|text| one(text)).collect::<Result<Vec<_>>>()?;
    let ideal = if args.flat { Ideal::Flat } else { Ideal::Linear };
    let rows = speedup(&runs, ideal)?;
    say!(
        "{:>8}  repeats   images         seconds        images/s         speed-up  efficiency  peak MiB",
        args.workers
    );
    rows.iter().for_each(print);
    std::fs::create_dir_all(&args.out).with_context(|| format!("cannot make {}", args.out.display()))?;
    write_rows(&args.out.join("speedup.csv"), &SPEEDUP_HEADER, &rows)?;
    speedup_figure(&rows, &args.workers, ideal).save(&args.out.join("speedup"))?;
    say!("wrote speedup.csv, speedup.svg and speedup.png in {}", args.out.display());
    Ok(Done::All)
}

fn one(text: &str) -> Result<(u64, PathBuf)> {
    let parts = text.split_once('=').and_then(|(count, folder)| Some((count.parse().ok()?, folder.into())));
    parts
        .filter(|(count, _)| *count > 0)
        .ok_or_else(|| WrongUsage(format!("{text}: must be WORKERS=RUN, as in 4=runs/four")).into())
}

fn print(row: &SpeedupRow) {
    let spread = |mean: f64, deviation: Option<f64>| match deviation {
        Some(deviation) => format!("{mean:.2} ± {deviation:.2}"),
        None => format!("{mean:.2}"),
    };
    say!(
        "{:8}  {:7}  {:7}  {:>14}  {:>14}  {:>15}  {:10.2}  {:8.0}",
        row.workers,
        row.repeats,
        row.images,
        spread(row.seconds, row.seconds_deviation),
        spread(row.images_per_s, row.images_per_s_deviation),
        spread(row.speedup, row.speedup_deviation),
        row.efficiency,
        row.peak_resident_mib
    );
}
