//! A step's way back: the loss's slopes over the logits to its gradient.

use std::ops::Range;

use anyhow::Result;
use rayon::prelude::*;

use super::norm::{Pair, back_to_norm, back_to_sum};
use super::sheets::{Layout, Line, Sheets};
use super::slopes::{Pairing, add_products};
use super::{DirectReplica, Role, around, each_picture, scratch, total};
use crate::unet::direct::conv::{Conv, Scale};
use crate::unet::direct::kernel::{BLOCK, ConvRow, Finish, Group, Lanes, Rows};
use crate::unet::layout::Unit;
use crate::unet::replica::Sums;

/// Tasks that the slopes of a convolution's weights are cut in at least; a constant, so that their sums do not
/// depend on the threads.
const SLOPE_TASKS: usize = 16;

impl DirectReplica {
    /// The head's gradient; its input's slopes take the last answer's place.
    pub(super) fn head_back(&mut self, slopes: &[f32], gradient: &mut [f32]) {
        let ((weight, _), side, last) = (self.head(), self.size.1, self.last());
        let layout = self.layout(0);
        let parts = self.y[last].par_lines().map(|line| {
            let line = line?;
            let mut sums = [[0.0; BLOCK]; 2];
            for (image, col) in line.pictures(layout) {
                let slopes = &slopes[(image * side + line.row) * side..][..side];
                for (pixel, &slope) in line.pixels[col..].iter_mut().zip(slopes) {
                    for lane in 0..BLOCK {
                        sums[0][lane] += slope * pixel[lane];
                        pixel[lane] = slope * weight[line.block][lane];
                    }
                }
            }
            Some((line.block, sums))
        });
        let channels = self.widths[0];
        let sums = total(channels, parts.collect());
        let at = self.offsets[self.units.len()];
        for (to, &sum) in gradient[at..].iter_mut().zip(&sums[..channels]) {
            *to = sum as f32;
        }
        gradient[at + channels] = slopes.iter().map(|&v| f64::from(v)).sum::<f64>() as f32;
    }

    /// From the slopes of the unit's answer, in `y`, to those of its sums, in `z`; the gradient of its batch norm.
    pub(super) fn unit_back(&mut self, unit: usize, sums: &dyn Sums, gradient: &mut [f32]) -> Result<()> {
        let level = self.level(unit);
        let layout = self.layout(level);
        let (drawn, first, side) = (self.drawn, self.place.first_crop, layout.side);
        let (z, norms) = (&self.z[unit], &self.norms[unit]);
        let parts = self.y[unit].par_lines().map_init(
            || vec![[0.0; BLOCK]; side],
            |keep, line| {
                let mut line = line?;
                let Line { block, row, .. } = line;
                let mut sums: Pair = [[0.0; BLOCK]; 2];
                let pictures = line.pictures(layout);
                each_picture(&mut line, pictures, side, |image, slope| {
                    drawn.keep(first + image as u64, unit, block * side + row, keep);
                    let z = z.picture_row(image, block, row);
                    back_to_norm(&norms[block], z, keep, slope, &mut sums);
                });
                Some((block, sums))
            },
        );
        let channels = self.units[unit].outputs;
        let mut totals = total(channels, parts.collect());
        let [_, _, gamma, beta] = self.parts(unit);
        for (part, sums) in [(beta, &totals[..channels]), (gamma, &totals[channels..])] {
            for (to, &sum) in gradient[part].iter_mut().zip(sums) {
                *to = sum as f32;
            }
        }
        sums.add(&mut totals)?;
        let pixels = self.pixels[level];
        let constants: Vec<[Lanes; 2]> = norms
            .iter()
            .enumerate()
            .map(|(block, norm)| {
                let mut pair = [[0.0; BLOCK]; 2];
                for (lane, channel) in (block * BLOCK..channels.min((block + 1) * BLOCK)).enumerate() {
                    let [scale, mean, inverse] =
                        [norm.scale, norm.mean, norm.inverse].map(|v| f64::from(v[lane]));
                    let factor = -scale * inverse * totals[channels + channel] / pixels;
                    pair[0][lane] = factor as f32;
                    pair[1][lane] = (-scale * totals[channel] / pixels - factor * mean) as f32;
                }
                pair
            })
            .collect();
        let y = &self.y[unit];
        self.z[unit].par_lines().flatten().for_each(|mut line| {
            let Line { block, row, .. } = line;
            let pictures = line.pictures(layout);
            let [factor, constant] = &constants[block];
            each_picture(&mut line, pictures, side, |image, z| {
                let slope = y.picture_row(image, block, row);
                back_to_sum(&norms[block].scale, factor, constant, slope, z);
            });
        });
        Ok(())
    }

    /// The gradient of the unit's weights.
    pub(super) fn weight_back(&self, unit: usize, gradient: &mut [f32]) {
        let (below, same) = self.sources(unit);
        let Unit { inputs, .. } = self.units[unit];
        let doubled = self.doubled(unit);
        let [weight, ..] = self.parts(unit);
        let gradient = &mut gradient[weight];
        if let Some(below) = below {
            self.slopes(unit, Scale::Doubled, below, 0..doubled, gradient);
        }
        self.slopes(unit, Scale::Same, same, doubled..inputs, gradient);
    }

    /// The same for the `channels` that come from one source.
    pub(super) fn slopes(
        &self,
        unit: usize,
        scale: Scale,
        source: &Sheets,
        channels: Range<usize>,
        gradient: &mut [f32],
    ) {
        let (z, layout) = (&self.z[unit], self.layout(self.level(unit)));
        let Unit { inputs, outputs, .. } = self.units[unit];
        let places = scale.places();
        let (from, to) = (channels.len().div_ceil(BLOCK), outputs.div_ceil(BLOCK));
        let parts = SLOPE_TASKS.div_ceil(from * to).min(layout.sheets());
        let sums: Vec<Vec<Lanes>> = (0..from * to * parts)
            .into_par_iter()
            .map(|task| {
                let (pair, part) = (task / parts, task % parts);
                let (input, output) = (pair / to, pair % to);
                let lanes = BLOCK.min(channels.len() - input * BLOCK);
                let mut sums = vec![[0.0; BLOCK]; places.len() * BLOCK];
                let bound = |part: usize| part * layout.sheets() / parts;
                for sheet in bound(part)..bound(part + 1) {
                    for row in 0..layout.side {
                        let z = &z.row(sheet, output, row + 1, 0)[1..=layout.span(sheet)];
                        add_row(scale, source, layout, [sheet, input, row], z, lanes, &mut sums);
                    }
                }
                sums
            })
            .collect();
        for (task, sums) in sums.iter().enumerate() {
            let (input, output) = (task / parts / to * BLOCK, task / parts % to * BLOCK);
            for ([rows, cols], sums) in places.iter().zip(sums.chunks_exact(BLOCK)) {
                let met = rows.clone().flat_map(|row| cols.clone().map(move |col| 3 * row + col));
                for place in met {
                    for (i, sums) in (channels.start + input..channels.end).zip(sums) {
                        for (o, &sum) in (output..outputs).zip(sums) {
                            gradient[(o * inputs + i) * 9 + place] += sum;
                        }
                    }
                }
            }
        }
    }

    /// The slopes of what the unit read, where that was not the picture itself.
    pub(super) fn input_back(&mut self, unit: usize) {
        let level = self.level(unit);
        let doubled = self.doubled(unit);
        let inputs = self.units[unit].inputs;
        match self.role(unit) {
            Role::Down if level == 0 => {}
            Role::Down => {
                let mut to = std::mem::take(&mut self.pooled[level]);
                self.convolve_back(unit, 0..inputs, &mut to);
                self.pooled[level] = to;
            }
            Role::Second => {
                let mut to = std::mem::take(&mut self.y[unit - 1]);
                self.convolve_back(unit, 0..inputs, &mut to);
                self.y[unit - 1] = to;
            }
            Role::Up(below) => {
                let mut to = std::mem::take(&mut self.skipped[level]);
                self.convolve_back(unit, doubled..inputs, &mut to);
                self.skipped[level] = to;
                let mut to = std::mem::take(&mut self.y[below]);
                self.convolve_back_halved(unit, 0..doubled, &mut to);
                self.y[below] = to;
            }
        }
    }

    pub(super) fn back(&self, unit: usize, wanted: Range<usize>, scale: Scale) -> Conv {
        let [weight, ..] = self.parts(unit);
        Conv::back(&self.values[weight], self.units[unit].outputs, wanted, scale)
    }

    pub(super) fn convolve_back(&self, unit: usize, wanted: Range<usize>, to: &mut Sheets) {
        let conv = self.back(unit, wanted, Scale::Same);
        let (z, layout) = (&self.z[unit], self.layout(self.level(unit)));
        to.par_lines().flatten().for_each_init(scratch(layout), |scratch, line| {
            let groups = conv.blocks[line.block].iter().map(|packed| Group {
                rows: around(z, line.sheet, packed.block, line.row),
                first_lane: packed.first_lane,
                lanes: packed.lanes,
                weights: &packed.weights,
            });
            let bias = &conv.bias[line.block];
            ConvRow { groups, bias, scratch, out: line.pixels, finish: Finish::Sum }.run();
        });
    }

    /// The same for the level below: a sheet there holds the pictures of two sheets here.
    pub(super) fn convolve_back_halved(&self, unit: usize, wanted: Range<usize>, to: &mut Sheets) {
        let conv = self.back(unit, wanted, Scale::Halved);
        let (z, fine) = (&self.z[unit], self.layout(self.level(unit)));
        let coarse = self.layout(self.level(unit) + 1);
        to.par_lines().flatten().for_each_init(scratch(coarse), |scratch, line| {
            for half in (0..2).filter(|half| 2 * line.sheet + half < fine.sheets()) {
                let sheet = 2 * line.sheet + half;
                let first = half * fine.per_sheet * coarse.pitch;
                let end = first + (fine.images_on(sheet) - 1) * coarse.pitch + coarse.side;
                let groups = conv.blocks[line.block].iter().map(|packed| {
                    let rows = [0, 1, 2, 3].map(|down| z.row(sheet, packed.block, 2 * line.row + down, 0));
                    Group {
                        rows: Rows::Halved(rows),
                        first_lane: packed.first_lane,
                        lanes: packed.lanes,
                        weights: &packed.weights,
                    }
                });
                let (out, bias) = (&mut line.pixels[first..end], &conv.bias[line.block]);
                ConvRow { groups, bias, scratch, out, finish: Finish::Sum }.run();
            }
        });
    }

    /// Adds, to the slopes of what the encoder hands over, those that come back through the pooling; they take
    /// the place of the encoder's answer.
    pub(super) fn unpool(&mut self, level: usize) {
        let layout = self.layout(level);
        let (y, pooled) = (&self.y[2 * level + 1], &self.pooled[level + 1]);
        self.skipped[level].par_lines().flatten().for_each(|mut line| {
            let Line { block, row, .. } = line;
            let pictures = line.pictures(layout);
            each_picture(&mut line, pictures, layout.side, |image, slopes| {
                let [upper, lower] = [0, 1].map(|down| y.picture_row(image, block, row / 2 * 2 + down));
                let four = upper.as_chunks::<2>().0.iter().zip(lower.as_chunks::<2>().0);
                let back = pooled.picture_row(image, block, row / 2);
                for ((slopes, (upper, lower)), back) in
                    slopes.as_chunks_mut::<2>().0.iter_mut().zip(four).zip(back)
                {
                    for lane in 0..BLOCK {
                        let values = [upper[0][lane], upper[1][lane], lower[0][lane], lower[1][lane]];
                        let most = values[0].max(values[1]).max(values[2].max(values[3]));
                        // The first of the largest, as PyTorch has it.
                        let first = values.iter().position(|v| *v >= most).unwrap_or(0);
                        for (right, slopes) in slopes.iter_mut().enumerate() {
                            let mine = first == row % 2 * 2 + right;
                            slopes[lane] += if mine { back[lane] } else { 0.0 };
                        }
                    }
                }
            });
        });
        std::mem::swap(&mut self.y[2 * level + 1], &mut self.skipped[level]);
    }
}

/// Adds one row's products of a source's pixels and a unit's slopes, `z`, at every place of the kernel.
fn add_row(
    scale: Scale,
    source: &Sheets,
    layout: Layout,
    [sheet, block, row]: [usize; 3],
    z: &[Lanes],
    lanes: usize,
    sums: &mut [Lanes],
) {
    if scale == Scale::Same {
        for (place, sums) in sums.chunks_exact_mut(BLOCK).enumerate() {
            let input = &source.row(sheet, block, row + place / 3, 0)[place % 3..];
            add_products(Pairing { input, first: 0, step: 1 }, z, lanes, sums);
        }
        return;
    }
    let from = sheet % 2 * layout.per_sheet * layout.pitch / 2;
    let parity = sums.chunks_exact_mut(BLOCK).skip(row % 2 * 8).take(8);
    for (place, sums) in parity.enumerate() {
        let (odd, down, right) = (place / 4, place / 2 % 2, place % 2);
        let input = &source.row(sheet / 2, block, row.div_ceil(2) + down, from)[odd + right..];
        add_products(Pairing { input, first: odd, step: 2 }, z, lanes, sums);
    }
}
