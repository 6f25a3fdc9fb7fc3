//! The columns of a catalogue that are there when they are asked for.

use serde::Serialize;

use super::changes::Changes;
use super::groups::Groups;

/// Which of them a catalogue has.
#[derive(Clone, Copy, Debug, Default)]
pub struct Columns<'a> {
    /// `group`.
    pub groups: Option<&'a Groups>,
    /// `repeat_scene` and `change_score`.
    pub changes: Option<&'a Changes>,
}

/// A column's value, if it has one for this impact.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Cell<T>(pub Option<T>);

/// What those columns that there are hold for one impact.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Cells<'a> {
    /// The smallest id of the impacts at the place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<Cell<u64>>,
    /// The other scene with the largest change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat_scene: Option<Cell<&'a str>>,
    /// That change, 0..=1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change_score: Option<Cell<f64>>,
}

impl<'a> Columns<'a> {
    /// Their names, in order, and their types in SQL.
    pub fn names(&self) -> Vec<(&'static str, &'static str)> {
        let group = self.groups.map(|_| [("group", "INTEGER")]);
        let changes = self.changes.map(|_| [("repeat_scene", "TEXT"), ("change_score", "DOUBLE")]);
        group.into_iter().flatten().chain(changes.into_iter().flatten()).collect()
    }

    /// What they hold for the impact `id`.
    pub fn cells(&self, id: u64) -> Cells<'a> {
        let change = self.changes.map(|changes| changes.of(id));
        Cells {
            group: self.groups.map(|groups| Cell(groups.of(id))),
            repeat_scene: change.map(|change| Cell(change.map(|change| change.0))),
            change_score: change.map(|change| Cell(change.map(|change| change.1))),
        }
    }
}
