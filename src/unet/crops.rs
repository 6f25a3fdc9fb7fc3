//! What a step is shown.

use std::ops::Range;

/// Crops and masks of one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CropBatch {
    /// Side of a crop, px.
    pub side_px: usize,
    /// `[count, side, side]` network input, 0 = no data.
    pub pixels: Vec<u8>,
    /// `[count, side, side]`: 0 is ground, [`Self::DONT_CARE`] counts for nothing, everything else is impact.
    pub mask: Vec<u8>,
}

impl CropBatch {
    /// What the mask says of a pixel that is neither to be impact nor not.
    pub const DONT_CARE: u8 = 127;

    /// Crops in it.
    pub fn count(&self) -> usize {
        self.pixels.len() / (self.side_px * self.side_px)
    }

    /// The crops of `range`.
    pub(super) fn part(&self, range: Range<usize>) -> Self {
        let crop_px = self.side_px * self.side_px;
        let px = range.start * crop_px..range.end * crop_px;
        Self { side_px: self.side_px, pixels: self.pixels[px.clone()].to_vec(), mask: self.mask[px].to_vec() }
    }
}
