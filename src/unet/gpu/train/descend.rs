//! The parameters' move on the GPU, where they stay from step to step.

use cubecl::prelude::*;

use super::norm::{UNITS, added};
use crate::unet::descent::{EPSILON, KEEP_MEAN, KEEP_SQUARE};
use crate::unet::gpu::kernels::Four;

/// Whether parameter `k` is in one of the ranges, begins and ends in turn.
#[cube]
fn is_kernel(kernels: &[u32], ranges: usize, k: usize) -> bool {
    let mut inside = false;
    for range in 0..ranges {
        if k >= kernels[range * 2] as usize && k < kernels[range * 2 + 1] as usize {
            inside = true;
        }
    }
    inside
}

/// Over a stretch of parameters: how much of the gradient is not a number, or infinite, and the sum of the squared kernels:
/// the first two of each element of `out`.
#[cube(launch)]
pub fn survey(
    values: &[f32],
    gradient: &[f32],
    kernels: &[u32],
    out: &mut [Four<f32>],
    ranges: usize,
    each: usize,
) {
    let mut shared = Shared::<[Four<f32>]>::new_slice(UNITS);
    let begin = CUBE_POS_X as usize * each;
    let mut broken = 0.0f32;
    let mut squares = 0.0f32;
    for k in range_stepped(begin + UNIT_POS as usize, min(begin + each, values.len()), UNITS) {
        let exponent = u32::reinterpret(gradient[k]) & 0x7f80_0000u32;
        broken += select(exponent == 0x7f80_0000u32, 1.0f32, 0.0f32);
        if is_kernel(kernels, ranges, k) {
            squares += values[k] * values[k];
        }
    }
    let mut own = Four::<f32>::new(0.0);
    own.insert(0usize, broken);
    own.insert(1usize, squares);
    let sum = added(&mut shared, own, UNITS, 1usize);
    if UNIT_POS == 0 {
        out[CUBE_POS_X as usize] = sum;
    }
}

/// Moves the parameters, as [`crate::unet::descent::Descent::take`] does, unless some of the gradient, which is multiplied
/// with `by`, is broken. `rule` is rate and momentum, or by gradient, by mean and correction; `l2` twice the penalty's.
#[cube(launch)]
pub fn descend(
    values: &mut [f32],
    first: &mut [f32],
    second: &mut [f32],
    gradient: &[f32],
    kernels: &[u32],
    surveyed: &[f32],
    ranges: usize,
    by: f32,
    l2: f32,
    rule0: f32,
    rule1: f32,
    rule2: f32,
    #[comptime] moments: bool,
) {
    let k = ABSOLUTE_POS;
    if k < values.len() && surveyed[0] == 0.0 {
        let value = values[k];
        let mut g = gradient[k] * by;
        if is_kernel(kernels, ranges, k) {
            g += l2 * value;
        }
        if comptime!(moments) {
            let (mean, square) = comptime!((KEEP_MEAN as f32, KEEP_SQUARE as f32));
            let (new, newer) = comptime!(((1.0 - KEEP_MEAN) as f32, (1.0 - KEEP_SQUARE) as f32));
            let mean = mean * first[k] + new * g;
            let square = square * second[k] + newer * g * g;
            first[k] = mean;
            second[k] = square;
            let scale = (square / rule2).sqrt() + comptime!(EPSILON as f32);
            values[k] = value - (rule0 * g + rule1 * mean) / scale;
        } else {
            let step = rule1 * first[k] + g;
            first[k] = step;
            values[k] = value - rule0 * step;
        }
    }
}
