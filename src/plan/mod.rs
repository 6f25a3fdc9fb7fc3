//! Which array index scans what: a pure function of the scene list, the shard count and the settings.

mod deal;
mod list;
mod simulate;

pub use list::{SceneList, scanned_before, write_scanned};
pub use simulate::{Simulated, simulate};

use crate::records::{Band, SceneRecord, Shard};
use deal::{Rows, deal};

/// Deals the scenes' rows to `shards` shards.
///
/// A shard gets contiguous rows in the list's order, as much work as any other to a row. The work of a scene is
/// its pixels, or its valid ones where these are known, and that of a row its share. Within a scene, bands end at
/// multiples of `band_rows`. A shard beyond the work is empty.
pub fn plan(scenes: &[SceneRecord], shards: usize, band_rows: u64) -> Vec<Shard> {
    let bands = |hand: &[Rows]| hand.iter().flat_map(|rows| bands(rows, band_rows)).collect();
    let hands = deal(&rows(scenes), shards);
    let shard = |(index, hand): (usize, &Vec<Rows>)| Shard { index, count: shards, bands: bands(hand) };
    hands.iter().enumerate().map(shard).collect()
}

/// The list's rows; parts of pixels count as a 1024th.
fn rows(scenes: &[SceneRecord]) -> Vec<Rows> {
    let of_scene = |(scene, record): (usize, &SceneRecord)| {
        let each = (u128::from(work(record)) * 1024).div_ceil(u128::from(record.rows.max(1)));
        Rows { scene, first: 0, count: record.rows, work: each as u64 }
    };
    scenes.iter().enumerate().map(of_scene).collect()
}

/// `rows` as bands that end at multiples of `band_rows`.
fn bands(rows: &Rows, band_rows: u64) -> impl Iterator<Item = Band> {
    let (scene, end) = (rows.scene, rows.first + rows.count);
    let starts = std::iter::successors(Some(rows.first), move |row| Some((row / band_rows + 1) * band_rows));
    starts.take_while(move |row| *row < end).map(move |row0| Band {
        scene,
        row0,
        row1: ((row0 / band_rows + 1) * band_rows).min(end),
    })
}

/// Pixels to be worked on.
fn work(scene: &SceneRecord) -> u64 {
    scene.valid_px.unwrap_or(scene.rows * scene.cols).max(1)
}

/// Pixels of a shard, no-data included.
pub fn shard_pixels(scenes: &[SceneRecord], shard: &Shard) -> u64 {
    shard.bands.iter().map(|band| (band.row1 - band.row0) * scenes[band.scene].cols).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scene(rows: u64, cols: u64) -> SceneRecord {
        SceneRecord { file_name: format!("s{rows}"), rows, cols, path: None, valid_px: None, mask: None }
    }

    #[test]
    fn every_row_is_scanned_once_for_any_count_of_shards() {
        let scenes = [scene(81786, 13896), scene(2766, 3119), scene(1, 1), scene(35705, 11144)];
        for shards in [1, 2, 3, 7, 64, 1000] {
            let all = plan(&scenes, shards, 1024);
            assert_eq!(all.len(), shards);
            assert!(all.iter().all(|shard| shard.bands.is_sorted_by_key(|band| (band.scene, band.row0))));
            let mut bands: Vec<Band> = all.iter().flat_map(|shard| shard.bands.clone()).collect();
            bands.sort_by_key(|band| (band.scene, band.row0));
            let cut: Vec<u64> = all.iter().filter_map(|shard| Some(shard.bands.last()?.row1)).collect();
            let mut next = (0, 0);
            for band in bands {
                if band.scene != next.0 {
                    assert_eq!(next.1, scenes[next.0].rows);
                    next = (next.0 + 1, 0);
                }
                assert_eq!((band.scene, band.row0), next);
                assert!(
                    band.row1.is_multiple_of(1024)
                        || band.row1 == scenes[next.0].rows
                        || cut.contains(&band.row1)
                );
                assert!(band.row1 > band.row0);
                next.1 = band.row1;
            }
            assert_eq!(next, (3, 35705));
        }
    }

    #[test]
    fn shards_are_nearly_equal_and_a_giant_scene_is_cut() {
        let scenes = [scene(81786, 13896), scene(2766, 3119), scene(35705, 11144)];
        let pixels: Vec<u64> =
            plan(&scenes, 8, 1024).iter().map(|shard| shard_pixels(&scenes, shard)).collect();
        let (most, mean) = (*pixels.iter().max().unwrap(), pixels.iter().sum::<u64>() / 8);
        assert!(most - mean < 2 * 13896, "{pixels:?}");
    }

    #[test]
    fn valid_pixels_count_where_they_are_known_and_equal_shards_stay_in_order() {
        let mut scenes = [scene(46400, 1000), scene(46400, 1000)];
        scenes[0].valid_px = Some(0);
        let all = plan(&scenes, 4, 1024);
        assert!(all[0].bands.iter().any(|band| band.scene == 0));
        for (shard, quarter) in all.iter().zip(0..) {
            let band = shard.bands.iter().find(|band| band.scene == 1).unwrap();
            assert!(band.row0.abs_diff(quarter * 11600) <= 100, "{shard:?}");
        }
    }
}
