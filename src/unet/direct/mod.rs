//! The network on the processor without the framework, whose convolutions go through memory that this
//! keeps in registers. Burn's network is the reference it is tested against.
//!
//! Activations are planes of blocked channels: `[block][row][column][32]`, with a border of zeros, so that a
//! convolution needs no case for edges. Each output is summed in one order, whatever the threads.

mod kernel;

use anyhow::{Result, ensure};
use rayon::prelude::*;

pub use self::kernel::instructions;
use self::kernel::{BLOCK, ConvRow, GROUP, GROUP_WEIGHTS, GroupRows, Lanes, SLACK_PX};
use super::weights::{FoldedConv, Weights};
use crate::detect::{Segmenter, WindowBatch};
use crate::tile::{halo_px, multiple_px};

/// Activations of one level.
struct Plane {
    rows: usize,
    cols: usize,
    /// A row with its border and slack.
    stride: usize,
    /// `[blocks][rows + 2][stride]`; everything but the pixels is zero.
    pixels: Vec<Lanes>,
}

impl Plane {
    fn new(channels: usize, rows: usize, cols: usize) -> Self {
        let stride = cols + 2 + SLACK_PX;
        let pixels = vec![[0.0; BLOCK]; channels.div_ceil(BLOCK) * (rows + 2) * stride];
        Self { rows, cols, stride, pixels }
    }

    /// A row of a block with its border; row 0 is the border above.
    fn row(&self, block: usize, row: usize) -> &[Lanes] {
        let at = (block * (self.rows + 2) + row) * self.stride;
        &self.pixels[at..at + self.stride]
    }

    /// The pixels at least `margin` from every side, a row of a block each, in parallel: block, row, pixels.
    fn par_rows(&mut self, margin: usize) -> impl ParallelIterator<Item = (usize, usize, &mut [Lanes])> {
        let (rows, cols) = (self.rows, self.cols);
        self.pixels.par_chunks_exact_mut(self.stride).enumerate().filter_map(move |(k, line)| {
            let (block, row) = (k / (rows + 2), k % (rows + 2));
            let wanted = (1 + margin..=rows - margin).contains(&row);
            wanted.then(|| (block, row - 1, &mut line[1 + margin..=cols - margin]))
        })
    }

    /// The largest of each 2x2 of `fine`.
    fn halve(&mut self, fine: &Self, margin: usize) {
        self.par_rows(margin).for_each(|(block, row, out)| {
            let [upper, lower] = [1, 2].map(|down| &fine.row(block, 2 * row + down)[1 + 2 * margin..]);
            let pairs = upper.chunks_exact(2).zip(lower.chunks_exact(2));
            for (out, (upper, lower)) in out.iter_mut().zip(pairs) {
                for lane in 0..BLOCK {
                    let [a, b] = [upper, lower].map(|pair| pair[0][lane].max(pair[1][lane]));
                    out[lane] = a.max(b);
                }
            }
        });
    }

    /// Each pixel of `coarse` four times.
    fn double(&mut self, coarse: &Self, margin: usize) {
        let margin = margin / 2;
        self.par_rows(2 * margin).for_each(|(block, row, out)| {
            let from = &coarse.row(block, row / 2 + 1)[1 + margin..];
            for (out, value) in out.chunks_mut(2).zip(from) {
                out.fill(*value);
            }
        });
    }
}

/// A 3x3 convolution over the channels of one or two planes, with its batch norm and ELU.
struct Conv {
    /// Where each group of input channels is: source, block, first lane, lanes.
    groups: Vec<(usize, usize, usize, usize)>,
    /// `[output block][group][3][3][GROUP][BLOCK]`.
    weights: Vec<f32>,
    /// `[output block]`.
    bias: Vec<Lanes>,
}

impl Conv {
    /// `sources` has the channels of each plane it reads.
    fn new(conv: &FoldedConv, sources: &[usize]) -> Self {
        let [inputs, outputs] = conv.channels;
        let blocks = outputs.div_ceil(BLOCK);
        let (mut groups, mut first_inputs, mut input) = (Vec::new(), Vec::new(), 0);
        for (source, &channels) in sources.iter().enumerate() {
            for channel in (0..channels).step_by(GROUP) {
                let lanes = GROUP.min(channels - channel);
                groups.push((source, channel / BLOCK, channel % BLOCK, lanes));
                first_inputs.push(input + channel);
            }
            input += channels;
        }
        let mut weights = vec![0.0; blocks * groups.len() * GROUP_WEIGHTS];
        let mut bias = vec![[0.0; BLOCK]; blocks];
        for output in 0..outputs {
            let (block, out_lane) = (output / BLOCK, output % BLOCK);
            bias[block][out_lane] = conv.bias[output];
            for (g, (&first, &(.., lanes))) in first_inputs.iter().zip(&groups).enumerate() {
                for lane in 0..lanes {
                    for place in 0..9 {
                        let to = (((block * groups.len() + g) * 9 + place) * GROUP + lane) * BLOCK + out_lane;
                        weights[to] = conv.weight[(output * inputs + first + lane) * 9 + place];
                    }
                }
            }
        }
        Self { groups, weights, bias }
    }

    fn run(&self, sources: &[&Plane], out: &mut Plane, margin: usize) {
        let scratch_px = out.cols + SLACK_PX;
        let per_block = self.groups.len() * GROUP_WEIGHTS;
        out.par_rows(margin).for_each_init(
            || vec![[0.0; BLOCK]; scratch_px],
            |scratch, (block, row, out)| {
                let groups = self.groups.iter().map(|&(source, block, first_lane, lanes)| GroupRows {
                    rows: [0, 1, 2].map(|down| &sources[source].row(block, row + down)[margin..]),
                    first_lane,
                    lanes,
                });
                let weights = &self.weights[block * per_block..][..per_block];
                ConvRow { groups, weights, bias: &self.bias[block], scratch, out }.run();
            },
        );
    }
}

/// The planes of one level and its convolutions.
struct Level {
    input: Plane,
    middle: Plane,
    /// What the encoder hands over, and later the decoder's answer.
    output: Plane,
    /// From the level below, doubled; empty at the coarsest level.
    doubled: Plane,
    encoder: [usize; 2],
    decoder: Option<[usize; 2]>,
    /// Pixels on each side that need not be right: of the encoder's output, of the decoder's.
    margins: [usize; 2],
}

/// The margins of each level, when `margin` pixels of the answer are not wanted: each 3x3 convolution wants
/// one pixel more of its input than it gives.
fn margins(levels: usize, margin: usize) -> Vec<[usize; 2]> {
    let mut decoder = vec![margin];
    for level in 1..levels {
        decoder.push(decoder[level - 1].saturating_sub(2) / 2);
    }
    let mut all = vec![[decoder[levels - 1]; 2]];
    for &decoder in decoder.iter().rev().skip(1) {
        let below: [usize; 2] = all[all.len() - 1];
        let halved = 2 * below[0].saturating_sub(2);
        all.push([halved.min(decoder.saturating_sub(2)), decoder]);
    }
    all.reverse();
    all
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
            if k >= first_decoder && k % 2 == 0 {
                // The level below, doubled, then what the encoder handed over.
                let skip = conv.channels[1];
                Conv::new(conv, &[inputs - skip, skip])
            } else {
                Conv::new(conv, &[inputs])
            }
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
                    doubled: plane(below.unwrap_or(0)),
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
            convs[level.encoder[0]].run(&[&level.input], &mut level.middle, margin.saturating_sub(1));
            convs[level.encoder[1]].run(&[&level.middle], &mut level.output, margin);
        }
        for k in (1..self.levels.len()).rev() {
            let (above, below) = self.levels.split_at_mut(k);
            let level = &mut above[k - 1];
            if let Some([first, second]) = level.decoder {
                let margin = level.margins[1];
                level.doubled.double(&below[0].output, margin.saturating_sub(2));
                let sources = [&level.doubled, &level.output];
                convs[first].run(&sources, &mut level.middle, margin.saturating_sub(1));
                convs[second].run(&[&level.middle], &mut level.output, margin);
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
