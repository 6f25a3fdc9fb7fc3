//! A run folder as `scan` leaves it, without scanning: shards of any count full of drawn impacts.

use std::fs;
use std::path::Path;

use anyhow::Result;
use marscan::dice::Dice;
use marscan::geo::{GeoRef, GeoTags};
use marscan::plan::plan;
use marscan::records::{
    Blob, BlobRow, RunIds, SceneOutcome, SceneRecord, SeamRow, Shard, ShardManifest, TimingRow,
};
use marscan::scan::{shard_folder, write_manifest};
use marscan::space::{PixelRect, ScenePx};
use marscan::table::{BLOB_HEADER, SEAM_HEADER, TIMING_HEADER, csv_bytes};
use rayon::prelude::*;

/// How large a run to draw.
#[derive(Clone, Copy, Debug)]
pub struct RunSpec {
    /// Shards.
    pub shards: usize,
    /// Scenes; each is 50,000 x 10,000 px, and every other one lies on the one before it.
    pub scenes: usize,
    /// Impacts in all, those cut by a seam counted once.
    pub impacts: u64,
}

const ROWS: u64 = 50_000;
const COLS: u64 = 10_000;
/// Impacts over each seam between two shards.
const CUT: u64 = 2;
const STAGES: [&str; 6] = ["open", "read", "wait", "infer", "wait", "label"];

/// Writes the shards of `spec` into `out`.
///
/// # Errors
/// If a file cannot be written.
pub fn make(out: &Path, spec: &RunSpec) -> Result<()> {
    let record = |k| SceneRecord {
        file_name: format!("scene_{k:06}"),
        rows: ROWS,
        cols: COLS,
        path: None,
        valid_px: None,
        mask: None,
    };
    let records: Vec<SceneRecord> = (0..spec.scenes).map(record).collect();
    let shards = plan(&records, spec.shards, 1024);
    shards.par_iter().try_for_each(|shard| {
        let goal = |k: usize| spec.impacts * k as u64 / spec.shards as u64;
        publish(out, &records, shard, goal(shard.index + 1) - goal(shard.index))
    })
}

/// What a shard has of one scene: rows without a gap.
struct Piece {
    scene: usize,
    bands: Vec<(u64, u64)>,
}

fn pieces(shard: &Shard) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    for band in &shard.bands {
        match pieces.last_mut().filter(|piece| piece.scene == band.scene) {
            Some(piece) => piece.bands.push((band.row0, band.row1)),
            None => pieces.push(Piece { scene: band.scene, bands: vec![(band.row0, band.row1)] }),
        }
    }
    pieces
}

fn publish(out: &Path, records: &[SceneRecord], shard: &Shard, impacts: u64) -> Result<()> {
    let pieces = pieces(shard);
    let (mut blobs, mut seams, mut timing, mut outcomes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let tops = pieces.iter().filter(|piece| piece.bands[0].0 > 0).count() as u64;
    let rows: u64 = shard.bands.iter().map(|band| band.row1 - band.row0).sum();
    let mut left = (impacts.saturating_sub(CUT * tops), rows);
    for piece in &pieces {
        let name = &records[piece.scene].file_name;
        let (row0, row1) = (piece.bands[0].0, piece.bands[piece.bands.len() - 1].1);
        let mine = left.0 * (row1 - row0) / left.1.max(1);
        left = (left.0 - mine, left.1 - (row1 - row0));
        let mut dice = Dice::new(piece.scene as u64, &[row0]);
        for _ in 0..mine {
            let (rows, cols) = (3 + dice.below(9), 3 + dice.below(9));
            let corner = (row0 + 1 + dice.below(row1 - row0 - rows - 1), dice.below(COLS - cols));
            blobs.push(BlobRow::new(name, &blob(corner, rows, cols), None));
        }
        for (edge, there) in [(row0, row0 > 0), (row1, row1 < ROWS)] {
            for k in 0..if there { CUT } else { 0 } {
                cut(name, edge, edge == row0, k, &mut blobs, &mut seams);
            }
        }
        timing.extend(clocks(shard.index, name, &piece.bands));
        outcomes.push(outcome(piece, name, row0, row1));
    }
    let folder = shard_folder(out, shard.index, shard.count);
    let files = write_tables(&folder, &blobs, &seams, &timing)?;
    write_manifest(&folder, &mut manifest(records, shard, outcomes, files))
}

/// Writes the tables and gives their names and checksums.
fn write_tables(
    folder: &Path,
    blobs: &[BlobRow],
    seams: &[SeamRow],
    timing: &[TimingRow],
) -> Result<Vec<(String, String)>> {
    fs::create_dir_all(folder)?;
    let mut files = Vec::new();
    for (name, bytes) in [
        ("impacts.csv", csv_bytes(&BLOB_HEADER, blobs)?),
        ("seams.csv", csv_bytes(&SEAM_HEADER, seams)?),
        ("settings.toml", b"# drawn\n".to_vec()),
        ("timing.csv", csv_bytes(&TIMING_HEADER, timing)?),
    ] {
        files.push((name.to_owned(), blake3::hash(&bytes).to_hex().to_string()));
        fs::write(folder.join(name), bytes)?;
    }
    Ok(files)
}

fn blob((row0, col0): (u64, u64), rows: u64, cols: u64) -> Blob {
    let area_px = rows * cols;
    Blob {
        area_px,
        row_sum: area_px * row0 + cols * rows * (rows - 1) / 2,
        col_sum: area_px * col0 + rows * cols * (cols - 1) / 2,
        score_sum: area_px * (128 + (row0 + col0) % 120),
        peak: 250,
        rect: PixelRect { row0, col0, row1: row0 + rows, col1: col0 + cols },
    }
}

/// One side of impact number `k` over the seam at row `edge`.
fn cut(scene: &str, edge: u64, below: bool, k: u64, blobs: &mut Vec<BlobRow>, seams: &mut Vec<SeamRow>) {
    let (rows, cols) = (3, 6);
    let (row0, row_px) = if below { (edge, edge) } else { (edge - rows, edge - 1) };
    let col0_px = (edge * 7 + k * 100) % (COLS - cols);
    let seam = seams.len() as u64;
    blobs.push(BlobRow::new(scene, &blob((row0, col0_px), rows, cols), Some(seam)));
    seams.push(SeamRow { scene: scene.to_owned(), row_px, col0_px, col1_px: col0_px + cols, seam });
}

fn clocks(shard: usize, scene: &str, bands: &[(u64, u64)]) -> Vec<TimingRow> {
    let row = |band: u64, stage: &str, number: usize| TimingRow {
        shard,
        scene: scene.to_owned(),
        band,
        stage: stage.to_owned(),
        start_s: band as f64 * 0.001 + number as f64 * 0.123_456_789,
        seconds: 0.123_456_789 / (1 + number) as f64,
        bytes: 4_640_000,
        pixels: 4_640_000,
        windows: 22,
        host: "node-17".into(),
        device: "cpu".into(),
    };
    let lines = bands.iter().flat_map(|band| STAGES.iter().enumerate().map(|(n, stage)| (band.0, *stage, n)));
    lines.map(|(band, stage, number)| row(band, stage, number)).collect()
}

fn outcome(piece: &Piece, name: &str, row0: u64, row1: u64) -> SceneOutcome {
    let georef = georef(piece.scene / 2);
    let pixels = (row1 - row0) * COLS;
    let centre = ScenePx { row: (row0 + row1) as f64 / 2.0, col: COLS as f64 / 2.0 };
    SceneOutcome {
        scene: name.to_owned(),
        file: Some(format!("/images/{name}.tif").into()),
        look: None,
        rows: ROWS,
        cols: COLS,
        row_runs: piece.bands.clone(),
        pixels,
        valid_px: pixels,
        valid_m2: georef.map(|georef| pixels as f64 * georef.pixel_area_m2(centre)),
        computed_px: pixels * 5 / 4,
        looked_px: None,
        failed: None,
        georef,
        geo_tags: None,
        pixel_error: None,
    }
}

/// Places spread over Mars between 50 degrees south and north, 6 m a pixel, the first on the prime meridian.
fn georef(place: usize) -> Option<GeoRef> {
    let radius_m = 3_396_190.0;
    let (lon_deg, lat_deg) = ((place * 7 % 360) as f64, (place * 3 % 100) as f64 - 50.0);
    let (x, y) = (-3.0 * COLS as f64, f64::to_radians(lat_deg) * radius_m);
    let tags = GeoTags {
        pixel_scale: vec![6.0, 6.0, 0.0],
        tiepoints: vec![0.0, 0.0, 0.0, x, y, 0.0],
        directory: [
            [1, 1, 0, 6],
            [1024, 0, 1, 1],
            [1025, 0, 1, 1],
            [3075, 0, 1, 17],
            [2057, 34736, 1, 0],
            [3078, 34736, 1, 1],
            [3088, 34736, 1, 2],
        ]
        .concat(),
        doubles: vec![radius_m, 0.0, lon_deg],
        ..GeoTags::default()
    };
    GeoRef::from_tags(&tags).ok().flatten()
}

fn manifest(
    records: &[SceneRecord],
    shard: &Shard,
    scenes: Vec<SceneOutcome>,
    files: Vec<(String, String)>,
) -> ShardManifest {
    let id = |text: &str| blake3::hash(text.as_bytes()).to_hex().to_string();
    let ids = RunIds {
        scene_list: id("scenes"),
        settings: id("settings"),
        weights: id("weights"),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    ShardManifest {
        shard: shard.index,
        shards: shard.count,
        ids,
        planned_px: Some(records.iter().map(|scene| scene.rows * scene.cols).sum()),
        min_area_px: 4,
        min_score: 0.5,
        host: "node-17".into(),
        device: "cpu".into(),
        threads: 2,
        scheduler: vec![("SLURM_ARRAY_TASK_ID".into(), shard.index.to_string())],
        command: ["marscan", "scan", "--scenes", "images/scenes.csv", "--out", "found"]
            .map(String::from)
            .to_vec(),
        seconds: 30.0,
        started_unix_s: 1.8e9,
        ended_unix_s: 1.8e9 + 30.0,
        tasks: 1,
        overlay: false,
        peak_rss_anon_bytes: 200 << 20,
        scenes,
        files,
        seal: String::new(),
    }
}
