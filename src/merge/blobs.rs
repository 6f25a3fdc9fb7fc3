//! The shards' blobs as one list of impacts: those cut by a seam put together first.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result};

use super::shards::FoundShards;
use crate::detect::components::{EdgeRun, LabelledBand, OpenBlob};
use crate::detect::stitch::{catalogue_order, finish, stitch};
use crate::geo::GeoRef;
use crate::records::{Blob, BlobRow, Impact, SceneOutcome, SeamRow};
use crate::space::ScenePx;
use crate::table::read_rows;

/// What all shards say of one scene.
#[derive(Default)]
struct SceneParts {
    /// Blobs that were complete in their shard.
    complete: Vec<Blob>,
    /// The edges of each shard's pieces.
    pieces: Vec<LabelledBand>,
    georef: Option<GeoRef>,
}

/// All impacts, sorted and numbered.
///
/// # Errors
/// If a table cannot be read.
pub fn impacts(found: &FoundShards) -> Result<Vec<Impact>> {
    let mut scenes: BTreeMap<String, SceneParts> = BTreeMap::new();
    for shard in &found.shards {
        let blobs: Vec<BlobRow> = read_rows(&shard.folder.join("impacts.csv"))?;
        let seams: Vec<SeamRow> = read_rows(&shard.folder.join("seams.csv"))?;
        let mut open: HashMap<&str, Vec<OpenBlob>> = HashMap::new();
        let mut runs: HashMap<u64, Vec<EdgeRun>> = HashMap::new();
        for SeamRow { row_px, col0_px, col1_px, seam, .. } in seams {
            runs.entry(seam).or_default().push(EdgeRun { row: row_px, col0: col0_px, col1: col1_px });
        }
        for row in &blobs {
            match row.seam {
                None => scenes.entry(row.scene.clone()).or_default().complete.push(row.blob()),
                Some(seam) => {
                    let runs = runs.remove(&seam).with_context(|| {
                        format!("{}: blob {seam} has no line in seams.csv", shard.folder.display())
                    })?;
                    open.entry(&row.scene).or_default().push(OpenBlob { blob: row.blob(), runs });
                }
            }
        }
        for outcome in &shard.manifest.scenes {
            let parts = scenes.entry(outcome.scene.clone()).or_default();
            parts.georef = parts.georef.or(outcome.georef);
            if outcome.failed.is_none() {
                parts.pieces.extend(pieces(outcome, open.remove(outcome.scene.as_str()).unwrap_or_default()));
            }
        }
    }
    let manifest = found.shards.first().map(|shard| &shard.manifest);
    let (min_area_px, min_score) = manifest.map_or((0, 0.0), |m| (m.min_area_px, m.min_score));
    let mut impacts = Vec::new();
    for (name, parts) in scenes {
        let mut blobs = parts.complete;
        blobs.extend(stitch(parts.pieces).into_iter().flat_map(finish));
        blobs.retain(|blob| blob.counts(min_area_px, min_score));
        blobs.sort_by_key(catalogue_order);
        for blob in blobs {
            let id = impacts.len() as u64 + 1;
            impacts.push(impact(id, &name, &blob, parts.georef.as_ref()));
        }
    }
    Ok(impacts)
}

/// A shard's contiguous pieces of a scene, with only what is open in them: complete blobs need no stitching.
fn pieces(outcome: &SceneOutcome, mut open: Vec<OpenBlob>) -> Vec<LabelledBand> {
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
fn impact(id: u64, scene: &str, blob: &Blob, georef: Option<&GeoRef>) -> Impact {
    let area = blob.area_px as f64;
    let centre = ScenePx { row: blob.row_sum as f64 / area, col: blob.col_sum as f64 / area };
    let diameter = |area: f64| rounded(2.0 * (area / std::f64::consts::PI).sqrt(), 2);
    let place = georef.map(|georef| georef.lonlat(centre));
    Impact {
        id,
        scene: scene.to_owned(),
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
