//! How far training is: a bar for the epoch on a terminal, a plain line every so often in a log, and a line an
//! epoch in both.

use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use super::progress::bar;
use crate::train::{Epoch, Event};

const LOG_EVERY: Duration = Duration::from_secs(30);

/// Shows the events of training.
pub struct Epochs {
    bar: Option<ProgressBar>,
    /// When the epoch in hand was first heard of here, and how many of its steps were done by then.
    began: Instant,
    begun_at: u64,
    epoch: u64,
    headed: bool,
    printed: Instant,
}

impl Epochs {
    /// A bar if standard error is a terminal.
    pub fn new() -> Self {
        let now = Instant::now();
        Self { bar: bar(), began: now, begun_at: 0, epoch: 0, headed: false, printed: now }
    }

    /// Takes an event.
    pub fn see(&mut self, event: Event) {
        match event {
            Event::Waits { folder, holder } => note!("waits for {holder}, which trains in {}", folder.display()),
            Event::Repeat { number, seed } => {
                (self.epoch, self.headed) = (0, false);
                self.line(&format!("repeat {number}, seed {seed}"));
            }
            Event::First { seconds } => self.line(&format!(
                "first step in {seconds:.2} s, on a GPU with the compiling of kernels that its driver has not kept"
            )),
            Event::Step { epoch, steps, of, batch, loss } => self.step(epoch, steps, of, batch, loss),
            Event::Epoch(epoch) => {
                if !std::mem::replace(&mut self.headed, true) {
                    self.line(HEADER);
                }
                self.line(&line_of(epoch));
            }
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn step(&mut self, epoch: u64, steps: u64, of: u64, batch: u64, loss: f64) {
        if self.epoch != epoch {
            (self.epoch, self.began, self.begun_at) = (epoch, Instant::now(), steps);
            if let Some(bar) = &self.bar {
                bar.reset();
                bar.set_length(of);
            }
        }
        // The first step that was heard of here has no time of its own.
        let seconds = self.began.elapsed().as_secs_f64().max(1e-9);
        let speed = (steps - self.begun_at) as f64 * batch as f64 / seconds;
        if let Some(bar) = &self.bar {
            bar.set_position(steps);
            bar.set_message(format!("epoch {epoch}  {speed:.1} images/s  loss {loss:.4}"));
        } else if self.printed.elapsed() >= LOG_EVERY && steps > self.begun_at {
            self.printed = Instant::now();
            let left = ((of - steps) * batch) as f64 / speed;
            note!(
                "epoch {epoch}: {steps} of {of} steps, {speed:.1} images/s, loss {loss:.4}, {left:.0} s left"
            );
        }
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| say!("{text}")),
            None => say!("{text}"),
        }
    }
}

const HEADER: &str = "epoch   images      rate  training  validation    mse %  nothing %  images/s";

fn line_of(epoch: &Epoch) -> String {
    format!(
        "{:5} {:8} {:9.2e} {:9.4} {:11.4} {:8.3} {:10.3} {:9.1}{}",
        epoch.epoch,
        epoch.images,
        epoch.learning_rate,
        epoch.train_loss,
        epoch.validation_loss,
        epoch.validation_mse_percent,
        epoch.nothing_mse_percent,
        epoch.images_per_s,
        if epoch.best { "  best" } else { "" }
    )
}
