//! A training step in Burn on the processor: the reference that the faster ones are held against.
//!
//! Batch norm takes its statistics over all replicas, so a step cannot be one graph of the framework: each
//! convolution with the pooling or doubling before it is a graph of its own, and the batch norm, ELU and dropout
//! between them are written out, forth and back.

use std::sync::mpsc::Sender;

use anyhow::{Context, Result, anyhow};
use burn::tensor::module::conv2d;
use burn::tensor::{Device, FloatDType, Tensor};

use super::burn_network::{elu, float, on, same};
use super::device::Chosen;
use super::direct::Dropout;
use super::layout::{BATCH_NORM_EPS, Unit, parameters, units, walk};
use super::loss::LossSums;
use super::replica::{Place, Replica, Share, Sums};
use crate::config::{NetworkSettings, Precision};
use crate::fault::WrongUsage;
use crate::fault::guarded;

/// The network in training on a device of the framework.
pub struct BurnReplica {
    network: NetworkSettings,
    units: Vec<Unit>,
    device: Device,
    precision: FloatDType,
    seed: u64,
    parts: Vec<Part>,
    head: Option<Head>,
    seen: Vec<f32>,
}

/// What a unit keeps for the way back.
struct Part {
    weight: Tensor<4>,
    /// The convolution's sums as the end of their graph.
    z: Tensor<4>,
    /// `[1, channels, 1, 1]`: the batch's mean, one over its standard deviation, gamma and beta.
    norm: [Tensor<4>; 4],
    keep: Option<Tensor<4>>,
    /// The unit's answer as the begin of the graphs that read it.
    y: Tensor<4>,
    /// Pixels that the statistics were taken over.
    pixels: f64,
}

struct Head {
    weight: Tensor<4>,
    bias: Tensor<1>,
    logits: Tensor<4>,
}

impl BurnReplica {
    /// A replica of `network` that convolves in `precision`; all else is f32.
    ///
    /// # Errors
    /// [`WrongUsage`] if the device cannot compute in it.
    pub fn new(network: &NetworkSettings, chosen: &Chosen, precision: Precision, seed: u64) -> Result<Self> {
        let dtype = float(precision);
        if !chosen.device.supports_dtype(dtype) {
            let message = format!("train.precision = {precision}: {} cannot compute in it", chosen.name);
            return Err(WrongUsage(message).into());
        }
        let units = units(&network.widths);
        let statistics = units.iter().map(|unit| 2 * unit.outputs).sum();
        Ok(Self {
            network: network.clone(),
            units,
            device: chosen.device.clone(),
            precision: dtype,
            seed,
            parts: Vec::new(),
            head: None,
            seen: vec![0.0; statistics],
        })
    }

    /// Unit `k` on what it reads, with its parameters and what its answer is multiplied with.
    fn unit(
        &mut self,
        x: Tensor<4>,
        [weight, bias, gamma, beta]: [&[f32]; 4],
        keep: Option<Tensor<4>>,
        sums: &dyn Sums,
    ) -> Result<Tensor<4>> {
        let Unit { inputs, outputs, .. } = self.units[self.parts.len()];
        let device = self.device.clone();
        let leaf = on(&device, weight.to_vec(), [outputs, inputs, 3, 3]).autodiff().require_grad();
        let bias = on(&device, bias.to_vec(), [outputs]).cast(self.precision);
        let sum = conv2d(x.cast(self.precision), leaf.clone().cast(self.precision), Some(bias), same(1));
        let z = sum.cast(FloatDType::F32);
        let values = z.clone().without_autodiff();
        let [images, _, rows, cols] = values.dims();
        let mut moments = channels(values.clone().sum_dims(&[0, 2, 3]))?;
        // Squares of the distances from this share's mean: exact where the mean is large.
        let pixels = (images * rows * cols) as f64;
        let own = column(&device, moments.iter().map(|sum| sum / pixels));
        let away = values.clone() - own;
        let squares = channels((away.clone() * away).sum_dims(&[0, 2, 3]))?;
        let about_zero = squares.iter().zip(&moments).map(|(q, sum)| q + sum * sum / pixels);
        let about_zero: Vec<f64> = about_zero.collect();
        moments.extend(about_zero);
        moments.push(pixels);
        sums.add(&mut moments)?;
        let pixels = moments[2 * outputs];
        let mean: Vec<f64> = moments[..outputs].iter().map(|sum| sum / pixels).collect();
        let squares = moments[outputs..2 * outputs].iter().zip(&mean);
        let variance: Vec<f64> = squares.map(|(q, mean)| (q / pixels - mean * mean).max(0.0)).collect();
        let at: usize = self.units[..self.parts.len()].iter().map(|unit| 2 * unit.outputs).sum();
        for (to, &v) in self.seen[at..].iter_mut().zip(mean.iter().chain(&variance)) {
            *to = v as f32;
        }
        let inverse = variance.iter().map(|v| 1.0 / (v + BATCH_NORM_EPS).sqrt());
        let floats = |values: &[f32]| column(&device, values.iter().map(|&v| f64::from(v)));
        let norm =
            [column(&device, mean.iter().copied()), column(&device, inverse), floats(gamma), floats(beta)];
        let y = elu(normed(&values, &norm) * norm[2].clone() + norm[3].clone());
        let y = match &keep {
            Some(keep) => y * keep.clone(),
            None => y,
        };
        let y = y.autodiff().require_grad();
        self.parts.push(Part { weight: leaf, z, norm, keep, y: y.clone(), pixels });
        Ok(y)
    }

    /// What the answers of unit `unit` are multiplied with, `[images, channels, side, side]`.
    fn keep(&self, unit: usize, place: Place, images: usize, side: usize) -> Option<Tensor<4>> {
        let drawn = Dropout::new(self.seed, place.step, self.network.dropout);
        drawn.is_on().then(|| {
            let channels = self.units[unit].outputs;
            let keep = drawn.planes(place.first_crop, unit, [images, channels, side]);
            on(&self.device, keep, [images, channels, side, side])
        })
    }

    /// The slopes of unit `k`'s sums from those of its answer, and its batch norm's gradient: gamma's and beta's.
    fn unit_back(&self, k: usize, slope: Tensor<4>, sums: &dyn Sums) -> Result<(Tensor<4>, Vec<f64>)> {
        let Part { z, norm, keep, pixels, .. } = &self.parts[k];
        let values = z.clone().without_autodiff();
        let normed = normed(&values, norm);
        let shifted = normed.clone() * norm[2].clone() + norm[3].clone();
        // 1 above zero, the exponential below.
        let rise = shifted.clamp_max(0.0).exp();
        let slope = match keep {
            Some(keep) => slope * keep.clone(),
            None => slope,
        };
        let slope = slope * rise;
        let beta = channels(slope.clone().sum_dims(&[0, 2, 3]))?;
        let gamma = channels((slope.clone() * normed.clone()).sum_dims(&[0, 2, 3]))?;
        let own = [gamma.clone(), beta.clone()].concat();
        let mut all = own.clone();
        sums.add(&mut all)?;
        let share = |half: &[f64]| column(&self.device, half.iter().map(|sum| sum / pixels));
        let (gammas, betas) = all.split_at(gamma.len());
        let centred = slope - share(betas) - normed * share(gammas);
        Ok((centred * norm[2].clone() * norm[1].clone(), own))
    }
}

impl Replica for BurnReplica {
    fn forward(&mut self, values: &[f32], share: Share<'_>, sums: &dyn Sums) -> Result<LossSums> {
        let Share { crops, place, loss, .. } = share;
        let (side, images, levels) = (crops.side_px, crops.count(), self.network.widths.len());
        self.parts.clear();
        let mut rest = values;
        let mut shapes = parameters(&self.network.widths).into_iter();
        let mut next = || -> &[f32] {
            let count = shapes.next().map_or(0, |(_, shape)| shape.iter().product());
            let (mine, others) = rest.split_at(count);
            rest = others;
            mine
        };
        guarded(|| {
            let input = crops.pixels.iter().map(|&v| f32::from(v) / 255.0).collect();
            let input = on(&self.device, input, [images, 1, side, side]).autodiff();
            let mut failed = None;
            let x = walk(levels, input, |k, x| {
                let own = [next(), next(), next(), next()];
                if failed.is_some() {
                    return x;
                }
                let keep = self.keep(k, place, images, x.dims()[2]);
                self.unit(x.clone(), own, keep, sums).unwrap_or_else(|why| {
                    failed = Some(why);
                    x
                })
            });
            if let Some(why) = failed {
                return Err(why);
            }
            let (weight, bias) = (next(), next());
            let weight = on(&self.device, weight.to_vec(), [1, weight.len(), 1, 1]).autodiff().require_grad();
            let bias = on(&self.device, bias.to_vec(), [1]).autodiff().require_grad();
            let logits = conv2d(x, weight.clone(), Some(bias.clone()), same(0));
            let answer = floats(logits.clone().without_autodiff())?;
            self.head = Some(Head { weight, bias, logits });
            Ok(loss.sums(&answer, crops))
        })
    }

    fn backward(
        &mut self,
        Share { crops, loss, scale, .. }: Share<'_>,
        total: LossSums,
        sums: &dyn Sums,
        found: &Sender<Vec<f32>>,
    ) -> Result<()> {
        let Head { weight, bias, logits } = self.head.take().context("backward without forward")?;
        guarded(|| {
            let slopes = loss.slopes(&floats(logits.clone().without_autodiff())?, crops, total, scale);
            let slopes = on(&self.device, slopes, logits.dims());
            let mut gradients = (logits * slopes.autodiff()).sum().backward();
            let lost = || anyhow!("a parameter has no gradient");
            let mut head = vec![
                floats(weight.grad_remove(&mut gradients).ok_or_else(lost)?)?,
                floats(bias.grad_remove(&mut gradients).ok_or_else(lost)?)?,
            ];
            let mut back: Vec<Option<Tensor<4>>> = vec![None; self.parts.len()];
            for k in (0..self.parts.len()).rev() {
                collect(&self.parts[..=k], &mut gradients, &mut back);
                let slope = back[k].take().ok_or_else(lost)?;
                let (slope, norm) = self.unit_back(k, slope, sums)?;
                let part = &self.parts[k];
                gradients = (part.z.clone() * slope.autodiff()).sum().backward();
                let weight = floats(part.weight.grad_remove(&mut gradients).ok_or_else(lost)?)?;
                let norm: Vec<f32> = norm.into_iter().map(|v| v as f32).collect();
                // Batch norm takes the convolution's bias away again.
                let own = [vec![weight, vec![0.0; norm.len() / 2], norm], std::mem::take(&mut head)];
                found.send(own.concat().concat())?;
            }
            Ok(())
        })
    }

    fn seen(&self) -> &[f32] {
        &self.seen
    }
}

/// Adds what one graph found for the answers it began from to what others did.
fn collect(parts: &[Part], gradients: &mut burn::tensor::Gradients, back: &mut [Option<Tensor<4>>]) {
    for (part, back) in parts.iter().zip(back) {
        if let Some(slope) = part.y.grad_remove(gradients) {
            *back = Some(match back.take() {
                Some(others) => others + slope,
                None => slope,
            });
        }
    }
}

fn normed(values: &Tensor<4>, norm: &[Tensor<4>; 4]) -> Tensor<4> {
    (values.clone() - norm[0].clone()) * norm[1].clone()
}

/// A value a channel, as `[1, channels, 1, 1]`.
fn column(device: &Device, values: impl Iterator<Item = f64>) -> Tensor<4> {
    let values: Vec<f32> = values.map(|v| v as f32).collect();
    let channels = values.len();
    on(device, values, [1, channels, 1, 1])
}

fn channels(tensor: Tensor<4>) -> Result<Vec<f64>> {
    Ok(floats(tensor)?.into_iter().map(f64::from).collect())
}

fn floats<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    let data = tensor.try_into_data().map_err(|why| anyhow!("{why:?}"))?;
    data.try_to_vec().map_err(|why| anyhow!("{why:?}"))
}
