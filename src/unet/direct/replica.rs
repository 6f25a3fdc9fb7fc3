//! A training step on the processor without the framework. Burn's step is the reference that it is tested
//! against, and PyTorch's.
//!
//! A unit keeps its convolution's sums (`z`) and its answer (`y`). On the way back the slopes take the place
//! of what is no longer needed: a unit's own in `z`, those of its answer in `y`.

use anyhow::{Result, ensure};
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::conv::{Conv, Scale, blocked};
use super::kernel::{BLOCK, ConvRow, Finish, Group, Lanes, Rows, SLACK_PX};
use super::norm::{Dropout, Norm, Pair, activate, add_moments, back_to_norm, back_to_sum};
use super::sheets::{Layout, Line, Sheets};
use super::slopes::{Pairing, add_products};
use crate::config::NetworkSettings;
use crate::tile::multiple_px;
use crate::unet::layout::{Unit, parameters, units};
use crate::unet::replica::{Place, Replica, Sums};
use crate::unet::trainer::CropBatch;

/// Tasks that the slopes of a convolution's weights are cut in at least; a constant, so that their sums do not
/// depend on the threads.
const SLOPE_TASKS: usize = 16;

/// The network in training on the processor.
pub struct DirectReplica {
    widths: Vec<usize>,
    dropout: f64,
    seed: u64,
    units: Vec<Unit>,
    /// First parameter of each unit, then of the head.
    offsets: Vec<usize>,
    parameters: usize,
    values: Vec<f32>,
    drawn: Dropout,
    place: Place,
    /// Images and side that the sheets are for.
    size: (usize, usize),
    input: Sheets,
    /// A level's input, pooled from the level above; the first is empty.
    pooled: Vec<Sheets>,
    /// Slopes of what the encoder hands over.
    skipped: Vec<Sheets>,
    z: Vec<Sheets>,
    y: Vec<Sheets>,
    norms: Vec<Vec<Norm>>,
    /// Pixels of each level that batch norm's statistics were taken over.
    pixels: Vec<f64>,
    seen: Vec<f32>,
    /// Threads of its own, where it shares the processor with others.
    threads: Option<ThreadPool>,
}

/// Where a unit stands in the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// First of a level's encoder.
    Down,
    /// First of a level's decoder: its doubled source is the answer of the given unit.
    Up(usize),
    /// Second of either.
    Second,
}

impl DirectReplica {
    /// A replica of `network` that shares the processor's threads with as many as there are `processors`.
    ///
    /// # Errors
    /// If no threads can be had.
    pub fn new(network: &NetworkSettings, seed: u64, processors: usize) -> Result<Self> {
        let threads = (rayon::current_num_threads() / processors).max(1);
        let pool = || ThreadPoolBuilder::new().num_threads(threads).build();
        let threads = (processors > 1).then(pool).transpose()?;
        let widths = network.widths.clone();
        let shapes = parameters(&widths);
        let mut offsets = vec![0];
        let mut at = 0;
        for (k, (_, shape)) in shapes.iter().enumerate() {
            at += shape.iter().product::<usize>();
            // Weight, bias, gamma and beta of a unit.
            if k % 4 == 3 {
                offsets.push(at);
            }
        }
        let empty = |count: usize| (0..count).map(|_| Sheets::default()).collect::<Vec<_>>();
        let units = units(&widths);
        let statistics = units.iter().map(|unit| 2 * unit.outputs).sum();
        Ok(Self {
            dropout: network.dropout,
            seed,
            offsets,
            parameters: at,
            values: Vec::new(),
            drawn: Dropout::new(seed, 0, 0.0),
            place: Place { step: 0, first_crop: 0 },
            size: (0, 0),
            input: Sheets::default(),
            pooled: empty(widths.len()),
            skipped: empty(widths.len()),
            z: empty(units.len()),
            y: empty(units.len()),
            norms: vec![Vec::new(); units.len()],
            pixels: vec![0.0; widths.len()],
            seen: vec![0.0; statistics],
            widths,
            units,
            threads,
        })
    }

    fn levels(&self) -> usize {
        self.widths.len()
    }

    fn level(&self, unit: usize) -> usize {
        let levels = self.levels();
        if unit < 2 * levels { unit / 2 } else { levels - 2 - (unit / 2 - levels) }
    }

    fn role(&self, unit: usize) -> Role {
        if unit % 2 == 1 {
            Role::Second
        } else if unit < 2 * self.levels() {
            Role::Down
        } else {
            Role::Up(unit - 1)
        }
    }

    /// A unit's weight, bias, gamma and beta.
    fn parts(&self, unit: usize) -> [std::ops::Range<usize>; 4] {
        let Unit { inputs, outputs, .. } = self.units[unit];
        let mut at = self.offsets[unit];
        [9 * inputs * outputs, outputs, outputs, outputs].map(|count| {
            at += count;
            at - count..at
        })
    }

    /// Channels of a unit that come from the level below.
    fn doubled(&self, unit: usize) -> usize {
        match self.role(unit) {
            Role::Up(below) => self.units[below].outputs,
            Role::Down | Role::Second => 0,
        }
    }

    /// Makes the sheets for `images` crops of `side` px.
    fn fit(&mut self, images: usize, side: usize) {
        if self.size == (images, side) {
            return;
        }
        let levels = self.levels();
        let layout = |level| Layout::new(images, side, level, levels);
        self.input = Sheets::new(1, layout(0));
        for level in 1..levels {
            self.pooled[level] = Sheets::new(self.widths[level - 1], layout(level));
        }
        for level in 0..levels - 1 {
            self.skipped[level] = Sheets::new(self.widths[level], layout(level));
        }
        for k in 0..self.units.len() {
            let (channels, level) = (self.units[k].outputs, self.level(k));
            self.z[k] = Sheets::new(channels, layout(level));
            self.y[k] = Sheets::new(channels, layout(level));
        }
        self.size = (images, side);
    }

    fn layout(&self, level: usize) -> Layout {
        Layout::new(self.size.0, self.size.1, level, self.levels())
    }

    fn fill(&mut self, pixels: &[u8]) {
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

    /// What a unit reads: of the level below, of its own level.
    fn sources(&self, unit: usize) -> (Option<&Sheets>, &Sheets) {
        let level = self.level(unit);
        match self.role(unit) {
            Role::Down if level == 0 => (None, &self.input),
            Role::Down => (None, &self.pooled[level]),
            Role::Second => (None, &self.y[unit - 1]),
            Role::Up(below) => (Some(&self.y[below]), &self.y[2 * level + 1]),
        }
    }

    /// The unit's sums and, added over them, a value and its square a channel.
    fn convolve(&mut self, unit: usize) -> Vec<f64> {
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
    fn norm(&mut self, unit: usize, moments: &[f64]) {
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
    fn activate(&mut self, unit: usize) {
        let layout = self.layout(self.level(unit));
        let (drawn, first, side) = (self.drawn, self.place.first_crop, layout.side);
        let (z, norms) = (&self.z[unit], &self.norms[unit]);
        self.y[unit].par_lines().flatten().for_each_init(
            || vec![[0.0; BLOCK]; side],
            |keep, line| {
                let Line { block, row, .. } = line;
                let pictures = line.pictures(layout);
                each_picture(line, pictures, side, |image, out| {
                    drawn.keep(first + image as u64, unit, block * side + row, keep);
                    activate(&norms[block], z.picture_row(image, block, row), keep, out);
                });
            },
        );
    }

    /// The largest of each 2x2 of the level above.
    fn pool(&mut self, level: usize) {
        let layout = self.layout(level);
        let fine = &self.y[2 * level - 1];
        self.pooled[level].par_lines().flatten().for_each(|line| {
            let Line { block, row, .. } = line;
            let pictures = line.pictures(layout);
            each_picture(line, pictures, layout.side, |image, out| {
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

    fn last(&self) -> usize {
        self.units.len() - 1
    }

    /// The head's weights as blocks, and its bias.
    fn head(&self) -> (Vec<Lanes>, f32) {
        let at = self.offsets[self.units.len()];
        let bias = self.parameters - 1;
        (blocked(&self.values[at..bias]), self.values[bias])
    }

    fn logits(&self) -> Vec<f32> {
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

    /// The head's gradient; its input's slopes take the last answer's place.
    fn head_back(&mut self, slopes: &[f32], gradient: &mut [f32]) {
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
    fn unit_back(&mut self, unit: usize, sums: &dyn Sums, gradient: &mut [f32]) -> Result<()> {
        let level = self.level(unit);
        let layout = self.layout(level);
        let (drawn, first, side) = (self.drawn, self.place.first_crop, layout.side);
        let (z, norms) = (&self.z[unit], &self.norms[unit]);
        let parts = self.y[unit].par_lines().map_init(
            || vec![[0.0; BLOCK]; side],
            |keep, line| {
                let line = line?;
                let Line { block, row, .. } = line;
                let mut sums: Pair = [[0.0; BLOCK]; 2];
                let pictures = line.pictures(layout);
                each_picture(line, pictures, side, |image, slope| {
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
        self.z[unit].par_lines().flatten().for_each(|line| {
            let Line { block, row, .. } = line;
            let pictures = line.pictures(layout);
            let [factor, constant] = &constants[block];
            each_picture(line, pictures, side, |image, z| {
                let slope = y.picture_row(image, block, row);
                back_to_sum(&norms[block].scale, factor, constant, slope, z);
            });
        });
        Ok(())
    }

    /// The gradient of the unit's weights.
    fn weight_back(&self, unit: usize, gradient: &mut [f32]) {
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
    fn slopes(
        &self,
        unit: usize,
        scale: Scale,
        source: &Sheets,
        channels: std::ops::Range<usize>,
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
    fn input_back(&mut self, unit: usize) {
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

    fn back(&self, unit: usize, wanted: std::ops::Range<usize>, scale: Scale) -> Conv {
        let [weight, ..] = self.parts(unit);
        Conv::back(&self.values[weight], self.units[unit].outputs, wanted, scale)
    }

    fn convolve_back(&self, unit: usize, wanted: std::ops::Range<usize>, to: &mut Sheets) {
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
    fn convolve_back_halved(&self, unit: usize, wanted: std::ops::Range<usize>, to: &mut Sheets) {
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
    fn unpool(&mut self, level: usize) {
        let layout = self.layout(level);
        let (y, pooled) = (&self.y[2 * level + 1], &self.pooled[level + 1]);
        self.skipped[level].par_lines().flatten().for_each(|line| {
            let Line { block, row, .. } = line;
            let pictures = line.pictures(layout);
            each_picture(line, pictures, layout.side, |image, slopes| {
                let [upper, lower] = [0, 1].map(|down| y.picture_row(image, block, row / 2 * 2 + down));
                let four = upper.as_chunks::<2>().0.iter().zip(lower.as_chunks::<2>().0);
                let back = pooled.picture_row(image, block, row / 2);
                for ((slopes, (upper, lower)), back) in slopes.as_chunks_mut::<2>().0.iter_mut().zip(four).zip(back)
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

    fn forth(&mut self, crops: &CropBatch, sums: &dyn Sums) -> Result<Vec<f32>> {
        let side = crops.side_px;
        self.fit(crops.count(), side);
        self.fill(&crops.pixels);
        for unit in 0..self.units.len() {
            let level = self.level(unit);
            if level > 0 && self.role(unit) == Role::Down {
                self.pool(level);
            }
            let mut moments = self.convolve(unit);
            moments.push((self.size.0 * (side >> level) * (side >> level)) as f64);
            sums.add(&mut moments)?;
            self.norm(unit, &moments);
            self.activate(unit);
        }
        Ok(self.logits())
    }

    fn back_through(&mut self, slopes: &[f32], sums: &dyn Sums) -> Result<Vec<f32>> {
        let mut gradient = vec![0.0; self.parameters];
        self.head_back(slopes, &mut gradient);
        for unit in (0..self.units.len()).rev() {
            let level = self.level(unit);
            if unit % 2 == 1 && unit < 2 * (self.levels() - 1) {
                self.unpool(level);
            }
            self.unit_back(unit, sums, &mut gradient)?;
            self.weight_back(unit, &mut gradient);
            self.input_back(unit);
        }
        Ok(gradient)
    }

    /// Runs `work` on its own threads.
    fn on_threads<T: Send>(&mut self, work: impl FnOnce(&mut Self) -> T + Send) -> T {
        match self.threads.take() {
            Some(threads) => {
                let answer = threads.install(|| work(self));
                self.threads = Some(threads);
                answer
            }
            None => work(self),
        }
    }
}

impl Replica for DirectReplica {
    fn forward(
        &mut self,
        values: &[f32],
        crops: &CropBatch,
        place: Place,
        sums: &dyn Sums,
    ) -> Result<Vec<f32>> {
        let (side, multiple) = (crops.side_px, multiple_px(&self.widths) as usize);
        ensure!(side.is_multiple_of(multiple), "crops of {side} px: must be a multiple of {multiple}");
        self.values = values.to_vec();
        self.drawn = Dropout::new(self.seed, place.step, self.dropout);
        self.place = place;
        self.on_threads(|replica| replica.forth(crops, sums))
    }

    fn backward(&mut self, slopes: &[f32], sums: &dyn Sums) -> Result<Vec<f32>> {
        self.on_threads(|replica| replica.back_through(slopes, sums))
    }

    fn seen(&self) -> &[f32] {
        &self.seen
    }
}

/// The rows above, at and below a row.
fn around(sheets: &Sheets, sheet: usize, block: usize, row: usize) -> Rows<'_> {
    Rows::Same([0, 1, 2].map(|down| sheets.row(sheet, block, row + down, 0)))
}

fn scratch(layout: Layout) -> impl Fn() -> Vec<Lanes> + Sync + Send {
    move || vec![[0.0; BLOCK]; layout.span(0) + SLACK_PX]
}

/// Calls `work` with each picture's pixels of a row, and fills what lies between them with zeros.
fn each_picture(
    line: Line<'_>,
    pictures: impl Iterator<Item = (usize, usize)>,
    side: usize,
    mut work: impl FnMut(usize, &mut [Lanes]),
) {
    let mut done = 0;
    for (image, col) in pictures {
        line.pixels[done..col].fill([0.0; BLOCK]);
        work(image, &mut line.pixels[col..col + side]);
        done = col + side;
    }
}

/// The pairs of all rows added in their order: the first values of all channels, then the second ones.
fn total(channels: usize, parts: Vec<Option<(usize, Pair)>>) -> Vec<f64> {
    let mut sums = vec![0.0; 2 * channels];
    for (block, pair) in parts.into_iter().flatten() {
        for (half, lanes) in pair.iter().enumerate() {
            let to = &mut sums[half * channels..][..channels][block * BLOCK..];
            to.iter_mut().zip(lanes).for_each(|(sum, &v)| *sum += f64::from(v));
        }
    }
    sums
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
