//! A data set made from scenes and masks: split by observation, crops chosen, lists written.
//!
//! The same scenes and choices give the same bytes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::Pair;
use super::crops::{Cut, TrainingScene};
use super::list::{CROP_HEADER, CROPS, CropRow, DataSpec, Part, PartCounts, SPEC, STORE};
use super::sampler::ScenePool;
use super::split::split;
use super::stats::{STAT_HEADER, Stats};
use super::store::CropStore;
use super::strategy::Choice;
use crate::config::InputSettings;
use crate::fault::WrongUsage;
use crate::geo::name::observation;
use crate::plan::SceneList;
use crate::records::SceneRecord;
use crate::table::{write_rows, write_whole};

/// What is prepared, how, and where it goes.
pub struct PrepareJob {
    /// Scenes and masks; names are unique.
    pub pairs: Vec<Pair>,
    /// Gets the lists.
    pub out: PathBuf,
    /// Which crops.
    pub choice: Choice,
    /// Of train, validation and test.
    pub shares: [u64; 3],
    /// Pixels this near an impact's rim are not judged.
    pub ring_px: usize,
    /// From stored samples to network input.
    pub input: InputSettings,
    /// Whether the crops' pixels are stored too.
    pub store: bool,
    /// Whether every pixel is read for the table of the scenes.
    pub stats: bool,
}

/// What came of it.
pub struct Prepared {
    /// `data.json`.
    pub spec: DataSpec,
    /// The table, where it was asked for.
    pub stats: Option<Stats>,
    /// Scenes that could not be used: name and why.
    pub failed: Vec<(String, String)>,
    /// Whether the store of an earlier, other list was removed.
    pub removed_store: bool,
}

/// The scenes of one part, opened.
struct Opened {
    part: Part,
    pairs: Vec<Pair>,
    pool: ScenePool,
}

/// Writes the data set of `job`.
///
/// # Errors
/// If no scene can be used, they cannot be split or hold no impact, the ring leaves no pixel of a part's impacts
/// judged, or a file cannot be written. A scene that cannot be read or does not agree with its mask is left out and
/// named.
pub fn prepare(job: &PrepareJob) -> Result<Prepared> {
    fs::create_dir_all(&job.out).with_context(|| format!("cannot make {}", job.out.display()))?;
    let (usable, failed) = open_all(job);
    ensure!(!usable.is_empty(), "none of the {} scenes can be used; {}", job.pairs.len(), reasons(&failed));
    let impacts: Vec<(String, u64)> =
        usable.iter().map(|(pair, scene)| (pair.name.clone(), scene.impacts().len() as u64)).collect();
    ensure!(impacts.iter().any(|(_, count)| *count > 0), "none of the masks has an impact");
    let parts = split(&impacts, job.shares, job.choice.seed)?;
    let opened = group(usable, &parts);
    if let Some(Opened { part, .. }) = opened.iter().find(|part| !part.pool.judges_impacts(job.ring_px)) {
        let message = format!(
            "--ring {} leaves no pixel of any impact of the {part} scenes judged: all are too small for it, take a \
             smaller one",
            job.ring_px
        );
        return Err(WrongUsage(message).into());
    }
    // Until the last file is written, there is no data set.
    let spec_path = job.out.join(SPEC);
    if spec_path.exists() {
        fs::remove_file(&spec_path).with_context(|| format!("cannot remove {}", spec_path.display()))?;
    }
    let (stats, valid) = measure(job, &opened)?;
    let mut crops = Vec::new();
    for part in &opened {
        write_list(job, part, &valid)?;
        crops.extend(crops_of(job, part)?);
    }
    (0u64..).zip(&mut crops).for_each(|(number, crop)| crop.number = number);
    write_rows(&job.out.join(CROPS), &CROP_HEADER, &crops)?;
    let spec = spec(job, &opened, &crops)?;
    let removed_store = keep_store(job, &opened, &crops, &spec)?;
    write_whole(&spec_path, (serde_json::to_string_pretty(&spec)? + "\n").as_bytes())?;
    Ok(Prepared { spec, stats, failed, removed_store })
}

fn reasons(failed: &[(String, String)]) -> String {
    failed.iter().map(|(name, why)| format!("{name}: {why}")).collect::<Vec<_>>().join("; ")
}

type Usable = Vec<(Pair, TrainingScene)>;

fn open_all(job: &PrepareJob) -> (Usable, Vec<(String, String)>) {
    let (mut usable, mut failed) = (Vec::new(), Vec::new());
    for pair in &job.pairs {
        match TrainingScene::open(&pair.image, &pair.mask, job.input) {
            Ok(scene) => usable.push((pair.clone(), scene)),
            Err(why) => failed.push((pair.name.clone(), format!("{why:#}"))),
        }
    }
    (usable, failed)
}

fn group(usable: Usable, parts: &[Part]) -> Vec<Opened> {
    let mut groups: BTreeMap<Part, (Vec<Pair>, Vec<TrainingScene>)> = BTreeMap::new();
    for part in Part::ALL {
        groups.entry(part).or_default();
    }
    for ((pair, scene), part) in usable.into_iter().zip(parts) {
        let (pairs, scenes) = groups.entry(*part).or_default();
        pairs.push(pair);
        scenes.push(scene);
    }
    let opened = |(part, (pairs, scenes))| Opened { part, pairs, pool: ScenePool::new(scenes) };
    groups.into_iter().map(opened).collect()
}

/// Reads every pixel for the table, where that is wanted; gives the valid ones of each scene too.
fn measure(job: &PrepareJob, opened: &[Opened]) -> Result<(Option<Stats>, BTreeMap<String, u64>)> {
    let mut valid = BTreeMap::new();
    if !job.stats {
        return Ok((None, valid));
    }
    let mut stats = Stats::default();
    for part in opened {
        for (pair, scene) in part.pairs.iter().zip(part.pool.scenes()) {
            let valid_px = stats.add(&pair.name, &part.part.to_string(), scene)?;
            valid.insert(pair.name.clone(), valid_px);
        }
    }
    stats.total();
    write_rows(&job.out.join("stats.csv"), &STAT_HEADER, &stats.rows)?;
    Ok((Some(stats), valid))
}

fn write_list(job: &PrepareJob, part: &Opened, valid: &BTreeMap<String, u64>) -> Result<()> {
    let record = |(pair, scene): (&Pair, &TrainingScene)| -> Result<SceneRecord> {
        Ok(SceneRecord {
            file_name: pair.name.clone(),
            rows: scene.rows(),
            cols: scene.cols(),
            path: Some(relative(&pair.image, &job.out)?),
            valid_px: valid.get(&pair.name).copied(),
            mask: Some(relative(&pair.mask, &job.out)?),
        })
    };
    let records: Vec<SceneRecord> =
        part.pairs.iter().zip(part.pool.scenes()).map(record).collect::<Result<_>>()?;
    SceneList::write(&job.out.join(part.part.file()), &records)
}

/// `file` as seen from `folder`; both are there.
fn relative(file: &Path, folder: &Path) -> Result<PathBuf> {
    let real = |path: &Path| path.canonicalize().with_context(|| format!("cannot find {}", path.display()));
    let (file, folder) = (real(file)?, real(folder)?);
    let parts = |path: &Path| path.components().map(|c| c.as_os_str().to_owned()).collect::<Vec<_>>();
    let (to, from) = (parts(&file), parts(&folder));
    let shared = to.iter().zip(&from).take_while(|(a, b)| a == b).count();
    let up = from[shared..].iter().map(|_| Component::ParentDir.as_os_str());
    Ok(up.chain(to[shared..].iter().map(std::ffi::OsString::as_os_str)).collect())
}

fn crops_of(job: &PrepareJob, part: &Opened) -> Result<Vec<CropRow>> {
    let names: Vec<&str> = part.pairs.iter().map(|pair| pair.name.as_str()).collect();
    let side = job.choice.side_px;
    let row = |draft: super::strategy::Draft| CropRow {
        number: 0,
        part: part.part,
        scene: names[draft.scene].to_owned(),
        row0_px: draft.origin.0,
        col0_px: draft.origin.1,
        side_px: side as u64,
        impact_px: draft.impact_px,
        valid_px: draft.valid_px,
        kind: draft.kind(side),
    };
    Ok(job.choice.draw(&part.pool, &names)?.into_iter().map(row).collect())
}

fn spec(job: &PrepareJob, opened: &[Opened], crops: &[CropRow]) -> Result<DataSpec> {
    let mut parts = BTreeMap::new();
    let mut ids = BTreeMap::new();
    for part in opened {
        let mine = || crops.iter().filter(|crop| crop.part == part.part);
        let mut observations: Vec<&str> = part.pairs.iter().map(|pair| observation(&pair.name)).collect();
        observations.sort_unstable();
        observations.dedup();
        let counts = PartCounts {
            scenes: part.pairs.len() as u64,
            observations: observations.len() as u64,
            impacts: part.pool.scenes().iter().map(|scene| scene.impacts().len() as u64).sum(),
            crops: mine().count() as u64,
            with_impact: mine().filter(|crop| crop.impact_px > 0).count() as u64,
        };
        parts.insert(part.part, counts);
    }
    for name in Part::ALL.map(Part::file).into_iter().chain([CROPS.to_owned()]) {
        let bytes = fs::read(job.out.join(&name))?;
        ids.insert(name, blake3::hash(&bytes).to_hex().to_string());
    }
    let looks = opened.iter().flat_map(|part| part.pairs.iter().zip(part.pool.scenes()));
    let looks = looks.map(|(pair, scene)| (pair.name.clone(), scene.looks.clone())).collect();
    let Choice { strategy, side_px, per_impact, seed } = job.choice;
    Ok(DataSpec {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        strategy,
        per_impact,
        side_px,
        ring_px: job.ring_px,
        seed,
        shares: job.shares,
        input: job.input,
        parts,
        ids,
        looks,
    })
}

/// Stores the crops where that is wanted; where not, an earlier store, which may be of another list, goes.
fn keep_store(job: &PrepareJob, opened: &[Opened], crops: &[CropRow], spec: &DataSpec) -> Result<bool> {
    let path = job.out.join(STORE);
    if !job.store {
        let there = path.exists();
        if there {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
        return Ok(there);
    }
    let mut scenes: BTreeMap<&str, &TrainingScene> = BTreeMap::new();
    for part in opened {
        scenes.extend(part.pairs.iter().map(|pair| pair.name.as_str()).zip(part.pool.scenes()));
    }
    let cut = Cut { side_px: spec.side_px, ring_px: spec.ring_px };
    CropStore::write(&path, &spec.ids[CROPS], spec.side_px, crops.len() as u64, |number, batch| {
        let crop = &crops[number as usize];
        scenes[crop.scene.as_str()].append((crop.row0_px, crop.col0_px), cut, batch)
    })?;
    Ok(false)
}
