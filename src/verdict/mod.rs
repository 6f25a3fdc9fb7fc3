//! What humans said of a catalogue's candidates: `verdicts.csv`, as the review page writes it.
//!
//! A verdict names its candidate by the number in the catalogue, so it holds for the catalogue that was judged and for no
//! other: [`Numbers`] tells two catalogues apart whatever columns were added to them.

mod compare;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::fault::WrongUsage;
use crate::records::Impact;
use crate::table::read_rows;

pub use compare::Comparison;

/// What a human may say of a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// A fresh impact.
    Accept,
    /// None.
    Reject,
    /// It cannot be told.
    Unsure,
}

impl Verdict {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Accept, Self::Reject, Self::Unsure];

    /// As files have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Reject => "reject",
            Self::Unsure => "unsure",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A line of `verdicts.csv`; other columns are passed over, and all but the first two may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictRow {
    /// The candidate's number in the catalogue.
    pub id: u64,
    /// `accept`, `reject` or `unsure`; empty where there is only a note.
    pub verdict: String,
    /// Whose it is.
    #[serde(default)]
    pub reviewer: String,
    /// When it was given, UTC (RFC 3339).
    #[serde(default)]
    pub time: String,
    /// What else was said.
    #[serde(default)]
    pub note: String,
}

/// The columns of a [`VerdictRow`].
pub const VERDICT_HEADER: [&str; 5] = ["id", "verdict", "reviewer", "time", "note"];

/// What was said of one candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The verdict.
    pub verdict: Verdict,
    /// Whose it is; empty where it is not known.
    pub reviewer: String,
    /// When it was given; empty where it is not known.
    pub time: String,
    /// What else was said.
    pub note: String,
}

/// A verdict on each of some candidates, by their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdicts(pub BTreeMap<u64, Said>);

impl Verdicts {
    /// Reads `verdicts.csv`; of several lines that agree on a candidate the last one is kept.
    ///
    /// # Errors
    /// [`WrongUsage`] if it cannot be read, a verdict is unknown, or a candidate has two that differ.
    pub fn read(path: &Path) -> Result<Self> {
        let rows: Vec<VerdictRow> = read_rows(path).map_err(|why| WrongUsage(format!("{why:#}")))?;
        Self::of(rows).with_context(|| path.display().to_string())
    }

    /// The verdicts of `rows`.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn of(rows: Vec<VerdictRow>) -> Result<Self> {
        let mut all: BTreeMap<u64, Said> = BTreeMap::new();
        for VerdictRow { id, verdict, reviewer, time, note } in rows {
            let name = verdict.trim().to_ascii_lowercase();
            if name.is_empty() {
                continue;
            }
            let known = Verdict::ALL.into_iter().find(|known| known.name() == name);
            let verdict = known.ok_or_else(|| {
                WrongUsage(format!("verdict {name:?} on {id}: must be reject, accept or unsure"))
            })?;
            match all.insert(id, Said { verdict, reviewer, time, note }) {
                Some(before) if before.verdict != verdict => {
                    let message = format!(
                        "the verdicts call {id} both {} and {verdict}: keep one of them, or give each reviewer a file \
                         and see `marscan review --compare`",
                        before.verdict
                    );
                    return Err(WrongUsage(message).into());
                }
                _ => {}
            }
        }
        Ok(Self(all))
    }

    /// What was said of the candidate `id`.
    pub fn on(&self, id: u64) -> Option<&Said> {
        self.0.get(&id)
    }

    /// # Errors
    /// [`WrongUsage`] if a verdict is on a number that `holds` none.
    pub fn check(&self, holds: impl Fn(u64) -> bool) -> Result<()> {
        match self.0.keys().find(|id| !holds(**id)) {
            Some(id) => {
                Err(WrongUsage(format!("the verdicts name {id}, which is not in the catalogue")).into())
            }
            None => Ok(()),
        }
    }
}

/// Hashes which impact has which number.
#[derive(Clone, Debug, Default)]
pub struct Numbers(blake3::Hasher);

impl Numbers {
    /// Takes in the next line of a catalogue.
    pub fn add(&mut self, impact: &Impact) {
        let Impact { id, scene, row0_px, col0_px, row1_px, col1_px, area_px, .. } = impact;
        let line = format!("{id},{row0_px},{col0_px},{row1_px},{col1_px},{area_px},{scene}\n");
        self.0.update(line.as_bytes());
    }

    /// The first 32 digits of the hash.
    pub fn id(&self) -> String {
        self.0.finalize().to_hex()[..32].to_owned()
    }

    /// Whether a review page in `folder`, if there is one, is of this catalogue: what was judged on another one is not
    /// what has these numbers.
    ///
    /// # Errors
    /// [`WrongUsage`] if it is of another.
    pub fn check_page(&self, folder: &Path) -> Result<()> {
        let page = folder.join(PAGE);
        match page_id(&page).filter(|id| *id != self.id()) {
            None => Ok(()),
            Some(_) => Err(WrongUsage(format!(
                "{} is of another catalogue, whose candidates have other numbers: verdicts given on it do not hold for \
                 this one (merge the same shards as then; or, if the verdicts are of this one, remove the page)",
                page.display()
            ))
            .into()),
        }
    }
}

/// What the review page is called.
pub const PAGE: &str = "review.html";
/// In front of the catalogue's id, near the page's beginning.
const MARK: &str = "<meta name=\"marscan-catalogue\" content=\"";

/// Of which catalogue a review page is, as [`Numbers::id`] says it.
fn page_id(page: &Path) -> Option<String> {
    let mut head = Vec::new();
    File::open(page).ok()?.take(4096).read_to_end(&mut head).ok()?;
    let head = String::from_utf8_lossy(&head).into_owned();
    Some(head.split_once(MARK)?.1.split_once('"')?.0.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Verdicts> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("verdicts.csv");
        std::fs::write(&path, text).unwrap();
        Verdicts::read(&path)
    }

    #[test]
    fn files_are_read_as_people_and_spreadsheets_leave_them() {
        let said = |verdict, note: &str| Said {
            verdict,
            reviewer: "Ann".into(),
            time: "t".into(),
            note: note.into(),
        };
        let text = "\u{feff}note,seen,verdict,id,reviewer,time\r\n\"a, \"\"b\"\"\nc\",1, Accept ,7,Ann,t\r\n\
                    only a note,2,,8,Ann,t\r\n,3,REJECT,9,Ann,u\r\n,4,reject,9,Ann,t\r\n";
        let verdicts = read(text).unwrap();
        assert_eq!(verdicts.0.len(), 2);
        assert_eq!(verdicts.on(7), Some(&said(Verdict::Accept, "a, \"b\"\nc")));
        assert_eq!((verdicts.on(8), verdicts.on(9)), (None, Some(&said(Verdict::Reject, ""))));
        assert_eq!(read("id,verdict\n3,unsure\n").unwrap().0[&3].verdict, Verdict::Unsure);
    }

    #[test]
    fn what_cannot_be_meant_is_wrong_usage() {
        for (text, part) in [
            ("id,verdict\n3,no\n", "must be reject, accept or unsure"),
            ("id,verdict\n3,reject\n3,accept\n", "call 3 both reject and accept"),
            ("id,said\n3,reject\n", "verdict"),
            ("id,verdict\nthree,reject\n", "invalid digit"),
        ] {
            let why = read(text).unwrap_err();
            assert!(why.is::<WrongUsage>() && format!("{why:#}").contains(part), "{part}: {why:#}");
        }
    }
}
