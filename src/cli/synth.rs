//! `marscan synth`: a drawn scene with its mask and truth.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args as ClapArgs;

use super::Done;
use crate::fault::WrongUsage;
use crate::synth::{SynthSpec, write};

/// Draw a scene with fresh impacts, and what is mistaken for them, with mask and truth.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Example:\n  marscan synth --out drawn --rows 6000 --cols 4000 --impacts 20 --seed 3 --georef"
)]
pub struct Args {
    /// Gets NAME.tif, NAME_mask.tif, NAME_truth.csv and a line in scenes.csv
    #[arg(long)]
    out: PathBuf,
    /// Rows
    #[arg(long, value_parser = clap::value_parser!(u64).range(64..=1_000_000))]
    rows: u64,
    /// Columns
    #[arg(long, value_parser = clap::value_parser!(u64).range(64..=1_000_000))]
    cols: u64,
    /// Fresh impacts
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(..=100_000))]
    impacts: u64,
    /// Another seed, another scene
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Put it on Mars: equirectangular, 6 m a pixel
    #[arg(long)]
    georef: bool,
    /// Name of the scene
    #[arg(long)]
    name: Option<String>,
}

/// Draws and writes.
///
/// # Errors
/// If a file cannot be written.
pub fn run(args: &Args) -> Result<Done> {
    let spec = SynthSpec { rows: args.rows, cols: args.cols, impacts: args.impacts, seed: args.seed };
    let name = args.name.clone().unwrap_or_else(|| format!("scene_{:03}", args.seed));
    if Path::new(&name).file_name() != Some(name.as_ref()) {
        return Err(WrongUsage(format!("--name {name:?}: must be a file's name, without its folder")).into());
    }
    let written = write(&spec, &name, &args.out, args.georef)?;
    say!(
        "{name}: {} rows x {} columns, {} impacts, {:.1} % valid; listed in {}",
        args.rows,
        args.cols,
        written.truth.len(),
        100.0 * written.valid_px as f64 / (args.rows * args.cols) as f64,
        written.list.display()
    );
    Ok(Done::All)
}
