//! A band through the network: as it is where that can be, else windows are filled, segmented, their cores kept.

use std::collections::VecDeque;
use std::ops::Range;

use anyhow::{Result, ensure};
use rayon::prelude::*;

use super::screen::{Looked, Region, Screen};
use crate::detect::{BandPixels, Queue, Segmenter, Streaming, WindowBatch};
use crate::fault::Stopped;
use crate::job::StopRequest;
use crate::raster::Rows;
use crate::space::PixelRect;
use crate::tile::TileGrid;

/// What reads windows from rows and puts probabilities in bands, several of which may be under way at once.
pub struct BandInference<'a> {
    segmenter: &'a mut dyn Segmenter,
    screen: Option<&'a Screen>,
    grid: TileGrid,
    /// Windows of a batch.
    batch: usize,
    /// Batches that were used, to be filled again.
    spare: Vec<WindowBatch>,
    /// Room for an answer, where batches are answered one by one.
    answer: Vec<u8>,
    /// The oldest first.
    bands: VecDeque<UnderWay>,
    /// The cores that each batch in hand answers for, and its band's number.
    asked: VecDeque<(u64, Vec<PixelRect>)>,
    /// Of the oldest band.
    number: u64,
}

/// A band of which something may be missing.
struct UnderWay {
    row0: u64,
    cols: u64,
    answer: ProbBand,
    /// Batches that are in hand.
    missing: usize,
}

/// A band, and what it is read from.
pub struct BandTask<'a> {
    /// Its rows.
    pub band: Range<u64>,
    /// Of the scene.
    pub cols: u64,
    /// It and what lies around it.
    pub rows: &'a Rows,
    /// Asked between windows.
    pub stop: &'a StopRequest,
}

/// Lines of a window that a thread copies at least.
const LINES: usize = 64;

/// The probabilities of a band.
pub struct ProbBand {
    /// `[rows, cols]`, 0..=255; 0 where there is no data.
    pub probabilities: Vec<u8>,
    /// Windows run; 1 for a band that needs none.
    pub windows: u64,
    /// Pixels run, what is computed beside those of the band included.
    pub computed_px: u64,
    /// Pixels with data that were looked at, where a first look left out the others.
    pub looked_px: Option<u64>,
}

impl<'a> BandInference<'a> {
    /// By batches of `batch` windows of `grid`, where windows are needed.
    pub fn new(
        segmenter: &'a mut dyn Segmenter,
        screen: Option<&'a Screen>,
        grid: TileGrid,
        batch: usize,
    ) -> Self {
        let (spare, answer) = (Vec::new(), Vec::new());
        let (bands, asked) = (VecDeque::new(), VecDeque::new());
        Self { segmenter, screen, grid, batch, spare, answer, bands, asked, number: 0 }
    }

    /// The first look, where there is one.
    ///
    /// # Errors
    /// [`Stopped`] soon after it was asked.
    pub fn look(&self, task: &BandTask) -> Result<Option<Looked>> {
        self.screen.map(|screen| task.with_pixels(|pixels| screen.look(pixels))).transpose()
    }

    /// Runs what holds data of a band, and was looked at.
    ///
    /// # Errors
    /// If the device fails, or [`Stopped`] soon after it was asked.
    pub fn run(&mut self, task: &BandTask, looked: Option<&Looked>) -> Result<ProbBand> {
        self.begin(task, looked)?;
        loop {
            if let Some(mut band) = self.finished() {
                band.clear(task, looked);
                return Ok(band);
            }
            self.wait()?;
        }
    }

    /// Begins with what holds data of a band, and was looked at; its answer is still to be [`ProbBand::clear`]ed.
    ///
    /// # Errors
    /// If the device fails, or [`Stopped`] soon after it was asked.
    pub fn begin(&mut self, task: &BandTask, looked: Option<&Looked>) -> Result<()> {
        let probabilities = vec![0; ((task.band.end - task.band.start) * task.cols) as usize];
        let mut answer = ProbBand { probabilities, windows: 0, computed_px: 0, looked_px: None };
        if let Some(network) = self.segmenter.streaming() {
            match looked {
                None => stream(network, task, &mut answer)?,
                Some(looked) => stream_regions(network, task, looked, &mut answer)?,
            }
        }
        self.bands.push_back(UnderWay { row0: task.band.start, cols: task.cols, answer, missing: 0 });
        if self.segmenter.streaming().is_some() { Ok(()) } else { self.windows(task, looked) }
    }

    /// The oldest band, if nothing of it is missing.
    pub fn finished(&mut self) -> Option<ProbBand> {
        let whole = self.bands.front().is_some_and(|band| band.missing == 0);
        self.number += u64::from(whole);
        self.bands.pop_front_if(|_| whole).map(|band| band.answer)
    }

    fn windows(&mut self, task: &BandTask, looked: Option<&Looked>) -> Result<()> {
        let grid = self.grid;
        let mut cores = Vec::new();
        let mut batch = self.empty();
        for core in grid.cores(task.band.start, task.band.end, task.cols) {
            if looked.is_some_and(|looked| !looked.any(&core)) || !has_data(&core, task.rows) {
                continue;
            }
            fill(&mut batch, grid, &core, task);
            cores.push(core);
            if cores.len() == batch.capacity() {
                ensure!(task.stop.asked().is_none(), Stopped);
                self.submit(batch, std::mem::take(&mut cores))?;
                batch = self.empty();
            }
        }
        if cores.is_empty() {
            self.spare.push(batch);
            return Ok(());
        }
        self.submit(batch, cores)
    }

    /// A batch to be filled.
    fn empty(&mut self) -> WindowBatch {
        let batch = self.spare.pop();
        let batch = batch.unwrap_or_else(|| WindowBatch::new(self.batch, self.grid.window_px as usize));
        WindowBatch { count: 0, rows: 0..0, cols: 0..0, ..batch }
    }

    /// Has windows of the newest band segmented; waits for others where there are enough in hand.
    fn submit(&mut self, mut batch: WindowBatch, cores: Vec<PixelRect>) -> Result<()> {
        let newest = self.number + self.bands.len() as u64 - 1;
        if let Some(band) = self.bands.back_mut() {
            band.missing += 1;
            band.answer.windows += cores.len() as u64;
        }
        self.asked.push_back((newest, cores));
        let Some(queue) = self.segmenter.queue() else {
            self.answer.resize(batch.pixels.len(), 0);
            self.segmenter.segment(&batch, &mut self.answer)?;
            batch.computed_px = self.segmenter.computed_px(&batch);
            std::mem::swap(&mut batch.pixels, &mut self.answer);
            self.keep(batch);
            return Ok(());
        };
        queue.submit(batch)?;
        while self.segmenter.queue().is_some_and(|queue| queue.depth() < self.asked.len()) {
            self.wait()?;
        }
        Ok(())
    }

    /// Waits for the oldest batch in hand, if there is one.
    ///
    /// # Errors
    /// If the device fails.
    pub fn wait(&mut self) -> Result<()> {
        if let Some(batch) = self.segmenter.queue().map_or(Ok(None), Queue::collect)? {
            self.keep(batch);
        }
        Ok(())
    }

    /// Takes the cores of the oldest batch in hand over into its band.
    fn keep(&mut self, batch: WindowBatch) {
        let Some((number, cores)) = self.asked.pop_front() else { return };
        let (side, halo) = (batch.side_px, self.grid.halo_px as usize);
        if let Some(band) = self.bands.get_mut((number - self.number) as usize) {
            band.missing -= 1;
            band.answer.computed_px += batch.computed_px;
            for (k, core) in cores.iter().enumerate() {
                let cols = core.col0 as usize..core.col1 as usize;
                // The core's corner in the batch.
                let first_row = k * side + halo + (core.row0 - self.grid.core_row(core.row0)) as usize;
                let lines = [core.row0, core.row1].map(|row| ((row - band.row0) * band.cols) as usize);
                let lines =
                    band.answer.probabilities[lines[0]..lines[1]].par_chunks_exact_mut(band.cols as usize);
                lines.with_min_len(LINES).enumerate().for_each(|(row, line)| {
                    let from = (first_row + row) * side + halo;
                    line[cols.clone()].copy_from_slice(&batch.pixels[from..from + cols.len()]);
                });
            }
        }
        self.spare.push(batch);
    }
}

impl ProbBand {
    /// A pixel without data is never impact, and one that was not looked at neither.
    pub fn clear(&mut self, task: &BandTask, looked: Option<&Looked>) {
        let lines = self.probabilities.par_chunks_exact_mut(task.cols as usize).enumerate();
        lines.for_each(|(k, line)| {
            for (p, &v) in line.iter_mut().zip(task.rows.row(task.band.start + k as u64)) {
                *p = if v == 0 { 0 } else { *p };
            }
        });
        self.looked_px = looked.map(|looked| looked.clear(&mut self.probabilities, task.rows));
    }
}

/// Copies the window around `core` into the next place of `batch`; outside the scene is no data. Its core is asked for.
fn fill(batch: &mut WindowBatch, grid: TileGrid, core: &PixelRect, task: &BandTask) {
    let (side, cols, rows) = (batch.side_px, task.cols, task.rows);
    let halo = i64::from(grid.halo_px);
    let start = batch.count * side * side;
    let first_row = grid.core_row(core.row0) as i64 - halo;
    let first_col = core.col0 as i64 - halo;
    let col0 = first_col.max(0);
    let col1 = (first_col + side as i64).min(cols as i64);
    let left = (col0 - first_col) as usize;
    let right = left + (col1 - col0) as usize;
    let there = rows.range();
    let lines = batch.pixels[start..start + side * side].par_chunks_exact_mut(side);
    lines.with_min_len(LINES).enumerate().for_each(|(k, line)| {
        let row = first_row + k as i64;
        if row < 0 || !there.contains(&(row as u64)) {
            return line.fill(0);
        }
        line[..left].fill(0);
        line[left..right].copy_from_slice(&rows.row(row as u64)[col0 as usize..col1 as usize]);
        line[right..].fill(0);
    });
    let asked = |from: u64, to: u64, first: i64| (from as i64 - first) as usize..(to as i64 - first) as usize;
    widen(&mut batch.rows, asked(core.row0, core.row1, first_row));
    widen(&mut batch.cols, asked(core.col0, core.col1, first_col));
    batch.count += 1;
}

/// Takes in another range.
fn widen(range: &mut Range<usize>, other: Range<usize>) {
    let both = range.start.min(other.start)..range.end.max(other.end);
    *range = if range.start == range.end { other } else { both };
}

impl BandTask<'_> {
    /// Hands its pixels on.
    fn with_pixels<T>(&self, then: impl FnOnce(&BandPixels<'_>) -> T) -> T {
        then(&BandPixels {
            rows: self.band.clone(),
            cols: self.cols,
            spans: &|_| 0..self.cols,
            row: &|row| self.row(row),
            stop: &|| self.stop.asked().is_some(),
        })
    }

    fn row(&self, row: i64) -> Option<&[u8]> {
        u64::try_from(row).ok().filter(|row| self.rows.range().contains(row)).map(|row| self.rows.row(row))
    }

    /// Where a pixel of the band is in its probabilities.
    fn at(&self, row: u64, col: u64) -> usize {
        ((row - self.band.start) * self.cols + col) as usize
    }
}

/// Runs a band as it is.
fn stream(network: &dyn Streaming, task: &BandTask, out: &mut ProbBand) -> Result<()> {
    let mut keep = |row, col, line: &[u8]| {
        out.probabilities[task.at(row, col)..][..line.len()].copy_from_slice(line);
    };
    out.computed_px = task.with_pixels(|pixels| network.stream(pixels, &mut keep))?;
    out.windows = 1;
    Ok(())
}

/// Runs those regions of a band that are looked at, side by side.
fn stream_regions(
    network: &dyn Streaming,
    task: &BandTask,
    looked: &Looked,
    out: &mut ProbBand,
) -> Result<()> {
    let of_region = |region: Region| -> Result<_> {
        let pixels = BandPixels {
            rows: region.rows.clone(),
            cols: task.cols,
            spans: &|row| region.span(row),
            row: &|row| task.row(row),
            stop: &|| task.stop.asked().is_some(),
        };
        let mut lines = Vec::new();
        let computed_px =
            network.stream(&pixels, &mut |row, col, line| lines.push((row, col, line.to_vec())))?;
        Ok((computed_px, lines))
    };
    let regions: Vec<_> = looked.regions().into_par_iter().map(of_region).collect::<Result<_>>()?;
    out.windows = regions.len() as u64;
    for (computed_px, lines) in regions {
        out.computed_px += computed_px;
        for (row, col, line) in lines {
            out.probabilities[task.at(row, col)..][..line.len()].copy_from_slice(&line);
        }
    }
    Ok(())
}

fn has_data(core: &PixelRect, rows: &Rows) -> bool {
    (core.row0..core.row1).any(|row| {
        let pixels = &rows.row(row)[core.col0 as usize..core.col1 as usize];
        pixels.iter().fold(0, |any, &v| any | v) != 0
    })
}
