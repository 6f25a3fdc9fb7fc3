//! Training: crops in; weights, a history and its curves out; going on from its checkpoint.
//!
//! A step is a pure function of the settings, the scenes and the checkpoint before it: a run that was stopped or
//! killed ends with the same weights as one that never was. Of several ranks every one takes the same steps.

mod augment;
pub mod checkpoint;
pub mod crops;
mod curves;
mod history;
mod hold;
pub mod judge;
mod keep;
pub mod list;
pub mod mining;
pub mod mistakes;
pub mod optimiser;
pub mod pairs;
pub mod prepare;
pub mod prepared;
mod repeats;
mod run;
pub mod runs;
pub mod sampler;
mod schedule;
pub mod source;
pub mod split;
mod start;
pub mod stats;
pub mod store;
pub mod strategy;
mod summary;
mod team;
mod times;
mod validate;

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::config::Settings;
use list::DataSet;
use mistakes::Candidates;

pub use history::{EPOCH_HEADER, Epoch, History};
pub use repeats::{REPEAT_HEADER, repeat};
pub use run::run;
pub use summary::Summary;
pub use team::Team;
pub use times::{TIMES_HEADER, Times, TimesRow};

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

/// What is trained, on what, until when, and where it goes.
#[derive(Clone, Debug)]
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
    /// Seed of the validation crops: the same for all repeats of a run.
    pub validation_seed: u64,
    /// A weights file's bytes to start from; without it, random weights.
    pub from: Option<Vec<u8>>,
    /// What a scan of the training scenes found: its mistakes are hard negatives.
    pub candidates: Candidates,
    /// Crops after which training ends, rounded up to whole steps, in place of the settings' epochs.
    pub images: Option<u64>,
    /// Validation loss at which training ends.
    pub until_validation_loss: Option<f32>,
    /// Gets `settings.toml`, `checkpoint.safetensors`, `best.safetensors`, `last.safetensors`, `history.csv`, `timing.csv`,
    /// `curves.svg`, `curves.png` and `summary.json`.
    pub out: PathBuf,
    /// The command line, for the weights' provenance.
    pub command: Vec<String>,
}

impl TrainJob {
    /// Steps of a whole epoch.
    pub fn epoch_steps(&self) -> u64 {
        let train = &self.settings.train;
        (train.epoch_crops / train.batch).max(1) as u64
    }

    /// Steps of the whole run.
    pub fn total_steps(&self) -> u64 {
        let train = &self.settings.train;
        self.images
            .map_or(self.epoch_steps() * train.epochs as u64, |n| n.div_ceil(train.batch as u64).max(1))
    }
}

/// What a run tells while it goes.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// Another training writes in the folder, and is waited for.
    Waits {
        /// Which.
        folder: &'a Path,
        /// Its process and machine.
        holder: &'a str,
    },
    /// A repeat of several begins.
    Repeat {
        /// Counted from 0.
        number: u64,
        /// Of its weights and crops.
        seed: u64,
    },
    /// A run's first step since it was begun or gone on with.
    First {
        /// How long it took: on a GPU it compiles kernels.
        seconds: f64,
    },
    /// A step was taken.
    Step {
        /// The epoch it belongs to, counted from 1.
        epoch: u64,
        /// Steps of this epoch so far.
        steps: u64,
        /// Steps that this epoch will have.
        of: u64,
        /// Crops a step.
        batch: u64,
        /// Mean loss of the epoch's steps so far, without the penalty.
        loss: f64,
    },
    /// An epoch was validated and its checkpoint written.
    Epoch(&'a Epoch),
}
