//! A 3x3 convolution's weights as the kernel wants them, seen from its input or from its output.

use std::ops::Range;

use rayon::prelude::*;

use super::kernel::{BLOCK, GROUP, Lanes, PLACE};
use crate::unet::weights::FoldedConv;

/// How the pixels that are read lie to those that are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Pixel upon pixel.
    Same,
    /// Each pixel read counts as four: the level below, seen from above.
    Doubled,
    /// Four pixels read for each one written: the way back of [`Scale::Doubled`].
    Halved,
}

/// The places of a row or column, of a doubled source, that meet its first and its second pixel.
const MEET: [[Range<usize>; 2]; 2] = [[0..1, 1..3], [0..2, 2..3]];
/// The places through which each of four fine pixels was reached from one coarse pixel.
const CAME: [Range<usize>; 4] = [2..3, 1..3, 0..2, 0..1];

impl Scale {
    /// The rows and columns of the 3x3 weights that are added for each place of the kernel.
    pub fn places(self) -> Vec<[Range<usize>; 2]> {
        match self {
            Self::Same => (0..9).map(|k| [k / 3..k / 3 + 1, k % 3..k % 3 + 1]).collect(),
            Self::Doubled => (0..16)
                .map(|k| [MEET[k / 8][k / 2 % 2].clone(), MEET[k / 4 % 2][k % 2].clone()])
                .collect(),
            Self::Halved => (0..16).map(|k| [CAME[k / 4].clone(), CAME[k % 4].clone()]).collect(),
        }
    }
}

/// Some input channels of a convolution, and one output block's weights for them.
pub struct Packed {
    /// Where they come from.
    pub scale: Scale,
    /// Their block.
    pub block: usize,
    /// The first of them in the block.
    pub first_lane: usize,
    /// How many they are.
    pub lanes: usize,
    /// [`PLACE`]s; of a doubled source those of even output rows, then those of odd ones.
    pub weights: Vec<f32>,
}

/// A convolution, packed.
pub struct Conv {
    /// `[output block][group]`.
    pub blocks: Vec<Vec<Packed>>,
    /// `[output block]`.
    pub bias: Vec<Lanes>,
}

impl Conv {
    /// `weights` is `[outputs, inputs, 3, 3]`; the first `doubled` input channels come from the level below.
    pub fn new(weights: &[f32], bias: &[f32], doubled: usize) -> Self {
        let inputs = weights.len() / 9 / bias.len();
        let sources = [(Scale::Doubled, 0..doubled), (Scale::Same, doubled..inputs)];
        let weight = |output: usize, input: usize, place: usize| weights[(output * inputs + input) * 9 + place];
        Self::pack(&sources, blocked(bias), bias.len(), weight)
    }

    /// Batch norm folded into it.
    pub fn folded(conv: &FoldedConv, doubled: usize) -> Self {
        Self::new(&conv.weight, &conv.bias, doubled)
    }

    /// The way back: from slopes of the `[outputs, inputs, 3, 3]` convolution's output to those of the `wanted`
    /// input channels, read at `scale`.
    pub fn back(weights: &[f32], outputs: usize, wanted: Range<usize>, scale: Scale) -> Self {
        let inputs = weights.len() / 9 / outputs;
        let channels = wanted.len();
        let bias = vec![[0.0; BLOCK]; channels.div_ceil(BLOCK)];
        // A halved source's places are those of the weights; on the same level they are turned by a half.
        let turned = |place: usize| if scale == Scale::Same { 8 - place } else { place };
        let weight = |output: usize, input: usize, place: usize| {
            weights[(input * inputs + wanted.start + output) * 9 + turned(place)]
        };
        Self::pack(&[(scale, 0..outputs)], bias, channels, weight)
    }

    fn pack(
        sources: &[(Scale, Range<usize>)],
        bias: Vec<Lanes>,
        outputs: usize,
        weight: impl Fn(usize, usize, usize) -> f32 + Sync,
    ) -> Self {
        let groups_for = |output: usize| {
            let mut groups = Vec::new();
            for (scale, inputs) in sources {
                let places = scale.places();
                for first in inputs.clone().step_by(GROUP) {
                    let channel = first - inputs.start;
                    let lanes = GROUP.min(inputs.end - first);
                    let mut weights = vec![0.0; places.len() * PLACE];
                    for (place, [rows, cols]) in weights.chunks_exact_mut(PLACE).zip(&places) {
                        for (lane, out) in place.chunks_exact_mut(BLOCK).take(lanes).enumerate() {
                            for (out, output) in out.iter_mut().zip(output * BLOCK..outputs) {
                                let met = rows.clone().flat_map(|r| cols.clone().map(move |c| 3 * r + c));
                                let sum: f64 = met.map(|p| f64::from(weight(output, first + lane, p))).sum();
                                *out = sum as f32;
                            }
                        }
                    }
                    let (block, first_lane) = (channel / BLOCK, channel % BLOCK);
                    groups.push(Packed { scale: *scale, block, first_lane, lanes, weights });
                }
            }
            groups
        };
        Self { blocks: (0..bias.len()).into_par_iter().map(groups_for).collect(), bias }
    }
}

/// Values a channel, as blocks; what fills the last one is 0.
pub fn blocked(values: &[f32]) -> Vec<Lanes> {
    let mut blocks = vec![[0.0; BLOCK]; values.len().div_ceil(BLOCK)];
    blocks.as_flattened_mut()[..values.len()].copy_from_slice(values);
    blocks
}
