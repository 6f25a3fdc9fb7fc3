//! Two reviewers of the same candidates: where they differ, and how much more they agree than chance would have it.

use super::{Said, Verdict, VerdictRow, Verdicts};

/// Two reviewers' verdicts side by side.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// Candidates that both judged, by the first one's verdict, then the second's, in the order of [`Verdict::ALL`].
    pub counts: [[u64; 3]; 3],
    /// Candidates that only the first, and only the second, judged.
    pub alone: (u64, u64),
    /// Where they differ, by number.
    pub disagreements: Vec<(u64, Said, Said)>,
    /// What both say, or one says alone.
    pub agreed: Vec<VerdictRow>,
}

impl Comparison {
    /// Compares `a` with `b`.
    pub fn of(a: &Verdicts, b: &Verdicts) -> Self {
        let mut all =
            Self { counts: [[0; 3]; 3], alone: (0, 0), disagreements: Vec::new(), agreed: Vec::new() };
        for (&id, mine) in &a.0 {
            let Some(theirs) = b.on(id) else {
                all.alone.0 += 1;
                all.agreed.push(row(id, mine));
                continue;
            };
            all.counts[mine.verdict as usize][theirs.verdict as usize] += 1;
            if mine.verdict == theirs.verdict {
                all.agreed.push(row(id, &together(mine, theirs)));
            } else {
                all.disagreements.push((id, mine.clone(), theirs.clone()));
            }
        }
        for (&id, theirs) in b.0.iter().filter(|(id, _)| a.on(**id).is_none()) {
            all.alone.1 += 1;
            all.agreed.push(row(id, theirs));
        }
        all.agreed.sort_by_key(|row| row.id);
        all
    }

    /// Candidates that both judged.
    pub fn both(&self) -> u64 {
        self.counts.iter().flatten().sum()
    }

    /// Of these, candidates on which they agree.
    pub fn agreeing(&self) -> u64 {
        (0..3).map(|k| self.counts[k][k]).sum()
    }

    /// Cohen's kappa (1960): `(p - e) / (1 - e)`, where `p` is the share on which they agree and `e` the share that
    /// chance would give, did each give as many verdicts of each kind as they did. `None` where both say one thing
    /// throughout, or nothing.
    pub fn kappa(&self) -> Option<f64> {
        let both = self.both() as f64;
        let row = |k: usize| self.counts[k].iter().sum::<u64>() as f64;
        let column = |k: usize| self.counts.iter().map(|row| row[k]).sum::<u64>() as f64;
        let chance: f64 = (0..3).map(|k| row(k) * column(k)).sum::<f64>() / (both * both);
        let agree = self.agreeing() as f64 / both;
        Some((agree - chance) / (1.0 - chance)).filter(|kappa| kappa.is_finite())
    }
}

fn row(id: u64, said: &Said) -> VerdictRow {
    let Said { verdict, reviewer, time, note } = said.clone();
    VerdictRow { id, verdict: verdict.name().to_owned(), reviewer, time, note }
}

/// Both names and notes, and the later time.
fn together(a: &Said, b: &Said) -> Said {
    let both = |a: &str, b: &str, between: &str| {
        let parts = if a == b { vec![a] } else { vec![a, b] };
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(between)
    };
    Said {
        verdict: a.verdict,
        reviewer: both(&a.reviewer, &b.reviewer, " and "),
        time: a.time.clone().max(b.time.clone()),
        note: both(&a.note, &b.note, "; "),
    }
}

/// A verdict's place among all is its row of the counts.
const _: () = assert!(Verdict::Accept as usize == 0 && Verdict::Unsure as usize == 2);

#[cfg(test)]
mod tests {
    use super::*;

    /// Verdicts A, R and U on the candidates 1, 2, …; a dot is none.
    fn verdicts(reviewer: &str, letters: &str) -> Verdicts {
        let said = |c| {
            let verdict = match c {
                'A' => Verdict::Accept,
                'R' => Verdict::Reject,
                'U' => Verdict::Unsure,
                _ => return None,
            };
            let (time, note) = (format!("t{reviewer}"), format!("{reviewer}'s"));
            Some(Said { verdict, reviewer: reviewer.into(), time, note })
        };
        Verdicts((1..).zip(letters.chars()).filter_map(|(id, c)| Some((id, said(c)?))).collect())
    }

    #[test]
    fn kappa_is_that_of_the_textbook() {
        // 50 proposals, both yes 20, both no 15, 5 and 10 apart: kappa 0.4.
        let a = "A".repeat(25) + &"R".repeat(25);
        let b = "A".repeat(20) + &"R".repeat(5) + &"A".repeat(10) + &"R".repeat(15);
        let compared = Comparison::of(&verdicts("a", &a), &verdicts("b", &b));
        assert_eq!((compared.both(), compared.agreeing(), compared.disagreements.len()), (50, 35, 15));
        assert!((compared.kappa().unwrap() - 0.4).abs() < 1e-12);
        let same = verdicts("a", "ARUARU");
        assert_eq!(Comparison::of(&same, &same).kappa(), Some(1.0));
        // Three kinds, worked by hand: p = 3 / 6, e = (3 * 2 + 2 * 2 + 1 * 2) / 36.
        let three = Comparison::of(&verdicts("a", "AAARRU"), &verdicts("b", "ARUARU"));
        assert!((three.kappa().unwrap() - (0.5 - 12.0 / 36.0) / (1.0 - 12.0 / 36.0)).abs() < 1e-12);
        for (a, b) in [("AAA", "AAA"), ("A.", ".A")] {
            assert_eq!(Comparison::of(&verdicts("a", a), &verdicts("b", b)).kappa(), None);
        }
    }

    #[test]
    fn what_is_agreed_leaves_out_what_is_not() {
        let compared = Comparison::of(&verdicts("a", "AR.U"), &verdicts("b", "AAR."));
        assert_eq!((compared.both(), compared.agreeing(), compared.alone), (2, 1, (1, 1)));
        assert_eq!(compared.disagreements.iter().map(|one| one.0).collect::<Vec<_>>(), [2]);
        let ids: Vec<(u64, &str)> = compared.agreed.iter().map(|row| (row.id, &*row.reviewer)).collect();
        assert_eq!(ids, [(1, "a and b"), (3, "b"), (4, "a")]);
        let first = &compared.agreed[0];
        assert_eq!((&*first.verdict, &*first.time, &*first.note), ("accept", "tb", "a's; b's"));
    }
}
