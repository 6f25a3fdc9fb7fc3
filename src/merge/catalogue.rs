//! The catalogue in its formats, written as it comes: what is in memory is one batch of it.
//!
//! Lines are formatted on all cores and appended in order, so the bytes are the same whatever the threads.

use std::path::Path;

use anyhow::Result;
use rayon::prelude::*;

use super::blobs::{Scene, SceneBlobs, for_each_batch, impact};
use super::columns::{Cells, Columns};
use super::gpkg::GeoPackage;
use super::{counts, geojson};
use crate::records::{Blob, Impact};
use crate::table::{Aside, CATALOGUE_HEADER, WholeFile};

/// Crater statistics: diameters.
const DIAM: &str = "catalogue.diam";
/// Crater statistics: diameters and places.
const SCC: &str = "catalogue.scc";
const GPKG: &str = "catalogue.gpkg";
/// What a merge writes at times only: left by another one, it would tell of another catalogue.
pub const OPTIONAL: [&str; 3] = [DIAM, SCC, GPKG];

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

/// What else the catalogue is to have.
pub struct Extras<'a> {
    /// Columns behind the usual ones.
    pub columns: Columns<'a>,
    /// The ground searched, km², for crater statistics.
    pub area_km2: Option<f64>,
    /// A GeoPackage.
    pub gpkg: bool,
}

/// The files, open.
struct Outputs<'a> {
    columns: Columns<'a>,
    csv: WholeFile,
    geojson: WholeFile,
    /// `.diam` and `.scc`.
    counts: Option<(WholeFile, WholeFile)>,
    gpkg: Option<GeoPackage>,
    impacts: u64,
}

/// Lines of one task.
#[derive(Default)]
struct Lines<'a> {
    impacts: Vec<(Impact, Cells<'a>)>,
    csv: Vec<u8>,
    geojson: Vec<u8>,
    counts: Vec<u8>,
}

/// Writes the impacts of `scenes` into `out`, under names that they have still to get.
///
/// # Errors
/// If a table cannot be read or a file written.
pub fn write(out: &Path, scenes: &[Scene<'_>], extras: &Extras<'_>) -> Result<Written> {
    let georeferenced = scenes.iter().any(|scene| scene.georef.is_some());
    let mut outputs = Outputs::create(out, georeferenced, extras)?;
    let (mut counts, mut best) = (Vec::with_capacity(scenes.len()), Vec::new());
    for_each_batch(scenes, |batch| {
        counts.extend(batch.iter().map(|scene| scene.blobs.len() as u64));
        outputs.append(&batch, &mut best)
    })?;
    Ok(Written { counts, best, files: outputs.finish()? })
}

impl<'a> Outputs<'a> {
    fn create(out: &Path, georeferenced: bool, extras: &Extras<'a>) -> Result<Self> {
        let open = |name: &str, head: &str| -> Result<WholeFile> {
            let mut file = WholeFile::create(&out.join(name))?;
            file.append(head.as_bytes())?;
            Ok(file)
        };
        let names = extras.columns.names();
        let header: Vec<&str> = CATALOGUE_HEADER.into_iter().chain(names.iter().map(|name| name.0)).collect();
        let counts = |area_km2| -> Result<_> {
            let diam = open(DIAM, &counts::diam_head(area_km2))?;
            Ok((diam, open(SCC, &counts::scc_head(area_km2))?))
        };
        let gpkg = || GeoPackage::create(&out.join(GPKG), &names);
        Ok(Self {
            columns: extras.columns,
            csv: open("catalogue.csv", &format!("{}\n", header.join(",")))?,
            geojson: open("catalogue.geojson", &geojson::head(georeferenced))?,
            counts: extras.area_km2.map(counts).transpose()?,
            gpkg: extras.gpkg.then(gpkg).transpose()?,
            impacts: 0,
        })
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
            let lines: Vec<Lines<'_>> = tasks
                .par_iter()
                .map(|(scene, first_id, blobs)| Lines::of(scene, *first_id, blobs, self.columns))
                .collect::<Result<_>>()?;
            for lines in lines {
                self.csv.append(&lines.csv)?;
                self.geojson.append(&lines.geojson)?;
                if let Some((diam, scc)) = &mut self.counts {
                    diam.append(&lines.counts)?;
                    scc.append(&lines.counts)?;
                }
                if let Some(gpkg) = &mut self.gpkg {
                    gpkg.append(&lines.impacts)?;
                }
                lines.impacts.into_iter().for_each(|(impact, _)| keep_best(best, impact));
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<Aside>> {
        self.geojson.append(geojson::TAIL.as_bytes())?;
        let mut files = vec![self.csv, self.geojson];
        if let Some((mut diam, mut scc)) = self.counts {
            diam.append(counts::TAIL.as_bytes())?;
            scc.append(counts::TAIL.as_bytes())?;
            files.extend([diam, scc]);
        }
        let mut files: Vec<Aside> = files.into_iter().map(WholeFile::finish).collect::<Result<_>>()?;
        files.extend(self.gpkg.map(GeoPackage::finish).transpose()?);
        Ok(files)
    }
}

impl<'a> Lines<'a> {
    fn of(scene: &Scene<'_>, first_id: u64, blobs: &[Blob], columns: Columns<'a>) -> Result<Self> {
        let mut lines = Self::default();
        let mut csv = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
        for (id, blob) in (first_id..).zip(blobs) {
            let impact = impact(id, scene, blob);
            let cells = columns.cells(id);
            csv.serialize((&impact, cells))?;
            geojson::append(&mut lines.geojson, &impact, cells)?;
            counts::append(&mut lines.counts, &impact)?;
            lines.impacts.push((impact, cells));
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
        for impact in &all {
            keep_best(&mut best, impact.clone());
        }
        let mut sorted = all;
        sorted.sort_by(|a, b| b.score.total_cmp(&a.score));
        assert_eq!(best, sorted[..BEST]);
    }
}
