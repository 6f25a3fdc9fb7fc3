//! Which scene is for what: whole observations, drawn by seed.

use std::collections::BTreeMap;

use anyhow::Result;

use super::list::Part;
use crate::dice::Dice;
use crate::fault::WrongUsage;
use crate::geo::name::observation;

/// Gives each scene, a name and its impacts, a part: as near to `shares` of the impacts as whole
/// observations allow, and no part with a share is left empty. A scene without impact weighs as one with one.
///
/// The split depends on the scenes, `shares` and `seed` alone, so that data sets of several strategies
/// share their test scenes.
///
/// # Errors
/// [`WrongUsage`] if there are fewer observations than parts, or no share.
pub fn split(scenes: &[(String, u64)], shares: [u64; 3], seed: u64) -> Result<Vec<Part>> {
    let mut weights: BTreeMap<&str, u64> = BTreeMap::new();
    for (name, impacts) in scenes {
        *weights.entry(observation(name)).or_default() += (*impacts).max(1);
    }
    let parts: Vec<(Part, f64)> = shared_out(shares, weights.values().sum());
    if parts.is_empty() || weights.len() < parts.len() {
        let message = format!(
            "{} observations cannot be split in {} parts: add scenes, or say other shares (--split 3:1:0)",
            weights.len(),
            parts.len()
        );
        return Err(WrongUsage(message).into());
    }
    let mut order: Vec<(&str, u64)> = weights.into_iter().collect();
    order.sort_by_key(|(name, _)| (Dice::new(seed, &[number_of(name)]).any(), *name));
    let mut taken = vec![0u64; parts.len()];
    let mut given: BTreeMap<&str, Part> = BTreeMap::new();
    for (k, (name, weight)) in order.iter().enumerate() {
        let empty = taken.iter().filter(|weight| **weight == 0).count();
        let must_fill = order.len() - k <= empty;
        let open = |at: &usize| !must_fill || taken[*at] == 0;
        let lack = |at: usize| parts[at].1 - taken[at] as f64;
        let at = (0..parts.len()).filter(open).max_by(|a, b| lack(*a).total_cmp(&lack(*b)).then(b.cmp(a)));
        let at = at.unwrap_or(0);
        taken[at] += weight;
        given.insert(name, parts[at].0);
    }
    Ok(scenes.iter().map(|(name, _)| given[observation(name)]).collect())
}

/// The parts that get something, and how much.
fn shared_out(shares: [u64; 3], total: u64) -> Vec<(Part, f64)> {
    let sum: u64 = shares.iter().sum();
    let share = |(part, share): (Part, u64)| (part, total as f64 * share as f64 / sum.max(1) as f64);
    Part::ALL.into_iter().zip(shares).filter(|(_, share)| *share > 0).map(share).collect()
}

/// A number for a name, the same on every machine.
pub fn number_of(name: &str) -> u64 {
    let hash = *blake3::hash(name.as_bytes()).as_bytes();
    u64::from_le_bytes(std::array::from_fn(|i| hash[i]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn observations_stay_whole_and_shares_are_met() {
        let name = |k: usize| format!("D{:02}_{:06}_1885_X{}_08N342W", k % 90, k / 2, ["I", "N"][k % 2]);
        // Two scenes an observation: the phase is that of the pair.
        let scenes: Vec<(String, u64)> =
            (0..400).map(|k| (format!("D{:02}{}", (k / 2) % 90, &name(k)[3..]), 1 + k as u64 % 7)).collect();
        let parts = split(&scenes, [10_000, 4_000, 3_000], 5).unwrap();
        assert!(scenes.chunks(2).zip(parts.chunks(2)).all(|(s, p)| {
            assert_eq!(observation(&s[0].0), observation(&s[1].0));
            p[0] == p[1]
        }));
        let total: u64 = scenes.iter().map(|scene| scene.1).sum();
        for (part, share) in Part::ALL.into_iter().zip([10.0, 4.0, 3.0]) {
            let mine: u64 = scenes.iter().zip(&parts).filter(|(_, p)| **p == part).map(|(s, _)| s.1).sum();
            assert!((mine as f64 / total as f64 - share / 17.0).abs() < 0.02, "{part}: {mine} of {total}");
        }
        assert_ne!(parts, split(&scenes, [10_000, 4_000, 3_000], 6).unwrap());
    }

    #[test]
    fn no_part_with_a_share_is_empty() {
        for seed in 0..20 {
            let scenes = ["a", "b", "c"].map(|name| (name.to_owned(), 9));
            let mut parts = split(&scenes, [10_000, 4_000, 3_000], seed).unwrap();
            parts.sort_unstable();
            assert_eq!(parts, Part::ALL);
            assert!(split(&scenes, [1, 1, 0], seed).unwrap().iter().all(|part| *part != Part::Test));
        }
        assert!(split(&[("a".into(), 1)], [1, 1, 0], 1).unwrap_err().is::<WrongUsage>());
        assert!(split(&[("a".into(), 1)], [0, 0, 0], 1).is_err());
    }
}
