//! Each scene reduced to a screen's size, its candidates circled.
//!
//! The scenes are read again, a block of rows at a time: in memory is the picture.

use std::path::Path;

use anyhow::{Context, Result};

use super::blobs::{Scene, SceneBlobs, for_each_batch, impact};
use super::maps::remove_stale;
use super::shards::FoundShards;
use crate::config::InputSettings;
use crate::picture::{Mark, Overlay, Reduced, Ring};
use crate::scan::OVERLAYS;
use crate::space::ScenePx;
use crate::table::{make_folder_of, scene_file, write_whole_with};

/// Longest side of a picture, px.
const MOST_PX: u64 = 4096;
/// Rows read at a time.
const BLOCK_ROWS: u64 = 256;

/// What came of it.
#[derive(Debug, Default)]
pub struct Drawn {
    /// Pictures written.
    pub scenes: usize,
    /// Scenes that could not be read: name and why.
    pub refused: Vec<(String, String)>,
}

/// Draws the scenes into `out`.
///
/// # Errors
/// If a table of a shard, or the run's settings, cannot be read, or a picture not be written.
pub fn write(out: &Path, found: &FoundShards, scenes: &[Scene<'_>]) -> Result<Drawn> {
    let (input, mut drawn) = (found.input(out)?, Drawn::default());
    remove_stale(&out.join(OVERLAYS), scenes, "png")?;
    for_each_batch(scenes, |batch| {
        for scene in &batch {
            let name = scene.scene.name;
            let path = scene_file(&out.join(OVERLAYS), name, "png");
            match path.and_then(|path| Ok((path, draw(scene, input)?))) {
                Ok((path, overlay)) => {
                    make_folder_of(&path)?;
                    write_whole_with(&path, |file| overlay.png(file))?;
                    drawn.scenes += 1;
                }
                Err(why) => drawn.refused.push((name.to_owned(), format!("{why:#}"))),
            }
        }
        Ok(())
    })
    .context("drawing the scenes")?;
    Ok(drawn)
}

fn draw(SceneBlobs { scene, blobs }: &SceneBlobs<'_>, input: InputSettings) -> Result<Overlay> {
    let (_, file) = scene.open(input)?;
    let (rows, cols) = (file.header().rows, file.header().cols);
    let mut reduced = Reduced::new(rows, cols, MOST_PX)?;
    for first in (0..rows).step_by(BLOCK_ROWS as usize) {
        let block = file.rows(first..(first + BLOCK_ROWS).min(rows))?;
        block.range().for_each(|row| reduced.row(block.row(row)));
    }
    file.unchanged()?;
    let mut overlay = reduced.overlay();
    for blob in blobs {
        let impact = impact(0, scene, blob);
        let at = ScenePx { row: impact.row_px, col: impact.col_px };
        overlay.ring(&Ring { at, diameter_px: impact.diameter_px, mark: Mark::Found });
    }
    Ok(overlay)
}
