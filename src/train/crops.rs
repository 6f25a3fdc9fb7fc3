//! Crops for training: a share of them with an impact somewhere in them, the others without, and a share
//! of these on what an earlier network took for an impact.
//!
//! A crop is a pure function of the seed and its number, so a data set can be made again bit for bit.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::config::{InputSettings, TrainSettings};
use crate::detect::components::label_band;
use crate::dice::Dice;
use crate::raster::MappedScene;
use crate::space::PixelRect;
use crate::unet::CropBatch;

/// Rows of a mask that are measured in one piece.
const MASK_BAND_ROWS: u64 = 4096;

/// A scene, its mask, and where the impacts are.
pub struct TrainingScene {
    image: Arc<MappedScene>,
    mask: Arc<MappedScene>,
    /// The boxes of the mask's impacts; one cut by a band of the mask counts as two, which only
    /// makes it twice as likely to be drawn.
    pub impacts: Vec<PixelRect>,
    /// Centres of what was found here and is no impact.
    hard: Vec<(u64, u64)>,
}

impl TrainingScene {
    /// Opens both and finds the impacts.
    ///
    /// # Errors
    /// If one cannot be read, or their sizes differ.
    pub fn open(image: &Path, mask: &Path, input: InputSettings) -> Result<Self> {
        let open = |path: &Path, input| {
            MappedScene::open(path, input).with_context(|| format!("scene {}", path.display()))
        };
        let (impacts, hard) = (Vec::new(), Vec::new());
        let mut scene =
            Self { image: open(image, input)?, mask: open(mask, InputSettings::MASK)?, impacts, hard };
        let sizes = [&scene.image, &scene.mask].map(|s| (s.header().rows, s.header().cols));
        ensure!(
            sizes[0] == sizes[1],
            "{} has {:?} rows and columns, its mask {} has {:?}",
            image.display(),
            sizes[0],
            mask.display(),
            sizes[1]
        );
        scene.impacts = scene.find_impacts()?;
        Ok(scene)
    }

    /// Takes in a scan's candidates; those in the box of an impact are right and left out.
    pub fn add_candidates<'a>(&mut self, candidates: impl IntoIterator<Item = &'a Candidate>) {
        let centre = |candidate: &Candidate| (candidate.row_px as u64, candidate.col_px as u64);
        let wrong = |&(row, col): &(u64, u64)| !self.impacts.iter().any(|impact| impact.contains(row, col));
        let wrong: Vec<_> = candidates.into_iter().map(centre).filter(wrong).collect();
        self.hard.extend(wrong);
    }

    fn find_impacts(&self) -> Result<Vec<PixelRect>> {
        let (rows, cols) = (self.mask.header().rows, self.mask.header().cols);
        let mut found = Vec::new();
        let mut row0 = 0;
        while row0 < rows {
            let row1 = (row0 + MASK_BAND_ROWS).min(rows);
            let band = self.mask.rows(row0..row1)?;
            let pixels: Vec<u8> = (row0..row1).flat_map(|row| band.row(row)).copied().collect();
            let labelled = label_band(row0, cols as usize, &pixels, 1);
            found.extend(labelled.closed.iter().map(|blob| blob.rect));
            found.extend(labelled.open.iter().map(|open| open.blob.rect));
            row0 = row1;
        }
        Ok(found)
    }

    /// Appends the crop with its top-left pixel at `origin`; outside the scene is no data.
    fn append(&self, origin: (i64, i64), side_px: usize, batch: &mut CropBatch) -> Result<()> {
        let (rows, cols) = (self.image.header().rows as i64, self.image.header().cols as i64);
        let side = side_px as i64;
        let (row0, row1) = (origin.0.clamp(0, rows), (origin.0 + side).clamp(0, rows));
        let (col0, col1) = (origin.1.clamp(0, cols), (origin.1 + side).clamp(0, cols));
        let at = batch.pixels.len();
        for (scene, out) in [(&self.image, &mut batch.pixels), (&self.mask, &mut batch.mask)] {
            out.resize(at + side_px * side_px, 0);
            let lines = scene.rows(row0 as u64..row1 as u64)?;
            for row in row0..row1 {
                let to = at + (row - origin.0) as usize * side_px + (col0 - origin.1) as usize;
                let from = &lines.row(row as u64)[col0 as usize..col1 as usize];
                out[to..to + from.len()].copy_from_slice(from);
            }
        }
        Ok(())
    }
}

/// Something that a scan found: a line of its catalogue, of which only the place matters here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// The scene's `file_name`.
    pub scene: String,
    /// Centroid.
    pub row_px: f64,
    /// Centroid.
    pub col_px: f64,
}

/// Draws batches from a set of scenes.
pub struct Sampler<'a> {
    scenes: &'a [TrainingScene],
    seed: u64,
    side_px: usize,
    impact_share: f64,
    hard_share: f64,
    impact_count: u64,
    hard_count: u64,
    pixels: u64,
}

impl<'a> Sampler<'a> {
    /// A sampler with the crops, shares and seed of `train`.
    ///
    /// # Errors
    /// If no scene has an impact.
    pub fn new(scenes: &'a [TrainingScene], train: &TrainSettings) -> Result<Self> {
        let impact_count = scenes.iter().map(|s| s.impacts.len() as u64).sum();
        let hard_count = scenes.iter().map(|s| s.hard.len() as u64).sum();
        ensure!(impact_count > 0, "none of the {} scenes has an impact in its mask", scenes.len());
        let pixels = scenes.iter().map(|s| s.image.header().rows * s.image.header().cols).sum();
        Ok(Self {
            scenes,
            seed: train.seed,
            side_px: train.crop_px,
            impact_share: train.impact_share,
            hard_share: if hard_count > 0 { train.hard_share } else { 0.0 },
            impact_count,
            hard_count,
            pixels,
        })
    }

    /// The batch numbered `number`: crops with an impact and crops without, each turned and
    /// mirrored one of eight ways and brightened or darkened by up to a fifth.
    ///
    /// # Errors
    /// If a scene cannot be read.
    pub fn batch(&self, number: u64, count: usize) -> Result<CropBatch> {
        let mut batch = CropBatch { side_px: self.side_px, pixels: Vec::new(), mask: Vec::new() };
        let crop_px = self.side_px * self.side_px;
        for k in 0..count {
            let mut dice = Dice::new(self.seed, &[number, k as u64]);
            if self.has_impact(k) {
                self.with_impact(&mut dice, &mut batch)?;
            } else {
                self.without_impact(&mut dice, &mut batch)?;
            }
            let turn = dice.below(8);
            let gain = 0.8 + 0.4 * dice.unit();
            let from = k * crop_px;
            turn_square(&mut batch.pixels[from..], self.side_px, turn);
            turn_square(&mut batch.mask[from..], self.side_px, turn);
            for v in batch.pixels[from..].iter_mut().filter(|v| **v != 0) {
                *v = (f64::from(*v) * gain).round().clamp(1.0, 255.0) as u8;
            }
        }
        Ok(batch)
    }

    /// Spreads the crops with an impact evenly over the batch.
    fn has_impact(&self, k: usize) -> bool {
        ((k + 1) as f64 * self.impact_share).floor() > (k as f64 * self.impact_share).floor()
    }

    /// The impact's centre anywhere in the crop.
    fn with_impact(&self, dice: &mut Dice, batch: &mut CropBatch) -> Result<()> {
        let mut n = dice.below(self.impact_count) as usize;
        for scene in self.scenes {
            if let Some(rect) = scene.impacts.get(n) {
                let (row, col) = (u64::midpoint(rect.row0, rect.row1), u64::midpoint(rect.col0, rect.col1));
                return scene.append(self.origin_over(row, col, dice), self.side_px, batch);
            }
            n -= scene.impacts.len();
        }
        Ok(())
    }

    /// What was mistaken for an impact, anywhere in the crop; an impact beside it may be in the crop too.
    fn with_mistake(&self, dice: &mut Dice, batch: &mut CropBatch) -> Result<()> {
        let mut n = dice.below(self.hard_count) as usize;
        for scene in self.scenes {
            if let Some(&(row, col)) = scene.hard.get(n) {
                return scene.append(self.origin_over(row, col, dice), self.side_px, batch);
            }
            n -= scene.hard.len();
        }
        Ok(())
    }

    /// The top-left pixel of a crop that has the given pixel anywhere in it.
    fn origin_over(&self, row: u64, col: u64, dice: &mut Dice) -> (i64, i64) {
        let side = self.side_px as u64;
        (row as i64 - dice.below(side) as i64, col as i64 - dice.below(side) as i64)
    }

    /// Anywhere, borders included, where the mask is empty; after 20 tries, whatever came last.
    fn without_impact(&self, dice: &mut Dice, batch: &mut CropBatch) -> Result<()> {
        if self.hard_share > 0.0 && dice.unit() < self.hard_share {
            return self.with_mistake(dice, batch);
        }
        let start = batch.pixels.len();
        for _ in 0..20 {
            batch.pixels.truncate(start);
            batch.mask.truncate(start);
            let mut n = dice.below(self.pixels);
            for scene in self.scenes {
                let (rows, cols) = (scene.image.header().rows, scene.image.header().cols);
                if n < rows * cols {
                    let half = self.side_px as i64 / 2;
                    let origin = ((n / cols) as i64 - half, (n % cols) as i64 - half);
                    scene.append(origin, self.side_px, batch)?;
                    break;
                }
                n -= rows * cols;
            }
            let ground = batch.pixels[start..].iter().any(|&v| v != 0);
            if ground && batch.mask[start..].iter().all(|&m| m == 0) {
                break;
            }
        }
        Ok(())
    }
}

/// Turns a square by `turn` % 4 quarters and mirrors it when `turn` >= 4, in place.
fn turn_square(square: &mut [u8], side: usize, turn: u64) {
    let old = square.to_vec();
    for row in 0..side {
        for col in 0..side {
            let (mut r, mut c) = (row, col);
            for _ in 0..turn % 4 {
                (r, c) = (c, side - 1 - r);
            }
            if turn >= 4 {
                c = side - 1 - c;
            }
            square[r * side + c] = old[row * side + col];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_eight_turns_of_a_square_differ_and_keep_every_pixel() {
        let all: std::collections::BTreeSet<Vec<u8>> = (0..8)
            .map(|turn| {
                let mut square = vec![1, 2, 3, 4, 5, 6, 7, 8, 9];
                turn_square(&mut square, 3, turn);
                let mut sorted = square.clone();
                sorted.sort_unstable();
                assert_eq!(sorted, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
                square
            })
            .collect();
        assert_eq!(all.len(), 8);
    }
}
