//! From windows of a picture to blobs: the [`Segmenter`], and what is measured on its answer.

pub mod components;
pub mod stitch;
pub mod threshold;

use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender};

use anyhow::Result;

use crate::fault::guarded;

/// Windows as the network sees them: `[count, side, side]`, row-major, 0 = no data.
#[derive(Clone, Debug)]
pub struct WindowBatch {
    /// Side of each window, px.
    pub side_px: usize,
    /// How many of `pixels`' windows are meant; the rest is padding.
    pub count: usize,
    /// Rows of each window that are asked for; of others, the answer may be anything.
    pub rows: Range<usize>,
    /// As `rows`.
    pub cols: Range<usize>,
    /// `[capacity, side, side]` network input.
    pub pixels: Vec<u8>,
    /// With the answer of [`Segmenter::serve`], what it gives as [`Segmenter::computed_px`].
    pub computed_px: u64,
}

impl WindowBatch {
    /// Room for `capacity` windows of `side_px`, which are asked for as a whole.
    pub fn new(capacity: usize, side_px: usize) -> Self {
        let pixels = vec![0; capacity * side_px * side_px];
        Self { side_px, count: 0, rows: 0..side_px, cols: 0..side_px, pixels, computed_px: 0 }
    }

    /// Windows it has room for.
    pub fn capacity(&self) -> usize {
        self.pixels.len() / (self.side_px * self.side_px)
    }

    /// Pixels of the windows that are meant.
    pub fn meant_px(&self) -> usize {
        self.count * self.side_px * self.side_px
    }
}

/// Gives each pixel of a window its probability of being fresh impact.
///
/// The U-Net is one, a grey level another, so the pipeline is tested without a network. The answer
/// must not depend on which windows share a batch.
pub trait Segmenter: Send {
    /// Pixels on each side of a window whose answer is not to be used.
    fn halo_px(&self) -> u32;

    /// A window's side and origin are multiples of this.
    fn multiple_px(&self) -> u32;

    /// What it runs on, for `timing.csv` and the report.
    fn device(&self) -> String;

    /// Pixels that a batch takes through the network; where its layers take fewer than others, in the mean over its
    /// operations.
    fn computed_px(&self, batch: &WindowBatch) -> u64 {
        (batch.count * batch.rows.len() * batch.cols.len()) as u64
    }

    /// The way to whole bands, where there is one; otherwise they are cut into windows.
    fn streaming(&self) -> Option<&dyn Streaming> {
        None
    }

    /// The way to several batches at once, where there is one; otherwise each is answered before the next.
    fn queue(&mut self) -> Option<&mut dyn Queue> {
        None
    }

    /// Answers batches in their order, until there are no more: their pixels become their probabilities.
    fn serve(mut self: Box<Self>, batches: Receiver<WindowBatch>, answers: &Sender<Result<WindowBatch>>) {
        for mut batch in batches {
            let mut probabilities = vec![0; batch.pixels.len()];
            let done = guarded(|| self.segment(&batch, &mut probabilities));
            batch.computed_px = self.computed_px(&batch);
            batch.pixels = probabilities;
            if answers.send(done.map(|()| batch)).is_err() {
                return;
            }
        }
    }

    /// Writes the probabilities, 0..=255, of `batch`'s windows to the start of `probabilities`,
    /// `[count, side, side]`.
    ///
    /// # Errors
    /// If the device fails; [`crate::fault::DeviceLost`] if it is lost.
    fn segment(&mut self, batch: &WindowBatch, probabilities: &mut [u8]) -> Result<()>;
}

/// A [`Segmenter`] that takes batches before it has answered others.
pub trait Queue {
    /// Batches that keep it busy.
    fn depth(&self) -> usize;

    /// Takes `batch` in hand; waits where it has more than enough.
    ///
    /// # Errors
    /// [`crate::fault::DeviceLost`] if it has lost the device.
    fn submit(&mut self, batch: WindowBatch) -> Result<()>;

    /// The oldest batch, its pixels now its probabilities, 0..=255; none if it has none in hand.
    ///
    /// # Errors
    /// If the device fails; [`crate::fault::DeviceLost`] if it is lost.
    fn collect(&mut self) -> Result<Option<WindowBatch>>;
}

/// A band of a scene, and what lies around it.
pub struct BandPixels<'a> {
    /// The band.
    pub rows: Range<u64>,
    /// Of the scene.
    pub cols: u64,
    /// The columns of a row of the band that are asked for.
    pub spans: &'a (dyn Fn(u64) -> Range<u64> + Sync),
    /// A row of the scene; the band's, and as many on each side as [`Streaming::reach_px`]. `None` outside of the scene.
    pub row: &'a (dyn Fn(i64) -> Option<&'a [u8]> + Sync),
    /// Whether to stop.
    pub stop: &'a (dyn Fn() -> bool + Sync),
}

/// Gets a row, a column, and the probabilities from there on, 0..=255.
pub type Take<'a> = dyn FnMut(u64, u64, &[u8]) + 'a;

/// A [`Segmenter`] that takes bands of any size as they are.
pub trait Streaming: Sync {
    /// Rows on each side of a band that its answer is computed from, if only by rounding.
    fn reach_px(&self) -> u32;

    /// Hands on the probabilities of what is asked for of `band`, at least where it has data, row by row; 0 where there is
    /// none. Gives the work done: of how many pixels it would be all.
    ///
    /// # Errors
    /// [`crate::fault::Stopped`] soon after `stop` says so.
    fn stream(&self, band: &BandPixels<'_>, take: &mut Take<'_>) -> Result<u64>;
}

/// Rows on each side of a band that `segmenter` looks at.
pub fn reach_px(segmenter: &dyn Segmenter) -> u32 {
    let windows = segmenter.halo_px();
    segmenter.streaming().map_or(windows, Streaming::reach_px)
}
