//! `marscan train`: weights from scenes and masks, on the devices of one process or of several ranks.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args as ClapArgs;

use super::Done;
use super::epochs::Epochs;
use crate::config::{self, Precision, Settings};
use crate::dice::Dice;
use crate::fault::{Stopped, WrongUsage};
use crate::geo::name::observation;
use crate::job::StopRequest;
use crate::plan::SceneList;
use crate::ranks::{World, together};
use crate::train::list::{DataSet, Part};
use crate::train::mistakes::Candidates;
use crate::train::split::number_of;
use crate::train::{Event, Pair, Summary, Team, TrainJob, repeat, run};
use crate::unet::device::{Chosen, choose_all, hold_all, places, take_turn};

/// Train the network on scenes and their masks; the same command goes on where it was stopped.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  \
    marscan train --scenes train/scenes.csv --out runs/first --settings unet1\n  \
    marscan scan --scenes new/scenes.csv --out found --weights runs/first/best.safetensors\n  \
    marscan train --scenes train/scenes.csv --out runs/timed --settings unet3.0 --until-val-loss 0.6 --repeats 5\n  \
    marscan train --scenes train/scenes.csv --out runs/speed --settings unet3.0 --images 3200\n  \
    marscan train --scenes train/scenes.csv --out runs/node --devices 0,1,2,3\n  \
    mpirun -np 8 marscan train --scenes train/scenes.csv --out runs/nodes --scale-with-ranks\n\n\
    SIGTERM, SIGINT, SIGUSR1 and SIGUSR2 end a run after the step in hand, with exit code 75: nothing is lost.")]
pub struct Args {
    /// Scene list with a `mask` column; scenes without a mask are left out and named
    #[arg(long, required_unless_present = "data", conflicts_with = "data")]
    scenes: Option<PathBuf>,
    /// Data set made by `marscan prepare`, in place of a scene list: its crops are trained and validated on
    #[arg(long)]
    data: Option<PathBuf>,
    /// Folder for checkpoint, best and last weights, history.csv, timing.csv, curves and summary.json
    #[arg(long)]
    out: PathBuf,
    /// Preset (unet1, unet2, unet3; unet1.0, unet2.0, unet2.1, unet3.0 as the study trained them) or TOML file
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
    /// Devices that share each batch: auto (all GPUs, or else the CPU), or a list like 0,1 (GPUs), PCI addresses,
    /// cpu, cpu:4 (four replicas on it); ranks of one host take them in turn
    #[arg(long, alias = "device", default_value = "auto", overrides_with = "devices")]
    devices: String,
    /// Use a GPU though another process uses it; without it a GPU is one process's, unless a scheduler deals them out
    #[arg(long)]
    share_gpu: bool,
    /// Folder where GPU drivers (NVIDIA's, Mesa's) keep compiled kernels for the next start; ranks may share it
    #[arg(long, value_name = "FOLDER")]
    pub kernel_cache: Option<PathBuf>,
    /// Threads of the CPU, which its replicas share; all without it
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=4096))]
    threads: Option<u16>,
    /// f32, f16 or bf16: what convolutions are computed in, in place of the settings'
    #[arg(long)]
    precision: Option<Precision>,
    /// Take batch and learning rate as those of one rank, and multiply both by the number of ranks, as is usual
    /// with Horovod; without it, ranks share the batch
    #[arg(long)]
    scale_with_ranks: bool,
    /// Epochs, in place of the settings'
    #[arg(long)]
    epochs: Option<usize>,
    /// Crops to train on in all, rounded up to whole steps, in place of epochs
    #[arg(long, conflicts_with = "epochs", value_parser = clap::value_parser!(u64).range(1..))]
    images: Option<u64>,
    /// End as soon as the validation loss is this or lower, and say after how long
    #[arg(long)]
    until_val_loss: Option<f32>,
    /// Train this many times, with seeds from the settings' upwards, in OUT/repeat-0 and so on; the figures, their
    /// mean and deviation go to OUT/repeats.csv
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1000))]
    repeats: Option<u64>,
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

/// Trains to the end that settings and flags name, or until a signal asks to stop.
///
/// # Errors
/// If settings, scenes or devices cannot be used, a device is lost on the way, or another rank fails.
pub fn run_command(args: &Args) -> Result<Done> {
    if let Some(threads) = args.threads {
        rayon::ThreadPoolBuilder::new().num_threads(threads.into()).build_global().context("--threads")?;
    }
    together(|line| note!("{line}"), |world| on_rank(args, world))
}

/// What each rank does; rank 0 speaks.
fn on_rank(args: &Args, world: &World) -> Result<Done> {
    let stop = StopRequest::listen()?;
    let data = args.data.as_deref().map(DataSet::open).transpose()?;
    let settings = settings(args, data.as_ref(), world.size())?;
    let devices = devices(args, world)?;
    let team = Team { world, devices: &devices };
    let job = job(args, settings, data, team.writes())?;
    if !team.writes() {
        let mut see = |_: Event| ();
        let summaries = train(args, &job, team, &stop, &mut see)?;
        let stopped = |all: Vec<Summary>| all.iter().any(|summary| summary.stopped_by.is_some());
        return Ok(if summaries.is_none_or(stopped) { Done::Stopped } else { Done::All });
    }
    let ranks = if world.size() > 1 { format!("{} ranks, here on ", world.size()) } else { String::new() };
    say!(
        "training {} on {ranks}{}: {} scenes, validating on {} ({})",
        job.settings.name,
        team.label(),
        job.scenes.len(),
        job.validation.len(),
        job.validation.iter().map(|pair| pair.name.as_str()).collect::<Vec<_>>().join(" ")
    );
    let mut epochs = Epochs::new();
    let summaries = train(args, &job, team, &stop, &mut |event| epochs.see(event))?;
    epochs.finish();
    let Some(summaries) = summaries else {
        note!("stopped by {}, while it waited", team.stopped_by(&stop));
        return Ok(Done::Stopped);
    };
    summaries.iter().for_each(print);
    if let Some(signal) = summaries.iter().find_map(|summary| summary.stopped_by.as_ref()) {
        note!("stopped by {signal}: the same command goes on from there");
        return Ok(Done::Stopped);
    }
    match args.repeats {
        Some(_) => say!("all figures are in {}", args.out.join("repeats.csv").display()),
        None => say!("the best weights are in {}", args.out.join("best.safetensors").display()),
    }
    Ok(Done::All)
}

/// The devices of this rank, which no other process uses.
fn devices(args: &Args, world: &World) -> Result<Vec<Chosen>> {
    let named = choose_all(&args.devices)?;
    let host = &world.hosts()[world.rank()];
    let lists = world.gather(&places(&named)).into_iter().zip(world.hosts());
    let lists: Vec<String> = lists.filter(|(_, other)| *other == host).map(|(list, _)| list).collect();
    let auto = args.devices == "auto" && lists.len() == 1;
    hold_all(take_turn(named, world.local_rank(), &lists)?, auto, args.share_gpu)
}

/// `None` if a signal asked to stop while another training was waited for.
fn train(
    args: &Args,
    job: &TrainJob,
    team: Team,
    stop: &StopRequest,
    see: &mut dyn FnMut(Event),
) -> Result<Option<Vec<Summary>>> {
    let trained = match args.repeats {
        Some(count) => repeat(job, count, team, stop, see),
        None => run(job, team, stop, see).map(|summary| vec![summary]),
    };
    match trained {
        Err(why) if why.is::<Stopped>() => Ok(None),
        trained => trained.map(Some),
    }
}

fn print(summary: &Summary) {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    say!(
        "{}: {} images in {:.1} s, {:.1} images/s; peak memory {:.0} MiB, of it private {:.0} MiB",
        summary.ended,
        summary.images,
        summary.seconds,
        summary.images_per_s,
        mib(summary.peak_resident_bytes),
        mib(summary.peak_private_bytes)
    );
    if let (Some(epoch), Some(loss)) = (summary.best_epoch, summary.best_validation_loss) {
        say!("lowest validation loss {loss:.4}, after epoch {epoch}");
    }
    if let (Some(goal), None, None) = (summary.until_validation_loss, summary.reached_s, &summary.stopped_by)
    {
        say!("validation loss {goal} was not reached");
    }
}

/// `speaks`: whether scenes that are left out are named.
fn job(args: &Args, settings: Settings, data: Option<DataSet>, speaks: bool) -> Result<TrainJob> {
    let (scenes, validation) = scenes(args, data.as_ref(), &settings, speaks)?;
    let from = args.from.as_ref().map(|path| {
        std::fs::read(path).with_context(|| format!("cannot read the weights {}", path.display()))
    });
    let candidates = args.hard_negatives.as_deref().map(Candidates::read);
    Ok(TrainJob {
        validation_seed: settings.train.seed,
        settings,
        scenes,
        validation,
        data,
        from: from.transpose()?,
        candidates: candidates.transpose()?.unwrap_or_default(),
        images: args.images,
        until_validation_loss: args.until_val_loss,
        out: args.out.clone(),
        command: std::env::args().collect(),
    })
}

/// The settings that are meant, checked; a data set's crops are what they are.
fn settings(args: &Args, data: Option<&DataSet>, ranks: usize) -> Result<Settings> {
    let mut settings = config::load(&args.settings)?;
    let train = &mut settings.train;
    train.epochs = args.epochs.unwrap_or(train.epochs);
    train.learning_rate = args.learning_rate.unwrap_or(train.learning_rate);
    train.ring_px = args.ring.unwrap_or(train.ring_px);
    train.augment &= !args.no_augment;
    train.precision = args.precision.unwrap_or(train.precision);
    if args.scale_with_ranks {
        train.batch *= ranks;
        train.learning_rate *= ranks as f64;
    }
    if let Some(data) = data {
        (train.crop_px, train.ring_px) = (data.spec.side_px, data.spec.ring_px);
        settings.input = data.spec.input;
    }
    if let Some(text) = &args.impact_share {
        settings.train.impact_share = impact_share(text, data)?;
    }
    settings.check()?;
    if args.hard_negatives.is_some() {
        shows_mistakes(&args.settings, &settings)?;
    }
    if let Some(loss) = args.until_val_loss.filter(|loss| !(*loss > 0.0 && loss.is_finite())) {
        return Err(WrongUsage(format!("--until-val-loss {loss}: must be a number above 0")).into());
    }
    Ok(settings)
}

/// # Errors
/// [`WrongUsage`] if no crop would hold a mistake.
fn shows_mistakes(name: &str, settings: &Settings) -> Result<()> {
    let why = match (settings.train.hard_share, settings.train.impact_share) {
        (0.0, _) => format!(
            "{name} has train.hard_share = 0: set it above 0 in a file for --settings, as `marscan settings \
             --settings {name}` prints one"
        ),
        (_, 1.0) => {
            "train.impact_share = 1 leaves no crop without an impact: lower it, or --impact-share".into()
        }
        _ => return Ok(()),
    };
    Err(WrongUsage(format!("--hard-negatives: none would be shown, for {why}")).into())
}

fn impact_share(text: &str, data: Option<&DataSet>) -> Result<f64> {
    let counts = data.and_then(|data| data.spec.parts.get(&Part::Train)).filter(|_| text == "list");
    let share = counts.map(|counts| counts.with_impact as f64 / counts.crops.max(1) as f64);
    share.or_else(|| text.parse().ok()).ok_or_else(|| {
        WrongUsage(format!("--impact-share {text}: must be above 0, at most 1, or, with --data, list")).into()
    })
}

/// Training and validation scenes.
fn scenes(
    args: &Args,
    data: Option<&DataSet>,
    settings: &Settings,
    speaks: bool,
) -> Result<(Vec<Pair>, Vec<Pair>)> {
    let pairs = |list| masked(list, speaks);
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
    masked(list, true)
}

fn masked(list: &Path, speaks: bool) -> Result<Vec<Pair>> {
    let scenes = SceneList::read(list)?;
    let mut pairs = Vec::new();
    for record in &scenes.records {
        match scenes.mask(record) {
            Some(mask) => {
                pairs.push(Pair { name: record.file_name.clone(), image: scenes.path(record), mask });
            }
            None if !speaks => {}
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
