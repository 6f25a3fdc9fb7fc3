//! Reading, inference and measuring at once: two threads beside the caller, joined by short queues.
//!
//! Each band goes through its stages one after the other; neighbouring bands are in different stages at
//! the same time. An error travels with its scene. A band that is finished is kept in the journal at once.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use anyhow::{Context, Result, anyhow, ensure};

use super::infer::{BandInference, BandTask, ProbBand};
use super::journal::{BandRecord, Journal};
use super::screen::Looked;
use super::{Event, PeakMemory, ScanJob, Screen};
use crate::config::InputSettings;
use crate::detect::components::{LabelledBand, label_band};
use crate::detect::{Segmenter, reach_px};
use crate::fault::guarded;
use crate::geo::GeoRef;
use crate::raster::{MappedScene, Rows};
use crate::records::{Band, PixelError, Shard};
use crate::tile::TileGrid;
use crate::timing::{BandClock, ShardClock, Stage};

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
    /// With data and looked at, where a first look left out the others.
    pub looked_px: Option<u64>,
    /// Against its mask, where that is looked at.
    pub pixel_error: Option<PixelError>,
    /// Why it failed.
    pub failed: Option<String>,
    /// From its header.
    pub georef: Option<GeoRef>,
    /// Its bands' packed probabilities, and their blake3.
    pub parts: Vec<(Band, String)>,
    /// What that last look gave.
    pub look: Option<String>,
    /// The file, for a last look before publishing.
    pub file: Option<Arc<MappedScene>>,
}

/// What a shard found, by index into the scene list, and its bands' clocks.
#[derive(Default)]
pub struct Findings {
    /// By index into the scene list.
    pub scenes: BTreeMap<usize, SceneFindings>,
    /// Scene index, first row, stages.
    pub clocks: Vec<(usize, u64, Vec<Stage>)>,
}

struct Read {
    band: Band,
    clock: BandClock,
    content: Result<BandRows>,
}

/// A band as it was read.
struct BandRows {
    scene: Arc<MappedScene>,
    /// The band and the rows around it.
    rows: Rows,
    /// The band, where masks are looked at.
    mask: Option<Rows>,
    /// Of the band.
    valid_px: u64,
    /// Their area, where the file says how it lies on Mars.
    valid_m2: Option<f64>,
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

/// What the threads of a shard share.
#[derive(Clone, Copy)]
pub struct Work<'a> {
    /// The run.
    pub job: &'a ScanJob,
    /// What is told of it.
    pub watch: &'a (dyn Fn(Event) + Sync),
    /// How much it takes.
    pub memory: &'a PeakMemory,
    /// Its time.
    pub clock: ShardClock,
}

/// Runs those bands of `shard` that are not in `journal` yet.
///
/// # Errors
/// [`Stopped`] on request, with all finished bands kept; if the device is lost, or a band cannot be kept.
/// Everything else is a scene's own failure.
pub fn run(
    work: Work,
    shard: &Shard,
    segmenter: &mut dyn Segmenter,
    screen: Option<&Screen>,
    journal: &mut Journal,
) -> Result<Findings> {
    let scan = &work.job.settings.scan;
    let grid = TileGrid { window_px: scan.window_px, halo_px: segmenter.halo_px() };
    let reach_px = reach_px(segmenter).max(screen.map_or(0, Screen::reach_px));
    (work.watch)(Event::Begun { pixels: crate::plan::shard_pixels(&work.job.scenes.records, shard) });
    let (mut findings, bands) = take_kept(work, shard, journal);
    std::thread::scope(|scope| {
        let (to_infer, inferring) = sync_channel(QUEUE);
        let (to_label, labelling) = sync_channel(QUEUE);
        let reader = scope.spawn(move || read(work, &bands, reach_px, &to_infer));
        let findings = &mut findings;
        let labeller = scope.spawn(move || label(work, labelling, findings, journal));
        let inference = BandInference::new(segmenter, screen, grid, scan.batch);
        let inferred = infer(work.job, inference, &inferring, &to_label);
        drop((inferring, to_label));
        reader.join().map_err(|_| anyhow!("the reading thread failed"))?;
        labeller.join().map_err(|_| anyhow!("the measuring thread failed"))??;
        inferred
    })?;
    Ok(findings)
}

/// What earlier tasks finished, where the scene is still the same file, and the bands that are left.
fn take_kept(work: Work, shard: &Shard, journal: &mut Journal) -> (Findings, Vec<Band>) {
    let mut kept: BTreeMap<Band, BandRecord> =
        std::mem::take(&mut journal.kept).into_iter().map(|record| (record.band, record)).collect();
    let parts = journal.parts();
    let kept_whole = |record: &BandRecord| {
        let hash = record.packed.as_ref();
        !work.job.probabilities || hash.is_some_and(|hash| parts.read(record.band, hash).is_ok())
    };
    let (mut findings, mut left) = (Findings::default(), Vec::new());
    let mut opened: Option<(usize, Option<Arc<MappedScene>>)> = None;
    for &band in &shard.bands {
        let Some(record) = kept.remove(&band) else {
            left.push(band);
            continue;
        };
        if opened.as_ref().is_none_or(|(scene, _)| *scene != band.scene) {
            opened = Some((band.scene, open(work.job, band.scene).ok().map(|opened| opened.scene)));
        }
        match opened
            .as_ref()
            .and_then(|(_, scene)| scene.clone())
            .filter(|scene| scene.stamp() == record.file && kept_whole(&record))
        {
            Some(scene) => findings.take(&scene, record),
            None => left.push(band),
        }
    }
    if !findings.clocks.is_empty() {
        let pixels = findings.scenes.values().map(|scene| scene.pixels).sum();
        (work.watch)(Event::GoesOn { bands: findings.clocks.len(), of: shard.bands.len(), pixels });
    }
    (findings, left)
}

impl Findings {
    /// Takes in a finished band of `scene`.
    fn take(&mut self, scene: &Arc<MappedScene>, record: BandRecord) {
        let BandRecord { band, valid_px, valid_m2, computed_px, looked_px, .. } = record;
        let BandRecord { pixel_error, packed, found, stages, .. } = record;
        let cols = scene.header().cols;
        let of_scene = self.begin(band, cols);
        of_scene.valid_px += valid_px;
        of_scene.computed_px += computed_px;
        if let Some(looked_px) = looked_px {
            *of_scene.looked_px.get_or_insert(0) += looked_px;
        }
        of_scene.georef = scene.header().georef;
        if let Some(valid_m2) = valid_m2 {
            *of_scene.valid_m2.get_or_insert(0.0) += valid_m2;
        }
        if let Some(error) = pixel_error {
            let sum = of_scene.pixel_error.get_or_insert_default();
            *sum = sum.plus(&error);
        }
        of_scene.file = Some(Arc::clone(scene));
        of_scene.parts.extend(packed.map(|hash| (band, hash)));
        of_scene.bands.push(found);
        self.clocks.push((band.scene, band.row0, stages));
    }

    /// Counts a band's pixels to its scene.
    fn begin(&mut self, band: Band, cols: u64) -> &mut SceneFindings {
        let scene = self.scenes.entry(band.scene).or_default();
        scene.pixels += (band.row1 - band.row0) * cols;
        scene.rows.push((band.row0, band.row1));
        scene
    }
}

/// The lowest of 0..=255 that counts as `probability` or more, rounding as the network's answer is.
pub fn level(probability: f64) -> u8 {
    ((probability * 255.0 + 0.5) as u8).max(1)
}

fn read(work: Work, bands: &[Band], reach_px: u32, next: &SyncSender<Read>) {
    let mut opened: Option<(usize, Result<Opened, String>)> = None;
    for &band in bands {
        let mut clock = BandClock::start(work.clock);
        if opened.as_ref().is_none_or(|(scene, _)| *scene != band.scene) {
            opened = Some((band.scene, open(work.job, band.scene).map_err(|why| format!("{why:#}"))));
            clock.stage("open", 0, 0, 0);
        }
        let content = match &opened {
            Some((_, Ok(opened))) => read_band(opened, band, u64::from(reach_px)),
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
    let scene = MappedScene::open_by(&job.scenes.path(record), job.settings.input, job.io)?;
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

/// The rows of a band and around it, every page of it fetched, and the band's valid pixels.
fn read_band(opened: &Opened, band: Band, reach: u64) -> Result<BandRows> {
    let scene = Arc::clone(&opened.scene);
    let range = band.row0.saturating_sub(reach)..(band.row1 + reach).min(scene.header().rows);
    let rows = scene.rows(range)?;
    let (georef, cols) = (scene.header().georef, scene.header().cols);
    let (mut valid_px, mut valid_m2) = (0, georef.map(|_| 0.0));
    for row in band.row0..band.row1 {
        let valid = rows.valid_px(row..row + 1);
        valid_px += valid;
        if let (Some(sum), Some(georef)) = (&mut valid_m2, &georef) {
            *sum += georef.row_area_m2(row, cols, valid);
        }
    }
    let mask = opened.mask.as_ref().map(|mask| mask.rows(band.row0..band.row1)).transpose()?;
    Ok(BandRows { scene, rows, mask, valid_px, valid_m2 })
}

/// A band in the network's hands.
struct UnderWay {
    band: Band,
    clock: BandClock,
    read: BandRows,
    looked: Option<Looked>,
}

/// What is to be done of `band`.
fn task<'a>(job: &'a ScanJob, band: Band, read: &'a BandRows) -> BandTask<'a> {
    let cols = job.scenes.records[band.scene].cols;
    BandTask { band: band.row0..band.row1, cols, rows: &read.rows, stop: &job.stop }
}

fn infer(
    job: &ScanJob,
    mut inference: BandInference,
    bands: &Receiver<Read>,
    next: &SyncSender<Inferred>,
) -> Result<()> {
    let mut under_way: VecDeque<UnderWay> = VecDeque::new();
    loop {
        let read = if under_way.is_empty() { bands.recv().ok() } else { bands.try_recv().ok() };
        match read {
            None if under_way.is_empty() => return Ok(()),
            None => inference.wait()?,
            Some(Read { band, clock, content: Err(why) }) => {
                if next.send(Inferred { band, clock, content: Err(why) }).is_err() {
                    return Ok(());
                }
            }
            Some(Read { band, mut clock, content: Ok(read) }) => {
                clock.stage("wait", 0, 0, 0);
                let task = task(job, band, &read);
                let looked = guarded(|| inference.look(&task))?;
                if looked.is_some() {
                    clock.stage("screen", 0, read.valid_px, 0);
                }
                guarded(|| inference.begin(&task, looked.as_ref()))?;
                under_way.push_back(UnderWay { band, clock, read, looked });
            }
        }
        while let Some(mut answer) = inference.finished() {
            let Some(UnderWay { band, mut clock, read, looked }) = under_way.pop_front() else { break };
            answer.clear(&task(job, band, &read), looked.as_ref());
            clock.stage("infer", 0, answer.computed_px, answer.windows);
            // What the next one did so far was to wait for this one.
            if let Some(next) = under_way.front_mut() {
                next.clock.stage("wait", 0, 0, 0);
            }
            if next.send(Inferred { band, clock, content: Ok((read, answer)) }).is_err() {
                return Ok(());
            }
        }
    }
}

fn label(
    work: Work,
    bands: Receiver<Inferred>,
    findings: &mut Findings,
    journal: &mut Journal,
) -> Result<()> {
    for Inferred { band, mut clock, content } in bands {
        clock.stage("wait", 0, 0, 0);
        let record = &work.job.scenes.records[band.scene];
        let content = content.and_then(|(read, answer)| {
            let (scene, finished) = measure(work.job, band, &mut clock, &read, &answer)?;
            Ok((scene, finished, answer.probabilities))
        });
        match content.with_context(|| format!("rows {} to {}", band.row0, band.row1)) {
            Ok((scene, mut finished, probabilities)) => {
                if work.job.probabilities {
                    finished.packed = Some(journal.parts().keep(band, &probabilities)?);
                    clock.stage("write", 0, 0, 0);
                }
                finished.stages = clock.stages;
                journal.keep(finished.clone())?;
                findings.take(&scene, finished);
            }
            Err(why) => {
                let scene = findings.begin(band, record.cols);
                if scene.failed.is_none() {
                    let why = format!("{why:#}");
                    scene.failed = Some(why.clone());
                    (work.watch)(Event::Failed { scene: record.file_name.clone(), why });
                }
                findings.clocks.push((band.scene, band.row0, clock.stages));
            }
        }
        (work.watch)(Event::Band { pixels: (band.row1 - band.row0) * record.cols });
        work.memory.sample();
    }
    Ok(())
}

/// What a band holds; its scene must still be the file that was opened.
fn measure(
    job: &ScanJob,
    band: Band,
    clock: &mut BandClock,
    read: &BandRows,
    answer: &ProbBand,
) -> Result<(Arc<MappedScene>, BandRecord)> {
    let (scan, cols) = (&job.settings.scan, job.scenes.records[band.scene].cols);
    let mut found = label_band(band.row0, cols as usize, &answer.probabilities, level(scan.probability));
    found.closed.retain(|blob| blob.counts(scan.min_area_px, scan.min_score));
    let pixel_error = read.mask.as_ref().map(|mask| error(mask, &read.rows, band, &answer.probabilities));
    for rows in [Some(&read.rows), read.mask.as_ref()].into_iter().flatten() {
        rows.unchanged()?;
    }
    clock.stage("label", 0, (band.row1 - band.row0) * cols, 0);
    let record = BandRecord {
        band,
        file: read.scene.stamp(),
        valid_px: read.valid_px,
        valid_m2: read.valid_m2,
        computed_px: answer.computed_px,
        looked_px: answer.looked_px,
        pixel_error,
        packed: None,
        found,
        stages: Vec::new(),
    };
    Ok((Arc::clone(&read.scene), record))
}

/// A band's squared error against its mask.
fn error(mask: &Rows, rows: &Rows, band: Band, probabilities: &[u8]) -> PixelError {
    let cols = probabilities.len() / (band.row1 - band.row0) as usize;
    let mut error = PixelError::default();
    for (row, line) in (band.row0..band.row1).zip(probabilities.chunks_exact(cols)) {
        error.add_row(rows.row(row), mask.row(row), line);
    }
    error
}
