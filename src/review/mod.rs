//! `review.html`: a page on which a scientist looks at each candidate and says what it is.
//!
//! One file that opens from disk and holds all it shows. Pictures are cut scene by scene from the top down, so that a
//! giant scene is read once; the same run gives the same bytes. Verdicts are the page's own business until they leave it
//! as `verdicts.csv` ([`crate::verdict`]).

mod candidates;
mod order;
mod outline;
mod page;
mod view;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use rayon::prelude::*;

use crate::config::Settings;
use crate::detect::Segmenter;
use crate::fault::{DeviceLost, WrongUsage};
use crate::merge::{open_scene, read_settings, shard_manifests};
use crate::picture::thumbnail;
use crate::raster::header::SceneHeader;
use crate::raster::{MappedScene, Rows};
use crate::records::ShardManifest;
use crate::repeat::{Repeats, Square};
use crate::scan::level;
use crate::table::write_whole_with;

pub use candidates::Candidate;
pub use order::Kind;

use outline::{Outline, Outliner};
use view::View;

/// Candidates that a page can hold.
pub const MOST_CANDIDATES: usize = 5000;
/// Candidates up to which pictures have [`WIDE_PX`] on a side, and the page some 30 kB a candidate; of more they have
/// [`NARROW_PX`] and 20 kB.
const FEW_CANDIDATES: usize = 2000;
const WIDE_PX: usize = 128;
const NARROW_PX: usize = 96;
/// Rows of a scene that are read at a time for the candidates in them.
const GROUP_ROWS: u64 = 4096;
/// Scenes that are shown whole beside their candidates.
const BROWSED: usize = 300;

/// A run that can be looked at.
pub struct Run {
    manifests: Vec<ShardManifest>,
    /// What it was scanned with.
    pub settings: Settings,
}

/// What to show.
pub struct ReviewOptions<'a> {
    /// Candidates, at most [`MOST_CANDIDATES`].
    pub at_most: usize,
    /// One of each kind in turn; the surest first where there is none.
    pub kinds: Vec<Kind>,
    /// The run's network, where outlines are wanted.
    pub network: Option<&'a mut dyn Segmenter>,
    /// The scenes that the catalogue's column `repeat_scene` names, where these are to be shown.
    pub repeats: Option<&'a Repeats>,
    /// Told how many more candidates are done.
    pub watch: &'a dyn Fn(u64),
}

/// What a page came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reviewed {
    /// Candidates of the catalogue.
    pub all: u64,
    /// Of these, on the page.
    pub shown: u64,
    /// Bytes of the page.
    pub bytes: u64,
    /// Outlines drawn.
    pub outlines: u64,
    /// Of these, with the catalogue's box and area.
    pub agreeing: u64,
    /// Scenes with candidates that have no picture: how many of them, and why the first has none.
    pub blind: BTreeMap<String, (u64, String)>,
}

/// The pictures of a candidate, PNG each.
#[derive(Clone, Debug, Default)]
struct Pictures {
    view: Vec<u8>,
    context: Vec<u8>,
    beside: Option<Vec<u8>>,
    outline: Option<Outline>,
}

/// What pictures come from, besides the scenes.
struct Eyes<'a> {
    outliner: Option<Outliner<'a>>,
    repeats: Option<&'a Repeats>,
    watch: &'a dyn Fn(u64),
}

/// A scene that has candidates on the page.
struct Ground {
    name: String,
    rows: u64,
    cols: u64,
    /// PNG of all of it, small.
    picture: Option<Vec<u8>>,
}

/// What is known of a candidate.
struct Seen {
    candidate: Candidate,
    view: View,
    context: View,
    pictures: Result<Pictures, String>,
}

impl Run {
    /// Opens the run in `out`, whose shards must be merged.
    ///
    /// # Errors
    /// If it has no shards, or damaged ones, or its settings cannot be read.
    pub fn open(out: &Path) -> Result<Self> {
        let manifests = shard_manifests(out)?;
        let first = manifests.first().context("no shard")?;
        let settings = read_settings(out, first)
            .with_context(|| format!("the settings of {} cannot be read: scan again", out.display()))?;
        Ok(Self { manifests, settings })
    }

    /// blake3 of its weights; empty for the threshold.
    pub fn weights_id(&self) -> &str {
        self.manifests.first().map_or("", |shard| &shard.ids.weights)
    }

    /// Cuts the pictures of all candidates, scene by scene.
    fn look(&self, seen: &mut [Seen], eyes: &mut Eyes<'_>) -> Result<Vec<Ground>> {
        let mut by_scene: BTreeMap<String, Vec<&mut Seen>> = BTreeMap::new();
        for one in seen {
            by_scene.entry(one.candidate.impact.scene.clone()).or_default().push(one);
        }
        let mut grounds = Vec::new();
        for (name, mut all) in by_scene {
            all.sort_by_key(|one| one.context.row0);
            let mut ground = self.ground(name);
            match open_scene(&self.manifests, &ground.name, Some(self.settings.input)) {
                Ok(scene) => {
                    eyes.look(&scene, &mut all)?;
                    if grounds.len() < BROWSED {
                        ground.picture = view::browse(&scene).ok();
                    }
                }
                Err(why) => all.iter_mut().for_each(|one| one.pictures = Err(format!("{why:#}"))),
            }
            grounds.push(ground);
        }
        Ok(grounds)
    }

    fn ground(&self, name: String) -> Ground {
        let scenes = self.manifests.iter().flat_map(|shard| &shard.scenes);
        let size = scenes.filter(|scene| scene.scene == name).map(|scene| (scene.rows, scene.cols)).next();
        let (rows, cols) = size.unwrap_or_default();
        Ground { name, rows, cols, picture: None }
    }
}

/// Writes the page of `run`, whose catalogue is in `out`, to `to`.
///
/// # Errors
/// If the catalogue cannot be read, the device is lost, or the page cannot be written. A scene that cannot be read costs
/// its candidates' pictures.
pub fn write(out: &Path, run: &Run, options: ReviewOptions<'_>, to: &Path) -> Result<Reviewed> {
    let ReviewOptions { at_most, kinds, network, repeats, watch } = options;
    let catalogue = out.join("catalogue.csv");
    let chosen = candidates::choose(&catalogue, at_most.min(MOST_CANDIDATES), &kinds)?;
    if repeats.is_some() && chosen.candidates.iter().all(|one| one.change.repeat_scene.is_none()) {
        let message = format!(
            "no candidate of {} has another scene: run `marscan merge --repeat` with this list first",
            catalogue.display()
        );
        return Err(WrongUsage(message).into());
    }
    let side_px = if chosen.candidates.len() <= FEW_CANDIDATES { WIDE_PX } else { NARROW_PX };
    let mut seen: Vec<Seen> =
        chosen.candidates.into_iter().map(|candidate| Seen::new(candidate, side_px)).collect();
    let level = level(run.settings.scan.probability);
    let mut eyes = Eyes { outliner: network.map(|network| Outliner::new(network, level)), repeats, watch };
    let grounds = run.look(&mut seen, &mut eyes)?;
    let head = page::Head { run, out, id: &chosen.id, all: chosen.all, side_px, kinds: &kinds };
    let mut reviewed = tally(&seen, chosen.all);
    write_whole_with(to, |file| page::write(file, &head, &seen, &grounds))?;
    reviewed.bytes = std::fs::metadata(to).map_or(0, |file| file.len());
    Ok(reviewed)
}

impl Seen {
    fn new(candidate: Candidate, side_px: usize) -> Self {
        let view = View::of(&candidate.impact, side_px);
        let context = View::context(&candidate.impact, side_px);
        Self { candidate, view, context, pictures: Err(String::new()) }
    }

    /// Rows of the scene that are looked at.
    fn rows(&self, reach_px: u64, all: u64) -> Range<u64> {
        let clip = |row: i64| row.clamp(0, all as i64) as u64;
        let reach = reach_px as i64;
        let first = self.context.row0.min(self.view.row0 - reach);
        let last = (self.context.row0 + self.context.span() as i64)
            .max(self.view.row0 + self.view.span() as i64 + reach);
        clip(first)..clip(last)
    }

    /// All but the outline.
    fn look(&mut self, rows: &Rows, header: &SceneHeader, repeats: Option<&Repeats>) {
        let pictures = || -> Result<Pictures> {
            Ok(Pictures {
                view: self.view.picture(rows, header.cols)?,
                context: self.context.picture(rows, header.cols)?,
                beside: repeats.map(|repeats| self.beside(header, repeats)).transpose()?.flatten(),
                outline: None,
            })
        };
        self.pictures = pictures().map_err(|why| format!("no picture: {why:#}"));
    }

    /// What the other scene shows in the view.
    fn beside(&self, header: &SceneHeader, repeats: &Repeats) -> Result<Option<Vec<u8>>> {
        let name = self.candidate.change.repeat_scene.as_deref();
        let Some((repeat, georef)) = name.and_then(|name| repeats.find(name)).zip(header.georef.as_ref())
        else {
            return Ok(None);
        };
        let View { side_px, step, .. } = self.view;
        let square = Square { georef, centre: self.view.centre(), side_px, step: step as f64 };
        thumbnail(&repeats.picture(repeat, &square)?, side_px, 1).map(Some)
    }
}

impl Eyes<'_> {
    /// Cuts the pictures of a scene's candidates, which come from the top down.
    fn look(&mut self, scene: &Arc<MappedScene>, mut all: &mut [&mut Seen]) -> Result<()> {
        let reach = self.outliner.as_ref().map_or(0, Outliner::reach_px);
        let end = scene.header().rows;
        while let Some(first) = all.first() {
            let mut range = first.rows(reach, end);
            let fits = |one: &&&mut Seen| {
                let rows = one.rows(reach, end);
                let fits = rows.end <= range.start + GROUP_ROWS;
                if fits {
                    range.end = range.end.max(rows.end);
                }
                fits
            };
            let count = 1 + all[1..].iter().take_while(fits).count();
            let (group, rest) = all.split_at_mut(count);
            if let Err(why) = self.look_at(scene, group, range) {
                if why.is::<DeviceLost>() {
                    return Err(why);
                }
                for one in group {
                    one.pictures = Err(format!("no picture: {why:#}"));
                }
            }
            (self.watch)(count as u64);
            all = rest;
        }
        Ok(())
    }

    /// Cuts the pictures of candidates whose surroundings lie in the rows of `range`.
    fn look_at(
        &mut self,
        scene: &Arc<MappedScene>,
        group: &mut [&mut Seen],
        range: Range<u64>,
    ) -> Result<()> {
        let (rows, header, repeats) = (scene.rows(range)?, scene.header(), self.repeats);
        group.par_iter_mut().for_each(|one| one.look(&rows, header, repeats));
        if let Some(outliner) = &mut self.outliner {
            for one in group {
                let outline = outliner.outline(&one.candidate.impact, &one.view, &rows, header.cols)?;
                if let Ok(pictures) = &mut one.pictures {
                    pictures.outline = outline;
                }
            }
        }
        rows.unchanged()
    }
}

fn tally(seen: &[Seen], all: u64) -> Reviewed {
    let mut reviewed = Reviewed { all, shown: seen.len() as u64, ..Reviewed::default() };
    for one in seen {
        match &one.pictures {
            Ok(pictures) => {
                reviewed.outlines += u64::from(pictures.outline.is_some());
                reviewed.agreeing += u64::from(pictures.outline.as_ref().is_some_and(|one| one.agrees));
            }
            Err(why) => {
                let scene = one.candidate.impact.scene.clone();
                reviewed.blind.entry(scene).or_insert_with(|| (0, why.clone())).0 += 1;
            }
        }
    }
    reviewed
}
