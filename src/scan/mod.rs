//! Scanning: one shard of scenes in, blobs and timings out.
//!
//! A scene that fails costs itself and nothing else: the manifest names it and its neighbours go on.
//! Only what would fail every scene ends the shard.

mod infer;
mod journal;
mod manifest;
mod parts;
mod pipeline;
mod publish;
mod screen;
mod visit;

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::config::Settings;
use crate::detect::Segmenter;
use crate::fault::{Stopped, WrongUsage};
use crate::job::StopRequest;
use crate::plan::{SceneList, plan};
use crate::raster::{Io, MappedScene};
use crate::records::{RunIds, Shard, ShardManifest};
use crate::table::scene_file;
use crate::timing::{PeakMemory, ShardClock, host_name};

pub use manifest::{read as read_manifest, write as write_manifest};
pub use parts::{PART_TABLE, PARTS};
pub use pipeline::level;
pub use publish::shard_folder;
pub use screen::Screen;
pub use visit::{BandView, visit_scene};

use journal::Journal;

/// The folder of a run's maps of probabilities, a file a scene.
pub const MAPS: &str = "probabilities";
/// The folder of its pictures of scenes, likewise.
pub const OVERLAYS: &str = "overlays";

/// What every shard of a run shares.
pub struct ScanJob {
    /// The scene list.
    pub scenes: SceneList,
    /// Gets `shards/`.
    pub out: PathBuf,
    /// How many shards the plan has.
    pub shards: usize,
    /// All settings.
    pub settings: Settings,
    /// blake3 of the weights; empty without a network.
    pub weights_id: String,
    /// How scenes are read.
    pub io: Io,
    /// Asked between windows.
    pub stop: StopRequest,
    /// Whether every pixel is held against the list's masks.
    pub masks: bool,
    /// Whether the probabilities of every pixel are published too, for a map.
    pub probabilities: bool,
    /// Whether a merge is to draw the scenes with what was found.
    pub overlay: bool,
    /// The command line, for the manifest.
    pub command: Vec<String>,
    /// Scheduler variables, for the manifest.
    pub scheduler: Vec<(String, String)>,
}

/// What happens while a shard is scanned, for a progress bar or a log.
#[derive(Clone, Debug)]
pub enum Event {
    /// A shard of so many pixels begins.
    Begun {
        /// All pixels, no-data included.
        pixels: u64,
    },
    /// An earlier task finished some of its bands.
    GoesOn {
        /// How many.
        bands: usize,
        /// Of how many.
        of: usize,
        /// All their pixels, no-data included.
        pixels: u64,
    },
    /// A band of so many pixels is done, or given up.
    Band {
        /// All pixels, no-data included.
        pixels: u64,
    },
    /// A scene failed.
    Failed {
        /// Its name.
        scene: String,
        /// The whole chain.
        why: String,
    },
}

/// How the work on a shard ended.
#[derive(Clone, Debug)]
pub enum Scanned {
    /// It is published.
    Done(Box<ShardSummary>),
    /// A signal asked to stop: what is finished is kept, and the same work goes on from there.
    Stopped,
}

/// What a shard came to.
#[derive(Clone, Debug)]
pub struct ShardSummary {
    /// What was written to `shard.json`.
    pub manifest: ShardManifest,
    /// Whether the shard had been finished by an earlier run.
    pub was_done: bool,
    /// Stage names and their seconds, added over the bands.
    pub stage_seconds: Vec<(String, f64)>,
}

impl ScanJob {
    /// The shards of this run.
    pub fn plan(&self) -> Vec<Shard> {
        plan(&self.scenes.records, self.shards, self.settings.scan.band_rows)
    }

    /// What this run's results depend on.
    pub fn ids(&self) -> RunIds {
        RunIds {
            scene_list: self.scenes.id(),
            settings: self.settings.id(),
            weights: self.weights_id.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// Whether there are masks where they are to be looked at, and every scene that is to have a file of its own can have one.
    ///
    /// # Errors
    /// [`WrongUsage`] if not.
    fn check(&self) -> Result<()> {
        if self.masks && self.scenes.records.iter().all(|record| record.mask.is_none()) {
            let message = "--masks: the scene list names no mask; `marscan info --scenes` lists those beside the scenes";
            return Err(WrongUsage(message.into()).into());
        }
        let own = [(self.probabilities, MAPS, "tif"), (self.overlay, OVERLAYS, "png")];
        for (_, folder, end) in own.into_iter().filter(|(asked, ..)| *asked) {
            for record in &self.scenes.records {
                scene_file(&self.out.join(folder), &record.file_name, end)
                    .map_err(|why| WrongUsage(format!("{why:#}")))?;
            }
        }
        Ok(())
    }

    /// Whether shard `index` is finished already.
    ///
    /// # Errors
    /// [`WrongUsage`] if it is, with other scenes, settings, weights or version, or without the probabilities or the look
    /// at masks that are wanted.
    pub fn finished(&self, index: usize) -> Result<Option<ShardManifest>> {
        let folder = shard_folder(&self.out, index, self.shards);
        if !folder.exists() {
            return Ok(None);
        }
        let manifest = read_manifest(&folder)?;
        let (mine, theirs) = (self.ids(), &manifest.ids);
        let pairs = [
            ("scene list", &mine.scene_list, &theirs.scene_list),
            ("settings", &mine.settings, &theirs.settings),
            ("weights", &mine.weights, &theirs.weights),
            ("version", &mine.version, &theirs.version),
        ];
        for (name, mine, theirs) in pairs {
            if mine != theirs {
                return Err(WrongUsage(format!(
                    "{} was made with another {name} (its id {theirs:.16}, this run's {mine:.16}): choose another \
                     --out, or remove that folder",
                    folder.display()
                ))
                .into());
            }
        }
        let good = || manifest.scenes.iter().filter(|scene| scene.failed.is_none());
        let masked = |name: &str| self.scenes.records.iter().any(|r| r.file_name == name && r.mask.is_some());
        let missing = [
            ("--probabilities", self.probabilities && manifest.files.iter().all(|(name, _)| name != PARTS)),
            ("--masks", self.masks && good().any(|s| s.pixel_error.is_none() && masked(&s.scene))),
        ];
        if let Some((flag, _)) = missing.into_iter().find(|(_, missing)| *missing) {
            return Err(WrongUsage(format!(
                "{} was made without {flag}: choose another --out, or remove that folder",
                folder.display()
            ))
            .into());
        }
        self.same_images(&folder, &manifest)?;
        Ok(Some(manifest))
    }

    /// Whether what stands in `folder` was made of the images that the list names now, as far as these can be read.
    ///
    /// # Errors
    /// [`WrongUsage`] if not.
    fn same_images(&self, folder: &Path, manifest: &ShardManifest) -> Result<()> {
        for (scene, look) in
            manifest.scenes.iter().filter_map(|scene| Some((&scene.scene, scene.look.as_ref()?)))
        {
            let record = self.scenes.records.iter().find(|record| record.file_name == *scene);
            let file = record.and_then(|record| {
                MappedScene::open_by(&self.scenes.path(record), self.settings.input, self.io).ok()
            });
            if file.and_then(|file| file.look().ok()).is_some_and(|now| now != *look) {
                let folder = folder.display();
                return Err(WrongUsage(format!(
                    "{folder} was made of another image of {scene}: choose another --out, or remove that folder"
                ))
                .into());
            }
        }
        Ok(())
    }
}

/// Scans shard `index` and publishes its folder; nothing is done where it is finished already, and bands that an
/// earlier task finished are not scanned again. Only what `screen` is not sure of goes through `segmenter`, if there is one.
///
/// # Errors
/// If the folder cannot be written, other results stand in its place, another task keeps working on it, or the
/// device is lost. Any other failure is a scene's own: it goes into the manifest.
pub fn scan_shard(
    job: &ScanJob,
    index: usize,
    segmenter: &mut dyn Segmenter,
    screen: Option<&Screen>,
    watch: &(dyn Fn(Event) + Sync),
) -> Result<Scanned> {
    job.check()?;
    if let Some(manifest) = job.finished(index)? {
        return Ok(Scanned::before(manifest));
    }
    let shard =
        job.plan().into_iter().nth(index).ok_or_else(|| {
            WrongUsage(format!("shard {index} of {} shards: they count from 0", job.shards))
        })?;
    let mut journal = match Journal::open(job, index) {
        Err(why) if why.is::<Stopped>() => return Ok(Scanned::Stopped),
        journal => journal?,
    };
    // The task that this one waited for may have finished it.
    if let Some(manifest) = job.finished(index)? {
        journal.remove()?;
        return Ok(Scanned::before(manifest));
    }
    let memory = PeakMemory::default();
    let clock = ShardClock::start(journal.spent_s());
    let work = pipeline::Work { job, watch, memory: &memory, clock };
    let found = match pipeline::run(work, &shard, segmenter, screen, &mut journal) {
        Err(why) if why.is::<Stopped>() => return Ok(Scanned::Stopped),
        found => found?,
    };
    let place = publish::Where { host: host_name(), device: segmenter.device() };
    let summary = publish::publish(work, &shard, found, &place, &journal)?;
    journal.remove()?;
    Ok(Scanned::Done(Box::new(summary)))
}

impl Scanned {
    fn before(manifest: ShardManifest) -> Self {
        Self::Done(Box::new(ShardSummary { manifest, was_done: true, stage_seconds: Vec::new() }))
    }
}

/// Where a run's shards are.
pub fn shards_folder(out: &Path) -> PathBuf {
    out.join("shards")
}
