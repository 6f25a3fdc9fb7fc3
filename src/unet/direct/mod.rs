//! The network on the processor without the framework. Burn's network is the reference that it is tested
//! against.
//!
//! Activations are blocked: 32 channels of a pixel lie together. Each output is summed in one order, whatever the
//! threads and whatever else is computed. In f32 layers are computed on vectors, in bf16 on the processor's matrix unit.

mod conv;
mod kernel;
mod layer;
mod matrices;
mod step;
mod stream;
mod tiles;

use anyhow::{Result, ensure};

use self::conv::blocked;
pub use self::kernel::instructions;
use self::layer::Layer;
use self::matrices::{Available, MatrixConv, Registers};
pub use self::step::{DirectReplica, Dropout};
use self::stream::{Convolution, Flow, Head, Picture, Span, Stream, Wanted};
use super::weights::{FoldedConv, Weights};
use crate::detect::{BandPixels, Segmenter, Streaming, Take, WindowBatch};
use crate::fault::Stopped;
use crate::tile::{halo_px, multiple_px};

/// The network on the processor.
pub struct DirectSegmenter {
    widths: Vec<usize>,
    stream: Box<dyn Flow>,
    instructions: &'static str,
}

impl DirectSegmenter {
    /// Folds and packs `weights`, for f32.
    pub fn new(weights: &Weights) -> Self {
        let stream = stream(weights, |_, conv, doubled| Layer::new(conv, doubled));
        Self { widths: weights.widths().to_vec(), stream, instructions: instructions() }
    }

    /// The same in bf16, with sums in f32, on the processor's matrix unit, if it has one.
    pub fn in_bf16(weights: &Weights) -> Option<Self> {
        let unit = Available::ask()?;
        let pack = |k, conv: &_, doubled| MatrixConv::<Registers>::new(conv, doubled, k == 0, unit);
        let stream = stream(weights, pack);
        Some(Self { widths: weights.widths().to_vec(), stream, instructions: "AMX bf16" })
    }

    /// Whether [`Self::in_bf16`] is to be had here.
    pub fn offers_bf16() -> bool {
        Available::ask().is_some()
    }

    /// Probabilities, `[count, side, side]` in 0..=1, of network input of the same shape; beyond a picture's edge
    /// every level is zero, as in training.
    ///
    /// # Errors
    /// If the side cannot be halved as often as the network does.
    pub fn probabilities(&self, side_px: usize, pixels: &[u8]) -> Result<Vec<f32>> {
        let multiple = multiple_px(&self.widths) as usize;
        ensure!(
            side_px.is_multiple_of(multiple),
            "windows of {side_px} px: must be a multiple of {multiple}"
        );
        let side = side_px as i64;
        let mut all = Vec::with_capacity(pixels.len());
        for window in pixels.chunks_exact(side_px * side_px) {
            let picture = Picture { row: &|row| row_of(window, side_px, row), edge: Some((side, side)) };
            let answer = Wanted { rows: 0..side, spans: vec![0..side; side_px] };
            self.stream.run(&picture, &answer, &mut |_, line| {
                all.extend_from_slice(line);
                Ok(())
            })?;
        }
        Ok(all)
    }
}

/// The network of layers that `pack` makes of a convolution, its number, and how many of its inputs come first and
/// from the level below.
fn stream<L: Convolution + 'static>(
    weights: &Weights,
    pack: impl Fn(usize, &FoldedConv, usize) -> L,
) -> Box<dyn Flow> {
    let widths = weights.widths();
    let first_decoder = 2 * widths.len();
    let layer = |(k, conv): (usize, &FoldedConv)| {
        // A decoder begins with the level below, doubled, then takes what the encoder handed over.
        let begins = k >= first_decoder && k % 2 == 0;
        pack(k, conv, if begins { conv.channels[0] - conv.channels[1] } else { 0 })
    };
    let layers = weights.folded().iter().enumerate().map(layer).collect();
    let (weight, bias) = weights.head();
    Box::new(Stream::new(widths, layers, Head { weight: blocked(weight), bias }))
}

/// A row of a picture of `cols` columns.
fn row_of(pixels: &[u8], cols: usize, row: i64) -> Option<&[u8]> {
    usize::try_from(row).ok().and_then(|row| pixels.chunks_exact(cols).nth(row))
}

impl Streaming for DirectSegmenter {
    fn reach_px(&self) -> u32 {
        self.stream.reach_px()
    }

    fn stream(&self, band: &BandPixels<'_>, take: &mut Take<'_>) -> Result<u64> {
        /// Columns that go through at once: what is kept of them is some 200 MB for five levels.
        const STRIP_COLS: u64 = 4096;
        let (row0, cols) = (band.rows.start, band.cols);
        let (mut products, mut bytes) = (0, Vec::new());
        let strips = cols.div_ceil(STRIP_COLS).max(1);
        for strip in 0..strips {
            let [col0, col1] = [strip, strip + 1].map(|k| (cols * k / strips) as i64);
            let spans = band.rows.clone().map(|row| ground(band, row, col0..col1)).collect();
            let answer = Wanted { rows: row0 as i64..band.rows.end as i64, spans };
            if answer.pixels() == 0 {
                continue;
            }
            let picture = Picture { row: band.row, edge: None };
            products += self.stream.run(&picture, &answer, &mut |row, line| {
                ensure!(!(band.stop)(), Stopped);
                let start = answer.span(row).start as usize;
                let pixels = &(band.row)(row).unwrap_or_default()[start..];
                let level = |(&p, &grey): (&f32, &u8)| if grey == 0 { 0 } else { (p * 255.0 + 0.5) as u8 };
                bytes.clear();
                bytes.extend(line.iter().zip(pixels).map(level));
                take(row as u64, start as u64, &bytes);
                Ok(())
            })?;
        }
        Ok(products.div_ceil(self.stream.products_a_pixel()))
    }
}

/// From the first pixel of a row's columns that is asked for and has data to the last.
fn ground(band: &BandPixels<'_>, row: u64, cols: Span) -> Span {
    let asked = (band.spans)(row);
    let start = cols.start.max(asked.start as i64);
    let end = cols.end.min(asked.end as i64).max(start);
    let line = (band.row)(row as i64).unwrap_or_default();
    let part = &line[start as usize..end as usize];
    let first = part.iter().position(|&grey| grey != 0);
    let last = part.iter().rposition(|&grey| grey != 0);
    first.zip(last).map_or(0..0, |(first, last)| start + first as i64..start + last as i64 + 1)
}

impl Segmenter for DirectSegmenter {
    fn halo_px(&self) -> u32 {
        halo_px(&self.widths)
    }

    fn multiple_px(&self) -> u32 {
        multiple_px(&self.widths)
    }

    fn device(&self) -> String {
        format!("cpu {}", self.instructions)
    }

    fn streaming(&self) -> Option<&dyn Streaming> {
        Some(self)
    }

    /// Of each window only what its halo makes right.
    fn segment(&mut self, batch: &WindowBatch, probabilities: &mut [u8]) -> Result<()> {
        let (side, halo) = (batch.side_px, u64::from(self.halo_px()));
        let windows = batch.pixels.chunks_exact(side * side).zip(probabilities.chunks_exact_mut(side * side));
        for (window, probabilities) in windows.take(batch.count) {
            let band = BandPixels {
                rows: halo..side as u64 - halo,
                cols: side as u64,
                spans: &|_| 0..side as u64,
                row: &|row| row_of(window, side, row),
                stop: &|| false,
            };
            self.stream(&band, &mut |row, col, line| {
                probabilities[row as usize * side + col as usize..][..line.len()].copy_from_slice(line);
            })?;
        }
        Ok(())
    }
}
