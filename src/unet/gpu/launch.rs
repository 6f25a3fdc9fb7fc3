//! Launches that scans and training steps share.

use std::ops::Range;

use cubecl::calculate_cube_count_elemwise;
use cubecl::ir::ElemType;
use cubecl::prelude::{Client, CubeCount, CubeDim};

use super::kernels::{CHANNELS, Conv, Cut, TILE, conv_grey, conv_numbers, pool, units};
use super::matrices::conv_matrices;
use super::{Buffer, UNITS};
use crate::detect::WindowBatch;

/// Windows, or crops, of one level.
#[derive(Clone, Debug)]
pub struct Windows {
    pub count: usize,
    /// Pixels from a row to the next, and rows from a window to the next.
    pub side: usize,
    /// What is computed of each.
    pub rows: Range<usize>,
    pub cols: Range<usize>,
}

impl Windows {
    /// As a whole.
    pub fn whole(count: usize, side: usize) -> Self {
        Self { count, side, rows: 0..side, cols: 0..side }
    }

    /// What is asked for of a batch.
    pub fn of(batch: &WindowBatch) -> Self {
        let WindowBatch { side_px, count, rows, cols, .. } = batch;
        Self { count: *count, side: *side_px, rows: rows.clone(), cols: cols.clone() }
    }
}

impl Conv {
    /// Computes it of `windows` in `kind`, from its sources, the first twice where there is one only, its weights and bias.
    pub fn launch(
        &self,
        client: &Client,
        kind: ElemType,
        windows: &Windows,
        [first, second, weights, bias, out]: [&Buffer; 5],
    ) {
        let (side, rows, cols) = (windows.side, &windows.rows, &windows.cols);
        let tile = self.matrices.map_or((TILE, TILE), |(by, cut)| (cut.rows, by.rows));
        let (high, wide) = (rows.len().div_ceil(tile.0) as u32, cols.len().div_ceil(tile.1) as u32);
        let blocks = (windows.count * (self.outputs / self.form.block)) as u32;
        let second_channels = self.second.map_or(0, |second| second.channels);
        if let Some((by, cut)) = self.matrices {
            let each = Cut::tiles_each((wide * high * blocks) as usize);
            conv_matrices::launch(
                client,
                CubeCount::Static(wide, high.div_ceil(each as u32), blocks),
                cut.units(by),
                first.eights(),
                second.eights(),
                weights.eights(),
                bias.arg(),
                out.arg(),
                side,
                self.first.channels,
                second_channels,
                self.outputs,
                rows.start,
                cols.start,
                high as usize,
                each,
                self.form,
                by,
                cut,
                kind,
            );
        } else {
            conv_numbers::launch(
                client,
                CubeCount::Static(wide, high, blocks),
                units(&self.form),
                first.arg(),
                second.arg(),
                weights.arg(),
                bias.arg(),
                out.arg(),
                side,
                self.first.channels,
                second_channels,
                self.outputs,
                rows.start,
                cols.start,
                self.form,
                kind,
            );
        }
    }
}

/// The first convolution, from `grey`, weights and bias, of `count` windows of `side` px to so many channels.
pub fn convolve_grey(
    client: &Client,
    kind: ElemType,
    [grey, weights, bias, out]: [&Buffer; 4],
    (count, side, channels): (usize, usize, usize),
    rises: bool,
) {
    let (run, units) = (if side.is_multiple_of(4) { 4 } else { 1 }, CubeDim::new_1d(UNITS));
    let cubes = calculate_cube_count_elemwise(client, count * side * side / run * channels / CHANNELS, units);
    let out = out.of_elements(out.elements * kind.size() / 4);
    let [grey, weights, bias] = [grey, weights, bias].map(Buffer::arg);
    conv_grey::launch(client, cubes, units, grey, weights, bias, out, side, channels, run, rises, kind);
}

/// Pools activations of so many channels to `count` windows of `side` px.
pub fn pooled(
    client: &Client,
    kind: ElemType,
    [from, to]: [&Buffer; 2],
    (count, side, channels): (usize, usize, usize),
) {
    let (elements, units) = (count * side * side * channels / 4, CubeDim::new_1d(UNITS));
    let cubes = calculate_cube_count_elemwise(client, elements, units);
    pool::launch(client, cubes, units, from.arg(), to.arg(), elements, side, channels / 4, kind);
}
