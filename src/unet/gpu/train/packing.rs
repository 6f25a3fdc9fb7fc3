//! A convolution's weights between the order of the parameters and those of the kernels.
// A kernel's `_type` is read where it is compiled, not where it runs.
#![allow(clippy::used_underscore_binding)]

use cubecl::prelude::*;

use super::norm::{UNITS, added};
use crate::unet::gpu::kernels::{Four, rounded, weights_stride};

/// Elements that a workgroup adds up the parts of.
const GATHERED: usize = 32;
/// Units for each of them.
pub const GATHERING: usize = UNITS / GATHERED;

/// The order of a convolution's packed weights, which is that of [`super::super::pack::Taps`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// `[chunk][output][tap][chunk's channels]`, of an output eight zeros more.
    Matrices { chunk: usize },
    /// `[chunk][outputs / block][tap][chunk's channels][block]`.
    Numbers { chunk: usize, block: usize },
}

impl Order {
    fn is_matrices(self) -> bool {
        matches!(self, Self::Matrices { .. })
    }

    /// Inputs that lie together.
    fn inputs(self) -> usize {
        match self {
            Self::Matrices { chunk } | Self::Numbers { chunk, .. } => chunk,
        }
    }

    /// Outputs that lie together, where they do.
    fn outputs(self) -> usize {
        match self {
            Self::Matrices { .. } => 1,
            Self::Numbers { block, .. } => block,
        }
    }
}

/// The channel that a padded one is, or one too large: `first` and `second` are a source's channels and those with their
/// padding.
#[cube]
fn unpadded(k: usize, first: usize, first_padded: usize, second: usize) -> usize {
    let none = 0x00ff_ffffusize;
    let of_second = select(k - first_padded < second, k - first_padded + first, none);
    let of_first = select(k < first, k, none);
    select(k < first_padded, of_first, of_second)
}

/// Input, output and tap of lane `lane` of an element of packed weights, of a convolution of `given` outputs; what has a
/// tap too large is padding.
#[cube]
fn place(
    element: usize,
    #[comptime] lane: usize,
    given: usize,
    #[comptime] order: Order,
) -> (usize, usize, usize) {
    let (inputs, outputs) = comptime!((order.inputs(), order.outputs()));
    if comptime!(order.is_matrices()) {
        let (fours, each) = comptime!((inputs / 4, 2 * weights_stride(inputs)));
        let (output, of_output) = (element / each, element % each);
        let input = output / given * inputs + of_output % fours * 4 + lane;
        (input, output % given, of_output / fours)
    } else {
        let rest = element / comptime!(outputs / 4);
        let (block, blocks) = (rest / comptime!(9 * inputs), given / outputs);
        let output = block % blocks * outputs + element % comptime!(outputs / 4) * 4 + lane;
        (block / blocks * inputs + rest % inputs, output, rest / inputs % 9)
    }
}

/// Packs a convolution's weights, `[outputs, inputs, 9]` from `at` on; with `back`, for the convolution that
/// gives the slopes of its inputs. `given` are the padded outputs of the packed convolution.
#[cube(launch)]
pub fn pack<E: Numeric>(
    values: &[f32],
    packed: &mut [Four<E>],
    at: usize,
    given: usize,
    first: usize,
    first_padded: usize,
    second: usize,
    outputs: usize,
    #[comptime] order: Order,
    #[comptime] back: bool,
    #[define(E)] kind: ElemType,
) {
    if ABSOLUTE_POS < packed.len() {
        let mut four = Four::<f32>::new(0.0);
        #[unroll]
        for lane in 0..4usize {
            let (from, to, tap) = place(ABSOLUTE_POS, lane, given, order);
            let (input, output, tap) = if comptime!(back) { (to, from, 8 - tap) } else { (from, to, tap) };
            let input = unpadded(input, first, first_padded, second);
            let inputs = first + second;
            if tap < 9 && input < inputs && output < outputs {
                four.insert(lane, values[at + (output * inputs + input) * 9 + tap]);
            }
        }
        packed[ABSOLUTE_POS] = rounded::<E>(four, kind);
    }
}

/// Packs weights of one input, `[outputs, taps]` from `at` on, as `[taps][padded outputs]`.
#[cube(launch)]
pub fn pack_one(values: &[f32], packed: &mut [f32], at: usize, taps: usize, outputs: usize) {
    if ABSOLUTE_POS < packed.len() {
        let padded = packed.len() / taps;
        let (tap, output) = (ABSOLUTE_POS / padded, ABSOLUTE_POS % padded);
        let mut value = 0.0f32;
        if output < outputs {
            value = values[at + output * taps + tap];
        }
        packed[ABSOLUTE_POS] = value;
    }
}

/// Adds up the parts of the slopes of a convolution's weights, and puts them in the parameters' order:
/// `[outputs, inputs, 9]`, without padding, from `begin` on.
#[cube(launch)]
pub fn gather(
    parts: &[Four<f32>],
    out: &mut [f32],
    begin: usize,
    count: usize,
    inputs_padded: usize,
    outputs_padded: usize,
    first: usize,
    first_padded: usize,
    second: usize,
    outputs: usize,
) {
    let mut shared = Shared::<[Four<f32>]>::new_slice(UNITS);
    let unit = UNIT_POS as usize;
    let fours = outputs_padded / 4;
    let total = 9 * inputs_padded * fours;
    let at = CUBE_POS * GATHERED + unit % GATHERED;
    let mut sum = Four::<f32>::new(0.0);
    if at < total {
        for part in range_stepped(unit / GATHERED, count, GATHERING) {
            sum += parts[part * total + at];
        }
    }
    let sum = added(&mut shared, sum, UNITS, GATHERED);
    let input = unpadded(at / fours % inputs_padded, first, first_padded, second);
    let inputs = first + second;
    if unit < GATHERED && at < total && input < inputs {
        #[unroll]
        for lane in 0..4usize {
            let output = at % fours * 4 + lane;
            if output < outputs {
                out[begin + (output * inputs + input) * 9 + at / fours / inputs_padded] = sum.extract(lane);
            }
        }
    }
}
