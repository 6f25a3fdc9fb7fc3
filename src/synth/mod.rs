//! Scenes drawn by formula: fresh impacts among what is mistaken for them, in a slanted frame of no-data.
//!
//! A pixel is a pure function of the seed and its place, so a scene of any size is drawn row by row in
//! little memory, the same whatever the threads.

mod features;
mod terrain;
mod write;

use std::ops::Range;

use rayon::prelude::*;

use crate::dice::Dice;
use crate::space::PixelRect;
use features::{Feature, Kind};
use terrain::Terrain;

pub use write::{Written, write};

/// What is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SynthSpec {
    /// Rows.
    pub rows: u64,
    /// Columns.
    pub cols: u64,
    /// Fresh impacts wanted; fewer where there is no room.
    pub impacts: u64,
    /// Another seed, another scene.
    pub seed: u64,
}

/// A fresh impact as drawn: measured on its mask.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Truth {
    /// Centroid.
    pub row: f64,
    /// Centroid.
    pub col: f64,
    /// Of the circle of equal area, px.
    pub diameter_px: f64,
    /// Pixels.
    pub area_px: u64,
}

/// A scene ready to be drawn.
#[derive(Debug)]
pub struct Scene {
    spec: SynthSpec,
    frame: Frame,
    terrain: Terrain,
    features: Vec<Feature>,
    /// Numbers of the features that reach into each block of rows.
    by_block: Vec<Vec<u32>>,
}

/// Rows of a block of the feature index.
const BLOCK_ROWS: u64 = 64;
/// Pixels of ground for each old craters, dune field and streak.
const PX_PER_CRATER: u64 = 25_000;
const PX_PER_DUNES: u64 = 900_000;
const PX_PER_STREAK: u64 = 250_000;

impl Scene {
    /// Places everything; nothing is drawn yet.
    pub fn new(spec: &SynthSpec) -> Self {
        let frame = Frame::new(spec);
        let pixels = spec.rows * spec.cols;
        let mut features = Vec::new();
        let others = [
            (Kind::Dunes, pixels / PX_PER_DUNES),
            (Kind::Crater, pixels / PX_PER_CRATER),
            (Kind::Streak, pixels / PX_PER_STREAK),
        ];
        for (n, (kind, count)) in others.into_iter().enumerate() {
            for k in 0..count {
                let mut dice = Dice::new(spec.seed, &[n as u64 + 1, k]);
                let row = dice.unit() * spec.rows as f64;
                let col = dice.unit() * spec.cols as f64;
                features.push(Feature::draw(kind, row, col, &mut dice));
            }
        }
        features.extend(place_impacts(spec, &frame));
        let mut by_block = vec![Vec::new(); spec.rows.div_ceil(BLOCK_ROWS) as usize];
        for (k, feature) in features.iter().enumerate() {
            let rect = feature.rect(spec.rows, spec.cols);
            for block in rect.row0 / BLOCK_ROWS..rect.row1.div_ceil(BLOCK_ROWS) {
                by_block[block as usize].push(k as u32);
            }
        }
        Self { spec: *spec, frame, terrain: Terrain::new(spec.seed), features, by_block }
    }

    /// The impacts as their masks measure them, in the order they were placed.
    pub fn truth(&self) -> Vec<Truth> {
        let impacts: Vec<&Feature> = self.features.iter().filter(|f| f.kind == Kind::Impact).collect();
        impacts.par_iter().filter_map(|impact| self.measure(impact)).collect()
    }

    fn measure(&self, impact: &Feature) -> Option<Truth> {
        let rect = impact.rect(self.spec.rows, self.spec.cols);
        let (mut area, mut row_sum, mut col_sum) = (0u64, 0u64, 0u64);
        for row in rect.row0..rect.row1 {
            let valid = self.frame.valid_cols(row);
            for col in rect.col0.max(valid.start)..rect.col1.min(valid.end) {
                if impact.is_impact(row as f64, col as f64) {
                    (area, row_sum, col_sum) = (area + 1, row_sum + row, col_sum + col);
                }
            }
        }
        (area > 0).then(|| Truth {
            row: row_sum as f64 / area as f64,
            col: col_sum as f64 / area as f64,
            diameter_px: 2.0 * (area as f64 / std::f64::consts::PI).sqrt(),
            area_px: area,
        })
    }

    /// Draws the rows of `range` into `picture` and `mask`, `[rows, cols]`; gives the valid pixels.
    ///
    /// # Panics
    /// If a buffer has not just that size.
    pub fn rows(&self, range: Range<u64>, picture: &mut [u8], mask: &mut [u8]) -> u64 {
        let cols = self.spec.cols as usize;
        assert_eq!((picture.len(), mask.len()), ((range.end - range.start) as usize * cols, picture.len()));
        let lines = picture.par_chunks_mut(cols).zip(mask.par_chunks_mut(cols));
        lines
            .enumerate()
            .map_init(
                || vec![0.0; cols],
                |light, (k, (picture, mask))| self.row(range.start + k as u64, light, picture, mask),
            )
            .sum()
    }

    fn row(&self, row: u64, light: &mut [f32], picture: &mut [u8], mask: &mut [u8]) -> u64 {
        picture.fill(0);
        mask.fill(0);
        let valid = self.frame.valid_cols(row);
        if valid.is_empty() {
            return 0;
        }
        self.terrain.light(row, light);
        for &k in &self.by_block[(row / BLOCK_ROWS) as usize] {
            let feature = &self.features[k as usize];
            let rect = feature.rect(self.spec.rows, self.spec.cols);
            if (rect.row0..rect.row1).contains(&row) {
                feature.shade(row, &rect, light, mask);
            }
        }
        let (first, last) = (valid.start as usize, valid.end as usize);
        mask[..first].fill(0);
        mask[last..].fill(0);
        self.terrain.grain(row, valid.start, &light[first..last], &mut picture[first..last]);
        valid.end - valid.start
    }
}

/// Impacts inside the frame, none over another.
fn place_impacts(spec: &SynthSpec, frame: &Frame) -> Vec<Feature> {
    let mut placed: Vec<Feature> = Vec::new();
    let mut taken: Vec<PixelRect> = Vec::new();
    for k in 0..spec.impacts {
        for attempt in 0..50 {
            let mut dice = Dice::new(spec.seed, &[0, k, attempt]);
            let (row, col) = (dice.unit() * spec.rows as f64, dice.unit() * spec.cols as f64);
            let impact = Feature::draw(Kind::Impact, row, col, &mut dice);
            let rect = impact.rect(spec.rows, spec.cols);
            let inside = [rect.row0, rect.row1.saturating_sub(1)].iter().all(|&row| {
                let valid = frame.valid_cols(row);
                valid.start <= rect.col0 && rect.col1 <= valid.end
            });
            let apart = |other: &PixelRect| {
                rect.row1 < other.row0
                    || other.row1 < rect.row0
                    || rect.col1 < other.col0
                    || other.col1 < rect.col0
            };
            if inside && rect.row1 > rect.row0 && taken.iter().all(apart) {
                taken.push(rect);
                placed.push(impact);
                break;
            }
        }
    }
    placed
}

/// The slanted outline of a map-projected strip.
#[derive(Clone, Copy, Debug)]
struct Frame {
    rows: f64,
    cols: f64,
    margin: f64,
    slant: f64,
    top: f64,
    tilt: f64,
}

impl Frame {
    fn new(spec: &SynthSpec) -> Self {
        let mut dice = Dice::new(spec.seed, &[9]);
        let (rows, cols) = (spec.rows as f64, spec.cols as f64);
        Self {
            rows,
            cols,
            margin: cols * (0.01 + 0.04 * dice.unit()),
            slant: cols * (0.02 + 0.08 * dice.unit()),
            top: rows * (0.005 + 0.015 * dice.unit()),
            tilt: rows.min(cols) * (0.01 + 0.04 * dice.unit()),
        }
    }

    /// The columns of `row` that hold data.
    fn valid_cols(&self, row: u64) -> Range<u64> {
        let down = row as f64;
        let left = self.margin + self.slant * down / self.rows;
        let right = self.cols - self.margin - self.slant * (1.0 - down / self.rows);
        // The upper edge falls to the right by `tilt`, the lower one ends as far above on the left.
        let right = right.min(self.cols * (down - self.top) / self.tilt);
        let left = left.max(self.cols * (1.0 - (self.rows - self.top - down) / self.tilt));
        let (left, right) = (left.clamp(0.0, self.cols).ceil() as u64, right.clamp(0.0, self.cols) as u64);
        left..right.max(left)
    }
}
