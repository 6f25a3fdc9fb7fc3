//! The few errors a caller branches on; every other one is an `anyhow` chain.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::Result;

/// The command line or the settings are wrong; nothing was started. Exit code 2.
#[derive(Debug)]
pub struct WrongUsage(pub String);

impl fmt::Display for WrongUsage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WrongUsage {}

/// The device stopped answering, or panicked: no scene after this one can be scanned on it.
#[derive(Debug)]
pub struct DeviceLost(pub String);

impl fmt::Display for DeviceLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the device was lost: {}", self.0)
    }
}

impl std::error::Error for DeviceLost {}

/// A signal asked to stop in the middle of work; what was finished before is kept elsewhere.
#[derive(Debug)]
pub struct Stopped;

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("stopped on request")
    }
}

impl std::error::Error for Stopped {}

/// Runs what may panic inside the framework or a driver; the panic becomes [`DeviceLost`].
///
/// # Errors
/// As `work`, or [`DeviceLost`].
pub fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(answer) => answer,
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("panic without a message");
            Err(DeviceLost(text.to_owned()).into())
        }
    }
}
