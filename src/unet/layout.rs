//! The U-Net's shape: which tensors it has, in PyTorch's names and order, and how a picture goes through.

use burn::tensor::Tensor;
use burn::tensor::module::{interpolate, max_pool2d};
use burn::tensor::ops::{InterpolateMode, InterpolateOptions, MaxPoolOptions};

/// Batch norm's epsilon, as in the network this replaces (Keras' default).
pub const BATCH_NORM_EPS: f64 = 1e-3;

/// One 3x3 convolution with its batch norm: half a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// `enc.0` or `dec.1`.
    pub block: String,
    /// 1 or 2: the block's first or second convolution.
    pub number: usize,
    /// Channels in.
    pub inputs: usize,
    /// Channels out.
    pub outputs: usize,
}

impl Unit {
    /// Name of a tensor of this unit, `enc.0.conv1.weight` say.
    pub fn tensor(&self, kind: &str, part: &str) -> String {
        format!("{}.{kind}{}.{part}", self.block, self.number)
    }
}

/// The units in the order a picture meets them: encoder down, decoder up.
pub fn units(widths: &[usize]) -> Vec<Unit> {
    let mut units = Vec::new();
    let mut block = |name: String, inputs: usize, outputs: usize| {
        for (number, inputs) in [(1, inputs), (2, outputs)] {
            units.push(Unit { block: name.clone(), number, inputs, outputs });
        }
    };
    let mut channels = 1;
    for (level, &width) in widths.iter().enumerate() {
        block(format!("enc.{level}"), channels, width);
        channels = width;
    }
    for (step, &width) in widths.iter().rev().skip(1).enumerate() {
        block(format!("dec.{step}"), channels + width, width);
        channels = width;
    }
    units
}

/// Floating-point operations that the 3x3 convolutions take for a pixel, as they are defined: a product and a sum are two.
pub fn flop_per_px(widths: &[usize]) -> f64 {
    let bottom = widths.len().saturating_sub(1);
    let of = |(k, unit): (usize, &Unit)| {
        let block = k / 2;
        18.0 * (unit.inputs * unit.outputs) as f64 / 4f64.powi(block.min(2 * bottom - block) as i32)
    };
    units(widths).iter().enumerate().map(of).sum()
}

/// Names and shapes of the tensors that training changes, in the order of the flat parameter vector.
pub fn parameters(widths: &[usize]) -> Vec<(String, Vec<usize>)> {
    let mut all = Vec::new();
    for unit in units(widths) {
        all.push((unit.tensor("conv", "weight"), vec![unit.outputs, unit.inputs, 3, 3]));
        all.push((unit.tensor("conv", "bias"), vec![unit.outputs]));
        all.push((unit.tensor("bn", "weight"), vec![unit.outputs]));
        all.push((unit.tensor("bn", "bias"), vec![unit.outputs]));
    }
    let last = widths.first().copied().unwrap_or(1);
    all.push(("head.weight".into(), vec![1, last, 1, 1]));
    all.push(("head.bias".into(), vec![1]));
    all
}

/// Names and shapes of the running statistics, two a unit.
pub fn statistics(widths: &[usize]) -> Vec<(String, Vec<usize>)> {
    let both = |unit: &Unit| {
        ["running_mean", "running_var"].map(|part| (unit.tensor("bn", part), vec![unit.outputs]))
    };
    units(widths).iter().flat_map(both).collect()
}

/// How many numbers those are: parameters, statistics.
pub fn lengths(widths: &[usize]) -> [usize; 2] {
    let count = |all: Vec<(String, Vec<usize>)>| all.iter().map(|one| one.1.iter().product::<usize>()).sum();
    [count(parameters(widths)), count(statistics(widths))]
}

/// Sends `x`, `[batch, 1, rows, cols]` in 0..=1, through the levels: `unit(k, x)` is the k-th of [`units`]
/// with all that follows its convolution. Gives the last block's `[batch, widths[0], rows, cols]`.
///
/// The one description of how the network is wired, for training and inference alike.
pub fn walk(levels: usize, x: Tensor<4>, mut unit: impl FnMut(usize, Tensor<4>) -> Tensor<4>) -> Tensor<4> {
    let mut next = 0;
    let mut block = |x: Tensor<4>| {
        let x = unit(next, x);
        let x = unit(next + 1, x);
        next += 2;
        x
    };
    let mut skips = Vec::new();
    let mut x = block(x);
    for _ in 1..levels {
        skips.push(x.clone());
        x = block(halve(x));
    }
    while let Some(skip) = skips.pop() {
        x = block(Tensor::cat(vec![double(x), skip], 1));
    }
    x
}

fn halve(x: Tensor<4>) -> Tensor<4> {
    max_pool2d(x, MaxPoolOptions::new([2, 2]).with_stride([2, 2]))
}

fn double(x: Tensor<4>) -> Tensor<4> {
    interpolate(x, InterpolateOptions::new(InterpolateMode::Nearest).with_scale_factor([2.0, 2.0]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameter_counts_are_those_of_the_design() {
        assert_eq!(lengths(&[32, 64, 128])[0], 472_257);
        assert_eq!(lengths(&[32, 64, 128, 256, 512])[0], 7_851_969);
    }

    #[test]
    fn two_levels_take_what_one_counts_by_hand() {
        let fine = 3 + 3 * 3 + (5 + 3) * 3 + 3 * 3;
        let coarse = 3 * 5 + 5 * 5;
        assert_eq!(flop_per_px(&[3, 5]), 18.0 * (f64::from(fine) + f64::from(coarse) / 4.0));
    }
}
