//! Scenes with their masks, and squares cut from both.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use super::mistakes::Candidate;
use super::runs::MaskRuns;
use crate::config::InputSettings;
use crate::raster::MappedScene;
use crate::records::Blob;
use crate::unet::CropBatch;

/// How crops are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Side of a crop, px.
    pub side_px: usize,
    /// Pixels this near the rim of an impact are [`CropBatch::DONT_CARE`]; 0 for none.
    pub ring_px: usize,
}

impl Cut {
    /// A batch without a crop.
    pub fn empty_batch(&self) -> CropBatch {
        CropBatch { side_px: self.side_px, pixels: Vec::new(), mask: Vec::new() }
    }
}

/// A scene, its mask, and where the impacts are.
pub struct TrainingScene {
    image: Arc<MappedScene>,
    mask: MaskRuns,
    /// What [`MappedScene::look`] says of it and of its mask.
    pub looks: [String; 2],
    /// Centres of what was found here and is no impact.
    hard: Vec<(u64, u64)>,
}

impl TrainingScene {
    /// Opens both and reads the mask, once.
    ///
    /// # Errors
    /// If one cannot be read, or their sizes differ.
    pub fn open(image: &Path, mask: &Path, input: InputSettings) -> Result<Self> {
        let open = |path: &Path, input| {
            MappedScene::open(path, input).with_context(|| format!("scene {}", path.display()))
        };
        let (scene, drawn) = (open(image, input)?, open(mask, InputSettings::MASK)?);
        let sizes = [&scene, &drawn].map(|s| (s.header().rows, s.header().cols));
        ensure!(
            sizes[0] == sizes[1],
            "{} has {} rows and {} columns, its mask {} has {} and {}: they must agree",
            image.display(),
            sizes[0].0,
            sizes[0].1,
            mask.display(),
            sizes[1].0,
            sizes[1].1
        );
        let runs = MaskRuns::read(&drawn).with_context(|| format!("mask {}", mask.display()))?;
        let looks = [scene.look()?, drawn.look()?];
        Ok(Self { image: scene, mask: runs, looks, hard: Vec::new() })
    }

    /// The scene itself.
    pub fn image(&self) -> &Arc<MappedScene> {
        &self.image
    }

    /// Rows.
    pub fn rows(&self) -> u64 {
        self.image.header().rows
    }

    /// Columns.
    pub fn cols(&self) -> u64 {
        self.image.header().cols
    }

    /// The mask's pixels.
    pub fn mask(&self) -> &MaskRuns {
        &self.mask
    }

    /// The mask's impacts: connected pixels, by row and column of their box.
    pub fn impacts(&self) -> &[Blob] {
        &self.mask.impacts
    }

    /// Centres of the mistakes that were made here.
    pub fn hard(&self) -> &[(u64, u64)] {
        &self.hard
    }

    /// Whether what was found at a place is an impact of the mask: in its box, or nearer to its centroid
    /// than half the larger diameter.
    pub fn on_impact(&self, row_px: f64, col_px: f64, diameter_px: f64) -> bool {
        self.impacts().iter().any(|impact| {
            let (row, col) = centroid(impact);
            let reach = diameter_px.max(diameter(impact)) / 2.0;
            impact.rect.contains(row_px.max(0.0) as u64, col_px.max(0.0) as u64)
                || (row_px - row).hypot(col_px - col) <= reach
        })
    }

    /// Takes in candidates of a scan; those on an impact are right and left out. Gives the count of these.
    pub fn add_candidates<'a>(&mut self, candidates: impl IntoIterator<Item = &'a Candidate>) -> usize {
        let mut right = 0;
        for candidate in candidates {
            let diameter = candidate.diameter_px.unwrap_or(0.0);
            if self.on_impact(candidate.row_px, candidate.col_px, diameter) {
                right += 1;
            } else {
                self.hard.push((candidate.row_px.max(0.0) as u64, candidate.col_px.max(0.0) as u64));
            }
        }
        right
    }

    /// Appends the crop with its top-left pixel at `origin`; outside the scene is no data.
    ///
    /// # Errors
    /// If the scene cannot be read.
    pub fn append(&self, origin: (i64, i64), cut: Cut, batch: &mut CropBatch) -> Result<()> {
        let (rows, cols) = (self.rows() as i64, self.cols() as i64);
        let side = cut.side_px as i64;
        let (row0, row1) = (origin.0.clamp(0, rows), (origin.0 + side).clamp(0, rows));
        let (col0, col1) = (origin.1.clamp(0, cols), (origin.1 + side).clamp(0, cols));
        let at = batch.pixels.len();
        let crop_px = cut.side_px * cut.side_px;
        batch.pixels.resize(at + crop_px, 0);
        batch.mask.resize(at + crop_px, 0);
        let inside = self.image.window(row0 as u64..row1 as u64, col0 as u64..col1 as u64)?;
        for (row, line) in (row0..).zip(inside.chunks_exact(((col1 - col0) as usize).max(1))) {
            let to = at + (row - origin.0) as usize * cut.side_px + (col0 - origin.1) as usize;
            batch.pixels[to..to + line.len()].copy_from_slice(line);
        }
        self.mask.draw_ringed(origin, cut.side_px, cut.ring_px, &mut batch.mask[at..]);
        Ok(())
    }
}

/// Mean row and column of an impact's pixels.
pub fn centroid(impact: &Blob) -> (f64, f64) {
    let area = impact.area_px as f64;
    (impact.row_sum as f64 / area, impact.col_sum as f64 / area)
}

/// Of the circle of equal area, px.
pub fn diameter(impact: &Blob) -> f64 {
    2.0 * (impact.area_px as f64 / std::f64::consts::PI).sqrt()
}
