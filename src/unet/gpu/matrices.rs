//! A convolution by cooperative matrices.

use cubecl::cmma::{self, Matrix, MatrixIdent, MatrixLayout};
use cubecl::prelude::*;

use super::kernels::{Cut, Form, Four, Matrices, PLANE_ROWS, Reading, finished, place, there};

/// A 3x3 convolution with bias, and with ELU if that is asked for, of the windows' pixels from the given row and column on:
/// its products of `E` by cooperative matrices, its sums in f32. `weights` is `[chunk][output][tap][chunk's channels]`.
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
    first_row: usize,
    first_col: usize,
    #[comptime] form: Form,
    #[comptime] by: Matrices,
    #[comptime] cut: Cut,
    #[define(E)] kind: ElemType,
) {
    let (m, n, parts) = comptime!((by.rows, by.cols, cut.parts));
    // Cooperative matrices are loaded from multiples of 16 bytes: so is all that follows.
    let tile = comptime!((cut.rows + 2) * (m + 2) * form.stride());
    let mut tile = Shared::<[Four<E>]>::new_aligned_slice(tile, 16usize);
    let factors = comptime!(form.block * form.weights_stride());
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
    let (tile_row, tile_col) =
        (first_row + CUBE_POS_Y as usize * cut.rows, first_col + CUBE_POS_X as usize * m);
    let at = Plane { window, side, block, tile_row, tile_col, row0, output0, outputs };
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
            let at_row = tile_row + row0 + row;
            for k in range_stepped(UNIT_POS_X as usize, comptime!(m * fours), comptime!(by.plane)) {
                let at_col = tile_col + k / fours;
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
    // Fours of the tile, of the weights, and of these an output's.
    let pixels = comptime!((cut.rows + 2) * wide * fours);
    let (taps, each) = comptime!((9 * fours * form.block, 9 * fours));
    // A unit's share of the tile is the same pixels for all channels.
    let mut places = Array::<usize>::new(comptime!(pixels.div_ceil(units)));
    #[unroll]
    for k in 0..comptime!(pixels.div_ceil(units)) {
        let pixel = (UNIT_POS as usize + k * units) / fours;
        // Before the window's first row or column: a huge number, which is outside as well.
        let row = at.tile_row + pixel / wide - 1;
        let col = at.tile_col + pixel % wide - 1;
        places[k] = place(at.window, row, col, at.side, channels / 4, read);
    }
    let mut some_pixels = Array::<Four<E>>::new(comptime!(pixels.div_ceil(units)));
    let mut some_taps = Array::<Four<E>>::new(comptime!(taps.div_ceil(units)));
    for chunk in 0..channels / form.chunk {
        let first_tap = ((before / form.chunk + chunk) * at.outputs + at.block * form.block) * each;
        // All that is read is on its way before any of it is waited for.
        #[unroll]
        for k in 0..comptime!(pixels.div_ceil(units)) {
            let unit = UNIT_POS as usize + k * units;
            if comptime!((k + 1) * units <= pixels) || unit < pixels {
                some_pixels[k] = there::<E>(source, places[k], chunk * fours + unit % fours);
            }
        }
        #[unroll]
        for k in 0..comptime!(taps.div_ceil(units)) {
            let unit = UNIT_POS as usize + k * units;
            if comptime!((k + 1) * units <= taps) || unit < taps {
                some_taps[k] = weights[first_tap + unit];
            }
        }
        sync_cube();
        #[unroll]
        for k in 0..comptime!(pixels.div_ceil(units)) {
            let unit = UNIT_POS as usize + k * units;
            if comptime!((k + 1) * units <= pixels) || unit < pixels {
                tile[unit + unit / fours * comptime!(form.stride() - fours)] = some_pixels[k];
            }
        }
        #[unroll]
        for k in 0..comptime!(taps.div_ceil(units)) {
            let unit = UNIT_POS as usize + k * units;
            if comptime!((k + 1) * units <= taps) || unit < taps {
                factors[unit + unit / each * comptime!(form.weights_stride() - each)] = some_taps[k];
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
            let of = (at.output0 + part * n) * comptime!(form.weights_stride());
            let first = of + (tap * 3 + shift) * comptime!(form.chunk / 4) + step * comptime!(k / 4);
            let from = &factors[first..factors.len()];
            let every = comptime!(form.weights_stride() as u32 * 4);
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
