//! `scenes.csv` of a merge: what is done, as a scene list, so that the next night can leave it out.

use std::path::Path;

use anyhow::{Result, bail, ensure};

use super::blobs::Scene;
use crate::plan::write_scanned;
use crate::records::SceneRecord;

/// Whether no row of `scene` is in two shards and, where they are `all` there, each is in one.
///
/// # Errors
/// If not; the shards are then of different plans.
pub fn scanned_once(scene: &Scene<'_>, all: bool) -> Result<()> {
    let mut runs: Vec<(u64, u64)> = scene.outcomes().flat_map(|outcome| outcome.row_runs.clone()).collect();
    runs.sort_unstable();
    let remedy = "the shards are of different plans; remove them and scan again";
    if let Some(pair) = runs.windows(2).find(|pair| pair[1].0 < pair[0].1) {
        bail!("row {} of {} is in two shards: {remedy}", pair[1].0, scene.name);
    }
    let rows = scene.outcomes().map(|outcome| outcome.rows).max().unwrap_or(0);
    let covered = covered(runs);
    ensure!(!all || covered >= rows, "row {covered} of {} is in no shard: {remedy}", scene.name);
    Ok(())
}

/// Whether all shards that have rows of `scene` read the same image.
///
/// # Errors
/// If not.
pub fn of_one_image(scene: &Scene<'_>) -> Result<()> {
    let mut looks = scene
        .parts
        .iter()
        .filter_map(|(shard, number)| Some((&shard.folder, shard.manifest.scenes[*number].look.as_ref()?)));
    let Some((first, look)) = looks.next() else { return Ok(()) };
    if let Some((other, _)) = looks.find(|(_, other)| *other != look) {
        let (first, other, name) = (first.display(), other.display(), scene.name);
        bail!("{first} and {other} read different images of {name}: remove one of them and scan it again");
    }
    Ok(())
}

/// Writes the list of the scenes of which every row was scanned and none failed, with absolute paths and the looks of
/// their images.
///
/// # Errors
/// If it cannot be written.
pub fn write(out: &Path, scenes: &[Scene<'_>]) -> Result<()> {
    let done: Vec<_> = scenes.iter().filter_map(|scene| Some((record(scene)?, look(scene)))).collect();
    write_scanned(&out.join("scenes.csv"), &done)
}

/// The scene's line, if it is done and its manifests say how large it is and where.
fn record(scene: &Scene<'_>) -> Option<SceneRecord> {
    let first = scene.outcomes().next()?;
    let mut runs: Vec<(u64, u64)> = Vec::new();
    let mut valid_px = 0;
    for outcome in scene.outcomes() {
        if outcome.failed.is_some() {
            return None;
        }
        runs.extend(&outcome.row_runs);
        valid_px += outcome.valid_px;
    }
    let done = first.rows > 0 && first.cols > 0 && covered(runs) == first.rows;
    done.then_some(())?;
    Some(SceneRecord {
        file_name: scene.name.to_owned(),
        rows: first.rows,
        cols: first.cols,
        path: Some(first.file.clone()?),
        valid_px: Some(valid_px),
        mask: None,
    })
}

/// That of its image, if a shard says.
fn look(scene: &Scene<'_>) -> Option<String> {
    scene.outcomes().find_map(|outcome| outcome.look.clone())
}

/// Rows from 0 on that `runs` cover without a gap.
fn covered(mut runs: Vec<(u64, u64)>) -> u64 {
    runs.sort_unstable();
    runs.into_iter().fold(0, |end, (row0, row1)| if row0 <= end { end.max(row1) } else { end })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_ends_what_is_covered() {
        assert_eq!(covered(vec![(4, 9), (0, 4), (9, 12)]), 12);
        assert_eq!(covered(vec![(0, 4), (5, 9)]), 4);
        assert_eq!(covered(vec![(1, 4)]), 0);
        assert_eq!(covered(Vec::new()), 0);
    }
}
