//! Scoring the current weights on the held-out crops: the same crops every epoch.

use anyhow::{Result, ensure};

use super::TrainJob;
use super::checkpoint::Checkpoint;
use super::run::draw;
use super::source::CropSource;
use crate::job::StopRequest;
use crate::unet::device::Chosen;
use crate::unet::{CropBatch, Weights, predictor};

/// Crops scored at once, whatever the batch in training, so that the crops do not depend on it.
const BATCH: usize = 16;

/// What the weights score.
#[derive(Clone, Copy, Debug)]
pub(super) struct Checked {
    /// Mean binary cross-entropy.
    pub entropy: f32,
    /// Mean squared error, %.
    pub mse_percent: f64,
    /// The same for a network that predicts nothing, %.
    pub nothing_percent: f64,
}

/// Scores the current weights, batch norm folded as in a scan; `None` if asked to stop on the way.
pub(super) fn validate(
    job: &TrainJob,
    device: &Chosen,
    state: &Checkpoint,
    crops: &dyn CropSource,
    stop: &StopRequest,
) -> Result<Option<Checked>> {
    let train = &job.settings.train;
    let weights = Weights::from_flat(&job.settings.network.widths, &state.values, &state.statistics);
    let mut probabilities = predictor(&weights, device.clone())?;
    let (mut entropy, mut error, mut nothing, mut pixels) = (0.0, 0.0, 0.0, 0.0f64);
    for first in (0..train.validation_crops).step_by(BATCH) {
        if stop.asked().is_some() {
            return Ok(None);
        }
        let count = BATCH.min(train.validation_crops - first);
        let batch = draw(crops, (first / BATCH) as u64, count)?;
        let answer = probabilities(train.crop_px, &batch.pixels)?;
        let all = answer.iter().zip(&batch.mask).zip(&batch.pixels);
        let judged = all.filter(|((_, m), v)| **v != 0 && **m != CropBatch::DONT_CARE);
        for ((&p, &m), _) in judged {
            let (p, truth) = (f64::from(p), f64::from(u8::from(m != 0)));
            let right = if m == 0 { 1.0 - p } else { p };
            entropy -= right.max(1e-7).ln();
            error += (p - truth) * (p - truth);
            nothing += truth;
            pixels += 1.0;
        }
    }
    ensure!(pixels > 0.0, "the validation crops hold nothing but no-data");
    let percent = 100.0 / pixels;
    Ok(Some(Checked {
        entropy: (entropy / pixels) as f32,
        mse_percent: error * percent,
        nothing_percent: nothing * percent,
    }))
}
