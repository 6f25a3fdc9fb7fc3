//! What a network took for an impact where the mask has none, ranked by how wrong it was.
//!
//! The error of a mistake is the sum of the squared probabilities over the crop around it, of the pixels
//! where the mask is empty. Of a catalogue's line that crop is not known, and the error is its area times
//! its squared score: what the blob alone adds at least.

use serde::{Deserialize, Serialize};

use super::crops::{TrainingScene, centroid, diameter};
use crate::detect::components::{LabelledBand, label_band};
use crate::detect::stitch::{finish, stitch};
use crate::records::{Blob, Impact};
use crate::verdict::Said;

/// One line of `mined.csv`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MinedRow {
    /// From 1, the most wrong.
    pub rank: u64,
    /// The scene's `file_name`.
    pub scene: String,
    /// Centroid.
    pub row_px: f64,
    /// Centroid.
    pub col_px: f64,
    /// Of the circle of equal area.
    pub diameter_px: f64,
    /// Pixels.
    pub area_px: u64,
    /// Mean probability, 0..=1.
    pub score: f64,
    /// Highest probability, 0..=1.
    pub peak: f64,
    /// The crop around it: top row; less than 0 above the scene.
    pub row0_px: i64,
    /// Left column; less than 0 left of the scene.
    pub col0_px: i64,
    /// Side.
    pub side_px: u64,
    /// Of the crop: the sum of squared probabilities where the mask is empty.
    pub error: f64,
    /// `scan`, `catalogue`, `verdict` of a human who rejected it, or `confirmed` by one.
    pub source: String,
    /// blake3 of the weights; empty where it is not known.
    pub model: String,
    /// Probability from which a pixel was taken for impact; empty where it is not known.
    pub threshold: Option<f64>,
    /// Lowest mean probability of a candidate; empty where it is not known.
    pub min_score: Option<f64>,
    /// Its number among the candidates of its scan's scene, or in its catalogue.
    pub id: u64,
    /// Who said so, where a human did.
    #[serde(default)]
    pub reviewer: String,
    /// When, UTC (RFC 3339).
    #[serde(default)]
    pub time: String,
}

/// The `source` of what a human accepted: no mistake, and never a hard negative.
pub const CONFIRMED: &str = "confirmed";

/// The names of the columns of `confirmed.csv`: those of a [`MinedRow`], and whether the mask has the impact.
pub fn confirmed_header() -> Vec<&'static str> {
    MINED_HEADER.into_iter().chain(["in_mask"]).collect()
}

/// The names of a [`MinedRow`]'s columns.
pub const MINED_HEADER: [&str; 19] = [
    "rank",
    "scene",
    "row_px",
    "col_px",
    "diameter_px",
    "area_px",
    "score",
    "peak",
    "row0_px",
    "col0_px",
    "side_px",
    "error",
    "source",
    "model",
    "threshold",
    "min_score",
    "id",
    "reviewer",
    "time",
];

/// What every line of a run says of where it comes from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Origin {
    /// `scan`, `catalogue` or `verdict`.
    pub source: String,
    /// blake3 of the weights.
    pub model: String,
    /// Probability from which a pixel is impact.
    pub threshold: Option<f64>,
    /// Lowest mean probability of a candidate.
    pub min_score: Option<f64>,
    /// Side of the crops.
    pub side_px: usize,
}

/// Mistakes, and how many candidates were none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mined {
    /// In the order they were found.
    pub rows: Vec<MinedRow>,
    /// Candidates on an impact of the mask: left out.
    pub on_impacts: usize,
}

impl Mined {
    /// Takes in what another scene gave.
    pub fn extend(&mut self, other: Self) {
        self.rows.extend(other.rows);
        self.on_impacts += other.on_impacts;
    }

    /// Puts the most wrong first, and keeps the first `at_most`.
    pub fn rank(&mut self, at_most: usize) {
        self.rows.sort_by(|a, b| {
            let place = |row: &MinedRow| (row.scene.clone(), row.row0_px, row.col0_px, row.id);
            b.error.total_cmp(&a.error).then_with(|| place(a).cmp(&place(b)))
        });
        self.rows.truncate(at_most);
        (1..).zip(&mut self.rows).for_each(|(rank, row)| row.rank = rank);
    }
}

/// Collects the mistakes of one scene, a band at a time from the top down.
pub struct SceneMiner<'a> {
    scene: &'a TrainingScene,
    level: u8,
    side_px: usize,
    /// Side of the squares that errors are added up in: crops are made of whole ones.
    cell_px: usize,
    across: usize,
    /// Sums of squared probabilities, 0..=255 each, of the pixels where the mask is empty.
    cells: Vec<u32>,
    bands: Vec<LabelledBand>,
}

/// Largest cell: its sum of squares fits in 32 bits, and a scene's cells in a 64th of its bytes.
const CELL_PX: usize = 16;

impl<'a> SceneMiner<'a> {
    /// For crops of `side_px`; a pixel is taken for impact from `level` (0..=255) on.
    pub fn new(scene: &'a TrainingScene, level: u8, side_px: usize) -> Self {
        let cell_px =
            (0..=CELL_PX.ilog2()).map(|k| 1 << k).filter(|cell| side_px.is_multiple_of(*cell)).max();
        let cell_px = cell_px.unwrap_or(1);
        let across = (scene.cols() as usize).div_ceil(cell_px);
        let cells = vec![0; across * (scene.rows() as usize).div_ceil(cell_px)];
        Self { scene, level, side_px, cell_px, across, cells, bands: Vec::new() }
    }

    /// Takes in the probabilities, `[rows, cols]`, of the rows from `row0`.
    pub fn take(&mut self, row0: u64, probabilities: &[u8]) {
        let cols = self.scene.cols() as usize;
        let square = |p: u8| u32::from(p) * u32::from(p);
        for (row, line) in (row0..).zip(probabilities.chunks_exact(cols)) {
            let first = row as usize / self.cell_px * self.across;
            let cells = &mut self.cells[first..first + self.across];
            for (cell, part) in cells.iter_mut().zip(line.chunks(self.cell_px)) {
                *cell += part.iter().map(|p| square(*p)).sum::<u32>();
            }
            self.scene.mask().row(row, |impact| {
                impact.for_each(|col| cells[col / self.cell_px] -= square(line[col]));
            });
        }
        self.bands.push(label_band(row0, cols, probabilities, self.level));
    }

    /// The mistakes among the blobs of at least `min_area_px` and `origin.min_score`.
    pub fn finish(mut self, name: &str, min_area_px: u64, origin: &Origin) -> Mined {
        let least = origin.min_score.unwrap_or(0.0);
        let blobs = stitch(std::mem::take(&mut self.bands)).into_iter().flat_map(finish);
        let mut mined = Mined::default();
        for (id, blob) in (1..).zip(blobs.filter(|blob| blob.counts(min_area_px, least))) {
            let ((row, col), diameter_px) = (centroid(&blob), diameter(&blob));
            if self.scene.on_impact(row, col, diameter_px) {
                mined.on_impacts += 1;
                continue;
            }
            mined.rows.push(self.row(name, id, &blob, origin));
        }
        mined
    }

    fn row(&self, name: &str, id: u64, blob: &Blob, origin: &Origin) -> MinedRow {
        let (row_px, col_px) = centroid(blob);
        let cell = self.cell_px as f64;
        let corner = |middle: f64| {
            let half = self.side_px as f64 / 2.0;
            ((middle - half) / cell).round() as i64 * self.cell_px as i64
        };
        let (row0_px, col0_px) = (corner(row_px), corner(col_px));
        MinedRow {
            rank: 0,
            scene: name.to_owned(),
            row_px: rounded(row_px, 2),
            col_px: rounded(col_px, 2),
            diameter_px: rounded(diameter(blob), 2),
            area_px: blob.area_px,
            score: rounded(blob.score(), 4),
            peak: rounded(f64::from(blob.peak) / 255.0, 4),
            row0_px,
            col0_px,
            side_px: self.side_px as u64,
            error: self.error(row0_px, col0_px),
            source: origin.source.clone(),
            model: origin.model.clone(),
            threshold: origin.threshold,
            min_score: origin.min_score,
            id,
            reviewer: String::new(),
            time: String::new(),
        }
    }

    /// Of the crop at a corner that is a cell's.
    fn error(&self, row0: i64, col0: i64) -> f64 {
        let cells = (self.side_px / self.cell_px) as i64;
        let (down, right) = (row0 / self.cell_px as i64, col0 / self.cell_px as i64);
        let last = (self.cells.len() / self.across) as i64;
        let mut sum = 0u64;
        for row in down.max(0)..(down + cells).min(last) {
            for col in right.max(0)..(right + cells).min(self.across as i64) {
                sum += u64::from(self.cells[row as usize * self.across + col as usize]);
            }
        }
        rounded(sum as f64 / (255.0 * 255.0), 3)
    }
}

fn rounded(value: f64, places: i32) -> f64 {
    let scale = 10f64.powi(places);
    (value * scale).round() / scale
}

/// The mistakes among a catalogue's lines of one scene, each with what a human said of it, if one did.
pub fn from_catalogue<'a>(
    scene: &TrainingScene,
    lines: impl IntoIterator<Item = (&'a Impact, Option<&'a Said>)>,
    origin: &Origin,
) -> Mined {
    let mut mined = Mined::default();
    for (line, said) in lines {
        if scene.on_impact(line.row_px, line.col_px, line.diameter_px) {
            mined.on_impacts += 1;
        } else {
            mined.rows.push(of_line(line, said, line.area_px as f64 * line.score * line.score, origin));
        }
    }
    mined
}

/// A catalogue's lines of one scene that a human accepted, and whether the mask has an impact there. What a blob
/// lacks of being sure, its area times the square of that, takes the place of the error.
pub fn confirmed<'a>(
    scene: &TrainingScene,
    lines: impl IntoIterator<Item = (&'a Impact, &'a Said)>,
    origin: &Origin,
) -> Vec<(MinedRow, bool)> {
    let origin = Origin { source: CONFIRMED.into(), ..origin.clone() };
    let row = |(line, said): (&Impact, &Said)| {
        let lack = 1.0 - line.score;
        let row = of_line(line, Some(said), line.area_px as f64 * lack * lack, &origin);
        (row, scene.on_impact(line.row_px, line.col_px, line.diameter_px))
    };
    lines.into_iter().map(row).collect()
}

fn of_line(line: &Impact, said: Option<&Said>, error: f64, origin: &Origin) -> MinedRow {
    let corner = |middle: f64| (middle - origin.side_px as f64 / 2.0).round() as i64;
    MinedRow {
        rank: 0,
        scene: line.scene.clone(),
        row_px: line.row_px,
        col_px: line.col_px,
        diameter_px: line.diameter_px,
        area_px: line.area_px,
        score: line.score,
        peak: line.peak,
        row0_px: corner(line.row_px),
        col0_px: corner(line.col_px),
        side_px: origin.side_px as u64,
        error: rounded(error, 3),
        source: origin.source.clone(),
        model: origin.model.clone(),
        threshold: origin.threshold,
        min_score: origin.min_score,
        id: line.id,
        reviewer: said.map_or_else(String::new, |said| said.reviewer.clone()),
        time: said.map_or_else(String::new, |said| said.time.clone()),
    }
}
