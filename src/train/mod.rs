//! Training on one device: crops in, weights and a history out, going on from its checkpoint.

mod augment;
pub mod checkpoint;
pub mod crops;
pub mod list;
pub mod mining;
pub mod mistakes;
pub mod nadam;
pub mod pairs;
pub mod prepare;
pub mod prepared;
pub mod runs;
pub mod sampler;
pub mod source;
pub mod split;
pub mod stats;
pub mod store;
pub mod strategy;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::config::{Precision, Settings};
use crate::dice::Dice;
use crate::table::write_rows;
use crate::unet::device::Chosen;
use crate::unet::layout::{parameters, statistics};
use crate::unet::loss::Loss;
use crate::unet::replica::{Alone, Place};
use crate::unet::{CropBatch, Regime, Trainer, Weights, predictor};
use checkpoint::Checkpoint;
use list::DataSet;
use mistakes::{Candidate, Provenance};
use nadam::Nadam;
use source::{CropSource, TrainData};

/// Steps over which the step size rises to its full value.
const WARM_UP_STEPS: u64 = 100;
/// Crops on which each epoch is validated: the same ones every time.
const VALIDATION_CROPS: usize = 512;

/// A scene and its mask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pair {
    /// The scene's `file_name`.
    pub name: String,
    /// Where its TIFF is.
    pub image: PathBuf,
    /// Where its mask is.
    pub mask: PathBuf,
}

/// What is trained, on what, and where it goes.
pub struct TrainJob {
    /// All settings.
    pub settings: Settings,
    /// Training scenes.
    pub scenes: Vec<Pair>,
    /// Validation scenes: never trained on.
    pub validation: Vec<Pair>,
    /// The prepared data set whose crops are trained and validated on, `scenes` and `validation` being its
    /// own; without it, crops are drawn from the scenes.
    pub data: Option<DataSet>,
    /// A weights file's bytes to start from; without it, random weights.
    pub from: Option<Vec<u8>>,
    /// What a scan of the training scenes found: its mistakes are hard negatives.
    pub candidates: Vec<Candidate>,
    /// Gets `checkpoint.safetensors`, `best.safetensors`, `last.safetensors`, `history.csv`.
    pub out: PathBuf,
    /// The command line, for the weights' provenance.
    pub command: Vec<String>,
}

/// One line of `history.csv`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Epoch {
    /// Counted from 1.
    pub epoch: u64,
    /// Steps so far.
    pub steps: u64,
    /// Crops so far.
    pub crops: u64,
    /// Step size at the end.
    pub learning_rate: f64,
    /// Mean loss of the epoch's crops.
    pub train_loss: f32,
    /// Mean binary cross-entropy of the validation crops.
    pub validation_loss: f32,
    /// Mean squared error of the validation crops, %.
    pub validation_mse_percent: f64,
    /// The same for a network that predicts nothing, %.
    pub nothing_mse_percent: f64,
    /// Crops a second.
    pub crops_per_s: f64,
    /// Seconds of training so far, all sessions.
    pub seconds: f64,
}
/// The names of an [`Epoch`]'s columns.
pub const EPOCH_HEADER: [&str; 10] = [
    "epoch",
    "steps",
    "crops",
    "learning_rate",
    "train_loss",
    "validation_loss",
    "validation_mse_percent",
    "nothing_mse_percent",
    "crops_per_s",
    "seconds",
];

/// Trains, telling `progress` of each finished epoch; gives the count of epochs done in all.
///
/// # Errors
/// If a scene or a file cannot be read or written, or the device is lost.
pub fn run(job: &TrainJob, device: &Chosen, mut progress: impl FnMut(&Epoch)) -> Result<u64> {
    let train = &job.settings.train;
    let TrainData { train: crops, validation: held_out, hard } = source::open(job)?;
    std::fs::create_dir_all(&job.out).with_context(|| format!("cannot make {}", job.out.display()))?;

    let run_id = run_id(job)?;
    let place = job.out.join("checkpoint.safetensors");
    let mut state = if place.exists() { Checkpoint::load(&place, &run_id)? } else { begin(job, run_id)? };
    let regime = Regime {
        loss: Loss::BceJaccard,
        local_statistics: false,
        precision: Precision::F32,
        seed: train.seed,
    };
    let devices = std::slice::from_ref(device);
    let mut trainer = Trainer::new(&job.settings.network, devices, regime, state.statistics.clone())?;

    let steps_per_epoch = (train.epoch_crops / train.batch).max(1) as u64;
    let total = steps_per_epoch * train.epochs as u64;
    while state.optimiser.steps < total {
        let started = Instant::now();
        let (mut loss_sum, mut learning_rate) = (0.0, 0.0);
        for _ in 0..steps_per_epoch {
            let step = state.optimiser.steps;
            learning_rate = rate(train.learning_rate, step, total);
            let place = Place { step, first_crop: 0 };
            let outcome = trainer.step(&state.values, &crops.batch(step, train.batch)?, place, &Alone)?;
            if let Some(gradient) = &outcome.gradient {
                state.optimiser.step(learning_rate, &mut state.values, gradient);
            }
            loss_sum += outcome.loss;
        }
        state.statistics.clone_from(&trainer.statistics);
        let trained_s = started.elapsed().as_secs_f64();
        state.seconds += trained_s;
        let checked = validate(job, device, &state, held_out.as_ref())?;
        let steps = state.optimiser.steps;
        let epoch = Epoch {
            epoch: steps / steps_per_epoch,
            steps,
            crops: steps * train.batch as u64,
            learning_rate,
            train_loss: loss_sum / steps_per_epoch as f32,
            validation_loss: checked.entropy,
            validation_mse_percent: checked.mse_percent,
            nothing_mse_percent: checked.nothing_percent,
            crops_per_s: (steps_per_epoch * train.batch as u64) as f64 / trained_s,
            seconds: state.seconds,
        };
        keep(job, &mut state, &epoch, &hard)?;
        progress(&epoch);
    }
    Ok(total / steps_per_epoch)
}

/// Warm-up, then half a cosine down to a hundredth.
fn rate(highest: f64, step: u64, total: u64) -> f64 {
    let warm = ((step + 1) as f64 / WARM_UP_STEPS as f64).min(1.0);
    let done = step as f64 / total.max(1) as f64;
    let fall = 0.01 + 0.99 * 0.5 * (1.0 + (std::f64::consts::PI * done).cos());
    highest * warm * fall
}

fn begin(job: &TrainJob, run_id: String) -> Result<Checkpoint> {
    let mut state = fresh(job, run_id);
    if let Some(bytes) = &job.from {
        let weights = Weights::parse(&job.settings.network.widths, bytes).context("weights to start from")?;
        (state.values, state.statistics) = weights.to_flat();
    }
    Ok(state)
}

/// He-uniform convolutions, batch norm at identity, and a head that starts from "hardly anything is impact".
fn fresh(job: &TrainJob, run_id: String) -> Checkpoint {
    const HEAD_BIAS: f32 = -3.0;
    let widths = &job.settings.network.widths;
    let mut values = Vec::new();
    for (k, (name, shape)) in parameters(widths).into_iter().enumerate() {
        let count = shape.iter().product();
        let mut dice = Dice::new(job.settings.train.seed, &[u64::MAX, k as u64]);
        let bound = (6.0 / shape[1..].iter().product::<usize>() as f64).sqrt();
        values.extend((0..count).map(|_| match name.rsplit_once('.') {
            Some((owner, "weight")) if owner.contains("bn") => 1.0,
            Some((_, "weight")) => ((2.0 * dice.unit() - 1.0) * bound) as f32,
            Some(("head", _)) => HEAD_BIAS,
            _ => 0.0,
        }));
    }
    let statistics = statistics(widths)
        .into_iter()
        .flat_map(|(name, shape)| {
            let start = if name.ends_with("running_var") { 1.0 } else { 0.0 };
            vec![start; shape[0]]
        })
        .collect();
    let optimiser = Nadam::new(values.len());
    Checkpoint { run_id, optimiser, values, statistics, best: f32::INFINITY, seconds: 0.0 }
}

/// What the checkpoint must agree on to be gone on from.
fn run_id(job: &TrainJob) -> Result<String> {
    let data = job.data.as_ref().map(|data| &data.spec);
    let parts = (&job.settings, &job.scenes, &job.validation, from_id(job), &job.candidates, data);
    let text = serde_json::to_string(&parts)?;
    Ok(blake3::hash(text.as_bytes()).to_hex()[..16].to_owned())
}

/// blake3 of the weights that training starts from.
fn from_id(job: &TrainJob) -> Option<String> {
    job.from.as_ref().map(|bytes| blake3::hash(bytes).to_hex().to_string())
}

struct Checked {
    entropy: f32,
    mse_percent: f64,
    nothing_percent: f64,
}

/// Scores the current weights, batch norm folded as in a scan, on the held-out crops.
fn validate(job: &TrainJob, device: &Chosen, state: &Checkpoint, crops: &dyn CropSource) -> Result<Checked> {
    let train = &job.settings.train;
    let weights = Weights::from_flat(&job.settings.network.widths, &state.values, &state.statistics);
    let mut probabilities = predictor(&weights, device.clone())?;
    let (mut entropy, mut error, mut nothing, mut pixels) = (0.0, 0.0, 0.0, 0.0f64);
    for number in 0..VALIDATION_CROPS.div_ceil(train.batch) {
        let batch = crops.batch(number as u64, train.batch)?;
        let answer = probabilities(train.crop_px, &batch.pixels)?;
        let judged = |m: u8, v: u8| v != 0 && m != CropBatch::DONT_CARE;
        let pixels_of = answer.iter().zip(&batch.mask).zip(&batch.pixels);
        let ground = pixels_of.filter(|((_, m), v)| judged(**m, **v));
        for ((&p, &m), _) in ground {
            let (p, truth) = (f64::from(p), f64::from(u8::from(m != 0)));
            let right = if m == 0 { 1.0 - p } else { p };
            entropy -= right.max(1e-7).ln();
            error += (p - truth) * (p - truth);
            nothing += truth;
            pixels += 1.0;
        }
    }
    ensure!(pixels > 0.0, "the validation crops hold nothing but no-data");
    let percent = 100.0 / pixels;
    Ok(Checked {
        entropy: (entropy / pixels) as f32,
        mse_percent: error * percent,
        nothing_percent: nothing * percent,
    })
}

/// Writes the checkpoint, the weights and the history's new line.
fn keep(job: &TrainJob, state: &mut Checkpoint, epoch: &Epoch, hard: &Provenance) -> Result<()> {
    let mut weights = Weights::from_flat(&job.settings.network.widths, &state.values, &state.statistics);
    let pairs = [
        ("settings", toml::to_string(&job.settings)?),
        ("command", job.command.join(" ")),
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("started_from", from_id(job).unwrap_or_else(|| "random weights".into())),
        ("epoch", serde_json::to_string(epoch)?),
        ("hard_negatives", serde_json::to_string(hard)?),
        ("data", job.data.as_ref().map_or(Ok("scenes".into()), |data| serde_json::to_string(&data.spec))?),
        ("training_scenes", names(&job.scenes)),
        ("validation_scenes", names(&job.validation)),
    ];
    weights.metadata = pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
    weights.save(&job.out.join("last.safetensors"))?;
    if epoch.validation_loss < state.best {
        state.best = epoch.validation_loss;
        weights.save(&job.out.join("best.safetensors"))?;
    }
    append_history(&job.out.join("history.csv"), epoch)?;
    state.save(&job.out.join("checkpoint.safetensors"))
}

fn names(pairs: &[Pair]) -> String {
    pairs.iter().map(|pair| pair.name.as_str()).collect::<Vec<_>>().join(" ")
}

/// Replaces the line of this epoch, if an interrupted run left one, and those after it.
fn append_history(path: &Path, epoch: &Epoch) -> Result<()> {
    let mut lines: Vec<Vec<String>> = if path.exists() { crate::table::read_rows(path)? } else { Vec::new() };
    lines.truncate(epoch.epoch as usize - 1);
    let mut out = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
    out.serialize(epoch)?;
    let line = String::from_utf8(out.into_inner()?)?;
    lines.push(line.trim_end().split(',').map(str::to_owned).collect());
    write_rows(path, &EPOCH_HEADER, &lines)
}
