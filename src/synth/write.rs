//! A drawn scene as files: picture, mask, truth, and its line in the folder's scene list.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{Scene, SynthSpec, Truth};
use crate::geo::GeoTags;
use crate::plan::SceneList;
use crate::raster::writer::StripWriter;
use crate::records::SceneRecord;
use crate::table::{read_rows, write_rows};

/// Rows drawn before they are written.
const BLOCK_ROWS: u64 = 256;
/// Pixel side of a georeferenced scene, m: that of CTX.
const METRES_PER_PX: f64 = 6.0;
/// Mars' equatorial radius, m (IAU 2015).
const RADIUS_M: f64 = 3_396_190.0;

/// What was written.
#[derive(Clone, Debug)]
pub struct Written {
    /// The scene list with the scene in it.
    pub list: PathBuf,
    /// The impacts that found room.
    pub truth: Vec<Truth>,
    /// Pixels that are not no-data.
    pub valid_px: u64,
}

/// Draws a scene into `out`: `NAME.tif`, `NAME_mask.tif`, `NAME_truth.csv`, and a line in `scenes.csv`.
///
/// # Errors
/// If a file cannot be written.
pub fn write(spec: &SynthSpec, name: &str, out: &Path, georeferenced: bool) -> Result<Written> {
    fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    let scene = Scene::new(spec);
    let (picture_name, mask_name) = (format!("{name}.tif"), format!("{name}_mask.tif"));
    let tags = georeferenced.then(geo_tags);
    let mut picture = StripWriter::create(&out.join(&picture_name), spec.rows, spec.cols, tags)?;
    let mut mask = StripWriter::create(&out.join(&mask_name), spec.rows, spec.cols, None)?;
    let block = (BLOCK_ROWS * spec.cols) as usize;
    let (mut pixels, mut marks) = (vec![0; block], vec![0; block]);
    let mut valid_px = 0;
    for row0 in (0..spec.rows).step_by(BLOCK_ROWS as usize) {
        let row1 = (row0 + BLOCK_ROWS).min(spec.rows);
        let used = ((row1 - row0) * spec.cols) as usize;
        valid_px += scene.rows(row0..row1, &mut pixels[..used], &mut marks[..used]);
        picture.append(&pixels[..used])?;
        mask.append(&marks[..used])?;
    }
    picture.finish()?;
    mask.finish()?;
    let truth = scene.truth();
    write_truth(&out.join(format!("{name}_truth.csv")), &truth)?;
    let record = SceneRecord {
        file_name: name.to_owned(),
        rows: spec.rows,
        cols: spec.cols,
        path: Some(picture_name.into()),
        valid_px: Some(valid_px),
        mask: Some(mask_name.into()),
    };
    let list = out.join("scenes.csv");
    // Others that draw into the folder wait for this list; where the file system has no locks, none does.
    let folder = File::open(out).with_context(|| format!("cannot open {}", out.display()))?;
    drop(folder.lock());
    let mut records: Vec<SceneRecord> = if list.exists() { read_rows(&list)? } else { Vec::new() };
    records.retain(|other| other.file_name != record.file_name);
    records.push(record);
    records.sort_by(|a, b| a.file_name.cmp(&b.file_name));
    SceneList::write(&list, &records)?;
    Ok(Written { list, truth, valid_px })
}

fn write_truth(path: &Path, truth: &[Truth]) -> Result<()> {
    let rows: Vec<_> = truth
        .iter()
        .enumerate()
        .map(|(k, t)| {
            let [row, col, diameter] = [t.row, t.col, t.diameter_px].map(|v| format!("{v:.2}"));
            (k + 1, row, col, diameter, t.area_px)
        })
        .collect();
    write_rows(path, &["id", "row", "col", "diam_px", "area_px"], &rows)
}

/// Equirectangular, true scale at the equator, the upper left corner at 18 E 8.5 N.
fn geo_tags() -> GeoTags {
    let metres = |deg: f64| deg.to_radians() * RADIUS_M;
    let keys: [[u64; 4]; 10] = [
        [1, 1, 0, 9],
        [1024, 0, 1, 1],
        [1025, 0, 1, 1],
        [2048, 0, 1, 32767],
        [2057, 34736, 1, 0],
        [2058, 34736, 1, 0],
        [3072, 0, 1, 32767],
        [3075, 0, 1, 17],
        [3078, 34736, 1, 1],
        [3088, 34736, 1, 2],
    ];
    GeoTags {
        pixel_scale: vec![METRES_PER_PX, METRES_PER_PX, 0.0],
        tiepoints: vec![0.0, 0.0, 0.0, 0.0, metres(8.5), 0.0],
        directory: keys.concat(),
        doubles: vec![RADIUS_M, 0.0, 18.0],
        ..GeoTags::default()
    }
}
