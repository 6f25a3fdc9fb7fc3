//! What runs on the GPU. Activations are `[window, row, col, channel]`, their channels padded with zeros to a
//! multiple of [`CHANNELS`] and read four at a time.
//!
//! A convolution keeps the sums of a few rows by one stretch of columns in registers: what is read for a row serves
//! the three rows that it touches. A workgroup puts what its tile of pixels needs into shared memory, some input
//! channels at a time. Products are added by `fma`, for a driver need not make one instruction of two.
// A kernel's `_type` is read where it is compiled, not where it runs.
#![allow(clippy::used_underscore_binding)]

use cubecl::ir::FloatKind;
use cubecl::prelude::*;

/// Channels are padded to a multiple of this.
pub const CHANNELS: usize = 16;
/// Rows that a workgroup answers for, and columns where it multiplies numbers.
pub const TILE: usize = 16;
/// Rows that a plane of units keeps the sums of.
pub const PLANE_ROWS: usize = 4;
/// Rows, and outputs, that a unit keeps the sums of.
const UNIT_ROWS: usize = 8;
const UNIT_OUTPUTS: usize = 8;

/// No place in a source.
pub const OUTSIDE: usize = u32::MAX as usize;

/// Four values at once.
pub type Four<E> = Vector<E, Const<4>>;
/// Eight halves at once, as words: what is copied without being looked at.
pub type Eight = Vector<u32, Const<4>>;

/// How a source lies to the convolution's pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reading {
    /// Pixel by pixel.
    Same,
    /// It has half of them: each counts for four.
    Doubled,
}

/// A convolution's source: its padded channels, and how it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    pub channels: usize,
    pub reading: Reading,
}

/// A convolution: what differs between those of one kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv {
    /// Whose weights come first.
    pub first: Source,
    pub second: Option<Source>,
    /// Padded channels out.
    pub outputs: usize,
    pub form: Form,
    /// By what it is multiplied; else number by number.
    pub matrices: Option<(Matrices, Cut)>,
}

/// What a convolution is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Form {
    pub first: Reading,
    pub second: Option<Reading>,
    /// Input channels in shared memory at a time.
    pub chunk: usize,
    /// Outputs that a workgroup computes.
    pub block: usize,
    /// Whether its sums go through the ELU.
    pub elu: bool,
}

impl Form {
    /// Eights from a pixel in shared memory to the next: one more than it has, so that neighbours lie in different banks.
    pub fn stride(&self) -> usize {
        self.chunk / 8 + 1
    }

    /// As [`Self::stride`], from an output's weights to the next's.
    pub fn weights_stride(&self) -> usize {
        weights_stride(self.chunk)
    }
}

/// Eights of an output's weights of so many channels, of which the last is zeros.
pub fn weights_stride(chunk: usize) -> usize {
    9 * chunk / 8 + 1
}

/// Rows, columns and depth of a cooperative matrix, and the units of a plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Matrices {
    pub rows: usize,
    pub cols: usize,
    pub depth: usize,
    pub plane: usize,
}

/// How a convolution by cooperative matrices is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cut {
    /// Rows of a workgroup.
    pub rows: usize,
    /// Matrices of outputs of a plane of units.
    pub parts: usize,
    /// Planes beside each other, of other outputs.
    pub across: usize,
}

impl Cut {
    /// Planes of a workgroup.
    pub fn planes(&self) -> usize {
        self.rows / PLANE_ROWS * self.across
    }

    /// The units of a workgroup, a plane a row.
    pub fn units(&self, by: Matrices) -> CubeDim {
        CubeDim::new_2d(by.plane as u32, self.planes() as u32)
    }

    /// Eights of its tile of pixels and those around them.
    pub fn tile(&self, form: &Form, by: Matrices) -> usize {
        (self.rows + 2) * (by.rows + 2) * form.stride()
    }

    /// Eights of these pixels for each unit, without the gaps between them, and of the weights.
    pub fn pixels_each(&self, form: &Form, by: Matrices) -> usize {
        ((self.rows + 2) * (by.rows + 2) * form.chunk / 8).div_ceil(self.planes() * by.plane)
    }

    pub fn taps_each(&self, form: &Form, by: Matrices) -> usize {
        (form.block * form.weights_stride()).div_ceil(self.planes() * by.plane)
    }

    /// Eights of shared memory that a workgroup needs: of its tile and its weights, and then of sums.
    pub fn shared(&self, form: &Form, by: Matrices) -> usize {
        let sums = self.planes() * PLANE_ROWS * by.rows * by.cols / 4;
        sums.max(self.tile(form, by) + form.block * form.weights_stride())
    }
}

/// The units of a workgroup that multiplies numbers.
pub fn units(form: &Form) -> CubeDim {
    CubeDim::new_1d((TILE * (TILE / UNIT_ROWS) * (form.block / UNIT_OUTPUTS)) as u32)
}

/// `exp(x) - 1` is never under `x`, and 0 where it is not the answer.
#[cube]
pub fn elu(x: Four<f32>) -> Four<f32> {
    let zero = Four::<f32>::new(0.0);
    max(x, min(x, zero).exp() - Four::<f32>::new(1.0))
}

/// A convolution's answer from its sum.
#[cube]
pub fn finished<E: Numeric>(sum: Four<f32>, #[comptime] rises: bool, #[comptime] kind: ElemType) -> Four<E> {
    let mut x = sum;
    if comptime!(rises) {
        x = elu(sum);
    }
    rounded::<E>(x, kind)
}

/// As `kind`: a bf16 is the nearest one, where devices cut off.
#[cube]
pub fn rounded<E: Numeric>(value: Four<f32>, #[comptime] kind: ElemType) -> Four<E> {
    let mut x = value;
    if comptime!(kind == ElemType::Float(FloatKind::BF16)) {
        let bits = Four::<u32>::reinterpret(x);
        let odd = (bits >> Four::<u32>::new(16)) & Four::<u32>::new(1);
        let nearest = (bits + Four::<u32>::new(0x7fff) + odd) & Four::<u32>::new(0xffff_0000);
        x = Four::<f32>::reinterpret(nearest);
    }
    Four::<E>::cast_from(x)
}

/// Where a pixel of the convolution is in a source of so many `fours`; [`OUTSIDE`] if it is not in the window.
#[cube]
pub fn place(
    window: usize,
    row: usize,
    col: usize,
    side: usize,
    fours: usize,
    #[comptime] read: Reading,
) -> usize {
    let mut at = comptime!(OUTSIDE).runtime();
    if row < side && col < side {
        match comptime!(read) {
            Reading::Same => at = ((window * side + row) * side + col) * fours,
            Reading::Doubled => {
                let half = side / 2;
                at = ((window * half + row / 2) * half + col / 2) * fours;
            }
        }
    }
    at
}

/// Four channels at a [`place`]; zeros outside.
#[cube]
pub fn there<E: Numeric>(source: &[Four<E>], at: usize, four: usize) -> Four<E> {
    let mut value = Four::<E>::new(E::from_int(0));
    if at != OUTSIDE {
        value = source[at + four];
    }
    value
}

/// A unit's share of a chunk of a source's channels, from `four` on, of the workgroup's pixels and those around them.
#[cube]
fn fetch<E: Numeric>(
    source: &[Four<E>],
    some: &mut Array<Four<f32>>,
    window: usize,
    corner: (usize, usize),
    side: usize,
    channels: usize,
    four: usize,
    #[comptime] read: Reading,
    #[comptime] form: Form,
) {
    let (fours, wide, units) = comptime!((form.chunk / 4, TILE + 2, units(&form).num_elems() as usize));
    let unit = UNIT_POS as usize;
    #[unroll]
    for k in 0..comptime!((wide * wide * fours).div_ceil(units)) {
        let pixel = unit / fours + k * comptime!(units / fours);
        // Before the window's first row or column: a huge number, which is outside as well.
        let (row, col) = (corner.0 + pixel / wide - 1, corner.1 + pixel % wide - 1);
        let at = place(window, row, col, side, channels / 4, read);
        some[k] = Four::<f32>::new(0.0);
        if at != OUTSIDE && pixel < comptime!(wide * wide) {
            some[k] = Four::<f32>::cast_from(source[at + four + unit % fours]);
        }
    }
}

/// As [`super::matrices::conv_matrices`], number by number in f32. `weights` is
/// `[chunk][outputs / block][tap][chunk's channels][block]`.
#[cube(launch)]
pub fn conv_numbers<E: Numeric>(
    first: &[Four<E>],
    second: &[Four<E>],
    weights: &[Four<f32>],
    bias: &[Four<f32>],
    out: &mut [Four<E>],
    side: usize,
    of_first: usize,
    of_second: usize,
    outputs: usize,
    first_row: usize,
    first_col: usize,
    #[comptime] form: Form,
    #[define(E)] kind: ElemType,
) {
    // A pixel's channels and four more: neighbours then lie in different banks.
    let stride = comptime!((form.chunk + 4) / 4);
    let wide = comptime!(form.block / 4);
    let mut tile = Shared::<[Four<f32>]>::new_slice(comptime!((TILE + 2) * (TILE + 2) * stride));
    let mut factors = Shared::<[Four<f32>]>::new_slice(comptime!(9 * form.chunk * wide));

    let unit = UNIT_POS as usize;
    let col = unit % TILE;
    let group = unit / TILE % comptime!(form.block / UNIT_OUTPUTS) * comptime!(UNIT_OUTPUTS / 4);
    let row0 = unit / comptime!(TILE * form.block / UNIT_OUTPUTS) * UNIT_ROWS;
    let tile_row = first_row + CUBE_POS_Y as usize * TILE;
    let tile_col = first_col + CUBE_POS_X as usize * TILE;
    let blocks = outputs / form.block;
    let window = CUBE_POS_Z as usize / blocks;
    let block = CUBE_POS_Z as usize % blocks;

    let mut sums = Array::<Four<f32>>::new(comptime!(UNIT_ROWS * 2));
    #[unroll]
    for k in 0..comptime!(UNIT_ROWS * 2) {
        sums[k] = Four::<f32>::new(0.0);
    }
    let (fours, units) = comptime!((form.chunk / 4, units(&form).num_elems() as usize));
    let pixels = comptime!((TILE + 2) * (TILE + 2) * fours);
    let taps = comptime!(9 * form.chunk * wide);
    let mut some_pixels = Array::<Four<f32>>::new(comptime!(pixels.div_ceil(units)));
    let mut some_taps = Array::<Four<f32>>::new(comptime!(taps.div_ceil(units)));
    for chunk in 0..(of_first + of_second) / form.chunk {
        let (corner, four) = ((tile_row, tile_col), chunk * fours);
        // All that is read is on its way before any of it is waited for.
        if four < of_first / 4 {
            fetch::<E>(first, &mut some_pixels, window, corner, side, of_first, four, form.first, form);
        } else if let Some(read) = comptime!(form.second) {
            let four = four - of_first / 4;
            fetch::<E>(second, &mut some_pixels, window, corner, side, of_second, four, read, form);
        }
        #[unroll]
        for k in 0..comptime!(taps.div_ceil(units)) {
            if comptime!((k + 1) * units <= taps) || unit + k * units < taps {
                some_taps[k] = weights[(chunk * blocks + block) * taps + unit + k * units];
            }
        }
        sync_cube();
        #[unroll]
        for k in 0..comptime!(pixels.div_ceil(units)) {
            if comptime!((k + 1) * units <= pixels) || unit + k * units < pixels {
                tile[unit / fours * stride + unit % fours + k * comptime!(units / fours * stride)] =
                    some_pixels[k];
            }
        }
        #[unroll]
        for k in 0..comptime!(taps.div_ceil(units)) {
            if comptime!((k + 1) * units <= taps) || unit + k * units < taps {
                factors[unit + k * units] = some_taps[k];
            }
        }
        sync_cube();
        for shift in 0..3usize {
            for four in 0..comptime!(form.chunk / 4) {
                let mut pixels = Array::<Four<f32>>::new(comptime!(UNIT_ROWS + 2));
                #[unroll]
                for row in 0..comptime!(UNIT_ROWS + 2) {
                    pixels[row] = tile[((row0 + row) * (TILE + 2) + col + shift) * stride + four];
                }
                #[unroll]
                for tap in 0..3usize {
                    #[unroll]
                    for channel in 0..4usize {
                        let at = ((tap * 3 + shift) * form.chunk + four * 4 + channel) * wide + group;
                        let (low, high) = (factors[at], factors[at + 1]);
                        #[unroll]
                        for row in 0..UNIT_ROWS {
                            let pixel = Four::<f32>::new(pixels[comptime!(row + tap)].extract(channel));
                            let (left, right) = comptime!((row * 2, row * 2 + 1));
                            sums[left] = fma(pixel, low, sums[left]);
                            sums[right] = fma(pixel, high, sums[right]);
                        }
                    }
                }
            }
        }
    }
    let col = tile_col + col;
    let four = block * wide + group;
    #[unroll]
    for row in 0..UNIT_ROWS {
        let at_row = tile_row + row0 + row;
        if at_row < side && col < side {
            let at = ((window * side + at_row) * side + col) * (outputs / 4) + four;
            out[at] = finished::<E>(sums[comptime!(row * 2)] + bias[four], form.elu, kind);
            out[at + 1] = finished::<E>(sums[comptime!(row * 2 + 1)] + bias[four + 1], form.elu, kind);
        }
    }
}

/// The first convolution, of grey levels, four a word: a unit computes [`CHANNELS`] of `run` pixels of a row. `weights` is
/// `[tap][outputs]`; `out` is of 16 bytes an element.
#[cube(launch)]
pub fn conv_grey<E: Numeric>(
    grey: &[u32],
    weights: &[Four<f32>],
    bias: &[Four<f32>],
    out: &mut [Eight],
    side: usize,
    #[comptime] outputs: usize,
    #[comptime] run: usize,
    #[comptime] rises: bool,
    #[define(E)] kind: ElemType,
) {
    let (fours, each) = comptime!((outputs / 4, CHANNELS / 4));
    let together = comptime!(4 / kind.size());
    let first = ABSOLUTE_POS * each % fours;
    let pixel = ABSOLUTE_POS * each / fours * run;
    if pixel * comptime!(fours / together) < out.len() {
        let (row, col) = (pixel / side % side, pixel % side);
        let mut levels = Array::<f32>::new(comptime!(3 * (run + 2)));
        #[unroll]
        for k in 0..comptime!(3 * (run + 2)) {
            let (down, right) = comptime!((k / (run + 2), k % (run + 2)));
            levels[k] = 0.0;
            if row + down - 1 < side && col + right - 1 < side {
                let at = pixel + down * side + right - side - 1;
                let value = (grey[at / 4] >> ((at % 4) as u32 * 8)) & 255;
                levels[k] = f32::cast_from(value) / 255.0;
            }
        }
        let mut sums = Array::<Four<f32>>::new(comptime!(run * each));
        #[unroll]
        for k in 0..comptime!(run * each) {
            sums[k] = bias[first + comptime!(k % each)];
        }
        #[unroll]
        for tap in 0..9usize {
            #[unroll]
            for k in 0..each {
                let weight = weights[tap * fours + first + k];
                #[unroll]
                for px in 0..run {
                    let level = Four::<f32>::new(levels[comptime!(tap / 3 * (run + 2) + tap % 3 + px)]);
                    sums[comptime!(px * each + k)] = fma(level, weight, sums[comptime!(px * each + k)]);
                }
            }
        }
        #[unroll]
        for px in 0..run {
            #[unroll]
            for k in 0..comptime!(each / together) {
                let at = (pixel + px) * comptime!(fours / together) + first / together + k;
                let sum = comptime!(px * each + k * together);
                let low = finished::<E>(sums[sum], rises, kind);
                if comptime!(together == 1) {
                    out[at] = Eight::reinterpret(low);
                } else {
                    let low = Vector::<u32, Const<2>>::reinterpret(low);
                    let high = finished::<E>(sums[comptime!(sum + 1)], rises, kind);
                    let high = Vector::<u32, Const<2>>::reinterpret(high);
                    let mut both = Eight::new(0);
                    both.insert(0usize, low.extract(0usize));
                    both.insert(1usize, low.extract(1usize));
                    both.insert(2usize, high.extract(0usize));
                    both.insert(3usize, high.extract(1usize));
                    out[at] = both;
                }
            }
        }
    }
}

/// The largest of four pixels, of `elements` of windows of `side` px, from windows of twice that.
#[cube(launch)]
pub fn pool<E: Numeric>(
    source: &[Four<E>],
    out: &mut [Four<E>],
    elements: usize,
    side: usize,
    fours: usize,
    #[define(E)] _kind: ElemType,
) {
    if ABSOLUTE_POS < elements {
        let (pixel, four) = (ABSOLUTE_POS / fours, ABSOLUTE_POS % fours);
        let at = (pixel / side * 4 * side + pixel % side * 2) * fours + four;
        let under = at + 2 * side * fours;
        let upper = max(Four::<f32>::cast_from(source[at]), Four::<f32>::cast_from(source[at + fours]));
        let lower = max(Four::<f32>::cast_from(source[under]), Four::<f32>::cast_from(source[under + fours]));
        out[ABSOLUTE_POS] = Four::<E>::cast_from(max(upper, lower));
    }
}

/// The last convolution, 1x1, and the probability of each pixel: a byte, four a word, or a whole f32. Units beyond the
/// last pixel compute it again.
#[cube(launch)]
pub fn head<E: Numeric>(
    source: &[Four<E>],
    weights: &[Four<f32>],
    out: &mut [u32],
    bias: f32,
    #[comptime] channels: usize,
    #[comptime] bytes: bool,
    #[comptime] units: usize,
    #[define(E)] _kind: ElemType,
) {
    let fours = comptime!(channels / 4);
    let mut sum = Four::<f32>::new(0.0);
    let pixel = min(ABSOLUTE_POS, source.len() / fours - 1);
    for four in 0..fours {
        sum = fma(Four::<f32>::cast_from(source[pixel * fours + four]), weights[four], sum);
    }
    let logit = sum.extract(0usize) + sum.extract(1usize) + sum.extract(2usize) + sum.extract(3usize) + bias;
    let probability = 1.0 / (1.0 + (-logit).exp());
    if comptime!(bytes) {
        let mut levels = Shared::<[u32]>::new_slice(units);
        levels[UNIT_POS as usize] = u32::cast_from(probability * 255.0 + 0.5);
        sync_cube();
        let at = UNIT_POS as usize * 4;
        let word = CUBE_POS * comptime!(units / 4) + UNIT_POS as usize;
        if at < units && word < out.len() {
            out[word] = levels[at] | levels[at + 1] << 8 | levels[at + 2] << 16 | levels[at + 3] << 24;
        }
    } else if ABSOLUTE_POS < out.len() {
        out[ABSOLUTE_POS] = u32::reinterpret(probability);
    }
}
