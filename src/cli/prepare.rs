//! `marscan prepare`: a data set for training from scenes and masks.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args as ClapArgs;

use super::Done;
use super::train::pairs;
use crate::config;
use crate::fault::WrongUsage;
use crate::train::Pair;
use crate::train::list::Part;
use crate::train::pairs::{Pattern, find};
use crate::train::prepare::{PrepareJob, Prepared, prepare};
use crate::train::stats::{Stats, histogram};
use crate::train::strategy::{Choice, Strategy};

/// Prepare a data set for training: pair scenes and masks, split them by observation, choose crops.
#[derive(Debug, ClapArgs)]
#[command(
    group(clap::ArgGroup::new("from").required(true).args(["root", "scenes"])),
    after_help = "Examples:\n  marscan prepare --root archive --out data --strategy random --stats\n  \
    marscan prepare --root scenes --scene-pattern '{id}.tif' --mask-pattern '{id}_gt.tif' --out data --store\n  \
    marscan train --data data --out run"
)]
pub struct Args {
    /// Folder tree of scenes and masks, told apart by the patterns of their paths
    #[arg(long)]
    root: Option<PathBuf>,
    /// Scene list that names the masks, in place of a folder tree
    #[arg(long)]
    scenes: Option<PathBuf>,
    /// Paths of the scenes below --root
    #[arg(long, default_value = "IMPACTS/{folder}/{id}.geo.tif")]
    scene_pattern: String,
    /// Paths of the masks below --root, with the same placeholders
    #[arg(long, default_value = "IMPACTS_GT/{folder}/{id}_gt.tif")]
    mask_pattern: String,
    /// Gets scenes_train.csv, scenes_validation.csv, scenes_test.csv, crops.csv and data.json
    #[arg(long)]
    out: PathBuf,
    /// Which crops: grid-1024 (all of the 8 x 8 around each impact), balanced (half of these with impact)
    /// or random (the impact anywhere in the crop, as many without)
    #[arg(long, default_value = "random")]
    strategy: String,
    /// Side of a crop, px: a multiple of 16
    #[arg(long, default_value_t = 128)]
    crop: usize,
    /// Crops an impact, with random
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1000))]
    per_impact: u64,
    /// Shares of train, validation and test; all scenes of an observation go to one
    #[arg(long, default_value = "10000:4000:3000")]
    split: String,
    /// Another seed, another split and other crops
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Pixels this near the rim of an impact are not judged in training, px
    #[arg(long, default_value_t = 0)]
    ring: usize,
    /// Preset or TOML file whose [input] says how 16-bit samples are taken
    #[arg(long, default_value = "unet1")]
    settings: String,
    /// Store the crops' pixels and masks in crops.bin too: training then opens no scene
    #[arg(long)]
    store: bool,
    /// Read every pixel; print and write (stats.csv) a table of the scenes
    #[arg(long)]
    stats: bool,
}

/// Prepares and prints what came of it.
///
/// # Errors
/// If the usage is wrong, no scene can be used, or a file cannot be written.
pub fn run(args: &Args) -> Result<Done> {
    let choice = choice(args)?;
    let shares = shares(&args.split)?;
    let job = PrepareJob {
        input: config::load(&args.settings)?.input,
        pairs: scenes(args)?,
        out: args.out.clone(),
        choice,
        shares,
        ring_px: args.ring,
        store: args.store,
        stats: args.stats,
    };
    let prepared = prepare(&job)?;
    if let Some(stats) = &prepared.stats {
        print_stats(stats);
    }
    print(&args.out, &prepared);
    Ok(if prepared.failed.is_empty() { Done::All } else { Done::Partly })
}

fn choice(args: &Args) -> Result<Choice> {
    let wrong = |message: String| Err(WrongUsage(message).into());
    if !(16..=4096).contains(&args.crop) || !args.crop.is_multiple_of(16) {
        return wrong(format!("--crop {}: must be a multiple of 16, at most 4096", args.crop));
    }
    if args.ring > 64 {
        return wrong(format!("--ring {}: must be 0 to 64", args.ring));
    }
    let strategy = Strategy::parse(&args.strategy)?;
    Ok(Choice { strategy, side_px: args.crop, per_impact: args.per_impact, seed: args.seed })
}

/// `10000:4000:3000`.
fn shares(text: &str) -> Result<[u64; 3]> {
    let parts: Option<Vec<u64>> =
        text.split(':').map(|part| part.parse().ok().filter(|share| *share <= 1 << 40)).collect();
    match parts.as_deref() {
        Some(&[train, validation, test]) if train > 0 => Ok([train, validation, test]),
        _ => {
            let message = format!("--split {text}: must be three numbers, the first above 0, as in 10:4:3");
            Err(WrongUsage(message).into())
        }
    }
}

/// The pairs; what has no partner is named.
fn scenes(args: &Args) -> Result<Vec<Pair>> {
    let Some(root) = &args.root else {
        return args.scenes.as_deref().map_or_else(|| Ok(Vec::new()), pairs);
    };
    let patterns = [Pattern::parse(&args.scene_pattern)?, Pattern::parse(&args.mask_pattern)?];
    let found = find(root, &patterns[0], &patterns[1])?;
    for scene in &found.without_mask {
        say!("left out: {} has no mask", scene.display());
    }
    for mask in &found.without_scene {
        say!("left out: {} has no scene", mask.display());
    }
    if found.pairs.is_empty() {
        let message = format!("none of the scenes below {} has a mask", root.display());
        return Err(WrongUsage(message).into());
    }
    Ok(found.pairs)
}

fn print_stats(stats: &Stats) {
    say!(
        "{:32} {:>10} {:>7} {:>7} {:>8} {:>7} {:>7} {:>10} {:>8} {:>8}",
        "scene",
        "part",
        "rows",
        "cols",
        "Mpx",
        "valid %",
        "impacts",
        "impact px",
        "impact %",
        "diam px"
    );
    for row in &stats.rows {
        let number = |value: Option<u64>| value.map_or(String::new(), |v| v.to_string());
        say!(
            "{:32} {:>10} {:>7} {:>7} {:8.1} {:7.1} {:7} {:10} {:8.4} {:>8}",
            row.scene,
            row.part,
            number(row.rows),
            number(row.cols),
            row.mpx,
            100.0 * row.valid_share,
            row.impacts,
            row.impact_px,
            100.0 * row.impact_share,
            row.median_diameter_px.map_or("-".into(), |d| format!("{d:.1}"))
        );
    }
    say!("sizes of the scenes:\n{}", histogram(&stats.sizes_mpx, "Mpx", 40).join("\n"));
    say!("diameters of the impacts:\n{}", histogram(&stats.diameters_px, "px", 40).join("\n"));
}

fn print(out: &Path, prepared: &Prepared) {
    for (name, why) in &prepared.failed {
        say!("left out: {name} failed: {why}");
    }
    say!("part        scenes  observations  impacts   crops  with impact");
    for part in Part::ALL {
        let counts = prepared.spec.parts.get(&part).copied().unwrap_or_default();
        say!(
            "{:10} {:7} {:13} {:8} {:7} {:12}",
            part.to_string(),
            counts.scenes,
            counts.observations,
            counts.impacts,
            counts.crops,
            counts.with_impact
        );
    }
    for part in [Part::Train, Part::Validation] {
        let counts = prepared.spec.parts.get(&part).copied().unwrap_or_default();
        if counts.crops == 0 {
            let why = if counts.scenes == 0 { "it has no scenes" } else { "its scenes have no impact" };
            note!(
                "no crops for {part}, which `train --data` needs: {why}; prepare with another --split or --seed"
            );
        }
    }
    if prepared.removed_store {
        say!("removed the crops.bin of an earlier run");
    }
    say!("wrote {}", out.join(crate::train::list::SPEC).display());
}
