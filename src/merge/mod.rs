//! Shards into one catalogue: verified, stitched, sorted, and the tables a paper needs.

mod blobs;
mod catalogue;
mod changes;
mod columns;
mod counts;
mod done;
mod geojson;
mod gpkg;
mod groups;
mod index;
mod maps;
mod outputs;
mod overlays;
mod report;
mod shards;
mod turn;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use blobs::Scene;
use catalogue::Extras;
use columns::Columns;
use shards::{FoundShards, PublishedShard};

use crate::job::ranges;
use crate::plan::SceneList;
use crate::records::{Impact, SceneOutcome, ShardManifest};
use crate::scan::OVERLAYS;
use crate::table::Aside;
use crate::verdict::Verdicts;

pub use report::{open_scene, read_settings};

/// How to merge.
#[derive(Clone, Debug, Default)]
pub struct MergeOptions {
    /// Whether shards may be missing.
    pub allow_partial: bool,
    /// Impacts nearer than this, m, get one number in the column `group`; without it there is no such column.
    pub group_m: Option<f64>,
    /// A list of other scenes: those that cover an impact's place say how much it differs there, in the columns
    /// `repeat_scene` and `change_score`.
    pub repeat: Option<PathBuf>,
    /// A `verdicts.csv` on this run's catalogue: what it says stands in the column `verdict`.
    pub verdicts: Option<PathBuf>,
    /// Whether to write `catalogue.gpkg` too.
    pub gpkg: bool,
    /// Whether to draw the scenes, also where their scan did not ask for it.
    pub overlay: bool,
    /// A folder of `marscan speedup`, whose table and figure the report shows.
    pub speedup: Option<PathBuf>,
}

/// What a merge came to: everything but the impacts, of which there may be millions.
#[derive(Clone, Debug)]
pub struct Merged {
    /// How many the catalogue has.
    pub impacts: u64,
    /// Those of highest score, at most 50; of equal ones the lowest ids first.
    pub best: Vec<Impact>,
    /// The scenes, in catalogue order.
    pub scenes: Vec<SceneSummary>,
    /// Seconds of each stage, added over all bands of all shards, by the stage's name.
    pub stage_seconds: BTreeMap<String, f64>,
    /// The shards that are in it.
    pub manifests: Vec<ShardManifest>,
    /// Numbers of the shards that are not there.
    pub missing: Vec<usize>,
    /// Scenes that failed somewhere: name and why.
    pub failed: Vec<(String, String)>,
    /// Maps of probabilities that were written.
    pub maps: usize,
    /// Scenes that were drawn.
    pub overlays: usize,
    /// Scenes that could not be drawn: name and why.
    pub undrawn: Vec<(String, String)>,
    /// Scenes whose places, or with which places, could not be compared: name and why.
    pub uncompared: Vec<(String, String)>,
}

/// What all shards did to one scene.
#[derive(Clone, Debug, PartialEq)]
pub struct SceneSummary {
    /// The scene's `file_name`.
    pub scene: String,
    /// Impacts in the catalogue.
    pub impacts: u64,
    /// Pixels that shards had, no-data and what failed included.
    pub pixels: u64,
    /// Of those, not no-data.
    pub valid_px: u64,
    /// Pixels that went through the network.
    pub computed_px: u64,
    /// Ground searched, m²: valid pixels of the shards in which the scene did not fail, where it is
    /// georeferenced.
    pub valid_m2: Option<f64>,
}

impl Merged {
    /// Valid pixels scanned.
    pub fn valid_px(&self) -> u64 {
        self.scenes.iter().map(|scene| scene.valid_px).sum()
    }

    /// Pixels scanned, no-data included.
    pub fn pixels(&self) -> u64 {
        self.scenes.iter().map(|scene| scene.pixels).sum()
    }

    /// The share of the scene list's pixels that were scanned and did not fail, 0..=1, where the manifests
    /// say how many there are.
    pub fn share(&self) -> Option<f64> {
        let planned_px = self.manifests.first()?.planned_px?;
        let outcomes = self.manifests.iter().flat_map(|manifest| &manifest.scenes);
        let pixels: u64 = outcomes.filter(|o| o.failed.is_none()).map(|o| o.pixels).sum();
        Some(pixels as f64 / planned_px.max(1) as f64)
    }

    /// The share of the valid pixels that a first look did not leave out, 0..=1, where there was one.
    pub fn looked(&self) -> Option<f64> {
        let outcomes = self.manifests.iter().flat_map(|manifest| &manifest.scenes);
        let screened = outcomes.filter_map(|outcome| Some((outcome.looked_px?, outcome.valid_px)));
        let (looked_px, valid_px) = screened.reduce(|a, b| (a.0 + b.0, a.1 + b.1))?;
        Some(looked_px as f64 / valid_px.max(1) as f64)
    }

    /// Ground searched, km², in the scenes that are georeferenced, if any is.
    pub fn searched_km2(&self) -> Option<f64> {
        km2(self.scenes.iter().map(|scene| scene.valid_m2))
    }
}

impl SceneSummary {
    fn new(scene: &Scene<'_>, impacts: u64) -> Self {
        let sum = |count: fn(&SceneOutcome) -> u64| scene.outcomes().map(count).sum();
        Self {
            scene: scene.name.to_owned(),
            impacts,
            pixels: sum(|outcome| outcome.pixels),
            valid_px: sum(|outcome| outcome.valid_px),
            computed_px: sum(|outcome| outcome.computed_px),
            valid_m2: scene.valid_m2(),
        }
    }
}

/// Merges the published shards of `out` and writes `catalogue.csv`, `catalogue.geojson`, `scenes.csv` (the
/// scenes that are done), `timing.csv`, `speedup.csv` and `report.html` there; of a georeferenced run
/// `catalogue.diam` and `catalogue.scc` too, `catalogue.gpkg` where it is asked for, a map of each scene in
/// `probabilities/` where the shards have them, and a picture in `overlays/` where that is asked for.
///
/// Memory does not grow with the impacts, but for 48 bytes each where they are grouped, 12 each where they are
/// compared, and 72 each of the fullest scene's.
///
/// # Errors
/// If there is no shard, a file of one is damaged, shards of different runs are mixed, some are missing and
/// that is not allowed, or another merge is at work in `out`.
pub fn run(out: &Path, options: &MergeOptions) -> Result<Merged> {
    options.group_m.map_or(Ok(()), groups::check)?;
    let repeat = options.repeat.as_deref().map(SceneList::read).transpose()?;
    let verdicts = options.verdicts.as_deref().map(Verdicts::read).transpose()?;
    let compared = options.speedup.as_deref().map(report::Compared::load).transpose()?;
    let found = shards::find(out)?;
    if !found.missing.is_empty() && !options.allow_partial {
        bail!(
            "{} of {} shards are missing from {}: {}; scan them, or merge what is there with --allow-partial",
            found.missing.len(),
            found.count,
            out.display(),
            ranges(found.missing.iter().copied())
        );
    }
    let _turn = turn::take(out)?;
    let scenes = blobs::scenes(&found);
    for scene in &scenes {
        done::scanned_once(scene, found.missing.is_empty())?;
        done::of_one_image(scene)?;
    }
    let groups = options.group_m.map(|distance_m| groups::group(&scenes, distance_m)).transpose()?;
    let changes = repeat.map(|list| changes::find(out, &found, &scenes, &list)).transpose()?;
    let extras = Extras {
        columns: Columns { groups: groups.as_ref(), changes: changes.as_ref(), verdicts: verdicts.as_ref() },
        area_km2: km2(scenes.iter().map(Scene::valid_m2)),
        gpkg: options.gpkg,
    };
    let written = catalogue::write(out, &scenes, &extras)?;
    verdicts.as_ref().map_or(Ok(()), |verdicts| written.judged_by(verdicts, out))?;
    let timing = outputs::timing(out, &found.shards)?;
    let maps = maps::write(out, &scenes)?;
    let wanted = options.overlay || found.shards.iter().any(|shard| shard.manifest.overlay);
    let drawn = if wanted {
        overlays::write(out, &found, &scenes)?
    } else {
        maps::remove_stale(&out.join(OVERLAYS), &scenes, "png")?;
        overlays::Drawn::default()
    };
    publish(out, written.files.into_iter().chain([timing]))?;
    done::write(out, &scenes)?;
    let summaries = scenes.iter().zip(&written.counts).map(|(scene, count)| SceneSummary::new(scene, *count));
    let summaries: Vec<SceneSummary> = summaries.collect();
    let merged = Merged {
        impacts: written.counts.iter().sum(),
        best: written.best,
        scenes: summaries,
        stage_seconds: stage_seconds(&found.shards),
        failed: failed(&found.shards),
        maps,
        overlays: drawn.scenes,
        undrawn: drawn.refused,
        uncompared: changes.map_or_else(Vec::new, |changes| changes.refused),
        missing: found.missing.clone(),
        manifests: manifests(found),
    };
    outputs::write(out, &merged, compared.as_ref())?;
    Ok(merged)
}

/// The sum of areas in m² as km², if there is any.
fn km2(areas_m2: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    areas_m2.flatten().reduce(|sum, area| sum + area).map(|area_m2| area_m2 / 1e6).filter(|km2| *km2 > 0.0)
}

/// Gives `files` their names, and removes what an earlier merge wrote beside them and this one does not.
fn publish(out: &Path, files: impl Iterator<Item = Aside>) -> Result<()> {
    let mut stale: BTreeSet<PathBuf> = catalogue::OPTIONAL.iter().map(|name| out.join(name)).collect();
    for file in files {
        stale.remove(file.name());
        file.publish()?;
    }
    for path in stale.iter().filter(|path| path.exists()) {
        fs::remove_file(path)
            .with_context(|| format!("cannot remove {}, of an earlier merge", path.display()))?;
    }
    Ok(())
}

fn stage_seconds(shards: &[PublishedShard]) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    for (stage, seconds) in shards.iter().flat_map(|shard| &shard.stage_seconds) {
        *sums.entry(stage.clone()).or_default() += seconds;
    }
    sums
}

fn failed(shards: &[PublishedShard]) -> Vec<(String, String)> {
    let outcomes = shards.iter().flat_map(|shard| &shard.manifest.scenes);
    let mut failed: Vec<(String, String)> =
        outcomes.filter_map(|scene| Some((scene.scene.clone(), scene.failed.clone()?))).collect();
    failed.sort();
    failed.dedup_by(|a, b| a.0 == b.0);
    failed
}

fn manifests(found: FoundShards) -> Vec<ShardManifest> {
    found.shards.into_iter().map(|shard| shard.manifest).collect()
}

/// The manifests of the published shards of `out`, verified.
///
/// # Errors
/// As [`run`], but missing shards are no error.
pub fn shard_manifests(out: &Path) -> Result<Vec<ShardManifest>> {
    shards::find(out).map(manifests)
}
