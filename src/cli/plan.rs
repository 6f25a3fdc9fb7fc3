//! `marscan plan`: which shard scans what.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args as ClapArgs;

use super::Done;
use super::settings::Flags;
use crate::plan::{SceneList, plan, shard_pixels};

/// Show which shard scans what; every array index comes to the same plan by itself.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Example:\n  marscan plan --scenes scenes.csv --shards 64")]
pub struct Args {
    /// Scene list: file_name,height,width
    #[arg(long)]
    scenes: PathBuf,
    /// How many shards
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    shards: u32,
    #[command(flatten)]
    flags: Flags,
}

/// Prints a line a shard and how equal they are.
///
/// # Errors
/// If the list or the settings are wrong.
pub fn run(args: &Args) -> Result<Done> {
    let settings = args.flags.load()?;
    let list = SceneList::read(&args.scenes)?;
    let shards =
        plan(&list.records, args.shards as usize, settings.scan.band_rows, u64::from(settings.core_px()));
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
