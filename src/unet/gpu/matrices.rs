//! A convolution by cooperative matrices.

use cubecl::cmma::{self, Matrix, MatrixIdent, MatrixLayout};
use cubecl::prelude::*;

use super::kernels::{Cut, Eight, Form, Four, Matrices, OUTSIDE, PLANE_ROWS, Reading, finished, place};

/// A 3x3 convolution with bias, and with ELU if that is asked for, of the windows' pixels from the given row and column on:
/// its products of `E` by cooperative matrices, its sums in f32. `weights` is `[chunk][output][tap][chunk's channels]`, of
/// an output eight zeros more.
#[cube(launch)]
pub fn conv_matrices<E: Float>(
    first: &[Eight],
    second: &[Eight],
    weights: &[Eight],
    bias: &[Four<f32>],
    out: &mut [Four<E>],
    side: usize,
    of_first: usize,
    of_second: usize,
    outputs: usize,
    first_row: usize,
    first_col: usize,
    #[comptime] form: Form,
    #[comptime] by: Matrices,
    #[comptime] cut: Cut,
    #[define(E)] kind: ElemType,
) {
    let (m, n, parts) = comptime!((by.rows, by.cols, cut.parts));
    let mut shared = Shared::<[Eight]>::new_aligned_slice(comptime!(cut.shared(&form, by)), 16usize);

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
    let (tile_row, tile_col) =
        (first_row + CUBE_POS_Y as usize * cut.rows, first_col + CUBE_POS_X as usize * m);
    let at = Plane { window, side, block, tile_row, tile_col, row0, output0, outputs };
    add_source::<E>(first, weights, &mut shared, &mut sums, &at, of_first, 0usize, form.first, form, by, cut);
    if let Some(read) = comptime!(form.second) {
        add_source::<E>(
            second,
            weights,
            &mut shared,
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
    sync_cube();
    let (fours, of_row) = comptime!((n / 4, m * n / 4));
    let mine = plane * comptime!(PLANE_ROWS * of_row);
    #[unroll]
    for part in 0..parts {
        sync_plane();
        #[unroll]
        for row in 0..PLANE_ROWS {
            let (begin, end) = (mine + row * of_row, shared.len());
            let sum = &sums[comptime!(row * parts + part)];
            cmma::store(&mut shared[begin..end], sum, comptime!(n as u32), MatrixLayout::RowMajor);
        }
        sync_plane();
        // A plane has units for whole pixels: each has the same outputs of all its pixels.
        let unit = UNIT_POS_X as usize;
        let four = (block * form.block + output0 + part * n) / 4 + unit % fours;
        let offset = bias[four];
        #[unroll]
        for k in 0..comptime!(PLANE_ROWS * of_row / by.plane) {
            let pixel = unit / fours + k * comptime!(by.plane / fours);
            let (at_row, at_col) = (tile_row + row0 + pixel / m, tile_col + pixel % m);
            let sum = Four::<f32>::reinterpret(shared[mine + unit + k * by.plane]);
            if at_row < side && at_col < side {
                let at = ((window * side + at_row) * side + at_col) * (outputs / 4) + four;
                out[at] = finished::<E>(sum + offset, form.elu, kind);
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
    /// The workgroup's first, in the window.
    tile_row: usize,
    tile_col: usize,
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
    source: &[Eight],
    weights: &[Eight],
    shared: &mut [Eight],
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
    let (wide, eights) = comptime!((by.rows + 2, form.chunk / 8));
    // Eights of the tile, and of the weights, of these an output's.
    let pixels = comptime!((cut.rows + 2) * wide * eights);
    let (taps, each) = comptime!((form.block * form.weights_stride(), form.weights_stride()));
    let factors = comptime!(cut.tile(&form, by));
    // A unit's share of the tile is the same pixels for all channels, and of these the same eight.
    let unit = UNIT_POS as usize;
    let put = unit / eights * form.stride() + unit % eights;
    let mut places = Array::<usize>::new(comptime!(pixels.div_ceil(units)));
    #[unroll]
    for k in 0..comptime!(pixels.div_ceil(units)) {
        let pixel = unit / eights + k * comptime!(units / eights);
        // Before the window's first row or column: a huge number, which is outside as well.
        let row = at.tile_row + pixel / wide - 1;
        let col = at.tile_col + pixel % wide - 1;
        places[k] = place(at.window, row, col, at.side, channels / 8, read);
    }
    let mut some_pixels = Array::<Eight>::new(comptime!(pixels.div_ceil(units)));
    let mut some_taps = Array::<Eight>::new(comptime!(taps.div_ceil(units)));
    for chunk in 0..channels / form.chunk {
        let first_tap = ((before / form.chunk + chunk) * at.outputs + at.block * form.block) * each + unit;
        // All that is read is on its way before any of it is waited for.
        #[unroll]
        for k in 0..comptime!(pixels.div_ceil(units)) {
            some_pixels[k] = Eight::new(0);
            if places[k] != OUTSIDE && (comptime!((k + 1) * units <= pixels) || unit + k * units < pixels) {
                some_pixels[k] = source[places[k] + chunk * eights + unit % eights];
            }
        }
        #[unroll]
        for k in 0..comptime!(taps.div_ceil(units)) {
            if comptime!((k + 1) * units <= taps) || unit + k * units < taps {
                some_taps[k] = weights[first_tap + k * units];
            }
        }
        sync_cube();
        #[unroll]
        for k in 0..comptime!(pixels.div_ceil(units)) {
            if comptime!((k + 1) * units <= pixels) || unit + k * units < pixels {
                shared[put + k * comptime!(units / eights * form.stride())] = some_pixels[k];
            }
        }
        #[unroll]
        for k in 0..comptime!(taps.div_ceil(units)) {
            if comptime!((k + 1) * units <= taps) || unit + k * units < taps {
                shared[factors + unit + k * units] = some_taps[k];
            }
        }
        sync_cube();
        for step in 0..comptime!(form.chunk / by.depth) {
            for shift in 0..3usize {
                multiply::<E>(shared, sums, at, step, shift, form, by, cut);
            }
        }
    }
}

/// Adds the products of one step of depth and one column of taps: a row that is loaded serves the three that it touches.
#[cube]
fn multiply<E: Float>(
    shared: &mut [Eight],
    sums: &mut Sequence<Matrix<f32>>,
    at: &Plane,
    step: usize,
    shift: usize,
    #[comptime] form: Form,
    #[comptime] by: Matrices,
    #[comptime] cut: Cut,
) {
    let deep = comptime!(by.depth / 8);
    let mut pixels = Sequence::<Matrix<E>>::new();
    #[unroll]
    for row in 0..comptime!(PLANE_ROWS + 2) {
        let pixel = (at.row0 + row) * comptime!(by.rows + 2) + shift;
        let (from, every) = (pixel * form.stride() + step * deep, comptime!(form.stride()));
        pixels.push(loaded::<E>(shared, from, every, MatrixIdent::A, MatrixLayout::RowMajor, by));
    }
    #[unroll]
    for tap in 0..3usize {
        #[unroll]
        for part in 0..cut.parts {
            let output = (at.output0 + part * by.cols) * form.weights_stride();
            let tap_at = (tap * 3 + shift) * comptime!(form.chunk / 8) + step * deep;
            let (from, every) =
                (comptime!(cut.tile(&form, by)) + output + tap_at, comptime!(form.weights_stride()));
            let weight = loaded::<E>(shared, from, every, MatrixIdent::B, MatrixLayout::ColMajor, by);
            #[unroll]
            for row in 0..PLANE_ROWS {
                let sum = &sums[comptime!(row * cut.parts + part)];
                cmma::execute(&pixels[comptime!(row + tap)], &weight, sum, sum);
            }
        }
    }
}

/// A cooperative matrix of halves from shared memory, its rows, or columns, so many eights from each other.
#[cube]
pub fn loaded<E: Float>(
    shared: &mut [Eight],
    from: usize,
    #[comptime] every: usize,
    #[comptime] ident: MatrixIdent,
    #[comptime] layout: MatrixLayout,
    #[comptime] by: Matrices,
) -> Matrix<E> {
    let mut matrix = Matrix::<E>::from_value(ident, by.rows, by.cols, by.depth, layout, E::from_int(0));
    // In words, of which an eight has four.
    cmma::load(&mut matrix, &shared[from..shared.len()], comptime!(every as u32 * 4));
    matrix
}
