//! The network on the processor without the framework, for inference. Burn's network is the reference that
//! it is tested against.
//!
//! Activations are planes of blocked channels: `[block][row][column][32]`, with a border of zeros, so that a
//! convolution needs no case for edges. Each output is summed in one order, whatever the threads.

mod kernel;

use anyhow::{Result, ensure};
use rayon::prelude::*;

pub use self::kernel::instructions;
use self::kernel::{BLOCK, ConvRow, GROUP, Group, Lanes, PLACE, Rows, SLACK_PX};
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
}

/// Some input channels of a convolution, and one output block's weights for them.
struct Packed {
    /// Whether they come from the level below, where each pixel counts as four.
    doubled: bool,
    block: usize,
    first_lane: usize,
    lanes: usize,
    /// [`PLACE`]s; of a doubled source those of even output rows, then those of odd ones.
    weights: Vec<f32>,
}

impl Packed {
    /// What output row `row` needs of it, from column `margin` on.
    fn group<'a>(
        &'a self,
        doubled: Option<&'a Plane>,
        same: &'a Plane,
        row: usize,
        margin: usize,
    ) -> Group<'a> {
        let (rows, weights) = if let Some(plane) = doubled.filter(|_| self.doubled) {
            let half = self.weights.len() / 2;
            let line = |down| &plane.row(self.block, row.div_ceil(2) + down)[margin / 2..];
            (Rows::Doubled([0, 1].map(line)), &self.weights[row % 2 * half..][..half])
        } else {
            let line = |down| &same.row(self.block, row + down)[margin..];
            (Rows::Same([0, 1, 2].map(line)), &self.weights[..])
        };
        Group { rows, first_lane: self.first_lane, lanes: self.lanes, weights }
    }
}

/// A 3x3 convolution with its batch norm and ELU.
struct Conv {
    /// `[output block][group]`.
    blocks: Vec<Vec<Packed>>,
    /// `[output block]`.
    bias: Vec<Lanes>,
}

impl Conv {
    /// The first `doubled` input channels come from the level below.
    fn new(conv: &FoldedConv, doubled: usize) -> Self {
        let [inputs, outputs] = conv.channels;
        let mut bias = vec![[0.0; BLOCK]; outputs.div_ceil(BLOCK)];
        bias.as_flattened_mut()[..outputs].copy_from_slice(&conv.bias);
        let sources = [(true, 0, doubled), (false, doubled, inputs - doubled)];
        let groups_for = |block: usize| {
            let mut groups = Vec::new();
            for (doubled, first_input, channels) in sources {
                for channel in (0..channels).step_by(GROUP) {
                    let lanes = GROUP.min(channels - channel);
                    let weights = pack(conv, doubled, block, first_input + channel, lanes);
                    let (block, first_lane) = (channel / BLOCK, channel % BLOCK);
                    groups.push(Packed { doubled, block, first_lane, lanes, weights });
                }
            }
            groups
        };
        Self { blocks: (0..bias.len()).map(groups_for).collect(), bias }
    }

    /// Computes what is at least `margin` from every side of `out`; with a doubled source the margin is even.
    fn run(&self, doubled: Option<&Plane>, same: &Plane, out: &mut Plane, margin: usize) {
        let scratch_px = out.cols + SLACK_PX;
        out.par_rows(margin).for_each_init(
            || vec![[0.0; BLOCK]; scratch_px],
            |scratch, (block, row, out)| {
                let groups = self.blocks[block].iter().map(|packed| packed.group(doubled, same, row, margin));
                ConvRow { groups, bias: &self.bias[block], scratch, out }.run();
            },
        );
    }
}

/// The places of a row or column, of a doubled source, that meet its first and its second pixel.
const MEET: [[std::ops::Range<usize>; 2]; 2] = [[0..1, 1..3], [0..2, 2..3]];

/// Weights of `lanes` input channels from `first` on for one output block, as the kernel wants them.
fn pack(conv: &FoldedConv, doubled: bool, block: usize, first: usize, lanes: usize) -> Vec<f32> {
    let [inputs, outputs] = conv.channels;
    let mut packed = Vec::new();
    let mut place = |rows: std::ops::Range<usize>, cols: std::ops::Range<usize>| {
        let from = packed.len();
        packed.resize(from + PLACE, 0.0);
        for lane in 0..lanes {
            for output in block * BLOCK..outputs.min((block + 1) * BLOCK) {
                let at = (output * inputs + first + lane) * 9;
                let weight = |row| cols.clone().map(move |col| f64::from(conv.weight[at + 3 * row + col]));
                let sum: f64 = rows.clone().flat_map(weight).sum();
                packed[from + lane * BLOCK + output % BLOCK] = sum as f32;
            }
        }
    };
    if doubled {
        for k in 0..16 {
            let [odd_row, odd_col, down, right] = [k / 8, k / 4 % 2, k / 2 % 2, k % 2];
            place(MEET[odd_row][down].clone(), MEET[odd_col][right].clone());
        }
    } else {
        for k in 0..9 {
            place(k / 3..k / 3 + 1, k % 3..k % 3 + 1);
        }
    }
    packed
}

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
            Conv::new(conv, if begins { inputs - conv.channels[1] } else { 0 })
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
            convs[level.encoder[0]].run(None, &level.input, &mut level.middle, margin.saturating_sub(1));
            convs[level.encoder[1]].run(None, &level.middle, &mut level.output, margin);
        }
        for k in (1..self.levels.len()).rev() {
            let (above, below) = self.levels.split_at_mut(k);
            let level = &mut above[k - 1];
            if let Some([first, second]) = level.decoder {
                let margin = level.margins[1];
                let doubled = Some(&below[0].output);
                convs[first].run(doubled, &level.output, &mut level.middle, first_margin(margin));
                convs[second].run(None, &level.middle, &mut level.output, margin);
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
