//! `marscan train`: weights from scenes and masks, on one device.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args as ClapArgs;

use super::Done;
use crate::config::{self, Settings};
use crate::dice::Dice;
use crate::fault::WrongUsage;
use crate::plan::SceneList;
use crate::table::read_rows;
use crate::train::{Epoch, Pair, TrainJob, run};
use crate::unet::device::choose;

/// Train the network on scenes and their masks; the same command goes on where it was stopped.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Example:\n  marscan train --scenes train/scenes.csv --out runs/first --settings unet1\n  \
    marscan scan --scenes new/scenes.csv --out found --weights runs/first/best.safetensors"
)]
pub struct Args {
    /// Scene list with a `mask` column; scenes without a mask are left out and named
    #[arg(long)]
    scenes: PathBuf,
    /// Folder for checkpoint, best and last weights, and history.csv
    #[arg(long)]
    out: PathBuf,
    /// Preset (unet1, unet2, unet3) or TOML file
    #[arg(long, default_value = "unet1")]
    settings: String,
    /// Scene list to validate on; without it, a share of the scenes is held out
    #[arg(long)]
    validation: Option<PathBuf>,
    /// Weights to start from, instead of random ones
    #[arg(long)]
    from: Option<PathBuf>,
    /// Catalogue of a scan of the training scenes: what it found where the masks have no impact is
    /// shown more often
    #[arg(long)]
    hard_negatives: Option<PathBuf>,
    /// auto, cpu, gpu, gpu:N or gpu:PCI-ADDRESS
    #[arg(long, default_value = "auto")]
    device: String,
    /// Epochs, in place of the settings'
    #[arg(long)]
    epochs: Option<usize>,
    /// Highest step size, in place of the settings'
    #[arg(long)]
    learning_rate: Option<f64>,
}

/// Trains to the end of the settings' epochs.
///
/// # Errors
/// If settings, scenes or device cannot be used, or the device is lost on the way.
pub fn run_command(args: &Args) -> Result<Done> {
    let settings = settings(args)?;
    let device = choose(&args.device)?;
    let (scenes, validation) = match &args.validation {
        Some(list) => (pairs(&args.scenes)?, pairs(list)?),
        None => split(pairs(&args.scenes)?, settings.train.seed, settings.train.validation_share)?,
    };
    say!(
        "training {} on {}: {} scenes, validating on {} ({})",
        settings.name,
        device.name,
        scenes.len(),
        validation.len(),
        validation.iter().map(|pair| pair.name.as_str()).collect::<Vec<_>>().join(" ")
    );
    let from = args.from.as_ref().map(|path| {
        std::fs::read(path).with_context(|| format!("cannot read the weights {}", path.display()))
    });
    let command = std::env::args().collect();
    let candidates =
        args.hard_negatives.as_ref().map(|path| read_rows(path)).transpose()?.unwrap_or_default();
    let from = from.transpose()?;
    let job = TrainJob { settings, scenes, validation, from, candidates, out: args.out.clone(), command };
    say!("epoch    crops      rate  training  validation    mse %  nothing %  crops/s");
    let done = run(&job, &device, print)?;
    say!("{done} epochs done: the best weights are in {}", args.out.join("best.safetensors").display());
    Ok(Done::All)
}

fn print(epoch: &Epoch) {
    say!(
        "{:5} {:8} {:9.2e} {:9.4} {:11.4} {:8.3} {:10.3} {:8.1}",
        epoch.epoch,
        epoch.crops,
        epoch.learning_rate,
        epoch.train_loss,
        epoch.validation_loss,
        epoch.validation_mse_percent,
        epoch.nothing_mse_percent,
        epoch.crops_per_s
    );
}

fn settings(args: &Args) -> Result<Settings> {
    let mut settings = config::load(&args.settings)?;
    settings.train.epochs = args.epochs.unwrap_or(settings.train.epochs);
    settings.train.learning_rate = args.learning_rate.unwrap_or(settings.train.learning_rate);
    Ok(settings)
}

fn pairs(list: &Path) -> Result<Vec<Pair>> {
    let scenes = SceneList::read(list)?;
    let mut pairs = Vec::new();
    for record in &scenes.records {
        match scenes.mask(record) {
            Some(mask) => {
                pairs.push(Pair { name: record.file_name.clone(), image: scenes.path(record), mask });
            }
            None => note!("left out: {} has no mask in {}", record.file_name, list.display()),
        }
    }
    ensure!(!pairs.is_empty(), "no scene of {} has a mask: fill its column `mask`", list.display());
    Ok(pairs)
}

/// Holds out `share` of the scenes, at least one, drawn by `seed`.
fn split(mut pairs: Vec<Pair>, seed: u64, share: f64) -> Result<(Vec<Pair>, Vec<Pair>)> {
    if pairs.len() < 2 {
        let message = "one scene cannot be split: name others with --validation";
        return Err(WrongUsage(message.into()).into());
    }
    pairs.sort_by_key(|pair| (Dice::new(seed, &[blake3_u64(&pair.name)]).any(), pair.name.clone()));
    let held_out = ((pairs.len() as f64 * share).round() as usize).clamp(1, pairs.len() - 1);
    let rest = pairs.split_off(held_out);
    Ok((rest, pairs))
}

fn blake3_u64(text: &str) -> u64 {
    let hash = *blake3::hash(text.as_bytes()).as_bytes();
    u64::from_le_bytes(std::array::from_fn(|i| hash[i]))
}
