//! The rows of a node that are still needed.

use std::ops::Range;

use super::wiring::{Span, Wanted};

/// Rows of blocked channels, a new one in the place of one that nothing needs any more.
pub struct Ring<P> {
    /// The rows that there will ever be.
    known: Range<i64>,
    /// Column of a row's first pixel.
    col0: i64,
    /// Rows that are kept.
    kept: usize,
    blocks: usize,
    stride: usize,
    /// `[kept][blocks][stride]`.
    pixels: Vec<P>,
    /// A row beyond the edge.
    nothing: Vec<P>,
}

/// Some columns of some rows, to be written.
pub struct Piece<'a, P> {
    /// The first row.
    pub row: i64,
    /// The first block.
    pub block: usize,
    /// In the order of rows and blocks.
    pub lines: Vec<Line<'a, P>>,
}

/// Some columns of a row of a block.
pub struct Line<'a, P> {
    pub row: i64,
    pub block: usize,
    /// The first column.
    pub col: i64,
    pub pixels: &'a mut [P],
}

impl<P> Line<'_, P> {
    /// The columns.
    pub fn cols(&self) -> Span {
        self.col..self.col + self.pixels.len() as i64
    }
}

/// How a node's rows are cut into [`Piece`]s.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// Rows of a piece.
    pub rows: i64,
    /// How columns are cut.
    pub cols: CutCols,
    /// Blocks of a piece.
    pub blocks: usize,
}

/// How a row's columns are cut.
#[derive(Clone, Copy, Debug)]
pub enum CutCols {
    /// Not at all.
    Whole,
    /// From the first one on, at multiples of `step`, into about as many each, at most `most` steps.
    Even { step: i64, most: i64 },
    /// At multiples of so many, whatever the first one is: the same for all rows.
    At(i64),
}

impl CutCols {
    /// Where the columns of `span` are cut first, and how far apart then.
    fn first_and_width(self, span: &Span) -> (i64, i64) {
        let cols = (span.end - span.start).max(1);
        match self {
            Self::Whole => (span.end, cols),
            Self::Even { step, most } => {
                let steps = (cols as u64).div_ceil(step as u64);
                let width = steps.div_ceil(steps.div_ceil(most as u64)) as i64 * step;
                (span.start + width, width)
            }
            Self::At(width) => ((span.start.div_euclid(width) + 1) * width, width),
        }
    }
}

impl<P: Copy + Default> Ring<P> {
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
            pixels: vec![P::default(); kept * blocks * stride],
            nothing: vec![P::default(); stride],
        }
    }

    /// Blocks of channels.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// A row of a block from column `col` on, at least as far as one past the last column wanted.
    pub fn row(&self, row: i64, block: usize, col: i64) -> &[P] {
        let from = (col - self.col0) as usize;
        if !self.known.contains(&row) {
            return &self.nothing[from..];
        }
        let line = row.rem_euclid(self.kept as i64) as usize * self.blocks + block;
        &self.pixels[line * self.stride..][from..self.stride]
    }

    /// `rows`, which begin a group, as pieces, in the order of rows, columns and blocks.
    pub fn pieces(&mut self, rows: Range<i64>, wanted: &Wanted, cut: Cut) -> Vec<Piece<'_, P>> {
        let (kept, blocks, col0) = (self.kept as i64, self.blocks, self.col0);
        let mut lines = Vec::new();
        for (k, mut pixels) in self.pixels.chunks_exact_mut(self.stride).enumerate() {
            let (slot, block) = ((k / blocks) as i64, k % blocks);
            let row = rows.start + (slot - rows.start).rem_euclid(kept);
            let span = wanted.span(row);
            if row >= rows.end || span.is_empty() {
                continue;
            }
            pixels = &mut pixels[(span.start - col0) as usize..(span.end - col0) as usize];
            let (mut end, width) = cut.cols.first_and_width(&span);
            let mut col = span.start;
            while col < span.end {
                let (mine, rest) = pixels.split_at_mut((end.min(span.end) - col) as usize);
                let key = ((row - rows.start) / cut.rows, end, block / cut.blocks);
                lines.push((key, Line { row, block, col, pixels: mine }));
                (pixels, col, end) = (rest, end, end + width);
            }
        }
        lines.sort_unstable_by_key(|(key, line)| (*key, line.row, line.block));
        let mut pieces: Vec<Piece<'_, P>> = Vec::new();
        let mut last = None;
        for (key, line) in lines {
            if last != Some(key) {
                last = Some(key);
                pieces.push(Piece { row: line.row, block: line.block, lines: Vec::new() });
            }
            if let Some(piece) = pieces.last_mut() {
                piece.lines.push(line);
            }
        }
        pieces
    }
}
