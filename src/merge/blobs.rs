//! The shards' blobs scene by scene, those cut by a seam put together first.
//!
//! Scenes come in catalogue order, a few at a time: what is in memory is one batch, however many shards
//! and impacts there are.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rayon::prelude::*;

use super::shards::{FoundShards, PublishedShard};
use crate::config::InputSettings;
use crate::detect::components::{EdgeRun, LabelledBand, OpenBlob};
use crate::detect::stitch::{catalogue_order, finish, stitch};
use crate::geo::GeoRef;
use crate::raster::MappedScene;
use crate::records::{Blob, BlobRow, Impact, SceneOutcome, SeamRow};
use crate::space::ScenePx;

/// Blobs read at a time, where a single scene has not more: 72 bytes each.
const BATCH_BLOBS: u64 = 1 << 17;

/// What the shards say of one scene.
pub struct Scene<'a> {
    /// Its `file_name`.
    pub name: &'a str,
    /// From the first shard that has it.
    pub georef: Option<GeoRef>,
    /// The shards that had rows of it, and its number in their manifests.
    pub parts: Vec<(&'a PublishedShard, usize)>,
}

/// The impacts of one scene, in catalogue order.
pub struct SceneBlobs<'a> {
    /// The scene.
    pub scene: &'a Scene<'a>,
    /// In catalogue order.
    pub blobs: Vec<Blob>,
}

/// All scenes of the shards, in catalogue order.
pub fn scenes(found: &FoundShards) -> Vec<Scene<'_>> {
    let mut scenes: BTreeMap<&str, Scene<'_>> = BTreeMap::new();
    for shard in &found.shards {
        for (number, outcome) in shard.manifest.scenes.iter().enumerate() {
            let name = outcome.scene.as_str();
            let empty = || Scene { name, georef: None, parts: Vec::new() };
            let scene = scenes.entry(name).or_insert_with(empty);
            scene.georef = scene.georef.or(outcome.georef);
            scene.parts.push((shard, number));
        }
    }
    scenes.into_values().collect()
}

impl<'a> Scene<'a> {
    /// A scene that no shard has, for tests.
    #[cfg(test)]
    pub fn empty(name: &'a str) -> Self {
        Self { name, georef: None, parts: Vec::new() }
    }

    /// What each shard did to it, in shard order.
    pub fn outcomes(&self) -> impl Iterator<Item = &'a SceneOutcome> {
        self.parts.iter().map(|(shard, number)| &shard.manifest.scenes[*number])
    }

    /// Ground searched, m²: its valid pixels where a shard did not fail, if it is georeferenced.
    pub fn valid_m2(&self) -> Option<f64> {
        let good = self.outcomes().filter(|outcome| outcome.failed.is_none());
        good.filter_map(|outcome| outcome.valid_m2).reduce(|sum, area| sum + area)
    }

    /// Lines that the shards have of it: not less than its impacts.
    pub fn rows(&self) -> u64 {
        self.parts.iter().map(|(shard, number)| shard.blobs.count(*number)).sum()
    }

    /// The file that it was scanned from, and where it is.
    ///
    /// # Errors
    /// If it cannot be read, or has another size by now.
    pub fn open(&self, input: InputSettings) -> Result<(&'a Path, Arc<MappedScene>)> {
        let outcome = self.outcomes().find(|outcome| outcome.file.is_some());
        let path = outcome.and_then(|outcome| outcome.file.as_deref());
        let (outcome, path) = outcome.zip(path).context("no shard says which file it read")?;
        let file = MappedScene::open(path, input)?;
        let size = (file.header().rows, file.header().cols);
        ensure!(
            size == (outcome.rows, outcome.cols),
            "{} has now {} x {} px, it was scanned with {} x {}",
            path.display(),
            size.0,
            size.1,
            outcome.rows,
            outcome.cols
        );
        Ok((path, file))
    }

    /// Its impacts.
    fn blobs(&self) -> Result<Vec<Blob>> {
        let mut blobs = Vec::with_capacity(self.rows() as usize);
        let mut pieces = Vec::new();
        for &(shard, number) in &self.parts {
            let mut runs: HashMap<u64, Vec<EdgeRun>> = HashMap::new();
            shard.seams.rows(number, |SeamRow { row_px, col0_px, col1_px, seam, .. }| {
                runs.entry(seam).or_default().push(EdgeRun { row: row_px, col0: col0_px, col1: col1_px });
                Ok(())
            })?;
            let mut open = Vec::new();
            shard.blobs.rows(number, |row: BlobRow| {
                let Some(seam) = row.seam else {
                    blobs.push(row.blob());
                    return Ok(());
                };
                let runs =
                    runs.remove(&seam).with_context(|| format!("blob {seam} has no line in seams.csv"))?;
                open.push(OpenBlob { blob: row.blob(), runs });
                Ok(())
            })?;
            let outcome = &shard.manifest.scenes[number];
            if outcome.failed.is_none() {
                pieces.extend(contiguous(outcome, open));
            }
        }
        blobs.extend(stitch(pieces).into_iter().flat_map(finish));
        if let Some((shard, _)) = self.parts.first() {
            blobs.retain(|blob| blob.counts(shard.manifest.min_area_px, shard.manifest.min_score));
        }
        blobs.sort_unstable_by_key(|blob| (catalogue_order(blob), blob.score_sum, blob.peak));
        Ok(blobs)
    }
}

/// Hands the impacts of `scenes` to `see`, a batch of scenes at a time.
///
/// # Errors
/// If a table cannot be read, or `see` fails.
pub fn for_each_batch<'a>(
    scenes: &'a [Scene<'a>],
    mut see: impl FnMut(Vec<SceneBlobs<'a>>) -> Result<()>,
) -> Result<()> {
    let mut rest = scenes;
    while !rest.is_empty() {
        let mut rows = 0;
        let fits = |scene: &&Scene<'_>| {
            rows += scene.rows();
            rows <= BATCH_BLOBS
        };
        let count = rest.iter().take_while(fits).count().max(1);
        let (batch, later) = rest.split_at(count);
        rest = later;
        let read = |scene: &'a Scene<'a>| Ok(SceneBlobs { scene, blobs: scene.blobs()? });
        see(batch.par_iter().map(read).collect::<Result<_>>()?)?;
    }
    Ok(())
}

/// A shard's contiguous pieces of a scene, with only what is open in them: complete blobs need no stitching.
fn contiguous(outcome: &SceneOutcome, mut open: Vec<OpenBlob>) -> Vec<LabelledBand> {
    let mut pieces: Vec<LabelledBand> = Vec::new();
    for &(row0, row1) in &outcome.row_runs {
        match pieces.last_mut().filter(|piece| piece.row1 == row0) {
            Some(piece) => piece.row1 = row1,
            None => pieces.push(LabelledBand { row0, row1, ..LabelledBand::default() }),
        }
    }
    for piece in &mut pieces {
        let inside = |blob: &OpenBlob| (piece.row0..piece.row1).contains(&blob.blob.rect.row0);
        let (mine, rest) = open.into_iter().partition(inside);
        piece.open = mine;
        open = rest;
    }
    pieces
}

/// A line of the catalogue; everything in it is computed once from exact sums, and rounded for print.
pub fn impact(id: u64, scene: &Scene<'_>, blob: &Blob) -> Impact {
    let area = blob.area_px as f64;
    let georef = scene.georef.as_ref();
    let centre = ScenePx { row: blob.row_sum as f64 / area, col: blob.col_sum as f64 / area };
    let diameter = |area: f64| rounded(2.0 * (area / std::f64::consts::PI).sqrt(), 2);
    let place = georef.map(|georef| georef.lonlat(centre));
    Impact {
        id,
        scene: scene.name.to_owned(),
        row_px: rounded(centre.row, 2),
        col_px: rounded(centre.col, 2),
        lat_deg: place.map(|place| rounded(place.lat_deg, 6)),
        lon_deg: place.map(|place| rounded(place.lon_deg, 6)),
        diameter_m: georef.map(|georef| diameter(area * georef.pixel_area_m2(centre))),
        diameter_px: diameter(area),
        area_px: blob.area_px,
        score: rounded(blob.score(), 4),
        peak: rounded(f64::from(blob.peak) / 255.0, 4),
        row0_px: blob.rect.row0,
        col0_px: blob.rect.col0,
        row1_px: blob.rect.row1,
        col1_px: blob.rect.col1,
    }
}

fn rounded(value: f64, decimals: i32) -> f64 {
    let scale = 10f64.powi(decimals);
    (value * scale).round() / scale
}
