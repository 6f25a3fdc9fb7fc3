//! The catalogue in its formats, written as it comes: what is in memory is one batch of it.
//!
//! Lines are formatted on all cores and appended in order, so the bytes are the same whatever the threads.

use std::path::Path;

use anyhow::Result;
use rayon::prelude::*;

use super::blobs::{Scene, SceneBlobs, for_each_batch, impact};
use super::geojson;
use crate::records::{Blob, Impact};
use crate::table::{Aside, CATALOGUE_HEADER, WholeFile};

/// Impacts that one task formats.
const TASK_IMPACTS: usize = 1024;
/// Tasks whose lines are in memory at once, about 0.6 kB an impact.
const TASKS: usize = 64;
/// Impacts kept for the report.
const BEST: usize = 50;

/// What went into the catalogue.
pub struct Written {
    /// Impacts of each scene, in catalogue order.
    pub counts: Vec<u64>,
    /// Highest scores first, then lowest ids.
    pub best: Vec<Impact>,
    /// The files, synced, that wait for their names.
    pub files: Vec<Aside>,
}

/// The files, open.
struct Outputs {
    csv: WholeFile,
    geojson: WholeFile,
    impacts: u64,
}

/// Lines of one task.
#[derive(Default)]
struct Lines {
    impacts: Vec<Impact>,
    csv: Vec<u8>,
    geojson: Vec<u8>,
}

/// Writes the impacts of `scenes` into `out`, under names that they have still to get.
///
/// # Errors
/// If a table cannot be read or a file written.
pub fn write(out: &Path, scenes: &[Scene<'_>]) -> Result<Written> {
    let georeferenced = scenes.iter().any(|scene| scene.georef.is_some());
    let mut outputs = Outputs::create(out, georeferenced)?;
    let (mut counts, mut best) = (Vec::with_capacity(scenes.len()), Vec::new());
    for_each_batch(scenes, |batch| {
        counts.extend(batch.iter().map(|scene| scene.blobs.len() as u64));
        outputs.append(&batch, &mut best)
    })?;
    Ok(Written { counts, best, files: outputs.finish()? })
}

impl Outputs {
    fn create(out: &Path, georeferenced: bool) -> Result<Self> {
        let mut csv = WholeFile::create(&out.join("catalogue.csv"))?;
        csv.append(format!("{}\n", CATALOGUE_HEADER.join(",")).as_bytes())?;
        let mut geojson = WholeFile::create(&out.join("catalogue.geojson"))?;
        geojson.append(geojson::head(georeferenced).as_bytes())?;
        Ok(Self { csv, geojson, impacts: 0 })
    }

    fn append(&mut self, batch: &[SceneBlobs<'_>], best: &mut Vec<Impact>) -> Result<()> {
        let mut tasks: Vec<(&Scene<'_>, u64, &[Blob])> = Vec::new();
        for SceneBlobs { scene, blobs } in batch {
            for blobs in blobs.chunks(TASK_IMPACTS) {
                tasks.push((scene, self.impacts + 1, blobs));
                self.impacts += blobs.len() as u64;
            }
        }
        for tasks in tasks.chunks(TASKS) {
            let lines: Vec<Lines> = tasks
                .par_iter()
                .map(|(scene, first_id, blobs)| Lines::of(scene, *first_id, blobs))
                .collect::<Result<_>>()?;
            for lines in lines {
                self.csv.append(&lines.csv)?;
                self.geojson.append(&lines.geojson)?;
                lines.impacts.into_iter().for_each(|impact| keep_best(best, impact));
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<Aside>> {
        self.geojson.append(geojson::TAIL.as_bytes())?;
        [self.csv, self.geojson].into_iter().map(WholeFile::finish).collect()
    }
}

impl Lines {
    fn of(scene: &Scene<'_>, first_id: u64, blobs: &[Blob]) -> Result<Self> {
        let mut lines = Self::default();
        let mut csv = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
        for (id, blob) in (first_id..).zip(blobs) {
            let impact = impact(id, scene, blob);
            csv.serialize(&impact)?;
            geojson::append(&mut lines.geojson, &impact)?;
            lines.impacts.push(impact);
        }
        lines.csv = csv.into_inner()?;
        Ok(lines)
    }
}

/// Takes `impact` in among the best if it is one; ids come in ascending order.
fn keep_best(best: &mut Vec<Impact>, impact: Impact) {
    let place = best.partition_point(|other| other.score >= impact.score);
    if place < BEST {
        best.truncate(BEST - 1);
        best.insert(place, impact);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_are_the_first_of_a_stable_sort() {
        let empty = Scene::empty("s");
        let blob = |score_sum| Blob {
            area_px: 1,
            row_sum: 0,
            col_sum: 0,
            score_sum,
            peak: 0,
            rect: crate::space::PixelRect { row0: 0, col0: 0, row1: 1, col1: 1 },
        };
        let all: Vec<Impact> = (1..=400).map(|id| impact(id, &empty, &blob(id * 37 % 101))).collect();
        let mut best = Vec::new();
        all.iter().for_each(|impact| keep_best(&mut best, impact.clone()));
        let mut sorted = all;
        sorted.sort_by(|a, b| b.score.total_cmp(&a.score));
        assert_eq!(best, sorted[..BEST]);
    }
}
