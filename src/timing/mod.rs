//! Where the time and the memory went: stages that follow each other without a gap.

mod memory;
mod spread;

use std::borrow::Cow;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

pub use memory::{PeakMemory, host_name, peak_resident_bytes};
pub use spread::Spread;

/// The stages of a band, in the order of work.
pub const STAGES: [&str; 7] = ["open", "read", "decode", "infer", "label", "write", "wait"];

/// Seconds since 1970, UTC, by this machine's clock.
pub fn unix_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// A stage of a band, on the shard's clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// open, read, decode, infer, label, write or wait.
    pub name: Cow<'static, str>,
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

/// A shard's clock: what earlier tasks spent on it counts, the pauses between them do not.
#[derive(Clone, Copy, Debug)]
pub struct ShardClock {
    began: Instant,
    spent_s: f64,
}

impl ShardClock {
    /// Goes on now from `spent_s`.
    pub fn start(spent_s: f64) -> Self {
        Self { began: Instant::now(), spent_s }
    }

    /// Seconds since the shard began.
    pub fn seconds(&self) -> f64 {
        self.at(Instant::now())
    }

    fn at(&self, now: Instant) -> f64 {
        self.spent_s + (now - self.began).as_secs_f64()
    }
}

/// A band's stopwatch: each stage begins where the last one ended, so they add up to its wall time.
#[derive(Clone, Debug)]
pub struct BandClock {
    shard: ShardClock,
    last: Instant,
    /// What was done so far.
    pub stages: Vec<Stage>,
}

impl BandClock {
    /// Starts now, on the clock of its shard.
    pub fn start(shard: ShardClock) -> Self {
        Self { shard, last: Instant::now(), stages: Vec::new() }
    }

    /// Ends the stage `name`, which began when the last one ended.
    pub fn stage(&mut self, name: &'static str, bytes: u64, pixels: u64, windows: u64) {
        let now = Instant::now();
        let start_s = self.shard.at(self.last);
        let seconds = (now - self.last).as_secs_f64();
        self.stages.push(Stage { name: name.into(), start_s, seconds, bytes, pixels, windows });
        self.last = now;
    }
}
