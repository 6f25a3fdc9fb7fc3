//! What a run leaves in its folder: after each epoch, and when it stops within one.

use anyhow::Result;

use super::checkpoint::Checkpoint;
use super::curves::draw_curves;
use super::mistakes::Provenance;
use super::start::from_id;
use super::times::{TimesRow, append_times};
use super::{Epoch, History, Pair, TrainJob};
use crate::unet::Weights;

/// Writes the checkpoint.
pub(super) fn keep_state(job: &TrainJob, state: &Checkpoint) -> Result<()> {
    state.save(&job.out.join("checkpoint.safetensors"))
}

/// Writes the weights, the tables and the curves after the history's last epoch, with where its time went.
pub(super) fn keep_epoch(
    job: &TrainJob,
    state: &Checkpoint,
    history: &History,
    hard: &Provenance,
    times: Vec<TimesRow>,
) -> Result<()> {
    let Some(epoch) = history.epochs.last() else { return Ok(()) };
    let weights = weights(job, state, epoch, hard)?;
    weights.save(&job.out.join("last.safetensors"))?;
    if epoch.best {
        weights.save(&job.out.join("best.safetensors"))?;
    }
    history.save(&job.out.join("history.csv"))?;
    append_times(&job.out.join("timing.csv"), epoch.epoch, times)?;
    draw_curves(job, history)
}

/// The weights with their provenance; no time of day and no speed in it, so that a run made again writes the
/// same bytes.
fn weights(job: &TrainJob, state: &Checkpoint, epoch: &Epoch, hard: &Provenance) -> Result<Weights> {
    let mut weights =
        Weights::from_flat(&job.settings.network.widths, &state.parameters.values, &state.statistics);
    let pairs = [
        ("settings", toml::to_string(&job.settings)?),
        ("command", job.command.join(" ")),
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("started_from", from_id(job).unwrap_or_else(|| "random weights".into())),
        ("epoch", epoch.epoch.to_string()),
        ("images", epoch.images.to_string()),
        ("train_loss", epoch.train_loss.to_string()),
        ("validation_loss", epoch.validation_loss.to_string()),
        ("validation_mse_percent", epoch.validation_mse_percent.to_string()),
        ("hard_negatives", serde_json::to_string(hard)?),
        ("data", job.data.as_ref().map_or(Ok("scenes".into()), |data| serde_json::to_string(&data.spec))?),
        ("training_scenes", names(&job.scenes)),
        ("validation_scenes", names(&job.validation)),
    ];
    weights.metadata = pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
    Ok(weights)
}

fn names(pairs: &[Pair]) -> String {
    pairs.iter().map(|pair| pair.name.as_str()).collect::<Vec<_>>().join(" ")
}
