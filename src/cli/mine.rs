//! `marscan mine`: what a network took for an impact on the training scenes, as hard negatives.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args as ClapArgs;

use super::Done;
use super::devices::DeviceFlags;
use super::progress::Progress;
use super::scan::segmenter;
use super::settings::Flags;
use super::train::pairs;
use crate::config::Settings;
use crate::detect::Segmenter;
use crate::fault::{DeviceLost, WrongUsage};
use crate::merge::shard_manifests;
use crate::records::Impact;
use crate::scan::{Event, level, shard_folder, shards_folder, visit_scene};
use crate::table::{read_rows, write_rows};
use crate::train::Pair;
use crate::train::crops::TrainingScene;
use crate::train::list::{DataSet, Part, SPEC};
use crate::train::mining::{
    MINED_HEADER, Mined, MinedRow, Origin, SceneMiner, confirmed as confirmed_in, confirmed_header,
    from_catalogue,
};
use crate::verdict::{Numbers, Verdict, Verdicts};

/// Find what a network takes for an impact on the training scenes where their masks have none, most wrong
/// first; or take what a human rejected. Validation and test scenes are refused.
///
/// The error that lines are ranked by is the sum, over the crop around a mistake, of the squared
/// probabilities of the pixels where the mask is empty; of a catalogue's lines, area times squared score.
#[derive(Debug, ClapArgs)]
#[command(
    group(clap::ArgGroup::new("from").required(true).multiple(true).args(["data", "scenes"])),
    after_help = "Examples:\n  marscan mine --data data --weights run/best.safetensors --min-score 0.5 --out mined\n  \
    marscan mine --data data --catalogue found/catalogue.csv --verdicts verdicts.csv --out mined\n  \
    marscan train --data data --from run/best.safetensors --hard-negatives mined/mined.csv --out run2"
)]
pub struct Args {
    /// Prepared data set: its training scenes are scanned, its other scenes are never touched
    #[arg(long)]
    data: Option<PathBuf>,
    /// Scene list with masks, in place of the data set's training scenes; held against --data, and against a
    /// data set that it lies in
    #[arg(long)]
    scenes: Option<PathBuf>,
    /// Folder that gets mined.csv
    #[arg(long)]
    out: PathBuf,
    /// Weights (safetensors) in place of the shipped ones
    #[arg(long)]
    weights: Option<PathBuf>,
    #[command(flatten)]
    pub device: DeviceFlags,
    /// Catalogue of a scan of the training scenes, which may have been a job array: nothing is scanned here, and flags
    /// of a scan are refused
    #[arg(long, conflicts_with_all = [
        "weights", "device", "share_gpu", "kernel_cache", "window", "batch", "precision", "band_rows", "probability",
        "min_area", "min_score", "segmenter", "dark_max", "bright_min",
    ])]
    catalogue: Option<PathBuf>,
    /// verdicts.csv of `marscan review` on the catalogue: only rejects are taken, and what was accepted is listed in
    /// confirmed.csv, whether the masks have it or not
    #[arg(long, requires = "catalogue")]
    verdicts: Option<PathBuf>,
    /// Side of the crops, px; the data set's unless said otherwise
    #[arg(long, value_parser = clap::value_parser!(u32).range(16..=4096))]
    crop: Option<u32>,
    /// Keep the most wrong of them
    #[arg(long)]
    at_most: Option<usize>,
    #[command(flatten)]
    flags: Flags,
}

/// Mines and writes the list.
///
/// # Errors
/// If a scene is no training scene, a file cannot be read or written, or the device is lost.
pub fn run(args: &Args) -> Result<Done> {
    let settings = args.flags.load()?;
    let data = args.data.as_deref().map(DataSet::open).transpose()?;
    let scenes = training_scenes(args, data.as_ref())?;
    let side_px = match (args.crop, &data) {
        (Some(side), _) => side as usize,
        (None, Some(data)) => data.spec.side_px,
        (None, None) => settings.train.crop_px,
    };
    let (Judged { mut mined, confirmed }, failed) = match &args.catalogue {
        Some(path) => (of_catalogue(args, path, &scenes, data.as_ref(), &settings, side_px)?, 0),
        None => by_scan(args, &scenes, &settings, side_px)
            .map(|(mined, failed)| (Judged { mined, confirmed: None }, failed))?,
    };
    let found = mined.rows.len();
    mined.rank(args.at_most.unwrap_or(usize::MAX));
    std::fs::create_dir_all(&args.out).with_context(|| format!("cannot make {}", args.out.display()))?;
    let path = args.out.join("mined.csv");
    write_rows(&path, &MINED_HEADER, &mined.rows)?;
    print(found, &mined);
    say!("wrote {}", path.display());
    if let Some(rows) = confirmed {
        let path = args.out.join("confirmed.csv");
        let rows = ranked(rows);
        write_rows(&path, &confirmed_header(), &rows)?;
        let missing = rows.iter().filter(|row| !row.1).count();
        say!("{} confirmed, {missing} of them not in the masks", rows.len());
        say!("wrote {}", path.display());
    }
    Ok(match failed {
        0 => Done::All,
        failed if failed == scenes.len() => Done::Nothing,
        _ => Done::Partly,
    })
}

/// Confirmed impacts, those that the network was least sure of first.
fn ranked(mut rows: Vec<(MinedRow, bool)>) -> Vec<(MinedRow, bool)> {
    rows.sort_by(|(a, _), (b, _)| {
        b.error.total_cmp(&a.error).then_with(|| (&a.scene, a.id).cmp(&(&b.scene, b.id)))
    });
    (1..).zip(&mut rows).for_each(|(rank, row)| row.0.rank = rank);
    rows
}

/// The counts, and the five most wrong of `found`.
fn print(found: usize, mined: &Mined) {
    say!(
        "{found} mistakes, {} kept; {} candidates on an impact of the mask left out",
        mined.rows.len(),
        mined.on_impacts
    );
    for row in mined.rows.iter().take(5) {
        say!(
            "  {:3}. {} at {:.0}, {:.0}: error {:.1}, score {:.2}, {} px",
            row.rank,
            row.scene,
            row.row_px,
            row.col_px,
            row.error,
            row.score,
            row.area_px
        );
    }
}

/// The scenes that may be looked at.
///
/// A list that lies in a data set's folder is held against that data set, named or not.
fn training_scenes(args: &Args, data: Option<&DataSet>) -> Result<Vec<Pair>> {
    let Some(list) = &args.scenes else {
        return Ok(data.map_or_else(Vec::new, |data| data.scenes(Part::Train).to_vec()));
    };
    let scenes = pairs(list)?;
    let folder = list.parent().unwrap_or(Path::new(""));
    let beside = folder.join(SPEC).exists().then(|| DataSet::open(folder)).transpose()?;
    for guard in data.into_iter().chain(&beside) {
        for pair in &scenes {
            let part = guard.held_out(&pair.name).or_else(|| guard.holds_out_file(&pair.image));
            part.map_or(Ok(()), |part| Err(refusal(&pair.name, part, guard)))?;
        }
    }
    Ok(scenes)
}

fn refusal(scene: &str, part: Part, data: &DataSet) -> anyhow::Error {
    let list = data.folder.join(part.file());
    WrongUsage(format!(
        "{scene} is a {part} scene (it, or another of its observation, is in {}): mistakes are taken from \
         training scenes only",
        list.display()
    ))
    .into()
}

/// Scans the scenes; gives the count of those that failed too.
fn by_scan(args: &Args, scenes: &[Pair], settings: &Settings, side_px: usize) -> Result<(Mined, usize)> {
    let choose = || Ok(vec![args.device.choose()?]);
    let (mut segmenter, model) = segmenter(settings, args.weights.as_deref(), choose)?;
    let origin = Origin {
        source: "scan".into(),
        model,
        threshold: Some(settings.scan.probability),
        min_score: Some(settings.scan.min_score),
        side_px,
    };
    let (mut mined, mut failed) = (Mined::default(), 0);
    let progress = Progress::new(String::new());
    for pair in scenes {
        match scan(pair, settings, segmenter.as_mut(), &origin, &progress) {
            Ok(found) => mined.extend(found),
            Err(why) if why.is::<DeviceLost>() => return Err(why),
            Err(why) => {
                failed += 1;
                progress.see(Event::Failed { scene: pair.name.clone(), why: format!("{why:#}") });
            }
        }
    }
    progress.finish();
    Ok((mined, failed))
}

fn scan(
    pair: &Pair,
    settings: &Settings,
    segmenter: &mut dyn Segmenter,
    origin: &Origin,
    progress: &Progress,
) -> Result<Mined> {
    let scene = TrainingScene::open(&pair.image, &pair.mask, settings.input)?;
    progress.see(Event::Begun { pixels: scene.rows() * scene.cols() });
    let mut miner = SceneMiner::new(&scene, level(settings.scan.probability), origin.side_px);
    visit_scene(scene.image(), settings, segmenter, &mut |band| {
        miner.take(band.row0, band.probabilities);
        progress.see(Event::Band { pixels: (band.row1 - band.row0) * scene.cols() });
        Ok(())
    })?;
    scene.image().unchanged()?;
    Ok(miner.finish(&pair.name, settings.scan.min_area_px, origin))
}

/// What a catalogue and verdicts on it come to.
struct Judged {
    /// All of the catalogue's mistakes, or those of its lines that a human rejected.
    mined: Mined,
    /// What a human accepted, and whether the mask has it; `None` without verdicts.
    confirmed: Option<Vec<(MinedRow, bool)>>,
}

fn of_catalogue(
    args: &Args,
    path: &Path,
    scenes: &[Pair],
    data: Option<&DataSet>,
    settings: &Settings,
    side_px: usize,
) -> Result<Judged> {
    let catalogue = training_lines(path, scenes, data)?;
    let verdicts = args.verdicts.as_deref().map(|file| verdicts_on(&catalogue, path, file)).transpose()?;
    let mut origin = Origin { side_px, ..origin_of(path)? };
    if verdicts.is_some() {
        origin.source = "verdict".into();
    }
    let mut judged = Judged { mined: Mined::default(), confirmed: verdicts.is_some().then(Vec::new) };
    for pair in scenes {
        let mine: Vec<&Impact> = catalogue.iter().filter(|line| line.scene == pair.name).collect();
        if mine.is_empty() {
            continue;
        }
        let scene = TrainingScene::open(&pair.image, &pair.mask, settings.input)?;
        let Some((verdicts, confirmed)) = verdicts.as_ref().zip(judged.confirmed.as_mut()) else {
            judged.mined.extend(from_catalogue(&scene, mine.into_iter().map(|line| (line, None)), &origin));
            continue;
        };
        let said = |wanted: Verdict| {
            let said = mine.iter().filter_map(|line| Some((*line, verdicts.on(line.id)?)));
            said.filter(move |(_, said)| said.verdict == wanted)
        };
        let rejected = said(Verdict::Reject).map(|(line, said)| (line, Some(said)));
        judged.mined.extend(from_catalogue(&scene, rejected, &origin));
        confirmed.extend(confirmed_in(&scene, said(Verdict::Accept), &origin));
    }
    Ok(judged)
}

/// A catalogue, none of whose lines is of another scene than `scenes`.
fn training_lines(path: &Path, scenes: &[Pair], data: Option<&DataSet>) -> Result<Vec<Impact>> {
    let catalogue: Vec<Impact> = read_rows(path)?;
    for line in &catalogue {
        if let Some((data, part)) = data.and_then(|data| Some((data, data.held_out(&line.scene)?))) {
            return Err(refusal(&line.scene, part, data));
        }
        if !scenes.iter().any(|pair| pair.name == line.scene) {
            let message = format!("{} names {}, which is no training scene", path.display(), line.scene);
            return Err(WrongUsage(message).into());
        }
    }
    Ok(catalogue)
}

/// Verdicts that hold for the catalogue at `path`.
fn verdicts_on(catalogue: &[Impact], path: &Path, file: &Path) -> Result<Verdicts> {
    let verdicts = Verdicts::read(file)?;
    let ids: BTreeSet<u64> = catalogue.iter().map(|line| line.id).collect();
    verdicts.check(|id| ids.contains(&id))?;
    let mut numbers = Numbers::default();
    for line in catalogue {
        numbers.add(line);
    }
    numbers.check_page(path.parent().unwrap_or(Path::new("")))?;
    Ok(verdicts)
}

/// What the shards beside a catalogue say of the scan that it is of.
fn origin_of(catalogue: &Path) -> Result<Origin> {
    let folder = catalogue.parent().unwrap_or(Path::new(""));
    let mut origin = Origin { source: "catalogue".into(), ..Origin::default() };
    if !shards_folder(folder).exists() {
        return Ok(origin);
    }
    if let Some(shard) = shard_manifests(folder)?.into_iter().next() {
        let settings = shard_folder(folder, shard.shard, shard.shards).join("settings.toml");
        let text = std::fs::read_to_string(&settings)
            .with_context(|| format!("cannot read {}", settings.display()))?;
        let threshold = toml::from_str::<toml::Table>(&text)
            .ok()
            .and_then(|table| table.get("scan")?.get("probability")?.as_float());
        origin.threshold = threshold;
        origin.min_score = Some(shard.min_score);
        origin.model = shard.ids.weights;
    }
    Ok(origin)
}
