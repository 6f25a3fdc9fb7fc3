//! A step of training on one device or several: gradients are flat f32, added up over the replicas.
//!
//! Parameters move on the host, the same for every replica; on the device where there is one replica only and it can
//! keep them.

use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use anyhow::{Result, anyhow, ensure};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::burn_replica::BurnReplica;
use super::crops::CropBatch;
use super::descent::{Descent, Parameters, kernels};
use super::device::Chosen;
use super::direct::DirectReplica;
use super::gang::{Gang, Member};
use super::gpu::GpuReplica;
use super::loss::Loss;
use super::replica::{Alone, Beyond, Kept, Place, Replica, Share, Sums};
use crate::config::{NetworkSettings, Precision};
use crate::fault::WrongUsage;

/// Batch norm's running statistics take this share of each batch, as the peers' network does.
const STATISTICS_MOMENTUM: f32 = 0.01;

/// What a batch gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Slope {
    /// The loss of the whole batch.
    pub loss: f32,
    /// The loss's gradient, in the order of [`super::layout::parameters`]; none where it overflowed in half
    /// precision: such a step is left out.
    pub gradient: Option<Vec<f32>>,
    /// Where the time went.
    pub seconds: StepSeconds,
}

/// What a step found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepOutcome {
    /// The loss of the whole batch.
    pub loss: f32,
    /// Of the parameters, before they moved.
    pub penalty: f64,
    /// Whether they moved: not where the gradient overflowed in half precision.
    pub moved: bool,
    /// Where the time went.
    pub seconds: StepSeconds,
}

/// Where a step's time went, as the first replica saw it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepSeconds {
    /// Crops to logits and loss.
    pub forward: f64,
    /// Loss to gradient; the whole step, where the parameters stay on a device, which nobody waits for on the way.
    pub backward: f64,
    /// Waiting for other replicas and adding up with them.
    pub communicate: f64,
    /// Moving the parameters on the host.
    pub step: f64,
}

/// How the network is trained, whatever it is trained on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Regime {
    /// What is made small.
    pub loss: Loss,
    /// Whether each replica normalises by its own share of the batch, as Keras does, and not by the whole.
    pub local_statistics: bool,
    /// What the convolutions are computed in; batch norm and the loss are f32 always.
    pub precision: Precision,
    /// Of what is drawn on the way.
    pub seed: u64,
}

/// Slopes of the loss are made larger before they go through convolutions in half precision, where small
/// numbers are lost: halved when a gradient overflows, doubled after so many steps without.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LossScale {
    /// What slopes are multiplied with.
    pub factor: f64,
    /// Steps since it changed.
    pub steps: u64,
}

impl LossScale {
    const GROW_AFTER_STEPS: u64 = 1000;
    const MOST: f64 = 16_777_216.0;

    /// To begin with.
    pub fn new(precision: Precision) -> Self {
        Self { factor: if precision == Precision::F16 { 1024.0 } else { 1.0 }, steps: 0 }
    }

    /// Takes the factor out of `gradient`; says whether that can be used.
    fn undo(&mut self, gradient: &mut [f32], precision: Precision) -> bool {
        let usable = gradient.par_iter().all(|v| v.is_finite());
        if usable && self.factor != 1.0 {
            let by = (1.0 / self.factor) as f32;
            gradient.par_iter_mut().for_each(|v| *v *= by);
        }
        self.see(usable, precision);
        usable
    }

    /// Goes on after a gradient that was `usable` or overflowed.
    fn see(&mut self, usable: bool, precision: Precision) {
        self.steps += 1;
        if !usable {
            *self = Self { factor: (self.factor / 2.0).max(1.0), steps: 0 };
        } else if precision == Precision::F16 && self.steps == Self::GROW_AFTER_STEPS {
            *self = Self { factor: (self.factor * 2.0).min(Self::MOST), steps: 0 };
        }
    }
}

/// The network in training on the devices of one process.
pub struct Trainer {
    replicas: Vec<Box<dyn Replica>>,
    regime: Regime,
    kernels: Vec<Range<usize>>,
    parameters: Parameters,
    /// Whether a device has the parameters, and whether those of the host are older.
    placed: bool,
    stale: bool,
    /// Running mean and variance of each unit's batch norm, flat, in the order of [`super::layout::statistics`].
    pub statistics: Vec<f32>,
    /// Of half precision.
    pub scale: LossScale,
}

impl Trainer {
    /// A trainer with a replica on each of `devices`, from given parameters and running statistics on.
    ///
    /// # Errors
    /// If a device cannot be used.
    pub fn new(
        network: &NetworkSettings,
        devices: &[Chosen],
        regime: Regime,
        parameters: Parameters,
        statistics: Vec<f32>,
    ) -> Result<Self> {
        ensure!(!devices.is_empty(), "no device to train on");
        let processors = devices.iter().filter(|device| device.is_cpu).count();
        let replica = |chosen: &Chosen| -> Result<Box<dyn Replica>> {
            Ok(if chosen.is_cpu {
                if regime.precision != Precision::F32 {
                    let message = format!("train.precision = {}: the CPU trains in f32", regime.precision);
                    return Err(WrongUsage(message).into());
                }
                Box::new(DirectReplica::new(network, regime.seed, processors)?)
            } else if chosen.is_processor() {
                Box::new(BurnReplica::new(network, chosen, regime.precision, regime.seed)?)
            } else {
                Box::new(GpuReplica::new(network, chosen, regime.precision, regime.seed)?)
            })
        };
        let replicas = devices.iter().map(replica).collect::<Result<_>>()?;
        Ok(Self {
            replicas,
            regime,
            kernels: kernels(&network.widths),
            parameters,
            placed: false,
            stale: false,
            statistics,
            scale: LossScale::new(regime.precision),
        })
    }

    /// The parameters as the last step has left them.
    ///
    /// # Errors
    /// If the device that keeps them is lost.
    pub fn parameters(&mut self) -> Result<&Parameters> {
        if self.stale
            && let Some(keeper) = self.replicas[0].keeper()
        {
            keeper.give(&mut self.parameters)?;
            self.stale = false;
        }
        Ok(&self.parameters)
    }

    /// Takes a step down on a batch of which this process holds `crops` and others, with which `beyond` adds up, the rest.
    ///
    /// # Errors
    /// As [`Self::slope`].
    pub fn step(
        &mut self,
        descent: &Descent,
        crops: &CropBatch,
        place: Place,
        beyond: &dyn Beyond,
    ) -> Result<StepOutcome> {
        if let [replica] = self.replicas.as_mut_slice()
            && beyond.alone()
            && let Some(keeper) = replica.keeper()
        {
            if !self.placed {
                keeper.take(&self.parameters)?;
                self.placed = true;
            }
            let began = Instant::now();
            let share = Share { crops, place, loss: self.regime.loss, scale: self.scale.factor };
            let Kept { sums, moved, squares } = keeper.step(share, descent)?;
            self.stale = true;
            let loss = checked(self.regime.loss.value(sums))?;
            self.see();
            self.scale.see(moved, self.regime.precision);
            let penalty = if moved { descent.l2 * squares } else { 0.0 };
            let seconds = StepSeconds { backward: began.elapsed().as_secs_f64(), ..StepSeconds::default() };
            return Ok(StepOutcome { loss, penalty, moved, seconds });
        }
        self.parameters()?;
        let values = std::mem::take(&mut self.parameters.values);
        let slope = self.slope(&values, crops, place, beyond);
        self.parameters.values = values;
        let Slope { loss, gradient, mut seconds } = slope?;
        let began = Instant::now();
        let take = |gradient: &Vec<f32>| descent.take(&mut self.parameters, gradient, &self.kernels);
        let penalty = gradient.as_ref().map_or(0.0, take);
        seconds.step = began.elapsed().as_secs_f64();
        Ok(StepOutcome { loss, penalty, moved: gradient.is_some(), seconds })
    }

    /// Loss and gradient at `values`, flat in the order of [`super::layout::parameters`], of a batch as of [`Self::step`];
    /// updates the running statistics.
    ///
    /// # Errors
    /// If a device is lost, there are fewer crops than replicas, or the loss is not finite.
    pub fn slope(
        &mut self,
        values: &[f32],
        crops: &CropBatch,
        place: Place,
        beyond: &dyn Beyond,
    ) -> Result<Slope> {
        self.parameters()?;
        self.placed = false;
        let (count, replicas) = (crops.count(), self.replicas.len());
        ensure!(count >= replicas, "a batch of {count} crops for {replicas} replicas: raise [train] batch");
        let gang = Gang::new(replicas, beyond);
        let (regime, scale) = (self.regime, self.scale.factor);
        let loss = regime.loss;
        let (senders, pieces): (Vec<_>, Vec<_>) = (0..replicas).map(|_| channel()).unzip();
        let (shares, gradient, waited) = std::thread::scope(|scope| {
            let gradient = scope.spawn(|| beyond.add_gradient(values.len(), &mut added(pieces)));
            let mut threads = Vec::new();
            let mut shares = Vec::new();
            for (k, (replica, found)) in self.replicas.iter_mut().zip(senders).enumerate() {
                let range = k * count / replicas..(k + 1) * count / replicas;
                let member = gang.member(k);
                let place = Place { first_crop: place.first_crop + range.start as u64, ..place };
                let run = move || {
                    let share = Share { crops: &crops.part(range), place, loss, scale };
                    go(replica.as_mut(), regime.local_statistics, values, share, (member, found))
                };
                if replicas == 1 {
                    shares.push(run());
                } else {
                    threads.push(scope.spawn(run));
                }
            }
            let failed = |_| Err(anyhow!("a replica's thread failed"));
            shares.extend(threads.into_iter().map(|thread| thread.join().unwrap_or_else(failed)));
            let began = Instant::now();
            (shares, gradient.join(), began.elapsed().as_secs_f64())
        });
        let shares = shares.into_iter().collect::<Result<Vec<Done>>>()?;
        let mut first = shares.into_iter().next().ok_or_else(|| anyhow!("no device to train on"))?;
        let mut gradient = gradient.map_err(|_| anyhow!("the thread that adds gradients up failed"))?;
        first.seconds.communicate = gang.spent_s() + waited;
        let loss = checked(first.loss)?;
        self.see();
        let usable = self.scale.undo(&mut gradient, regime.precision);
        Ok(Slope { loss, gradient: usable.then_some(gradient), seconds: first.seconds })
    }

    /// Moves the running statistics on.
    fn see(&mut self) {
        for (kept, seen) in self.statistics.iter_mut().zip(self.replicas[0].seen()) {
            *kept += STATISTICS_MOMENTUM * (seen - *kept);
        }
    }
}

/// A loss that training can go on from.
fn checked(loss: f64) -> Result<f32> {
    ensure!(loss.is_finite(), "the loss is {loss}: lower [train] learning_rate, or look for a broken crop");
    Ok(loss as f32)
}

/// What one replica found.
struct Done {
    loss: f64,
    seconds: StepSeconds,
}

/// The replicas' pieces, added in the order of their numbers; ends where one of them does.
fn added(replicas: Vec<Receiver<Vec<f32>>>) -> impl Iterator<Item = Vec<f32>> {
    std::iter::from_fn(move || {
        let (first, others) = replicas.split_first()?;
        let mut sums = first.recv().ok()?;
        for other in others {
            sums.iter_mut().zip(other.recv().ok()?).for_each(|(sum, v)| *sum += v);
        }
        Some(sums)
    })
}

fn go(
    replica: &mut dyn Replica,
    local_statistics: bool,
    values: &[f32],
    share: Share<'_>,
    (member, found): (Member<'_>, Sender<Vec<f32>>),
) -> Result<Done> {
    let normalised: &dyn Sums = if local_statistics { &Alone } else { &member };
    let began = Instant::now();
    let mut total = replica.forward(values, share, normalised)?;
    member.add(&mut total)?;
    // Of work alone: waiting for the others is told apart.
    let (forward, waited) = (began.elapsed().as_secs_f64(), member.spent_s());
    replica.backward(share, total, normalised, &found)?;
    let backward = began.elapsed().as_secs_f64() - forward - (member.spent_s() - waited);
    let forward = forward - waited;
    member.done();
    let seconds = StepSeconds { forward, backward, ..StepSeconds::default() };
    Ok(Done { loss: share.loss.value(total), seconds })
}
