//! `scenes.csv` of a merge: what is done, as a scene list, so that the next night can leave it out.

use std::path::Path;

use anyhow::Result;

use super::blobs::Scene;
use crate::plan::SceneList;
use crate::records::SceneRecord;

/// Writes the list of the scenes of which every row was scanned and none failed, with absolute paths.
///
/// # Errors
/// If it cannot be written.
pub fn write(out: &Path, scenes: &[Scene<'_>]) -> Result<()> {
    let done: Vec<SceneRecord> = scenes.iter().filter_map(record).collect();
    SceneList::write(&out.join("scenes.csv"), &done)
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
