//! The catalogue's lines that a page shows: read twice, so that of millions only the shown ones are kept.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::order::{Entry, Kind, rank};
use crate::fault::WrongUsage;
use crate::records::Impact;
use crate::verdict::Numbers;

/// A line of the catalogue.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The usual columns.
    pub impact: Impact,
    /// Those of a merge with `--repeat`.
    pub change: Change,
}

/// How much the place differs in another scene, where the catalogue says so.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Change {
    /// The other scene.
    pub repeat_scene: Option<String>,
    /// 0..=1.
    pub change_score: Option<f64>,
}

/// The candidates to be shown, and what the catalogue is.
pub struct Chosen {
    /// In the order of the page.
    pub candidates: Vec<Candidate>,
    /// Lines of the catalogue.
    pub all: u64,
    /// blake3 of which impact has which number: what verdicts hold for, whatever columns were added.
    pub id: String,
}

/// The first `at_most` lines of the catalogue at `path` in the order of `kinds`.
///
/// # Errors
/// If it cannot be read.
pub fn choose(path: &Path, at_most: usize, kinds: &[Kind]) -> Result<Chosen> {
    let (mut entries, mut hasher, mut scenes) = (Vec::new(), Numbers::default(), (0, String::new()));
    each(path, |impact, _| {
        hasher.add(&impact);
        if impact.scene != scenes.1 {
            scenes = (scenes.0 + 1, impact.scene);
        }
        let diameter = impact.diameter_m.unwrap_or(impact.diameter_px);
        entries.push(Entry { id: impact.id, score: impact.score, diameter, scene: scenes.0 });
    })?;
    let all = entries.len() as u64;
    rank(&mut entries, kinds);
    entries.truncate(at_most);
    let mut places: Vec<(u64, usize)> = entries.iter().map(|entry| entry.id).zip(0..).collect();
    places.sort_unstable();
    let mut candidates = vec![None; places.len()];
    each(path, |impact, change| {
        if let Ok(at) = places.binary_search_by_key(&impact.id, |place| place.0) {
            candidates[places[at].1] = Some(Candidate { impact, change });
        }
    })?;
    Ok(Chosen { candidates: candidates.into_iter().flatten().collect(), all, id: hasher.id() })
}

fn each(path: &Path, mut see: impl FnMut(Impact, Change)) -> Result<()> {
    let mut reader = csv::Reader::from_path(path).map_err(|why| {
        let out = path.parent().unwrap_or(Path::new("")).display();
        WrongUsage(format!("cannot read {}: {why}; run `marscan merge {out}` first", path.display()))
    })?;
    let mut read = || -> Result<()> {
        let header = reader.headers()?.clone();
        let mut record = csv::StringRecord::new();
        while reader.read_record(&mut record)? {
            see(record.deserialize(Some(&header))?, record.deserialize(Some(&header))?);
        }
        Ok(())
    };
    read().with_context(|| format!("cannot read {}", path.display()))
}
