//! The network through the framework, on the CPU: slow, and what the paths without it are held to.

use anyhow::{Result, anyhow};
use burn::tensor::activation::sigmoid;
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, FloatDType, Tensor, TensorData};

use super::layout::walk;
use super::weights::Weights;
use crate::config::Precision;

/// The network in f32.
pub struct BurnNetwork {
    levels: usize,
    device: Device,
    units: Vec<(Tensor<4>, Tensor<1>)>,
    head: (Tensor<4>, Tensor<1>),
}

impl BurnNetwork {
    /// Folds `weights`.
    pub fn new(weights: &Weights) -> Self {
        let device = Device::flex();
        let units = weights.folded().into_iter().map(|conv| {
            let [inputs, outputs] = conv.channels;
            (on(&device, conv.weight, [outputs, inputs, 3, 3]), on(&device, conv.bias, [outputs]))
        });
        let units = units.collect();
        let (weight, bias) = weights.head();
        let head = (on(&device, weight.to_vec(), [1, weight.len(), 1, 1]), on(&device, vec![bias], [1]));
        Self { levels: weights.widths().len(), device, units, head }
    }

    /// Probabilities, `[count, side, side]` in 0..=1, of network input of the same shape.
    ///
    /// # Errors
    /// If the framework fails.
    pub fn probabilities(&self, side_px: usize, pixels: &[u8]) -> Result<Vec<f32>> {
        let input = pixels.iter().map(|&v| f32::from(v) / 255.0).collect();
        let count = pixels.len() / (side_px * side_px);
        let x = walk(self.levels, on(&self.device, input, [count, 1, side_px, side_px]), |k, x| {
            let (weight, bias) = &self.units[k];
            elu(conv2d(x, weight.clone(), Some(bias.clone()), same(1)))
        });
        let x = conv2d(x, self.head.0.clone(), Some(self.head.1.clone()), same(0));
        let data = sigmoid(x).try_into_data().map_err(|why| anyhow!("{why:?}"))?;
        data.try_to_vec::<f32>().map_err(|why| anyhow!("{why:?}"))
    }
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
