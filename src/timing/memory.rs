//! How much memory the process took, as `/proc/self/status` tells.

use std::sync::atomic::{AtomicU64, Ordering};

/// The largest private memory seen (`RssAnon`: without files that are mapped).
#[derive(Debug, Default)]
pub struct PeakMemory(AtomicU64);

impl PeakMemory {
    /// Looks again.
    pub fn sample(&self) {
        self.0.fetch_max(status_bytes("RssAnon:"), Ordering::Relaxed);
    }

    /// The largest so far, bytes; 0 where the system does not tell.
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The most memory of any kind, mapped files included, that the process ever had (`VmHWM`), bytes; 0 where
/// the system does not tell.
pub fn peak_resident_bytes() -> u64 {
    status_bytes("VmHWM:")
}

/// This machine's name, or nothing where the system does not tell.
pub fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

fn status_bytes(key: &str) -> u64 {
    let read = || -> Option<u64> {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
    };
    read().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peaks_grow_with_what_is_taken() {
        let peak = PeakMemory::default();
        let taken = vec![1u8; 64 << 20];
        peak.sample();
        assert!(peak.bytes() >= 64 << 20, "{}", peak.bytes());
        assert!(peak_resident_bytes() >= 64 << 20, "{}", peak_resident_bytes());
        assert_eq!(taken.iter().map(|&v| usize::from(v)).sum::<usize>(), taken.len());
    }
}
