//! Requests to stop early: a scheduler's or a user's signal is noted, and the work in hand asks for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXFSZ};
use signal_hook::flag::{register, register_usize};

/// The signals that mean "stop early": Ctrl-C, `kill`, and what a scheduler sends before a job's time is up.
const SIGNALS: [(i32, &str); 4] =
    [(SIGINT, "SIGINT"), (SIGTERM, "SIGTERM"), (SIGUSR1, "SIGUSR1"), (SIGUSR2, "SIGUSR2")];

/// Whether this process was asked to stop.
#[derive(Clone, Debug, Default)]
pub struct StopRequest {
    /// 0 for no; otherwise the place in [`SIGNALS`], counted from 1.
    signal: Arc<AtomicUsize>,
}

impl StopRequest {
    /// Listens from now on: such a signal no longer ends the process, but is noted.
    ///
    /// # Errors
    /// If the system refuses a handler.
    pub fn listen() -> Result<Self> {
        let request = Self::default();
        for (k, (signal, name)) in SIGNALS.into_iter().enumerate() {
            register_usize(signal, Arc::clone(&request.signal), k + 1)
                .with_context(|| format!("cannot listen for {name}"))?;
        }
        Ok(request)
    }

    /// The name of the last signal that asked, if one did.
    pub fn asked(&self) -> Option<&'static str> {
        let number = self.signal.load(Ordering::Relaxed);
        SIGNALS.get(number.wrapping_sub(1)).map(|(_, name)| *name)
    }
}

/// From now on a write beyond the job's file-size limit fails, and names its file; the signal that the system sends
/// with it would end the process without a word.
///
/// # Errors
/// If the system refuses a handler.
pub fn outlive_file_size_limit() -> Result<()> {
    register(SIGXFSZ, Arc::new(AtomicBool::new(false))).context("cannot listen for SIGXFSZ")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_noted_by_name_and_ends_nothing() {
        let request = StopRequest::listen().unwrap();
        assert_eq!(request.asked(), None);
        signal_hook::low_level::raise(SIGUSR2).unwrap();
        assert_eq!(request.asked(), Some("SIGUSR2"));
    }
}
