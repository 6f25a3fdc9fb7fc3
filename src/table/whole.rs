//! Files that appear whole or not at all: written aside, synced, renamed.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};

/// Writes `bytes` to `path` through a temporary file in the same folder and a rename.
///
/// # Errors
/// If any step fails; what stood under `path` before is then untouched.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    write_whole_with(path, |out| Ok(out.write_all(bytes)?))
}

/// As [`write_whole`], with the content written by `fill`.
///
/// # Errors
/// If any step fails; what stood under `path` before is then untouched.
pub fn write_whole_with(path: &Path, fill: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let aside = path.with_file_name(format!(".{name}.{}.part", std::process::id()));
    let written = (|| {
        let mut out = BufWriter::new(File::create(&aside)?);
        fill(&mut out)?;
        out.into_inner()?.sync_all()?;
        fs::rename(&aside, path)?;
        Ok(())
    })();
    written
        .inspect_err(|_: &anyhow::Error| drop(fs::remove_file(&aside)))
        .with_context(|| format!("cannot write {}", path.display()))
}
