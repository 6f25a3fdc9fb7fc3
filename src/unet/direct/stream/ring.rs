//! The rows of a node that are still needed.

use std::ops::Range;

use super::wiring::{Span, Wanted};
use crate::unet::direct::kernel::{BLOCK, Lanes};

/// Rows of blocked channels, a new one in the place of one that nothing needs any more.
pub struct Ring {
    /// The rows that there will ever be.
    known: Range<i64>,
    /// Column of a row's first pixel.
    col0: i64,
    /// Rows that are kept.
    kept: usize,
    blocks: usize,
    stride: usize,
    /// `[kept][blocks][stride]`.
    pixels: Vec<Lanes>,
    /// A row beyond the edge.
    nothing: Vec<Lanes>,
}

/// Some columns of some rows, to be written.
pub struct Piece<'a> {
    /// The first row.
    pub row: i64,
    /// The columns.
    pub cols: Span,
    /// The first block.
    pub block: usize,
    /// Row, block, pixels.
    pub lines: Vec<(i64, usize, &'a mut [Lanes])>,
}

/// How a node's rows are cut into [`Piece`]s.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// Rows of a piece.
    pub rows: i64,
    /// Columns are cut at multiples of so many from the first one.
    pub step: i64,
    /// The most columns of a piece, in steps.
    pub steps: i64,
    /// Blocks of a piece.
    pub blocks: usize,
}

impl Cut {
    /// Columns of a piece of `span`: about as many in each.
    fn width(self, span: &Span) -> i64 {
        let steps = ((span.end - span.start).max(1) as u64).div_ceil(self.step as u64);
        let pieces = steps.div_ceil(self.steps as u64);
        steps.div_ceil(pieces) as i64 * self.step
    }
}

impl Ring {
    /// Room for `kept` rows of `blocks`, and `slack` pixels past a row's end that may be written and mean nothing.
    pub fn new(wanted: &Wanted, kept: usize, blocks: usize, slack: usize) -> Self {
        let cols = wanted.cols();
        let stride = (cols.end - cols.start).max(0) as usize + 2 + slack;
        Self {
            known: wanted.rows.clone(),
            col0: cols.start - 1,
            kept,
            blocks,
            stride,
            pixels: vec![[0.0; BLOCK]; kept * blocks * stride],
            nothing: vec![[0.0; BLOCK]; stride],
        }
    }

    /// Blocks of channels.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// A row of a block from column `col` on, at least as far as one past the last column wanted.
    pub fn row(&self, row: i64, block: usize, col: i64) -> &[Lanes] {
        let from = (col - self.col0) as usize;
        if !self.known.contains(&row) {
            return &self.nothing[from..];
        }
        let line = row.rem_euclid(self.kept as i64) as usize * self.blocks + block;
        &self.pixels[line * self.stride..][from..self.stride]
    }

    /// `rows`, which begin a group, as pieces, in the order of rows, columns and blocks.
    pub fn pieces(&mut self, rows: Range<i64>, wanted: &Wanted, cut: Cut) -> Vec<Piece<'_>> {
        let (kept, blocks, col0) = (self.kept as i64, self.blocks, self.col0);
        let mut lines = Vec::new();
        for (k, mut line) in self.pixels.chunks_exact_mut(self.stride).enumerate() {
            let (slot, block) = ((k / blocks) as i64, k % blocks);
            let row = rows.start + (slot - rows.start).rem_euclid(kept);
            let span = wanted.span(row);
            if row >= rows.end || span.is_empty() {
                continue;
            }
            let width = cut.width(&span);
            line = &mut line[(span.start - col0) as usize..(span.end - col0) as usize];
            for (k, pixels) in line.chunks_mut(width as usize).enumerate() {
                let first = span.start + k as i64 * width;
                let cols = first..first + pixels.len() as i64;
                let key = ((row - rows.start) / cut.rows, first, block / cut.blocks, row, block);
                lines.push((key, cols, pixels));
            }
        }
        lines.sort_unstable_by_key(|(key, ..)| *key);
        let mut pieces: Vec<Piece<'_>> = Vec::new();
        let mut last = None;
        for ((group, first, part, row, block), cols, pixels) in lines {
            if last != Some((group, first, part)) {
                last = Some((group, first, part));
                pieces.push(Piece { row, cols, block, lines: Vec::new() });
            }
            if let Some(piece) = pieces.last_mut() {
                piece.lines.push((row, block, pixels));
            }
        }
        pieces
    }
}
