//! One run: steps, epochs, and why it ends.

use std::time::Instant;

use anyhow::{Context, Result};

use super::checkpoint::Checkpoint;
use super::keep::{keep_epoch, keep_state};
use super::mistakes::Provenance;
use super::penalty::Penalty;
use super::schedule::learning_rate;
use super::source::{CropSource, TrainData, open};
use super::start::{begin, regime};
use super::times::Times;
use super::validate::{Checked, validate};
use super::{Epoch, Event, History, Summary, TrainJob};
use crate::config::TrainSettings;
use crate::fault::Stopped;
use crate::job::StopRequest;
use crate::timing::{PeakMemory, host_name, peak_resident_bytes};
use crate::unet::device::Chosen;
use crate::unet::replica::{Alone, Place};
use crate::unet::{CropBatch, Trainer};

/// Trains until the run's end, or until `stop` asks: then the checkpoint holds the last step taken, and the same
/// job goes on from there.
///
/// # Errors
/// If a scene or a file cannot be read or written, or the device is lost.
pub fn run(
    job: &TrainJob,
    device: &Chosen,
    stop: &StopRequest,
    see: &mut dyn FnMut(Event),
) -> Result<Summary> {
    std::fs::create_dir_all(&job.out).with_context(|| format!("cannot make {}", job.out.display()))?;
    let mut course = Course::begin(job, device, stop)?;
    if course.ended().is_some()
        && let Ok(summary) = Summary::load(&job.out.join("summary.json"))
        && summary.stopped_by.is_none()
        && summary.until_validation_loss == job.until_validation_loss
    {
        return Ok(summary);
    }
    if course.ended().is_none() {
        match open(job, stop) {
            Ok(data) => course.go(&data, see)?,
            Err(why) if !why.is::<Stopped>() => return Err(why),
            // Asked to stop before the first step: the checkpoint is as it was.
            Err(_) => {}
        }
    }
    let summary = course.summary();
    summary.save(&job.out.join("summary.json"))?;
    Ok(summary)
}

/// The crops of the batch numbered `number`.
pub(super) fn draw(crops: &dyn CropSource, number: u64, count: usize) -> Result<CropBatch> {
    crops.batch(number, count)
}

/// A run on its way.
struct Course<'a> {
    job: &'a TrainJob,
    device: &'a Chosen,
    stop: &'a StopRequest,
    trainer: Trainer,
    penalty: Penalty,
    state: Checkpoint,
    history: History,
    memory: PeakMemory,
    /// When this session's first step began, and the seconds of all sessions before.
    began: Instant,
    seconds_before: f64,
    /// When the last checkpoint was written.
    kept: Instant,
}

impl<'a> Course<'a> {
    fn begin(job: &'a TrainJob, device: &'a Chosen, stop: &'a StopRequest) -> Result<Self> {
        let state = begin(job)?;
        let (network, train) = (&job.settings.network, &job.settings.train);
        let devices = std::slice::from_ref(device);
        let mut trainer = Trainer::new(network, devices, regime(train), state.statistics.clone())?;
        trainer.scale = state.progress.scale;
        let now = Instant::now();
        Ok(Self {
            job,
            device,
            stop,
            trainer,
            penalty: Penalty::new(&network.widths, train.l2),
            history: History::load(&job.out.join("history.csv"), state.progress.epochs)?,
            memory: PeakMemory::default(),
            began: now,
            seconds_before: state.progress.seconds,
            kept: now,
            state,
        })
    }

    fn train(&self) -> &'a TrainSettings {
        &self.job.settings.train
    }

    /// Epochs until the run ends or is asked to stop.
    fn go(&mut self, data: &TrainData, see: &mut dyn FnMut(Event)) -> Result<()> {
        (self.began, self.kept) = (Instant::now(), Instant::now());
        while self.ended().is_none() && self.stop.asked().is_none() {
            self.epoch(data, see)?;
        }
        Ok(())
    }

    /// Why the run is at its end, if it is: a function of the checkpoint and the history alone.
    fn ended(&self) -> Option<String> {
        let (job, epochs) = (self.job, self.state.progress.epochs);
        if let Some(loss) = job.until_validation_loss
            && let Some(epoch) = self.history.reached(loss)
        {
            let (seconds, images) = (epoch.seconds, epoch.images);
            return Some(format!("validation loss {loss} reached after {seconds:.1} s and {images} images"));
        }
        let patience = self.train().stop_after_epochs;
        let best = self.history.best().map_or(0, |epoch| epoch.epoch);
        if patience > 0 && epochs >= best + patience {
            return Some(format!("no better validation loss for {patience} epochs"));
        }
        let all = epochs >= job.total_steps().div_ceil(job.epoch_steps());
        all.then(|| match job.images {
            Some(_) => format!("{} images seen", self.images()),
            None => format!("{epochs} epochs done"),
        })
    }

    /// The rest of the epoch in hand, its validation, and its record; less if asked to stop.
    fn epoch(&mut self, data: &TrainData, see: &mut dyn FnMut(Event)) -> Result<()> {
        let epoch = self.state.progress.epochs + 1;
        let first = (epoch - 1) * self.job.epoch_steps();
        let end = (first + self.job.epoch_steps()).min(self.job.total_steps());
        while self.state.progress.steps < end {
            if self.stop.asked().is_some() {
                return self.keep();
            }
            self.step(data.train.as_ref())?;
            let steps = self.state.progress.steps - first;
            let (batch, loss) = (self.train().batch as u64, self.state.progress.loss_sum / steps as f64);
            see(Event::Step { epoch, steps, of: end - first, batch, loss });
            let minutes = self.train().checkpoint_minutes;
            if minutes > 0.0 && self.kept.elapsed().as_secs_f64() >= 60.0 * minutes {
                self.keep()?;
            }
        }
        self.state.statistics.clone_from(&self.trainer.statistics);
        let began = Instant::now();
        let checked = validate(self.job, self.device, &self.state, data.validation.as_ref(), self.stop)?;
        self.state.progress.times.validate_s += began.elapsed().as_secs_f64();
        let Some(checked) = checked else { return self.keep() };
        self.record(epoch, end - first, &checked, &data.hard)?;
        self.history.epochs.last().into_iter().for_each(|epoch| see(Event::Epoch(epoch)));
        Ok(())
    }

    fn step(&mut self, crops: &dyn CropSource) -> Result<()> {
        let (began, step) = (Instant::now(), self.state.progress.steps);
        let batch = draw(crops, step, self.train().batch)?;
        let read = Instant::now();
        let place = Place { step, first_crop: 0 };
        let outcome = self.trainer.step(&self.state.values, &batch, place, &Alone)?;
        let passed = Instant::now();
        let rate = self.learning_rate(step);
        let progress = &mut self.state.progress;
        if let Some(mut gradient) = outcome.gradient {
            progress.penalty_sum += self.penalty.add(&self.state.values, &mut gradient);
            self.state.optimiser.step(rate, &mut self.state.values, &gradient);
        }
        (progress.steps, progress.scale) = (step + 1, self.trainer.scale);
        progress.loss_sum += f64::from(outcome.loss);
        let (times, seconds) = (&mut progress.times, outcome.seconds);
        times.read_s += (read - began).as_secs_f64();
        times.forward_s += seconds.forward;
        times.communicate_s += seconds.communicate;
        // What a step takes beside its three parts is most of all the gradient's way to the host.
        let both = seconds.forward + seconds.communicate;
        times.backward_s += ((passed - read).as_secs_f64() - both).max(seconds.backward);
        times.step_s += passed.elapsed().as_secs_f64();
        self.memory.sample();
        Ok(())
    }

    fn learning_rate(&self, step: u64) -> f64 {
        learning_rate(self.train(), &self.state.progress.plateau, step, self.job.total_steps())
    }

    fn images(&self) -> u64 {
        self.state.progress.steps * self.train().batch as u64
    }

    fn spend(&mut self) {
        self.state.progress.seconds = self.seconds_before + self.began.elapsed().as_secs_f64();
    }

    /// Writes the checkpoint.
    fn keep(&mut self) -> Result<()> {
        self.spend();
        self.state.statistics.clone_from(&self.trainer.statistics);
        keep_state(self.job, &self.state)?;
        self.kept = Instant::now();
        Ok(())
    }

    /// Puts an epoch of `steps` steps into the history and writes all that comes after one, the checkpoint last:
    /// a run killed before it does the epoch again, and writes the same.
    fn record(&mut self, epoch: u64, steps: u64, checked: &Checked, hard: &Provenance) -> Result<()> {
        self.spend();
        let images = steps * self.train().batch as u64;
        let (progress, last) = (&self.state.progress, self.state.progress.steps.saturating_sub(1));
        let loss = progress.loss_sum / steps as f64;
        let row = Epoch {
            epoch,
            steps: self.state.progress.steps,
            images: self.images(),
            learning_rate: self.learning_rate(last),
            train_loss: loss + progress.penalty_sum / steps as f64,
            train_loss_without_penalty: loss,
            validation_loss: checked.entropy,
            validation_mse_percent: checked.mse_percent,
            nothing_mse_percent: checked.nothing_percent,
            images_per_s: images as f64 / progress.times.training_s().max(1e-9),
            seconds: progress.seconds,
            best: false,
        };
        self.history.push(row);
        keep_epoch(self.job, &self.state, &self.history, hard, images, &self.device.name)?;
        let train = self.train();
        let progress = &mut self.state.progress;
        progress.epochs = epoch;
        progress.plateau.see(train, checked.entropy);
        (progress.loss_sum, progress.penalty_sum, progress.times) = (0.0, 0.0, Times::default());
        self.keep()
    }

    fn summary(&self) -> Summary {
        let (last, best) = (self.history.epochs.last(), self.history.best());
        let reached = self.job.until_validation_loss.and_then(|loss| self.history.reached(loss));
        let ended = self.ended();
        let stopped_by = self.stop.asked().filter(|_| ended.is_none()).map(str::to_owned);
        let rates = self.history.epochs.iter().scan(0, |before, epoch| {
            let images = epoch.images - std::mem::replace(before, epoch.images);
            Some((images as f64, images as f64 / epoch.images_per_s))
        });
        let (images, seconds) = rates.fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        Summary {
            run_id: self.state.progress.run_id.clone(),
            settings: self.job.settings.name.clone(),
            ended: ended.unwrap_or_else(|| format!("stopped after {} steps", self.state.progress.steps)),
            stopped_by,
            epochs: self.state.progress.epochs,
            steps: self.state.progress.steps,
            images: self.images(),
            seconds: self.state.progress.seconds,
            images_per_s: images / f64::max(seconds, 1e-9),
            train_loss: last.map(|epoch| epoch.train_loss),
            validation_loss: last.map(|epoch| epoch.validation_loss),
            best_epoch: best.map(|epoch| epoch.epoch),
            best_validation_loss: best.map(|epoch| epoch.validation_loss),
            until_validation_loss: self.job.until_validation_loss,
            reached_s: reached.map(|epoch| epoch.seconds),
            reached_images: reached.map(|epoch| epoch.images),
            peak_resident_bytes: peak_resident_bytes(),
            peak_private_bytes: self.memory.bytes(),
            host: host_name(),
            device: self.device.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            command: self.job.command.clone(),
        }
    }
}
