//! Where a run starts from: its checkpoint, given weights or random ones; and how it is trained.

use anyhow::Result;

use super::checkpoint::{Checkpoint, Progress};
use super::optimiser::Optimiser;
use super::{History, Team, TrainJob};
use crate::config::{LossKind, TrainSettings};
use crate::dice::Dice;
use crate::fault::WrongUsage;
use crate::table::write_whole;
use crate::unet::descent::Parameters;
use crate::unet::layout::{lengths, parameters, statistics};
use crate::unet::loss::Loss;
use crate::unet::{LossScale, Regime, Weights};

/// Where the run stands in its folder, and the epochs until then: rank 0 reads them, and all have them from it.
pub(super) fn begin(job: &TrainJob, team: Team) -> Result<(Checkpoint, History)> {
    let (mut state, mut epochs) = (Vec::new(), Vec::new());
    if team.writes() {
        let found = found(job)?;
        write_whole(&job.out.join("settings.toml"), toml::to_string(&job.settings)?.as_bytes())?;
        let history = History::load(&job.out.join("history.csv"), found.progress.epochs)?;
        (state, epochs) = (found.to_bytes()?, toml::to_string(&history)?.into_bytes());
    }
    team.world.broadcast_bytes(&mut state);
    team.world.broadcast_bytes(&mut epochs);
    let state = Checkpoint::parse(&state, &job.settings.train)?;
    Ok((state, toml::from_str(std::str::from_utf8(&epochs)?)?))
}

/// The checkpoint of the run's folder, or the state before the first step.
fn found(job: &TrainJob) -> Result<Checkpoint> {
    let (run_id, train) = (run_id(job)?, &job.settings.train);
    let place = job.out.join("checkpoint.safetensors");
    if place.exists() {
        return Checkpoint::load(&place, &run_id, train, lengths(&job.settings.network.widths));
    }
    let (values, statistics) = match &job.from {
        Some(bytes) => Weights::parse(&job.settings.network.widths, bytes)
            .map_err(|why| WrongUsage(format!("the weights to start from cannot be used: {why:#}")))?
            .to_flat(),
        None => random(&job.settings.network.widths, train.seed),
    };
    let optimiser = Optimiser::new(train);
    let parameters = Parameters::new(values, optimiser.moments());
    let progress = Progress::new(train, run_id, LossScale::new(train.precision));
    Ok(Checkpoint { optimiser, parameters, statistics, progress })
}

/// The settings' regime.
pub(super) fn regime(train: &TrainSettings) -> Regime {
    let loss = match train.loss {
        LossKind::Bce => Loss::Bce,
        LossKind::BceJaccard => Loss::BceJaccard,
        LossKind::Focal => Loss::Focal { gamma: train.focal_gamma, alpha: train.focal_alpha },
    };
    Regime { loss, local_statistics: train.local_statistics, precision: train.precision, seed: train.seed }
}

/// He-uniform convolutions, batch norm at identity, and a head that starts from "hardly anything is impact".
fn random(widths: &[usize], seed: u64) -> (Vec<f32>, Vec<f32>) {
    const HEAD_BIAS: f32 = -3.0;
    let mut values = Vec::new();
    for (k, (name, shape)) in parameters(widths).into_iter().enumerate() {
        let count = shape.iter().product();
        let mut dice = Dice::new(seed, &[u64::MAX, k as u64]);
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
    (values, statistics)
}

/// What a checkpoint must agree on to be gone on from. When checkpoints are written, and at what loss the run
/// ends, changes no step.
pub(super) fn run_id(job: &TrainJob) -> Result<String> {
    let mut settings = job.settings.clone();
    (settings.train.checkpoint_minutes, settings.train.stop_after_epochs) = (0.0, 0);
    let text = serde_json::to_string(&(
        (&settings, &job.scenes, &job.validation, job.validation_seed, job.images),
        (
            from_id(job),
            &job.candidates.lines,
            job.data.as_ref().map(|data| &data.spec),
            env!("CARGO_PKG_VERSION"),
        ),
    ))?;
    Ok(blake3::hash(text.as_bytes()).to_hex()[..16].to_owned())
}

/// As [`run_id`], but the same for repeats with other seeds.
pub(super) fn work_id(job: &TrainJob) -> Result<String> {
    let mut job = job.clone();
    job.settings.train.seed = 0;
    run_id(&job)
}

/// blake3 of the weights that training starts from.
pub(super) fn from_id(job: &TrainJob) -> Option<String> {
    job.from.as_ref().map(|bytes| blake3::hash(bytes).to_hex().to_string())
}
