//! A training step on the processor without the framework. Burn's step is the reference that it is tested
//! against, and PyTorch's.
//!
//! A unit keeps its convolution's sums (`z`) and its answer (`y`). On the way back the slopes take the place
//! of what is no longer needed: a unit's own in `z`, those of its answer in `y`.

mod back;
mod forth;
mod norm;
mod sheets;
mod slopes;

use std::sync::mpsc::Sender;

use anyhow::{Result, ensure};
use rayon::{ThreadPool, ThreadPoolBuilder};

pub use self::norm::Dropout;
use self::norm::{Norm, Pair};
use self::sheets::{Layout, Line, Sheets};
use super::conv::blocked;
use super::kernel::{BLOCK, Lanes, Rows, SLACK_PX};
use crate::config::NetworkSettings;
use crate::tile::multiple_px;
use crate::unet::crops::CropBatch;
use crate::unet::layout::{Unit, parameters, units};
use crate::unet::loss::LossSums;
use crate::unet::replica::{Place, Replica, Share, Sums};

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
    logits: Vec<f32>,
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
            logits: Vec::new(),
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

    fn last(&self) -> usize {
        self.units.len() - 1
    }

    /// The head's weights as blocks, and its bias.
    fn head(&self) -> (Vec<Lanes>, f32) {
        let at = self.offsets[self.units.len()];
        let bias = self.parameters - 1;
        (blocked(&self.values[at..bias]), self.values[bias])
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

    fn back_through(&mut self, slopes: &[f32], sums: &dyn Sums, found: &Sender<Vec<f32>>) -> Result<()> {
        let mut gradient = vec![0.0; self.parameters];
        self.head_back(slopes, &mut gradient);
        for unit in (0..self.units.len()).rev() {
            let level = self.level(unit);
            if unit % 2 == 1 && unit < 2 * (self.levels() - 1) {
                self.unpool(level);
            }
            self.unit_back(unit, sums, &mut gradient)?;
            self.weight_back(unit, &mut gradient);
            found.send(gradient.split_off(self.offsets[unit]))?;
            self.input_back(unit);
        }
        Ok(())
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
    fn forward(&mut self, values: &[f32], share: Share<'_>, sums: &dyn Sums) -> Result<LossSums> {
        let Share { crops, place, loss, .. } = share;
        let (side, multiple) = (crops.side_px, multiple_px(&self.widths) as usize);
        ensure!(side.is_multiple_of(multiple), "crops of {side} px: must be a multiple of {multiple}");
        self.values = values.to_vec();
        self.drawn = Dropout::new(self.seed, place.step, self.dropout);
        self.place = place;
        self.on_threads(|replica| {
            replica.logits = replica.forth(crops, sums)?;
            Ok(loss.sums(&replica.logits, crops))
        })
    }

    fn backward(
        &mut self,
        Share { crops, loss, scale, .. }: Share<'_>,
        total: LossSums,
        sums: &dyn Sums,
        found: &Sender<Vec<f32>>,
    ) -> Result<()> {
        self.on_threads(|replica| {
            let slopes = loss.slopes(&replica.logits, crops, total, scale);
            replica.back_through(&slopes, sums, found)
        })
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
    line: &mut Line<'_>,
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
