//! Reading, inference and measuring at once: two threads beside the caller, joined by short queues.
//!
//! Each band goes through its stages one after the other; neighbouring bands are in different stages at
//! the same time. An error travels with its scene.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};

use super::infer::{BandInference, ProbBand};
use super::{Event, PeakMemory, ScanJob};
use crate::config::InputSettings;
use crate::detect::Segmenter;
use crate::detect::components::{LabelledBand, label_band};
use crate::fault::DeviceLost;
use crate::geo::GeoRef;
use crate::raster::{MappedScene, Rows};
use crate::records::{Band, PixelError, Shard};
use crate::space::ScenePx;
use crate::tile::TileGrid;
use crate::timing::BandClock;

/// Bands that may wait between two stages.
const QUEUE: usize = 1;

/// What a shard found in one scene.
#[derive(Default)]
pub struct SceneFindings {
    /// A band each.
    pub bands: Vec<LabelledBand>,
    /// Half-open rows of the bands given to this shard.
    pub rows: Vec<(u64, u64)>,
    /// Of those rows.
    pub pixels: u64,
    /// Of those, not no-data.
    pub valid_px: u64,
    /// Their area, where the file says how it lies on Mars.
    pub valid_m2: Option<f64>,
    /// Through the network.
    pub computed_px: u64,
    /// Against its mask, where that is looked at.
    pub pixel_error: Option<PixelError>,
    /// Why it failed.
    pub failed: Option<String>,
    /// From its header.
    pub georef: Option<GeoRef>,
    /// The file, for a last look before publishing.
    pub file: Option<Arc<MappedScene>>,
}

/// What a shard found, by index into the scene list, and its bands' clocks.
#[derive(Default)]
pub struct Findings {
    /// By index into the scene list.
    pub scenes: BTreeMap<usize, SceneFindings>,
    /// Scene index, first row, stages.
    pub clocks: Vec<(usize, u64, BandClock)>,
}

struct Read {
    band: Band,
    clock: BandClock,
    content: Result<BandRows>,
}

/// A band as it was read.
struct BandRows {
    scene: Arc<MappedScene>,
    /// The band and its halo.
    rows: Rows,
    /// The band, where masks are looked at.
    mask: Option<Rows>,
    /// Of the band.
    valid_px: u64,
}

/// A scene and its mask.
struct Opened {
    scene: Arc<MappedScene>,
    mask: Option<Arc<MappedScene>>,
}

struct Inferred {
    band: Band,
    clock: BandClock,
    content: Result<(BandRows, ProbBand)>,
}

/// Runs the bands of `shard`.
///
/// # Errors
/// If the device is lost; everything else is a scene's own failure.
pub fn run(
    job: &ScanJob,
    shard: &Shard,
    segmenter: &mut dyn Segmenter,
    watch: &(dyn Fn(Event) + Sync),
    memory: &PeakMemory,
    began: Instant,
) -> Result<Findings> {
    let scan = &job.settings.scan;
    let grid = TileGrid { window_px: scan.window_px, halo_px: segmenter.halo_px() };
    watch(Event::Begun { pixels: crate::plan::shard_pixels(&job.scenes.records, shard) });
    let level = level(scan.probability);
    std::thread::scope(|scope| {
        let (to_infer, inferring) = sync_channel(QUEUE);
        let (to_label, labelling) = sync_channel(QUEUE);
        scope.spawn(move || read(job, shard, grid.halo_px, began, &to_infer));
        let labeller = scope.spawn(move || label(job, labelling, level, watch, memory));
        let inference = BandInference::new(segmenter, grid, scan.batch);
        let lost = infer(job, inference, &inferring, &to_label);
        drop((inferring, to_label));
        let findings = labeller.join().map_err(|_| anyhow!("the measuring thread failed"))?;
        lost.map(|()| findings)
    })
}

/// The lowest of 0..=255 that counts as `probability` or more, rounding as the network's answer is.
pub fn level(probability: f64) -> u8 {
    ((probability * 255.0 + 0.5) as u8).max(1)
}

fn read(job: &ScanJob, shard: &Shard, halo_px: u32, began: Instant, next: &SyncSender<Read>) {
    let mut opened: Option<(usize, Result<Opened, String>)> = None;
    for &band in &shard.bands {
        let mut clock = BandClock::start(began);
        if opened.as_ref().is_none_or(|(scene, _)| *scene != band.scene) {
            opened = Some((band.scene, open(job, band.scene).map_err(|why| format!("{why:#}"))));
            clock.stage("open", 0, 0, 0);
        }
        let content = match &opened {
            Some((_, Ok(opened))) => read_band(opened, band, u64::from(halo_px)),
            Some((_, Err(why))) => Err(anyhow!("{why}")),
            None => Err(anyhow!("no scene is open")),
        };
        if let Ok(BandRows { scene, rows, .. }) = &content {
            let cols = scene.header().cols;
            let stage = if scene.is_direct() { "read" } else { "decode" };
            let range = rows.range();
            let bytes = (range.end - range.start) * cols * u64::from(scene.header().bits / 8);
            clock.stage(stage, bytes, (band.row1 - band.row0) * cols, 0);
        }
        if next.send(Read { band, clock, content }).is_err() {
            return;
        }
    }
}

fn open(job: &ScanJob, index: usize) -> Result<Opened> {
    let record = &job.scenes.records[index];
    let scene = MappedScene::open(&job.scenes.path(record), job.settings.input)?;
    let header = scene.header();
    ensure!(
        (header.rows, header.cols) == (record.rows, record.cols),
        "{} has {} rows and {} columns, the scene list says {} and {}: write the list again with `marscan info`",
        record.file_name,
        header.rows,
        header.cols,
        record.rows,
        record.cols
    );
    let mask = if job.masks { job.scenes.mask(record) } else { None };
    let mask = mask.map(|path| open_mask(&path, header.rows, header.cols)).transpose()?;
    Ok(Opened { scene, mask })
}

fn open_mask(path: &Path, rows: u64, cols: u64) -> Result<Arc<MappedScene>> {
    let mask = MappedScene::open(path, InputSettings::MASK)?;
    let (mask_rows, mask_cols) = (mask.header().rows, mask.header().cols);
    ensure!(
        (mask_rows, mask_cols) == (rows, cols),
        "the mask {} has {mask_rows} rows and {mask_cols} columns, its scene {rows} and {cols}",
        path.display()
    );
    Ok(mask)
}

/// The rows of a band and its halo, every page of it fetched, and the band's valid pixels.
fn read_band(opened: &Opened, band: Band, halo: u64) -> Result<BandRows> {
    let scene = Arc::clone(&opened.scene);
    let range = band.row0.saturating_sub(halo)..(band.row1 + halo).min(scene.header().rows);
    let rows = scene.rows(range)?;
    let valid_px = (band.row0..band.row1).map(|row| valid(rows.row(row))).sum();
    let mask = opened.mask.as_ref().map(|mask| mask.rows(band.row0..band.row1)).transpose()?;
    Ok(BandRows { scene, rows, mask, valid_px })
}

/// Pixels that are not no-data; in blocks short enough to count in bytes.
fn valid(row: &[u8]) -> u64 {
    let block = |block: &[u8]| block.iter().fold(0u8, |count, &v| count + u8::from(v != 0));
    row.chunks(255).map(|chunk| u64::from(block(chunk))).sum()
}

fn infer(
    job: &ScanJob,
    mut inference: BandInference,
    bands: &Receiver<Read>,
    next: &SyncSender<Inferred>,
) -> Result<()> {
    for Read { band, mut clock, content } in bands {
        clock.stage("wait", 0, 0, 0);
        let cols = job.scenes.records[band.scene].cols;
        let content = content.and_then(|read| {
            let answer = inference.run(band.row0, band.row1, cols, &read.rows)?;
            clock.stage("infer", 0, answer.computed_px, answer.windows);
            Ok((read, answer))
        });
        if let Err(why) = &content
            && why.is::<DeviceLost>()
        {
            return content.map(drop);
        }
        if next.send(Inferred { band, clock, content }).is_err() {
            break;
        }
    }
    Ok(())
}

fn label(
    job: &ScanJob,
    bands: Receiver<Inferred>,
    level: u8,
    watch: &(dyn Fn(Event) + Sync),
    memory: &PeakMemory,
) -> Findings {
    let mut findings = Findings::default();
    for Inferred { band, mut clock, content } in bands {
        let record = &job.scenes.records[band.scene];
        clock.stage("wait", 0, 0, 0);
        let scene = findings.scenes.entry(band.scene).or_default();
        let pixels = (band.row1 - band.row0) * record.cols;
        scene.pixels += pixels;
        scene.rows.push((band.row0, band.row1));
        match content.with_context(|| format!("rows {} to {}", band.row0, band.row1)) {
            Ok((read, answer)) => {
                scene.valid_px += read.valid_px;
                scene.computed_px += answer.computed_px;
                scene.georef = read.scene.header().georef;
                if let Some(georef) = &scene.georef {
                    let centre =
                        ScenePx { row: (band.row0 + band.row1) as f64 / 2.0, col: record.cols as f64 / 2.0 };
                    *scene.valid_m2.get_or_insert(0.0) += read.valid_px as f64 * georef.pixel_area_m2(centre);
                }
                if let Some(mask) = &read.mask {
                    let error = scene.pixel_error.get_or_insert_default();
                    hold_against(mask, &read.rows, band, &answer.probabilities, error);
                }
                scene.file = Some(read.scene);
                scene.bands.push(label_band(band.row0, record.cols as usize, &answer.probabilities, level));
                clock.stage("label", 0, pixels, 0);
            }
            Err(why) => {
                let why = format!("{why:#}");
                if scene.failed.is_none() {
                    watch(Event::Failed { scene: record.file_name.clone(), why: why.clone() });
                    scene.failed = Some(why);
                }
            }
        }
        findings.clocks.push((band.scene, band.row0, clock));
        memory.sample();
        watch(Event::Band { pixels });
    }
    findings
}

/// Adds a band's squared error against its mask.
fn hold_against(mask: &Rows, rows: &Rows, band: Band, probabilities: &[u8], error: &mut PixelError) {
    let cols = probabilities.len() / (band.row1 - band.row0) as usize;
    for (row, line) in (band.row0..band.row1).zip(probabilities.chunks_exact(cols)) {
        error.add_row(rows.row(row), mask.row(row), line);
    }
}
