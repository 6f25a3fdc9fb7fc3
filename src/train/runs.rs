//! A mask as the runs of its impacts: what a crop's mask is drawn from without reading the file again.
//!
//! Impacts cover half a percent of a scene, so the runs of a giant one fit in a few megabytes.

use std::sync::Arc;

use anyhow::{Result, ensure};
use rayon::prelude::*;

use crate::detect::components::label_band;
use crate::detect::stitch::{finish, stitch};
use crate::raster::MappedScene;
use crate::records::Blob;
use crate::unet::CropBatch;

/// Rows of a mask that are measured in one piece.
const BAND_ROWS: u64 = 2048;
/// Runs that are kept at most (192 MiB): a mask with more is none.
const MOST_RUNS: usize = 16 << 20;
/// Side of the squares that an impact is drawn in to see what of it is judged.
const SQUARE_PX: usize = 256;
/// Pixels that are passed over at once where all are 0.
const BLOCK_PX: usize = 64;

/// Impact pixels `col0..col1` of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    row: u32,
    col0: u32,
    col1: u32,
}

/// The impact pixels of a mask, and the impacts they make.
#[derive(Debug)]
pub struct MaskRuns {
    /// By row, then column.
    runs: Vec<Run>,
    /// The mask's connected impacts, by row and column of their box.
    pub impacts: Vec<Blob>,
}

impl MaskRuns {
    /// Reads the whole mask once, in bands.
    ///
    /// # Errors
    /// If it cannot be read, or is too ragged to be a mask.
    pub fn read(mask: &Arc<MappedScene>) -> Result<Self> {
        let (rows, cols) = (mask.header().rows, mask.header().cols);
        ensure!(u32::try_from(rows.max(cols)).is_ok(), "{rows} rows and {cols} columns are too many");
        let (mut runs, mut bands, mut pixels) = (Vec::new(), Vec::new(), Vec::new());
        for row0 in (0..rows).step_by(BAND_ROWS as usize) {
            let row1 = (row0 + BAND_ROWS).min(rows);
            let band = mask.rows(row0..row1)?;
            let found: Vec<Vec<Run>> =
                (row0..row1).into_par_iter().map(|row| runs_of(row as u32, band.row(row))).collect();
            runs.extend(found.into_iter().flatten());
            ensure!(
                runs.len() <= MOST_RUNS,
                "it has more than {MOST_RUNS} runs of pixels that are not 0: is it a mask?"
            );
            pixels.clear();
            (row0..row1).for_each(|row| pixels.extend_from_slice(band.row(row)));
            bands.push(label_band(row0, cols as usize, &pixels, 1));
            band.unchanged()?;
        }
        Ok(Self { runs, impacts: stitch(bands).into_iter().flat_map(finish).collect() })
    }

    /// Impact pixels of the square of `side` px whose top-left pixel is `origin`.
    pub fn count(&self, origin: (i64, i64), side: usize) -> u64 {
        self.within(origin, side).map(|(_, col0, col1)| (col1 - col0) as u64).sum()
    }

    /// Writes 255 over the impact pixels of a square into `out`, `[side, side]`.
    pub fn draw(&self, origin: (i64, i64), side: usize, out: &mut [u8]) {
        for (row, col0, col1) in self.within(origin, side) {
            out[row * side + col0..row * side + col1].fill(255);
        }
    }

    /// As [`Self::draw`], with every pixel that has one of the other kind within `ring` px (between
    /// centres) marked [`CropBatch::DONT_CARE`].
    pub fn draw_ringed(&self, origin: (i64, i64), side: usize, ring: usize, out: &mut [u8]) {
        self.draw(origin, side, out);
        let pad = ring + 1;
        let wide = side + 2 * pad;
        let around = (origin.0 - pad as i64, origin.1 - pad as i64);
        if ring == 0 || self.within(around, wide).next().is_none() {
            return;
        }
        let mut whole = vec![0; wide * wide];
        self.draw(around, wide, &mut whole);
        let reach = ring as i64;
        for (row, col) in rim(&whole, wide) {
            let kind = whole[row * wide + col];
            for down in -reach..=reach {
                let across = ((reach * reach - down * down) as f64).sqrt() as i64;
                let to_row = row as i64 + down - pad as i64;
                if !(0..side as i64).contains(&to_row) {
                    continue;
                }
                let first = (col as i64 - across - pad as i64).clamp(0, side as i64) as usize;
                let last = (col as i64 + across + 1 - pad as i64).clamp(0, side as i64) as usize;
                let line = to_row as usize * side;
                for at in first..last {
                    if whole[(to_row as usize + pad) * wide + at + pad] != kind {
                        out[line + at] = CropBatch::DONT_CARE;
                    }
                }
            }
        }
    }

    /// Whether a ring of `ring` px leaves a pixel of any impact judged.
    pub fn any_judged(&self, ring: usize) -> bool {
        let mut drawn = vec![0; SQUARE_PX * SQUARE_PX];
        self.impacts.iter().map(|impact| impact.rect).any(|rect| {
            let rows = (rect.row0..rect.row1).step_by(SQUARE_PX);
            let mut corners =
                rows.flat_map(|row| (rect.col0..rect.col1).step_by(SQUARE_PX).map(move |col| (row, col)));
            corners.any(|(row, col)| {
                drawn.fill(0);
                self.draw_ringed((row as i64, col as i64), SQUARE_PX, ring, &mut drawn);
                drawn.contains(&255)
            })
        })
    }

    /// The runs in a square, cut to it: row, first and past the last column, counted from its corner.
    fn within(&self, origin: (i64, i64), side: usize) -> impl Iterator<Item = (usize, usize, usize)> + '_ {
        let side = side as i64;
        let first = self.runs.partition_point(|run| i64::from(run.row) < origin.0);
        self.runs[first..].iter().take_while(move |run| i64::from(run.row) < origin.0 + side).filter_map(
            move |run| {
                let col0 = (i64::from(run.col0) - origin.1).max(0);
                let col1 = (i64::from(run.col1) - origin.1).min(side);
                (col0 < col1).then_some((
                    (i64::from(run.row) - origin.0) as usize,
                    col0 as usize,
                    col1 as usize,
                ))
            },
        )
    }

    /// Hands the impact pixels of `row` to `take`, run by run, as columns.
    pub fn row(&self, row: u64, mut take: impl FnMut(std::ops::Range<usize>)) {
        let first = self.runs.partition_point(|run| u64::from(run.row) < row);
        let line = self.runs[first..].iter().take_while(|run| u64::from(run.row) == row);
        line.for_each(|run| take(run.col0 as usize..run.col1 as usize));
    }
}

/// Pixels that touch one of the other kind by a side, the outermost ones of the square left out.
fn rim(whole: &[u8], wide: usize) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for row in 1..wide - 1 {
        for col in 1..wide - 1 {
            let at = row * wide + col;
            let kind = whole[at];
            if [at - 1, at + 1, at - wide, at + wide].iter().any(|&beside| whole[beside] != kind) {
                found.push((row, col));
            }
        }
    }
    found
}

fn runs_of(row: u32, pixels: &[u8]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (k, block) in pixels.chunks(BLOCK_PX).enumerate() {
        if block.iter().fold(0, |any, &m| any | m) == 0 {
            continue;
        }
        for (n, _) in block.iter().enumerate().filter(|(_, m)| **m != 0) {
            let col = (k * BLOCK_PX + n) as u32;
            match runs.last_mut().filter(|run| run.col1 == col) {
                Some(run) => run.col1 += 1,
                None => runs.push(Run { row, col0: col, col1: col + 1 }),
            }
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A plain picture of 40 x 40 with two blobs, one on the upper edge.
    fn picture() -> (MaskRuns, Vec<u8>) {
        let inside =
            |row: i64, col: i64| (row - 20).pow(2) + (col - 21).pow(2) <= 30 || (row < 2 && col > 35);
        let pixels: Vec<u8> = (0..1600).map(|k| u8::from(inside(k / 40, k % 40))).collect();
        let lines = pixels.chunks(40).enumerate();
        let runs = lines.flat_map(|(row, line)| runs_of(row as u32, line)).collect();
        (MaskRuns { runs, impacts: Vec::new() }, pixels)
    }

    fn at(pixels: &[u8], row: i64, col: i64) -> bool {
        (0..40).contains(&row) && (0..40).contains(&col) && pixels[(row * 40 + col) as usize] != 0
    }

    #[test]
    fn squares_are_cut_from_runs_as_from_the_picture() {
        let (mask, pixels) = picture();
        for origin in [(-5, -7), (0, 0), (10, 10), (19, 24), (35, 35), (-40, 0), (60, 60)] {
            let mut drawn = vec![0; 256];
            mask.draw(origin, 16, &mut drawn);
            let wanted: Vec<u8> = (0..256)
                .map(|k| if at(&pixels, origin.0 + k / 16, origin.1 + k % 16) { 255 } else { 0 })
                .collect();
            assert_eq!(drawn, wanted, "{origin:?}");
            assert_eq!(mask.count(origin, 16), wanted.iter().filter(|v| **v != 0).count() as u64);
        }
    }

    #[test]
    fn the_ring_is_every_pixel_with_one_of_the_other_kind_near() {
        let (mask, pixels) = picture();
        for (origin, ring) in [((8, 8), 1i64), ((8, 8), 3), ((16, 22), 2), ((-4, 30), 5), ((8, 8), 0)] {
            let mut drawn = vec![0; 256];
            mask.draw_ringed(origin, 16, ring as usize, &mut drawn);
            for k in 0..256 {
                let (row, col) = (origin.0 + k / 16, origin.1 + k % 16);
                let own = at(&pixels, row, col);
                let near = (-ring..=ring).any(|r| {
                    (-ring..=ring)
                        .any(|c| r * r + c * c <= ring * ring && at(&pixels, row + r, col + c) != own)
                });
                let wanted = match (near, own) {
                    (true, _) => CropBatch::DONT_CARE,
                    (false, own) => u8::from(own) * 255,
                };
                assert_eq!(drawn[k as usize], wanted, "{origin:?}, ring {ring}, pixel {row} {col}");
            }
        }
    }
}
