//! A catalogue against the truth, impact by impact.

pub mod truth;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::records::Impact;
pub use truth::TrueImpact;

/// Counts of one scene, or of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Impacts there are.
    pub truth: u64,
    /// Of these, found.
    pub found: u64,
    /// Candidates that match none.
    pub false_positives: u64,
}

impl Counts {
    /// Share of the candidates that are impacts; 1 where there is no candidate.
    pub fn precision(&self) -> f64 {
        ratio(self.found, self.found + self.false_positives)
    }

    /// Share of the impacts that were found; 1 where there is none.
    pub fn recall(&self) -> f64 {
        ratio(self.found, self.truth)
    }

    /// Harmonic mean of both.
    pub fn f1(&self) -> f64 {
        ratio(2 * self.found, self.truth + self.found + self.false_positives)
    }

    /// Both added.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            truth: self.truth + other.truth,
            found: self.found + other.found,
            false_positives: self.false_positives + other.false_positives,
        }
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 1.0 } else { part as f64 / whole as f64 }
}

/// Which candidate found which impact, as indices; each is used once, nearest pairs first.
///
/// A candidate matches an impact when its centroid lies within half the larger diameter.
pub fn matches(candidates: &[&Impact], truth: &[TrueImpact]) -> Vec<(usize, usize)> {
    let mut pairs = Vec::new();
    for (c, candidate) in candidates.iter().enumerate() {
        for (t, impact) in truth.iter().enumerate() {
            let distance = (candidate.row_px - impact.row).hypot(candidate.col_px - impact.col);
            if distance <= candidate.diameter_px.max(impact.diam_px) / 2.0 {
                pairs.push((distance, c, t));
            }
        }
    }
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let (mut used_c, mut used_t) = (vec![false; candidates.len()], vec![false; truth.len()]);
    let mut matched = Vec::new();
    for (_, c, t) in pairs {
        if !used_c[c] && !used_t[t] {
            (used_c[c], used_t[t]) = (true, true);
            matched.push((c, t));
        }
    }
    matched
}

/// Counts scene by scene, for candidates whose score is at least `min_score`.
pub fn count(
    catalogue: &[Impact],
    truth: &BTreeMap<String, Vec<TrueImpact>>,
    min_score: f64,
) -> BTreeMap<String, Counts> {
    let tally = |(scene, impacts): (&String, &Vec<TrueImpact>)| {
        let candidates: Vec<&Impact> =
            catalogue.iter().filter(|c| c.scene == *scene && c.score >= min_score).collect();
        let found = matches(&candidates, impacts).len() as u64;
        let counts =
            Counts { truth: impacts.len() as u64, found, false_positives: candidates.len() as u64 - found };
        (scene.clone(), counts)
    };
    truth.iter().map(tally).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(row_px: f64, col_px: f64, diameter_px: f64) -> Impact {
        Impact {
            id: 1,
            scene: "s".into(),
            row_px,
            col_px,
            lat_deg: None,
            lon_deg: None,
            diameter_m: None,
            diameter_px,
            area_px: 9,
            score: 0.9,
            peak: 1.0,
            row0_px: 0,
            col0_px: 0,
            row1_px: 1,
            col1_px: 1,
        }
    }

    #[test]
    fn each_impact_and_each_candidate_count_once() {
        let truth = [(10.0, 10.0), (14.0, 10.0), (90.0, 90.0)].map(|(row, col)| TrueImpact {
            row,
            col,
            diam_px: 10.0,
        });
        let all = [candidate(10.5, 10.0, 8.0), candidate(11.0, 10.0, 8.0), candidate(50.0, 50.0, 8.0)];
        let all: Vec<&Impact> = all.iter().collect();
        assert_eq!(matches(&all, &truth), [(0, 0), (1, 1)]);
        let counts = Counts { truth: 3, found: 2, false_positives: 1 };
        assert!((counts.f1() - 2.0 / 3.0).abs() < 1e-12);
        assert!((Counts::default().f1() - 1.0).abs() < 1e-12);
    }
}
