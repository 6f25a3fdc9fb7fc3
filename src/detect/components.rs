//! Connected pixels of a band of rows, exact to the pixel, whatever the cutting.
//!
//! Pixels that touch by a side or a corner are one blob. Rows become runs, runs are joined to those of
//! the row above; all sums are integers, so the order of joining changes nothing.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::records::Blob;
use crate::space::PixelRect;

/// What a band holds: complete blobs, and those that reach its first or last row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelledBand {
    /// First row.
    pub row0: u64,
    /// One past the last row.
    pub row1: u64,
    /// Blobs that touch neither the first nor the last row.
    pub closed: Vec<Blob>,
    /// Blobs that do, and may go on beyond.
    pub open: Vec<OpenBlob>,
}

/// A blob on a band's edge, with its pixels of the first and last row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenBlob {
    /// What is known of it so far.
    pub blob: Blob,
    /// Its pixels of the first and of the last row.
    pub runs: Vec<EdgeRun>,
}

/// Pixels `col0..col1` of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EdgeRun {
    /// The row, counted in the scene.
    pub row: u64,
    /// First column.
    pub col0: u64,
    /// One past the last column.
    pub col1: u64,
}

impl Blob {
    /// Both as one.
    #[must_use]
    pub fn joined(&self, other: &Self) -> Self {
        Self {
            area_px: self.area_px + other.area_px,
            row_sum: self.row_sum + other.row_sum,
            col_sum: self.col_sum + other.col_sum,
            score_sum: self.score_sum + other.score_sum,
            peak: self.peak.max(other.peak),
            rect: self.rect.union(&other.rect),
        }
    }
}

/// Sets that grow together; each is named by its smallest member.
#[derive(Debug)]
pub struct Sets(Vec<u32>);

impl Sets {
    /// `count` sets of one.
    pub fn new(count: usize) -> Self {
        Self((0..count as u32).collect())
    }

    /// The smallest member of `member`'s set.
    pub fn find(&mut self, mut member: usize) -> usize {
        while self.0[member] as usize != member {
            self.0[member] = self.0[self.0[member] as usize];
            member = self.0[member] as usize;
        }
        member
    }

    /// Makes one of two.
    pub fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.find(a), self.find(b));
        self.0[a.max(b)] = a.min(b) as u32;
    }
}

/// Calls `touch(i, j)` for each pair of runs, `[col0, col1)` in column order, of two neighbouring rows
/// that touch by a side or a corner.
pub fn touching<A, B>(
    above: &[A],
    below: &[B],
    cols_above: impl Fn(&A) -> (u64, u64),
    cols_below: impl Fn(&B) -> (u64, u64),
    mut touch: impl FnMut(usize, usize),
) {
    let mut first = 0;
    for (j, run) in below.iter().enumerate() {
        let (col0, col1) = cols_below(run);
        while first < above.len() && cols_above(&above[first]).1 < col0 {
            first += 1;
        }
        for (i, other) in above.iter().enumerate().skip(first) {
            if cols_above(other).0 > col1 {
                break;
            }
            touch(i, j);
        }
    }
}

#[derive(Clone, Copy)]
struct Run {
    col0: u32,
    col1: u32,
    score_sum: u64,
    peak: u8,
}

impl Run {
    fn cols(&self) -> (u64, u64) {
        (u64::from(self.col0), u64::from(self.col1))
    }

    fn blob(&self, row: u64) -> Blob {
        let (col0, col1) = self.cols();
        let area_px = col1 - col0;
        Blob {
            area_px,
            row_sum: row * area_px,
            col_sum: (col0 + col1 - 1) * area_px / 2,
            score_sum: self.score_sum,
            peak: self.peak,
            rect: PixelRect { row0: row, col0, row1: row + 1, col1 },
        }
    }
}

/// Labels `probabilities`, `[rows, cols]` in 0..=255, of the scene's rows from `row0`: a pixel counts from
/// `level` upwards.
pub fn label_band(row0: u64, cols: usize, probabilities: &[u8], level: u8) -> LabelledBand {
    let runs: Vec<Vec<Run>> =
        probabilities.par_chunks(cols.max(1)).with_min_len(16).map(|row| runs_of(row, level)).collect();
    let starts: Vec<usize> = runs
        .iter()
        .scan(0, |next, row| {
            let start = *next;
            *next += row.len();
            Some(start)
        })
        .collect();
    let mut sets = Sets::new(runs.iter().map(Vec::len).sum());
    for below in 1..runs.len() {
        let (a, b) = (starts[below - 1], starts[below]);
        touching(&runs[below - 1], &runs[below], Run::cols, Run::cols, |i, j| sets.join(a + i, b + j));
    }
    collect(row0, &runs, &starts, &mut sets)
}

fn collect(row0: u64, runs: &[Vec<Run>], starts: &[usize], sets: &mut Sets) -> LabelledBand {
    let row1 = row0 + runs.len() as u64;
    let mut place = vec![usize::MAX; sets.0.len()];
    let mut blobs: Vec<OpenBlob> = Vec::new();
    for (k, (row_runs, start)) in runs.iter().zip(starts).enumerate() {
        let row = row0 + k as u64;
        for (n, run) in row_runs.iter().enumerate() {
            let root = sets.find(start + n);
            let blob = run.blob(row);
            if place[root] == usize::MAX {
                place[root] = blobs.len();
                blobs.push(OpenBlob { blob, runs: Vec::new() });
            } else {
                blobs[place[root]].blob = blobs[place[root]].blob.joined(&blob);
            }
            if row == row0 || row + 1 == row1 {
                let (col0, col1) = run.cols();
                blobs[place[root]].runs.push(EdgeRun { row, col0, col1 });
            }
        }
    }
    let (open, closed): (Vec<_>, Vec<_>) = blobs.into_iter().partition(|blob| !blob.runs.is_empty());
    LabelledBand { row0, row1, closed: closed.into_iter().map(|blob| blob.blob).collect(), open }
}

/// Blocks in which no pixel counts are passed over whole.
const BLOCK_PX: usize = 64;

fn runs_of(row: &[u8], level: u8) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (k, block) in row.chunks(BLOCK_PX).enumerate() {
        if block.iter().fold(0, |highest, &p| highest.max(p)) < level {
            continue;
        }
        for (n, &p) in block.iter().enumerate().filter(|(_, p)| **p >= level) {
            let col = (k * BLOCK_PX + n) as u32;
            match runs.last_mut().filter(|run| run.col1 == col) {
                Some(run) => {
                    run.col1 += 1;
                    run.score_sum += u64::from(p);
                    run.peak = run.peak.max(p);
                }
                None => runs.push(Run { col0: col, col1: col + 1, score_sum: u64::from(p), peak: p }),
            }
        }
    }
    runs
}
