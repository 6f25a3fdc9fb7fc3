//! Where training's crops come from: drawn from scenes as they are wanted, or a prepared data set.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use anyhow::{Context, Result};

use super::crops::TrainingScene;
use super::list::{DataSet, Part};
use super::mistakes::{Candidates, Provenance, hand_out};
use super::prepared::{PartCrops, PreparedSampler, open_scenes, open_store};
use super::sampler::Sampler;
use super::{Pair, TrainJob};
use crate::config::TrainSettings;
use crate::fault::WrongUsage;
use crate::geo::name::observation;
use crate::job::StopRequest;
use crate::unet::CropBatch;

/// Gives batches of crops, each a pure function of the seed and its number.
pub trait CropSource: Send + Sync {
    /// Those in `share` of the `count` crops of the batch numbered `number`.
    ///
    /// # Errors
    /// If a scene cannot be read.
    fn share(&self, number: u64, count: usize, share: Range<usize>) -> Result<CropBatch>;

    /// The batch numbered `number`, of `count` crops.
    ///
    /// # Errors
    /// If a scene cannot be read.
    fn batch(&self, number: u64, count: usize) -> Result<CropBatch> {
        self.share(number, count, 0..count)
    }
}

/// What a run trains and validates on.
pub struct TrainData {
    /// Weights are moved on these.
    pub train: Box<dyn CropSource>,
    /// Each epoch is scored on these.
    pub validation: Box<dyn CropSource>,
    /// Where its hard negatives come from.
    pub hard: Provenance,
}

/// Opens the crops of `job`.
///
/// # Errors
/// If a scene or the data set cannot be read, there is no impact, or a hard negative is of no training scene;
/// [`crate::fault::Stopped`] if asked to stop on the way.
pub fn open(job: &TrainJob, stop: &StopRequest) -> Result<TrainData> {
    match &job.data {
        Some(data) => open_prepared(job, data, stop),
        None => open_scenes_of(job, stop),
    }
}

/// The settings that validation crops are drawn by: with a seed of their own, and shown as they are.
fn held_out_settings(job: &TrainJob) -> TrainSettings {
    TrainSettings { seed: job.validation_seed, augment: false, ..job.settings.train.clone() }
}

fn open_scenes_of(job: &TrainJob, stop: &StopRequest) -> Result<TrainData> {
    let (train, input) = (&job.settings.train, job.settings.input);
    keep_apart(&job.scenes, &job.validation)?;
    let mut scenes = open_scenes(&job.scenes, input, stop)?;
    let names: Vec<&str> = job.scenes.iter().map(|pair| pair.name.as_str()).collect();
    let hard = hand_out(&job.candidates, &names, &mut scenes)?;
    let held_out = open_scenes(&job.validation, input, stop)?;
    let seen: BTreeMap<_, _> = scenes.iter().map(|scene| &scene.looks).zip(&names).collect();
    for (pair, scene) in job.validation.iter().zip(&held_out) {
        if let Some(trained) = seen.get(&scene.looks) {
            let message = format!(
                "{} is the image of {trained}, which is trained on: take it out of one list",
                pair.name
            );
            return Err(WrongUsage(message).into());
        }
    }
    demand_impacts(&scenes, &job.scenes, "train on: name others with --scenes")?;
    demand_impacts(&held_out, &job.validation, "validate on: name others with --validation")?;
    let validation =
        Sampler::new(held_out, &held_out_settings(job)).context("the validation scenes cannot be used")?;
    Ok(TrainData { train: Box::new(Sampler::new(scenes, train)?), validation: Box::new(validation), hard })
}

/// # Errors
/// [`WrongUsage`] that names the scenes and ends with `use_and_remedy` if none of them has an impact.
fn demand_impacts(scenes: &[TrainingScene], pairs: &[Pair], use_and_remedy: &str) -> Result<()> {
    const NAMED: usize = 5;
    if scenes.iter().any(|scene| !scene.impacts().is_empty()) {
        return Ok(());
    }
    let mut names: Vec<&str> = pairs.iter().take(NAMED).map(|pair| pair.name.as_str()).collect();
    if pairs.len() > NAMED {
        names.push("…");
    }
    let message = format!("no mask of {} has an impact to {use_and_remedy}", names.join(", "));
    Err(WrongUsage(message).into())
}

/// # Errors
/// [`WrongUsage`] if an observation is in both lists.
fn keep_apart(scenes: &[Pair], validation: &[Pair]) -> Result<()> {
    let seen: BTreeSet<&str> = scenes.iter().map(|pair| observation(&pair.name)).collect();
    match validation.iter().find(|pair| seen.contains(observation(&pair.name))) {
        None => Ok(()),
        Some(pair) => {
            let message = format!(
                "{} (or another scene of its observation) is to be trained on and to validate: take it out of one list",
                pair.name
            );
            Err(WrongUsage(message).into())
        }
    }
}

fn open_prepared(job: &TrainJob, data: &DataSet, stop: &StopRequest) -> Result<TrainData> {
    let store = open_store(data)?;
    let crops = PartCrops::open(data, Part::Train, store.clone(), &job.candidates, stop)?;
    let hard = crops.hard.clone();
    let held_out = PartCrops::open(data, Part::Validation, store, &Candidates::default(), stop)?;
    Ok(TrainData {
        train: Box::new(PreparedSampler::new(crops, &job.settings.train)),
        validation: Box::new(PreparedSampler::new(held_out, &held_out_settings(job))),
        hard,
    })
}
