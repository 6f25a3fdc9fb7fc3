//! Where training stands: one safetensors file, written aside and renamed, from which the same
//! command goes on.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use serde::{Deserialize, Serialize};

use super::optimiser::Optimiser;
use super::schedule::Plateau;
use super::times::Times;
use crate::config::TrainSettings;
use crate::fault::WrongUsage;
use crate::table::write_whole;
use crate::unet::LossScale;
use crate::unet::descent::Parameters;

/// All that the next step depends on.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// The optimiser, with the count of steps taken.
    pub optimiser: Optimiser,
    /// What moves.
    pub parameters: Parameters,
    /// Batch norm's running statistics, flat.
    pub statistics: Vec<f32>,
    /// How far training has come.
    pub progress: Progress,
}

/// How far training has come: the figures of a [`Checkpoint`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Settings, scenes and program this belongs to.
    pub run_id: String,
    /// Batches that were gone through; a few of them may not have moved the weights, in half precision.
    pub steps: u64,
    /// Steps of the optimiser.
    pub moves: u64,
    /// The optimiser's figure of that name.
    pub momentum_product: f64,
    /// What half precision multiplies slopes with.
    pub scale: LossScale,
    /// Epochs that were validated and are in the history.
    pub epochs: u64,
    /// Sum of the losses of the steps since the last epoch in the history, without the penalty.
    pub loss_sum: f64,
    /// Sum of the penalties of the same steps.
    pub penalty_sum: f64,
    /// Seconds of training and validation, all sessions.
    pub seconds: f64,
    /// The schedule's memory.
    pub plateau: Plateau,
    /// Where the time since the last epoch in the history went.
    pub times: Times,
}

impl Progress {
    /// Nothing done yet.
    pub fn new(train: &TrainSettings, run_id: String, scale: LossScale) -> Self {
        Self {
            run_id,
            steps: 0,
            moves: 0,
            momentum_product: 1.0,
            scale,
            epochs: 0,
            loss_sum: 0.0,
            penalty_sum: 0.0,
            seconds: 0.0,
            plateau: Plateau::new(train),
            times: Times::default(),
        }
    }
}

const PARTS: [&str; 4] = ["values", "statistics", "first", "second"];

impl Checkpoint {
    /// Writes the file whole or not at all.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        write_whole(path, &self.to_bytes()?)
    }

    /// The file's bytes.
    ///
    /// # Errors
    /// If the head cannot be written as text.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let (moves, momentum_product) = (self.optimiser.steps, self.optimiser.momentum_product);
        // TOML, because its numbers come back bit for bit, and infinity is one of them.
        let head = toml::to_string(&Progress { moves, momentum_product, ..self.progress.clone() })?;
        let Parameters { values, first, second } = &self.parameters;
        let parts = [values, &self.statistics, first, second];
        let bytes = parts.map(|p| p.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>());
        let mut views = Vec::new();
        for ((name, part), data) in PARTS.iter().zip(parts).zip(&bytes) {
            views.push((*name, TensorView::new(Dtype::F32, vec![part.len()], data)?));
        }
        Ok(serialize(views, Some([("checkpoint".to_owned(), head)].into()))?)
    }

    /// Reads what [`Self::save`] wrote.
    ///
    /// # Errors
    /// If the file cannot be read, or it has other than `lengths` parameters and statistics; [`WrongUsage`] if it
    /// belongs to another run than `run_id`.
    pub fn load(path: &Path, run_id: &str, train: &TrainSettings, lengths: [usize; 2]) -> Result<Self> {
        let read = || {
            let found = Self::parse(&std::fs::read(path)?, train)?;
            let there = [found.parameters.values.len(), found.statistics.len()];
            ensure!(
                there == lengths || found.progress.run_id != run_id,
                "it has {there:?} parameters and statistics, the network {lengths:?}"
            );
            Ok(found)
        };
        let found = read().with_context(|| {
            format!("cannot go on from {}: delete it to start again, or choose another --out", path.display())
        })?;
        if found.progress.run_id == run_id {
            return Ok(found);
        }
        let message = format!(
            "{} belongs to other settings, scenes or another version (its id {}, this run's {run_id}): \
             choose another --out",
            path.display(),
            found.progress.run_id
        );
        Err(WrongUsage(message).into())
    }

    /// From the bytes of a file.
    ///
    /// # Errors
    /// If it is none, or its optimiser is of another size than the settings'.
    pub fn parse(bytes: &[u8], train: &TrainSettings) -> Result<Self> {
        let (_, metadata) = SafeTensors::read_metadata(bytes)?;
        let head = metadata.metadata().as_ref().and_then(|m| m.get("checkpoint"));
        let progress: Progress = toml::from_str(head.context("it has no checkpoint head")?)?;
        let file = SafeTensors::deserialize(bytes)?;
        let part = |name: &str| -> Result<Vec<f32>> {
            let data = file.tensor(name)?;
            let float = |b: &[u8]| f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
            Ok(data.data().chunks_exact(4).map(float).collect())
        };
        let [values, statistics, first, second] = PARTS.map(part);
        let parameters = Parameters { values: values?, first: first?, second: second? };
        let mut optimiser = Optimiser::new(train);
        let (count, moments) = (parameters.values.len(), optimiser.moments());
        let fits = parameters.first.len() == count && parameters.second.len() == count * (moments - 1);
        ensure!(fits, "its optimiser is of another size");
        (optimiser.steps, optimiser.momentum_product) = (progress.moves, progress.momentum_product);
        Ok(Self { optimiser, parameters, statistics: statistics?, progress })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Precision, load};

    #[test]
    fn a_checkpoint_reads_back_bit_for_bit_and_only_for_its_own_run() {
        let train = load("unet3.0").unwrap().train;
        let mut optimiser = Optimiser::new(&train);
        let mut parameters = Parameters::new(vec![0.1f32, -2e-30, 7.0], optimiser.moments());
        for step in 0..7 {
            let (descent, after) = optimiser.next(0.01);
            descent.take(&mut parameters, &[0.3, -0.1 * step as f32, 1e-9], &[]);
            optimiser = after;
        }
        let scale = LossScale::new(Precision::F16);
        let mut progress = Progress::new(&train, "abc".into(), scale);
        (progress.moves, progress.momentum_product) = (optimiser.steps, optimiser.momentum_product);
        (progress.loss_sum, progress.seconds) = (0.1 + 0.2, 1.0 / 3.0);
        progress.times.read_s = 1e-17 / 3.0;
        let state = Checkpoint { optimiser, parameters, statistics: vec![1.0], progress };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.safetensors");
        state.save(&path).unwrap();
        assert_eq!(Checkpoint::load(&path, "abc", &train, [3, 1]).unwrap(), state);
        let refused = Checkpoint::load(&path, "abd", &train, [4, 1]).unwrap_err().to_string();
        assert!(refused.contains("its id abc, this run's abd"), "{refused}");
        let other = format!("{:#}", Checkpoint::load(&path, "abc", &train, [3, 2]).unwrap_err());
        assert!(other.contains("checkpoint.safetensors") && other.contains("the network [3, 2]"), "{other}");
        std::fs::write(&path, &std::fs::read(&path).unwrap()[..50]).unwrap();
        let broken = Checkpoint::load(&path, "abc", &train, [3, 1]).unwrap_err().to_string();
        assert!(broken.contains("checkpoint.safetensors"), "{broken}");
    }
}
