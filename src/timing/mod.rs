//! Where the time and the memory went: stages that follow each other without a gap.

mod memory;
mod spread;

use std::time::{Instant, SystemTime, UNIX_EPOCH};

pub use memory::{PeakMemory, host_name, peak_resident_bytes};
pub use spread::Spread;

/// The stages of a band, in the order of work.
pub const STAGES: [&str; 7] = ["open", "read", "decode", "infer", "label", "write", "wait"];

/// Seconds since 1970, UTC, by this machine's clock.
pub fn unix_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// A stage of a band, on the shard's clock.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// open, read, decode, infer, label, write or wait.
    pub name: &'static str,
    /// Since the shard began.
    pub start_s: f64,
    /// How long.
    pub seconds: f64,
    /// Bytes read or written.
    pub bytes: u64,
    /// Pixels worked on.
    pub pixels: u64,
    /// Network windows run.
    pub windows: u64,
}

/// A band's stopwatch: each stage begins where the last one ended, so they add up to its wall time.
#[derive(Clone, Debug)]
pub struct BandClock {
    origin: Instant,
    last: Instant,
    /// What was done so far.
    pub stages: Vec<Stage>,
}

impl BandClock {
    /// Starts now; `origin` is when the shard began.
    pub fn start(origin: Instant) -> Self {
        Self { origin, last: Instant::now(), stages: Vec::new() }
    }

    /// Ends the stage `name`, which began when the last one ended.
    pub fn stage(&mut self, name: &'static str, bytes: u64, pixels: u64, windows: u64) {
        let now = Instant::now();
        let start_s = (self.last - self.origin).as_secs_f64();
        let seconds = (now - self.last).as_secs_f64();
        self.stages.push(Stage { name, start_s, seconds, bytes, pixels, windows });
        self.last = now;
    }
}
