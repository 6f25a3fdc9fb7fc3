//! One folder a shard, absent or whole: written aside, synced, renamed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};

use super::pipeline::{Findings, SceneFindings};
use super::{PeakMemory, ScanJob, ShardSummary, shards_folder};
use crate::detect::stitch::stitch;
use crate::records::{BlobRow, SceneOutcome, SeamRow, Shard, ShardManifest, TimingRow};
use crate::table::{BLOB_HEADER, SEAM_HEADER, TIMING_HEADER, write_rows, write_whole};
use crate::timing::{BandClock, unix_seconds};

/// The file that says what a shard is.
pub const MANIFEST: &str = "shard.json";

/// The machine and what the network ran on.
pub struct Where {
    /// The machine's name.
    pub host: String,
    /// What the network ran on.
    pub device: String,
}

/// Where shard `index` of `count` is published.
pub fn shard_folder(out: &Path, index: usize, count: usize) -> PathBuf {
    shards_folder(out).join(format!("shard-{index:05}-of-{count:05}"))
}

/// # Errors
/// If the folder has no readable manifest.
pub fn read_manifest(folder: &Path) -> Result<ShardManifest> {
    let path = folder.join(MANIFEST);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))
}

/// Writes what was found and renames it into place.
///
/// # Errors
/// If a file cannot be written; nothing then stands under the shard's name.
pub fn publish(
    job: &ScanJob,
    shard: &Shard,
    mut found: Findings,
    place: &Where,
    memory: &PeakMemory,
    began: Instant,
) -> Result<ShardSummary> {
    let folder = shard_folder(&job.out, shard.index, job.shards);
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let aside = shards_folder(&job.out).join(format!(".{name}.{}.part", std::process::id()));
    fs::create_dir_all(&aside).with_context(|| format!("cannot make {}", aside.display()))?;
    let written = || -> Result<ShardSummary> {
        let mut clock = BandClock::start(began);
        for scene in found.scenes.values_mut() {
            look_again(scene);
        }
        let (blobs, seams) = rows(job, &mut found);
        write_rows(&aside.join("impacts.csv"), &BLOB_HEADER, &blobs)?;
        write_rows(&aside.join("seams.csv"), &SEAM_HEADER, &seams)?;
        write_whole(&aside.join("settings.toml"), toml::to_string(&job.settings)?.as_bytes())?;
        clock.stage("write", 0, 0, 0);
        let timing = timing(job, shard, &found, &clock, place);
        write_rows(&aside.join("timing.csv"), &TIMING_HEADER, &timing)?;
        memory.sample();
        let manifest = manifest(job, shard, found, place, memory, began, &aside)?;
        write_whole(&aside.join(MANIFEST), serde_json::to_string_pretty(&manifest)?.as_bytes())?;
        sync(&aside)?;
        fs::rename(&aside, &folder).with_context(|| format!("cannot rename to {}", folder.display()))?;
        sync(&shards_folder(&job.out))?;
        Ok(ShardSummary { manifest, was_done: false, stage_seconds: add_up(&timing) })
    };
    written().inspect_err(|_| drop(fs::remove_dir_all(&aside)))
}

fn sync(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|f| f.sync_all()).with_context(|| format!("cannot sync {}", folder.display()))
}

/// A scene that changed while it was read has failed, whatever was found in it.
fn look_again(scene: &mut SceneFindings) {
    if let Some(Err(why)) = scene.file.as_ref().map(|file| file.unchanged()) {
        scene.failed.get_or_insert(format!("{why:#}"));
    }
}

/// The blobs of the scenes that did not fail: complete ones that are large and sure enough, and all that
/// touch the edge of this shard's rows.
fn rows(job: &ScanJob, found: &mut Findings) -> (Vec<BlobRow>, Vec<SeamRow>) {
    let scan = &job.settings.scan;
    let (mut blobs, mut seams) = (Vec::new(), Vec::new());
    let mut seam = 0;
    for (&index, scene) in &mut found.scenes {
        let record = &job.scenes.records[index];
        if scene.failed.is_some() {
            continue;
        }
        for piece in stitch(std::mem::take(&mut scene.bands)) {
            let complete = piece.closed.iter().filter(|blob| blob.counts(scan.min_area_px, scan.min_score));
            blobs.extend(complete.map(|blob| BlobRow::new(&record.file_name, blob, None)));
            for open in &piece.open {
                blobs.push(BlobRow::new(&record.file_name, &open.blob, Some(seam)));
                seams.extend(open.runs.iter().map(|run| SeamRow {
                    scene: record.file_name.clone(),
                    row_px: run.row,
                    col0_px: run.col0,
                    col1_px: run.col1,
                    seam,
                }));
                seam += 1;
            }
        }
    }
    (blobs, seams)
}

fn timing(
    job: &ScanJob,
    shard: &Shard,
    found: &Findings,
    write: &BandClock,
    place: &Where,
) -> Vec<TimingRow> {
    let row = |scene: &str, band: u64, stage: &crate::timing::Stage| TimingRow {
        shard: shard.index,
        scene: scene.to_owned(),
        band,
        stage: stage.name.to_owned(),
        start_s: stage.start_s,
        seconds: stage.seconds,
        bytes: stage.bytes,
        pixels: stage.pixels,
        windows: stage.windows,
        host: place.host.clone(),
        device: place.device.clone(),
    };
    let mut rows = Vec::new();
    for (scene, band, clock) in &found.clocks {
        let name = &job.scenes.records[*scene].file_name;
        rows.extend(clock.stages.iter().map(|stage| row(name, *band, stage)));
    }
    rows.extend(write.stages.iter().map(|stage| row("", 0, stage)));
    rows
}

fn add_up(rows: &[TimingRow]) -> Vec<(String, f64)> {
    let mut sums: Vec<(String, f64)> = Vec::new();
    for row in rows {
        match sums.iter_mut().find(|(stage, _)| *stage == row.stage) {
            Some((_, seconds)) => *seconds += row.seconds,
            None => sums.push((row.stage.clone(), row.seconds)),
        }
    }
    sums
}

fn manifest(
    job: &ScanJob,
    shard: &Shard,
    found: Findings,
    place: &Where,
    memory: &PeakMemory,
    began: Instant,
    folder: &Path,
) -> Result<ShardManifest> {
    let mut files = Vec::new();
    for name in ["impacts.csv", "seams.csv", "settings.toml", "timing.csv"] {
        let bytes = fs::read(folder.join(name))?;
        files.push((name.to_owned(), blake3::hash(&bytes).to_hex().to_string()));
    }
    let outcome = |(index, scene): (usize, SceneFindings)| SceneOutcome {
        scene: job.scenes.records[index].file_name.clone(),
        file: std::path::absolute(job.scenes.path(&job.scenes.records[index])).ok(),
        rows: job.scenes.records[index].rows,
        cols: job.scenes.records[index].cols,
        row_runs: scene.rows,
        pixels: scene.pixels,
        valid_px: scene.valid_px,
        valid_m2: scene.valid_m2,
        computed_px: scene.computed_px,
        failed: scene.failed,
        georef: scene.georef,
        pixel_error: scene.pixel_error,
    };
    let (seconds, ended_unix_s) = (began.elapsed().as_secs_f64(), unix_seconds());
    Ok(ShardManifest {
        shard: shard.index,
        shards: job.shards,
        ids: job.ids(),
        planned_px: Some(job.scenes.records.iter().map(|scene| scene.rows * scene.cols).sum()),
        min_area_px: job.settings.scan.min_area_px,
        min_score: job.settings.scan.min_score,
        host: place.host.clone(),
        device: place.device.clone(),
        threads: rayon::current_num_threads(),
        scheduler: job.scheduler.clone(),
        command: job.command.clone(),
        seconds,
        started_unix_s: ended_unix_s - seconds,
        ended_unix_s,
        peak_rss_anon_bytes: memory.bytes(),
        scenes: found.scenes.into_iter().map(outcome).collect(),
        files,
    })
}
