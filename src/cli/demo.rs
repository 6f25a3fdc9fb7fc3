//! `marscan demo`: the whole job on a scene of its own.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args as ClapArgs;

use super::Done;
use super::devices::DeviceFlags;
use super::progress::Progress;
use super::scan::segmenter;
use crate::config;
use crate::fault::WrongUsage;
use crate::job::StopRequest;
use crate::merge::{self, MergeOptions, Merged};
use crate::picture::{Mark, Reduced, Ring};
use crate::plan::SceneList;
use crate::raster::{Io, MappedScene};
use crate::records::{Impact, PixelError};
use crate::scan::{ScanJob, Scanned, scan_shard, shards_folder};
use crate::score::{TrueImpact, count, matches, truth};
use crate::space::ScenePx;
use crate::synth::{SynthSpec, write};
use crate::table::read_rows;

/// Show the whole job: draw a scene, scan it in four shards, merge, and hold the catalogue against the truth.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Example:\n  marscan demo --out demo")]
pub struct Args {
    /// Gets the scene, the shards, the catalogue, overlay.png and report.html
    #[arg(long, default_value = "marscan-demo")]
    out: PathBuf,
    #[command(flatten)]
    pub device: DeviceFlags,
}

const SPEC: SynthSpec = SynthSpec { rows: 2400, cols: 2000, impacts: 14, seed: 2026 };
const NAME: &str = "demo";
/// Its folder in that of the run.
const SCENE: &str = "scene";
const SHARDS: usize = 4;
/// Longest side of the overlay, px.
const OVERLAY_PX: u64 = 1200;

/// Draws, scans, merges and prints.
///
/// # Errors
/// If a step fails.
pub fn run(args: &Args) -> Result<Done> {
    let drawn = args.out.join(SCENE);
    if shards_folder(&args.out).exists() && !drawn.join(format!("{NAME}.tif")).exists() {
        let message = format!("{} holds a run of its own: choose another --out", args.out.display());
        return Err(WrongUsage(message).into());
    }
    let scene = write(&SPEC, NAME, &drawn, true)?;
    say!("drew {} x {} px with {} fresh impacts", SPEC.rows, SPEC.cols, scene.truth.len());
    let merged = plan_and_scan(args, &scene.list)?;
    let truth = truth::read(&drawn.join(format!("{NAME}_truth.csv")))?;
    let impacts = truth.get(NAME).context("the demo's truth is empty")?;
    let catalogue: Vec<Impact> = read_rows(&args.out.join("catalogue.csv"))?;
    let candidates: Vec<&Impact> = catalogue.iter().collect();
    let pairs = matches(&candidates, impacts);
    print_table(&candidates, impacts, &pairs);
    let counts = count(&catalogue, &truth, 0.0)[NAME];
    say!(
        "found {} of {} impacts (recall {:.2}) with {} false positives (precision {:.2})",
        counts.found,
        counts.truth,
        counts.recall(),
        counts.false_positives,
        counts.precision()
    );
    print_error(&merged);
    print_times(&merged);
    draw(&args.out, &drawn, &candidates, impacts, &pairs)?;
    for file in ["catalogue.csv", "overlay.png", "report.html"] {
        say!("wrote {}", args.out.join(file).display());
    }
    say!("to judge the candidates: marscan review {}", args.out.display());
    Ok(Done::All)
}

/// The four shards, one after the other, and their merge. A demo always starts afresh.
fn plan_and_scan(args: &Args, list: &Path) -> Result<Merged> {
    let settings = config::load("unet1")?;
    let old = shards_folder(&args.out);
    if old.exists() {
        std::fs::remove_dir_all(&old).with_context(|| format!("cannot remove {}", old.display()))?;
    }
    let (mut segmenter, weights_id) = segmenter(&settings, None, || Ok(vec![args.device.choose()?]))?;
    let mut scenes = SceneList::read(list)?;
    scenes.records.retain(|record| record.file_name == NAME);
    let job = ScanJob {
        scenes,
        out: args.out.clone(),
        shards: SHARDS,
        settings,
        weights_id,
        io: Io::Auto,
        stop: StopRequest::default(),
        masks: true,
        probabilities: false,
        overlay: false,
        command: std::env::args().collect(),
        scheduler: Vec::new(),
    };
    for index in 0..SHARDS {
        let progress = Progress::new(String::new());
        let scanned = scan_shard(&job, index, segmenter.as_mut(), None, &|event| progress.see(event))?;
        progress.finish();
        let Scanned::Done(summary) = scanned else { bail!("nobody can stop a demo") };
        say!("shard {index} of {SHARDS}: {:.1} s on {}", summary.manifest.seconds, summary.manifest.device);
    }
    merge::run(&args.out, &MergeOptions::default())
}

fn print_table(candidates: &[&Impact], truth: &[TrueImpact], pairs: &[(usize, usize)]) {
    say!("       truth: row     col  diam |  catalogue:  id     row     col  diam  score       lat      lon");
    let found: BTreeMap<usize, usize> = pairs.iter().map(|(c, t)| (*t, *c)).collect();
    let line = |c: &Impact| {
        let degrees = |value: Option<f64>| value.map_or("-".into(), |v| format!("{v:.4}"));
        format!(
            "{:15} {:7.1} {:7.1} {:5.1}  {:5.3} {:>9} {:>8}",
            c.id,
            c.row_px,
            c.col_px,
            c.diameter_px,
            c.score,
            degrees(c.lat_deg),
            degrees(c.lon_deg)
        )
    };
    for (t, impact) in truth.iter().enumerate() {
        let answer = found.get(&t).map_or_else(|| format!("{:>15}", "missed"), |c| line(candidates[*c]));
        say!("     {:12.1} {:7.1} {:5.1} | {answer}", impact.row, impact.col, impact.diam_px);
    }
    let matched: Vec<usize> = pairs.iter().map(|(c, _)| *c).collect();
    for (c, candidate) in candidates.iter().enumerate() {
        if !matched.contains(&c) {
            say!("{:>31} | {}", "false positive", line(candidate));
        }
    }
}

fn print_error(merged: &Merged) {
    let scenes = merged.manifests.iter().flat_map(|manifest| &manifest.scenes);
    let error = scenes.filter_map(|s| s.pixel_error).fold(PixelError::default(), |sum, e| sum.plus(&e));
    say!(
        "mean squared error of the probabilities {:.3} %; of predicting nothing {:.3} %",
        error.mse_percent(),
        error.nothing_percent()
    );
}

fn print_times(merged: &Merged) {
    let stages: Vec<_> =
        merged.stage_seconds.iter().map(|(stage, seconds)| format!("{stage} {seconds:.2}")).collect();
    let seconds: f64 = merged.manifests.iter().map(|manifest| manifest.seconds).sum();
    say!("seconds by stage: {}", stages.join(", "));
    say!(
        "{:.2} Mpx ({:.2} valid) in {seconds:.1} s: {:.3} Mpx/s",
        merged.pixels() as f64 / 1e6,
        merged.valid_px() as f64 / 1e6,
        merged.pixels() as f64 / 1e6 / seconds
    );
}

fn draw(
    out: &Path,
    drawn: &Path,
    candidates: &[&Impact],
    truth: &[TrueImpact],
    pairs: &[(usize, usize)],
) -> Result<()> {
    let scene = MappedScene::open(&drawn.join(format!("{NAME}.tif")), config::load("unet1")?.input)?;
    let (rows, cols) = (scene.header().rows, scene.header().cols);
    let lines = scene.rows(0..rows)?;
    let mut reduced = Reduced::new(rows, cols, OVERLAY_PX)?;
    (0..rows).for_each(|row| reduced.row(lines.row(row)));
    let mut overlay = reduced.overlay();
    for (t, impact) in truth.iter().enumerate() {
        let mark = if pairs.iter().any(|pair| pair.1 == t) { Mark::Found } else { Mark::Missed };
        let at = ScenePx { row: impact.row, col: impact.col };
        overlay.ring(&Ring { at, diameter_px: impact.diam_px, mark });
    }
    for (c, candidate) in candidates.iter().enumerate() {
        if pairs.iter().all(|pair| pair.0 != c) {
            let at = ScenePx { row: candidate.row_px, col: candidate.col_px };
            overlay.ring(&Ring { at, diameter_px: candidate.diameter_px, mark: Mark::FalsePositive });
        }
    }
    let path = out.join("overlay.png");
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    overlay.png(BufWriter::new(file))
}
