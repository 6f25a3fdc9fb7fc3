//! The history of a run: a line an epoch, which of them was the best, and from where on it overfits.

use std::path::Path;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use crate::table::{read_rows, write_rows};

/// Epochs after the best one before a rise is called overfitting.
const LEAST_EPOCHS: usize = 3;

/// One line of `history.csv`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// Counted from 1.
    pub epoch: u64,
    /// Steps so far.
    pub steps: u64,
    /// Crops so far.
    pub images: u64,
    /// Step size at the end.
    pub learning_rate: f64,
    /// Mean loss of the epoch's steps, penalty included.
    pub train_loss: f64,
    /// The same without the penalty.
    pub train_loss_without_penalty: f64,
    /// Mean binary cross-entropy of the validation crops, whatever the loss in training.
    pub validation_loss: f32,
    /// Mean squared error of the validation crops, %.
    pub validation_mse_percent: f64,
    /// The same for a network that predicts nothing, %.
    pub nothing_mse_percent: f64,
    /// Crops a second of training.
    pub images_per_s: f64,
    /// Seconds of training and validation so far, all sessions.
    pub seconds: f64,
    /// Whether its validation loss is the lowest of all lines.
    pub best: bool,
}

/// The names of an [`Epoch`]'s columns.
pub const EPOCH_HEADER: [&str; 12] = [
    "epoch",
    "steps",
    "images",
    "learning_rate",
    "train_loss",
    "train_loss_without_penalty",
    "validation_loss",
    "validation_mse_percent",
    "nothing_mse_percent",
    "images_per_s",
    "seconds",
    "best",
];

/// All epochs of a run so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// In order, the first one numbered 1.
    #[serde(default)]
    pub epochs: Vec<Epoch>,
}

impl History {
    /// The first `count` lines of a table: later ones were left by a run that was killed before its checkpoint.
    ///
    /// # Errors
    /// If there are fewer, or they cannot be read.
    pub fn load(path: &Path, count: u64) -> Result<Self> {
        if count == 0 {
            return Ok(Self::default());
        }
        let mut epochs: Vec<Epoch> = read_rows(path)?;
        epochs.truncate(count as usize);
        let found = epochs.last().map_or(0, |epoch| epoch.epoch);
        ensure!(
            found == count && epochs.len() as u64 == count,
            "{} does not have the {count} epochs of the checkpoint beside it: choose another --out",
            path.display()
        );
        // Of the lines that are left another one may be the best.
        let mut history = Self::default();
        for epoch in epochs {
            history.push(epoch);
        }
        Ok(history)
    }

    /// Takes in an epoch; whether it is the best one so far.
    pub fn push(&mut self, mut epoch: Epoch) -> bool {
        epoch.best = self.epochs.iter().all(|earlier| epoch.validation_loss < earlier.validation_loss);
        let is_best = epoch.best;
        if is_best {
            self.epochs.iter_mut().for_each(|earlier| earlier.best = false);
        }
        self.epochs.push(epoch);
        is_best
    }

    /// Writes the table.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        write_rows(path, &EPOCH_HEADER, &self.epochs)
    }

    /// The epoch of the lowest validation loss.
    pub fn best(&self) -> Option<&Epoch> {
        self.epochs.iter().find(|epoch| epoch.best)
    }

    /// The first epoch whose validation loss is `loss` or lower.
    pub fn reached(&self, loss: f32) -> Option<&Epoch> {
        self.epochs.iter().find(|epoch| epoch.validation_loss <= loss)
    }

    /// First and last epoch of overfitting: from the best one to the last, if between them the validation loss
    /// rises while the training loss falls (by the slopes of straight lines through both).
    pub fn overfitting(&self) -> Option<(u64, u64)> {
        let from = self.epochs.iter().position(|epoch| epoch.best)?;
        let after = &self.epochs[from..];
        let trained: Vec<f64> = after.iter().map(|epoch| epoch.train_loss_without_penalty).collect();
        let checked: Vec<f64> = after.iter().map(|epoch| f64::from(epoch.validation_loss)).collect();
        let overfits = after.len() > LEAST_EPOCHS && slope(&trained) < 0.0 && slope(&checked) > 0.0;
        overfits.then(|| (after[0].epoch, after[after.len() - 1].epoch))
    }
}

/// Slope of the straight line through equally spaced values, up to a positive factor.
fn slope(values: &[f64]) -> f64 {
    let middle = (values.len() as f64 - 1.0) / 2.0;
    values.iter().enumerate().map(|(k, v)| (k as f64 - middle) * v).sum()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A history with given training and validation losses.
    pub fn history(losses: &[(f64, f32)]) -> History {
        let mut history = History::default();
        for (k, &(train_loss, validation_loss)) in losses.iter().enumerate() {
            history.push(Epoch {
                epoch: k as u64 + 1,
                steps: 10 * (k as u64 + 1),
                images: 320 * (k as u64 + 1),
                learning_rate: 1e-4,
                train_loss,
                train_loss_without_penalty: train_loss,
                validation_loss,
                validation_mse_percent: 1.0,
                nothing_mse_percent: 2.0,
                images_per_s: 10.0,
                seconds: 32.0 * (k as f64 + 1.0),
                best: false,
            });
        }
        history
    }

    #[test]
    fn one_epoch_is_the_best_and_lines_beyond_the_checkpoint_are_dropped() {
        let whole = history(&[(1.0, 0.9), (0.8, 0.7), (0.7, 0.7), (0.6, 0.8)]);
        let best: Vec<bool> = whole.epochs.iter().map(|epoch| epoch.best).collect();
        assert_eq!(best, [false, true, false, false]);
        assert_eq!(whole.reached(0.75).map(|epoch| epoch.epoch), Some(2));
        assert_eq!(whole.reached(0.6), None);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.csv");
        whole.save(&path).unwrap();
        assert_eq!(History::load(&path, 4).unwrap(), whole);
        assert_eq!(History::load(&path, 3).unwrap().epochs, whole.epochs[..3]);
        assert!(History::load(&path, 1).unwrap().epochs[0].best, "the best of those that are left");
        assert_eq!(History::load(&path, 0).unwrap(), History::default());
        assert!(History::load(&path, 5).unwrap_err().to_string().contains("5 epochs"));
    }

    #[test]
    fn overfitting_is_a_rise_beside_a_fall_and_lasts_some_epochs() {
        let overfitted = history(&[(1.0, 0.9), (0.8, 0.5), (0.7, 0.6), (0.6, 0.6), (0.5, 0.8), (0.4, 0.9)]);
        assert_eq!(overfitted.overfitting(), Some((2, 6)));
        assert_eq!(history(&[(1.0, 0.9), (0.8, 0.5), (0.7, 0.6)]).overfitting(), None, "too short");
        let both_rise = history(&[(0.5, 0.4), (0.6, 0.5), (0.7, 0.6), (0.8, 0.7), (0.9, 0.8)]);
        assert_eq!(both_rise.overfitting(), None);
        let both_fall = history(&[(0.9, 0.8), (0.8, 0.7), (0.7, 0.6), (0.6, 0.5)]);
        assert_eq!(both_fall.overfitting(), None);
    }
}
