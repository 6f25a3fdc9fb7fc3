//! `marscan info`: what a TIFF is, and whether it can be scanned; folders give a scene list.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args as ClapArgs;

use super::Done;
use crate::config::{self, InputSettings};
use crate::fault::WrongUsage;
use crate::geo::name::NamedPlace;
use crate::plan::{SceneList, scanned_before};
use crate::raster::MappedScene;
use crate::raster::header::SceneHeader;
use crate::records::SceneRecord;
use crate::space::ScenePx;

/// Describe TIFFs and say whether they can be scanned; a folder stands for the TIFFs in it.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  marscan info images/ --scenes images/scenes.csv\n  \
    marscan info images/ --scenes images/scenes.csv --count-valid\n  \
    marscan info images/ --scenes tonight.csv --except nights/\n\n\
    Exit code 4: with --except, no scene is new.")]
pub struct Args {
    /// TIFFs, or folders of them
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// Write the list of those that can be scanned; masks (NAME_gt.tif, NAME_mask.tif) are found beside them
    #[arg(long)]
    scenes: Option<PathBuf>,
    /// Read every pixel, and list how many are valid: `plan` then deals by these, not by all
    #[arg(long, requires = "scenes")]
    count_valid: bool,
    /// Leave out scenes that were scanned before: the scenes.csv of merged runs, or folders of such runs; an image that
    /// has been replaced since is not left out
    #[arg(long, num_args = 1..)]
    except: Vec<PathBuf>,
    /// End with 0 though some files cannot be scanned, as long as one can; they are named as ever
    #[arg(long)]
    allow_partial: bool,
}

const MASK_ENDS: [&str; 2] = ["_gt", "_mask"];

/// Prints what each file is, and writes the list.
///
/// # Errors
/// If a folder cannot be read or the list not written.
pub fn run(args: &Args) -> Result<Done> {
    let input = config::load("unet1")?.input;
    let mut records = Vec::new();
    let mut refused = 0;
    let before = scanned_before(&args.except)?;
    let (old, new): (Vec<_>, Vec<_>) =
        files(&args.paths)?.into_iter().partition(|path| is_scanned(path, input, &before));
    for path in new {
        match describe(&path, input, args.count_valid) {
            Ok((header, valid_px)) => {
                records.push(record(&path, &header, valid_px, args.scenes.as_deref())?);
            }
            Err(why) => {
                refused += 1;
                say!("{}\n  cannot be scanned: {:#}", path.display(), why);
            }
        }
    }
    if !args.except.is_empty() {
        say!("{} scenes left out: scanned before", old.len());
        if records.is_empty() && refused == 0 {
            say!("no scene is new: there is nothing to scan");
            return Ok(Done::NothingNew);
        }
    }
    if records.is_empty() {
        say!("no scene to list: there is no TIFF that can be scanned");
        return Ok(Done::Nothing);
    }
    if let Some(list) = &args.scenes {
        check_names(&records)?;
        SceneList::write(list, &records)?;
        say!("{} scenes listed in {}", records.len(), list.display());
    }
    Ok(if refused == 0 || args.allow_partial { Done::All } else { Done::Partly })
}

/// Whether a scene is among those scanned `before`, and of the same image, as far as the images' looks were written down
/// and its own can be had; says so where it is not.
fn is_scanned(path: &Path, input: InputSettings, before: &BTreeMap<String, Vec<Option<String>>>) -> bool {
    let Some(looks) = before.get(&stem(path)) else { return false };
    if looks.contains(&None) {
        return true;
    }
    match MappedScene::open(path, input).and_then(|scene| scene.look()) {
        Ok(look) => {
            let same = looks.contains(&Some(look));
            if !same {
                say!("{}\n  another image of this name was scanned before", path.display());
            }
            same
        }
        Err(why) => {
            say!("{}\n  was scanned before, and cannot be read now: {why:#}", path.display());
            true
        }
    }
}

/// # Errors
/// [`WrongUsage`] if two files would have one name in the list.
fn check_names(records: &[SceneRecord]) -> Result<()> {
    let mut seen = BTreeMap::new();
    for SceneRecord { file_name, path, .. } in records {
        let path = path.as_deref().unwrap_or(Path::new("")).display();
        if let Some(other) = seen.insert(file_name, path.to_string()) {
            let message =
                format!("{other} and {path} would both be {file_name} in the list: rename one of them");
            return Err(WrongUsage(message).into());
        }
    }
    Ok(())
}

/// The files themselves, and of folders the TIFFs that are no masks, by name.
fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for path in paths {
        if !path.is_dir() {
            all.push(path.clone());
            continue;
        }
        let mut inside = Vec::new();
        for entry in fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))? {
            let path = entry?.path();
            let ending = path.extension().unwrap_or_default().to_ascii_lowercase();
            let stem = stem(&path);
            if (ending == "tif" || ending == "tiff") && !MASK_ENDS.iter().any(|end| stem.ends_with(end)) {
                inside.push(path);
            }
        }
        inside.sort();
        all.extend(inside);
    }
    Ok(all)
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn describe(path: &Path, input: InputSettings, count: bool) -> Result<(SceneHeader, Option<u64>)> {
    let scene = MappedScene::open(path, input)?;
    let header = scene.header();
    let valid_px = count.then(|| scene.valid_px()).transpose()?;
    say!("{}", path.display());
    say!(
        "  {} rows x {} columns ({:.1} Mpx), {} bits; {}",
        header.rows,
        header.cols,
        (header.rows * header.cols) as f64 / 1e6,
        header.bits,
        header.layout()
    );
    let nodata =
        header.nodata.filter(|value| *value != 0.0).map_or("0".into(), |value| format!("0 and {value}"));
    let inverted = if header.white_is_zero { ", 0 is white (inverted when read)" } else { "" };
    say!("  no data: {nodata}{inverted}");
    if let Some(valid_px) = valid_px {
        let share = 100.0 * valid_px as f64 / (header.rows * header.cols) as f64;
        say!("  {share:.1} % of its pixels are valid");
    }
    print_place(header);
    if let Some(place) = NamedPlace::parse(&stem(path)) {
        print_name(&place, header);
    }
    say!("  can be scanned{}", if scene.is_direct() { ", straight from the map" } else { "" });
    Ok((header.clone(), valid_px))
}

fn print_place(header: &SceneHeader) {
    let Some(georef) = &header.georef else {
        let why = header.georef_trouble.as_deref().unwrap_or("the file has no such tags");
        say!("  not georeferenced: {why}");
        return;
    };
    let (bottom, right) = (header.rows as f64 - 0.5, header.cols as f64 - 0.5);
    let centre = ScenePx { row: (bottom - 0.5) / 2.0, col: (right - 0.5) / 2.0 };
    say!("  {}; {:.3} m/px at the centre", georef.projection(), georef.metres_per_px(centre));
    let corners = [
        ("upper left", -0.5, -0.5),
        ("upper right", -0.5, right),
        ("lower left", bottom, -0.5),
        ("lower right", bottom, right),
        ("centre", centre.row, centre.col),
    ];
    for (name, row, col) in corners {
        let place = georef.lonlat(ScenePx { row, col });
        say!("  {name:12} lon {:11.6} E  lat {:10.6}", place.lon_deg, place.lat_deg);
    }
}

/// A scene may reach over this much around the place in its name.
const NAME_TOLERANCE_DEG: f64 = 3.0;

fn print_name(named: &NamedPlace, header: &SceneHeader) {
    say!("  named for latitude {:.1}, longitude {:.0} E", named.lat_deg, named.lon_deg);
    if let Some(contradiction) = named.contradiction() {
        say!("  warning: {contradiction}");
    }
    let Some(georef) = &header.georef else { return };
    let centre = ScenePx { row: header.rows as f64 / 2.0, col: header.cols as f64 / 2.0 };
    let place = georef.lonlat(centre);
    let turn = (place.lon_deg - named.lon_deg).rem_euclid(360.0);
    let off = (place.lat_deg - named.lat_deg).abs().max(turn.min(360.0 - turn));
    if off > NAME_TOLERANCE_DEG {
        say!("  warning: its georeferencing puts the centre {off:.1} degrees from the place in its name");
    }
}

fn record(
    path: &Path,
    header: &SceneHeader,
    valid_px: Option<u64>,
    list: Option<&Path>,
) -> Result<SceneRecord> {
    let folder = list.and_then(Path::parent).filter(|folder| !folder.as_os_str().is_empty());
    let relative = |path: &Path| -> Result<PathBuf> {
        let real =
            |path: &Path| fs::canonicalize(path).with_context(|| format!("cannot find {}", path.display()));
        let (folder, full) = (real(folder.unwrap_or(Path::new(".")))?, real(path)?);
        Ok(full.strip_prefix(&folder).map(Path::to_owned).unwrap_or(full))
    };
    let name = stem(path);
    let mask = MASK_ENDS
        .iter()
        .map(|end| path.with_file_name(format!("{name}{end}.tif")))
        .find(|mask| mask.exists());
    Ok(SceneRecord {
        file_name: name,
        rows: header.rows,
        cols: header.cols,
        path: Some(relative(path)?),
        valid_px,
        mask: mask.as_deref().map(relative).transpose()?,
    })
}
