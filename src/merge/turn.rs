//! One merge of a folder at a time, and what a killed one left in it.

use std::fs::{self, File, TryLockError};
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::table::is_aside;

/// What merges write.
const FILES: [&str; 9] = [
    "catalogue.csv",
    "catalogue.geojson",
    "catalogue.diam",
    "catalogue.scc",
    "catalogue.gpkg",
    "scenes.csv",
    "timing.csv",
    "speedup.csv",
    "report.html",
];

/// Locks `out` for a merge, for as long as the answer lives, and removes the files that a killed one wrote aside.
/// Where the file system has no locks there is nothing to tell a dead merge by: its files stay.
///
/// # Errors
/// If another merge is at work there, or a file cannot be removed.
pub fn take(out: &Path) -> Result<File> {
    let folder = File::open(out).with_context(|| format!("cannot read {}", out.display()))?;
    match folder.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            bail!("another merge is writing into {}: let it finish, or end it", out.display())
        }
        Err(TryLockError::Error(_)) => return Ok(folder),
    }
    for entry in fs::read_dir(out).with_context(|| format!("cannot list {}", out.display()))? {
        let entry = entry.with_context(|| format!("cannot list {}", out.display()))?;
        let name = entry.file_name();
        if FILES.iter().any(|file| is_aside(&name.to_string_lossy(), file)) {
            let path = entry.path();
            fs::remove_file(&path)
                .with_context(|| format!("cannot remove {}, of a killed merge", path.display()))?;
        }
    }
    Ok(folder)
}
