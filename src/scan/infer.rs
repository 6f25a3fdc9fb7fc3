//! A band through the network: as it is where that can be, else windows are filled, segmented, their cores kept.

use std::ops::Range;

use anyhow::{Result, ensure};
use rayon::prelude::*;

use super::screen::{Looked, Region, Screen};
use crate::detect::{BandPixels, Segmenter, Streaming, WindowBatch};
use crate::fault::Stopped;
use crate::job::StopRequest;
use crate::raster::Rows;
use crate::space::PixelRect;
use crate::tile::TileGrid;

/// What reads windows from rows and puts probabilities in a band; its buffers are made once.
pub struct BandInference<'a> {
    segmenter: &'a mut dyn Segmenter,
    screen: Option<&'a Screen>,
    grid: TileGrid,
    /// Empty where no windows are needed.
    batch: WindowBatch,
    answer: Vec<u8>,
    cores: Vec<PixelRect>,
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
    /// Room for `batch` windows of `grid` a device.
    pub fn new(
        segmenter: &'a mut dyn Segmenter,
        screen: Option<&'a Screen>,
        grid: TileGrid,
        batch: usize,
    ) -> Self {
        let batch = if segmenter.streaming().is_some() { 0 } else { batch * segmenter.devices() };
        let batch = WindowBatch::new(batch, grid.window_px as usize);
        let answer = vec![0; batch.pixels.len()];
        Self { segmenter, screen, grid, batch, answer, cores: Vec::new() }
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
        let probabilities = vec![0; ((task.band.end - task.band.start) * task.cols) as usize];
        let mut band = ProbBand { probabilities, windows: 0, computed_px: 0, looked_px: None };
        match (self.segmenter.streaming(), looked) {
            (Some(network), None) => stream(network, task, &mut band)?,
            (Some(network), Some(looked)) => stream_regions(network, task, looked, &mut band)?,
            (None, _) => self.windows(task, looked, &mut band)?,
        }
        band.looked_px = looked.map(|looked| looked.clear(&mut band.probabilities, task.rows));
        Ok(band)
    }

    fn windows(&mut self, task: &BandTask, looked: Option<&Looked>, band: &mut ProbBand) -> Result<()> {
        let grid = self.grid;
        for core in grid.cores(task.band.start, task.band.end, task.cols) {
            if looked.is_some_and(|looked| !looked.any(&core)) || !has_data(&core, task.rows) {
                continue;
            }
            self.fill(&core, task.cols, task.rows);
            self.cores.push(core);
            if self.cores.len() == self.batch.capacity() {
                ensure!(task.stop.asked().is_none(), Stopped);
                self.flush(task, band)?;
            }
        }
        self.flush(task, band)
    }

    /// Copies the window around `core` into the batch's next place; outside the scene is no data.
    fn fill(&mut self, core: &PixelRect, cols: u64, rows: &Rows) {
        let side = self.batch.side_px;
        let halo = i64::from(self.grid.halo_px);
        let start = self.batch.count * side * side;
        let first_row = self.grid.core_row(core.row0) as i64 - halo;
        let first_col = core.col0 as i64 - halo;
        let col0 = first_col.max(0);
        let col1 = (first_col + side as i64).min(cols as i64);
        let left = (col0 - first_col) as usize;
        let right = left + (col1 - col0) as usize;
        let there = rows.range();
        for (k, line) in self.batch.pixels[start..start + side * side].chunks_exact_mut(side).enumerate() {
            let row = first_row + k as i64;
            if row < 0 || !there.contains(&(row as u64)) {
                line.fill(0);
                continue;
            }
            line[..left].fill(0);
            line[left..right].copy_from_slice(&rows.row(row as u64)[col0 as usize..col1 as usize]);
            line[right..].fill(0);
        }
        self.batch.count += 1;
    }

    /// Segments what is in the batch and keeps the cores; a pixel without data is never impact.
    fn flush(&mut self, task: &BandTask, band: &mut ProbBand) -> Result<()> {
        if self.cores.is_empty() {
            return Ok(());
        }
        let (row0, cols, rows) = (task.band.start, task.cols, task.rows);
        let side = self.batch.side_px;
        let done = self.segmenter.segment(&self.batch, &mut self.answer);
        band.windows += self.cores.len() as u64;
        band.computed_px += (self.batch.capacity() * side * side) as u64;
        let cores = std::mem::take(&mut self.cores);
        self.batch.count = 0;
        done?;
        let halo = self.grid.halo_px as usize;
        for (k, core) in cores.iter().enumerate() {
            let (wide, col0) = (core.cols() as usize, core.col0 as usize);
            let first_row = self.grid.core_row(core.row0);
            for row in core.row0..core.row1 {
                let from = (k * side + halo + (row - first_row) as usize) * side + halo;
                let to = ((row - row0) * cols) as usize + col0;
                let pixels = &rows.row(row)[col0..col0 + wide];
                let kept = &mut band.probabilities[to..to + wide];
                for ((kept, &p), &v) in kept.iter_mut().zip(&self.answer[from..from + wide]).zip(pixels) {
                    *kept = if v == 0 { 0 } else { p };
                }
            }
        }
        Ok(())
    }
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
