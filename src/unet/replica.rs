//! One device's share of a training step, and what the devices tell each other on the way.

use std::sync::mpsc::Sender;

use anyhow::Result;

use super::trainer::CropBatch;
use crate::ranks::joined;

/// Adds up over all replicas of a step; every one of them gets the sums.
pub trait Sums: Sync {
    /// Replaces `values` by their sums over the replicas. All call it with as many values, in the same order.
    ///
    /// # Errors
    /// If another replica failed.
    fn add(&self, values: &mut [f64]) -> Result<()>;

    /// Whether there is one replica only: [`Self::add`] then need not be called.
    fn alone(&self) -> bool {
        false
    }
}

/// Adds up over the processes of a step, of which this one is a part.
pub trait Beyond: Sums {
    /// The sums of a gradient of `parameters` values over the processes, while it is being found: it comes in
    /// pieces, the last values first, cut the same on every process.
    fn add_gradient(&self, parameters: usize, pieces: &mut dyn Iterator<Item = Vec<f32>>) -> Vec<f32>;
}

/// Where there is one replica only, or each keeps to its own statistics.
#[derive(Clone, Copy, Debug)]
pub struct Alone;

impl Sums for Alone {
    fn add(&self, _: &mut [f64]) -> Result<()> {
        Ok(())
    }

    fn alone(&self) -> bool {
        true
    }
}

impl Beyond for Alone {
    fn add_gradient(&self, _: usize, pieces: &mut dyn Iterator<Item = Vec<f32>>) -> Vec<f32> {
        joined(pieces)
    }
}

/// The place of a replica's crops in the run: what is drawn for a crop depends on it alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The step, counted from the run's begin.
    pub step: u64,
    /// Number, in the whole batch, of the replica's first crop.
    pub first_crop: u64,
}

/// The network in training on one device: a step goes forth, then back.
pub trait Replica: Send {
    /// Logits, `[count, side, side]`, of a share of the batch at `values`, flat in the order of
    /// [`super::layout::parameters`]. Batch norm takes its statistics over all that `sums` adds up.
    ///
    /// # Errors
    /// If the device is lost, or another replica failed.
    fn forward(
        &mut self,
        values: &[f32],
        crops: &CropBatch,
        place: Place,
        sums: &dyn Sums,
    ) -> Result<Vec<f32>>;

    /// Sends this share's part of the loss's gradient to `found`, from the loss's slopes over the logits of the
    /// last [`Self::forward`]: a unit's parameters as soon as they are known, from the last unit, with the head,
    /// to the first. A convolution's bias has none: batch norm takes it away again.
    ///
    /// # Errors
    /// If the device is lost, or another replica failed.
    fn backward(&mut self, slopes: &[f32], sums: &dyn Sums, found: &Sender<Vec<f32>>) -> Result<()>;

    /// Mean and variance of each unit's batch norm over the last batch, in the order of
    /// [`super::layout::statistics`].
    fn seen(&self) -> &[f32];
}
