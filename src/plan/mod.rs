//! Which array index scans what: a pure function of the scene list, the shard count and the settings.

mod list;

pub use list::{SceneList, scanned_before};

use crate::records::{Band, SceneRecord, Shard};

/// Bands a shard should have at least, where scenes are tall enough: what makes shards equal.
const BANDS_PER_SHARD: u64 = 8;

/// Deals the scenes' rows to `shards` shards.
///
/// Bands are cut at multiples of `core_px`, so that the windows are the same whatever the bands are. They
/// are dealt in order, each to the shard in whose share of the work its middle falls; the work of a band
/// is its pixels, or its share of the scene's valid ones where these are known. A shard beyond the work
/// is empty.
pub fn plan(scenes: &[SceneRecord], shards: usize, band_rows: u64, core_px: u64) -> Vec<Shard> {
    let band_rows = band_height(scenes, shards as u64, band_rows, core_px);
    let mut all: Vec<Shard> =
        (0..shards).map(|index| Shard { index, count: shards, bands: Vec::new() }).collect();
    let total: u128 = scenes.iter().map(|scene| u128::from(work(scene)) * SCALE).sum::<u128>().max(1);
    let mut before: u128 = 0;
    for (scene, record) in scenes.iter().enumerate() {
        let mut row0 = 0;
        while row0 < record.rows {
            let row1 = (row0 + band_rows).min(record.rows);
            let share =
                |rows: u64| u128::from(work(record)) * SCALE * u128::from(rows) / u128::from(record.rows);
            let middle = before + u128::midpoint(share(row0), share(row1));
            let index = (middle * shards as u128 / total).min(shards as u128 - 1);
            all[index as usize].bands.push(Band { scene, row0, row1 });
            row0 = row1;
        }
        before += u128::from(work(record)) * SCALE;
    }
    all
}

/// Keeps shares of a pixel apart in whole numbers.
const SCALE: u128 = 1 << 20;

/// `band_rows` up to whole cores, less where a shard would have too few bands to be fair.
fn band_height(scenes: &[SceneRecord], shards: u64, band_rows: u64, core_px: u64) -> u64 {
    let mut cores = band_rows.div_ceil(core_px).max(1);
    let bands = |cores: u64| scenes.iter().map(|scene| scene.rows.div_ceil(cores * core_px)).sum::<u64>();
    while cores > 1 && shards > 1 && bands(cores) < shards * BANDS_PER_SHARD {
        cores = cores.div_ceil(2);
    }
    cores * core_px
}

/// Pixels to be worked on.
fn work(scene: &SceneRecord) -> u64 {
    scene.valid_px.unwrap_or(scene.rows * scene.cols).max(1)
}

/// Pixels of a shard, and an estimate of the valid ones where the list says.
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
    fn every_row_is_scanned_once_in_order_for_any_count_of_shards() {
        let scenes = [scene(81786, 13896), scene(2766, 3119), scene(1, 1), scene(35705, 11144)];
        for shards in [1, 2, 3, 7, 64, 1000] {
            let all = plan(&scenes, shards, 1024, 464);
            assert_eq!(all.len(), shards);
            let mut next = (0, 0);
            for band in all.iter().flat_map(|shard| &shard.bands) {
                if band.scene != next.0 {
                    assert_eq!(next.1, scenes[next.0].rows);
                    next = (next.0 + 1, 0);
                }
                assert_eq!((band.scene, band.row0), next);
                assert!(band.row0.is_multiple_of(464) && band.row1 > band.row0);
                next.1 = band.row1;
            }
            assert_eq!(next, (3, 35705));
        }
    }

    #[test]
    fn shards_are_nearly_equal_and_a_giant_scene_is_cut() {
        let scenes = [scene(81786, 13896), scene(2766, 3119), scene(35705, 11144)];
        let pixels: Vec<u64> =
            plan(&scenes, 8, 1024, 464).iter().map(|shard| shard_pixels(&scenes, shard)).collect();
        let (most, mean) = (*pixels.iter().max().unwrap(), pixels.iter().sum::<u64>() / 8);
        assert!(most < mean * 11 / 10, "{pixels:?}");
    }
}
