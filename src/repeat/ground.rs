//! The ground of one scene on the pixel grid of another: each pixel goes over Mars, from map to map.

use std::sync::Arc;

use anyhow::Result;

use crate::geo::GeoRef;
use crate::raster::MappedScene;
use crate::space::ScenePx;

/// Pixels read at a time, where a single row of what is wanted has not more.
const BLOCK_PX: u64 = 4 << 20;

/// A square of ground, laid along the rows and columns of a scene.
#[derive(Clone, Copy, Debug)]
pub struct Square<'a> {
    /// How that scene lies on Mars.
    pub georef: &'a GeoRef,
    /// Its middle, in that scene.
    pub centre: ScenePx,
    /// Pixels on a side.
    pub side_px: usize,
    /// Side of such a pixel, px of that scene; 1 or more.
    pub step: f64,
}

impl Square<'_> {
    /// Where the middle of a pixel is in that scene.
    fn at(&self, row: usize, col: usize) -> ScenePx {
        let middle = (self.side_px as f64 - 1.0) / 2.0;
        let offset = |k: usize| (k as f64 - middle) * self.step;
        ScenePx { row: self.centre.row + offset(row), col: self.centre.col + offset(col) }
    }

    /// Side of a pixel on the ground, m.
    fn metres(&self) -> f64 {
        self.georef.metres_per_px(self.centre) * self.step
    }
}

/// `square` as `scene`, which lies on Mars as `georef` says, shows it: `[side, side]` grey levels, 0 = no data. What
/// is finer than the square's pixels is averaged first; between pixels it is interpolated in both directions, and
/// no-data has no part in either.
///
/// # Errors
/// If the scene cannot be read.
pub fn resample(scene: &Arc<MappedScene>, georef: &GeoRef, square: &Square) -> Result<Vec<f32>> {
    let side = square.side_px;
    let (rows, cols) = (scene.header().rows as f64, scene.header().cols as f64);
    let inside = |at: &ScenePx| (-0.5..rows - 0.5).contains(&at.row) && (-0.5..cols - 0.5).contains(&at.col);
    let points: Vec<Option<ScenePx>> = (0..side * side)
        .map(|k| georef.pixel(square.georef.lonlat(square.at(k / side, k % side))))
        .map(|at| Some(at).filter(inside))
        .collect();
    let there = || points.iter().flatten();
    let Some(first) = there().next() else { return Ok(vec![0.0; side * side]) };
    let times = (square.metres() / georef.metres_per_px(*first)).round().max(1.0) as u64;
    let span = |of: fn(&ScenePx) -> f64, end: u64| {
        let (low, high) = there().map(of).fold((f64::MAX, f64::MIN), |s, v| (s.0.min(v), s.1.max(v)));
        let first = (low.max(0.0) as u64).saturating_sub(times);
        (first, (high as u64 + times + 2).min(end))
    };
    let (row0, row1) = span(|at| at.row, scene.header().rows);
    let (col0, col1) = span(|at| at.col, scene.header().cols);
    let reduced = Reduced::read(scene, (row0, row1), (col0, col1), times)?;
    Ok(points.iter().map(|at| at.map_or(0.0, |at| reduced.level(at))).collect())
}

/// A piece of a scene, each pixel the mean of `times` x `times`; 0 where less than half of them are ground.
struct Reduced {
    row0: u64,
    col0: u64,
    times: u64,
    cols: usize,
    levels: Vec<f32>,
}

impl Reduced {
    fn read(
        scene: &Arc<MappedScene>,
        (row0, row1): (u64, u64),
        (col0, col1): (u64, u64),
        times: u64,
    ) -> Result<Self> {
        let wide = col1 - col0;
        let block_rows = (BLOCK_PX / wide / times).max(1) * times;
        let mut reduced = Self { row0, col0, times, cols: wide.div_ceil(times) as usize, levels: Vec::new() };
        for first in (row0..row1).step_by(block_rows as usize) {
            let pixels = scene.window(first..(first + block_rows).min(row1), col0..col1)?;
            for lines in pixels.chunks((times * wide) as usize) {
                reduced.push(lines, wide as usize);
            }
        }
        Ok(reduced)
    }

    /// Takes in the next `times` lines.
    fn push(&mut self, lines: &[u8], wide: usize) {
        let times = self.times as usize;
        let mut sums = vec![(0u32, 0u32, 0u32); self.cols];
        for line in lines.chunks_exact(wide) {
            for (sum, part) in sums.iter_mut().zip(line.chunks(times)) {
                sum.0 += part.iter().map(|&v| u32::from(v)).sum::<u32>();
                sum.1 += part.iter().map(|&v| u32::from(v != 0)).sum::<u32>();
                sum.2 += part.len() as u32;
            }
        }
        let mean = |(sum, ground, all)| if 2 * ground >= all { sum as f32 / ground as f32 } else { 0.0 };
        self.levels.extend(sums.into_iter().map(mean));
    }

    /// The level at a place of the scene.
    fn level(&self, at: ScenePx) -> f32 {
        let within = |v: f64, first: u64| (v - first as f64 + 0.5) / self.times as f64 - 0.5;
        bilinear(&self.levels, self.cols, within(at.row, self.row0), within(at.col, self.col0))
    }
}

/// The level between the four pixels around a place of a picture, from those that are ground; 0 where these have
/// less than half a say.
pub fn bilinear(levels: &[f32], cols: usize, row: f64, col: f64) -> f32 {
    let rows = levels.len() / cols;
    let (top, left) = (row.floor(), col.floor());
    let (down, right) = ((row - top) as f32, (col - left) as f32);
    let (mut sum, mut say) = (0.0, 0.0);
    for (dy, dx, weight) in [
        (0.0, 0.0, (1.0 - down) * (1.0 - right)),
        (0.0, 1.0, (1.0 - down) * right),
        (1.0, 0.0, down * (1.0 - right)),
        (1.0, 1.0, down * right),
    ] {
        let (y, x) = (top + dy, left + dx);
        if y >= 0.0 && x >= 0.0 && (y as usize) < rows && (x as usize) < cols {
            let level = levels[y as usize * cols + x as usize];
            if level > 0.0 {
                sum += weight * level;
                say += weight;
            }
        }
    }
    if say >= 0.5 { sum / say } else { 0.0 }
}
