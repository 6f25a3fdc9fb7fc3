//! Shards into one catalogue: verified, stitched, sorted, and the tables a paper needs.

mod blobs;
mod outputs;
mod report;
mod shards;

use std::path::Path;

use anyhow::{Result, bail};

use crate::records::{Impact, ShardManifest};
pub use shards::ranges;

/// What a merge came to.
#[derive(Clone, Debug)]
pub struct Merged {
    /// In catalogue order.
    pub impacts: Vec<Impact>,
    /// The shards that are in it.
    pub manifests: Vec<ShardManifest>,
    /// Numbers of the shards that are not there.
    pub missing: Vec<usize>,
    /// Scenes that failed somewhere: name and why.
    pub failed: Vec<(String, String)>,
}

impl Merged {
    /// Valid pixels scanned.
    pub fn valid_px(&self) -> u64 {
        self.scenes().map(|scene| scene.valid_px).sum()
    }

    /// Pixels scanned, no-data included.
    pub fn pixels(&self) -> u64 {
        self.scenes().map(|scene| scene.pixels).sum()
    }

    fn scenes(&self) -> impl Iterator<Item = &crate::records::SceneOutcome> {
        self.manifests.iter().flat_map(|manifest| &manifest.scenes)
    }
}

/// Merges the published shards of `out` and writes `catalogue.csv`, `catalogue.geojson`, `timing.csv`,
/// `speedup.csv` and `report.html` there.
///
/// # Errors
/// If there is no shard, a file of one is damaged, shards of different runs are mixed, or some are missing
/// and `allow_partial` is not set.
pub fn run(out: &Path, allow_partial: bool) -> Result<Merged> {
    let found = shards::find(out)?;
    if !found.missing.is_empty() && !allow_partial {
        bail!(
            "{} of {} shards are missing from {}: {}; scan them, or merge what is there with --allow-partial",
            found.missing.len(),
            found.count,
            out.display(),
            ranges(&found.missing)
        );
    }
    let impacts = blobs::impacts(&found)?;
    let manifests: Vec<ShardManifest> = found.shards.into_iter().map(|shard| shard.manifest).collect();
    let mut failed: Vec<(String, String)> = manifests
        .iter()
        .flat_map(|manifest| &manifest.scenes)
        .filter_map(|scene| Some((scene.scene.clone(), scene.failed.clone()?)))
        .collect();
    failed.sort();
    failed.dedup_by(|a, b| a.0 == b.0);
    let merged = Merged { impacts, manifests, missing: found.missing, failed };
    outputs::write(out, &merged)?;
    Ok(merged)
}

/// The manifests of the published shards of `out`, verified.
///
/// # Errors
/// As [`run`], but missing shards are no error.
pub fn shard_manifests(out: &Path) -> Result<Vec<ShardManifest>> {
    Ok(shards::find(out)?.shards.into_iter().map(|shard| shard.manifest).collect())
}
