//! How a run ended, with its figures: `summary.json`.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::table::write_whole;

/// A run's end and figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Settings, scenes and program, as in the checkpoint.
    pub run_id: String,
    /// The same without the seed: repeats share it. Empty where an older program did not say.
    #[serde(default)]
    pub work_id: String,
    /// The settings' name.
    pub settings: String,
    /// Why it ended, in words.
    pub ended: String,
    /// The signal that stopped it before its end, if one did.
    pub stopped_by: Option<String>,
    /// Epochs validated.
    pub epochs: u64,
    /// Steps taken.
    pub steps: u64,
    /// Crops seen.
    pub images: u64,
    /// Seconds of training and validation, all sessions.
    pub seconds: f64,
    /// Crops a second of training, over all epochs.
    pub images_per_s: f64,
    /// Loss of the last epoch's steps, penalty included.
    pub train_loss: Option<f64>,
    /// Validation loss after the last epoch.
    pub validation_loss: Option<f32>,
    /// The epoch of the lowest validation loss.
    pub best_epoch: Option<u64>,
    /// Lowest validation loss: that of `best.safetensors`.
    pub best_validation_loss: Option<f32>,
    /// The validation loss that training was to reach.
    pub until_validation_loss: Option<f32>,
    /// Seconds until it was reached.
    pub reached_s: Option<f64>,
    /// Crops seen until then.
    pub reached_images: Option<u64>,
    /// Most memory the process ever had, mapped files included, bytes; of the last session.
    pub peak_resident_bytes: u64,
    /// Most private memory seen after a step, bytes; of the last session.
    pub peak_private_bytes: u64,
    /// The machine's name.
    pub host: String,
    /// What the network ran on.
    pub device: String,
    /// Of this program.
    pub version: String,
    /// The command line.
    pub command: Vec<String>,
}

impl Summary {
    /// Writes the file whole or not at all.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        write_whole(path, serde_json::to_string_pretty(self)?.as_bytes())
    }

    /// Reads what [`Self::save`] wrote.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn load(path: &Path) -> Result<Self> {
        let read = || -> Result<Self> { Ok(serde_json::from_slice(&std::fs::read(path)?)?) };
        read().with_context(|| format!("cannot read {}", path.display()))
    }
}
