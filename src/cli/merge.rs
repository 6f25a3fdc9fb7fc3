//! `marscan merge`: shards into one catalogue.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args as ClapArgs;

use super::Done;
use crate::merge::{self, MergeOptions};

/// Merge the published shards of a run into one catalogue, timing tables and a report.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Example:\n  marscan merge found")]
pub struct Args {
    /// Folder of the run
    out: PathBuf,
    /// Merge what is there though shards are missing, and say which
    #[arg(long)]
    allow_partial: bool,
    /// Folder of `marscan speedup`, whose table and figure the report shows
    #[arg(long, value_name = "FOLDER")]
    speedup: Option<PathBuf>,
}

/// Merges and says what came of it.
///
/// # Errors
/// If shards are missing, damaged or of different runs.
pub fn run(args: &Args) -> Result<Done> {
    let options = MergeOptions { allow_partial: args.allow_partial, speedup: args.speedup.clone() };
    let merged = merge::run(&args.out, options)?;
    say!(
        "{} impacts in {:.2} Mpx ({:.2} valid) of {} shards: {}",
        merged.impacts,
        merged.pixels() as f64 / 1e6,
        merged.valid_px() as f64 / 1e6,
        merged.manifests.len(),
        args.out.join("catalogue.csv").display()
    );
    if !merged.missing.is_empty() {
        say!("missing shards: {}", merge::ranges(&merged.missing));
        if let Some(share) = merged.share() {
            say!("in the catalogue: {:.2} % of the pixels of the scene list", 100.0 * share);
        }
    }
    for (scene, why) in &merged.failed {
        say!("incomplete: {scene} ({why})");
    }
    Ok(if merged.failed.is_empty() && merged.missing.is_empty() { Done::All } else { Done::Partly })
}
