//! One device's share of a training step, and what the devices tell each other on the way.

use std::sync::mpsc::Sender;

use anyhow::Result;

use super::crops::CropBatch;
use super::descent::{Descent, Parameters};
use super::loss::{Loss, LossSums};
use crate::ranks::joined;

/// Adds up over all replicas of a step; every one of them gets the sums.
pub trait Sums: Sync {
    /// Replaces `values` by their sums over the replicas. All call it with as many values, in the same order.
    ///
    /// # Errors
    /// If another replica failed.
    fn add(&self, values: &mut [f64]) -> Result<()>;

    /// Whether there is one replica only: [`Self::add`] then need not be called.
    fn alone(&self) -> bool;
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

/// A replica's share of a step.
#[derive(Clone, Copy, Debug)]
pub struct Share<'a> {
    /// What it is shown.
    pub crops: &'a CropBatch,
    /// Where that stands in the run.
    pub place: Place,
    /// What is made small.
    pub loss: Loss,
    /// What slopes are multiplied with on their way back.
    pub scale: f64,
}

/// The network in training on one device: a step goes forth, then back.
pub trait Replica: Send {
    /// The loss's sums over its share of the batch at `values`, flat in the order of [`super::layout::parameters`].
    /// Batch norm takes its statistics over all that `sums` adds up.
    ///
    /// # Errors
    /// If the device is lost, or another replica failed.
    fn forward(&mut self, values: &[f32], share: Share<'_>, sums: &dyn Sums) -> Result<LossSums>;

    /// Sends this share's part of the loss's gradient, times the scale, to `found`, from the loss's sums over the whole
    /// batch after [`Self::forward`]: a unit's parameters as soon as they are known, from the last unit, with the head,
    /// to the first. A convolution's bias has none: batch norm takes it away again.
    ///
    /// # Errors
    /// If the device is lost, or another replica failed.
    fn backward(
        &mut self,
        share: Share<'_>,
        total: LossSums,
        sums: &dyn Sums,
        found: &Sender<Vec<f32>>,
    ) -> Result<()>;

    /// Mean and variance of each unit's batch norm over the last batch, in the order of
    /// [`super::layout::statistics`].
    fn seen(&self) -> &[f32];

    /// Itself, if parameters can stay on its device from step to step.
    fn keeper(&mut self) -> Option<&mut dyn Keeper> {
        None
    }
}

/// A replica that is alone, and keeps the parameters and moves them itself.
pub trait Keeper {
    /// Takes parameters over.
    ///
    /// # Errors
    /// If the device is lost.
    fn take(&mut self, parameters: &Parameters) -> Result<()>;

    /// A step on the parameters that it keeps.
    ///
    /// # Errors
    /// If the device is lost.
    fn step(&mut self, share: Share<'_>, descent: &Descent) -> Result<Kept>;

    /// The parameters that it keeps, into as many.
    ///
    /// # Errors
    /// If the device is lost.
    fn give(&mut self, parameters: &mut Parameters) -> Result<()>;
}

/// What a step of a [`Keeper`] found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Kept {
    /// Of the loss.
    pub sums: LossSums,
    /// Whether the parameters moved: not where the gradient overflowed.
    pub moved: bool,
    /// Of the kernels, before they moved.
    pub squares: f64,
}
