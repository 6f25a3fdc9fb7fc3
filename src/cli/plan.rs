//! `marscan plan`: which shard scans what.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args as ClapArgs;

use super::Done;
use super::settings::Flags;
use crate::fault::WrongUsage;
use crate::plan::{SceneList, plan, shard_pixels, simulate};

/// Show which shard scans what; every array index comes to the same plan by itself.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  marscan plan --scenes scenes.csv --shards 64\n  \
    marscan plan --scenes scenes.csv --simulate 1..256")]
pub struct Args {
    /// Scene list: file_name,height,width
    #[arg(long)]
    scenes: PathBuf,
    /// How many shards
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000), required_unless_present = "simulate")]
    shards: Option<u32>,
    /// Show instead how equal the shards are for each of these counts of tasks: 1..256 (both ends), or 1,16,64
    #[arg(long, value_name = "TASKS", conflicts_with = "shards")]
    simulate: Option<String>,
    /// With --simulate: what a task scans, for hours (million pixels a second)
    #[arg(long, requires = "simulate")]
    mpx_s: Option<f64>,
    #[command(flatten)]
    flags: Flags,
}

/// Prints a line a shard and how equal they are, or a line a count of tasks.
///
/// # Errors
/// If the list or the settings are wrong.
pub fn run(args: &Args) -> Result<Done> {
    let settings = args.flags.load()?;
    let list = SceneList::read(&args.scenes)?;
    if let Some(text) = &args.simulate {
        return simulated(&list, &counts(text)?, args.mpx_s);
    }
    let shards = args.shards.unwrap_or(1) as usize;
    let shards = plan(&list.records, shards, settings.scan.band_rows);
    say!("shard  bands      Mpx  rows");
    let mut most = 0;
    for shard in &shards {
        let pixels = shard_pixels(&list.records, shard);
        most = most.max(pixels);
        let mut parts: Vec<(usize, u64, u64)> = Vec::new();
        for band in &shard.bands {
            match parts.last_mut().filter(|part| part.0 == band.scene) {
                Some(part) => part.2 = band.row1,
                None => parts.push((band.scene, band.row0, band.row1)),
            }
        }
        let text: Vec<_> = parts
            .iter()
            .map(|(scene, row0, row1)| format!("{} {row0}..{row1}", list.records[*scene].file_name))
            .collect();
        say!("{:5} {:6} {:8.1}  {}", shard.index, shard.bands.len(), pixels as f64 / 1e6, text.join(", "));
    }
    let total: u64 = list.records.iter().map(|scene| scene.rows * scene.cols).sum();
    let mean = total as f64 / shards.len() as f64;
    say!(
        "{} scenes, {:.1} Mpx; the largest shard has {:.2} times the mean",
        list.records.len(),
        total as f64 / 1e6,
        most as f64 / mean
    );
    Ok(Done::All)
}

/// A line a count of tasks.
fn simulated(list: &SceneList, counts: &[usize], mpx_s: Option<f64>) -> Result<Done> {
    if let Some(rate) = mpx_s.filter(|rate| !(rate.is_finite() && *rate > 0.0)) {
        return Err(WrongUsage(format!("--mpx-s {rate}: must be above 0")).into());
    }
    let hours_head = if mpx_s.is_some() { "     hours" } else { "" };
    say!(" tasks  longest Mpx  ideal Mpx  longest / ideal  balance  runs of rows{hours_head}");
    let mut worst = (0.0, 0);
    for &tasks in counts {
        let row = simulate(&list.records, tasks);
        let mpx = row.makespan_px as f64 / 1e6;
        let hours = mpx_s.map_or(String::new(), |rate| format!("  {:8.3}", mpx / rate / 3600.0));
        say!(
            "{:6}  {mpx:11.2}  {:9.2}  {:15.4}  {:7.4}  {:12}{hours}",
            row.tasks,
            row.ideal_px / 1e6,
            row.over_ideal(),
            row.balance(),
            row.runs
        );
        if row.over_ideal() > worst.0 {
            worst = (row.over_ideal(), tasks);
        }
    }
    let (over, tasks) = ((worst.0 - 1.0) * 100.0, worst.1);
    say!("at most {over:.2} % above the ideal, with {tasks} tasks");
    Ok(Done::All)
}

/// `1..256`, both ends in it, or `1,16,64`.
fn counts(text: &str) -> Result<Vec<usize>> {
    let number = |part: &str| part.trim().parse().ok().filter(|count| (1..=100_000).contains(count));
    let list = match text.split_once("..") {
        Some((first, last)) => number(first).zip(number(last)).map(|(first, last)| (first..=last).collect()),
        None => text.split(',').map(number).collect::<Option<Vec<usize>>>(),
    };
    list.filter(|list| !list.is_empty()).ok_or_else(|| {
        WrongUsage(format!("--simulate {text}: must be counts of 1 to 100000, as in 1..256 or 1,16,64"))
            .into()
    })
}
