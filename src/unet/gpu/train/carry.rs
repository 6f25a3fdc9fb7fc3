//! The head forth and back, and slopes that go back through pooling and doubling.
// A kernel's `_type` is read where it is compiled, not where it runs.
#![allow(clippy::used_underscore_binding)]

use cubecl::prelude::*;

use super::norm::{UNITS, added};
use crate::unet::gpu::kernels::{CHANNELS, Four, rounded};

/// Elements of [`CHANNELS`].
const FOURS: usize = CHANNELS / 4;

/// The last convolution, 1x1, whose bias is the last of all parameters' `values`: a pixel a unit.
#[cube(launch)]
pub fn logits<E: Numeric>(
    y: &[Four<E>],
    weights: &[Four<f32>],
    values: &[f32],
    out: &mut [f32],
    #[comptime] channels: usize,
    #[define(E)] _type: ElemType,
) {
    if ABSOLUTE_POS < out.len() {
        let fours = comptime!(channels / 4);
        let bias = values[values.len() - 1];
        let mut sum = Four::<f32>::new(0.0);
        for four in 0..fours {
            sum += Four::<f32>::cast_from(y[ABSOLUTE_POS * fours + four]) * weights[four];
        }
        out[ABSOLUTE_POS] =
            sum.extract(0usize) + sum.extract(1usize) + sum.extract(2usize) + sum.extract(3usize) + bias;
    }
}

/// Sums of the logits' slopes times what the head read over a stretch of pixels, `[stretch][channels]`; the slopes of
/// what it read take its place. A workgroup takes [`CHANNELS`] of a stretch.
#[cube(launch)]
pub fn head_slopes<E: Numeric>(
    y: &mut [Four<E>],
    slopes: &[f32],
    weights: &[Four<f32>],
    out: &mut [Four<f32>],
    pixels: usize,
    each: usize,
    #[comptime] channels: usize,
    #[define(E)] kind: ElemType,
) {
    let mut shared = Shared::<[Four<f32>]>::new_slice(UNITS);
    let unit = UNIT_POS as usize;
    let fours = comptime!(channels / 4);
    let four = CUBE_POS_Y as usize * FOURS + unit % FOURS;
    let begin = CUBE_POS_X as usize * each;
    let end = min(begin + each, pixels);
    let weight = weights[four];
    let mut sum = Four::<f32>::new(0.0);
    for pixel in range_stepped(begin + unit / FOURS, end, comptime!(UNITS / FOURS)) {
        let at = pixel * fours + four;
        let slope = Four::<f32>::new(slopes[pixel]);
        sum += slope * Four::<f32>::cast_from(y[at]);
        y[at] = rounded::<E>(slope * weight, kind);
    }
    let sum = added(&mut shared, sum, UNITS, FOURS);
    if unit < FOURS {
        out[CUBE_POS_X as usize * fours + four] = sum;
    }
}

/// Slopes of what was doubled, `[image, side, side, channels]`: sums of four. `wide` are those of all that the convolution
/// read, `total` channels, of which these are the first.
#[cube(launch)]
pub fn undouble<E: Numeric>(
    wide: &[Four<E>],
    out: &mut [Four<E>],
    #[comptime] side: usize,
    #[comptime] channels: usize,
    #[comptime] total: usize,
    #[define(E)] kind: ElemType,
) {
    if ABSOLUTE_POS < out.len() {
        let (fours, every) = comptime!((channels / 4, total / 4));
        let (pixel, four) = (ABSOLUTE_POS / fours, ABSOLUTE_POS % fours);
        let (line, col) = (pixel / side, pixel % side);
        let at = (line * comptime!(4 * side) + col * 2) * every + four;
        let under = at + comptime!(2 * side) * every;
        let upper = Four::<f32>::cast_from(wide[at]) + Four::<f32>::cast_from(wide[at + every]);
        let lower = Four::<f32>::cast_from(wide[under]) + Four::<f32>::cast_from(wide[under + every]);
        out[ABSOLUTE_POS] = rounded::<E>(upper + lower, kind);
    }
}

/// Slopes of what was pooled and handed over, in place of its values, `[image, 2 side, 2 side, channels]`: those that come
/// back through the pooling go to the largest of four, the first of them if several are; those of the hand-over are the
/// last of `wide`'s `total` channels.
#[cube(launch)]
pub fn unpool<E: Numeric>(
    pooled: &[Four<E>],
    wide: &[Four<E>],
    y: &mut [Four<E>],
    #[comptime] side: usize,
    #[comptime] channels: usize,
    #[comptime] total: usize,
    #[define(E)] kind: ElemType,
) {
    if ABSOLUTE_POS < pooled.len() {
        let (fours, every) = comptime!((channels / 4, total / 4));
        let (pixel, four) = (ABSOLUTE_POS / fours, ABSOLUTE_POS % fours);
        let (line, col) = (pixel / side, pixel % side);
        let first = line * comptime!(4 * side) + col * 2;
        let slope = Four::<f32>::cast_from(pooled[ABSOLUTE_POS]);
        let mut most = Four::<f32>::cast_from(y[first * fours + four]);
        #[unroll]
        for k in 1..4usize {
            let at = first + comptime!(k / 2 * 2 * side + k % 2);
            most = max(most, Four::<f32>::cast_from(y[at * fours + four]));
        }
        // What of the slope has found no place yet.
        let mut rest = slope;
        #[unroll]
        for k in 0..4usize {
            let at = first + comptime!(k / 2 * 2 * side + k % 2);
            let value = Four::<f32>::cast_from(y[at * fours + four]);
            let mut mine = Four::<f32>::new(0.0);
            #[unroll]
            for lane in 0..4usize {
                let largest = value.extract(lane) >= most.extract(lane);
                mine.insert(lane, select(largest, rest.extract(lane), 0.0f32));
                rest.insert(lane, select(largest, 0.0f32, rest.extract(lane)));
            }
            let handed = wide[at * every + comptime!((total - channels) / 4) + four];
            y[at * fours + four] = rounded::<E>(mine + Four::<f32>::cast_from(handed), kind);
        }
    }
}
