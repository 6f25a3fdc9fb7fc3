//! Which array index scans what: a pure function of the scene list, the shard count and the settings.

mod deal;
mod list;
mod simulate;

pub use list::{SceneList, scanned_before};
pub use simulate::{Simulated, simulate};

use crate::records::{Band, SceneRecord, Shard};
use deal::{Hands, Strips, fill, first_fit, in_order, longest};

/// A plan in the list's order, with the fewest seams, is kept where its longest shard has at most this share of
/// the mean, in thousandths.
const GOOD: u64 = 1010;
/// What is tried otherwise, tightest first.
const LIMITS: [u64; 4] = [1005, 1010, 1015, 1020];
/// What is tried where none of those can be kept, and the rounds of [`fill`] for each.
const WIDER: [(u64, usize); 7] =
    [(1020, 8), (1025, 3), (1030, 3), (1040, 3), (1055, 3), (1075, 3), (1100, 3)];
/// Shards times kinds of strips up to which [`fill`] is quick; beyond, strips are small beside a shard's work, or no
/// plan is equal.
const QUICK: usize = 1 << 14;

/// Deals the scenes' rows to `shards` shards.
///
/// Bands are cut at multiples of `core_px`, so that the windows are the same whatever the bands are. Shards get
/// contiguous rows in the list's order where that makes them equal to 1 %; where strips of one core are too coarse
/// for that, a shard gets strips of several scenes that fill it. The work of a strip is its pixels, or its share of
/// the scene's valid ones where these are known. A shard beyond the work is empty.
pub fn plan(scenes: &[SceneRecord], shards: usize, band_rows: u64, core_px: u64) -> Vec<Shard> {
    let most_cores = band_rows.div_ceil(core_px).max(1);
    let dealt = deal(&strips(scenes, core_px), shards);
    let shard = |(index, mut hand): (usize, Vec<Strips>)| {
        hand.sort_unstable_by_key(|strips| (strips.scene, strips.first));
        Shard { index, count: shards, bands: bands(scenes, &hand, most_cores, core_px) }
    };
    dealt.into_iter().enumerate().map(shard).collect()
}

/// The most equal of the plans that there is time to try, the fewest seams first.
fn deal(list: &[Strips], shards: usize) -> Hands {
    let total: u128 = list.iter().map(|strips| u128::from(strips.count * strips.work)).sum();
    let limit = |thousandths: u64| (total * u128::from(thousandths) / 1000 / shards.max(1) as u128) as u64;
    let plain = in_order(list, shards);
    let largest = list.iter().map(|strips| strips.work).max().unwrap_or(0);
    if longest(&plain) <= limit(GOOD).max(largest) {
        return plain;
    }
    let mut sorted = list.to_vec();
    sorted.sort_by_key(|strips| (std::cmp::Reverse(strips.work), strips.scene, strips.first));
    if let Some(hands) = LIMITS.iter().find_map(|&times| first_fit(&sorted, shards, limit(times))) {
        return hands;
    }
    let filled = || WIDER.iter().find_map(|&(times, rounds)| fill(&sorted, shards, limit(times), rounds));
    let filled = if shards * list.len() <= QUICK { filled() } else { None };
    let fitted = WIDER.iter().find_map(|&(times, _)| first_fit(&sorted, shards, limit(times)));
    [Some(plain), fitted, filled].into_iter().flatten().min_by_key(longest).unwrap_or_default()
}

/// The list as strips of one core of rows each: whole ones, then what is left of a scene.
fn strips(scenes: &[SceneRecord], core_px: u64) -> Vec<Strips> {
    let mut list = Vec::new();
    for (scene, record) in scenes.iter().enumerate() {
        let share = |rows: u64| u128::from(work(record)) * u128::from(rows) / u128::from(record.rows);
        let (whole, rest) = (record.rows / core_px, record.rows % core_px);
        for (first, count, rows) in [(0, whole, core_px), (whole, u64::from(rest > 0), rest)] {
            if count > 0 {
                list.push(Strips { scene, first, count, work: (share(rows) as u64).max(1) });
            }
        }
    }
    list
}

/// A shard's strips, in scene and row order, as bands of at most `most_cores`.
fn bands(scenes: &[SceneRecord], hand: &[Strips], most_cores: u64, core_px: u64) -> Vec<Band> {
    let mut runs: Vec<(usize, u64, u64)> = Vec::new();
    for strips in hand {
        match runs.last_mut().filter(|run| (run.0, run.2) == (strips.scene, strips.first)) {
            Some(run) => run.2 += strips.count,
            None => runs.push((strips.scene, strips.first, strips.first + strips.count)),
        }
    }
    let mut bands = Vec::new();
    for (scene, first, end) in runs {
        for core in (first..end).step_by(most_cores as usize) {
            let row1 = ((core + most_cores).min(end) * core_px).min(scenes[scene].rows);
            bands.push(Band { scene, row0: core * core_px, row1 });
        }
    }
    bands
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
            let all = plan(&scenes, shards, 1024, 464);
            assert_eq!(all.len(), shards);
            assert!(all.iter().all(|shard| shard.bands.is_sorted_by_key(|band| (band.scene, band.row0))));
            let mut bands: Vec<Band> = all.iter().flat_map(|shard| shard.bands.clone()).collect();
            bands.sort_by_key(|band| (band.scene, band.row0));
            let mut next = (0, 0);
            for band in bands {
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
        assert!(most < mean * 102 / 100, "{pixels:?}");
    }

    #[test]
    fn valid_pixels_count_where_they_are_known_and_equal_shards_stay_in_order() {
        let mut scenes = [scene(46400, 1000), scene(46400, 1000)];
        scenes[0].valid_px = Some(0);
        let all = plan(&scenes, 4, 1024, 464);
        assert!(all[0].bands.iter().any(|band| band.scene == 0));
        for (shard, first) in all.iter().zip([0, 25, 50, 75]) {
            let band = shard.bands.iter().find(|band| band.scene == 1).unwrap();
            assert!(band.row0.abs_diff(first * 464) <= 464, "{shard:?}");
        }
    }
}
