//! Slopes of a convolution's weights, in parts: products of what it read and of its sums' slopes.
// A kernel's `_type` is read where it is compiled, not where it runs.
#![allow(clippy::used_underscore_binding)]

use cubecl::cmma::{self, Matrix, MatrixIdent, MatrixLayout};
use cubecl::prelude::*;

use super::norm::{BUSY, UNITS, added};
use crate::unet::gpu::kernels::{CHANNELS, Eight, Four, Matrices, OUTSIDE, Reading, Source, place, there};
use crate::unet::gpu::matrices::loaded;

/// Columns of a tile of pixels.
const COLS: usize = 16;
/// Its rows.
const ROWS: usize = 8;
/// Elements of [`CHANNELS`].
const FOURS: usize = CHANNELS / 4;
/// Columns that a unit walks down where it multiplies numbers, and units that share out a tile's columns.
const WALKED: usize = 4;
const GROUPS: usize = COLS / WALKED;
/// Units of a workgroup that multiplies numbers: of columns, shifts, and four inputs by four outputs.
pub const NUMBER_UNITS: usize = GROUPS * 3 * FOURS * FOURS;

/// The slopes of a convolution's weights: what differs between those of one kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slopes {
    /// What the convolution read, in the order of its weights.
    pub first: Source,
    pub second: Option<Source>,
    /// Its padded outputs.
    pub outputs: usize,
    pub form: Form,
}

/// What they are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Form {
    pub first: Reading,
    pub second: Option<Reading>,
    /// Inputs and outputs of a workgroup.
    pub block: [usize; 2],
    /// Rows of pixels that a plane of units holds at a time.
    pub rows: usize,
}

impl Form {
    /// A plane for each matrix.
    fn planes(&self, by: Matrices) -> usize {
        self.block[0] / by.rows * (self.block[1] / by.cols)
    }

    /// The units of a workgroup, a plane a row.
    pub fn units(&self, by: Matrices) -> CubeDim {
        CubeDim::new_2d(by.plane as u32, self.planes(by) as u32)
    }

    /// Eights in shared memory of a tile: of what was read, and of slopes. A pixel has one more than its channels, so that
    /// neighbours lie in different banks.
    fn inputs(&self) -> usize {
        (ROWS + 2) * (COLS + 2) * (self.block[0] / 8 + 1)
    }

    fn outputs(&self) -> usize {
        ROWS * COLS * (self.block[1] / 8 + 1)
    }
}

impl Slopes {
    /// Cut in blocks of 16 inputs and outputs, or of two matrices each way.
    pub fn new(first: Source, second: Option<Source>, outputs: usize, matrices: Option<Matrices>) -> Self {
        let inputs = |size| {
            first.channels.is_multiple_of(size) && second.is_none_or(|s| s.channels.is_multiple_of(size))
        };
        let two = |fits: bool, size: usize| if fits { 2 * size } else { size };
        let (block, rows) = match matrices {
            // Narrow planes are those of a software Vulkan, which takes long to compile what is unrolled.
            Some(by) => (
                [two(inputs(2 * by.rows), by.rows), two(outputs.is_multiple_of(2 * by.cols), by.cols)],
                if by.plane >= 32 { 4 } else { 2 },
            ),
            None => ([CHANNELS; 2], 0),
        };
        let form = Form { first: first.reading, second: second.map(|second| second.reading), block, rows };
        Self { first, second, outputs, form }
    }

    /// Padded channels of the second source, if there is one.
    pub fn of_second(&self) -> usize {
        self.second.map_or(0, |second| second.channels)
    }

    /// Padded channels in.
    pub fn inputs(&self) -> usize {
        self.first.channels + self.of_second()
    }

    /// Workgroups for a part of the pixels.
    pub fn blocks(&self) -> usize {
        self.inputs() / self.form.block[0] * (self.outputs / self.form.block[1])
    }

    /// Parts that the pixels are cut in, so that a large device is busy; matrices fill it with fewer workgroups.
    pub fn parts(&self) -> usize {
        let busy = if self.form.rows > 0 { BUSY / 2 } else { BUSY };
        (busy / self.blocks()).max(1)
    }

    /// Tiles of a picture.
    pub fn tiles(side: usize) -> usize {
        side.div_ceil(ROWS) * side.div_ceil(COLS)
    }
}

/// What a workgroup answers for.
#[derive(CubeType)]
struct Block {
    /// Of the pictures, px.
    side: usize,
    of_first: usize,
    of_second: usize,
    outputs: usize,
    /// The first of its inputs and outputs.
    input: usize,
    output: usize,
}

/// The workgroup's.
#[cube]
fn block_of(side: usize, of_first: usize, of_second: usize, outputs: usize, #[comptime] form: Form) -> Block {
    let across = outputs / comptime!(form.block[1]);
    let input = CUBE_POS_X as usize / across * comptime!(form.block[0]);
    let output = CUBE_POS_X as usize % across * comptime!(form.block[1]);
    Block { side, of_first, of_second, outputs, input, output }
}

/// Image, first row and first column of a tile.
#[cube]
fn corner(tile: usize, side: usize) -> (usize, usize, usize) {
    let wide = side.div_ceil(COLS);
    let tiles = side.div_ceil(ROWS) * wide;
    (tile / tiles, tile % tiles / wide * ROWS, tile % tiles % wide * COLS)
}

/// Four of the block's inputs at a pixel of a tile or around it; `k` counts pixels and fours.
#[cube]
fn input_of<E: Numeric>(
    first: &[Four<E>],
    second: &[Four<E>],
    of: &Block,
    tile: usize,
    k: usize,
    #[comptime] form: Form,
) -> Four<E> {
    let (fours, wide) = comptime!((form.block[0] / 4, COLS + 2));
    let (image, row0, col0) = corner(tile, of.side);
    // Before the first row or column: a huge number, which is outside as well.
    let (row, col) = (row0 + k / fours / wide - 1, col0 + k / fours % wide - 1);
    let four = of.input / 4 + k % fours;
    let mut value = Four::<E>::new(E::from_int(0));
    if four < of.of_first / 4 {
        let at = place(image, row, col, of.side, of.of_first / 4, form.first);
        value = there::<E>(first, at, four);
    } else if let Some(read) = comptime!(form.second) {
        let at = place(image, row, col, of.side, of.of_second / 4, read);
        value = there::<E>(second, at, four - of.of_first / 4);
    }
    value
}

/// The same of the slopes of the block's outputs, at a pixel of a tile.
#[cube]
fn slope_of<E: Numeric>(
    slopes: &[Four<E>],
    of: &Block,
    tile: usize,
    k: usize,
    #[comptime] form: Form,
) -> Four<E> {
    let fours = comptime!(form.block[1] / 4);
    let (image, row0, col0) = corner(tile, of.side);
    let (row, col) = (row0 + k / fours / COLS, col0 + k / fours % COLS);
    let at = place(image, row, col, of.side, of.outputs / 4, Reading::Same);
    there::<E>(slopes, at, of.output / 4 + k % fours)
}

/// Slopes of a convolution's weights over a part of the tiles, number by number: `[part][tap][inputs][outputs]`.
#[cube(launch)]
pub fn weight_slopes_numbers<E: Numeric>(
    first: &[Four<E>],
    second: &[Four<E>],
    slopes: &[Four<E>],
    out: &mut [Four<f32>],
    side: usize,
    of_first: usize,
    of_second: usize,
    of_slopes: usize,
    tiles: usize,
    each: usize,
    #[comptime] form: Form,
    #[define(E)] _type: ElemType,
) {
    let mut inputs = Shared::<[Four<f32>]>::new_slice(comptime!((ROWS + 2) * (COLS + 2) * FOURS));
    let mut outputs = Shared::<[Four<f32>]>::new_slice(comptime!(ROWS * COLS * FOURS));
    let mut shared = Shared::<[Four<f32>]>::new_slice(NUMBER_UNITS);
    let unit = UNIT_POS as usize;
    let (o, i) = (unit % FOURS, unit / FOURS % FOURS);
    let (shift, group) = (unit / comptime!(FOURS * FOURS) % 3, unit / comptime!(3 * FOURS * FOURS));
    let of = block_of(side, of_first, of_second, of_slopes, form);
    let mut sums = Array::<Four<f32>>::new(12usize);
    #[unroll]
    for k in 0..12usize {
        sums[k] = Four::<f32>::new(0.0);
    }
    let begin = CUBE_POS_Y as usize * each;
    for tile in begin..min(begin + each, tiles) {
        sync_cube();
        for k in range_stepped(unit, comptime!((ROWS + 2) * (COLS + 2) * FOURS), NUMBER_UNITS) {
            inputs[k] = Four::<f32>::cast_from(input_of::<E>(first, second, &of, tile, k, form));
        }
        for k in range_stepped(unit, comptime!(ROWS * COLS * FOURS), NUMBER_UNITS) {
            outputs[k] = Four::<f32>::cast_from(slope_of::<E>(slopes, &of, tile, k, form));
        }
        sync_cube();
        for step in 0..WALKED {
            let col = group * WALKED + step;
            // What is read for a row serves the three rows that it touches.
            let from = (col + shift) * FOURS + i;
            let mut above = inputs[from];
            let mut level = inputs[from + comptime!((COLS + 2) * FOURS)];
            for row in 0..ROWS {
                let slope = outputs[(row * COLS + col) * FOURS + o];
                let below = inputs[from + (row + 2) * comptime!((COLS + 2) * FOURS)];
                #[unroll]
                for lane in 0..4usize {
                    let (second, third) = comptime!((4 + lane, 8 + lane));
                    sums[lane] = fma(Four::<f32>::new(above.extract(lane)), slope, sums[lane]);
                    sums[second] = fma(Four::<f32>::new(level.extract(lane)), slope, sums[second]);
                    sums[third] = fma(Four::<f32>::new(below.extract(lane)), slope, sums[third]);
                }
                above = level;
                level = below;
            }
        }
    }
    #[unroll]
    for k in 0..12usize {
        let sum = added(&mut shared, sums[k], NUMBER_UNITS, comptime!(3 * FOURS * FOURS));
        if group == 0 {
            let tap = comptime!(k / 4 * 3) + shift;
            let part = CUBE_POS_Y as usize * 9 + tap;
            let at = part * (of_first + of_second) + of.input + i * 4 + comptime!(k % 4);
            out[at * (of_slopes / 4) + of.output / 4 + o] = sum;
        }
    }
}

/// As [`weight_slopes_numbers`], by cooperative matrices: their depth is a stretch of a row of pixels, and a plane keeps
/// nine of them, one a tap.
#[cube(launch)]
pub fn weight_slopes_matrices<E: Float>(
    first: &[Eight],
    second: &[Eight],
    slopes: &[Eight],
    out: &mut [Four<f32>],
    side: usize,
    of_first: usize,
    of_second: usize,
    of_slopes: usize,
    tiles: usize,
    each: usize,
    #[comptime] form: Form,
    #[comptime] by: Matrices,
    #[define(E)] _type: ElemType,
) {
    let (m, n, k) = comptime!((by.rows, by.cols, by.depth));
    let mut shared = Shared::<[Eight]>::new_aligned_slice(comptime!(form.inputs() + form.outputs()), 16usize);
    let of = block_of(side, of_first, of_second, of_slopes, form);
    let mut sums = Sequence::<Matrix<f32>>::new();
    #[unroll]
    for _ in 0..9usize {
        sums.push(Matrix::<f32>::from_value(MatrixIdent::Accumulator, m, n, k, MatrixLayout::Undefined, 0.0));
    }
    let begin = CUBE_POS_Y as usize * each;
    let end = min(begin + each, tiles);
    if of.input < of_first {
        let from = (of.input, of_first);
        add_tiles::<E>(first, slopes, &mut shared, &mut sums, &of, from, (begin, end), form.first, form, by);
    } else if let Some(read) = comptime!(form.second) {
        let from = (of.input - of_first, of_second);
        add_tiles::<E>(second, slopes, &mut shared, &mut sums, &of, from, (begin, end), read, form, by);
    }
    let (input0, output0) = of_plane(form, by);
    #[unroll]
    for tap in 0..9usize {
        let part = CUBE_POS_Y as usize * 9 + tap;
        let at =
            (part * (of_first + of_second) + of.input + input0) * (of_slopes / 4) + (of.output + output0) / 4;
        let end = out.len();
        cmma::store(&mut out[at..end], &sums[tap], of_slopes as u32, MatrixLayout::RowMajor);
    }
}

/// The first input and output of a plane, in the workgroup's.
#[cube]
fn of_plane(#[comptime] form: Form, #[comptime] by: Matrices) -> (usize, usize) {
    let across = comptime!(form.block[1] / by.cols);
    (UNIT_POS_Y as usize / across * by.rows, UNIT_POS_Y as usize % across * by.cols)
}

/// Adds the products over some tiles of one source: `from` are the block's first channel there, and all it has.
#[cube]
fn add_tiles<E: Float>(
    source: &[Eight],
    slopes: &[Eight],
    shared: &mut [Eight],
    sums: &mut Sequence<Matrix<f32>>,
    of: &Block,
    from: (usize, usize),
    tiles: (usize, usize),
    #[comptime] read: Reading,
    #[comptime] form: Form,
    #[comptime] by: Matrices,
) {
    let units = comptime!(by.plane * form.planes(by));
    // Eights of a pixel, and of a tile.
    let (per_input, per_output) = comptime!((form.block[0] / 8, form.block[1] / 8));
    let (ins, outs) = comptime!(((ROWS + 2) * (COLS + 2) * per_input, ROWS * COLS * per_output));
    let (in_stride, out_stride) = comptime!((per_input + 1, per_output + 1));
    let unit = UNIT_POS as usize;
    let (put_input, put_output) = (
        unit / per_input * in_stride + unit % per_input,
        form.inputs() + unit / per_output * out_stride + unit % per_output,
    );
    let (input, output) = (from.0 / 8 + unit % per_input, of.output / 8 + unit % per_output);
    let (input0, output0) = of_plane(form, by);
    let mut some_inputs = Array::<Eight>::new(comptime!(ins.div_ceil(units)));
    let mut some_outputs = Array::<Eight>::new(comptime!(outs.div_ceil(units)));
    for tile in tiles.0..tiles.1 {
        let (image, row0, col0) = corner(tile, of.side);
        // All that is read is on its way before any of it is waited for.
        #[unroll]
        for k in 0..comptime!(ins.div_ceil(units)) {
            let pixel = unit / per_input + k * comptime!(units / per_input);
            // Before the first row or column: a huge number, which is outside as well.
            let (row, col) = (row0 + pixel / comptime!(COLS + 2) - 1, col0 + pixel % comptime!(COLS + 2) - 1);
            let at = place(image, row, col, of.side, from.1 / 8, read);
            some_inputs[k] = Eight::new(0);
            if at != OUTSIDE && (comptime!((k + 1) * units <= ins) || unit + k * units < ins) {
                some_inputs[k] = source[at + input];
            }
        }
        #[unroll]
        for k in 0..comptime!(outs.div_ceil(units)) {
            let pixel = unit / per_output + k * comptime!(units / per_output);
            let at = place(
                image,
                row0 + pixel / COLS,
                col0 + pixel % COLS,
                of.side,
                of.outputs / 8,
                Reading::Same,
            );
            some_outputs[k] = Eight::new(0);
            if at != OUTSIDE && (comptime!((k + 1) * units <= outs) || unit + k * units < outs) {
                some_outputs[k] = slopes[at + output];
            }
        }
        sync_cube();
        #[unroll]
        for k in 0..comptime!(ins.div_ceil(units)) {
            if comptime!((k + 1) * units <= ins) || unit + k * units < ins {
                shared[put_input + k * comptime!(units / per_input * in_stride)] = some_inputs[k];
            }
        }
        #[unroll]
        for k in 0..comptime!(outs.div_ceil(units)) {
            if comptime!((k + 1) * units <= outs) || unit + k * units < outs {
                shared[put_output + k * comptime!(units / per_output * out_stride)] = some_outputs[k];
            }
        }
        sync_cube();
        for step in 0..comptime!(COLS / by.depth * (ROWS / form.rows)) {
            let row = step / comptime!(COLS / by.depth) * form.rows;
            let col = step % comptime!(COLS / by.depth) * by.depth;
            let first_input = (row * comptime!(COLS + 2) + col) * in_stride + input0 / 8;
            let first_output = form.inputs() + (row * COLS + col) * out_stride + output0 / 8;
            multiply::<E>(shared, sums, first_input, first_output, form, by, (in_stride, out_stride));
        }
    }
}

/// Adds the products of a few rows by one depth of columns, from the elements of `input` and `output` on: what is loaded
/// of the inputs serves the rows of slopes that it touches.
#[cube]
fn multiply<E: Float>(
    shared: &mut [Eight],
    sums: &mut Sequence<Matrix<f32>>,
    input: usize,
    output: usize,
    #[comptime] form: Form,
    #[comptime] by: Matrices,
    #[comptime] strides: (usize, usize),
) {
    let mut factors = Sequence::<Matrix<E>>::new();
    #[unroll]
    for row in 0..comptime!(form.rows) {
        let at = output + row * comptime!(COLS * strides.1);
        factors.push(loaded::<E>(shared, at, strides.1, MatrixIdent::B, MatrixLayout::RowMajor, by));
    }
    #[unroll]
    for row in 0..comptime!(form.rows + 2) {
        #[unroll]
        for shift in 0..3usize {
            let at = input + (row * comptime!(COLS + 2) + shift) * strides.0;
            let values = loaded::<E>(shared, at, strides.0, MatrixIdent::A, MatrixLayout::ColMajor, by);
            #[unroll]
            for down in 0..3usize {
                if comptime!(row >= down && row - down < form.rows) {
                    let sum = &sums[comptime!(down * 3 + shift)];
                    cmma::execute(&values, &factors[comptime!(row - down)], sum, sum);
                }
            }
        }
    }
}

/// As [`weight_slopes_numbers`], of the first convolution, which reads grey levels, over a part of the pixels. A workgroup
/// takes [`CHANNELS`] outputs.
#[cube(launch)]
pub fn weight_slopes_grey<E: Numeric>(
    grey: &[u32],
    slopes: &[Four<E>],
    out: &mut [Four<f32>],
    pixels: usize,
    each: usize,
    side: usize,
    #[comptime] channels: usize,
    #[define(E)] _type: ElemType,
) {
    let mut shared = Shared::<[Four<f32>]>::new_slice(UNITS);
    let unit = UNIT_POS as usize;
    let fours = comptime!(channels / 4);
    let four = CUBE_POS_Y as usize * FOURS + unit % FOURS;
    let begin = CUBE_POS_X as usize * each;
    let mut sums = Array::<Four<f32>>::new(9usize);
    #[unroll]
    for tap in 0..9usize {
        sums[tap] = Four::<f32>::new(0.0);
    }
    for pixel in range_stepped(begin + unit / FOURS, min(begin + each, pixels), comptime!(UNITS / FOURS)) {
        let slope = Four::<f32>::cast_from(slopes[pixel * fours + four]);
        let (row, col) = (pixel / side % side, pixel % side);
        #[unroll]
        for tap in 0..9usize {
            let (down, right) = comptime!((tap / 3, tap % 3));
            if row + down - 1 < side && col + right - 1 < side {
                let at = pixel + down * side + right - side - 1;
                let value = (grey[at / 4] >> ((at % 4) as u32 * 8)) & 255;
                sums[tap] = fma(Four::<f32>::new(f32::cast_from(value) / 255.0), slope, sums[tap]);
            }
        }
    }
    #[unroll]
    for tap in 0..9usize {
        let sum = added(&mut shared, sums[tap], UNITS, FOURS);
        if unit < FOURS {
            out[(CUBE_POS_X as usize * 9 + tap) * fours + four] = sum;
        }
    }
}
