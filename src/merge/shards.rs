//! The published folders of a run, each held against its own checksums and against the others.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use rayon::prelude::*;

use super::index::{SceneTable, Span, scene_table, timing_table, verified};
use super::report::read_settings;
use crate::config::InputSettings;
use crate::records::ShardManifest;
use crate::scan::{PART_TABLE, read_manifest, shards_folder};
use crate::table::{BLOB_HEADER, PART_HEADER, SEAM_HEADER, TIMING_HEADER};

/// A published shard.
pub struct PublishedShard {
    /// Its folder.
    pub folder: PathBuf,
    /// Its `shard.json`.
    pub manifest: ShardManifest,
    /// Its `impacts.csv`.
    pub blobs: SceneTable,
    /// Its `seams.csv`.
    pub seams: SceneTable,
    /// Its `probabilities.csv`, where it has one.
    pub parts: Option<SceneTable>,
    /// The lines of its `timing.csv`.
    pub timing: Span,
    /// Seconds of each stage.
    pub stage_seconds: Vec<(String, f64)>,
}

/// All published shards of a run.
pub struct FoundShards {
    /// In shard order.
    pub shards: Vec<PublishedShard>,
    /// How many the plan has.
    pub count: usize,
    /// Those that are not there.
    pub missing: Vec<usize>,
}

impl FoundShards {
    /// How the run read its scenes.
    ///
    /// # Errors
    /// If its settings cannot be read.
    pub fn input(&self, out: &Path) -> Result<InputSettings> {
        let shard = self.shards.first().context("no shard")?;
        let settings = read_settings(out, &shard.manifest);
        let unreadable = || format!("cannot read the settings in {}", shard.folder.display());
        Ok(settings.with_context(unreadable)?.input)
    }
}

/// Finds and verifies the shards of `out`; whatever is not named as a published shard is passed over.
///
/// # Errors
/// If there is none, one is damaged, or two belong to different runs.
pub fn find(out: &Path) -> Result<FoundShards> {
    let folder = shards_folder(out);
    let entries = fs::read_dir(&folder)
        .with_context(|| format!("no shards in {}: run `marscan scan --out {0}` first", out.display()))?;
    let mut named = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot list {}", folder.display()))?;
        if let Some((index, count)) = parse(&entry.file_name().to_string_lossy()) {
            named.push((count, index, entry.path()));
        }
    }
    named.sort();
    // Errors are taken in shard order, so that the same damage gives the same message.
    let opened: Vec<Result<PublishedShard>> =
        named.into_par_iter().map(|(count, index, path)| open(path, index, count)).collect();
    let shards: Vec<PublishedShard> = opened.into_iter().collect::<Result<_>>()?;
    let Some(first) = shards.first() else { bail!("no finished shard in {}", folder.display()) };
    for shard in &shards {
        same_run(first, shard)?;
    }
    let count = first.manifest.shards;
    let there: BTreeSet<usize> = shards.iter().map(|shard| shard.manifest.shard).collect();
    let missing = (0..count).filter(|index| !there.contains(index)).collect();
    Ok(FoundShards { shards, count, missing })
}

/// `shard-00007-of-00064`.
fn parse(name: &str) -> Option<(usize, usize)> {
    let (index, count) = name.strip_prefix("shard-")?.split_once("-of-")?;
    let digits = |text: &str| text.len() >= 5 && text.bytes().all(|b| b.is_ascii_digit());
    (digits(index) && digits(count)).then_some(())?;
    Some((index.parse().ok()?, count.parse().ok()?))
}

fn open(folder: PathBuf, index: usize, count: usize) -> Result<PublishedShard> {
    let manifest = read_manifest(&folder)?;
    ensure!(
        (manifest.shard, manifest.shards) == (index, count),
        "{} says it is shard {} of {}: was the folder renamed?",
        folder.display(),
        manifest.shard,
        manifest.shards
    );
    let hash = |name: &str| {
        let found = manifest.files.iter().find(|file| file.0 == name);
        found
            .map(|file| file.1.as_str())
            .with_context(|| format!("{} does not name {name}", folder.display()))
    };
    let scenes: Vec<&str> = manifest.scenes.iter().map(|outcome| outcome.scene.as_str()).collect();
    let table = |name: &str, header: &[&str]| {
        let path = folder.join(name);
        verified(&path, hash(name)?, |file| scene_table(&path, file, header, &scenes))
    };
    let blobs = table("impacts.csv", &BLOB_HEADER)?;
    let seams = table("seams.csv", &SEAM_HEADER)?;
    let has_parts = manifest.files.iter().any(|file| file.0 == PART_TABLE);
    let parts = has_parts.then(|| table(PART_TABLE, &PART_HEADER)).transpose()?;
    let timing = folder.join("timing.csv");
    let (timing, stage_seconds) =
        verified(&timing, hash("timing.csv")?, |file| timing_table(file, &TIMING_HEADER))?;
    let read = ["impacts.csv", "seams.csv", "timing.csv", PART_TABLE];
    for (name, hash) in manifest.files.iter().filter(|file| !read.contains(&file.0.as_str())) {
        verified(&folder.join(name), hash, |_| Ok(()))?;
    }
    Ok(PublishedShard { folder, manifest, blobs, seams, parts, timing, stage_seconds })
}

fn same_run(first: &PublishedShard, other: &PublishedShard) -> Result<()> {
    let (a, b) = (&first.manifest, &other.manifest);
    let counts = [a, b].map(|manifest| manifest.shards.to_string());
    let pairs = [
        ("count of shards", &counts[0], &counts[1]),
        ("scene list", &a.ids.scene_list, &b.ids.scene_list),
        ("settings", &a.ids.settings, &b.ids.settings),
        ("weights", &a.ids.weights, &b.ids.weights),
        ("version", &a.ids.version, &b.ids.version),
    ];
    for (name, mine, theirs) in pairs {
        ensure!(
            mine == theirs,
            "{} and {} are of different runs, their {name} differs ({mine:.16}, {theirs:.16}): remove one of them",
            first.folder.display(),
            other.folder.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_shards_and_nothing_else() {
        assert_eq!(parse("shard-00007-of-00064"), Some((7, 64)));
        for other in [".shard-00007-of-00064.99.part", "shard-7-of-64", "shard-00007-of-00064.old", "x"] {
            assert_eq!(parse(other), None);
        }
    }
}
