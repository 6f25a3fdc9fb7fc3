//! Which crops a data set has: the three ways of the study, each by its name.

use anyhow::{Result, ensure};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::crops::{Cut, TrainingScene};
use super::list::Kind;
use super::sampler::{ScenePool, origin_over};
use super::split::number_of;
use crate::dice::Dice;
use crate::fault::WrongUsage;

/// How crops are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Strategy {
    /// The 8 x 8 crops of a square around each impact (1024 px for crops of 128), each impact in the upper
    /// left corner of one of them: one in 64 has an impact, and always at its edge.
    #[serde(rename = "grid-1024")]
    Grid1024,
    /// Those of the grid that hold an impact, and as many of the others.
    #[serde(rename = "balanced")]
    Balanced,
    /// Several crops an impact, its centre anywhere in them, and as many anywhere without one.
    #[serde(rename = "random")]
    Random,
}

/// Crops along a side of the square around an impact.
const GRID: i64 = 8;
/// Places that are tried for a crop before none is thought to fit.
const TRIES: u64 = 200;

/// What the dice are thrown for.
const FOR_CHOICE: u64 = 1;
const FOR_IMPACT: u64 = 2;
const FOR_EMPTY: u64 = 3;

/// A crop that was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draft {
    /// Index of its scene.
    pub scene: usize,
    /// Top-left pixel.
    pub origin: (i64, i64),
    /// Of the mask.
    pub impact_px: u64,
    /// Not no-data.
    pub valid_px: u64,
}

impl Draft {
    /// What it shows.
    pub fn kind(&self, side: usize) -> Kind {
        match (self.impact_px, self.valid_px == (side * side) as u64) {
            (0, true) => Kind::Ground,
            (0, false) => Kind::Border,
            _ => Kind::Impact,
        }
    }
}

/// How to choose.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    /// In which way.
    pub strategy: Strategy,
    /// Side of a crop.
    pub side_px: usize,
    /// Crops an impact, with [`Strategy::Random`].
    pub per_impact: u64,
    /// Another seed, other crops.
    pub seed: u64,
}

impl Strategy {
    /// All of them, by name.
    pub const ALL: [(&str, Self); 3] =
        [("grid-1024", Self::Grid1024), ("balanced", Self::Balanced), ("random", Self::Random)];

    /// The strategy of this name.
    ///
    /// # Errors
    /// [`WrongUsage`] that lists the names.
    pub fn parse(name: &str) -> Result<Self> {
        let known = Self::ALL.iter().find(|(known, _)| *known == name);
        known.map(|(_, strategy)| *strategy).ok_or_else(|| {
            let names = Self::ALL.map(|(known, _)| known).join(", ");
            WrongUsage(format!("no crop strategy {name}: must be one of {names}")).into()
        })
    }
}

impl Choice {
    /// The crops of the scenes of one part, `names` in the pool's order; by scene, those with an impact
    /// before those without.
    ///
    /// # Errors
    /// If a scene cannot be read, or holds no place without an impact.
    pub fn draw(&self, pool: &ScenePool, names: &[&str]) -> Result<Vec<Draft>> {
        let mut drafts = Vec::new();
        for (index, (scene, name)) in pool.scenes().iter().zip(names).enumerate() {
            drafts.extend(match self.strategy {
                Strategy::Grid1024 => self.grid(index, scene)?,
                Strategy::Balanced => self.half(self.grid(index, scene)?, number_of(name)),
                Strategy::Random => self.over_impacts(index, scene, number_of(name))?,
            });
        }
        if self.strategy == Strategy::Random {
            drafts.extend(self.empty(pool, drafts.len(), names)?);
            drafts.sort_by_key(|draft| (draft.scene, draft.impact_px == 0));
        }
        Ok(drafts)
    }

    /// All crops of the squares around a scene's impacts that reach into the scene.
    fn grid(&self, index: usize, scene: &TrainingScene) -> Result<Vec<Draft>> {
        let side = self.side_px as i64;
        let mut origins = Vec::new();
        for impact in scene.impacts() {
            let corner = (impact.rect.row0 as i64, impact.rect.col0 as i64);
            for cell in 0..GRID * GRID {
                let (down, right) = (cell / GRID - GRID / 2, cell % GRID - GRID / 2);
                origins.push((corner.0 + down * side, corner.1 + right * side));
            }
        }
        origins.retain(|(row, col)| {
            *row > -side && *col > -side && *row < scene.rows() as i64 && *col < scene.cols() as i64
        });
        origins.into_par_iter().map(|origin| self.measured(index, scene, origin)).collect()
    }

    /// As many without impact as with one, drawn by seed, in the order they came in.
    fn half(&self, drafts: Vec<Draft>, scene: u64) -> Vec<Draft> {
        let (with, without): (Vec<Draft>, Vec<Draft>) = drafts.into_iter().partition(|d| d.impact_px > 0);
        let wanted = with.len().min(without.len());
        let mut kept = self.drawn(&with, wanted, scene, 0);
        kept.extend(self.drawn(&without, wanted, scene, 1));
        kept
    }

    fn drawn(&self, drafts: &[Draft], wanted: usize, scene: u64, which: u64) -> Vec<Draft> {
        let mut lots: Vec<(u64, usize)> = (0..drafts.len())
            .map(|k| (Dice::new(self.seed, &[FOR_CHOICE, scene, which, k as u64]).any(), k))
            .collect();
        lots.sort_unstable();
        lots.truncate(wanted);
        lots.sort_unstable_by_key(|(_, k)| *k);
        lots.into_iter().map(|(_, k)| drafts[k]).collect()
    }

    /// `per_impact` crops an impact, its centre anywhere in them, and pixels of an impact in each.
    fn over_impacts(&self, index: usize, scene: &TrainingScene, name: u64) -> Result<Vec<Draft>> {
        let wanted = scene.impacts().len() as u64 * self.per_impact;
        let draw = |k: u64| {
            let rect = scene.impacts()[(k / self.per_impact) as usize].rect;
            let (row, col) = (u64::midpoint(rect.row0, rect.row1), u64::midpoint(rect.col0, rect.col1));
            let mut dice = Dice::new(self.seed, &[FOR_IMPACT, name, k]);
            // The middle of a ragged impact need not be one of its pixels.
            let origin = (0..TRIES)
                .map(|_| origin_over(row, col, self.side_px, &mut dice))
                .find(|origin| scene.mask().count(*origin, self.side_px) > 0);
            let middle = (row as i64 - self.side_px as i64 / 2, col as i64 - self.side_px as i64 / 2);
            self.measured(index, scene, origin.unwrap_or(middle))
        };
        (0..wanted).into_par_iter().map(draw).collect()
    }

    /// `wanted` crops with some ground and no impact, anywhere in the scenes, borders included.
    fn empty(&self, pool: &ScenePool, wanted: usize, names: &[&str]) -> Result<Vec<Draft>> {
        let which = number_of(&names.join("\n"));
        let draw = |k: usize| {
            let mut dice = Dice::new(self.seed, &[FOR_EMPTY, which, k as u64]);
            for _ in 0..TRIES {
                let Some((index, origin)) = pool.anywhere(self.side_px, &mut dice) else { break };
                let scene = &pool.scenes()[index];
                if scene.mask().count(origin, self.side_px) == 0 {
                    let draft = self.measured(index, scene, origin)?;
                    if draft.valid_px > 0 {
                        return Ok(Some(draft));
                    }
                }
            }
            Ok(None)
        };
        let found: Vec<Option<Draft>> = (0..wanted).into_par_iter().map(draw).collect::<Result<_>>()?;
        let found: Vec<Draft> = found.into_iter().flatten().collect();
        ensure!(
            found.len() == wanted,
            "only {} of {wanted} crops of {} px without impact were found in {}: take smaller crops",
            found.len(),
            self.side_px,
            names.join(", ")
        );
        Ok(found)
    }

    fn measured(&self, scene: usize, from: &TrainingScene, origin: (i64, i64)) -> Result<Draft> {
        let cut = Cut { side_px: self.side_px, ring_px: 0 };
        let mut batch = cut.empty_batch();
        from.append(origin, cut, &mut batch)?;
        let counted = |plane: &[u8]| plane.iter().filter(|v| **v != 0).count() as u64;
        Ok(Draft { scene, origin, impact_px: counted(&batch.mask), valid_px: counted(&batch.pixels) })
    }
}
