//! Activations of a whole batch: the pictures of a level side by side, so that a row is long enough for the
//! vectors on every level.
//!
//! Between two neighbours lie columns of zeros, one on the coarsest level and twice as many on each finer
//! one, so that a pixel's place is twice that of the one below it on every level.

use rayon::prelude::*;

use crate::unet::direct::kernel::{BLOCK, Lanes, SLACK_PX};

/// About as many pixels are put in a row.
const ROW_PX: usize = 128;

/// How a batch lies on the sheets of one level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Pictures.
    pub images: usize,
    /// Pictures side by side.
    pub per_sheet: usize,
    /// Side of a picture.
    pub side: usize,
    /// Columns from a picture to the next.
    pub pitch: usize,
}

impl Layout {
    /// Level `level` of `levels`, for `images` crops of `side_px`.
    pub fn new(images: usize, side_px: usize, level: usize, levels: usize) -> Self {
        let side = side_px >> level;
        let per_sheet = (ROW_PX / side_px).max(1) << level;
        Self { images, per_sheet, side, pitch: side + (1 << (levels - 1 - level)) }
    }

    /// Sheets that the pictures need.
    pub fn sheets(&self) -> usize {
        self.images.div_ceil(self.per_sheet)
    }

    /// Pictures on a sheet.
    pub fn images_on(&self, sheet: usize) -> usize {
        self.per_sheet.min(self.images - sheet * self.per_sheet)
    }

    /// Columns from the first picture's first to the last one's last on a sheet.
    pub fn span(&self, sheet: usize) -> usize {
        (self.images_on(sheet) - 1) * self.pitch + self.side
    }

    /// The sheet of a picture, and its first column there.
    pub fn place(&self, image: usize) -> (usize, usize) {
        (image / self.per_sheet, image % self.per_sheet * self.pitch)
    }
}

/// Blocked channels of all pictures of a level.
#[derive(Default)]
pub struct Sheets {
    /// Where the pictures are.
    pub layout: Option<Layout>,
    blocks: usize,
    stride: usize,
    /// `[sheets][blocks][rows + 2][stride]`.
    pixels: Vec<Lanes>,
}

/// A row of one block of a sheet, to be written.
pub struct Line<'a> {
    /// The sheet.
    pub sheet: usize,
    /// The block.
    pub block: usize,
    /// The row.
    pub row: usize,
    /// From the first picture's first column to the last one's last.
    pub pixels: &'a mut [Lanes],
}

impl Sheets {
    /// Room for `channels`, all zero.
    pub fn new(channels: usize, layout: Layout) -> Self {
        let blocks = channels.div_ceil(BLOCK);
        // A row that is read two pixels at a time is read as far again past its end.
        let stride = layout.span(0) + 4 + 2 * SLACK_PX;
        let pixels = vec![[0.0; BLOCK]; layout.sheets() * blocks * (layout.side + 2) * stride];
        Self { layout: Some(layout), blocks, stride, pixels }
    }

    fn layout(&self) -> Layout {
        self.layout.unwrap_or(Layout { images: 0, per_sheet: 1, side: 0, pitch: 1 })
    }

    /// A row with its border from column `from` - 1 on; row 0 is the border above.
    pub fn row(&self, sheet: usize, block: usize, row: usize, from: usize) -> &[Lanes] {
        let at = ((sheet * self.blocks + block) * (self.layout().side + 2) + row) * self.stride;
        &self.pixels[at + from..at + self.stride]
    }

    /// The pixels of one picture's row of a block.
    pub fn picture_row(&self, image: usize, block: usize, row: usize) -> &[Lanes] {
        let layout = self.layout();
        let (sheet, from) = layout.place(image);
        &self.row(sheet, block, row + 1, from)[1..=layout.side]
    }

    /// All rows of all sheets and blocks, in order.
    pub fn par_lines(&mut self) -> impl IndexedParallelIterator<Item = Option<Line<'_>>> {
        let (layout, blocks) = (self.layout(), self.blocks);
        let rows = layout.side + 2;
        self.pixels.par_chunks_exact_mut(self.stride).enumerate().map(move |(k, line)| {
            let (sheet, block, row) = (k / rows / blocks, k / rows % blocks, k % rows);
            let inside = row > 0 && row + 1 < rows;
            inside.then(|| {
                let pixels = &mut line[1..=layout.span(sheet)];
                Line { sheet, block, row: row - 1, pixels }
            })
        })
    }
}

impl Line<'_> {
    /// The pictures in it: number and first column.
    pub fn pictures(&self, layout: Layout) -> impl Iterator<Item = (usize, usize)> + use<> {
        let first = self.sheet * layout.per_sheet;
        (0..layout.images_on(self.sheet)).map(move |k| (first + k, k * layout.pitch))
    }
}
