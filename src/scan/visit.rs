//! A scene's probabilities band by band, for those who want more of them than the impacts.

use std::sync::Arc;

use anyhow::{Context, Result};

use super::infer::{BandInference, BandTask};
use crate::config::Settings;
use crate::detect::{Segmenter, reach_px};
use crate::job::StopRequest;
use crate::raster::{MappedScene, Rows};
use crate::tile::TileGrid;

/// A band of a scene as the network sees it.
pub struct BandView<'a> {
    /// First row.
    pub row0: u64,
    /// One past the last row.
    pub row1: u64,
    /// The band's pixels, and those of its halo.
    pub rows: &'a Rows,
    /// `[row1 - row0, cols]`, 0..=255; 0 where there is no data. The same as in a scan that leaves out nothing.
    pub probabilities: &'a [u8],
}

/// Hands the bands of `scene` to `see`, from the top down.
///
/// # Errors
/// If the scene cannot be read, the device fails, or `see` does.
pub fn visit_scene(
    scene: &Arc<MappedScene>,
    settings: &Settings,
    segmenter: &mut dyn Segmenter,
    see: &mut dyn FnMut(BandView) -> Result<()>,
) -> Result<()> {
    let scan = &settings.scan;
    let grid = TileGrid { window_px: scan.window_px, halo_px: segmenter.halo_px() };
    let (reach, band_rows) = (u64::from(reach_px(segmenter)), scan.band_rows);
    let (all, cols) = (scene.header().rows, scene.header().cols);
    let never = StopRequest::default();
    let mut inference = BandInference::new(segmenter, None, grid, scan.batch);
    for row0 in (0..all).step_by(band_rows as usize) {
        let row1 = (row0 + band_rows).min(all);
        let place = || format!("rows {row0} to {row1}");
        let rows = scene.rows(row0.saturating_sub(reach)..(row1 + reach).min(all)).with_context(place)?;
        let task = BandTask { band: row0..row1, cols, rows: &rows, stop: &never };
        let band = inference.run(&task, None).with_context(place)?;
        see(BandView { row0, row1, rows: &rows, probabilities: &band.probabilities })?;
        rows.unchanged()?;
    }
    Ok(())
}
