//! How much the places of impacts differ in other scenes: 12 bytes an impact in memory, and one scene of the
//! catalogue and one other open at a time.

use std::path::Path;

use anyhow::Result;

use super::blobs::{Scene, SceneBlobs, for_each_batch};
use super::shards::FoundShards;
use crate::config::InputSettings;
use crate::plan::SceneList;
use crate::records::Blob;
use crate::repeat::{self, Repeats};
use crate::space::PixelRect;

/// The scores have so many steps, as many as decimals in the catalogue tell apart.
const STEPS: f64 = 10_000.0;
/// Places compared at a time.
const PLACES: usize = 1 << 14;

/// For every impact, by its id less 1, the other scene with the largest change and that change.
#[derive(Debug)]
pub struct Changes {
    repeats: Repeats,
    /// Number of the scene, steps of the score.
    cells: Vec<Option<(u32, u16)>>,
    /// Scenes that could not be compared: name and why.
    pub refused: Vec<(String, String)>,
}

impl Changes {
    /// The other scene of the impact `id` and how much its place differs there, 0..=1; `None` where none covers it.
    pub fn of(&self, id: u64) -> Option<(&str, f64)> {
        let (repeat, steps) = self.cells[id as usize - 1]?;
        Some((self.repeats.name(repeat as usize), f64::from(steps) / STEPS))
    }
}

/// Compares the impacts of `scenes` with the other scenes of `list`.
///
/// # Errors
/// If a table of a shard cannot be read, or the run's settings. A scene that cannot is passed over and named.
pub fn find(out: &Path, found: &FoundShards, scenes: &[Scene<'_>], list: &SceneList) -> Result<Changes> {
    let input = found.input(out)?;
    let mut repeats = Repeats::open(list, input);
    let refused = std::mem::take(&mut repeats.refused);
    let mut changes = Changes { repeats, cells: Vec::new(), refused };
    for_each_batch(scenes, |batch| {
        for scene in &batch {
            changes.add(scene, input);
        }
        Ok(())
    })?;
    Ok(changes)
}

impl Changes {
    /// Takes in the next scene's impacts.
    fn add(&mut self, scene: &SceneBlobs<'_>, input: InputSettings) {
        let first = self.cells.len();
        if let Err(why) = self.compare(scene, input) {
            self.refused.push((scene.scene.name.to_owned(), format!("{why:#}")));
            self.cells.truncate(first);
        }
        self.cells.resize(first + scene.blobs.len(), None);
    }

    fn compare(&mut self, SceneBlobs { scene, blobs }: &SceneBlobs<'_>, input: InputSettings) -> Result<()> {
        let Some(georef) = scene.georef.as_ref().filter(|_| !blobs.is_empty()) else { return Ok(()) };
        let (path, file) = scene.open(input)?;
        let own = repeat::Scene { file: &file, path, georef };
        for blobs in blobs.chunks(PLACES) {
            let places: Vec<PixelRect> = blobs.iter().map(|Blob { rect, .. }| *rect).collect();
            let found = self.repeats.changes(&own, &places)?;
            let steps = |score: f64| (score * STEPS).round() as u16;
            let cell = |change: repeat::Change| (change.repeat as u32, steps(change.change_score));
            self.cells.extend(found.into_iter().map(|change| change.map(cell)));
        }
        Ok(())
    }
}
