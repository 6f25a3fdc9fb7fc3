//! `marscan eval`: a catalogue against the truth.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args as ClapArgs;

use super::Done;
use crate::fault::WrongUsage;
use crate::merge::shard_manifests;
use crate::records::{Impact, PixelError};
use crate::score::{Counts, TrueImpact, count, truth};
use crate::table::{read_rows, write_whole};

/// Score a catalogue against truth tables or masks, impact by impact, and its probabilities pixel by pixel.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Example:\n  marscan eval --catalogue found/catalogue.csv --truth scenes/ --sweep")]
pub struct Args {
    /// The catalogue; shards/ beside it tells the area scanned
    #[arg(long)]
    catalogue: PathBuf,
    /// CSV (row,col,diam_px and perhaps scene), mask TIFF, or a folder of NAME_truth.csv or NAME_gt.tif
    #[arg(long)]
    truth: PathBuf,
    /// Only candidates of at least this mean probability
    #[arg(long, default_value_t = 0.0)]
    min_score: f64,
    /// Side of a pixel where the scenes do not say, m
    #[arg(long, default_value_t = 6.0)]
    m_per_px: f64,
    /// Score for a range of lowest scores
    #[arg(long)]
    sweep: bool,
    /// Write the counts as JSON too
    #[arg(long)]
    json: Option<PathBuf>,
}

/// What was scanned of a scene.
#[derive(Default)]
struct Area {
    valid_px: f64,
    km2: f64,
    /// Where the scan looked at the masks.
    error: PixelError,
    /// Half-open rows of it.
    rows: Vec<(u64, u64)>,
    /// Whether it failed in a shard.
    failed: bool,
}

impl Area {
    fn has(&self, impact: &TrueImpact) -> bool {
        self.rows.iter().any(|rows| (rows.0 as f64 - 0.5..rows.1 as f64 - 0.5).contains(&impact.row))
    }
}

/// The impacts of each scene.
type Truth = BTreeMap<String, Vec<TrueImpact>>;

/// Prints counts a scene and in all.
///
/// # Errors
/// If a file cannot be read.
pub fn run(args: &Args) -> Result<Done> {
    check(args)?;
    let catalogue: Vec<Impact> = read_rows(&args.catalogue)?;
    let folder = args.catalogue.parent().filter(|folder| !folder.as_os_str().is_empty());
    let areas = areas(folder.unwrap_or(Path::new(".")), args.m_per_px)?;
    let (truth, left_out) = scanned(truth::read(&args.truth)?, &areas, args)?;
    let counts = count(&catalogue, &truth, args.min_score);
    say!(
        "{:28} {:>6} {:>6} {:>6} {:>10} {:>7} {:>6} {:>13} {:>7} {:>7} {:>9}",
        "scene",
        "truth",
        "found",
        "false",
        "precision",
        "recall",
        "F1",
        "false/1000km2",
        "/Mpx",
        "MSE %",
        "nothing %"
    );
    let (mut total, mut whole) = (Counts::default(), Area::default());
    for (scene, counts) in &counts {
        let Some(area) = areas.get(scene) else { continue };
        print(scene, counts, area);
        total = total.plus(counts);
        whole.valid_px += area.valid_px;
        whole.km2 += area.km2;
        whole.error = whole.error.plus(&area.error);
    }
    print("all", &total, &whole);
    if whole.error.pixels == 0 {
        say!("no mean squared error: scan with --masks, and a scene list that names the masks");
    } else if (whole.error.pixels as f64) < whole.valid_px {
        say!(
            "mean squared errors are of {} of {} valid pixels: elsewhere no mask was looked at (scan with --masks)",
            whole.error.pixels,
            whole.valid_px
        );
    }
    if args.sweep {
        say!("lowest score  found  false  precision  recall     F1  false/1000km2");
        for step in 10..20 {
            let least = f64::from(step) * 0.05;
            let sum = count(&catalogue, &truth, least).values().fold(Counts::default(), |sum, c| sum.plus(c));
            say!(
                "{least:12.2} {:6} {:6} {:10.3} {:7.3} {:6.3} {:14.2}",
                sum.found,
                sum.false_positives,
                sum.precision(),
                sum.recall(),
                sum.f1(),
                per(sum.false_positives, whole.km2 / 1000.0)
            );
        }
    }
    if let Some(path) = &args.json {
        write_whole(path, serde_json::to_string_pretty(&counts)?.as_bytes())?;
    }
    Ok(if left_out { Done::Partly } else { Done::All })
}

/// # Errors
/// [`WrongUsage`] if a number makes no sense.
fn check(args: &Args) -> Result<()> {
    let wrong = |message: String| Err(WrongUsage(message).into());
    if !(0.0..=1.0).contains(&args.min_score) {
        return wrong(format!("--min-score {}: must be 0 to 1", args.min_score));
    }
    if !(args.m_per_px > 0.0 && args.m_per_px.is_finite()) {
        return wrong(format!("--m-per-px {}: must be positive", args.m_per_px));
    }
    Ok(())
}

/// The truth of what was scanned: neither a scene that was not, or failed, is missed, nor rows that no shard has. Says
/// what is left out of scenes that were to be scanned, and whether anything is.
fn scanned(mut truth: Truth, areas: &BTreeMap<String, Area>, args: &Args) -> Result<(Truth, bool)> {
    let mut left_out = false;
    truth.retain(|scene, impacts| {
        let Some(area) = areas.get(scene) else { return false };
        let before = impacts.len();
        impacts.retain(|impact| !area.failed && area.has(impact));
        if area.failed {
            say!("left out: {scene}, which failed, with {before} impacts");
        } else if impacts.len() < before {
            say!("left out: {} impacts of {scene}, in rows that no shard has", before - impacts.len());
        }
        left_out |= area.failed || impacts.len() < before;
        !area.failed
    });
    let names: Vec<&str> = areas.keys().map(String::as_str).collect();
    anyhow::ensure!(
        !truth.is_empty(),
        "none of the scenes in {} was scanned, or all failed; scanned were {}",
        args.truth.display(),
        names.join(", ")
    );
    Ok((truth, left_out))
}

fn print(scene: &str, counts: &Counts, area: &Area) {
    let percent = |value: f64| if value.is_nan() { "-".to_owned() } else { format!("{value:.4}") };
    say!(
        "{scene:28} {:6} {:6} {:6} {:10.3} {:7.3} {:6.3} {:13.2} {:7.3} {:>7} {:>9}",
        counts.truth,
        counts.found,
        counts.false_positives,
        counts.precision(),
        counts.recall(),
        counts.f1(),
        per(counts.false_positives, area.km2 / 1000.0),
        per(counts.false_positives, area.valid_px / 1e6),
        percent(area.error.mse_percent()),
        percent(area.error.nothing_percent())
    );
}

fn per(count: u64, unit: f64) -> f64 {
    if unit > 0.0 { count as f64 / unit } else { f64::NAN }
}

/// The valid area of each scene that was scanned, from the shards' manifests.
fn areas(folder: &Path, m_per_px: f64) -> Result<BTreeMap<String, Area>> {
    let mut areas: BTreeMap<String, Area> = BTreeMap::new();
    for scene in shard_manifests(folder)?.into_iter().flat_map(|manifest| manifest.scenes) {
        let area = areas.entry(scene.scene).or_default();
        area.valid_px += scene.valid_px as f64;
        area.error = area.error.plus(&scene.pixel_error.unwrap_or_default());
        area.km2 += scene.valid_m2.unwrap_or(scene.valid_px as f64 * m_per_px * m_per_px) / 1e6;
        area.rows.extend(scene.row_runs);
        area.failed |= scene.failed.is_some();
    }
    Ok(areas)
}
