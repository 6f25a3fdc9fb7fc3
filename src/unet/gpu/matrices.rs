//! A convolution by cooperative matrices.

use cubecl::cmma::{self, Matrix, MatrixIdent, MatrixLayout};
use cubecl::prelude::*;

use super::kernels::{Cut, Eight, Form, Four, Matrices, OUTSIDE, PLANE_ROWS, Reading, finished, place};

/// A 3x3 convolution with bias, and with ELU if that is asked for, of the windows' pixels from the given row and column on:
/// its products of `E` by cooperative matrices, its sums in f32. `weights` is `[chunk][output][tap][chunk's channels]`, of
/// an output eight zeros more. A workgroup takes `each` of `high` tiles under each other.
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
    high: usize,
    each: usize,
    #[comptime] form: Form,
    #[comptime] by: Matrices,
    #[comptime] cut: Cut,
    #[define(E)] kind: ElemType,
) {
    let mut shared = Shared::<[Eight]>::new_aligned_slice(comptime!(cut.shared(&form, by)), 16usize);
    let (begin, plane) = (CUBE_POS_Y as usize * each, UNIT_POS_Y as usize);
    let end = min(begin + each, high);
    let (blocks, down) = (outputs / form.block, comptime!(cut.rows / PLANE_ROWS));
    let at = Plane {
        window: CUBE_POS_Z as usize / blocks,
        side,
        block: CUBE_POS_Z as usize % blocks,
        col0: first_col + CUBE_POS_X as usize * by.rows,
        row0: plane % down * PLANE_ROWS,
        output0: plane / down * comptime!(cut.parts * by.cols),
        outputs,
    };
    let mut sums = Sequence::<Matrix<f32>>::new();
    #[unroll]
    for _ in 0..comptime!(PLANE_ROWS * cut.parts) {
        let (ident, layout) = comptime!((MatrixIdent::Accumulator, MatrixLayout::Undefined));
        sums.push(Matrix::<f32>::from_value(ident, by.rows, by.cols, by.depth, layout, 0.0));
    }
    let mut share = Share {
        places: Array::<usize>::new(comptime!(cut.pixels_each(&form, by))),
        pixels: Array::<Eight>::new(comptime!(cut.pixels_each(&form, by))),
        taps: Array::<Eight>::new(comptime!(cut.taps_each(&form, by))),
    };
    let (of_one, of_other) = (of_first / form.chunk, of_second / form.chunk);
    // What is multiplied next is on its way while this is multiplied, over sources and tiles, and without a branch: where
    // ways meet, a compiler waits for what is read.
    seek(&mut share, &at, first_row + begin * cut.rows, of_first, form.first, form, by, cut);
    fetch(&mut share, first, weights, &at, 0usize, 0usize, form, by, cut);
    for tile in begin..end {
        let row = first_row + tile * cut.rows;
        #[unroll]
        for k in 0..comptime!(PLANE_ROWS * cut.parts) {
            cmma::fill(&mut sums[k], 0.0);
        }
        for chunk in 1..of_one {
            put(&mut share, &mut shared, form, by, cut);
            fetch(&mut share, first, weights, &at, chunk, chunk, form, by, cut);
            multiply::<E>(&mut shared, &mut sums, &at, form, by, cut);
        }
        put(&mut share, &mut shared, form, by, cut);
        if let Some(read) = comptime!(form.second) {
            seek(&mut share, &at, row, of_second, read, form, by, cut);
            fetch(&mut share, second, weights, &at, of_one, 0usize, form, by, cut);
            multiply::<E>(&mut shared, &mut sums, &at, form, by, cut);
            for chunk in 1..of_other {
                put(&mut share, &mut shared, form, by, cut);
                fetch(&mut share, second, weights, &at, of_one + chunk, chunk, form, by, cut);
                multiply::<E>(&mut shared, &mut sums, &at, form, by, cut);
            }
            put(&mut share, &mut shared, form, by, cut);
        }
        // Behind the last tile this one once more.
        let next = first_row + min(tile + 1, end - 1) * cut.rows;
        seek(&mut share, &at, next, of_first, form.first, form, by, cut);
        fetch(&mut share, first, weights, &at, 0usize, 0usize, form, by, cut);
        multiply::<E>(&mut shared, &mut sums, &at, form, by, cut);
        finish::<E>(&mut shared, &sums, bias, out, &at, row, form, by, cut, kind);
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
    col0: usize,
    /// In the workgroup's tile.
    row0: usize,
    /// In the block.
    output0: usize,
    /// Of the convolution.
    outputs: usize,
}

/// A unit's share of what is copied to shared memory: the same pixels of a tile for all channels, and of these the same
/// eight.
#[derive(CubeType)]
struct Share {
    /// Of the pixels in their source.
    places: Array<usize>,
    pixels: Array<Eight>,
    taps: Array<Eight>,
}

/// Finds a unit's pixels, of the tile from `tile_row` on, in a source of so many channels.
#[cube]
fn seek(
    share: &mut Share,
    at: &Plane,
    tile_row: usize,
    channels: usize,
    #[comptime] read: Reading,
    #[comptime] form: Form,
    #[comptime] by: Matrices,
    #[comptime] cut: Cut,
) {
    let (wide, eights) = comptime!((by.rows + 2, form.chunk / 8));
    let unit = UNIT_POS as usize;
    #[unroll]
    for k in 0..comptime!(cut.pixels_each(&form, by)) {
        let pixel = unit / eights + k * comptime!(cut.planes() * by.plane / eights);
        // Before the window's first row or column: a huge number, which is outside as well.
        let (row, col) = (tile_row + pixel / wide - 1, at.col0 + pixel % wide - 1);
        share.places[k] = place(at.window, row, col, at.side, channels / 8, read);
    }
}

/// Has a chunk of weights read, and one of the source's channels; any of it, where nothing is needed.
#[cube]
fn fetch(
    share: &mut Share,
    source: &[Eight],
    weights: &[Eight],
    at: &Plane,
    of_weights: usize,
    of_source: usize,
    #[comptime] form: Form,
    #[comptime] by: Matrices,
    #[comptime] cut: Cut,
) {
    let (eights, units) = comptime!((form.chunk / 8, cut.planes() * by.plane));
    let unit = UNIT_POS as usize;
    #[unroll]
    for k in 0..comptime!(cut.pixels_each(&form, by)) {
        let place = select(share.places[k] == OUTSIDE, 0usize, share.places[k]);
        share.pixels[k] = source[place + of_source * eights + unit % eights];
    }
    let (taps, of_output) = comptime!((form.block * form.weights_stride(), form.weights_stride()));
    let first = (of_weights * at.outputs + at.block * form.block) * of_output;
    #[unroll]
    for k in 0..comptime!(cut.taps_each(&form, by)) {
        share.taps[k] = weights[first + min(unit + k * units, comptime!(taps - 1))];
    }
}

/// Puts into shared memory what was read.
#[cube]
fn put(
    share: &mut Share,
    shared: &mut [Eight],
    #[comptime] form: Form,
    #[comptime] by: Matrices,
    #[comptime] cut: Cut,
) {
    let (eights, units) = comptime!((form.chunk / 8, cut.planes() * by.plane));
    let pixels = comptime!((cut.rows + 2) * (by.rows + 2) * eights);
    let (taps, factors) = comptime!((form.block * form.weights_stride(), cut.tile(&form, by)));
    let unit = UNIT_POS as usize;
    let to = unit / eights * form.stride() + unit % eights;
    sync_cube();
    #[unroll]
    for k in 0..comptime!(cut.pixels_each(&form, by)) {
        if share.places[k] == OUTSIDE {
            share.pixels[k] = Eight::new(0);
        }
        if comptime!((k + 1) * units <= pixels) || unit + k * units < pixels {
            shared[to + k * comptime!(units / eights * form.stride())] = share.pixels[k];
        }
    }
    #[unroll]
    for k in 0..comptime!(cut.taps_each(&form, by)) {
        if comptime!((k + 1) * units <= taps) || unit + k * units < taps {
            shared[factors + unit + k * units] = share.taps[k];
        }
    }
    sync_cube();
}

/// Adds the products of a chunk: a row that is loaded serves the three that it touches.
#[cube]
fn multiply<E: Float>(
    shared: &mut [Eight],
    sums: &mut Sequence<Matrix<f32>>,
    at: &Plane,
    #[comptime] form: Form,
    #[comptime] by: Matrices,
    #[comptime] cut: Cut,
) {
    let deep = comptime!(by.depth / 8);
    for step in 0..comptime!(form.chunk / by.depth) {
        for shift in 0..3usize {
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
    }
}

/// Writes a tile's answers: its sums go through shared memory, each plane's its own, to where a unit knows which values it
/// holds.
#[cube]
fn finish<E: Float>(
    shared: &mut [Eight],
    sums: &Sequence<Matrix<f32>>,
    bias: &[Four<f32>],
    out: &mut [Four<E>],
    at: &Plane,
    tile_row: usize,
    #[comptime] form: Form,
    #[comptime] by: Matrices,
    #[comptime] cut: Cut,
    #[comptime] kind: ElemType,
) {
    let (fours, of_row) = comptime!((by.cols / 4, by.rows * by.cols / 4));
    let mine = UNIT_POS_Y as usize * comptime!(PLANE_ROWS * of_row);
    let unit = UNIT_POS_X as usize;
    let whole = tile_row + cut.rows <= at.side && at.col0 + by.rows <= at.side;
    sync_cube();
    #[unroll]
    for part in 0..cut.parts {
        sync_plane();
        #[unroll]
        for row in 0..PLANE_ROWS {
            let (begin, end) = (mine + row * of_row, shared.len());
            let sum = &sums[comptime!(row * cut.parts + part)];
            cmma::store(&mut shared[begin..end], sum, comptime!(by.cols as u32), MatrixLayout::RowMajor);
        }
        sync_plane();
        // A plane has units for whole pixels: each has the same outputs of all its pixels.
        let four = (at.block * form.block + at.output0 + part * by.cols) / 4 + unit % fours;
        let offset = bias[four];
        if whole {
            write::<E>(shared, offset, out, at, tile_row, mine, four, false, form, by, kind);
        } else {
            write::<E>(shared, offset, out, at, tile_row, mine, four, true, form, by, kind);
        }
    }
}

/// Writes a plane's answers of one matrix of outputs; `guarded` are those of a tile that is not in the window as a whole.
#[cube]
fn write<E: Float>(
    shared: &mut [Eight],
    offset: Four<f32>,
    out: &mut [Four<E>],
    at: &Plane,
    tile_row: usize,
    mine: usize,
    four: usize,
    #[comptime] guarded: bool,
    #[comptime] form: Form,
    #[comptime] by: Matrices,
    #[comptime] kind: ElemType,
) {
    let unit = UNIT_POS_X as usize;
    let fours = comptime!(by.cols / 4);
    #[unroll]
    for k in 0..comptime!(PLANE_ROWS * by.rows * by.cols / 4 / by.plane) {
        let pixel = unit / fours + k * comptime!(by.plane / fours);
        let (row, col) = (tile_row + at.row0 + pixel / by.rows, at.col0 + pixel % by.rows);
        let sum = Four::<f32>::reinterpret(shared[mine + unit + k * by.plane]);
        if comptime!(!guarded) || row < at.side && col < at.side {
            let to = ((at.window * at.side + row) * at.side + col) * (at.outputs / 4) + four;
            out[to] = finished::<E>(sum + offset, form.elu, kind);
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
