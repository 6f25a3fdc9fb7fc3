//! One merge of a folder at a time, and what a killed one left in it.

use std::fs::{self, File, TryLockError};
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::scan::{MAPS, OVERLAYS};
use crate::table::aside_of;

/// What merges write beside maps and pictures.
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
    clear(out, false)?;
    for folder in [MAPS, OVERLAYS].map(|name| out.join(name)) {
        if folder.is_dir() {
            clear(&folder, true)?;
        }
    }
    Ok(folder)
}

/// Removes what was written aside in `folder`; in those of maps and pictures, and the folders in them,
/// nothing else is.
fn clear(folder: &Path, ours: bool) -> Result<()> {
    let cannot = || format!("cannot list {}", folder.display());
    for entry in fs::read_dir(folder).with_context(cannot)? {
        let path = entry.with_context(cannot)?.path();
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        if ours && path.is_dir() {
            clear(&path, true)?;
        } else if aside_of(&file).is_some_and(|name| ours || FILES.contains(&name)) {
            fs::remove_file(&path)
                .with_context(|| format!("cannot remove {}, of a killed merge", path.display()))?;
        }
    }
    Ok(())
}
