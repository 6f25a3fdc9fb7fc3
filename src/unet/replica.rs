//! One device's share of a training step, and what the devices tell each other on the way.

use anyhow::Result;

use super::trainer::CropBatch;

/// Adds up over all replicas of a step; every one of them gets the sums.
pub trait Sums: Sync {
    /// Replaces `values` by their sums over the replicas. All call it with as many values, in the same order.
    ///
    /// # Errors
    /// If another replica failed.
    fn add(&self, values: &mut [f64]) -> Result<()>;

    /// The same for a gradient.
    ///
    /// # Errors
    /// If another replica failed.
    fn add_gradient(&self, values: &mut [f32]) -> Result<()> {
        let mut exact: Vec<f64> = values.iter().map(|&v| f64::from(v)).collect();
        self.add(&mut exact)?;
        values.iter_mut().zip(exact).for_each(|(v, sum)| *v = sum as f32);
        Ok(())
    }
}

/// Where there is one replica only, or each keeps to its own statistics.
#[derive(Clone, Copy, Debug)]
pub struct Alone;

impl Sums for Alone {
    fn add(&self, _: &mut [f64]) -> Result<()> {
        Ok(())
    }

    fn add_gradient(&self, _: &mut [f32]) -> Result<()> {
        Ok(())
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

    /// This share's part of the loss's gradient, in the order of the parameters, from the loss's slopes over the
    /// logits of the last [`Self::forward`]. A convolution's bias has none: batch norm takes it away again.
    ///
    /// # Errors
    /// If the device is lost, or another replica failed.
    fn backward(&mut self, slopes: &[f32], sums: &dyn Sums) -> Result<Vec<f32>>;

    /// Mean and variance of each unit's batch norm over the last batch, in the order of
    /// [`super::layout::statistics`].
    fn seen(&self) -> &[f32];
}
