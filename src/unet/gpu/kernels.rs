//! What runs on the GPU. Activations are `[window, row, col, channel]`, their channels padded with zeros to a
//! multiple of [`CHANNELS`] and read four at a time.
//!
//! A convolution keeps the sums of a few rows by one stretch of columns in registers: what is read for a row serves
//! the three rows that it touches. A workgroup puts what its tile of pixels needs into shared memory, some input
//! channels at a time.
// A kernel's `_type` is read where it is compiled, not where it runs.
#![allow(clippy::used_underscore_binding)]

use cubecl::cmma::{self, Matrix, MatrixIdent, MatrixLayout};
use cubecl::prelude::*;

/// Channels are padded to a multiple of this.
pub const CHANNELS: usize = 16;
/// Rows that a workgroup answers for, and columns where it multiplies numbers.
pub const TILE: usize = 16;
/// Rows, and outputs, that a unit keeps the sums of.
const UNIT_ROWS: usize = 8;
const UNIT_OUTPUTS: usize = 8;
/// Rows that a plane of units keeps the sums of.
const PLANE_ROWS: usize = 4;

/// Four values at once.
type Four<E> = Vector<E, Const<4>>;

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

/// What a convolution is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conv {
    /// In the order of its weights.
    pub sources: [Option<Source>; 2],
    /// Padded channels out.
    pub outputs: usize,
    /// Input channels in shared memory at a time.
    pub chunk: usize,
    /// Outputs that a workgroup computes.
    pub block: usize,
}

impl Conv {
    fn chunks(&self) -> usize {
        self.sources.iter().flatten().map(|source| source.channels / self.chunk).sum()
    }
}

/// Rows, columns and depth of a cooperative matrix, the units of a plane, and the most input channels at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Matrices {
    pub rows: usize,
    pub cols: usize,
    pub depth: usize,
    pub plane: usize,
    pub chunk: usize,
}

impl Matrices {
    /// Outputs that a plane keeps the sums of: two matrices of them, if there are so many.
    fn outputs(&self, conv: &Conv) -> usize {
        conv.block.min(2 * self.cols)
    }

    /// Planes of a workgroup.
    fn planes(&self, conv: &Conv) -> usize {
        TILE / PLANE_ROWS * (conv.block / self.outputs(conv))
    }

    /// The units of a workgroup, a plane a row.
    pub fn units(&self, conv: &Conv) -> CubeDim {
        CubeDim::new_2d(self.plane as u32, self.planes(conv) as u32)
    }

    /// Shared memory that a workgroup needs at most, with `chunk` input channels at a time.
    pub fn shared_bytes(&self, chunk: usize) -> usize {
        let scratch = 2 * (TILE / PLANE_ROWS) * self.rows * self.cols * 4;
        (TILE + 2) * (self.rows + 2) * (chunk + 8) * 2 + scratch
    }
}

/// The units of a workgroup that multiplies numbers.
pub fn units(conv: &Conv) -> CubeDim {
    CubeDim::new_1d((TILE * (TILE / UNIT_ROWS) * (conv.block / UNIT_OUTPUTS)) as u32)
}

#[cube]
fn elu(x: Four<f32>) -> Four<f32> {
    let zero = Four::<f32>::new(0.0);
    max(x, zero) + (min(x, zero).exp() - Four::<f32>::new(1.0))
}

/// Four channels of a source at a pixel of the convolution; zeros outside of the window.
#[cube]
fn pixel<E: Numeric, S: Numeric>(
    source: &[Four<E>],
    window: usize,
    row: usize,
    col: usize,
    four: usize,
    side: usize,
    #[comptime] read: Source,
) -> Four<S> {
    let fours = comptime!(read.channels / 4);
    let mut value = Four::<S>::new(S::from_int(0));
    if row < side && col < side {
        match comptime!(read.reading) {
            Reading::Same => {
                let at = ((window * side + row) * side + col) * fours + four;
                value = Four::<S>::cast_from(source[at]);
            }
            Reading::Doubled => {
                let half = side / 2;
                let at = ((window * half + row / 2) * half + col / 2) * fours + four;
                value = Four::<S>::cast_from(source[at]);
            }
            Reading::Halved => {
                let twice = side * 2;
                let at = ((window * twice + row * 2) * twice + col * 2) * fours + four;
                let under = at + twice * fours;
                let upper =
                    max(Four::<f32>::cast_from(source[at]), Four::<f32>::cast_from(source[at + fours]));
                let lower =
                    max(Four::<f32>::cast_from(source[under]), Four::<f32>::cast_from(source[under + fours]));
                value = Four::<S>::cast_from(max(upper, lower));
            }
        }
    }
    value
}

/// Puts a chunk of the sources' channels into shared memory, for the workgroup's pixels and those around them, a pixel
/// every `stride`.
#[cube]
fn stage<E: Numeric, S: Numeric>(
    first: &[Four<E>],
    second: &[Four<E>],
    tile: &mut [Four<S>],
    chunk: usize,
    window: usize,
    side: usize,
    #[comptime] conv: Conv,
    #[comptime] cols: usize,
    #[comptime] stride: usize,
) {
    let (fours, wide) = comptime!((conv.chunk / 4, cols + 2));
    let (row0, col0) = (CUBE_POS_Y as usize * TILE, CUBE_POS_X as usize * cols);
    let before = comptime!(conv.sources[0].map_or(0, |source| source.channels / conv.chunk));
    for k in range_stepped(UNIT_POS as usize, comptime!((TILE + 2) * wide * fours), CUBE_DIM as usize) {
        let (at, four) = (k / fours, k % fours);
        // Before the window's first row or column: a huge number, which is outside as well.
        let (row, col) = (row0 + at / wide - 1, col0 + at % wide - 1);
        let mut value = Four::<S>::new(S::from_int(0));
        if chunk < before {
            value = pixel::<E, S>(
                first,
                window,
                row,
                col,
                chunk * fours + four,
                side,
                comptime!(conv.sources[0].expect("the first")),
            );
        } else if comptime!(conv.sources[1].is_some()) {
            value = pixel::<E, S>(
                second,
                window,
                row,
                col,
                (chunk - before) * fours + four,
                side,
                comptime!(conv.sources[1].expect("asked")),
            );
        }
        tile[at * stride + four] = value;
    }
}

/// A 3x3 convolution with bias and ELU, its products of `E` by cooperative matrices, its sums in f32. `weights` is
/// `[step of depth][tap][outputs / cols][cols][depth]`.
#[cube(launch)]
pub fn conv_matrices<E: Float>(
    first: &[Four<E>],
    second: &[Four<E>],
    weights: &[Four<E>],
    bias: &[Four<f32>],
    out: &mut [Four<E>],
    side: usize,
    #[comptime] conv: Conv,
    #[comptime] by: Matrices,
    #[define(E)] _type: ElemType,
) {
    let (m, n, k) = comptime!((by.rows, by.cols, by.depth));
    let outputs = comptime!(by.outputs(&conv));
    // A pixel's channels and eight more: neighbours then lie in different banks.
    let stride = comptime!((conv.chunk + 8) / 4);
    let (wide, parts) = comptime!((m + 2, outputs / n));
    // Cooperative matrices are loaded from multiples of 16 bytes: so is all that follows.
    let mut tile = Shared::<[Four<E>]>::new_aligned_slice(comptime!((TILE + 2) * wide * stride), 16usize);

    let plane = UNIT_POS_Y as usize;
    let down = comptime!(TILE / PLANE_ROWS);
    let row0 = plane % down * PLANE_ROWS;
    let blocks = comptime!(conv.outputs / conv.block);
    let window = CUBE_POS_Z as usize / blocks;
    let output0 = CUBE_POS_Z as usize % blocks * conv.block + plane / down * outputs;

    let mut sums = Sequence::<Matrix<f32>>::new();
    #[unroll]
    for _ in 0..comptime!(PLANE_ROWS * parts) {
        sums.push(Matrix::<f32>::from_value(MatrixIdent::Accumulator, m, n, k, MatrixLayout::Undefined, 0.0));
    }
    let steps = comptime!(conv.chunk / k);
    for chunk in 0..comptime!(conv.chunks()) {
        sync_cube();
        stage::<E, E>(first, second, &mut tile, chunk, window, side, conv, m, stride);
        sync_cube();
        for step in 0..steps {
            for shift in 0..3usize {
                let mut pixels = Sequence::<Matrix<Four<E>>>::new();
                #[unroll]
                for row in 0..comptime!(PLANE_ROWS + 2) {
                    let at = ((row0 + row) * wide + shift) * stride + step * comptime!(k / 4);
                    let (from, every) = (&tile[at..tile.len()], comptime!(stride as u32 * 4));
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
                    let of = (chunk * steps + step) * 9 + tap * 3 + shift;
                    #[unroll]
                    for part in 0..parts {
                        let at =
                            (of * comptime!(conv.outputs / n) + output0 / n + part) * comptime!(n * k / 4);
                        let (from, every) = (&weights[at..weights.len()], comptime!(k as u32));
                        let weight = Matrix::<Four<E>>::from_slice(
                            MatrixIdent::B,
                            m,
                            n,
                            k,
                            MatrixLayout::ColMajor,
                            from,
                            every,
                        );
                        #[unroll]
                        for row in 0..PLANE_ROWS {
                            let sum = &sums[comptime!(row * parts + part)];
                            cmma::execute(&pixels[comptime!(row + tap)], &weight, sum, sum);
                        }
                    }
                }
            }
        }
    }
    // Through shared memory, each plane its own, to where a unit knows which values it holds.
    let fours = comptime!(n / 4);
    let mut scratch = Shared::<[Four<f32>]>::new_slice(comptime!(by.planes(&conv) * m * fours));
    let mine = plane * comptime!(m * fours);
    #[unroll]
    for row in 0..PLANE_ROWS {
        #[unroll]
        for part in 0..parts {
            sync_plane();
            let (end, sum) = (scratch.len(), &sums[comptime!(row * parts + part)]);
            cmma::store(&mut scratch[mine..end], sum, comptime!(n as u32), MatrixLayout::RowMajor);
            sync_plane();
            let at_row = CUBE_POS_Y as usize * TILE + row0 + row;
            for k in range_stepped(UNIT_POS_X as usize, comptime!(m * fours), comptime!(by.plane)) {
                let at_col = CUBE_POS_X as usize * m + k / fours;
                let four = (output0 + part * n) / 4 + k % fours;
                if at_row < side && at_col < side {
                    let at = ((window * side + at_row) * side + at_col) * comptime!(conv.outputs / 4) + four;
                    out[at] = Four::<E>::cast_from(elu(scratch[mine + k] + bias[four]));
                }
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
    #[comptime] conv: Conv,
    #[define(E)] _type: ElemType,
) {
    // A pixel's channels and four more: neighbours then lie in different banks.
    let stride = comptime!((conv.chunk + 4) / 4);
    let wide = comptime!(conv.block / 4);
    let mut tile = Shared::<[Four<f32>]>::new_slice(comptime!((TILE + 2) * (TILE + 2) * stride));
    let mut factors = Shared::<[Four<f32>]>::new_slice(comptime!(9 * conv.chunk * wide));

    let unit = UNIT_POS as usize;
    let col = unit % TILE;
    let group = unit / TILE % comptime!(conv.block / UNIT_OUTPUTS) * comptime!(UNIT_OUTPUTS / 4);
    let row0 = unit / comptime!(TILE * conv.block / UNIT_OUTPUTS) * UNIT_ROWS;
    let blocks = comptime!(conv.outputs / conv.block);
    let window = CUBE_POS_Z as usize / blocks;
    let block = CUBE_POS_Z as usize % blocks;

    let mut sums = Array::<Four<f32>>::new(comptime!(UNIT_ROWS * 2));
    #[unroll]
    for k in 0..comptime!(UNIT_ROWS * 2) {
        sums[k] = Four::<f32>::new(0.0);
    }
    for chunk in 0..comptime!(conv.chunks()) {
        sync_cube();
        stage::<E, f32>(first, second, &mut tile, chunk, window, side, conv, TILE, stride);
        let count = comptime!(9 * conv.chunk * wide);
        for k in range_stepped(unit, count, CUBE_DIM as usize) {
            factors[k] = weights[(chunk * blocks + block) * count + k];
        }
        sync_cube();
        for shift in 0..3usize {
            for four in 0..comptime!(conv.chunk / 4) {
                let mut pixels = Array::<Four<f32>>::new(comptime!(UNIT_ROWS + 2));
                #[unroll]
                for row in 0..comptime!(UNIT_ROWS + 2) {
                    pixels[row] = tile[((row0 + row) * (TILE + 2) + col + shift) * stride + four];
                }
                #[unroll]
                for tap in 0..3usize {
                    #[unroll]
                    for channel in 0..4usize {
                        let at = ((tap * 3 + shift) * conv.chunk + four * 4 + channel) * wide + group;
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
            let at = ((window * side + at_row) * side + col) * comptime!(conv.outputs / 4) + four;
            out[at] = Four::<E>::cast_from(elu(sums[comptime!(row * 2)] + bias[four]));
            out[at + 1] = Four::<E>::cast_from(elu(sums[comptime!(row * 2 + 1)] + bias[four + 1]));
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
    #[define(E)] _type: ElemType,
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
        out[ABSOLUTE_POS] = Four::<E>::cast_from(elu(sum + bias[four]));
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
    #[define(E)] _type: ElemType,
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
