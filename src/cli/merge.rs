//! `marscan merge`: shards into one catalogue.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args as ClapArgs;

use super::Done;
use crate::job::ranges;
use crate::merge::{self, MergeOptions};
use crate::scan::{MAPS, OVERLAYS};

/// Merge the published shards of a run into one catalogue, timing tables and a report.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  marscan merge found\n  marscan merge found --group-m 200 --gpkg\n  \
    marscan merge found --repeat earlier/scenes.csv\n  marscan merge found --verdicts verdicts.csv")]
pub struct Args {
    /// Folder of the run
    out: PathBuf,
    /// Merge what is there though shards are missing, and say which
    #[arg(long)]
    allow_partial: bool,
    /// Give impacts nearer than this to each other, m, one number in a column `group`: the same place in overlapping
    /// scenes
    #[arg(long, value_name = "M")]
    group_m: Option<f64>,
    /// List of other georeferenced scenes, of other dates say: columns `repeat_scene` and `change_score` tell in which of
    /// them an impact's place differs most and how much, from 0 to 1; both are empty where none covers it
    #[arg(long, value_name = "LIST")]
    repeat: Option<PathBuf>,
    /// verdicts.csv of `marscan review` on this run: a column `verdict` has accept, reject or unsure, or nothing
    #[arg(long, value_name = "FILE")]
    verdicts: Option<PathBuf>,
    /// Write catalogue.gpkg too: a GeoPackage with the coordinate system of Mars
    #[arg(long)]
    gpkg: bool,
    /// Draw each scene with its candidates circled, overlays/SCENE.png, at most 4096 px on a side; also after
    /// `scan --overlay`. The scenes are read again for it
    #[arg(long)]
    overlay: bool,
    /// Folder of `marscan speedup`, whose table and figure the report shows
    #[arg(long, value_name = "FOLDER")]
    speedup: Option<PathBuf>,
}

/// Merges and says what came of it.
///
/// # Errors
/// If shards are missing, damaged or of different runs.
pub fn run(args: &Args) -> Result<Done> {
    let options = MergeOptions {
        allow_partial: args.allow_partial,
        group_m: args.group_m,
        repeat: args.repeat.clone(),
        verdicts: args.verdicts.clone(),
        gpkg: args.gpkg,
        overlay: args.overlay,
        speedup: args.speedup.clone(),
    };
    let merged = merge::run(&args.out, &options)?;
    say!(
        "{} impacts in {:.2} Mpx ({:.2} valid) of {} shards: {}",
        merged.impacts,
        merged.pixels() as f64 / 1e6,
        merged.valid_px() as f64 / 1e6,
        merged.manifests.len(),
        args.out.join("catalogue.csv").display()
    );
    if let Some(area_km2) = merged.searched_km2() {
        say!("{area_km2:.3} km² searched");
    }
    if let Some(looked) = merged.looked() {
        say!("screened: {:.2} % of the valid pixels were looked at", 100.0 * looked);
    }
    if merged.maps > 0 {
        say!("{} maps of probabilities: {}", merged.maps, args.out.join(MAPS).display());
    }
    if merged.overlays > 0 {
        say!("{} scenes drawn: {}", merged.overlays, args.out.join(OVERLAYS).display());
    }
    if !merged.missing.is_empty() {
        say!("missing shards: {}", ranges(merged.missing.iter().copied()));
        if let Some(share) = merged.share() {
            say!("in the catalogue: {:.2} % of the pixels of the scene list", 100.0 * share);
        }
    }
    for (scene, why) in &merged.failed {
        say!("incomplete: {scene} ({why})");
    }
    for (scene, why) in &merged.uncompared {
        say!("not compared: {scene} ({why})");
    }
    for (scene, why) in &merged.undrawn {
        say!("not drawn: {scene} ({why})");
    }
    let troubles = [&merged.failed, &merged.uncompared, &merged.undrawn];
    let whole = merged.missing.is_empty() && troubles.iter().all(|trouble| trouble.is_empty());
    let usable = merged.manifests.iter().flat_map(|manifest| &manifest.scenes).any(|s| s.failed.is_none());
    Ok(match (whole, usable || merged.failed.is_empty()) {
        (true, _) => Done::All,
        (false, true) => Done::Partly,
        (false, false) => Done::Nothing,
    })
}
