//! What an earlier network took for an impact: hard negatives, and where they come from.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::crops::TrainingScene;
use super::mining::CONFIRMED;
use crate::fault::WrongUsage;
use crate::table::read_rows;

/// Something that a scan found: a line of its catalogue, or of `mined.csv`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// The scene's `file_name`.
    pub scene: String,
    /// Centroid.
    pub row_px: f64,
    /// Centroid.
    pub col_px: f64,
    /// Of the circle of equal area, where it is known.
    pub diameter_px: Option<f64>,
    /// blake3 of the weights that found it, where it is known.
    pub model: Option<String>,
    /// The probability from which that scan took a pixel for impact, where it is known.
    pub threshold: Option<f64>,
    /// `scan`, `catalogue` or `verdict`, where it is known.
    pub source: Option<String>,
}

/// The columns that a file of candidates must have.
const NEEDED: [&str; 3] = ["scene", "row_px", "col_px"];

/// A file of candidates.
#[derive(Clone, Debug, Default)]
pub struct Candidates {
    /// Where it is.
    pub file: PathBuf,
    /// In its order.
    pub lines: Vec<Candidate>,
}

impl Candidates {
    /// Reads `mined.csv` or a catalogue.
    ///
    /// # Errors
    /// [`WrongUsage`] if the file cannot be read, or has no such columns.
    pub fn read(file: &Path) -> Result<Self> {
        let wrong = |why: String| WrongUsage(format!("hard negatives {}: {why}", file.display()));
        let header = csv::Reader::from_path(file).and_then(|mut reader| reader.headers().cloned());
        let header = header.map_err(|why| wrong(why.to_string()))?;
        let missing: Vec<&str> =
            NEEDED.into_iter().filter(|name| header.iter().all(|there| there != *name)).collect();
        if !missing.is_empty() {
            let columns = missing.join(", ");
            return Err(wrong(format!("no column {columns}: give mined.csv or a catalogue")).into());
        }
        let lines = read_rows(file).map_err(|why| WrongUsage(format!("hard negatives: {why:#}")))?;
        Ok(Self { file: file.to_owned(), lines })
    }
}

/// Where a run's hard negatives come from, for the metadata of its weights.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Provenance {
    /// Candidates given.
    pub given: usize,
    /// Of these, on an impact of the mask, and left out.
    pub on_impacts: usize,
    /// blake3 of the weights that found them.
    pub models: BTreeSet<String>,
    /// Their thresholds, as written.
    pub thresholds: BTreeSet<String>,
    /// `scan`, `catalogue`, `verdict`.
    pub sources: BTreeSet<String>,
    /// How many of each scene are shown.
    pub scenes: BTreeMap<String, usize>,
}

/// Hands each scene its candidates.
///
/// # Errors
/// [`WrongUsage`] if one is of another scene than `names`, or lies outside its scene; the message names the file.
pub fn hand_out(candidates: &Candidates, names: &[&str], scenes: &mut [TrainingScene]) -> Result<Provenance> {
    let given = hand_out_each(&candidates.lines, names, scenes);
    given.with_context(|| format!("hard negatives {} cannot be used", candidates.file.display()))
}

fn hand_out_each(
    candidates: &[Candidate],
    names: &[&str],
    scenes: &mut [TrainingScene],
) -> Result<Provenance> {
    let mut come = Provenance { given: candidates.len(), ..Provenance::default() };
    for candidate in candidates {
        let Some(at) = names.iter().position(|name| *name == candidate.scene) else {
            let message = format!(
                "the hard negatives name {}, which is no training scene: scan the training scenes only",
                candidate.scene
            );
            return Err(WrongUsage(message).into());
        };
        if candidate.source.as_deref() == Some(CONFIRMED) {
            let message = format!(
                "the hard negatives have an impact of {} that a human confirmed: give mined.csv, not confirmed.csv",
                candidate.scene
            );
            return Err(WrongUsage(message).into());
        }
        let scene = &mut scenes[at];
        let (row, col) = (candidate.row_px, candidate.col_px);
        if !((0.0..scene.rows() as f64).contains(&row) && (0.0..scene.cols() as f64).contains(&col)) {
            let (name, rows, cols) = (&candidate.scene, scene.rows(), scene.cols());
            let message =
                format!("a hard negative at {row}, {col} lies outside {name} of {rows} x {cols} px");
            return Err(WrongUsage(message).into());
        }
        come.models.extend(candidate.model.clone());
        come.thresholds.extend(candidate.threshold.map(|threshold| threshold.to_string()));
        come.sources.extend(candidate.source.clone());
        let right = scene.add_candidates([candidate]);
        come.on_impacts += right;
        *come.scenes.entry(candidate.scene.clone()).or_default() += 1 - right;
    }
    Ok(come)
}
