//! Other scenes of the same ground: an impact that is on one date and not on another is dated.
//!
//! Scenes are opened one at a time, and of each only the pieces around impacts are read; what stays in memory is a
//! line a scene.

mod change;
mod ground;
mod shift;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use rayon::prelude::*;

use crate::config::InputSettings;
use crate::geo::GeoRef;
use crate::plan::SceneList;
use crate::raster::MappedScene;
use crate::space::{LonLat, PixelRect, ScenePx};

use change::{MOST_SHIFT_PX, Rings, change_score};
pub use ground::{Square, resample};

/// Radius, px of the comparison, of the largest circle that is compared pixel by pixel: larger ones are reduced.
const MOST_RADIUS: f64 = 20.0;
/// Radius of the least circle, px.
const LEAST_RADIUS: f64 = 3.0;

/// The other scenes of a list that lie somewhere on Mars.
#[derive(Debug)]
pub struct Repeats {
    scenes: Vec<Repeat>,
    input: InputSettings,
    /// Scenes that cannot be compared with: name and why.
    pub refused: Vec<(String, String)>,
}

/// A scene of the list.
#[derive(Debug)]
struct Repeat {
    name: String,
    path: PathBuf,
    georef: GeoRef,
    extent: Extent,
}

/// A place in another scene.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// Which scene, as [`Repeats::name`] counts them.
    pub repeat: usize,
    /// How much the place differs, 0..=1.
    pub change_score: f64,
}

/// A scene whose places are looked for in others.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// Its pixels.
    pub file: &'a Arc<MappedScene>,
    /// Where the file is: a scene is no repeat of itself.
    pub path: &'a Path,
    /// How it lies on Mars.
    pub georef: &'a GeoRef,
}

impl Repeats {
    /// Reads the headers of a list's scenes; 16-bit samples are read as `input` says.
    pub fn open(list: &SceneList, input: InputSettings) -> Self {
        let paths = list.records.par_iter().map(|record| (record.file_name.clone(), list.path(record)));
        let opened: Vec<_> =
            paths.map(|(name, path)| (name.clone(), Repeat::open(name, path, input))).collect();
        let mut repeats = Self { scenes: Vec::new(), input, refused: Vec::new() };
        for (name, scene) in opened {
            match scene {
                Ok(scene) => repeats.scenes.push(scene),
                Err(why) => repeats.refused.push((name, format!("{why:#}"))),
            }
        }
        repeats
    }

    /// The `file_name` of a scene.
    pub fn name(&self, repeat: usize) -> &str {
        &self.scenes[repeat].name
    }

    /// For each place of `scene`, given by its box, the other scene that shows the largest change there; of equal ones
    /// the first of the list. `None` where none covers the place and the ground around it.
    ///
    /// # Errors
    /// If a scene cannot be read.
    pub fn changes(&self, scene: &Scene<'_>, places: &[PixelRect]) -> Result<Vec<Option<Change>>> {
        let mut best = vec![None::<Change>; places.len()];
        let header = scene.file.header();
        let extent = Extent::of(scene.georef, header.rows, header.cols);
        for (repeat, other) in self.scenes.iter().enumerate() {
            if !extent.meets(&other.extent) || same_file(scene.path, &other.path) {
                continue;
            }
            let file = MappedScene::open(&other.path, self.input)?;
            let scores: Vec<Option<f64>> = places
                .par_iter()
                .map(|place| other.change(&file, scene, place))
                .collect::<Result<_>>()
                .with_context(|| format!("cannot compare with {}", other.name))?;
            file.unchanged()?;
            for (best, score) in best.iter_mut().zip(scores) {
                if let Some(change_score) = score
                    && best.is_none_or(|best| change_score > best.change_score)
                {
                    *best = Some(Change { repeat, change_score });
                }
            }
        }
        scene.file.unchanged()?;
        Ok(best)
    }

    /// What the scene `repeat` shows of `square`: `[side, side]` grey levels, 0 = no data.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn picture(&self, repeat: usize, square: &Square) -> Result<Vec<u8>> {
        let Repeat { path, georef, .. } = &self.scenes[repeat];
        let levels = resample(&MappedScene::open(path, self.input)?, georef, square)?;
        Ok(levels.into_iter().map(|v| v.round() as u8).collect())
    }
}

impl Repeat {
    fn open(name: String, path: PathBuf, input: InputSettings) -> Result<Self> {
        let file = MappedScene::open(&path, input)?;
        let header = file.header();
        let trouble = || header.georef_trouble.clone().unwrap_or_else(|| "it is not georeferenced".into());
        let georef = header.georef.with_context(trouble)?;
        Ok(Self { name, path, georef, extent: Extent::of(&georef, header.rows, header.cols) })
    }

    /// The change of a place of `scene` in this one, which is open as `file`.
    fn change(&self, file: &Arc<MappedScene>, scene: &Scene<'_>, place: &PixelRect) -> Result<Option<f64>> {
        let middle = |first: u64, end: u64| (first + end) as f64 / 2.0 - 0.5;
        let centre = ScenePx { row: middle(place.row0, place.row1), col: middle(place.col0, place.col1) };
        let at = self.georef.pixel(scene.georef.lonlat(centre));
        let (rows, cols) = (file.header().rows as f64, file.header().cols as f64);
        if !((-0.5..rows - 0.5).contains(&at.row) && (-0.5..cols - 0.5).contains(&at.col)) {
            return Ok(None);
        }
        let radius = (place.rows().max(place.cols()) as f64 / 2.0).max(LEAST_RADIUS);
        let step = (radius / MOST_RADIUS).max(1.0);
        let rings = Rings { radius: radius / step };
        let square = Square { georef: scene.georef, centre, side_px: rings.side_px(), step };
        let wider = Square { side_px: square.side_px + 2 * MOST_SHIFT_PX, ..square };
        let other = resample(file, &self.georef, &wider)?;
        let own = resample(scene.file, scene.georef, &square)?;
        Ok(change_score(&own, &other, rings))
    }
}

fn same_file(a: &Path, b: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().ok();
    real(a).is_some_and(|a| real(b) == Some(a))
}

/// A circle on the unit sphere around a scene: where two have nothing in common, neither have the scenes.
#[derive(Clone, Copy, Debug)]
struct Extent {
    middle: [f64; 3],
    reach_rad: f64,
}

/// Points looked at along each edge of a scene.
const EDGE_POINTS: u32 = 16;
/// What an edge may bulge between them.
const BULGE: f64 = 1.02;

impl Extent {
    fn of(georef: &GeoRef, rows: u64, cols: u64) -> Self {
        let at = |down: f64, right: f64| {
            let row = down * rows as f64 - 0.5;
            unit(georef.lonlat(ScenePx { row, col: right * cols as f64 - 0.5 }))
        };
        let middle = at(0.5, 0.5);
        let edge = (0..=EDGE_POINTS).map(|k| f64::from(k) / f64::from(EDGE_POINTS));
        let points = edge.flat_map(|t| [at(0.0, t), at(1.0, t), at(t, 0.0), at(t, 1.0)]);
        let reach_rad = points.map(|point| angle(middle, point)).fold(0.0, f64::max) * BULGE;
        Self { middle, reach_rad }
    }

    fn meets(&self, other: &Self) -> bool {
        angle(self.middle, other.middle) <= self.reach_rad + other.reach_rad
    }
}

fn unit(place: LonLat) -> [f64; 3] {
    let (lon, lat) = (place.lon_deg.to_radians(), place.lat_deg.to_radians());
    [lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()]
}

fn angle(a: [f64; 3], b: [f64; 3]) -> f64 {
    let chord: f64 = (0..3).map(|k| (a[k] - b[k]).powi(2)).sum::<f64>().sqrt();
    2.0 * (chord / 2.0).min(1.0).asin()
}
