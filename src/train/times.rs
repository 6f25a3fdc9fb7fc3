//! Where the time of an epoch went, rank by rank: `timing.csv`.

use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::table::{read_rows, write_rows};

/// Seconds of an epoch, stage by stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Times {
    /// Cutting crops from the scenes.
    pub read_s: f64,
    /// The network forwards.
    pub forward_s: f64,
    /// The network backwards; holds the forward pass too where a device does not tell them apart.
    pub backward_s: f64,
    /// Averaging gradients between devices and ranks.
    pub communicate_s: f64,
    /// The optimiser, with the penalty.
    pub step_s: f64,
    /// Scoring the validation crops.
    pub validate_s: f64,
}

impl Times {
    /// Seconds of training: all but the validation.
    pub fn training_s(&self) -> f64 {
        self.read_s + self.forward_s + self.backward_s + self.communicate_s + self.step_s
    }
}

/// One line of `timing.csv`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimesRow {
    /// Which process, from 0.
    pub rank: u64,
    /// Counted from 1.
    pub epoch: u64,
    /// [`Times::read_s`].
    pub read_s: f64,
    /// [`Times::forward_s`].
    pub forward_s: f64,
    /// [`Times::backward_s`].
    pub backward_s: f64,
    /// [`Times::communicate_s`].
    pub communicate_s: f64,
    /// [`Times::step_s`].
    pub step_s: f64,
    /// [`Times::validate_s`].
    pub validate_s: f64,
    /// Crops that this rank trained on.
    pub images: u64,
    /// The same, a second of training.
    pub images_per_s: f64,
    /// The machine's name.
    pub host: String,
    /// What the network ran on.
    pub device: String,
}

/// The names of a `TimesRow`'s columns.
pub const TIMES_HEADER: [&str; 12] = [
    "rank",
    "epoch",
    "read_s",
    "forward_s",
    "backward_s",
    "communicate_s",
    "step_s",
    "validate_s",
    "images",
    "images_per_s",
    "host",
    "device",
];

impl TimesRow {
    /// The line of `rank` for `epoch`.
    pub fn new(rank: u64, epoch: u64, times: &Times, images: u64, host: &str, device: &str) -> Self {
        Self {
            rank,
            epoch,
            read_s: times.read_s,
            forward_s: times.forward_s,
            backward_s: times.backward_s,
            communicate_s: times.communicate_s,
            step_s: times.step_s,
            validate_s: times.validate_s,
            images,
            images_per_s: images as f64 / times.training_s().max(1e-9),
            host: host.to_owned(),
            device: device.to_owned(),
        }
    }
}

/// Puts the lines of one epoch into the table, in place of those of it and of later ones that an
/// interrupted run may have left.
///
/// # Errors
/// If the table cannot be read or written.
pub fn append_times(path: &Path, epoch: u64, rows: impl IntoIterator<Item = TimesRow>) -> Result<()> {
    let mut all: Vec<TimesRow> = if path.exists() { read_rows(path)? } else { Vec::new() };
    all.retain(|row| row.epoch < epoch);
    all.extend(rows);
    write_rows(path, &TIMES_HEADER, &all)
}
