//! What runs on the GPU. Activations are `[window, row, col, channel]`, their channels padded with zeros to a
//! multiple of [`CHANNELS`] and read four at a time.
//!
//! A convolution keeps the sums of a few rows by one stretch of columns in registers: what is read for a row serves
//! the three rows that it touches. A workgroup puts what its tile of pixels needs into shared memory, some input
//! channels at a time.
// A kernel's `_type` is read where it is compiled, not where it runs.
#![allow(clippy::used_underscore_binding)]

use cubecl::cmma::{self, Matrix, MatrixIdent, MatrixLayout};
use cubecl::ir::FloatKind;
use cubecl::prelude::*;

/// Channels are padded to a multiple of this.
pub const CHANNELS: usize = 16;
/// Rows that a workgroup answers for, and columns where it multiplies numbers.
pub const TILE: usize = 16;
/// Rows that a plane of units keeps the sums of.
const PLANE_ROWS: usize = 4;
/// Rows, and outputs, that a unit keeps the sums of.
const UNIT_ROWS: usize = 8;
const UNIT_OUTPUTS: usize = 8;

/// No place in a source.
const OUTSIDE: usize = u32::MAX as usize;

/// Four values at once.
pub type Four<E> = Vector<E, Const<4>>;

/// How a source lies to the convolution's pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reading {
    /// Pixel by pixel.
    Same,
    /// It has twice the rows and columns: the largest of four counts.
    Halved,
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
    /// Fours from a pixel in shared memory to the next: two more than it has, so that neighbours lie in different banks.
    fn stride(&self) -> usize {
        (self.chunk + 8) / 4
    }
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
    fn planes(&self) -> usize {
        self.rows / PLANE_ROWS * self.across
    }

    /// The units of a workgroup, a plane a row.
    pub fn units(&self, by: Matrices) -> CubeDim {
        CubeDim::new_2d(by.plane as u32, self.planes() as u32)
    }

    /// Shared memory that a workgroup needs.
    pub fn shared_bytes(&self, form: &Form, by: Matrices) -> usize {
        let tile = (self.rows + 2) * (by.rows + 2) * (form.chunk + 8) * 2;
        tile + 9 * form.chunk * form.block * 2 + self.planes() * by.rows * by.cols * 4
    }
}

/// The units of a workgroup that multiplies numbers.
pub fn units(form: &Form) -> CubeDim {
    CubeDim::new_1d((TILE * (TILE / UNIT_ROWS) * (form.block / UNIT_OUTPUTS)) as u32)
}

#[cube]
pub fn elu(x: Four<f32>) -> Four<f32> {
    let zero = Four::<f32>::new(0.0);
    max(x, zero) + (min(x, zero).exp() - Four::<f32>::new(1.0))
}

/// A convolution's answer from its sum.
#[cube]
fn finished<E: Numeric>(sum: Four<f32>, #[comptime] rises: bool, #[comptime] kind: ElemType) -> Four<E> {
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
            Reading::Halved => {
                let twice = side * 2;
                at = ((window * twice + row * 2) * twice + col * 2) * fours;
            }
        }
    }
    at
}

/// Four channels at a [`place`]; zeros outside.
#[cube]
pub fn there<E: Numeric>(
    source: &[Four<E>],
    at: usize,
    four: usize,
    side: usize,
    fours: usize,
    #[comptime] read: Reading,
) -> Four<E> {
    let mut value = Four::<E>::new(E::from_int(0));
    if at != OUTSIDE {
        let at = at + four;
        if comptime!(read == Reading::Halved) {
            let under = at + side * 2 * fours;
            let upper = max(Four::<f32>::cast_from(source[at]), Four::<f32>::cast_from(source[at + fours]));
            let lower =
                max(Four::<f32>::cast_from(source[under]), Four::<f32>::cast_from(source[under + fours]));
            value = Four::<E>::cast_from(max(upper, lower));
        } else {
            value = source[at];
        }
    }
    value
}

/// Puts a chunk of the sources' channels into shared memory, for the workgroup's pixels and those around them, a pixel
/// every `stride`.
#[cube]
fn stage<E: Numeric>(
    first: &[Four<E>],
    second: &[Four<E>],
    tile: &mut [Four<f32>],
    chunk: usize,
    window: usize,
    side: usize,
    of_first: usize,
    of_second: usize,
    #[comptime] form: Form,
    #[comptime] stride: usize,
) {
    let (fours, wide) = comptime!((form.chunk / 4, TILE + 2));
    let (row0, col0) = (CUBE_POS_Y as usize * TILE, CUBE_POS_X as usize * TILE);
    let before = of_first / form.chunk;
    for k in range_stepped(UNIT_POS as usize, comptime!(wide * wide * fours), CUBE_DIM as usize) {
        let (at, four) = (k / fours, k % fours);
        // Before the window's first row or column: a huge number, which is outside as well.
        let (row, col) = (row0 + at / wide - 1, col0 + at % wide - 1);
        let mut value = Four::<f32>::new(0.0);
        if chunk < before {
            let (every, four) = (of_first / 4, chunk * fours + four);
            let at = place(window, row, col, side, every, form.first);
            value = Four::<f32>::cast_from(there::<E>(first, at, four, side, every, form.first));
        } else if let Some(read) = comptime!(form.second) {
            let (every, four) = (of_second / 4, (chunk - before) * fours + four);
            let at = place(window, row, col, side, every, read);
            value = Four::<f32>::cast_from(there::<E>(second, at, four, side, every, read));
        }
        tile[at * stride + four] = value;
    }
}

/// A 3x3 convolution with bias, and with ELU if that is asked for, its products of `E` by cooperative matrices, its sums
/// in f32. `weights` is `[step of depth][tap][outputs / cols][cols][depth]`.
#[cube(launch)]
pub fn conv_matrices<E: Float>(
    first: &[Four<E>],
    second: &[Four<E>],
    weights: &[Four<E>],
    bias: &[Four<f32>],
    out: &mut [Four<E>],
    side: usize,
    of_first: usize,
    of_second: usize,
    outputs: usize,
    #[comptime] form: Form,
    #[comptime] by: Matrices,
    #[comptime] cut: Cut,
    #[define(E)] kind: ElemType,
) {
    let (m, n, parts) = comptime!((by.rows, by.cols, cut.parts));
    // Cooperative matrices are loaded from multiples of 16 bytes: so is all that follows.
    let tile = comptime!((cut.rows + 2) * (m + 2) * form.stride());
    let mut tile = Shared::<[Four<E>]>::new_aligned_slice(tile, 16usize);
    let factors = comptime!(9 * form.chunk * form.block / 4);
    let mut factors = Shared::<[Four<E>]>::new_aligned_slice(factors, 16usize);

    let plane = UNIT_POS_Y as usize;
    let down = comptime!(cut.rows / PLANE_ROWS);
    let blocks = outputs / form.block;
    let window = CUBE_POS_Z as usize / blocks;
    let block = CUBE_POS_Z as usize % blocks;
    // Of the plane, in the workgroup's.
    let (row0, output0) = (plane % down * PLANE_ROWS, plane / down * parts * n);

    let mut sums = Sequence::<Matrix<f32>>::new();
    #[unroll]
    for _ in 0..comptime!(PLANE_ROWS * parts) {
        let zero =
            Matrix::<f32>::from_value(MatrixIdent::Accumulator, m, n, by.depth, MatrixLayout::Undefined, 0.0);
        sums.push(zero);
    }
    let at = Plane { window, side, block, row0, output0, outputs };
    add_source::<E>(
        first,
        weights,
        &mut tile,
        &mut factors,
        &mut sums,
        &at,
        of_first,
        0usize,
        form.first,
        form,
        by,
        cut,
    );
    if let Some(read) = comptime!(form.second) {
        add_source::<E>(
            second,
            weights,
            &mut tile,
            &mut factors,
            &mut sums,
            &at,
            of_second,
            of_first,
            read,
            form,
            by,
            cut,
        );
    }
    // Through shared memory, each plane its own, to where a unit knows which values it holds.
    let fours = comptime!(n / 4);
    let mut scratch = Shared::<[Four<f32>]>::new_slice(comptime!(cut.planes() * m * fours));
    let mine = plane * comptime!(m * fours);
    #[unroll]
    for row in 0..PLANE_ROWS {
        #[unroll]
        for part in 0..parts {
            sync_plane();
            let (end, sum) = (scratch.len(), &sums[comptime!(row * parts + part)]);
            cmma::store(&mut scratch[mine..end], sum, comptime!(n as u32), MatrixLayout::RowMajor);
            sync_plane();
            let at_row = CUBE_POS_Y as usize * cut.rows + row0 + row;
            for k in range_stepped(UNIT_POS_X as usize, comptime!(m * fours), comptime!(by.plane)) {
                let at_col = CUBE_POS_X as usize * m + k / fours;
                let four = (block * form.block + output0 + part * n) / 4 + k % fours;
                if at_row < side && at_col < side {
                    let at = ((window * side + at_row) * side + at_col) * (outputs / 4) + four;
                    out[at] = finished::<E>(scratch[mine + k] + bias[four], form.elu, kind);
                }
            }
        }
    }
}

/// What a plane of units answers for.
#[derive(CubeType)]
struct Plane {
    window: usize,
    /// Of the window, px.
    side: usize,
    /// Of outputs.
    block: usize,
    /// In the workgroup.
    row0: usize,
    /// In the block.
    output0: usize,
    /// Of the convolution.
    outputs: usize,
}

/// Adds the products of a source of so many `channels`, before which the weights count `before`.
#[cube]
fn add_source<E: Float>(
    source: &[Four<E>],
    weights: &[Four<E>],
    tile: &mut [Four<E>],
    factors: &mut [Four<E>],
    sums: &mut Sequence<Matrix<f32>>,
    at: &Plane,
    channels: usize,
    before: usize,
    #[comptime] read: Reading,
    #[comptime] form: Form,
    #[comptime] by: Matrices,
    #[comptime] cut: Cut,
) {
    let units = comptime!(cut.planes() * by.plane);
    let (wide, fours) = comptime!((by.rows + 2, form.chunk / 4));
    let steps = comptime!(form.chunk / by.depth);
    // Fours of the tile, of the weights, and of these those of a tap: of the block, and of all.
    let pixels = comptime!((cut.rows + 2) * wide * fours);
    let taps = comptime!(9 * form.chunk * form.block / 4);
    let mine = comptime!(form.block * by.depth / 4);
    let all = at.outputs * comptime!(by.depth / 4);
    // A unit's share of the tile is the same pixels for all channels.
    let mut places = Array::<usize>::new(comptime!(pixels.div_ceil(units)));
    #[unroll]
    for k in 0..comptime!(pixels.div_ceil(units)) {
        let pixel = (UNIT_POS as usize + k * units) / fours;
        // Before the window's first row or column: a huge number, which is outside as well.
        let row = CUBE_POS_Y as usize * cut.rows + pixel / wide - 1;
        let col = CUBE_POS_X as usize * by.rows + pixel % wide - 1;
        places[k] = place(at.window, row, col, at.side, channels / 4, read);
    }
    let mut some_pixels = Array::<Four<E>>::new(comptime!(pixels.div_ceil(units)));
    let mut some_taps = Array::<Four<E>>::new(comptime!(taps.div_ceil(units)));
    for chunk in 0..channels / form.chunk {
        // All that is read is on its way before any of it is waited for.
        #[unroll]
        for k in 0..comptime!(pixels.div_ceil(units)) {
            let unit = UNIT_POS as usize + k * units;
            if comptime!((k + 1) * units <= pixels) || unit < pixels {
                some_pixels[k] =
                    there::<E>(source, places[k], chunk * fours + unit % fours, at.side, channels / 4, read);
            }
        }
        #[unroll]
        for k in 0..comptime!(taps.div_ceil(units)) {
            let unit = UNIT_POS as usize + k * units;
            if comptime!((k + 1) * units <= taps) || unit < taps {
                let tap = before / by.depth * 9 + chunk * comptime!(9 * steps) + unit / mine;
                some_taps[k] = weights[tap * all + at.block * mine + unit % mine];
            }
        }
        sync_cube();
        #[unroll]
        for k in 0..comptime!(pixels.div_ceil(units)) {
            let unit = UNIT_POS as usize + k * units;
            if comptime!((k + 1) * units <= pixels) || unit < pixels {
                tile[unit / fours * comptime!(form.stride()) + unit % fours] = some_pixels[k];
            }
        }
        #[unroll]
        for k in 0..comptime!(taps.div_ceil(units)) {
            let unit = UNIT_POS as usize + k * units;
            if comptime!((k + 1) * units <= taps) || unit < taps {
                factors[unit] = some_taps[k];
            }
        }
        sync_cube();
        for step in 0..steps {
            for shift in 0..3usize {
                multiply::<E>(tile, factors, sums, at, step, shift, form, by, cut.parts);
            }
        }
    }
}

/// Adds the products of one step of depth and one column of taps: a row that is loaded serves the three that it touches.
#[cube]
fn multiply<E: Float>(
    tile: &mut [Four<E>],
    factors: &mut [Four<E>],
    sums: &mut Sequence<Matrix<f32>>,
    at: &Plane,
    step: usize,
    shift: usize,
    #[comptime] form: Form,
    #[comptime] by: Matrices,
    #[comptime] parts: usize,
) {
    let (m, n, k) = comptime!((by.rows, by.cols, by.depth));
    let mut pixels = Sequence::<Matrix<Four<E>>>::new();
    #[unroll]
    for row in 0..comptime!(PLANE_ROWS + 2) {
        let first = ((at.row0 + row) * comptime!(m + 2) + shift) * comptime!(form.stride());
        let from = &tile[first + step * comptime!(k / 4)..tile.len()];
        let every = comptime!(form.stride() as u32 * 4);
        pixels.push(Matrix::<Four<E>>::from_slice(
            MatrixIdent::A,
            m,
            n,
            k,
            MatrixLayout::RowMajor,
            from,
            every,
        ));
    }
    #[unroll]
    for tap in 0..3usize {
        #[unroll]
        for part in 0..parts {
            let of = (step * 9 + tap * 3 + shift) * comptime!(form.block / n) + at.output0 / n + part;
            let from = &factors[of * comptime!(n * k / 4)..factors.len()];
            let every = comptime!(k as u32);
            let weight =
                Matrix::<Four<E>>::from_slice(MatrixIdent::B, m, n, k, MatrixLayout::ColMajor, from, every);
            #[unroll]
            for row in 0..PLANE_ROWS {
                let sum = &sums[comptime!(row * parts + part)];
                cmma::execute(&pixels[comptime!(row + tap)], &weight, sum, sum);
            }
        }
    }
}

/// As [`conv_matrices`], number by number in f32. `weights` is
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
    let blocks = outputs / form.block;
    let window = CUBE_POS_Z as usize / blocks;
    let block = CUBE_POS_Z as usize % blocks;

    let mut sums = Array::<Four<f32>>::new(comptime!(UNIT_ROWS * 2));
    #[unroll]
    for k in 0..comptime!(UNIT_ROWS * 2) {
        sums[k] = Four::<f32>::new(0.0);
    }
    for chunk in 0..(of_first + of_second) / form.chunk {
        sync_cube();
        stage::<E>(first, second, &mut tile, chunk, window, side, of_first, of_second, form, stride);
        let count = comptime!(9 * form.chunk * wide);
        for k in range_stepped(unit, count, CUBE_DIM as usize) {
            factors[k] = weights[(chunk * blocks + block) * count + k];
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
                            sums[comptime!(row * 2)] += pixel * low;
                            sums[comptime!(row * 2 + 1)] += pixel * high;
                        }
                    }
                }
            }
        }
    }
    let col = CUBE_POS_X as usize * TILE + col;
    let four = block * wide + group;
    #[unroll]
    for row in 0..UNIT_ROWS {
        let at_row = CUBE_POS_Y as usize * TILE + row0 + row;
        if at_row < side && col < side {
            let at = ((window * side + at_row) * side + col) * (outputs / 4) + four;
            out[at] = finished::<E>(sums[comptime!(row * 2)] + bias[four], form.elu, kind);
            out[at + 1] = finished::<E>(sums[comptime!(row * 2 + 1)] + bias[four + 1], form.elu, kind);
        }
    }
}

/// The first convolution, of grey levels, four a word: a unit computes four channels of a pixel. `weights` is
/// `[tap][outputs]`.
#[cube(launch)]
pub fn conv_grey<E: Numeric>(
    grey: &[u32],
    weights: &[Four<f32>],
    bias: &[Four<f32>],
    out: &mut [Four<E>],
    side: usize,
    #[comptime] outputs: usize,
    #[comptime] rises: bool,
    #[define(E)] kind: ElemType,
) {
    if ABSOLUTE_POS < out.len() {
        let fours = comptime!(outputs / 4);
        let (pixel, four) = (ABSOLUTE_POS / fours, ABSOLUTE_POS % fours);
        let (row, col) = (pixel / side % side, pixel % side);
        let mut sum = Four::<f32>::new(0.0);
        #[unroll]
        for tap in 0..9usize {
            let (down, right) = comptime!((tap / 3, tap % 3));
            if row + down - 1 < side && col + right - 1 < side {
                let at = pixel + down * side + right - side - 1;
                let value = (grey[at / 4] >> ((at % 4) as u32 * 8)) & 255;
                sum += Four::<f32>::new(f32::cast_from(value) / 255.0) * weights[tap * fours + four];
            }
        }
        out[ABSOLUTE_POS] = finished::<E>(sum + bias[four], rises, kind);
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
        sum += Four::<f32>::cast_from(source[pixel * fours + four]) * weights[four];
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
