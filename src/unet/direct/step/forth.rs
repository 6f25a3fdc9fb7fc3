//! A step's way forth: crops to logits.

use rayon::prelude::*;

use super::norm::{Norm, activate, add_moments};
use super::sheets::Line;
use super::{DirectReplica, around, each_picture, scratch, total};
use crate::unet::direct::conv::{Conv, Scale};
use crate::unet::direct::kernel::{BLOCK, ConvRow, Finish, Group, Rows};

impl DirectReplica {
    pub(super) fn fill(&mut self, pixels: &[u8]) {
        let layout = self.layout(0);
        let side = layout.side;
        self.input.par_lines().flatten().for_each(|line| {
            for (image, col) in line.pictures(layout) {
                let from = &pixels[(image * side + line.row) * side..][..side];
                for (to, &v) in line.pixels[col..].iter_mut().zip(from) {
                    to[0] = f32::from(v) / 255.0;
                }
            }
        });
    }

    /// The unit's sums and, added over them, a value and its square a channel.
    pub(super) fn convolve(&mut self, unit: usize) -> Vec<f64> {
        let [weight, bias, ..] = self.parts(unit);
        let conv = Conv::new(&self.values[weight], &self.values[bias], self.doubled(unit));
        let layout = self.layout(self.level(unit));
        let mut z = std::mem::take(&mut self.z[unit]);
        let (below, same) = self.sources(unit);
        let moments = z.par_lines().map_init(scratch(layout), |scratch, line| {
            let line = line?;
            let Line { sheet, block, row, .. } = line;
            let groups = conv.blocks[block].iter().map(|packed| {
                let half = packed.weights.len() / 2;
                let (rows, weights) = match below.filter(|_| packed.scale == Scale::Doubled) {
                    Some(below) => {
                        let from = sheet % 2 * layout.per_sheet * layout.pitch / 2;
                        let line = |down| below.row(sheet / 2, packed.block, row.div_ceil(2) + down, from);
                        (Rows::Doubled([0, 1].map(line)), &packed.weights[row % 2 * half..][..half])
                    }
                    None => (around(same, sheet, packed.block, row), &packed.weights[..]),
                };
                Group { rows, first_lane: packed.first_lane, lanes: packed.lanes, weights }
            });
            let (out, bias) = (&mut *line.pixels, &conv.bias[block]);
            ConvRow { groups, bias, scratch, out, finish: Finish::Sum }.run();
            let mut sums = [[0.0; BLOCK]; 2];
            for (_, col) in line.pictures(layout) {
                add_moments(&line.pixels[col..col + layout.side], &mut sums);
            }
            Some((block, sums))
        });
        let sums = total(self.units[unit].outputs, moments.collect());
        self.z[unit] = z;
        sums
    }

    /// Batch norm from the sums of all replicas.
    pub(super) fn norm(&mut self, unit: usize, moments: &[f64]) {
        let channels = self.units[unit].outputs;
        let pixels = moments[2 * channels];
        let mean: Vec<f64> = moments[..channels].iter().map(|v| v / pixels).collect();
        let squares = moments[channels..2 * channels].iter().zip(&mean);
        let variance: Vec<f64> = squares.map(|(q, mean)| (q / pixels - mean * mean).max(0.0)).collect();
        let [_, _, gamma, beta] = self.parts(unit).map(|part| &self.values[part]);
        let blocks = mean.chunks(BLOCK).zip(variance.chunks(BLOCK));
        let affine = gamma.chunks(BLOCK).zip(beta.chunks(BLOCK));
        self.norms[unit] = blocks.zip(affine).map(|((m, v), (g, b))| Norm::new(m, v, g, b)).collect();
        let level = self.level(unit);
        self.pixels[level] = pixels;
        let at: usize = self.units[..unit].iter().map(|unit| 2 * unit.outputs).sum();
        for (to, &v) in self.seen[at..].iter_mut().zip(mean.iter().chain(&variance)) {
            *to = v as f32;
        }
    }

    /// The unit's answer; between the pictures it is zero.
    pub(super) fn activate(&mut self, unit: usize) {
        let layout = self.layout(self.level(unit));
        let (drawn, first, side) = (self.drawn, self.place.first_crop, layout.side);
        let (z, norms) = (&self.z[unit], &self.norms[unit]);
        self.y[unit].par_lines().flatten().for_each_init(
            || vec![[0.0; BLOCK]; side],
            |keep, mut line| {
                let Line { block, row, .. } = line;
                let pictures = line.pictures(layout);
                each_picture(&mut line, pictures, side, |image, out| {
                    drawn.keep(first + image as u64, unit, block * side + row, keep);
                    activate(&norms[block], z.picture_row(image, block, row), keep, out);
                });
            },
        );
    }

    /// The largest of each 2x2 of the level above.
    pub(super) fn pool(&mut self, level: usize) {
        let layout = self.layout(level);
        let fine = &self.y[2 * level - 1];
        self.pooled[level].par_lines().flatten().for_each(|mut line| {
            let Line { block, row, .. } = line;
            let pictures = line.pictures(layout);
            each_picture(&mut line, pictures, layout.side, |image, out| {
                let [upper, lower] = [0, 1].map(|down| fine.picture_row(image, block, 2 * row + down));
                let pairs = upper.as_chunks::<2>().0.iter().zip(lower.as_chunks::<2>().0);
                for (out, (upper, lower)) in out.iter_mut().zip(pairs) {
                    for lane in 0..BLOCK {
                        let [a, b] = [upper, lower].map(|pair| pair[0][lane].max(pair[1][lane]));
                        out[lane] = a.max(b);
                    }
                }
            });
        });
    }

    pub(super) fn logits(&self) -> Vec<f32> {
        let (images, side) = self.size;
        let ((weight, bias), y) = (self.head(), &self.y[self.last()]);
        let mut logits = vec![bias; images * side * side];
        logits.par_chunks_exact_mut(side).enumerate().for_each(|(k, out)| {
            for (block, weight) in weight.iter().enumerate() {
                for (out, pixel) in out.iter_mut().zip(y.picture_row(k / side, block, k % side)) {
                    *out += pixel.iter().zip(weight).map(|(v, w)| v * w).sum::<f32>();
                }
            }
        });
        logits
    }
}
