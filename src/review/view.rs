//! The square of a scene that a candidate's picture shows, and its pictures.

use std::sync::Arc;

use anyhow::Result;

use crate::picture::thumbnail;
use crate::raster::{MappedScene, Rows};
use crate::records::Impact;
use crate::space::ScenePx;

/// A square of a scene, reduced to `side_px` on a side. It may reach over the scene's edge: there is no data there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Top row; less than 0 above the scene.
    pub row0: i64,
    /// Left column; less than 0 left of the scene.
    pub col0: i64,
    /// Pixels on a side.
    pub side_px: usize,
    /// Scene pixels on a side of such a pixel.
    pub step: usize,
}

/// The widest context, scene pixels a pixel: what of a giant impact's surroundings is shown is limited by this.
const MOST_STEP: usize = 48;
/// How many times wider than the candidate's picture its context is.
const CONTEXT: usize = 8;

impl View {
    /// Of the candidate: pixel by pixel if that shows twice its size, else as little reduced as does.
    pub fn of(impact: &Impact, side_px: usize) -> Self {
        let size = (impact.row1_px - impact.row0_px).max(impact.col1_px - impact.col0_px) as usize;
        Self::around(impact, side_px, (2 * size).div_ceil(side_px).clamp(1, MOST_STEP))
    }

    /// Of what lies around it, [`CONTEXT`] times wider if that is not too wide.
    pub fn context(impact: &Impact, side_px: usize) -> Self {
        Self::around(impact, side_px, (CONTEXT * Self::of(impact, side_px).step).min(MOST_STEP))
    }

    fn around(impact: &Impact, side_px: usize, step: usize) -> Self {
        let half = (side_px * step / 2) as u64;
        let corner = |from: u64, to: u64| u64::midpoint(from, to) as i64 - half as i64;
        let (row0, col0) = (corner(impact.row0_px, impact.row1_px), corner(impact.col0_px, impact.col1_px));
        Self { row0, col0, side_px, step }
    }

    /// Its middle.
    pub fn centre(&self) -> ScenePx {
        let half = (self.span() as f64 - 1.0) / 2.0;
        ScenePx { row: self.row0 as f64 + half, col: self.col0 as f64 + half }
    }

    /// Scene pixels on a side.
    pub fn span(&self) -> usize {
        self.side_px * self.step
    }

    /// Its pixels as a grey PNG, stretched by themselves; 0 is no data.
    ///
    /// # Errors
    /// If it cannot be encoded.
    pub fn picture(&self, rows: &Rows, cols: u64) -> Result<Vec<u8>> {
        let span = self.span();
        thumbnail(&square(rows, cols, (self.row0, self.col0), span), span, self.step)
    }
}

/// The `side` x `side` pixels from `(row0, col0)` of a scene of `cols` columns; outside of it, and where `rows` has
/// none, 0.
pub fn square(rows: &Rows, cols: u64, (row0, col0): (i64, i64), side: usize) -> Vec<u8> {
    let mut pixels = vec![0; side * side];
    let there = rows.range();
    let (first, last) = (col0.clamp(0, cols as i64), (col0 + side as i64).clamp(0, cols as i64));
    for (row, line) in (row0..).zip(pixels.chunks_exact_mut(side)) {
        if row >= 0 && there.contains(&(row as u64)) {
            let ground = &rows.row(row as u64)[first as usize..last as usize];
            line[(first - col0) as usize..][..ground.len()].copy_from_slice(ground);
        }
    }
    pixels
}

/// Longest side of a scene's own picture, px.
const BROWSE_PX: u64 = 256;

/// The whole scene, small, as a grey PNG: of a tall scene's rows one in so many is read.
///
/// # Errors
/// If a row cannot be read.
pub fn browse(scene: &Arc<MappedScene>) -> Result<Vec<u8>> {
    let (all, cols) = (scene.header().rows, scene.header().cols);
    let step = all.max(cols).div_ceil(BROWSE_PX);
    let across = cols.div_ceil(step) as usize;
    let mut pixels = Vec::new();
    for row in (step / 2..all).step_by(step as usize) {
        let rows = scene.rows(row..row + 1)?;
        pixels.extend(rows.row(row).chunks(step as usize).map(|part| part[part.len() / 2]));
    }
    thumbnail(&pixels, across, 1)
}
