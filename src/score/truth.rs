//! Where the impacts are: from truth tables, or measured on masks.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::config::InputSettings;
use crate::detect::components::label_band;
use crate::detect::stitch::{finish, stitch};
use crate::raster::MappedScene;
use crate::table::read_rows;

/// An impact that is there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrueImpact {
    /// Centroid.
    pub row: f64,
    /// Centroid.
    pub col: f64,
    /// Of the circle of equal area, px.
    pub diam_px: f64,
}

#[derive(Deserialize)]
struct TruthRow {
    scene: Option<String>,
    row: f64,
    col: f64,
    diam_px: f64,
}

/// Rows of a mask measured in one piece.
const BAND_ROWS: u64 = 2048;
const ENDS: [&str; 3] = ["_truth.csv", "_gt.tif", "_mask.tif"];

/// The truth of each scene: of a CSV (column `scene`, or the scene in its name), a mask TIFF
/// (`NAME_gt.tif`, `NAME_mask.tif`), or a folder of either; where a scene has both, the CSV counts.
///
/// # Errors
/// If nothing of the kind is there, or cannot be read.
pub fn read(path: &Path) -> Result<BTreeMap<String, Vec<TrueImpact>>> {
    let mut files = vec![path.to_owned()];
    if path.is_dir() {
        let entries = fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?;
        files = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        files.retain(|file| ENDS.iter().any(|end| name(file).ends_with(end)));
        // Tables first, so that a mask of the same scene is not measured again.
        files.sort_by_key(|file| (!is_table(file), file.clone()));
    }
    let mut truth: BTreeMap<String, Vec<TrueImpact>> = BTreeMap::new();
    let mut tables: BTreeMap<String, PathBuf> = BTreeMap::new();
    for file in files {
        let name = name(&file);
        let scene = ENDS
            .iter()
            .find_map(|end| name.strip_suffix(end))
            .unwrap_or_else(|| file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default());
        if !is_table(&file) {
            if !truth.contains_key(scene) {
                truth.insert(scene.to_owned(), from_mask(&file)?);
            }
            continue;
        }
        let rows: Vec<TruthRow> = read_rows(&file)?;
        if rows.iter().all(|row| row.scene.is_none()) {
            truth.entry(scene.to_owned()).or_default();
        }
        for TruthRow { scene: own, row, col, diam_px } in rows {
            ensure!(
                row.is_finite() && col.is_finite() && diam_px.is_finite() && diam_px >= 0.0,
                "{}: an impact at {row}, {col} of {diam_px} px: not a place and a diameter",
                file.display()
            );
            let scene = own.unwrap_or_else(|| scene.to_owned());
            let table = tables.entry(scene.clone()).or_insert_with(|| file.clone());
            ensure!(
                *table == file,
                "the truth of {scene} is in {} and in {}: remove it from one of them",
                table.display(),
                file.display()
            );
            truth.entry(scene).or_default().push(TrueImpact { row, col, diam_px });
        }
    }
    ensure!(
        !truth.is_empty(),
        "no truth in {}: NAME_truth.csv, NAME_gt.tif or NAME_mask.tif",
        path.display()
    );
    Ok(truth)
}

fn is_table(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "csv")
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The connected non-zero pixels of a mask.
///
/// # Errors
/// If it cannot be read.
pub fn from_mask(path: &Path) -> Result<Vec<TrueImpact>> {
    let mask = MappedScene::open(path, InputSettings::MASK)?;
    let (rows, cols) = (mask.header().rows, mask.header().cols);
    let mut bands = Vec::new();
    for row0 in (0..rows).step_by(BAND_ROWS as usize) {
        let row1 = (row0 + BAND_ROWS).min(rows);
        let band = mask.rows(row0..row1)?;
        let pixels: Vec<u8> = (row0..row1).flat_map(|row| band.row(row)).copied().collect();
        bands.push(label_band(row0, cols as usize, &pixels, 1));
        band.unchanged()?;
    }
    let blobs = stitch(bands).into_iter().flat_map(finish);
    let impact = |area: f64, row_sum: u64, col_sum: u64| TrueImpact {
        row: row_sum as f64 / area,
        col: col_sum as f64 / area,
        diam_px: 2.0 * (area / std::f64::consts::PI).sqrt(),
    };
    Ok(blobs.map(|blob| impact(blob.area_px as f64, blob.row_sum, blob.col_sum)).collect())
}
