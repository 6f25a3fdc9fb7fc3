//! The same place seen in overlapping scenes: impacts near each other on the sphere get one number.
//!
//! Two impacts nearer than the distance, of whatever scenes, are in one group, and so are those joined by a
//! chain of such (single linkage); the group is called by its smallest impact id. Distances are great circles on
//! the sphere of [`MARS_RADIUS_M`] between the places of the catalogue. What is in memory is 48 bytes an impact:
//! 240 MB for 5 million.

use anyhow::Result;
use rayon::prelude::*;

use super::blobs::{Scene, for_each_batch, impact};
use crate::detect::components::Sets;
use crate::fault::WrongUsage;
use crate::geo::MARS_RADIUS_M;
use crate::space::LonLat;

/// The distances that can be asked for, m.
const DISTANCES_M: std::ops::RangeInclusive<f64> = 0.1..=1e6;

/// The group of every impact, by its id less 1; 0 for an impact without a place.
#[derive(Debug)]
pub struct Groups(Vec<u32>);

impl Groups {
    /// The group of the impact `id`; none where it has no place on Mars.
    pub fn of(&self, id: u64) -> Option<u64> {
        Some(u64::from(self.0[id as usize - 1])).filter(|group| *group > 0)
    }
}

/// Whether impacts can be grouped by `distance_m`.
///
/// # Errors
/// [`WrongUsage`] if they cannot.
pub fn check(distance_m: f64) -> Result<()> {
    if DISTANCES_M.contains(&distance_m) {
        return Ok(());
    }
    let (least, most) = (DISTANCES_M.start(), DISTANCES_M.end());
    Err(WrongUsage(format!("--group-m {distance_m}: must be from {least} to {most} m")).into())
}

/// The groups of all impacts of `scenes`, less than `distance_m` apart.
///
/// # Errors
/// If a table cannot be read.
pub fn group(scenes: &[Scene<'_>], distance_m: f64) -> Result<Groups> {
    let rows: u64 = scenes.iter().map(Scene::rows).sum();
    let mut places = Places::new(distance_m, rows as usize);
    for_each_batch(scenes, |batch| {
        let found: Vec<Vec<Option<LonLat>>> = batch
            .par_iter()
            .map(|found| {
                let place = |blob| {
                    let impact = impact(0, found.scene, blob);
                    impact.lon_deg.zip(impact.lat_deg).map(|(lon_deg, lat_deg)| LonLat { lon_deg, lat_deg })
                };
                found.blobs.iter().map(place).collect()
            })
            .collect();
        found.into_iter().flatten().for_each(|place| places.push(place));
        Ok(())
    })?;
    Ok(places.groups())
}

/// Places on the unit sphere, in cubes so small that those of one cube are all near each other.
struct Places {
    /// The straight line under the distance.
    reach: f64,
    cell: f64,
    impacts: u32,
    all: Vec<Place>,
}

struct Place {
    cell: [i32; 3],
    impact: u32,
    at: [f64; 3],
}

impl Places {
    fn new(distance_m: f64, most: usize) -> Self {
        let reach = 2.0 * (distance_m / MARS_RADIUS_M / 2.0).sin();
        // A little less than the cube whose diagonal is the reach, so that rounding changes nothing.
        let cell = reach / 3f64.sqrt() * (1.0 - 1e-6);
        Self { reach, cell, impacts: 0, all: Vec::with_capacity(most) }
    }

    /// Takes the next impact's place.
    fn push(&mut self, place: Option<LonLat>) {
        if let Some(LonLat { lon_deg, lat_deg }) = place {
            let (lon, lat) = (lon_deg.to_radians(), lat_deg.to_radians());
            let at = [lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()];
            let cell = at.map(|x| (x / self.cell).floor() as i32);
            self.all.push(Place { cell, impact: self.impacts, at });
        }
        self.impacts += 1;
    }

    fn groups(mut self) -> Groups {
        self.all.par_sort_unstable_by_key(|place| place.cell);
        let mut sets = Sets::new(self.impacts as usize);
        for place in self.all.chunk_by(|a, b| a.cell == b.cell) {
            place[1..].iter().for_each(|other| sets.join(place[0].impact as usize, other.impact as usize));
        }
        self.join_neighbours(&mut sets);
        let mut groups = vec![0; self.impacts as usize];
        for place in &self.all {
            groups[place.impact as usize] = sets.find(place.impact as usize) as u32 + 1;
        }
        Groups(groups)
    }

    /// Joins cubes that have a pair within reach: those at most two away, each pair looked at once.
    ///
    /// The cubes above one another are neighbours in the sorted list, and where they begin only moves on
    /// from cube to cube: a pointer each in place of a search.
    fn join_neighbours(&self, sets: &mut Sets) {
        let columns = (0..=2).flat_map(|dx| (-2..=2).map(move |dy| (dx, dy)));
        for (dx, dy) in columns.filter(|column| *column >= (0, 0)) {
            let first_dz = if (dx, dy) == (0, 0) { 1 } else { -2 };
            let mut first = 0;
            for here in self.all.chunk_by(|a, b| a.cell == b.cell) {
                let [x, y, z] = here[0].cell;
                let (low, high) = ([x + dx, y + dy, z + first_dz], [x + dx, y + dy, z + 2]);
                first += self.all[first..].iter().take_while(|place| place.cell < low).count();
                let column = &self.all[first..];
                let column = &column[..column.iter().take_while(|place| place.cell <= high).count()];
                for there in column.chunk_by(|a, b| a.cell == b.cell) {
                    let pair = [here, there].map(|places| places[0].impact as usize);
                    if sets.find(pair[0]) != sets.find(pair[1]) && self.touch(here, there) {
                        sets.join(pair[0], pair[1]);
                    }
                }
            }
        }
    }

    fn touch(&self, here: &[Place], there: &[Place]) -> bool {
        let square = |a: &Place, b: &Place| (0..3).map(|k| (a.at[k] - b.at[k]).powi(2)).sum::<f64>();
        here.iter().any(|a| there.iter().any(|b| square(a, b) < self.reach * self.reach))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;

    fn groups(distance_m: f64, places: &[Option<LonLat>]) -> Vec<u32> {
        let mut all = Places::new(distance_m, places.len());
        for place in places {
            all.push(*place);
        }
        all.groups().0
    }

    fn at(lon_deg: f64, lat_deg: f64) -> LonLat {
        LonLat { lon_deg, lat_deg }
    }

    /// Haversines, every pair.
    fn plain(distance_m: f64, places: &[Option<LonLat>]) -> Vec<u32> {
        let near = |a: &LonLat, b: &LonLat| {
            let (p, q) = (a.lat_deg.to_radians(), b.lat_deg.to_radians());
            let (dp, dl) = ((q - p) / 2.0, (b.lon_deg - a.lon_deg).to_radians() / 2.0);
            let h = dp.sin().powi(2) + p.cos() * q.cos() * dl.sin().powi(2);
            2.0 * MARS_RADIUS_M * h.sqrt().min(1.0).asin() < distance_m
        };
        let mut names: Vec<u32> =
            (1..).zip(places).map(|(id, place)| if place.is_some() { id } else { 0 }).collect();
        // Names spread until nothing changes.
        loop {
            let before = names.clone();
            for (i, a) in places.iter().enumerate() {
                for (j, b) in places.iter().enumerate() {
                    if a.zip(*b).is_some_and(|(a, b)| near(&a, &b)) {
                        names[i] = names[i].min(names[j]);
                    }
                }
            }
            if names == before {
                return names;
            }
        }
    }

    #[test]
    fn groups_are_those_of_all_pairs_everywhere() {
        let mut dice = Dice::new(3, &[]);
        let centres = [(0.0, 0.0), (359.99, 12.0), (123.0, 89.99), (40.0, -90.0), (200.0, -45.0)];
        for (case, (lon_deg, lat_deg)) in centres.into_iter().cycle().take(60).enumerate() {
            let spread_deg = [0.02, 0.5, 4.0][case % 3];
            let mut place = || {
                let lat = lat_deg + (dice.unit() - 0.5) * spread_deg;
                let wide = spread_deg / lat_deg.to_radians().cos().max(spread_deg / 360.0);
                let lon = lon_deg + (dice.unit() - 0.5) * wide;
                (dice.below(20) > 0)
                    .then(|| LonLat { lon_deg: lon.rem_euclid(360.0), lat_deg: lat.clamp(-90.0, 90.0) })
            };
            let places: Vec<_> = (0..120).map(|_| place()).collect();
            for distance_m in [1.0, 60.0, 200.0, 3000.0, 20_000.0] {
                let wanted = plain(distance_m, &places);
                assert_eq!(groups(distance_m, &places), wanted, "case {case}, {distance_m} m");
            }
        }
    }

    #[test]
    fn the_prime_meridian_and_the_poles_part_nothing() {
        let metre = (1.0 / MARS_RADIUS_M).to_degrees();
        let places = [
            at(359.999_999, 5.0),
            at(0.000_001, 5.0),
            at(360.0, 5.0),
            at(180.0, 5.0),
            at(10.0, 90.0 - 50.0 * metre),
            at(190.0, 90.0 - 50.0 * metre),
            at(100.0, 90.0),
            at(0.0, -90.0),
            at(270.0, -90.0),
        ];
        let places = places.map(Some);
        assert_eq!(groups(101.0, &places), [1, 1, 1, 4, 5, 5, 5, 8, 8]);
        assert_eq!(groups(49.0, &places), [1, 1, 1, 4, 5, 6, 7, 8, 8]);
    }

    #[test]
    fn a_chain_is_one_group_and_the_distance_itself_is_apart() {
        let metre = (1.0 / MARS_RADIUS_M).to_degrees();
        let chain: Vec<_> = (0..50).map(|k| Some(at(0.0, f64::from(k) * 199.9 * metre))).collect();
        assert_eq!(groups(200.0, &chain), [1; 50]);
        assert_eq!(groups(199.8, &chain), (1..=50).collect::<Vec<u32>>());
    }

    #[test]
    fn distances_out_of_range_are_wrong_usage() {
        for wrong in [0.0, -1.0, f64::NAN, f64::INFINITY, 2e6] {
            assert!(check(wrong).is_err_and(|why| why.is::<WrongUsage>()));
        }
        assert!(check(200.0).is_ok());
    }
}
