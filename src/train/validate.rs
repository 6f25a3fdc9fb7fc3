//! Scoring the current weights on the held-out crops: the same crops every epoch, and the same figures however
//! many devices and ranks share them.

use std::thread;

use anyhow::{Result, anyhow, ensure};

use super::checkpoint::Checkpoint;
use super::source::CropSource;
use super::{Team, TrainJob};
use crate::job::StopRequest;
use crate::unet::{CropBatch, Predictor, Weights, predictor};

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

/// Over the ground of a batch: cross-entropy, squared error, impact pixels, pixels.
type Score = [f64; 4];

/// Scores the current weights, batch norm folded as in a scan; `None` if any rank was asked to stop on the way.
pub(super) fn validate(
    job: &TrainJob,
    team: &Team,
    state: &Checkpoint,
    crops: &dyn CropSource,
    stop: &StopRequest,
) -> Result<Option<Checked>> {
    let (world, wanted) = (team.world, job.settings.train.validation_crops);
    let weights =
        Weights::from_flat(&job.settings.network.widths, &state.parameters.values, &state.statistics);
    let mut networks = networks(team, &weights)?;
    let batches = wanted.div_ceil(BATCH);
    let mine: Vec<usize> = (world.rank()..batches).step_by(world.size()).collect();
    let score = |number: usize, network: &mut Predictor| {
        let batch = crops.share(number as u64, BATCH, 0..BATCH.min(wanted - number * BATCH))?;
        let answer = network(job.settings.train.crop_px, &batch.pixels)?;
        anyhow::Ok((number, score(&batch, &answer)))
    };
    // Each entry is of one device alone, so that adding up over ranks is exact.
    let mut scores = vec![0.0; batches * 4];
    let (count, mine, score) = (networks.len(), &mine, &score);
    let found = thread::scope(|scope| {
        let work = |(k, network): (usize, &mut Predictor)| {
            let numbers = mine.iter().skip(k).step_by(count).take_while(|_| stop.asked().is_none());
            numbers.map(|&number| score(number, network)).collect::<Result<Vec<_>>>()
        };
        let threads: Vec<_> =
            networks.iter_mut().enumerate().map(|one| scope.spawn(move || work(one))).collect();
        let failed = |_| Err(anyhow!("a thread of the validation failed"));
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(failed)).collect::<Vec<_>>()
    });
    for (number, score) in found.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten() {
        scores[number * 4..number * 4 + 4].copy_from_slice(&score);
    }
    if team.stopped(stop) {
        return Ok(None);
    }
    world.sum_f64(&mut scores);
    let mut sum: Score = [0.0; 4];
    for score in scores.chunks_exact(4) {
        sum.iter_mut().zip(score).for_each(|(sum, v)| *sum += v);
    }
    let [entropy, error, nothing, pixels] = sum;
    ensure!(
        pixels > 0.0,
        "the validation crops hold no pixel that is judged: no-data, or near an impact's rim"
    );
    let entropy = (entropy / pixels) as f32;
    ensure!(
        entropy.is_finite(),
        "the validation loss is {entropy}: lower [train] learning_rate, or look for a broken crop"
    );
    let percent = 100.0 / pixels;
    Ok(Some(Checked { entropy, mse_percent: error * percent, nothing_percent: nothing * percent }))
}

/// The network on each device; on the processor once, which gives it all its threads.
fn networks(team: &Team, weights: &Weights) -> Result<Vec<Predictor>> {
    let apart = team.devices.iter().enumerate();
    let apart = apart.filter(|(k, one)| team.devices[..*k].iter().all(|other| other.name != one.name));
    apart.map(|(_, device)| predictor(weights, device)).collect()
}

fn score(batch: &CropBatch, answer: &[f32]) -> Score {
    let mut score = [0.0; 4];
    let all = answer.iter().zip(&batch.mask).zip(&batch.pixels);
    for ((&p, &m), _) in all.filter(|((_, m), v)| **v != 0 && **m != CropBatch::DONT_CARE) {
        let (p, truth) = (f64::from(p), f64::from(u8::from(m != 0)));
        let right = if m == 0 { 1.0 - p } else { p };
        // What is not a number stays so.
        score[0] -= right.clamp(1e-7, 1.0).ln();
        score[1] += (p - truth) * (p - truth);
        score[2] += truth;
        score[3] += 1.0;
    }
    score
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_no_number_is_seen_in_the_score() {
        let batch = CropBatch { side_px: 2, pixels: vec![9; 4], mask: vec![0, 255, 0, 255] };
        assert!(score(&batch, &[0.0, 1.0, 1.0, 0.0]).iter().all(|sum| sum.is_finite()));
        assert!(score(&batch, &[0.1, 0.9, f32::NAN, 0.9])[0].is_nan());
    }
}
