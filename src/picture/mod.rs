//! Pictures: a scene reduced to a screen's size with rings around places in it, crops side by side ([`mosaic`]) or
//! alone ([`thumbnail()`]), and figures ([`plot`]).

pub mod mosaic;
pub mod plot;
mod thumbnail;

use std::io::Write;

use anyhow::{Result, ensure};

use crate::space::ScenePx;

pub use thumbnail::{base64, data_uri, thumbnail};

/// What a ring says; colours that the colour-blind tell apart (Okabe and Ito 2008).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// An impact that was found: blue.
    Found,
    /// An impact that was missed: orange.
    Missed,
    /// A candidate that is none: vermilion, dashed.
    FalsePositive,
}

impl Mark {
    fn colour(self) -> [u8; 3] {
        match self {
            Self::Found => [86, 180, 233],
            Self::Missed => [240, 190, 60],
            Self::FalsePositive => [225, 90, 30],
        }
    }
}

/// A ring to be drawn.
#[derive(Clone, Copy, Debug)]
pub struct Ring {
    /// Its middle.
    pub at: ScenePx,
    /// Of what it is drawn around, px of the scene.
    pub diameter_px: f64,
    /// What it says.
    pub mark: Mark,
}

/// Thinnest ring, px of the picture.
const LEAST_RADIUS: f64 = 7.0;

/// A scene reduced as its rows come: each pixel of the picture is the mean of the ground under it.
#[derive(Clone, Debug)]
pub struct Reduced {
    rows: usize,
    cols: usize,
    /// Scene pixels on a side of a picture pixel.
    step: u64,
    /// Sum and count of the ground in the row of pixels that is not complete.
    sums: Vec<(u64, u64)>,
    /// Scene rows in it.
    taken: u64,
    grey: Vec<u8>,
}

impl Reduced {
    /// Of a scene of `rows` x `cols`, to at most `most_px` on a side.
    ///
    /// # Errors
    /// If there is no pixel.
    pub fn new(rows: u64, cols: u64, most_px: u64) -> Result<Self> {
        ensure!(rows > 0 && cols > 0 && most_px > 0, "no picture of {rows} x {cols} px in {most_px} px");
        let step = rows.max(cols).div_ceil(most_px);
        let (down, across) = (rows.div_ceil(step) as usize, cols.div_ceil(step) as usize);
        let grey = Vec::with_capacity(down * across);
        Ok(Self { rows: down, cols: across, step, sums: vec![(0, 0); across], taken: 0, grey })
    }

    /// Takes the scene's next row.
    pub fn row(&mut self, row: &[u8]) {
        for (sum, part) in self.sums.iter_mut().zip(row.chunks(self.step as usize)) {
            for &v in part.iter().filter(|v| **v != 0) {
                *sum = (sum.0 + u64::from(v), sum.1 + 1);
            }
        }
        self.taken += 1;
        if self.taken == self.step {
            self.next_line();
        }
    }

    fn next_line(&mut self) {
        self.grey.extend(self.sums.iter().map(|(sum, count)| sum.checked_div(*count).unwrap_or(0) as u8));
        self.sums.fill((0, 0));
        self.taken = 0;
    }

    /// The picture, stretched between the darkest and brightest thousandth; rows that did not come are black.
    pub fn overlay(mut self) -> Overlay {
        if self.taken > 0 {
            self.next_line();
        }
        self.grey.resize(self.rows * self.cols, 0);
        let pixels = stretched(&self.grey).into_iter().map(|v| [v; 3]).collect();
        Overlay { rows: self.rows, cols: self.cols, step: self.step, pixels }
    }
}

/// A picture in grey, to be drawn on in colour.
#[derive(Clone, Debug)]
pub struct Overlay {
    rows: usize,
    cols: usize,
    step: u64,
    pixels: Vec<[u8; 3]>,
}

impl Overlay {
    /// Draws a ring, smooth-edged and wide enough to be seen; a false positive's is dashed.
    pub fn ring(&mut self, ring: &Ring) {
        let step = self.step as f64;
        let (row, col) = (ring.at.row / step, ring.at.col / step);
        let radius = (ring.diameter_px / step / 2.0 * 1.5).max(LEAST_RADIUS);
        let reach = radius + 2.0;
        let clip = |v: f64, end: usize| v.clamp(0.0, end as f64) as usize;
        for y in clip(row - reach, self.rows)..clip(row + reach + 1.0, self.rows) {
            for x in clip(col - reach, self.cols)..clip(col + reach + 1.0, self.cols) {
                let (dy, dx) = (y as f64 - row, x as f64 - col);
                let cover = (1.6 - (dy.hypot(dx) - radius).abs()).clamp(0.0, 1.0);
                let dashed = ring.mark == Mark::FalsePositive
                    && (dy.atan2(dx) * 8.0 / std::f64::consts::PI) as i32 % 2 == 0;
                if cover > 0.0 && !dashed {
                    let pixel = &mut self.pixels[y * self.cols + x];
                    for (v, c) in pixel.iter_mut().zip(ring.mark.colour()) {
                        *v = (f64::from(*v) * (1.0 - cover) + f64::from(c) * cover) as u8;
                    }
                }
            }
        }
    }

    /// Encodes the picture.
    ///
    /// # Errors
    /// If `out` cannot be written.
    pub fn png(&self, out: impl Write) -> Result<()> {
        encode(self.rows, self.cols, self.pixels.as_flattened(), out)
    }
}

/// Writes `[row, col, rgb]`, or `[row, col]` in grey, as PNG.
fn encode(rows: usize, cols: usize, pixels: &[u8], out: impl Write) -> Result<()> {
    let mut encoder = png::Encoder::new(out, cols as u32, rows as u32);
    let grey = pixels.len() == rows * cols;
    encoder.set_color(if grey { png::ColorType::Grayscale } else { png::ColorType::Rgb });
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(pixels)?;
    Ok(writer.finish()?)
}

/// Grey levels stretched between the darkest and brightest thousandth of the ground; no data stays 0.
fn stretched(grey: &[u8]) -> Vec<u8> {
    let (low, high) = percentiles(grey);
    let stretch = |&v: &u8| {
        let t = (f64::from(v) - low) / (high - low).max(1.0);
        if v == 0 { 0 } else { (20.0 + 215.0 * t).clamp(0.0, 255.0) as u8 }
    };
    grey.iter().map(stretch).collect()
}

/// The levels that a thousandth of the ground is darker, and brighter, than.
fn percentiles(grey: &[u8]) -> (f64, f64) {
    let mut counts = [0usize; 256];
    grey.iter().filter(|v| **v != 0).for_each(|v| counts[usize::from(*v)] += 1);
    let total: usize = counts.iter().sum();
    let level = |share: f64| {
        let mut below = 0;
        counts.iter().position(|count| {
            below += count;
            below as f64 >= share * total as f64
        })
    };
    (level(0.001).unwrap_or(0) as f64, level(0.999).unwrap_or(255) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_is_drawn_around_its_place_and_no_data_stays_black() {
        let lines: Vec<Vec<u8>> =
            (0..100).map(|r| (0..120).map(|c| if c < 10 { 0 } else { (r + c) as u8 }).collect()).collect();
        let mut reduced = Reduced::new(100, 120, 60).unwrap();
        for line in &lines {
            reduced.row(line);
        }
        let mut overlay = reduced.overlay();
        assert_eq!((overlay.rows, overlay.cols, overlay.step), (50, 60, 2));
        assert_eq!(overlay.pixels[0], [0; 3]);
        overlay.ring(&Ring { at: ScenePx { row: 50.0, col: 60.0 }, diameter_px: 4.0, mark: Mark::Found });
        assert_eq!(overlay.pixels[25 * 60 + 37], Mark::Found.colour());
    }
}
