//! A grey-level threshold in the network's place: the pipeline's test, and the floor any network must beat.

use anyhow::Result;

use super::{Segmenter, WindowBatch};

/// Calls a pixel impact when its grey level is in `1..=dark_max` or `bright_min..=255`.
#[derive(Clone, Copy, Debug)]
pub struct GreyThreshold {
    /// Darkest levels taken, from 1 (0 is no data); 0 takes none.
    pub dark_max: u8,
    /// Brightest levels taken; `None` takes none.
    pub bright_min: Option<u8>,
}

impl Segmenter for GreyThreshold {
    fn halo_px(&self) -> u32 {
        0
    }

    fn multiple_px(&self) -> u32 {
        1
    }

    fn device(&self) -> String {
        "grey threshold".into()
    }

    fn segment(&mut self, batch: &WindowBatch, probabilities: &mut [u8]) -> Result<()> {
        let pixels = &batch.pixels[..batch.count * batch.side_px * batch.side_px];
        let bright = self.bright_min.unwrap_or(255);
        let none_bright = self.bright_min.is_none();
        for (p, &v) in probabilities.iter_mut().zip(pixels) {
            let hit = (v != 0 && v <= self.dark_max) || (!none_bright && v >= bright);
            *p = if hit { 255 } else { 0 };
        }
        Ok(())
    }
}
