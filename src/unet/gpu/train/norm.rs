//! Batch norm, ELU and dropout of a training step on the GPU, forth and back.
//!
//! What a unit of the network keeps of its batch norm lies in a table, `[mean, one over the deviation, gamma, beta]` of
//! each padded channel; where channels are padding, all of it is zero, and so is what comes out.
// A kernel's `_type` is read where it is compiled, not where it runs.
#![allow(clippy::used_underscore_binding)]

use cubecl::prelude::*;

use crate::unet::gpu::kernels::{CHANNELS, Four, elu, rounded};

/// Units of a workgroup that adds up.
pub const UNITS: usize = 256;
/// Workgroups that keep a large device busy.
pub const BUSY: usize = 1024;
/// Elements of [`CHANNELS`].
const FOURS: usize = CHANNELS / 4;
/// Channels that share a stream of random numbers: [`crate::unet::direct::Dropout`]'s, so that every device draws the
/// same.
pub const DRAWN: usize = 32;

/// How many values of a thing there are, and how many of them a workgroup adds up.
#[derive(Clone, Copy, Debug)]
pub struct Split {
    pub count: usize,
    pub each: usize,
}

impl Split {
    /// For about `parts` workgroups, with no less than `least` for each.
    pub fn new(count: usize, parts: usize, least: usize) -> Self {
        Self { count, each: count.div_ceil(parts.max(1)).max(least) }
    }

    pub fn parts(self) -> usize {
        self.count.div_ceil(self.each)
    }

    /// Values of a part.
    pub fn of(self, part: usize) -> usize {
        self.each.min(self.count - part * self.each)
    }
}

/// How a unit of the network is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// With their padding.
    pub channels: usize,
    pub side: usize,
    /// Whether activations are silenced.
    pub drawn: bool,
}

impl Shape {
    fn fours(&self) -> usize {
        self.channels / 4
    }

    fn eights(&self) -> usize {
        self.channels / 8
    }
}

/// The sum of the values of each `group`-th unit of the workgroup; all of its units call this together.
#[cube]
pub fn added(
    shared: &mut [Four<f32>],
    value: Four<f32>,
    #[comptime] units: usize,
    #[comptime] group: usize,
) -> Four<f32> {
    let unit = UNIT_POS as usize;
    sync_cube();
    shared[unit] = value;
    sync_cube();
    #[unroll]
    for step in 0..comptime!((units / group).ilog2() as usize) {
        let reach = comptime!(units >> (step + 1));
        if unit < reach {
            let other = shared[unit + reach];
            shared[unit] += other;
        }
        sync_cube();
    }
    shared[unit % group]
}

/// Sums of the values of a stretch of pixels, and of the squares of their distances from that stretch's mean:
/// `[stretch][2][channels]`. A workgroup takes [`CHANNELS`] of a stretch.
#[cube(launch)]
pub fn moments<E: Numeric>(
    z: &[Four<E>],
    out: &mut [Four<f32>],
    pixels: usize,
    each: usize,
    #[comptime] channels: usize,
    #[define(E)] _type: ElemType,
) {
    let mut shared = Shared::<[Four<f32>]>::new_slice(UNITS);
    let unit = UNIT_POS as usize;
    let fours = comptime!(channels / 4);
    let four = CUBE_POS_Y as usize * FOURS + unit % FOURS;
    let begin = CUBE_POS_X as usize * each;
    let end = min(begin + each, pixels);
    let mut sum = Four::<f32>::new(0.0);
    for pixel in range_stepped(begin + unit / FOURS, end, comptime!(UNITS / FOURS)) {
        sum += Four::<f32>::cast_from(z[pixel * fours + four]);
    }
    let sum = added(&mut shared, sum, UNITS, FOURS);
    let mean = sum / Four::<f32>::new(f32::cast_from((end - begin) as u32));
    let mut squares = Four::<f32>::new(0.0);
    for pixel in range_stepped(begin + unit / FOURS, end, comptime!(UNITS / FOURS)) {
        let away = Four::<f32>::cast_from(z[pixel * fours + four]) - mean;
        squares += away * away;
    }
    let squares = added(&mut shared, squares, UNITS, FOURS);
    if unit < FOURS {
        let at = CUBE_POS_X as usize * 2 * fours + four;
        out[at] = sum;
        out[at + fours] = squares;
    }
}

/// Four of `values` from `at` on, of which there are so many: the rest are padding, 0.
#[cube]
fn four_of(values: &[f32], at: usize, four: usize, count: usize) -> Four<f32> {
    let mut found = Four::<f32>::new(0.0);
    #[unroll]
    for lane in 0..4usize {
        if four * 4 + lane < count {
            found.insert(lane, values[at + four * 4 + lane]);
        }
    }
    found
}

/// A unit's table and the batch's mean and variance, from the parts of [`moments`], where this share is the whole batch.
/// The unit's gamma, for so many `outputs`, begins at `gamma` of all parameters' `values`, between bias and beta; mean, with
/// the bias, and variance at `at` of `seen`.
#[cube(launch)]
pub fn settle(
    parts: &[Four<f32>],
    values: &[f32],
    table: &mut [Four<f32>],
    seen: &mut [Four<f32>],
    gamma: usize,
    outputs: usize,
    at: usize,
    count: usize,
    pixels: usize,
    each: usize,
    epsilon: f32,
    #[comptime] channels: usize,
) {
    let mut shared = Shared::<[Four<f32>]>::new_slice(UNITS);
    let unit = UNIT_POS as usize;
    let fours = comptime!(channels / 4);
    let four = CUBE_POS_X as usize * FOURS + unit % FOURS;
    let all = Four::<f32>::new(f32::cast_from(pixels as u32));
    let mut sum = Four::<f32>::new(0.0);
    for part in range_stepped(unit / FOURS, count, comptime!(UNITS / FOURS)) {
        sum += parts[part * 2 * fours + four];
    }
    let mean = added(&mut shared, sum, UNITS, FOURS) / all;
    let mut squares = Four::<f32>::new(0.0);
    for part in range_stepped(unit / FOURS, count, comptime!(UNITS / FOURS)) {
        let of = Four::<f32>::new(f32::cast_from(min(each, pixels - part * each) as u32));
        let away = parts[part * 2 * fours + four] / of - mean;
        squares += parts[(part * 2 + 1) * fours + four] + of * away * away;
    }
    let variance = added(&mut shared, squares, UNITS, FOURS) / all;
    if unit < FOURS {
        table[four] = mean;
        table[fours + four] = Four::<f32>::new(1.0) / (variance + Four::<f32>::new(epsilon)).sqrt();
        table[2 * fours + four] = four_of(values, gamma, four, outputs);
        table[3 * fours + four] = four_of(values, gamma + outputs, four, outputs);
        seen[at + four] = mean + four_of(values, gamma - outputs, four, outputs);
        seen[at + fours + four] = variance;
    }
}

/// The low and the high half of the product with `low` and `high` of another number, modulo 2^64.
#[cube]
fn times(low: u32, high: u32, #[comptime] by: u64) -> (u32, u32) {
    let (by_low, by_high) = comptime!((by as u32, (by >> 32) as u32));
    (low * by_low, u32::mul_hi(low, by_low) + low * by_high + high * by_low)
}

/// The low and the high half of the `k`-th number, from 0, of a stream of [`crate::dice::Dice`].
#[cube]
fn thrown(low: u32, high: u32, k: u32) -> (u32, u32) {
    let (add_low, add_high) = times(k + 1, 0u32, 0x9E37_79B9_7F4A_7C15u64);
    let sum = low + add_low;
    let carry = select(sum < low, 1u32, 0u32);
    let (low, high) = (sum, high + add_high + carry);
    let (low, high) = (low ^ (low >> 30 | high << 2), high ^ (high >> 30));
    let (low, high) = times(low, high, 0xBF58_476D_1CE4_E5B9u64);
    let (low, high) = (low ^ (low >> 27 | high << 5), high ^ (high >> 27));
    let (low, high) = times(low, high, 0x94D0_49BB_1331_11EBu64);
    (low ^ (low >> 31 | high << 1), high ^ (high >> 31))
}

/// The numbers that eight channels of a pixel draw. `starts` are what their image's streams begin from.
#[cube]
fn drawn(starts: &[u32], start0: usize, pixel: usize, eight: usize, #[comptime] shape: Shape) -> (u32, u32) {
    let (side, per) = comptime!((shape.side, DRAWN / 8));
    let mut low = 0u32;
    let mut high = 0u32;
    if comptime!(shape.drawn) {
        let (image, row, col) = (pixel / (side * side), pixel / side % side, pixel % side);
        let start = (start0 + image) * 2;
        let (a, b) = thrown(starts[start], starts[start + 1], 0u32);
        let line = (eight / per * side + row) as u32;
        let (a, b) = thrown(a ^ line, b, (col * per + eight % per) as u32);
        low = a;
        high = b;
    }
    (low, high)
}

/// What four channels are multiplied with, by a byte each: 0, or what makes up for the silenced ones.
#[cube]
fn kept(bytes: u32, silenced: u32, louder: f32) -> Four<f32> {
    let mut keep = Four::<f32>::new(louder);
    #[unroll]
    for k in 0..4usize {
        let byte = (bytes >> comptime!(8 * k as u32)) & 255;
        keep.insert(k, select(byte < silenced, 0.0f32, louder));
    }
    keep
}

/// `y = keep * elu(gamma * (z - mean) / deviation + beta)`, eight channels a unit.
#[cube(launch)]
pub fn activate<E: Numeric>(
    z: &[Four<E>],
    y: &mut [Four<E>],
    table: &[Four<f32>],
    starts: &[u32],
    start0: usize,
    silenced: u32,
    louder: f32,
    #[comptime] shape: Shape,
    #[define(E)] kind: ElemType,
) {
    if ABSOLUTE_POS * 2 < y.len() {
        let (fours, eights) = comptime!((shape.fours(), shape.eights()));
        let eight = ABSOLUTE_POS % eights;
        let (low, high) = drawn(starts, start0, ABSOLUTE_POS / eights, eight, shape);
        #[unroll]
        for half in 0..2usize {
            let (at, four) = (ABSOLUTE_POS * 2 + half, eight * 2 + half);
            let normed = (Four::<f32>::cast_from(z[at]) - table[four]) * table[fours + four];
            let mut value = elu(normed * table[2 * fours + four] + table[3 * fours + four]);
            if comptime!(shape.drawn) {
                value *= kept(if comptime!(half == 0) { low } else { high }, silenced, louder);
            }
            y[at] = rounded::<E>(value, kind);
        }
    }
}

/// The normed value, and the slope of the batch norm's answer from that of the unit's.
#[cube]
fn before_elu(
    z: Four<f32>,
    slope: Four<f32>,
    table: &[Four<f32>],
    four: usize,
    bytes: u32,
    silenced: u32,
    louder: f32,
    #[comptime] shape: Shape,
) -> (Four<f32>, Four<f32>) {
    let fours = comptime!(shape.fours());
    let normed = (z - table[four]) * table[fours + four];
    let shifted = normed * table[2 * fours + four] + table[3 * fours + four];
    // 1 above zero, the exponential below.
    let mut slope = slope * min(shifted, Four::<f32>::new(0.0)).exp();
    if comptime!(shape.drawn) {
        slope *= kept(bytes, silenced, louder);
    }
    (normed, slope)
}

/// Sums of the slopes of the batch norm's answer over a stretch of pixels, and of their products with the normed values:
/// `[stretch][2][channels]`. A workgroup takes [`CHANNELS`] of a stretch.
#[cube(launch)]
pub fn norm_slopes<E: Numeric>(
    z: &[Four<E>],
    slopes: &[Four<E>],
    table: &[Four<f32>],
    starts: &[u32],
    out: &mut [Four<f32>],
    start0: usize,
    pixels: usize,
    each: usize,
    silenced: u32,
    louder: f32,
    #[comptime] shape: Shape,
    #[define(E)] _type: ElemType,
) {
    let mut shared = Shared::<[Four<f32>]>::new_slice(UNITS);
    let unit = UNIT_POS as usize;
    let (fours, per) = comptime!((shape.fours(), CHANNELS / 8));
    let eight = CUBE_POS_Y as usize * per + unit % per;
    let begin = CUBE_POS_X as usize * each;
    let end = min(begin + each, pixels);
    let mut sums = Array::<Four<f32>>::new(4usize);
    #[unroll]
    for k in 0..4usize {
        sums[k] = Four::<f32>::new(0.0);
    }
    for pixel in range_stepped(begin + unit / per, end, comptime!(UNITS / per)) {
        let (low, high) = drawn(starts, start0, pixel, eight, shape);
        #[unroll]
        for half in 0..2usize {
            let four = eight * 2 + half;
            let at = pixel * fours + four;
            let (value, slope) = (Four::<f32>::cast_from(z[at]), Four::<f32>::cast_from(slopes[at]));
            let bytes = if comptime!(half == 0) { low } else { high };
            let (normed, slope) = before_elu(value, slope, table, four, bytes, silenced, louder, shape);
            sums[half * 2] += slope;
            sums[half * 2 + 1] += slope * normed;
        }
    }
    #[unroll]
    for k in 0..4usize {
        let sum = added(&mut shared, sums[k], UNITS, per);
        if unit < per {
            out[(CUBE_POS_X as usize * 2 + k % 2) * fours + eight * 2 + k / 2] = sum;
        }
    }
}

/// Sums of the parts of [`norm_slopes`], where this share is the whole batch: their means over all pixels, and gamma's and
/// beta's gradient, for so many `outputs`, from `gamma` on.
#[cube(launch)]
pub fn settle_slopes(
    parts: &[Four<f32>],
    gradient: &mut [f32],
    means: &mut [Four<f32>],
    gamma: usize,
    outputs: usize,
    count: usize,
    pixels: usize,
    #[comptime] channels: usize,
) {
    let mut shared = Shared::<[Four<f32>]>::new_slice(UNITS);
    let unit = UNIT_POS as usize;
    let fours = comptime!(channels / 4);
    // Sums of slopes, then those of products.
    let four = CUBE_POS_X as usize * FOURS + unit % FOURS;
    let mut sum = Four::<f32>::new(0.0);
    for part in range_stepped(unit / FOURS, count, comptime!(UNITS / FOURS)) {
        sum += parts[part * 2 * fours + four];
    }
    let sum = added(&mut shared, sum, UNITS, FOURS);
    if unit < FOURS {
        means[four] = sum / Four::<f32>::new(f32::cast_from(pixels as u32));
        // Sums of slopes are beta's, those of products gamma's.
        let at = select(four < fours, gamma + outputs, gamma);
        let first = four % fours * 4;
        #[unroll]
        for lane in 0..4usize {
            if first + lane < outputs {
                gradient[at + first + lane] = sum.extract(lane);
            }
        }
    }
}

/// From the slopes of the unit's answer to those of the convolution's sums, in place, eight channels a unit. `means` are
/// of the slopes of the batch norm's answer, and of their products with the normed values, over the whole batch.
#[cube(launch)]
pub fn sum_slopes<E: Numeric>(
    z: &[Four<E>],
    slopes: &mut [Four<E>],
    table: &[Four<f32>],
    means: &[Four<f32>],
    starts: &[u32],
    start0: usize,
    silenced: u32,
    louder: f32,
    #[comptime] shape: Shape,
    #[define(E)] kind: ElemType,
) {
    if ABSOLUTE_POS * 2 < z.len() {
        let (fours, eights) = comptime!((shape.fours(), shape.eights()));
        let eight = ABSOLUTE_POS % eights;
        let (low, high) = drawn(starts, start0, ABSOLUTE_POS / eights, eight, shape);
        #[unroll]
        for half in 0..2usize {
            let (at, four) = (ABSOLUTE_POS * 2 + half, eight * 2 + half);
            let (value, slope) = (Four::<f32>::cast_from(z[at]), Four::<f32>::cast_from(slopes[at]));
            let bytes = if comptime!(half == 0) { low } else { high };
            let (normed, slope) = before_elu(value, slope, table, four, bytes, silenced, louder, shape);
            let centred = slope - means[four] - normed * means[fours + four];
            slopes[at] = rounded::<E>(centred * table[2 * fours + four] * table[fours + four], kind);
        }
    }
}
