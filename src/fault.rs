//! The few errors a caller branches on; every other one is an `anyhow` chain.

use std::fmt;

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

/// A signal asked to stop in the middle of work that leaves nothing behind.
#[derive(Debug)]
pub struct Stopped;

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("stopped on request")
    }
}

impl std::error::Error for Stopped {}
