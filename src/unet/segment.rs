//! The U-Net as a [`Segmenter`]: batch norm folded, probabilities rounded to 0..=255.

use anyhow::{Result, anyhow};
use burn::tensor::activation::sigmoid;
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, FloatDType, Tensor, TensorData};

use super::device::Chosen;
use super::layout::walk;
use super::weights::Weights;
use crate::config::Precision;
use crate::detect::{Segmenter, WindowBatch};
use crate::fault::{DeviceLost, WrongUsage, guarded};
use crate::tile::{halo_px, multiple_px};

/// The network on one device, ready to run.
pub struct UnetSegmenter {
    widths: Vec<usize>,
    device: Device,
    device_name: String,
    precision: FloatDType,
    units: Vec<(Tensor<4>, Tensor<1>)>,
    head: (Tensor<4>, Tensor<1>),
}

impl UnetSegmenter {
    /// Folds `weights` and puts them on the device, which computes all but the last step in `precision`.
    ///
    /// # Errors
    /// [`WrongUsage`] if it cannot; [`DeviceLost`] if the device fails.
    pub fn new(weights: &Weights, chosen: Chosen, precision: Precision) -> Result<Self> {
        let Chosen { device, name, .. } = chosen;
        let dtype = float(precision);
        if !device.supports_dtype(dtype) {
            return Err(
                WrongUsage(format!("scan.precision = {precision}: {name} cannot compute in it")).into()
            );
        }
        guarded(|| {
            let units = weights
                .folded()
                .into_iter()
                .map(|conv| {
                    let [inputs, outputs] = conv.channels;
                    let weight = on(&device, conv.weight, [outputs, inputs, 3, 3]);
                    (weight.cast(dtype), on(&device, conv.bias, [outputs]).cast(dtype))
                })
                .collect();
            let (weight, bias) = weights.head();
            let (shape, widths) = ([1, weight.len(), 1, 1], weights.widths().to_vec());
            let head =
                (on(&device, weight.to_vec(), shape).cast(dtype), on(&device, vec![bias], [1]).cast(dtype));
            Ok(Self { widths, device, device_name: name, precision: dtype, units, head })
        })
    }

    /// Probabilities, `[count, side, side]` in 0..=1, of network input of the same shape.
    ///
    /// # Errors
    /// [`DeviceLost`] if the device fails.
    pub fn probabilities(&self, count: usize, side_px: usize, pixels: &[u8]) -> Result<Vec<f32>> {
        let input = pixels.iter().map(|&v| f32::from(v) / 255.0).collect();
        guarded(|| {
            let x = on(&self.device, input, [count, 1, side_px, side_px]).cast(self.precision);
            let x = walk(self.widths.len(), x, |k, x| {
                let (weight, bias) = &self.units[k];
                elu(conv2d(x, weight.clone(), Some(bias.clone()), same(1)))
            });
            let x = conv2d(x, self.head.0.clone(), Some(self.head.1.clone()), same(0));
            let data = sigmoid(x.cast(FloatDType::F32)).try_into_data().map_err(|why| {
                let why = last_cause(&format!("{why:?}")).to_owned();
                let remedy =
                    format!("{count} windows of {side_px} px; fewer or smaller ones need less memory");
                DeviceLost(format!("{}: {why} ({remedy}: --batch, --window)", self.device_name))
            })?;
            data.try_to_vec::<f32>().map_err(|why| anyhow!("{why:?}"))
        })
    }
}

impl Segmenter for UnetSegmenter {
    fn halo_px(&self) -> u32 {
        halo_px(&self.widths)
    }

    fn multiple_px(&self) -> u32 {
        multiple_px(&self.widths)
    }

    fn device(&self) -> String {
        self.device_name.clone()
    }

    fn segment(&mut self, batch: &WindowBatch, probabilities: &mut [u8]) -> Result<()> {
        let window = batch.side_px * batch.side_px;
        // A short batch keeps its padding: the shape never changes, so no kernel is built twice.
        let answer = self.probabilities(batch.capacity(), batch.side_px, &batch.pixels)?;
        for (out, p) in probabilities[..batch.count * window].iter_mut().zip(answer) {
            *out = (p * 255.0 + 0.5) as u8;
        }
        Ok(())
    }
}

/// The innermost cause of the framework's many lines.
fn last_cause(text: &str) -> &str {
    let inner = text.rsplit_once("Caused by:").map_or(text, |(_, inner)| inner);
    inner.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or(text)
}

/// The framework's name of a precision.
pub(super) fn float(precision: Precision) -> FloatDType {
    match precision {
        Precision::F32 => FloatDType::F32,
        Precision::F16 => FloatDType::F16,
        Precision::Bf16 => FloatDType::BF16,
    }
}

/// `elu(x) = max(x, 0) + exp(min(x, 0)) - 1`: no exponential of a large number, so no gradient of 0 times infinity.
pub(super) fn elu(x: Tensor<4>) -> Tensor<4> {
    x.clone().clamp_min(0.0) + x.clamp_max(0.0).exp().sub_scalar(1.0)
}

/// Stride 1 with `padding` zeros on every side.
pub(super) fn same(padding: usize) -> ConvOptions<2> {
    ConvOptions::new([1, 1], [padding, padding], [1, 1], 1)
}

/// Values as a tensor of `shape` on `device`.
pub(super) fn on<const D: usize>(device: &Device, values: Vec<f32>, shape: [usize; D]) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), device)
}
