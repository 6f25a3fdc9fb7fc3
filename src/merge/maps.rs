//! Each scene's probabilities as a map, put together from the bands of all shards.
//!
//! A row at a time, so that what is in memory is a row of tiles. Rows that no shard has, or in whose shard the scene
//! failed, are 0.

use std::fs::{self, File};
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use flate2::read::ZlibDecoder;

use super::blobs::Scene;
use super::index::gone;
use crate::raster::tiles::TileWriter;
use crate::records::PartRow;
use crate::scan::{MAPS, PARTS};
use crate::table::{make_folder_of, scene_file};

/// Writes the maps into `out`, if the shards have probabilities; says how many.
///
/// # Errors
/// If only some shards have them, one cannot be read, or a map cannot be written.
pub fn write(out: &Path, scenes: &[Scene<'_>]) -> Result<usize> {
    let shards = || scenes.iter().flat_map(|scene| &scene.parts).map(|(shard, _)| shard);
    let Some(with) = shards().find(|shard| shard.parts.is_some()) else {
        remove_stale(&out.join(MAPS), scenes, "tif")?;
        return Ok(0);
    };
    if let Some(without) = shards().find(|shard| shard.parts.is_none()) {
        bail!(
            "{} was scanned with --probabilities, {} without: remove one of them and scan it again",
            with.folder.display(),
            without.folder.display()
        );
    }
    let mut maps = 0;
    for scene in scenes {
        let path = scene_file(&out.join(MAPS), scene.name, "tif")?;
        maps += usize::from(map(&path, scene).with_context(|| format!("the map of {}", scene.name))?);
    }
    Ok(maps)
}

/// Removes a scene's file of an earlier merge: it would tell of another catalogue.
///
/// # Errors
/// If one cannot be removed.
pub fn remove_stale(folder: &Path, scenes: &[Scene<'_>], end: &str) -> Result<()> {
    let files = scenes.iter().filter_map(|scene| scene_file(folder, scene.name, end).ok());
    for file in files.filter(|file| file.exists()) {
        fs::remove_file(&file)
            .with_context(|| format!("cannot remove {}, of an earlier merge", file.display()))?;
    }
    Ok(())
}

/// Writes the map of `scene`, if any shard has probabilities of it.
fn map(path: &Path, scene: &Scene<'_>) -> Result<bool> {
    let first = scene.outcomes().next().context("no shard has it")?;
    let tags = scene.outcomes().find_map(|outcome| outcome.geo_tags.clone());
    let tags = tags.filter(|tags| !tags.directory.is_empty());
    let mut parts = Vec::new();
    for (shard, number) in &scene.parts {
        if let Some(table) = &shard.parts {
            table.rows(*number, |row: PartRow| {
                parts.push((shard.folder.join(PARTS), row));
                Ok(())
            })?;
        }
    }
    if parts.is_empty() {
        return Ok(false);
    }
    parts.sort_by_key(|(_, part)| part.row0_px);
    make_folder_of(path)?;
    let mut writer = TileWriter::create(path, first.rows, first.cols, tags)?;
    let (nothing, mut done) = (vec![0; first.cols as usize], 0);
    for (bands, part) in parts {
        ensure!(part.row0_px >= done, "row {} is in two bands", part.row0_px);
        (done..part.row0_px).try_for_each(|_| writer.append(&nothing))?;
        copy(&bands, &part, first.cols, &mut writer)?;
        done = part.row1_px;
    }
    (done..first.rows).try_for_each(|_| writer.append(&nothing))?;
    writer.finish()?;
    Ok(true)
}

/// Unpacks a band row by row.
fn copy(bands: &Path, part: &PartRow, cols: u64, writer: &mut TileWriter) -> Result<()> {
    let open = || -> Result<_> {
        let mut file = File::open(bands)?;
        file.seek(SeekFrom::Start(part.start))?;
        Ok(ZlibDecoder::new(BufReader::new(file.take(part.bytes))))
    };
    let mut rows = open().with_context(|| gone(bands))?;
    let mut row = vec![0; cols as usize];
    for _ in part.row0_px..part.row1_px {
        rows.read_exact(&mut row).with_context(|| gone(bands))?;
        writer.append(&row)?;
    }
    Ok(())
}
