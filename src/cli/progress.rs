//! How far a scan is: a bar on a terminal, a plain line every so often in a log.

use std::io::{IsTerminal, stderr};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::scan::Event;

const LOG_EVERY: Duration = Duration::from_secs(10);

/// Shows the events of one scan on standard error.
pub struct Progress {
    /// In front of each line of a log: which task of an array says so.
    prefix: String,
    bar: Option<ProgressBar>,
    log: Mutex<Log>,
}

/// The program's bar, if standard error is a terminal.
pub fn bar() -> Option<ProgressBar> {
    let bar = stderr().is_terminal().then(|| ProgressBar::new(0))?;
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {percent:>3} %  {msg}  {eta} left") {
        bar.set_style(style);
    }
    Some(bar)
}

struct Log {
    began: Instant,
    printed: Instant,
    total: u64,
    done: u64,
    /// Of `done`, what earlier tasks did.
    before: u64,
}

impl Progress {
    /// A bar if standard error is a terminal; otherwise lines that begin with `prefix`.
    pub fn new(prefix: String) -> Self {
        let now = Instant::now();
        Self {
            prefix,
            bar: bar(),
            log: Mutex::new(Log { began: now, printed: now, total: 0, done: 0, before: 0 }),
        }
    }

    /// Takes an event.
    pub fn see(&self, event: Event) {
        let Ok(mut log) = self.log.lock() else { return };
        match event {
            Event::Begun { pixels } => {
                log.total += pixels;
                if let Some(bar) = &self.bar {
                    bar.set_length(log.total);
                }
            }
            Event::GoesOn { bands, of, pixels } => {
                log.done += pixels;
                log.before += pixels;
                self.say(&format!("goes on: an earlier task finished {bands} of {of} bands"));
            }
            Event::Band { pixels } => {
                log.done += pixels;
                self.show(&mut log);
            }
            Event::Failed { scene, why } => {
                self.say(&format!("scene {scene} failed: {why}"));
            }
        }
    }

    /// What is kept when `signal` ended the work.
    pub fn stopped(&self, signal: &str) {
        self.finish();
        let Ok(log) = self.log.lock() else { return };
        note!(
            "{}stopped by {signal}: finished bands, {:.1} of {:.1} Mpx, are kept; the same command goes on",
            self.prefix,
            log.done as f64 / 1e6,
            log.total as f64 / 1e6
        );
    }

    fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => note!("{}{line}", self.prefix),
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn show(&self, log: &mut Log) {
        let seconds = log.began.elapsed().as_secs_f64().max(1e-9);
        let speed = (log.done - log.before) as f64 / 1e6 / seconds;
        if let Some(bar) = &self.bar {
            bar.set_position(log.done);
            bar.set_message(format!("{speed:.2} Mpx/s"));
        } else if log.printed.elapsed() >= LOG_EVERY {
            log.printed = Instant::now();
            let left = (log.total - log.done) as f64 / 1e6 / speed;
            note!(
                "{}{:.1} of {:.1} Mpx, {speed:.2} Mpx/s, {left:.0} s left",
                self.prefix,
                log.done as f64 / 1e6,
                log.total as f64 / 1e6
            );
        }
    }
}
