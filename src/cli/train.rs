//! `marscan train`: weights from scenes and masks, on one device.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args as ClapArgs;

use super::Done;
use crate::config::{self, Settings};
use crate::dice::Dice;
use crate::fault::WrongUsage;
use crate::geo::name::observation;
use crate::plan::SceneList;
use crate::table::read_rows;
use crate::train::list::{DataSet, Part};
use crate::train::split::number_of;
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
    #[arg(long, required_unless_present = "data", conflicts_with = "data")]
    scenes: Option<PathBuf>,
    /// Data set made by `marscan prepare`, in place of a scene list: its crops are trained and validated on
    #[arg(long)]
    data: Option<PathBuf>,
    /// Folder for checkpoint, best and last weights, and history.csv
    #[arg(long)]
    out: PathBuf,
    /// Preset (unet1, unet2, unet3) or TOML file
    #[arg(long, default_value = "unet1")]
    settings: String,
    /// Scene list to validate on; without it, a share of the scenes is held out
    #[arg(long, conflicts_with = "data")]
    validation: Option<PathBuf>,
    /// Weights to start from, instead of random ones
    #[arg(long)]
    from: Option<PathBuf>,
    /// mined.csv of `marscan mine`, or the catalogue of a scan of the training scenes: what was found where
    /// the masks have no impact is shown more often
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
    /// Share of the crops that hold an impact, in place of the settings'; `list` takes the data set's own
    #[arg(long)]
    impact_share: Option<String>,
    /// Pixels this near the rim of an impact are not judged, px, in place of the settings'; a data set has
    /// its own
    #[arg(long, conflicts_with = "data")]
    ring: Option<usize>,
    /// Show crops as they are: not turned, mirrored, brightened or darkened
    #[arg(long)]
    no_augment: bool,
}

/// Trains to the end of the settings' epochs.
///
/// # Errors
/// If settings, scenes or device cannot be used, or the device is lost on the way.
pub fn run_command(args: &Args) -> Result<Done> {
    let data = args.data.as_deref().map(DataSet::open).transpose()?;
    let settings = settings(args, data.as_ref())?;
    let device = choose(&args.device)?;
    let (scenes, validation) = scenes(args, data.as_ref(), &settings)?;
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
    let out = args.out.clone();
    let job = TrainJob { settings, scenes, validation, data, from, candidates, out, command };
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

/// The settings that are meant; a data set's crops are what they are.
fn settings(args: &Args, data: Option<&DataSet>) -> Result<Settings> {
    let mut settings = config::load(&args.settings)?;
    let train = &mut settings.train;
    train.epochs = args.epochs.unwrap_or(train.epochs);
    train.learning_rate = args.learning_rate.unwrap_or(train.learning_rate);
    train.ring_px = args.ring.unwrap_or(train.ring_px);
    train.augment &= !args.no_augment;
    if let Some(data) = data {
        (train.crop_px, train.ring_px) = (data.spec.side_px, data.spec.ring_px);
        settings.input = data.spec.input;
    }
    if let Some(text) = &args.impact_share {
        settings.train.impact_share = impact_share(text, data)?;
    }
    settings.check()?;
    Ok(settings)
}

fn impact_share(text: &str, data: Option<&DataSet>) -> Result<f64> {
    let counts = data.and_then(|data| data.spec.parts.get(&Part::Train)).filter(|_| text == "list");
    let share = counts.map(|counts| counts.with_impact as f64 / counts.crops.max(1) as f64);
    share.or_else(|| text.parse().ok()).ok_or_else(|| {
        WrongUsage(format!("--impact-share {text}: must be above 0, at most 1, or, with --data, list")).into()
    })
}

/// Training and validation scenes.
fn scenes(args: &Args, data: Option<&DataSet>, settings: &Settings) -> Result<(Vec<Pair>, Vec<Pair>)> {
    let all = match (&args.scenes, data) {
        (_, Some(data)) => {
            return Ok((data.scenes(Part::Train).to_vec(), data.scenes(Part::Validation).to_vec()));
        }
        (Some(list), None) => pairs(list)?,
        (None, None) => Vec::new(),
    };
    match &args.validation {
        Some(list) => Ok((all, pairs(list)?)),
        None => split(all, settings.train.seed, settings.train.validation_share),
    }
}

/// The scenes of a list that have a mask; the others are named.
///
/// # Errors
/// If the list cannot be read, or none has.
pub fn pairs(list: &Path) -> Result<Vec<Pair>> {
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

/// Holds out `share` of the scenes, at least one, drawn by `seed`; those of one observation stay together.
fn split(mut pairs: Vec<Pair>, seed: u64, share: f64) -> Result<(Vec<Pair>, Vec<Pair>)> {
    let key = |pair: &Pair| {
        let whole = observation(&pair.name);
        (Dice::new(seed, &[number_of(whole)]).any(), whole.to_owned(), pair.name.clone())
    };
    pairs.sort_by_key(key);
    let wanted = ((pairs.len() as f64 * share).round() as usize).clamp(1, pairs.len().max(2) - 1);
    let cut = |at: &usize| observation(&pairs[at - 1].name) != observation(&pairs[*at].name);
    let Some(held_out) = (1..pairs.len()).filter(cut).min_by_key(|at| at.abs_diff(wanted)) else {
        let message = "scenes of one observation cannot be split: name others with --validation";
        return Err(WrongUsage(message.into()).into());
    };
    let rest = pairs.split_off(held_out);
    Ok((rest, pairs))
}
