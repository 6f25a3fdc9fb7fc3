//! In which order candidates are looked at: the surest first, or every kind of place in turn.
//!
//! The order depends on the catalogue alone, so the same catalogue gives the same page.

use std::collections::BTreeMap;

use crate::dice::Dice;
use crate::fault::WrongUsage;

/// What makes candidates of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Diameters within a factor of two.
    Diameter,
    /// Scores within a tenth.
    Score,
    /// The same scene.
    Scene,
}

impl std::str::FromStr for Kind {
    type Err = WrongUsage;

    fn from_str(text: &str) -> Result<Self, WrongUsage> {
        match text {
            "diameter" => Ok(Self::Diameter),
            "score" => Ok(Self::Score),
            "scene" => Ok(Self::Scene),
            _ => Err(WrongUsage(
                "must be diameter, score or scene, or several with commas between them".into(),
            )),
        }
    }
}

/// What the order depends on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entry {
    /// The candidate's number in the catalogue.
    pub id: u64,
    /// Mean probability, 0..=1.
    pub score: f64,
    /// Of the circle of equal area, m where that is known, else px.
    pub diameter: f64,
    /// The scene's number among the catalogue's scenes.
    pub scene: u64,
}

/// Puts the highest scores first, then the lowest ids; or, by `kinds`, takes one candidate of every kind in turn, kinds
/// and candidates of a kind in an order drawn by lot.
pub fn rank(entries: &mut Vec<Entry>, kinds: &[Kind]) {
    entries.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.id.cmp(&b.id)));
    if kinds.is_empty() {
        return;
    }
    let mut strata: BTreeMap<Vec<i64>, Vec<Entry>> = BTreeMap::new();
    for entry in entries.drain(..) {
        strata.entry(kinds.iter().map(|kind| class(*kind, &entry)).collect()).or_default().push(entry);
    }
    let mut places = Vec::new();
    for (number, mut stratum) in (0..).zip(strata.into_values()) {
        stratum.sort_by_cached_key(|entry| (Dice::new(0, &[entry.id]).any(), entry.id));
        places.extend((0..).zip(stratum).map(|(round, entry)| {
            let lot = Dice::new(1, &[round, number]).any();
            ((round, lot, entry.id), entry)
        }));
    }
    places.sort_unstable_by_key(|place| place.0);
    entries.extend(places.into_iter().map(|place| place.1));
}

fn class(kind: Kind, entry: &Entry) -> i64 {
    match kind {
        Kind::Diameter => entry.diameter.max(1e-3).log2().floor() as i64,
        Kind::Score => ((entry.score * 10.0) as i64).min(9),
        Kind::Scene => entry.scene as i64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn() -> Vec<Entry> {
        let mut dice = Dice::new(4, &[]);
        // Nine of ten are sure, small and of the first scene.
        let entry = |id| {
            let odd = dice.below(10) == 0;
            let score = if odd { 0.5 + 0.4 * dice.unit() } else { 0.9 + 0.1 * dice.unit() };
            let diameter = if odd { 20.0 + 400.0 * dice.unit() } else { 5.0 + dice.unit() };
            Entry { id, score, diameter, scene: if odd { 1 + dice.below(4) } else { 0 } }
        };
        (1..=400).map(entry).collect()
    }

    #[test]
    fn by_score_equal_ones_keep_the_catalogues_order() {
        let mut entries = drawn();
        entries[7].score = entries[300].score;
        rank(&mut entries, &[]);
        assert!(entries.is_sorted_by(|a, b| (-a.score, a.id) < (-b.score, b.id)));
    }

    #[test]
    fn every_kind_comes_before_any_kind_comes_twice() {
        let kinds = [Kind::Diameter, Kind::Score, Kind::Scene];
        let mut entries = drawn();
        rank(&mut entries, &kinds);
        let of = |entry: &Entry| kinds.map(|kind| class(kind, entry));
        let all: std::collections::BTreeSet<_> = entries.iter().map(of).collect();
        let first: std::collections::BTreeSet<_> = entries[..all.len()].iter().map(of).collect();
        assert!(all.len() > 20, "{} kinds", all.len());
        assert_eq!(first, all);
        let mut ids: Vec<u64> = entries.iter().map(|entry| entry.id).collect();
        let mut backwards = drawn();
        backwards.reverse();
        rank(&mut backwards, &kinds);
        assert_eq!(backwards, entries, "however the catalogue is read");
        ids.sort_unstable();
        assert_eq!(ids, (1..=400).collect::<Vec<_>>());
    }
}
