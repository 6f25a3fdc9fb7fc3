//! `shard.json`: written and read with its own checksum, so that a bit turned over in it is found too.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::records::ShardManifest;
use crate::table::write_whole;

/// The file that says what a shard is.
pub const MANIFEST: &str = "shard.json";

/// Writes the manifest into `folder`, sealed.
///
/// # Errors
/// If it cannot be written.
pub fn write(folder: &Path, manifest: &mut ShardManifest) -> Result<()> {
    manifest.seal = blank();
    let text = serde_json::to_string_pretty(manifest)?;
    manifest.seal = blake3::hash(text.as_bytes()).to_hex().to_string();
    write_whole(&folder.join(MANIFEST), text.replacen(&blank(), &manifest.seal, 1).as_bytes())
}

/// Reads the manifest of a shard's folder.
///
/// # Errors
/// If it cannot be read, or is not what was written.
pub fn read(folder: &Path) -> Result<ShardManifest> {
    let path = folder.join(MANIFEST);
    let read = || -> Result<ShardManifest> {
        let text = fs::read_to_string(&path)?;
        let manifest: ShardManifest = serde_json::from_str(&text)?;
        ensure!(!manifest.seal.is_empty(), "it has no checksum of its own, as an older version wrote it");
        let blanked = text.replacen(&manifest.seal, &blank(), 1);
        ensure!(
            blake3::hash(blanked.as_bytes()).to_hex().as_str() == manifest.seal,
            "its checksum differs from what was published"
        );
        Ok(manifest)
    };
    read().with_context(|| {
        format!("{} cannot be used: remove {} and scan this shard again", path.display(), folder.display())
    })
}

fn blank() -> String {
    "0".repeat(64)
}
