//! The network on the processor without the framework. Burn's network is the reference that it is tested
//! against.
//!
//! For inference, activations are planes of blocked channels: `[block][row][column][32]`, with a border of zeros, so that a
//! convolution needs no case for edges. Each output is summed in one order, whatever the threads.

mod conv;
mod kernel;
mod norm;
mod plane;
mod replica;
mod sheets;
mod slopes;

use anyhow::{Result, ensure};
use rayon::prelude::*;

pub use self::kernel::instructions;
pub use self::norm::Dropout;
pub use self::replica::DirectReplica;
use self::conv::Conv;
use self::kernel::BLOCK;
use self::plane::Plane;
use super::weights::{FoldedConv, Weights};
use crate::detect::{Segmenter, WindowBatch};
use crate::tile::{halo_px, multiple_px};

/// The planes of one level and its convolutions.
struct Level {
    input: Plane,
    middle: Plane,
    /// What the encoder hands over, and later the decoder's answer.
    output: Plane,
    encoder: [usize; 2],
    decoder: Option<[usize; 2]>,
    /// Pixels on each side that need not be right: of the encoder's output, of the decoder's.
    margins: [usize; 2],
}

/// The margins of each level, when `margin` pixels of the answer are not wanted: each 3x3 convolution wants
/// one pixel more of its input than it gives, and those of a doubled source an even margin.
fn margins(levels: usize, margin: usize) -> Vec<[usize; 2]> {
    let mut decoder = vec![margin];
    for level in 1..levels {
        decoder.push((first_margin(decoder[level - 1]) / 2).saturating_sub(1));
    }
    let mut all = vec![[decoder[levels - 1]; 2]];
    for &decoder in decoder.iter().rev().skip(1) {
        let below: [usize; 2] = all[all.len() - 1];
        let halved = 2 * below[0].saturating_sub(2);
        all.push([halved.min(first_margin(decoder).saturating_sub(1)), decoder]);
    }
    all.reverse();
    all
}

/// The margin of a decoder's first convolution when its second has `margin`.
fn first_margin(margin: usize) -> usize {
    margin.saturating_sub(1) / 2 * 2
}

/// The network on the processor.
pub struct DirectSegmenter {
    widths: Vec<usize>,
    convs: Vec<Conv>,
    head: (Vec<f32>, f32),
    /// Side and margin that the levels are for.
    window: (usize, usize),
    levels: Vec<Level>,
}

impl DirectSegmenter {
    /// Folds and packs `weights`.
    pub fn new(weights: &Weights) -> Self {
        let widths = weights.widths().to_vec();
        let first_decoder = 2 * widths.len();
        let pack = |(k, conv): (usize, &FoldedConv)| {
            let inputs = conv.channels[0];
            // A decoder begins with the level below, doubled, then takes what the encoder handed over.
            let begins = k >= first_decoder && k % 2 == 0;
            Conv::folded(conv, if begins { inputs - conv.channels[1] } else { 0 })
        };
        let convs = weights.folded().iter().enumerate().map(pack).collect();
        let (weight, bias) = weights.head();
        let mut head = weight.to_vec();
        head.resize(head.len().next_multiple_of(BLOCK), 0.0);
        Self { widths, convs, head: (head, bias), window: (0, 0), levels: Vec::new() }
    }

    /// Makes the planes for windows of `side_px`.
    fn fit(&mut self, side_px: usize, margin_px: usize) {
        if self.window == (side_px, margin_px) {
            return;
        }
        let count = self.widths.len();
        let margins = margins(count, margin_px);
        self.levels = (0..count)
            .map(|level| {
                let side = side_px >> level;
                let plane = |channels| Plane::new(channels, side, side);
                let width = self.widths[level];
                let below = self.widths.get(level + 1).copied();
                let step = 2 * count + 2 * (count - 1 - level);
                Level {
                    input: plane(if level == 0 { 1 } else { self.widths[level - 1] }),
                    middle: plane(width),
                    output: plane(width),
                    encoder: [2 * level, 2 * level + 1],
                    decoder: below.map(|_| [step - 2, step - 1]),
                    margins: margins[level],
                }
            })
            .collect();
        self.window = (side_px, margin_px);
    }

    /// Probabilities, `[count, side, side]` in 0..=1, of network input of the same shape.
    ///
    /// # Errors
    /// If the side cannot be halved as often as the network does.
    pub fn probabilities(&mut self, side_px: usize, pixels: &[u8]) -> Result<Vec<f32>> {
        self.inner_probabilities(side_px, 0, pixels)
    }

    /// The same, of which `margin_px` on each side are not worth the work and mean nothing.
    fn inner_probabilities(&mut self, side_px: usize, margin_px: usize, pixels: &[u8]) -> Result<Vec<f32>> {
        let multiple = multiple_px(&self.widths) as usize;
        ensure!(
            side_px.is_multiple_of(multiple),
            "windows of {side_px} px: must be a multiple of {multiple}"
        );
        self.fit(side_px, margin_px);
        let mut all = vec![0.0; pixels.len()];
        let window = side_px * side_px;
        for (pixels, out) in pixels.chunks_exact(window).zip(all.chunks_exact_mut(window)) {
            self.window(pixels, out);
        }
        Ok(all)
    }

    fn window(&mut self, pixels: &[u8], out: &mut [f32]) {
        let ((side, margin), convs) = (self.window, &self.convs);
        self.levels[0].input.par_rows(0).for_each(|(_, row, line)| {
            for (to, &v) in line.iter_mut().zip(&pixels[row * side..]) {
                to[0] = f32::from(v) / 255.0;
            }
        });
        for k in 0..self.levels.len() {
            let (above, rest) = self.levels.split_at_mut(k);
            let level = &mut rest[0];
            let margin = level.margins[0];
            if let Some(above) = above.last() {
                level.input.halve(&above.output, margin.saturating_sub(2));
            }
            level.middle.convolve(&convs[level.encoder[0]], None, &level.input, margin.saturating_sub(1));
            level.output.convolve(&convs[level.encoder[1]], None, &level.middle, margin);
        }
        for k in (1..self.levels.len()).rev() {
            let (above, below) = self.levels.split_at_mut(k);
            let level = &mut above[k - 1];
            if let Some([first, second]) = level.decoder {
                let margin = level.margins[1];
                let doubled = Some(&below[0].output);
                level.middle.convolve(&convs[first], doubled, &level.output, first_margin(margin));
                level.output.convolve(&convs[second], None, &level.middle, margin);
            }
        }
        let (answer, (weight, bias)) = (&self.levels[0].output, &self.head);
        let wanted = margin..side - margin;
        let lines = out.par_chunks_mut(side).enumerate().filter(|(row, _)| wanted.contains(row));
        lines.for_each(|(row, out)| {
            let out = &mut out[wanted.clone()];
            out.fill(*bias);
            for (block, weight) in weight.chunks_exact(BLOCK).enumerate() {
                for (out, pixel) in out.iter_mut().zip(&answer.row(block, row + 1)[1 + margin..]) {
                    *out += pixel.iter().zip(weight).map(|(v, w)| v * w).sum::<f32>();
                }
            }
            for v in out {
                *v = 1.0 / (1.0 + (-*v).exp());
            }
        });
    }
}

impl Segmenter for DirectSegmenter {
    fn halo_px(&self) -> u32 {
        halo_px(&self.widths)
    }

    fn multiple_px(&self) -> u32 {
        multiple_px(&self.widths)
    }

    fn device(&self) -> String {
        format!("cpu {}", instructions())
    }

    fn segment(&mut self, batch: &WindowBatch, probabilities: &mut [u8]) -> Result<()> {
        let used = batch.count * batch.side_px * batch.side_px;
        let margin = self.halo_px() as usize;
        let answer = self.inner_probabilities(batch.side_px, margin, &batch.pixels[..used])?;
        for (out, p) in probabilities.iter_mut().zip(answer) {
            *out = (p * 255.0 + 0.5) as u8;
        }
        Ok(())
    }
}
