//! What crosses a process or a disk: plain fields, units in the names.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::space::PixelRect;

/// One line of a scene list: `file_name,height,width`, then what is optional.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SceneRecord {
    /// Unique in the list; what the catalogue's `scene` column says.
    pub file_name: String,
    /// Rows, as the header says.
    #[serde(rename = "height")]
    pub rows: u64,
    /// Columns, as the header says.
    #[serde(rename = "width")]
    pub cols: u64,
    /// Where the TIFF is, relative to the list's folder; without it, `file_name` (`.tif` is tried too).
    #[serde(default)]
    pub path: Option<PathBuf>,
    /// Pixels that are not no-data, where someone counted them: what the plan balances.
    #[serde(default)]
    pub valid_px: Option<u64>,
    /// Mask TIFF of the same size, relative to the list's folder; non-zero is impact.
    #[serde(default)]
    pub mask: Option<PathBuf>,
}

/// Contiguous rows of one scene: what is read, inferred and measured in one piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Band {
    /// Index into the scene list.
    pub scene: usize,
    /// First row.
    pub row0: u64,
    /// One past the last row.
    pub row1: u64,
}

/// The bands of one array index, in scene and row order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// Counted from 0.
    pub index: usize,
    /// How many shards the plan has.
    pub count: usize,
    /// What this one scans.
    pub bands: Vec<Band>,
}

/// A connected group of pixels over the threshold, as exact integers: adding two is associative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    /// Pixels.
    pub area_px: u64,
    /// Sum of the pixels' rows.
    pub row_sum: u64,
    /// Sum of the pixels' columns.
    pub col_sum: u64,
    /// Sum of the pixels' probabilities, each 0..=255.
    pub score_sum: u64,
    /// Highest probability, 0..=255.
    pub peak: u8,
    /// The box that holds it.
    pub rect: PixelRect,
}

impl Blob {
    /// Whether a complete blob is an impact: large enough, and its mean probability high enough.
    pub fn counts(&self, min_area_px: u64, min_score: f64) -> bool {
        self.area_px >= min_area_px && self.score() >= min_score
    }

    /// Mean probability, 0..=1.
    pub fn score(&self) -> f64 {
        self.score_sum as f64 / (255.0 * self.area_px as f64)
    }
}

/// One line of a shard's `impacts.csv`: a blob of a scene. `seam` numbers, within the shard, the blobs
/// that touch the first or last row of a run of bands and may go on in another shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobRow {
    /// The scene's `file_name`.
    pub scene: String,
    /// Pixels.
    pub area_px: u64,
    /// Sum of the pixels' rows.
    pub row_sum: u64,
    /// Sum of the pixels' columns.
    pub col_sum: u64,
    /// Sum of the pixels' probabilities, each 0..=255.
    pub score_sum: u64,
    /// Highest probability, 0..=255.
    pub peak: u8,
    /// The box's first row.
    pub row0_px: u64,
    /// The box's first column.
    pub col0_px: u64,
    /// One past the box's last row.
    pub row1_px: u64,
    /// One past the box's last column.
    pub col1_px: u64,
    /// The number its runs carry in `seams.csv`; empty for a blob that is complete.
    pub seam: Option<u64>,
}

impl BlobRow {
    /// A line for `blob` of `scene`.
    pub fn new(scene: &str, blob: &Blob, seam: Option<u64>) -> Self {
        let PixelRect { row0, col0, row1, col1 } = blob.rect;
        Self {
            scene: scene.to_owned(),
            area_px: blob.area_px,
            row_sum: blob.row_sum,
            col_sum: blob.col_sum,
            score_sum: blob.score_sum,
            peak: blob.peak,
            row0_px: row0,
            col0_px: col0,
            row1_px: row1,
            col1_px: col1,
            seam,
        }
    }

    /// The blob of this line.
    pub fn blob(&self) -> Blob {
        Blob {
            area_px: self.area_px,
            row_sum: self.row_sum,
            col_sum: self.col_sum,
            score_sum: self.score_sum,
            peak: self.peak,
            rect: PixelRect {
                row0: self.row0_px,
                col0: self.col0_px,
                row1: self.row1_px,
                col1: self.col1_px,
            },
        }
    }
}

/// One line of a shard's `seams.csv`: pixels `col0_px..col1_px` of `row_px` belong to blob `seam`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeamRow {
    /// The scene's `file_name`.
    pub scene: String,
    /// First or last row of a run of bands.
    pub row_px: u64,
    /// First column.
    pub col0_px: u64,
    /// One past the last column.
    pub col1_px: u64,
    /// The blob's number in this shard's `impacts.csv`.
    pub seam: u64,
}

/// One line of a shard's `probabilities.csv`: where in its `probabilities.bin` rows of a scene are, packed by Deflate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartRow {
    /// The scene's `file_name`.
    pub scene: String,
    /// First row.
    pub row0_px: u64,
    /// One past the last row.
    pub row1_px: u64,
    /// First byte.
    pub start: u64,
    /// Bytes.
    pub bytes: u64,
}

/// One line of the catalogue. Map columns are empty where the scene is not georeferenced.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Impact {
    /// Counted from 1 in catalogue order.
    pub id: u64,
    /// The scene's `file_name`.
    pub scene: String,
    /// Centroid; the top-left pixel's centre is 0.
    pub row_px: f64,
    /// Centroid; the top-left pixel's centre is 0.
    pub col_px: f64,
    /// Planetocentric.
    pub lat_deg: Option<f64>,
    /// East-positive, 0..360.
    pub lon_deg: Option<f64>,
    /// Of the circle of equal area on the ground.
    pub diameter_m: Option<f64>,
    /// Of the circle of equal area in the picture.
    pub diameter_px: f64,
    /// Pixels.
    pub area_px: u64,
    /// Mean probability, 0..=1.
    pub score: f64,
    /// Highest probability, 0..=1.
    pub peak: f64,
    /// The box's first row.
    pub row0_px: u64,
    /// The box's first column.
    pub col0_px: u64,
    /// One past the box's last row.
    pub row1_px: u64,
    /// One past the box's last column.
    pub col1_px: u64,
}

/// One line of `timing.csv`: a stage of a band. The stages of a band add up to its wall time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimingRow {
    /// Counted from 0.
    pub shard: usize,
    /// The scene's `file_name`.
    pub scene: String,
    /// The band's first row.
    pub band: u64,
    /// open, read, decode, infer, label, write or wait.
    pub stage: String,
    /// Since the shard began.
    pub start_s: f64,
    /// How long.
    pub seconds: f64,
    /// Bytes read or written.
    pub bytes: u64,
    /// Pixels worked on.
    pub pixels: u64,
    /// Network windows run.
    pub windows: u64,
    /// The machine's name.
    pub host: String,
    /// What the network ran on.
    pub device: String,
}

/// Squared error of the probabilities of ground pixels against a mask, as exact integers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PixelError {
    /// Pixels that are not no-data.
    pub pixels: u64,
    /// Of those, impact in the mask.
    pub truth_px: u64,
    /// Sum of the squared differences, each between 0..=255 and 0 or 255.
    pub squared: u64,
}

impl PixelError {
    /// Takes in a row of the scene, its mask and its probabilities.
    pub fn add_row(&mut self, pixels: &[u8], mask: &[u8], probabilities: &[u8]) {
        for ((_, &m), &p) in pixels.iter().zip(mask).zip(probabilities).filter(|((v, _), _)| **v != 0) {
            let impact = m != 0;
            let off = u64::from(if impact { 255 - p } else { p });
            self.pixels += 1;
            self.truth_px += u64::from(impact);
            self.squared += off * off;
        }
    }

    /// Both added.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            pixels: self.pixels + other.pixels,
            truth_px: self.truth_px + other.truth_px,
            squared: self.squared + other.squared,
        }
    }

    /// Mean squared error of the probabilities, %.
    pub fn mse_percent(&self) -> f64 {
        100.0 * self.squared as f64 / (255.0 * 255.0 * self.pixels as f64)
    }

    /// The same where no impact is ever predicted, %.
    pub fn nothing_percent(&self) -> f64 {
        100.0 * self.truth_px as f64 / self.pixels as f64
    }
}

/// What a shard did to one scene, in `shard.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SceneOutcome {
    /// The scene's `file_name`.
    pub scene: String,
    /// The file that was read, absolute: what pictures of the finds are taken from.
    #[serde(default)]
    pub file: Option<PathBuf>,
    /// What [`crate::raster::MappedScene::look`] said of it: shards of one run have read the same image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub look: Option<String>,
    /// Rows of the whole scene; 0 where an older program did not say.
    #[serde(default)]
    pub rows: u64,
    /// Columns of the scene; 0 where an older program did not say.
    #[serde(default)]
    pub cols: u64,
    /// Rows this shard had, as half-open pairs.
    pub row_runs: Vec<(u64, u64)>,
    /// Pixels of those rows.
    pub pixels: u64,
    /// Of those, pixels that are not no-data.
    pub valid_px: u64,
    /// Their area on Mars, m²: what a rate of impacts is of.
    #[serde(default)]
    pub valid_m2: Option<f64>,
    /// Pixels that went through the network, halos and padding included; where its layers take fewer than others, in the
    /// mean over its operations.
    pub computed_px: u64,
    /// Valid pixels that a first look at reduced resolution did not leave out, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looked_px: Option<u64>,
    /// Why it failed, if it did; none of its blobs are then published by this shard.
    pub failed: Option<String>,
    /// How its pixels lie on Mars, if the file says so.
    pub georef: Option<crate::geo::GeoRef>,
    /// The tags that say so, where its probabilities were kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub geo_tags: Option<crate::geo::GeoTags>,
    /// Against its mask, where the scan was told to look at it.
    #[serde(default)]
    pub pixel_error: Option<PixelError>,
}

/// `shard.json`: what was run, on what, and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShardManifest {
    /// Counted from 0.
    pub shard: usize,
    /// How many shards the plan has.
    pub shards: usize,
    /// Ids that must agree for results to be merged.
    pub ids: RunIds,
    /// Pixels of all scenes of the list, so that a merge knows what share of the work it has.
    #[serde(default)]
    pub planned_px: Option<u64>,
    /// Settings that decide which blobs are published: connected pixels, at least.
    pub min_area_px: u64,
    /// Settings that decide which blobs are published: mean probability times 255, at least.
    pub min_score: f64,
    /// The machine's name.
    pub host: String,
    /// What the network ran on.
    pub device: String,
    /// Threads.
    pub threads: usize,
    /// Scheduler variables worth keeping (job id, array index), name and value.
    pub scheduler: Vec<(String, String)>,
    /// The command line.
    pub command: Vec<String>,
    /// Wall time of the tasks that worked on it, without the pauses between them.
    pub seconds: f64,
    /// Tasks that worked on it: more than one where some were stopped or killed.
    #[serde(default)]
    pub tasks: usize,
    /// Whether a merge is to draw the scenes with what was found.
    #[serde(default)]
    pub overlay: bool,
    /// When it began, seconds since 1970; 0 where an older program did not say.
    #[serde(default)]
    pub started_unix_s: f64,
    /// When it ended, seconds since 1970; 0 where an older program did not say.
    #[serde(default)]
    pub ended_unix_s: f64,
    /// Largest private memory (`RssAnon`) seen.
    pub peak_rss_anon_bytes: u64,
    /// What was done, a scene each.
    pub scenes: Vec<SceneOutcome>,
    /// blake3 of each file beside this one, name and hash.
    pub files: Vec<(String, String)>,
    /// blake3 of this file's text with 64 zeros in this place.
    #[serde(default)]
    pub seal: String,
}

/// What a result depends on: two shards with other ids are never mixed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunIds {
    /// blake3 of the scene list's records.
    pub scene_list: String,
    /// blake3 of the settings that change a result.
    pub settings: String,
    /// blake3 of the weights file; empty for the threshold.
    pub weights: String,
    /// Program version.
    pub version: String,
}
