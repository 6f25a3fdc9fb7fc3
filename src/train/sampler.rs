//! Crops drawn anew for each batch: a share of them with an impact somewhere in them, the others without,
//! and a share of these on what an earlier network took for an impact.
//!
//! A crop is a pure function of the seed and its number, so a run can be made again bit for bit.

use std::ops::Range;

use anyhow::{Result, ensure};

use super::augment::augment;
use super::crops::{Cut, TrainingScene};
use super::source::CropSource;
use crate::config::TrainSettings;
use crate::dice::Dice;
use crate::fault::WrongUsage;
use crate::unet::CropBatch;

/// Places that are tried for a crop without impact.
const TRIES: usize = 20;

/// Scenes as one field to draw from.
pub struct ScenePool {
    scenes: Vec<TrainingScene>,
    impacts: u64,
    mistakes: u64,
    pixels: u64,
}

impl ScenePool {
    /// All of `scenes`.
    pub fn new(scenes: Vec<TrainingScene>) -> Self {
        let impacts = scenes.iter().map(|scene| scene.impacts().len() as u64).sum();
        let mistakes = scenes.iter().map(|scene| scene.hard().len() as u64).sum();
        let pixels = scenes.iter().map(|scene| scene.rows() * scene.cols()).sum();
        Self { scenes, impacts, mistakes, pixels }
    }

    /// The scenes, as they were given.
    pub fn scenes(&self) -> &[TrainingScene] {
        &self.scenes
    }

    /// Whether a ring of `ring_px` leaves a pixel of an impact judged, or there is no impact.
    pub fn judges_impacts(&self, ring_px: usize) -> bool {
        self.impacts == 0 || ring_px == 0 || self.scenes.iter().any(|scene| scene.mask().any_judged(ring_px))
    }

    /// How many mistakes can be drawn.
    pub fn mistakes(&self) -> u64 {
        self.mistakes
    }

    /// A crop with the middle of an impact anywhere in it.
    fn over_impact(&self, side: usize, dice: &mut Dice) -> Option<(&TrainingScene, (i64, i64))> {
        let (scene, n) = self.pick(dice.below(self.impacts), |scene| scene.impacts().len() as u64)?;
        let rect = scene.impacts()[n as usize].rect;
        let (row, col) = (u64::midpoint(rect.row0, rect.row1), u64::midpoint(rect.col0, rect.col1));
        Some((scene, origin_over(row, col, side, dice)))
    }

    /// A crop with something in it that was mistaken for an impact; an impact beside it may be in it too.
    pub fn over_mistake(&self, side: usize, dice: &mut Dice) -> Option<(&TrainingScene, (i64, i64))> {
        let (scene, n) = self.pick(dice.below(self.mistakes), |scene| scene.hard().len() as u64)?;
        let (row, col) = scene.hard()[n as usize];
        Some((scene, origin_over(row, col, side, dice)))
    }

    /// A crop anywhere, with the index of its scene; its middle lies in the scene.
    pub fn anywhere(&self, side: usize, dice: &mut Dice) -> Option<(usize, (i64, i64))> {
        let mut n = dice.below(self.pixels);
        let half = side as i64 / 2;
        for (index, scene) in self.scenes.iter().enumerate() {
            let (pixels, cols) = (scene.rows() * scene.cols(), scene.cols());
            if n < pixels {
                return Some((index, ((n / cols) as i64 - half, (n % cols) as i64 - half)));
            }
            n -= pixels;
        }
        None
    }

    /// The scene that holds the thing numbered `n`, and its number there.
    fn pick(&self, mut n: u64, count: impl Fn(&TrainingScene) -> u64) -> Option<(&TrainingScene, u64)> {
        for scene in &self.scenes {
            if n < count(scene) {
                return Some((scene, n));
            }
            n -= count(scene);
        }
        None
    }
}

/// The top-left pixel of a crop that has the given pixel anywhere in it.
pub fn origin_over(row: u64, col: u64, side: usize, dice: &mut Dice) -> (i64, i64) {
    let side = side as u64;
    (row as i64 - dice.below(side) as i64, col as i64 - dice.below(side) as i64)
}

/// Whether thing `n` of an endless row is one of the share `share`, spread evenly.
pub fn falls_in_share(n: u64, share: f64) -> bool {
    share_before(n + 1, share) > share_before(n, share)
}

/// How many of the first `n` things are.
pub fn share_before(n: u64, share: f64) -> u64 {
    (n as f64 * share).floor() as u64
}

/// Draws batches from a set of scenes.
pub struct Sampler {
    pool: ScenePool,
    cut: Cut,
    seed: u64,
    impact_share: f64,
    hard_share: f64,
    augmented: bool,
}

impl Sampler {
    /// A sampler with the crops, shares and seed of `train`.
    ///
    /// # Errors
    /// If no scene has an impact; [`WrongUsage`] if the ring leaves none of them judged.
    pub fn new(scenes: Vec<TrainingScene>, train: &TrainSettings) -> Result<Self> {
        let pool = ScenePool::new(scenes);
        ensure!(pool.impacts > 0, "none of the {} scenes has an impact in its mask", pool.scenes.len());
        if !pool.judges_impacts(train.ring_px) {
            let message = format!(
                "train.ring_px = {} (--ring) leaves no pixel of any impact judged: all are too small for it, take a \
                 smaller one",
                train.ring_px
            );
            return Err(WrongUsage(message).into());
        }
        Ok(Self {
            cut: Cut { side_px: train.crop_px, ring_px: train.ring_px },
            seed: train.seed,
            impact_share: train.impact_share,
            hard_share: if pool.mistakes > 0 { train.hard_share } else { 0.0 },
            augmented: train.augment,
            pool,
        })
    }

    /// Anywhere, borders included, where the mask is empty; after [`TRIES`], whatever came last.
    fn without_impact(&self, dice: &mut Dice, batch: &mut CropBatch) -> Result<()> {
        let side = self.cut.side_px;
        if self.hard_share > 0.0 && dice.unit() < self.hard_share {
            let place = self.pool.over_mistake(side, dice);
            return place.map_or(Ok(()), |(scene, origin)| scene.append(origin, self.cut, batch));
        }
        let start = batch.pixels.len();
        for attempt in 1..=TRIES {
            let Some((index, origin)) = self.pool.anywhere(side, dice) else { break };
            let scene = &self.pool.scenes[index];
            let impact = scene.mask().count(origin, side) > 0;
            if impact && attempt < TRIES {
                continue;
            }
            batch.pixels.truncate(start);
            batch.mask.truncate(start);
            scene.append(origin, self.cut, batch)?;
            if !impact && batch.pixels[start..].iter().any(|&v| v != 0) {
                break;
            }
        }
        Ok(())
    }
}

impl CropSource for Sampler {
    fn share(&self, number: u64, count: usize, share: Range<usize>) -> Result<CropBatch> {
        let mut batch = self.cut.empty_batch();
        let side = self.cut.side_px;
        for k in share {
            let from = batch.pixels.len();
            let mut dice = Dice::new(self.seed, &[number, k as u64]);
            if falls_in_share(number * count as u64 + k as u64, self.impact_share) {
                if let Some((scene, origin)) = self.pool.over_impact(side, &mut dice) {
                    scene.append(origin, self.cut, &mut batch)?;
                }
            } else {
                self.without_impact(&mut dice, &mut batch)?;
            }
            if self.augmented {
                augment(&mut dice, side, &mut batch.pixels[from..], &mut batch.mask[from..]);
            }
        }
        Ok(batch)
    }
}
