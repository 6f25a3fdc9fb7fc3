//! One run: steps, epochs, and why it ends. Every rank takes the same course; rank 0 alone writes.

use std::ops::Range;
use std::thread::ScopedJoinHandle;
use std::time::Instant;

use anyhow::{Result, anyhow, ensure};

use super::checkpoint::Checkpoint;
use super::hold::hold;
use super::keep::{keep_epoch, keep_state};
use super::mistakes::Provenance;
use super::schedule::learning_rate;
use super::source::{CropSource, TrainData, open};
use super::start::{begin, regime};
use super::times::{Times, TimesRow};
use super::validate::{Checked, validate};
use super::{Epoch, Event, History, Summary, Team, TrainJob};
use crate::config::TrainSettings;
use crate::fault::Stopped;
use crate::job::StopRequest;
use crate::timing::{PeakMemory, host_name, peak_resident_bytes};
use crate::unet::replica::Place;
use crate::unet::{CropBatch, Trainer};

/// Trains until the run's end, or until `stop` asks: then the checkpoint holds the last step taken, and the same
/// job goes on from there.
///
/// # Errors
/// If a scene or a file cannot be read or written, another training keeps the folder, or the device is lost;
/// [`Stopped`] if asked to stop while waiting for that training.
pub fn run(job: &TrainJob, team: Team, stop: &StopRequest, see: &mut dyn FnMut(Event)) -> Result<Summary> {
    let _hold = hold(&job.out, team, stop, see)?;
    let mut course = Course::begin(job, team, stop)?;
    if course.ended().is_some()
        && team.writes()
        && let Ok(summary) = Summary::load(&job.out.join("summary.json"))
        && summary.stopped_by.is_none()
        && summary.until_validation_loss == job.until_validation_loss
    {
        return Ok(summary);
    }
    if course.ended().is_none() {
        let data = match open(job, stop) {
            Ok(data) => Some(data),
            Err(why) if why.is::<Stopped>() => None,
            Err(why) => return Err(why),
        };
        // Where a rank was asked to stop before the first step, the checkpoint is as it was.
        if !team.world.agree(data.is_none())
            && let Some(data) = data
        {
            course.go(&data, see)?;
        }
    }
    let summary = course.summary();
    if team.writes() {
        summary.save(&job.out.join("summary.json"))?;
    }
    Ok(summary)
}

/// A run on its way.
struct Course<'a> {
    job: &'a TrainJob,
    team: Team<'a>,
    stop: &'a StopRequest,
    /// What each rank's part of the network runs on.
    devices: Vec<String>,
    /// Which crops of a batch are this rank's.
    share: Range<usize>,
    /// Those of the next step, once there was one.
    ahead: Option<Result<CropBatch>>,
    /// Whether a rank was asked to stop.
    stopped: bool,
    trainer: Trainer,
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
    fn begin(job: &'a TrainJob, team: Team<'a>, stop: &'a StopRequest) -> Result<Self> {
        let (network, train) = (&job.settings.network, &job.settings.train);
        let share = team.share(train.batch)?;
        let (state, history) = begin(job, team)?;
        let (parameters, statistics) = (state.parameters.clone(), state.statistics.clone());
        let mut trainer = Trainer::new(network, team.devices, regime(train), parameters, statistics)?;
        trainer.scale = state.progress.scale;
        let now = Instant::now();
        Ok(Self {
            job,
            team,
            stop,
            devices: team.world.gather(&team.label()),
            share,
            ahead: None,
            stopped: false,
            trainer,
            history,
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
        while self.ended().is_none() && !self.stopped {
            self.epoch(data, see)?;
        }
        Ok(())
    }

    /// Whether any rank was asked to stop by now.
    fn asked(&mut self) -> bool {
        self.stopped = self.stopped || self.team.stopped(self.stop);
        self.stopped
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
            if self.asked() {
                return self.keep();
            }
            let (afresh, began) = (self.ahead.is_none(), Instant::now());
            self.step(data.train.as_ref())?;
            if afresh {
                see(Event::First { seconds: began.elapsed().as_secs_f64() });
            }
            let steps = self.state.progress.steps - first;
            let (batch, loss) = (self.train().batch as u64, self.state.progress.loss_sum / steps as f64);
            see(Event::Step { epoch, steps, of: end - first, batch, loss });
            let minutes = self.train().checkpoint_minutes;
            if minutes > 0.0 && self.kept.elapsed().as_secs_f64() >= 60.0 * minutes {
                self.keep()?;
            }
        }
        self.settle()?;
        // They are each rank's own where each normalises by its own share.
        self.team.world.broadcast(&mut self.state.statistics);
        let began = Instant::now();
        let checked = validate(self.job, &self.team, &self.state, data.validation.as_ref(), self.stop)?;
        self.state.progress.times.validate_s += began.elapsed().as_secs_f64();
        let Some(checked) = checked else {
            self.stopped = true;
            return self.keep();
        };
        self.record(epoch, end - first, &checked, &data.hard)?;
        self.history.epochs.last().into_iter().for_each(|epoch| see(Event::Epoch(epoch)));
        Ok(())
    }

    fn step(&mut self, crops: &dyn CropSource) -> Result<()> {
        let (began, step) = (Instant::now(), self.state.progress.steps);
        let share = |number| crops.share(number, self.job.settings.train.batch, self.share.clone());
        let batch = match self.ahead.take() {
            Some(batch) => batch?,
            None => share(step)?,
        };
        let read = Instant::now();
        let place = Place { step, first_crop: self.share.start as u64 };
        let (descent, after) = self.state.optimiser.next(self.learning_rate(step));
        let more = step + 1 < self.job.total_steps();
        let outcome = std::thread::scope(|scope| {
            // The next one is drawn meanwhile.
            let ahead = more.then(|| scope.spawn(|| share(step + 1)));
            let outcome = self.trainer.step(&descent, &batch, place, &self.team);
            let ahead = ahead.map(ScopedJoinHandle::join);
            self.ahead =
                ahead.map(|batch| batch.unwrap_or_else(|_| Err(anyhow!("the drawing of crops failed"))));
            outcome
        })?;
        let progress = &mut self.state.progress;
        if outcome.moved {
            self.state.optimiser = after;
        }
        (progress.steps, progress.scale) = (step + 1, self.trainer.scale);
        progress.loss_sum += f64::from(outcome.loss);
        progress.penalty_sum += outcome.penalty;
        let (times, seconds) = (&mut progress.times, outcome.seconds);
        times.read_s += (read - began).as_secs_f64();
        times.forward_s += seconds.forward;
        times.communicate_s += seconds.communicate;
        times.step_s += seconds.step;
        // What a step takes beside its parts is most of all the gradient's way to the host.
        let others = seconds.forward + seconds.communicate + seconds.step;
        times.backward_s += read.elapsed().as_secs_f64() - others;
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

    /// Takes over what the steps have changed.
    ///
    /// # Errors
    /// If a number of it is not finite: nothing could be scanned or gone on with by it.
    fn settle(&mut self) -> Result<()> {
        self.state.parameters.clone_from(self.trainer.parameters()?);
        self.state.statistics.clone_from(&self.trainer.statistics);
        let mut numbers = self.state.parameters.values.iter().chain(&self.state.statistics);
        ensure!(
            numbers.all(|number| number.is_finite()),
            "after {} steps a number of the network is not finite: lower [train] learning_rate, or look for a broken crop",
            self.state.progress.steps
        );
        Ok(())
    }

    /// Writes the checkpoint.
    fn keep(&mut self) -> Result<()> {
        self.spend();
        self.settle()?;
        if self.team.writes() {
            keep_state(self.job, &self.state)?;
        }
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
        let times = self.times(epoch, steps);
        if self.team.writes() {
            keep_epoch(self.job, &self.state, &self.history, hard, times)?;
        }
        let train = self.train();
        let progress = &mut self.state.progress;
        progress.epochs = epoch;
        progress.plateau.see(train, checked.entropy);
        (progress.loss_sum, progress.penalty_sum, progress.times) = (0.0, 0.0, Times::default());
        self.keep()
    }

    /// Where the time of the epoch went, on every rank.
    fn times(&self, epoch: u64, steps: u64) -> Vec<TimesRow> {
        let (world, times) = (self.team.world, self.state.progress.times);
        let mine = [times.read_s, times.forward_s, times.backward_s, times.communicate_s, times.step_s];
        let mine = mine.into_iter().chain([times.validate_s, (steps * self.share.len() as u64) as f64]);
        let mine: Vec<f64> = mine.collect();
        let mut all = vec![0.0; mine.len() * world.size()];
        all[world.rank() * mine.len()..][..mine.len()].copy_from_slice(&mine);
        world.sum_f64(&mut all);
        let row = |(rank, figures): (usize, &[f64])| {
            let times = Times {
                read_s: figures[0],
                forward_s: figures[1],
                backward_s: figures[2],
                communicate_s: figures[3],
                step_s: figures[4],
                validate_s: figures[5],
            };
            let (host, device) = (&world.hosts()[rank], &self.devices[rank]);
            TimesRow::new(rank as u64, epoch, &times, figures[6] as u64, host, device)
        };
        all.chunks(mine.len()).enumerate().map(row).collect()
    }

    fn summary(&self) -> Summary {
        let (last, best) = (self.history.epochs.last(), self.history.best());
        let reached = self.job.until_validation_loss.and_then(|loss| self.history.reached(loss));
        let ended = self.ended();
        let stopped_by = ended.is_none().then(|| self.team.stopped_by(self.stop));
        let rates = self.history.epochs.iter().scan(0, |before, epoch| {
            let images = epoch.images - std::mem::replace(before, epoch.images);
            Some((images as f64, images as f64 / epoch.images_per_s))
        });
        // And of the epoch that it was stopped in.
        let rest = (self.images() - last.map_or(0, |epoch| epoch.images)) as f64;
        let rates = rates.chain([(rest, self.state.progress.times.training_s())]);
        let (images, seconds) = rates.fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        Summary {
            run_id: self.state.progress.run_id.clone(),
            work_id: super::start::work_id(self.job).unwrap_or_default(),
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
            device: self.team.label(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            command: self.job.command.clone(),
        }
    }
}
