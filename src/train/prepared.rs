//! The crops of a prepared data set as batches: half with impact, half without, shuffled anew each time
//! all of them have been shown.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use anyhow::{Context, Result};
use rayon::prelude::*;

use super::Pair;
use super::augment::augment;
use super::crops::{Cut, TrainingScene};
use super::list::{CROPS, CropRow, DataSet, Part, STORE};
use super::mistakes::{Candidates, Provenance, hand_out};
use super::sampler::{ScenePool, falls_in_share, share_before};
use super::source::CropSource;
use super::store::CropStore;
use crate::config::{InputSettings, TrainSettings};
use crate::dice::Dice;
use crate::fault::{Stopped, WrongUsage};
use crate::job::StopRequest;
use crate::unet::CropBatch;

/// Opens the scenes of `pairs`, in their order.
///
/// # Errors
/// If one cannot be read, or does not agree with its mask; [`Stopped`] if asked to stop on the way.
pub fn open_scenes(pairs: &[Pair], input: InputSettings, stop: &StopRequest) -> Result<Vec<TrainingScene>> {
    let open = |pair: &Pair| {
        if stop.asked().is_some() {
            return Err(Stopped.into());
        }
        TrainingScene::open(&pair.image, &pair.mask, input)
    };
    pairs.par_iter().map(open).collect()
}

/// The crops of one part, read from the store or from the mapped scenes.
pub struct PartCrops {
    /// Their lines, in the list's order.
    pub rows: Vec<CropRow>,
    cut: Cut,
    store: Option<Arc<CropStore>>,
    pool: ScenePool,
    /// Names of the pool's scenes, and their places in it.
    places: BTreeMap<String, usize>,
    /// Where the given mistakes come from.
    pub hard: Provenance,
}

impl PartCrops {
    /// Opens the crops of `part`, from `store` (see [`open_store`]) where there is one; its scenes are opened
    /// where there is none, or where mistakes are to be drawn from them.
    ///
    /// # Errors
    /// If a scene cannot be read; [`WrongUsage`] if the part has no crops, a scene is another image than it was, or
    /// `mistakes` name another scene; [`Stopped`] if asked to stop on the way.
    pub fn open(
        data: &DataSet,
        part: Part,
        store: Option<Arc<CropStore>>,
        mistakes: &Candidates,
        stop: &StopRequest,
    ) -> Result<Self> {
        let rows = data.crops_of(part);
        if rows.is_empty() {
            let message = format!(
                "{} has no crops for {part}: {} has no scene with an impact; prepare it again with another --split or \
                 --seed",
                data.folder.join(CROPS).display(),
                part.file()
            );
            return Err(WrongUsage(message).into());
        }
        let spec = &data.spec;
        let pairs = data.scenes(part);
        let names: Vec<&str> = pairs.iter().map(|pair| pair.name.as_str()).collect();
        let needed = store.is_none() || !mistakes.lines.is_empty();
        let mut scenes = if needed { open_scenes(pairs, spec.input, stop)? } else { Vec::new() };
        for (name, scene) in names.iter().zip(&scenes) {
            if spec.looks.get(*name).is_some_and(|looks| *looks != scene.looks) {
                let folder = data.folder.display();
                let message = format!(
                    "{name} or its mask is another image than when {folder} was prepared: prepare it again"
                );
                return Err(WrongUsage(message).into());
            }
        }
        let hard = hand_out(mistakes, &names, &mut scenes)?;
        Ok(Self {
            rows,
            cut: Cut { side_px: spec.side_px, ring_px: spec.ring_px },
            store,
            pool: ScenePool::new(scenes),
            places: names.iter().enumerate().map(|(k, name)| ((*name).to_owned(), k)).collect(),
            hard,
        })
    }

    /// Appends the crop of line `k` of [`Self::rows`].
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn append(&self, k: usize, batch: &mut CropBatch) -> Result<()> {
        let row = &self.rows[k];
        if let Some(store) = &self.store {
            return store.append(row.number, batch);
        }
        let scene = self.places.get(&row.scene).and_then(|place| self.pool.scenes().get(*place));
        let scene = scene.with_context(|| format!("no scene {} for crop {}", row.scene, row.number))?;
        scene.append((row.row0_px, row.col0_px), self.cut, batch)
    }

    /// A batch without a crop.
    pub fn empty_batch(&self) -> CropBatch {
        self.cut.empty_batch()
    }
}

/// The store of a data set, if it has one.
///
/// # Errors
/// If it is damaged.
pub fn open_store(data: &DataSet) -> Result<Option<Arc<CropStore>>> {
    let path = data.folder.join(STORE);
    if !path.exists() {
        return Ok(None);
    }
    let id = data.spec.ids.get(CROPS).context("data.json has no id of the crops")?;
    let store = CropStore::open(&path, id, data.spec.side_px, data.crops.len() as u64)?;
    Ok(Some(Arc::new(store)))
}

/// Draws batches from the crops of a part.
pub struct PreparedSampler {
    crops: PartCrops,
    /// Lines with an impact.
    with: Vec<usize>,
    /// Lines without.
    without: Vec<usize>,
    seed: u64,
    impact_share: f64,
    hard_share: f64,
    augmented: bool,
}

impl PreparedSampler {
    /// Batches of `crops` with the shares and seed of `train`.
    pub fn new(crops: PartCrops, train: &TrainSettings) -> Self {
        let (with, without): (Vec<usize>, Vec<usize>) =
            (0..crops.rows.len()).partition(|&k| crops.rows[k].impact_px > 0);
        // Of one kind alone there are no shares to keep.
        let impact_share = match (with.is_empty(), without.is_empty()) {
            (true, _) => 0.0,
            (_, true) => 1.0,
            _ => train.impact_share,
        };
        let hard_share = if crops.pool.mistakes() > 0 { train.hard_share } else { 0.0 };
        Self { crops, with, without, seed: train.seed, impact_share, hard_share, augmented: train.augment }
    }

    fn append(&self, n: u64, dice: &mut Dice, batch: &mut CropBatch) -> Result<()> {
        let with_before = share_before(n, self.impact_share);
        if falls_in_share(n, self.impact_share) {
            return self.crops.append(self.with[self.place(&self.with, with_before, 0)], batch);
        }
        if self.hard_share > 0.0 && dice.unit() < self.hard_share {
            let place = self.crops.pool.over_mistake(self.crops.cut.side_px, dice);
            return place.map_or(Ok(()), |(scene, origin)| scene.append(origin, self.crops.cut, batch));
        }
        self.crops.append(self.without[self.place(&self.without, n - with_before, 1)], batch)
    }

    /// Where thing `n` of an endless row of shuffled lists stands in the list.
    fn place(&self, list: &[usize], n: u64, which: u64) -> usize {
        let count = list.len() as u64;
        shuffled(n % count, count, Dice::new(self.seed, &[which, n / count]).any()) as usize
    }
}

impl CropSource for PreparedSampler {
    fn share(&self, number: u64, count: usize, share: Range<usize>) -> Result<CropBatch> {
        let mut batch = self.crops.empty_batch();
        let side = batch.side_px;
        for k in share {
            let from = batch.pixels.len();
            let n = number * count as u64 + k as u64;
            let mut dice = Dice::new(self.seed, &[number, k as u64]);
            self.append(n, &mut dice, &mut batch)?;
            if self.augmented {
                augment(&mut dice, side, &mut batch.pixels[from..], &mut batch.mask[from..]);
            }
        }
        Ok(batch)
    }
}

/// Where `at` of `0..count` goes in the shuffle of `key`, without the shuffle being written down: four rounds
/// of a Feistel network on the next power of four, walked until the answer is in range.
fn shuffled(at: u64, count: u64, key: u64) -> u64 {
    let half_bits = (64 - count.leading_zeros()).div_ceil(2).max(1);
    let low = (1u64 << half_bits) - 1;
    let mut place = at;
    loop {
        let (mut left, mut right) = (place >> half_bits, place & low);
        for round in 0..4 {
            (left, right) = (right, left ^ (Dice::new(key, &[round, right]).any() & low));
        }
        place = left << half_bits | right;
        if place < count {
            return place;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shuffle_gives_each_place_once_and_differs_by_key() {
        for count in [1, 2, 3, 5, 16, 17, 1000] {
            let order = |key| (0..count).map(|at| shuffled(at, count, key)).collect::<Vec<_>>();
            let mut sorted = order(7);
            sorted.sort_unstable();
            assert_eq!(sorted, (0..count).collect::<Vec<_>>());
            if count > 5 {
                assert_ne!(order(7), order(8));
            }
        }
        // No place is favoured: over many keys, thing 0 goes everywhere.
        let mut hits = [0; 5];
        (0..5000).for_each(|key| hits[shuffled(0, 5, key) as usize] += 1);
        assert!(hits.iter().all(|hit| (850..1150).contains(hit)), "{hits:?}");
    }
}
