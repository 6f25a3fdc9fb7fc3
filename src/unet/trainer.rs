//! One step of training on one device: parameters come and gradients leave as flat f32.
//!
//! The parameters live outside, so that the optimiser is plain arithmetic and several devices could
//! average their gradients without the framework's help.

use anyhow::{Result, anyhow, ensure};
use burn::tensor::activation::log_sigmoid;
use burn::tensor::module::{batch_norm_train, conv2d};
use burn::tensor::{Device, Distribution, Tensor};

use super::device::Chosen;
use super::layout::{BATCH_NORM_EPS, parameters, units, walk};
use super::segment::{elu, guarded, on, same};
use crate::config::NetworkSettings;

/// Batch norm's running statistics take this share of each batch, as the peers' network does.
const STATISTICS_MOMENTUM: f32 = 0.01;

/// Crops and masks of one step.
#[derive(Clone, Debug)]
pub struct CropBatch {
    /// Side of a crop, px.
    pub side_px: usize,
    /// `[count, side, side]` network input, 0 = no data.
    pub pixels: Vec<u8>,
    /// `[count, side, side]`, non-zero = impact.
    pub mask: Vec<u8>,
}

/// What a step found.
#[derive(Clone, Debug)]
pub struct StepOutcome {
    /// Binary cross-entropy a pixel, plus one minus the soft Jaccard index of the batch.
    pub loss: f32,
    /// The loss's gradient, in the order of [`parameters`].
    pub gradient: Vec<f32>,
}

/// The network in training on one device.
pub struct Trainer {
    network: NetworkSettings,
    device: Device,
    /// Running mean and variance of each unit's batch norm, flat, in the order of `statistics`.
    pub statistics: Vec<f32>,
}

impl Trainer {
    /// A trainer with given running statistics.
    pub fn new(network: &NetworkSettings, chosen: Chosen, statistics: Vec<f32>, seed: u64) -> Self {
        chosen.device.seed(seed);
        Self { network: network.clone(), device: chosen.device, statistics }
    }

    /// Loss and gradient of `batch` at `values`, flat in the order of [`parameters`]; updates the running
    /// statistics.
    ///
    /// # Errors
    /// If the device is lost, or the loss is not finite.
    pub fn step(&mut self, values: &[f32], batch: &CropBatch) -> Result<StepOutcome> {
        let network = self.network.clone();
        let device = self.device.clone().autodiff();
        let statistics = &mut self.statistics;
        let outcome = guarded(|| {
            let leaves = Leaves::new(&network.widths, values, &device);
            let mut seen = Vec::new();
            let logits = forward(&network, &leaves, &device, batch, &mut seen);
            let loss = loss(logits, &device, batch);
            let mut gradients = loss.backward();
            let gradient = leaves.gradient(&mut gradients)?;
            update(statistics, seen)?;
            Ok(StepOutcome { loss: floats(loss)?[0], gradient })
        })?;
        ensure!(
            outcome.loss.is_finite(),
            "the loss is {}: lower [train] learning_rate, or look for a broken crop",
            outcome.loss
        );
        Ok(outcome)
    }
}

/// The parameters as leaves of the graph.
struct Leaves {
    matrices: Vec<Tensor<4>>,
    vectors: Vec<Tensor<1>>,
    rank_4: Vec<bool>,
}

impl Leaves {
    fn new(widths: &[usize], mut values: &[f32], device: &Device) -> Self {
        let mut leaves = Self { matrices: Vec::new(), vectors: Vec::new(), rank_4: Vec::new() };
        for (_, shape) in parameters(widths) {
            let (mine, rest) = values.split_at(shape.iter().product());
            values = rest;
            leaves.rank_4.push(shape.len() == 4);
            if let [outputs, inputs, rows, cols] = shape[..] {
                let leaf = on(device, mine.to_vec(), [outputs, inputs, rows, cols]).require_grad();
                leaves.matrices.push(leaf);
            } else {
                leaves.vectors.push(on(device, mine.to_vec(), [mine.len()]).require_grad());
            }
        }
        leaves
    }

    fn gradient(&self, gradients: &mut burn::tensor::Gradients) -> Result<Vec<f32>> {
        let (mut matrices, mut vectors) = (self.matrices.iter(), self.vectors.iter());
        let mut flat = Vec::new();
        for &matrix in &self.rank_4 {
            let part = if matrix {
                matrices.next().and_then(|leaf| leaf.grad_remove(gradients)).map(floats)
            } else {
                vectors.next().and_then(|leaf| leaf.grad_remove(gradients)).map(floats)
            };
            flat.extend(part.ok_or_else(|| anyhow!("a parameter has no gradient"))??);
        }
        Ok(flat)
    }
}

/// Logits, `[count, 1, side, side]`; `seen` takes each unit's batch mean and variance.
fn forward(
    network: &NetworkSettings,
    leaves: &Leaves,
    device: &Device,
    batch: &CropBatch,
    seen: &mut Vec<[Tensor<1>; 2]>,
) -> Tensor<4> {
    let side = batch.side_px;
    let count = batch.pixels.len() / (side * side);
    let input = batch.pixels.iter().map(|&v| f32::from(v) / 255.0).collect();
    let x = walk(network.widths.len(), on(device, input, [count, 1, side, side]), |k, x| {
        // Each unit has one matrix and three vectors: bias, then batch norm's scale and shift.
        let [bias, gamma, beta] = [0, 1, 2].map(|part| leaves.vectors[3 * k + part].clone());
        let x = conv2d(x, leaves.matrices[k].clone(), Some(bias), same(1));
        let normed = batch_norm_train(x, gamma, beta, BATCH_NORM_EPS);
        seen.push([normed.mean, normed.variance]);
        dropout(elu(normed.output), network.dropout)
    });
    let unit_count = units(&network.widths).len();
    let head = leaves.matrices[unit_count].clone();
    conv2d(x, head, Some(leaves.vectors[3 * unit_count].clone()), same(0))
}

fn dropout(x: Tensor<4>, p: f64) -> Tensor<4> {
    if p == 0.0 {
        return x;
    }
    let kept = x.random_like(Distribution::Bernoulli(1.0 - p));
    x * kept.mul_scalar(1.0 / (1.0 - p))
}

/// Mean binary cross-entropy plus one minus the soft Jaccard index, over the pixels that are ground.
fn loss(logits: Tensor<4>, device: &Device, batch: &CropBatch) -> Tensor<1> {
    let shape = logits.dims();
    let plane = |values: Vec<f32>| on(device, values, shape);
    let truth = plane(batch.mask.iter().map(|&m| f32::from(u8::from(m != 0))).collect());
    let ground: Vec<f32> = batch.pixels.iter().map(|&v| f32::from(u8::from(v != 0))).collect();
    let ground_px = ground.iter().sum::<f32>().max(1.0);
    let ground = plane(ground);
    let yes = log_sigmoid(logits.clone());
    let no = yes.clone() - logits;
    let entropy = (truth.clone() * yes.clone() + (truth.clone().neg().add_scalar(1.0)) * no) * ground.clone();
    let p = yes.exp() * ground;
    let both = (p.clone() * truth.clone()).sum();
    let either = p.sum() + truth.sum() - both.clone();
    let jaccard = both.add_scalar(1.0) / either.add_scalar(1.0);
    entropy.sum().mul_scalar(-1.0 / ground_px) + jaccard.neg().add_scalar(1.0)
}

/// Moves the running statistics towards a batch's.
fn update(statistics: &mut [f32], seen: Vec<[Tensor<1>; 2]>) -> Result<()> {
    let mut at = 0;
    for tensor in seen.into_iter().flatten() {
        for value in floats(tensor)? {
            statistics[at] += STATISTICS_MOMENTUM * (value - statistics[at]);
            at += 1;
        }
    }
    Ok(())
}

fn floats<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    let data = tensor.try_into_data().map_err(|why| anyhow!("{why:?}"))?;
    data.try_to_vec().map_err(|why| anyhow!("{why:?}"))
}
