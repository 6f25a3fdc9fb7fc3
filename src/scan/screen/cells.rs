//! Which cells of a band are looked at, and how they are handed to the network.

use std::ops::Range;

use crate::config::SCREEN_CELL_PX;
use crate::raster::Rows;
use crate::space::PixelRect;

/// Their side, px.
pub const CELL: u64 = SCREEN_CELL_PX as u64;

/// Rows of cells, some of which are marked.
#[derive(Clone)]
pub struct Grid {
    rows: Range<u64>,
    across: u64,
    marked: Vec<bool>,
}

impl Grid {
    /// `across` of them in a row; none is marked.
    pub fn new(rows: Range<u64>, across: u64) -> Self {
        let marked = vec![false; ((rows.end - rows.start) * across) as usize];
        Self { rows, across, marked }
    }

    fn at(&self, row: u64, col: u64) -> Option<usize> {
        let inside = self.rows.contains(&row) && col < self.across;
        inside.then(|| ((row - self.rows.start) * self.across + col) as usize)
    }

    /// Whether one is marked.
    pub fn get(&self, row: u64, col: u64) -> bool {
        self.at(row, col).is_some_and(|at| self.marked[at])
    }

    /// What is marked in `rows`, and what lies beside it.
    pub fn spread(&self, rows: Range<u64>) -> Self {
        let mut wide = Self::new(rows.clone(), self.across);
        for (row, col) in rows.flat_map(|row| (0..self.across).map(move |col| (row, col))) {
            let mut near = (row.saturating_sub(1)..=row + 1)
                .flat_map(|row| (col.saturating_sub(1)..=col + 1).map(move |col| (row, col)));
            if near.any(|(row, col)| self.get(row, col)) {
                wide.set(row, col);
            }
        }
        wide
    }

    /// Takes away what hangs together with a cell; gives it in order of rows.
    fn take_from(&mut self, cell: (u64, u64)) -> Vec<(u64, u64)> {
        let (mut cells, mut open) = (Vec::new(), vec![cell]);
        while let Some((row, col)) = open.pop() {
            let Some(at) = self.at(row, col).filter(|&at| self.marked[at]) else { continue };
            self.marked[at] = false;
            cells.push((row, col));
            for near in row.saturating_sub(1)..=row + 1 {
                open.extend((col.saturating_sub(1)..=col + 1).map(|col| (near, col)));
            }
        }
        cells.sort_unstable();
        cells
    }

    /// Marks one, if it is among them.
    pub fn set(&mut self, row: u64, col: u64) {
        if let Some(at) = self.at(row, col) {
            self.marked[at] = true;
        }
    }
}

/// The cells of a band that are looked at.
pub struct Looked {
    grid: Grid,
    rows: Range<u64>,
    cols: u64,
}

/// From the first to the last column of each row of `cells`, which are in order.
fn spans(cells: &[(u64, u64)]) -> Vec<Range<u64>> {
    let mut spans: Vec<Range<u64>> = Vec::new();
    for &(row, col) in cells {
        spans.resize((row - cells[0].0) as usize + 1, 0..0);
        if let Some(span) = spans.last_mut() {
            *span = if span.is_empty() { col } else { span.start }..col + 1;
        }
    }
    spans
}

/// Cuts `cells` in two, across their longer side.
fn halves(cells: &[(u64, u64)]) -> [Vec<(u64, u64)>; 2] {
    let range = |of: fn(&(u64, u64)) -> u64| {
        let (low, high) = (cells.iter().map(of).min(), cells.iter().map(of).max());
        (low.unwrap_or(0) + high.unwrap_or(0), high.unwrap_or(0) - low.unwrap_or(0))
    };
    let ((rows, tall), (cols, wide)) = (range(|cell| cell.0), range(|cell| cell.1));
    let before = |cell: &&(u64, u64)| if tall > wide { 2 * cell.0 <= rows } else { 2 * cell.1 <= cols };
    let (one, other): (Vec<_>, Vec<_>) = cells.iter().partition(before);
    [one, other]
}

/// Some rows, and columns of each.
pub struct Region {
    /// Of the band.
    pub rows: Range<u64>,
    /// A row of cells each.
    spans: Vec<Range<u64>>,
}

impl Region {
    /// The columns of a row.
    pub fn span(&self, row: u64) -> Range<u64> {
        self.spans[(row / CELL - self.rows.start / CELL) as usize].clone()
    }
}

impl Looked {
    /// The marked cells of `grid`, of a band of a scene of `cols`.
    pub fn new(grid: Grid, rows: Range<u64>, cols: u64) -> Self {
        Self { grid, rows, cols }
    }

    /// Whether a pixel is looked at.
    #[cfg(test)]
    pub fn at(&self, row: u64, col: u64) -> bool {
        self.rows.contains(&row) && self.grid.get(row / CELL, col / CELL)
    }

    /// Whether any pixel of `rect` is looked at.
    pub fn any(&self, rect: &PixelRect) -> bool {
        let mut rows = rect.row0 / CELL..rect.row1.div_ceil(CELL);
        rows.any(|row| (rect.col0 / CELL..rect.col1.div_ceil(CELL)).any(|col| self.grid.get(row, col)))
    }

    /// All that is looked at: cells that hang together, cut in two where most of what lies between them is not looked at.
    pub fn regions(&self) -> Vec<Region> {
        let mut left = self.grid.clone();
        let all = self.grid.rows.clone().flat_map(|row| (0..self.grid.across).map(move |col| (row, col)));
        let mut groups: Vec<_> =
            all.map(|cell| left.take_from(cell)).filter(|cells| !cells.is_empty()).collect();
        let mut regions = Vec::new();
        while let Some(cells) = groups.pop() {
            let spans = spans(&cells);
            let wide: u64 = spans.iter().map(|span| span.end - span.start).sum();
            if 2 * wide > 3 * cells.len() as u64 {
                groups.extend(halves(&cells));
            } else {
                regions.push(self.region(cells[0].0, &spans));
            }
        }
        regions
    }

    /// Of columns of cells, from a row of cells on.
    fn region(&self, first: u64, spans: &[Range<u64>]) -> Region {
        let in_px = |span: &Range<u64>| span.start * CELL..(span.end * CELL).min(self.cols);
        let end = (first + spans.len() as u64) * CELL;
        Region {
            rows: (first * CELL).max(self.rows.start)..end.min(self.rows.end),
            spans: spans.iter().map(in_px).collect(),
        }
    }

    /// Clears the probabilities of what is not looked at, `[rows, cols]`, and counts the pixels with data that are.
    pub fn clear(&self, probabilities: &mut [u8], rows: &Rows) -> u64 {
        let mut looked_px = 0;
        for (row, line) in self.rows.clone().zip(probabilities.chunks_exact_mut(self.cols as usize)) {
            let cells = line.chunks_mut(CELL as usize).zip(rows.row(row).chunks(CELL as usize));
            for (col, (line, pixels)) in (0..).zip(cells) {
                if self.grid.get(row / CELL, col) {
                    looked_px += pixels.iter().filter(|&&grey| grey != 0).count() as u64;
                } else {
                    line.fill(0);
                }
            }
        }
        looked_px
    }
}
