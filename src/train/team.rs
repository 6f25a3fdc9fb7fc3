//! Who trains together: the devices of this process, and the ranks it was started with.

use std::ops::Range;

use anyhow::Result;

use crate::fault::WrongUsage;
use crate::job::StopRequest;
use crate::ranks::World;
use crate::unet::device::Chosen;
use crate::unet::replica::{Beyond, Sums};

/// A replica of the network on each of `devices`, on every rank of `world`: each has its share of the batch.
#[derive(Clone, Copy, Debug)]
pub struct Team<'a> {
    /// The ranks; rank 0 alone writes.
    pub world: &'a World,
    /// Of this rank, at least one.
    pub devices: &'a [Chosen],
}

impl Team<'_> {
    /// Whether this rank writes.
    pub fn writes(&self) -> bool {
        self.world.rank() == 0
    }

    /// Which of a batch's `count` crops are this rank's.
    ///
    /// # Errors
    /// [`WrongUsage`] if they are fewer than its devices.
    pub fn share(&self, count: usize) -> Result<Range<usize>> {
        let (rank, size) = (self.world.rank(), self.world.size());
        let share = rank * count / size..(rank + 1) * count / size;
        if share.len() < self.devices.len() {
            let message = format!(
                "train.batch = {count}: must be at least 1 for each device of each rank, and rank {rank} of {size} \
                 has {} devices for {} crops",
                self.devices.len(),
                share.len()
            );
            return Err(WrongUsage(message).into());
        }
        Ok(share)
    }

    /// What this rank's replicas run on, for logs and tables: equal ones counted.
    pub fn label(&self) -> String {
        let mut counts: Vec<(&str, usize)> = Vec::new();
        for device in self.devices {
            match counts.iter_mut().find(|(name, _)| *name == device.name) {
                Some((_, count)) => *count += 1,
                None => counts.push((&device.name, 1)),
            }
        }
        let one = |(name, count)| if count == 1 { str::to_owned(name) } else { format!("{count} x {name}") };
        counts.into_iter().map(one).collect::<Vec<_>>().join(", ")
    }

    /// Whether any rank was asked to stop: the same answer on each.
    pub fn stopped(&self, stop: &StopRequest) -> bool {
        self.world.agree(stop.asked().is_some())
    }

    /// The signal that asked the first rank which got one: the same answer on each, when all ask.
    pub fn stopped_by(&self, stop: &StopRequest) -> String {
        let signals = self.world.gather(stop.asked().unwrap_or_default());
        signals.into_iter().find(|signal| !signal.is_empty()).unwrap_or_default()
    }
}

impl Sums for Team<'_> {
    fn add(&self, values: &mut [f64]) -> Result<()> {
        self.world.sum_f64(values);
        Ok(())
    }

    fn alone(&self) -> bool {
        self.world.size() == 1
    }
}

impl Beyond for Team<'_> {
    fn add_gradient(&self, parameters: usize, pieces: &mut dyn Iterator<Item = Vec<f32>>) -> Vec<f32> {
        self.world.sum_pieces(parameters, pieces)
    }
}
