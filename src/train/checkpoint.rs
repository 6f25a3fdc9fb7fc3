//! Where training stands: one safetensors file, written aside and renamed, from which the same
//! command goes on.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use serde::{Deserialize, Serialize};

use super::nadam::Nadam;
use crate::table::write_whole;

/// All that the next step depends on.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// Settings, scenes and program this belongs to.
    pub run_id: String,
    /// The optimiser, with the count of steps taken.
    pub optimiser: Nadam,
    /// Parameters, flat.
    pub values: Vec<f32>,
    /// Batch norm's running statistics, flat.
    pub statistics: Vec<f32>,
    /// Lowest validation loss so far.
    pub best: f32,
    /// Seconds spent in all sessions.
    pub seconds: f64,
}

#[derive(Serialize, Deserialize)]
struct Head {
    run_id: String,
    optimiser: Nadam,
    best: f32,
    seconds: f64,
}

const PARTS: [&str; 4] = ["values", "statistics", "first", "second"];

impl Checkpoint {
    /// Writes the file whole or not at all.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let head = Head {
            run_id: self.run_id.clone(),
            optimiser: self.optimiser.clone(),
            best: self.best,
            seconds: self.seconds,
        };
        let parts = [&self.values, &self.statistics, &self.optimiser.first, &self.optimiser.second];
        let bytes = parts.map(|p| p.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>());
        let mut views = Vec::new();
        for ((name, part), data) in PARTS.iter().zip(parts).zip(&bytes) {
            views.push((*name, TensorView::new(Dtype::F32, vec![part.len()], data)?));
        }
        let metadata = [("checkpoint".to_owned(), serde_json::to_string(&head)?)].into();
        write_whole(path, &serialize(views, Some(metadata))?)
    }

    /// Reads what [`Self::save`] wrote.
    ///
    /// # Errors
    /// If the file cannot be read, or belongs to another run than `run_id`.
    pub fn load(path: &Path, run_id: &str) -> Result<Self> {
        let read = || -> Result<Self> {
            let bytes = std::fs::read(path)?;
            let (_, metadata) = SafeTensors::read_metadata(&bytes)?;
            let head = metadata.metadata().as_ref().and_then(|m| m.get("checkpoint"));
            let head: Head = serde_json::from_str(head.context("it has no checkpoint head")?)?;
            let file = SafeTensors::deserialize(&bytes)?;
            let part = |name: &str| -> Result<Vec<f32>> {
                let data = file.tensor(name)?;
                let float = |b: &[u8]| f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
                Ok(data.data().chunks_exact(4).map(float).collect())
            };
            let [values, statistics, first, second] = PARTS.map(part);
            let optimiser = Nadam { first: first?, second: second?, ..head.optimiser };
            let (values, statistics) = (values?, statistics?);
            let (run_id, best, seconds) = (head.run_id, head.best, head.seconds);
            Ok(Self { run_id, optimiser, values, statistics, best, seconds })
        };
        let found = read().with_context(|| format!("cannot go on from {}", path.display()))?;
        ensure!(
            found.run_id == run_id,
            "{} belongs to other settings, scenes or another version (its id {}, this run's {run_id}): \
             choose another --out",
            path.display(),
            found.run_id
        );
        Ok(found)
    }
}
