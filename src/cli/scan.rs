//! `marscan scan`: one shard, or all of them one after the other.

use std::env;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args as ClapArgs;

use super::Done;
use super::devices::DeviceFlags;
use super::progress::Progress;
use super::settings::Flags;
use crate::config::{Precision, SCREEN_WEIGHTS, ScreenSettings, SegmenterKind, Settings, shipped_weights};
use crate::detect::Segmenter;
use crate::detect::threshold::GreyThreshold;
use crate::fault::WrongUsage;
use crate::job::{StopRequest, array_task, kept, task_id};
use crate::plan::SceneList;
use crate::ranks::place;
use crate::raster::Io;
use crate::records::ShardManifest;
use crate::scan::{ScanJob, Scanned, Screen, ShardSummary, scan_shard};
use crate::unet::device::{choose_all, hold_all};
use crate::unet::layout::flop_per_px;
use crate::unet::{self, Chosen};

/// Scan a shard of the scene list; in a job array the scheduler says which.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  marscan scan --scenes scenes.csv --out found\n  \
    marscan scan --scenes scenes.csv --out found --shards 64 --shard 7\n  \
    sbatch --array=0-63 slurm/scan.sh scenes.csv found\n  \
    sbatch --array=7,12 slurm/scan.sh scenes.csv found --shards 64 --array-index")]
pub struct Args {
    /// Scene list: file_name,height,width
    #[arg(long)]
    scenes: PathBuf,
    /// Folder of the run; shards are published in its shards/
    #[arg(long)]
    out: PathBuf,
    /// How many shards the list is cut into; in a job array, its length unless said otherwise
    #[arg(long)]
    shards: Option<usize>,
    /// Which of them, from 0; without it the array index, and outside an array all of them
    #[arg(long)]
    shard: Option<usize>,
    /// The array's index is the shard's number, from 0 (LSF and SGE: from 1), and other arrays scan the rest; without
    /// it an array must hold each of the shards once
    #[arg(long, conflicts_with = "shard")]
    array_index: bool,
    /// Weights (safetensors) in place of the shipped ones
    #[arg(long)]
    weights: Option<PathBuf>,
    #[command(flatten)]
    pub device: DeviceFlags,
    /// Several GPUs for each scene, in place of --device: auto (all), or a list of numbers or PCI addresses: 0,1,2,3
    #[arg(long, conflicts_with = "device")]
    devices: Option<String>,
    /// Threads; all processors unless said otherwise
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=4096))]
    threads: Option<u16>,
    /// How scenes are read: mmap, pread, or auto, which is pread on network file systems
    #[arg(long, default_value = "auto")]
    io: Io,
    /// Hold every pixel against the list's masks, for the mean squared error that `eval` prints
    #[arg(long)]
    masks: bool,
    /// Publish every pixel's probability too: `merge` makes a map of each scene of it, probabilities/SCENE.tif, a tiled
    /// GeoTIFF with overviews: 255 is certain, 0 is none or no data
    #[arg(long)]
    probabilities: bool,
    /// Have `merge` draw each scene with its candidates circled, overlays/SCENE.png, at most 4096 px on a side: a scene may
    /// be in several shards, so that no task alone can. `merge --overlay` does so for shards scanned without
    #[arg(long)]
    overlay: bool,
    /// Look first with a small network at reduced resolution, and with the full one only where that is not sure of
    /// nothing: one and a half to two times as fast with the shipped one. What is looked at is as without it
    #[arg(long)]
    screen: bool,
    /// Weights (safetensors) of the small network in place of the shipped ones; their shape is the settings'
    #[arg(long, requires = "screen")]
    screen_weights: Option<PathBuf>,
    /// The small network is sure of nothing where its probability stays under this
    #[arg(long, requires = "screen")]
    screen_probability: Option<f64>,
    #[command(flatten)]
    flags: Flags,
}

/// Scans.
///
/// # Errors
/// If the usage is wrong, the device is lost, or results cannot be written.
pub fn run(args: &Args) -> Result<Done> {
    // First, so that a signal never finds a task that does not listen yet.
    let stop = StopRequest::listen()?;
    let mut settings = args.flags.load()?;
    let (wanted, shards) = which(args)?;
    if let Some(threads) = args.threads {
        rayon::ThreadPoolBuilder::new().num_threads(threads.into()).build_global().context("--threads")?;
    }
    let choose = || match &args.devices {
        Some(list) => hold_all(choose_all(list)?, list == "auto", args.device.share_gpu),
        None => Ok(vec![args.device.choose()?]),
    };
    let began = Instant::now();
    let (mut segmenter, weights_id) = segmenter(&settings, args.weights.as_deref(), choose)?;
    let screen = screen(args, &mut settings, segmenter.streaming().is_some())?;
    let mut ready_s = Some(began.elapsed().as_secs_f64());
    let job = ScanJob {
        scenes: scene_list(args)?,
        out: args.out.clone(),
        shards,
        settings,
        weights_id,
        io: args.io,
        stop: stop.clone(),
        masks: args.masks,
        probabilities: args.probabilities,
        overlay: args.overlay,
        command: env::args().collect(),
        scheduler: kept(|name| env::var(name).ok()),
    };
    let prefix = task_id(|name| env::var(name).ok()).map_or(String::new(), |id| format!("task {id}: "));
    let (mut scanned, mut failed) = (0, 0);
    for index in wanted {
        let progress = Progress::new(prefix.clone());
        let ended = match stop.asked() {
            Some(_) => Scanned::Stopped,
            None => {
                scan_shard(&job, index, segmenter.as_mut(), screen.as_ref(), &|event| progress.see(event))?
            }
        };
        let Scanned::Done(summary) = ended else {
            progress.stopped(stop.asked().unwrap_or("a signal"));
            return Ok(Done::Stopped);
        };
        progress.finish();
        print(&job, &summary, ready_s.take(), &prefix);
        let scenes = &summary.manifest.scenes;
        scanned += scenes.iter().filter(|scene| scene.failed.is_none()).count();
        failed += scenes.iter().filter(|scene| scene.failed.is_some()).count();
    }
    Ok(match (scanned, failed) {
        (_, 0) => Done::All,
        (0, _) => Done::Nothing,
        _ => Done::Partly,
    })
}

/// The list, which must not lie where `merge` writes its own.
fn scene_list(args: &Args) -> Result<SceneList> {
    let written = args.out.join("scenes.csv");
    let same =
        |a: &Path, b: &Path| a.canonicalize().ok().zip(b.canonicalize().ok()).is_some_and(|(a, b)| a == b);
    if same(&args.scenes, &written) {
        let message = format!(
            "{}: `merge` writes its list of what is done there; choose another --out",
            written.display()
        );
        return Err(WrongUsage(message).into());
    }
    SceneList::read(&args.scenes)
}

/// The shards to scan and how many there are: flags first, then the scheduler, then all. Processes that were
/// started together deal them out.
fn which(args: &Args) -> Result<(Vec<usize>, usize)> {
    let get = |name: &str| env::var(name).ok();
    let wrong = |message: String| Err(WrongUsage(message).into());
    let task = if args.shard.is_some() { None } else { array_task(get)? };
    let (index, shards) = match (args.shard, task) {
        (Some(shard), _) => (Some(shard), args.shards.unwrap_or(1)),
        (None, Some(task)) => {
            let (index, shards) = task.shard(args.shards, args.array_index)?;
            (Some(index), shards)
        }
        (None, None) if args.array_index => {
            return wrong("--array-index: this is no task of a job array; say --shard".into());
        }
        (None, None) => (None, args.shards.unwrap_or(1)),
    };
    if !(1..=100_000).contains(&shards) {
        return wrong(format!("--shards {shards}: must be 1 to 100000"));
    }
    if let Some(index) = index.filter(|index| *index >= shards) {
        return wrong(format!("shard {index} of {shards}: shards count from 0 to {}", shards - 1));
    }
    let wanted = index.map_or(0..shards, |index| index..index + 1);
    let (rank, ranks) = place(get)?;
    if ranks > wanted.len() {
        return wrong(format!(
            "{ranks} processes were started together to scan {} of {shards} shards, and would do the same work: \
             start one for each array index, or at most one a shard",
            wanted.len()
        ));
    }
    Ok((wanted.skip(rank).step_by(ranks).collect(), shards))
}

/// The first look of these flags and settings, which then name its weights: on the CPU, in the scan's precision where
/// that is the CPU's too.
fn screen(args: &Args, settings: &mut Settings, all_on_cpu: bool) -> Result<Option<Screen>> {
    let of_file = settings.scan.screen.take();
    if !args.screen && of_file.is_none() {
        return Ok(None);
    }
    let mut screen = of_file.map_or_else(ScreenSettings::shipped, Ok)?;
    screen.probability = args.screen_probability.unwrap_or(screen.probability);
    let file = args.screen_weights.as_deref().map(read_weights).transpose()?;
    let bytes = file.as_deref().unwrap_or(SCREEN_WEIGHTS);
    screen.weights = blake3::hash(bytes).to_hex().to_string();
    let precision = if all_on_cpu { settings.scan.precision } else { Precision::F32 };
    let network = unet::on_cpu(&screen.widths, bytes, precision).context("the screening network")?;
    let screen = settings.scan.screen.insert(screen);
    let network = Screen::new(Box::new(network), screen);
    settings.check()?;
    Ok(Some(network))
}

fn read_weights(path: &Path) -> Result<Vec<u8>> {
    Ok(std::fs::read(path)
        .map_err(|why| WrongUsage(format!("cannot read the weights {}: {why}", path.display())))?)
}

/// What gives pixels their probability, and the id of its weights.
///
/// # Errors
/// If the weights cannot be read or do not fit, or those of `choose` and of the devices.
pub fn segmenter(
    settings: &Settings,
    weights: Option<&Path>,
    choose: impl FnOnce() -> Result<Vec<Chosen>>,
) -> Result<(Box<dyn Segmenter>, String)> {
    if settings.scan.segmenter == SegmenterKind::Threshold {
        if let Some(weights) = weights {
            let message = format!("--weights {}: a grey level has none", weights.display());
            return Err(WrongUsage(message).into());
        }
        let (dark_max, bright) = (settings.scan.dark_max, settings.scan.bright_min);
        let bright_min = (bright > 0).then_some(bright);
        return Ok((Box::new(GreyThreshold { dark_max, bright_min }), String::new()));
    }
    let file;
    let bytes: &[u8] = match (weights, shipped_weights(&settings.name)) {
        (Some(path), _) => {
            file = read_weights(path)?;
            &file
        }
        (None, Some(shipped)) => shipped,
        (None, None) => {
            let message = format!(
                "no weights are shipped for {}: train some and name them with --weights",
                settings.name
            );
            return Err(WrongUsage(message).into());
        }
    };
    let id = blake3::hash(bytes).to_hex().to_string();
    let network = unet::segmenter(&settings.network, bytes, settings.scan.precision, choose)
        .with_context(|| weights.map_or("shipped weights".into(), |path| path.display().to_string()))?;
    Ok((network, id))
}

/// `ready_s`: seconds until the device was ready, told once. `prefix`: the task's name, in front of what is its own
/// among the lines of an array's common log.
fn print(job: &ScanJob, summary: &ShardSummary, ready_s: Option<f64>, prefix: &str) {
    let manifest = &summary.manifest;
    let place = format!("{prefix}shard {} of {}", manifest.shard, manifest.shards);
    if summary.was_done {
        say!("{place}: finished before with the same scenes, settings and weights; nothing to do");
        print_failed(manifest);
        if manifest.scenes.iter().any(|scene| scene.failed.is_some()) {
            let folder = crate::scan::shard_folder(&job.out, manifest.shard, manifest.shards);
            say!("  to scan again what failed, remove {}", folder.display());
        }
        if job.overlay && !manifest.overlay {
            say!("{place}: it was scanned without --overlay: say so to `marscan merge`");
        }
        return;
    }
    let sum =
        |part: fn(&crate::records::SceneOutcome) -> u64| manifest.scenes.iter().map(part).sum::<u64>() as f64;
    let (pixels, valid, computed) = (sum(|s| s.pixels), sum(|s| s.valid_px), sum(|s| s.computed_px));
    say!(
        "{place}: {} scenes, {:.2} Mpx of which {:.2} valid, {:.2} computed ({:.2} for each valid one)",
        manifest.scenes.len(),
        pixels / 1e6,
        valid / 1e6,
        computed / 1e6,
        computed / valid.max(1.0)
    );
    say!(
        "  {:.2} s, {:.3} Mpx/s, on {} with {} threads; private memory at most {:.0} MiB",
        manifest.seconds,
        pixels / 1e6 / manifest.seconds,
        manifest.device,
        manifest.threads,
        manifest.peak_rss_anon_bytes as f64 / f64::from(1 << 20)
    );
    if let Some(ready_s) = ready_s {
        say!(
            "  ready after {ready_s:.2} s: weights, and on a GPU the compiling of kernels that its driver has not kept"
        );
    }
    if let Some(looked) = manifest.scenes.iter().filter_map(|scene| scene.looked_px).reduce(|a, b| a + b) {
        say!(
            "  screened: {:.2} % of the valid pixels were looked at",
            100.0 * looked as f64 / valid.max(1.0)
        );
    }
    let infer_s = summary.stage_seconds.iter().find(|(name, _)| name == "infer").map(|(_, seconds)| *seconds);
    if let Some(infer_s) = infer_s.filter(|_| job.settings.scan.segmenter == SegmenterKind::Unet) {
        let flop = flop_per_px(&job.settings.network.widths);
        let needed = sum(|s| s.looked_px.unwrap_or(s.valid_px));
        say!(
            "  the network: {:.3} MFLOP for each valid pixel, {:.1} GFLOP/s",
            flop / 1e6,
            needed * flop / 1e9 / infer_s
        );
    }
    let stages: Vec<_> = summary.stage_seconds.iter().map(|(name, s)| format!("{name} {s:.2}")).collect();
    say!("  seconds by stage: {}", stages.join(", "));
    print_failed(manifest);
    say!("  published in {}", crate::scan::shard_folder(&job.out, manifest.shard, manifest.shards).display());
}

fn print_failed(manifest: &ShardManifest) {
    for scene in &manifest.scenes {
        if let Some(why) = &scene.failed {
            say!("  failed: {} ({why})", scene.scene);
        }
    }
}
