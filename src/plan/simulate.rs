//! How long an array would take: the same plan for one count of tasks after the other.

use super::deal::{Rows, deal};
use super::{rows, work};
use crate::records::SceneRecord;

/// A plan for so many tasks, each with one shard, all at once and all equally fast.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Simulated {
    /// Tasks.
    pub tasks: usize,
    /// Pixels to be worked on in the longest shard: valid ones where the list says, else all.
    pub makespan_px: u64,
    /// The same were all shards equal.
    pub ideal_px: f64,
    /// Contiguous runs of rows over all shards: each is one piece of a scene that a task opens.
    pub runs: usize,
}

impl Simulated {
    /// Longest shard over the mean, from 1.
    pub fn over_ideal(&self) -> f64 {
        self.makespan_px as f64 / self.ideal_px
    }

    /// Mean over the longest shard, to 1.
    pub fn balance(&self) -> f64 {
        self.ideal_px / self.makespan_px as f64
    }
}

/// The plan of `scenes` for `tasks` tasks, measured.
pub fn simulate(scenes: &[SceneRecord], tasks: usize) -> Simulated {
    let hands = deal(&rows(scenes), tasks);
    let of_rows = |rows: &Rows| {
        let scene = &scenes[rows.scene];
        (u128::from(work(scene)) * u128::from(rows.count) / u128::from(scene.rows)) as u64
    };
    let longest = hands.iter().map(|hand| hand.iter().map(of_rows).sum()).max().unwrap_or(0);
    let total: u64 = scenes.iter().map(work).sum();
    Simulated {
        tasks,
        makespan_px: longest,
        ideal_px: total as f64 / tasks as f64,
        runs: hands.iter().map(Vec::len).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows and columns of the study's 19 scenes.
    const STUDY: [(u64, u64); 19] = [
        (7784, 5269),
        (35705, 11144),
        (6567, 4702),
        (9174, 6573),
        (8973, 5326),
        (10343, 6808),
        (81786, 13896),
        (5193, 3246),
        (35835, 8059),
        (5502, 5809),
        (27423, 8560),
        (5191, 3278),
        (2766, 3119),
        (6720, 5831),
        (5176, 3642),
        (9143, 6494),
        (9497, 5745),
        (5157, 4667),
        (9159, 6240),
    ];

    fn scenes(sizes: impl Iterator<Item = (u64, u64)>) -> Vec<SceneRecord> {
        let scene = |(number, (rows, cols))| SceneRecord {
            file_name: format!("s{number}"),
            rows,
            cols,
            path: None,
            valid_px: None,
            mask: None,
        };
        sizes.enumerate().map(scene).collect()
    }

    #[test]
    fn the_sizes_are_those_of_the_studys_list() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/scenes_19.csv");
        if path.exists() {
            let list = crate::plan::SceneList::read(&path).unwrap();
            let sizes: Vec<_> = list.records.iter().map(|scene| (scene.rows, scene.cols)).collect();
            assert_eq!(sizes, STUDY);
        }
    }

    #[test]
    fn the_studys_list_is_dealt_to_a_row() {
        let list = scenes(STUDY.into_iter());
        let over = |tasks: usize| simulate(&list, tasks).over_ideal();
        // A row of the widest scene is 0.14 % of what a 256th of the list is.
        let most = (1..=256).map(over).fold(0.0, f64::max);
        assert!(most < 1.002, "{most}");
    }

    #[test]
    fn ten_thousand_scenes_are_planned_for_4096_tasks_within_a_second() {
        let list = scenes(STUDY.into_iter().cycle().take(10_000));
        let began = std::time::Instant::now();
        let shards = super::super::plan(&list, 4096, 1024);
        let seconds = began.elapsed().as_secs_f64();
        assert!(seconds < 1.0, "{seconds} s");
        assert_eq!(shards.len(), 4096);
        assert!(simulate(&list, 4096).over_ideal() < 1.02);
    }
}
