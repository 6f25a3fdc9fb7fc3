//! One folder a shard, absent or whole: written aside, synced, renamed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::journal::Journal;
use super::pipeline::{Findings, SceneFindings, Work};
use super::{PART_TABLE, PARTS, ScanJob, ShardSummary, manifest, shards_folder};
use crate::detect::stitch::stitch;
use crate::records::{BlobRow, SceneOutcome, SeamRow, Shard, ShardManifest, TimingRow};
use crate::table::{BLOB_HEADER, PART_HEADER, SEAM_HEADER, TIMING_HEADER, csv_bytes, write_whole};
use crate::timing::{BandClock, unix_seconds};

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

/// Writes what was found and renames it into place.
///
/// # Errors
/// If a file cannot be written; nothing then stands under the shard's name.
pub fn publish(
    work: Work,
    shard: &Shard,
    mut found: Findings,
    place: &Where,
    journal: &Journal,
) -> Result<ShardSummary> {
    let job = work.job;
    let folder = shard_folder(&job.out, shard.index, job.shards);
    let aside = journal.aside()?;
    let written = || -> Result<ShardSummary> {
        let mut clock = BandClock::start(work.clock);
        for scene in found.scenes.values_mut() {
            look_again(scene);
        }
        let (blobs, seams) = rows(job, &mut found);
        let mut files = Files { folder: &aside, written: Vec::new() };
        files.write("impacts.csv", &csv_bytes(&BLOB_HEADER, &blobs)?)?;
        files.write("seams.csv", &csv_bytes(&SEAM_HEADER, &seams)?)?;
        files.write("settings.toml", toml::to_string(&job.settings)?.as_bytes())?;
        if job.probabilities {
            let (hash, parts) = journal.parts().publish(&aside, job, &found)?;
            files.written.push((PARTS.to_owned(), hash));
            files.write(PART_TABLE, &csv_bytes(&PART_HEADER, &parts)?)?;
        }
        clock.stage("write", 0, 0, 0);
        let timing = timing(job, shard, &found, &clock, place);
        files.write("timing.csv", &csv_bytes(&TIMING_HEADER, &timing)?)?;
        work.memory.sample();
        let mut manifest = describe(work, shard, found, place, files.written);
        manifest.tasks = journal.tasks + 1;
        manifest::write(&aside, &mut manifest)?;
        sync(&aside)?;
        fs::rename(&aside, &folder).with_context(|| format!("cannot rename to {}", folder.display()))?;
        sync(&shards_folder(&job.out))?;
        Ok(ShardSummary { manifest, was_done: false, stage_seconds: add_up(&timing) })
    };
    let ended = written();
    if ended.is_err() {
        drop(fs::remove_dir_all(&aside));
        // Where the file system has no locks, a second task of this index may have been faster.
        if let Ok(Some(manifest)) = job.finished(shard.index) {
            return Ok(ShardSummary { manifest, was_done: true, stage_seconds: Vec::new() });
        }
    }
    ended
}

/// Files of a shard and the hash of what was meant to be in each: a write that the system lied about is found.
struct Files<'a> {
    folder: &'a Path,
    written: Vec<(String, String)>,
}

impl Files<'_> {
    fn write(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        write_whole(&self.folder.join(name), bytes)?;
        self.written.push((name.to_owned(), blake3::hash(bytes).to_hex().to_string()));
        Ok(())
    }
}

fn sync(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|f| f.sync_all()).with_context(|| format!("cannot sync {}", folder.display()))
}

/// A scene that changed while it was read has failed, whatever was found in it.
fn look_again(scene: &mut SceneFindings) {
    match scene.file.as_ref().map(|file| file.look()) {
        Some(Ok(look)) => scene.look = Some(look),
        Some(Err(why)) => drop(scene.failed.get_or_insert(format!("{why:#}"))),
        None => {}
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
        stage: stage.name.to_string(),
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
        rows.extend(clock.iter().map(|stage| row(name, *band, stage)));
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

fn describe(
    work: Work,
    shard: &Shard,
    found: Findings,
    place: &Where,
    files: Vec<(String, String)>,
) -> ShardManifest {
    let job = work.job;
    let outcome = |(index, mut scene): (usize, SceneFindings)| {
        // Bands that an earlier task finished come first, wherever they are.
        scene.rows.sort_unstable();
        SceneOutcome {
            scene: job.scenes.records[index].file_name.clone(),
            file: std::path::absolute(job.scenes.path(&job.scenes.records[index])).ok(),
            look: scene.look,
            rows: job.scenes.records[index].rows,
            cols: job.scenes.records[index].cols,
            row_runs: scene.rows,
            pixels: scene.pixels,
            valid_px: scene.valid_px,
            valid_m2: scene.valid_m2,
            computed_px: scene.computed_px,
            looked_px: scene.looked_px,
            failed: scene.failed,
            georef: scene.georef,
            geo_tags: scene.file.filter(|_| job.probabilities).map(|file| file.header().geo_tags.clone()),
            pixel_error: scene.pixel_error,
        }
    };
    let (seconds, ended_unix_s) = (work.clock.seconds(), unix_seconds());
    ShardManifest {
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
        tasks: 1,
        overlay: job.overlay,
        peak_rss_anon_bytes: work.memory.bytes(),
        scenes: found.scenes.into_iter().map(outcome).collect(),
        files,
        seal: String::new(),
    }
}
