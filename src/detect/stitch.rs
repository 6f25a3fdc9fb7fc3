//! Bands put together again: blobs that a cut went through become one.
//!
//! The same function serves a shard over its bands and `merge` over shards; it is associative.

use std::collections::BTreeMap;

use super::components::{EdgeRun, LabelledBand, OpenBlob, Sets, touching};
use crate::records::Blob;

/// Joins bands of one scene where one ends and the next begins; gives one band a contiguous piece, in
/// row order.
pub fn stitch(mut bands: Vec<LabelledBand>) -> Vec<LabelledBand> {
    bands.sort_by_key(|band| band.row0);
    let mut pieces: Vec<LabelledBand> = Vec::new();
    for band in bands {
        match pieces.pop() {
            Some(above) if above.row1 == band.row0 => pieces.push(join(above, band)),
            Some(above) => pieces.extend([above, band]),
            None => pieces.push(band),
        }
    }
    pieces
}

/// The blobs of a piece that nothing follows, in catalogue order.
pub fn finish(piece: LabelledBand) -> Vec<Blob> {
    let mut blobs = piece.closed;
    blobs.extend(piece.open.into_iter().map(|open| open.blob));
    blobs.sort_by_key(catalogue_order);
    blobs
}

/// Row, then column of the box's corner; the rest only makes the order complete.
pub fn catalogue_order(blob: &Blob) -> [u64; 7] {
    let rect = &blob.rect;
    [rect.row0, rect.col0, rect.row1, rect.col1, blob.area_px, blob.row_sum, blob.col_sum]
}

fn join(above: LabelledBand, below: LabelledBand) -> LabelledBand {
    let seam = below.row0;
    let (row0, row1) = (above.row0, below.row1);
    let split = above.open.len();
    let mut sets = Sets::new(split + below.open.len());
    let (upper, lower) = (edge(&above.open, seam - 1), edge(&below.open, seam));
    let cols = |run: &(EdgeRun, usize)| (run.0.col0, run.0.col1);
    touching(&upper, &lower, cols, cols, |i, j| sets.join(upper[i].1, split + lower[j].1));

    let mut joined: BTreeMap<usize, OpenBlob> = BTreeMap::new();
    for (k, mut part) in above.open.into_iter().chain(below.open).enumerate() {
        part.runs.retain(|run| run.row == row0 || run.row + 1 == row1);
        match joined.get_mut(&sets.find(k)) {
            Some(whole) => {
                whole.blob = whole.blob.joined(&part.blob);
                whole.runs.extend(part.runs);
            }
            None => drop(joined.insert(sets.find(k), part)),
        }
    }
    let mut closed = above.closed;
    closed.extend(below.closed);
    let (open, done): (Vec<_>, Vec<_>) = joined.into_values().partition(|blob| !blob.runs.is_empty());
    closed.extend(done.into_iter().map(|blob| blob.blob));
    LabelledBand { row0, row1, closed, open }
}

/// The runs of `row` in column order, each with the number of its blob.
fn edge(blobs: &[OpenBlob], row: u64) -> Vec<(EdgeRun, usize)> {
    let mut runs: Vec<_> = blobs
        .iter()
        .enumerate()
        .flat_map(|(k, blob)| blob.runs.iter().filter(|run| run.row == row).map(move |run| (*run, k)))
        .collect();
    runs.sort_unstable();
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::components::label_band;
    use crate::space::PixelRect;

    /// The blobs of a whole picture by flood fill: slow and plain.
    fn flood(cols: usize, picture: &[u8], level: u8) -> Vec<Blob> {
        let rows = picture.len() / cols;
        let mut seen = vec![false; picture.len()];
        let mut blobs = Vec::new();
        for start in 0..picture.len() {
            if picture[start] < level || seen[start] {
                continue;
            }
            seen[start] = true;
            let mut stack = vec![start];
            let mut blob: Option<Blob> = None;
            while let Some(at) = stack.pop() {
                let (row, col) = (at / cols, at % cols);
                let (r, c) = (row as u64, col as u64);
                let pixel = Blob {
                    area_px: 1,
                    row_sum: r,
                    col_sum: c,
                    score_sum: picture[at].into(),
                    peak: picture[at],
                    rect: PixelRect { row0: r, col0: c, row1: r + 1, col1: c + 1 },
                };
                blob = Some(blob.map_or(pixel, |blob| blob.joined(&pixel)));
                for y in row.saturating_sub(1)..(row + 2).min(rows) {
                    for x in col.saturating_sub(1)..(col + 2).min(cols) {
                        let next = y * cols + x;
                        if picture[next] >= level && !seen[next] {
                            seen[next] = true;
                            stack.push(next);
                        }
                    }
                }
            }
            blobs.extend(blob);
        }
        blobs.sort_by_key(catalogue_order);
        blobs
    }

    /// Labels `picture` cut into bands that end at `cuts`, stitched one by one or in two halves.
    fn by_bands(cols: usize, picture: &[u8], cuts: &[usize], halves: bool) -> Vec<Blob> {
        let mut bands = Vec::new();
        let mut row0 = 0;
        for &row1 in cuts {
            bands.push(label_band(row0 as u64, cols, &picture[row0 * cols..row1 * cols], 128));
            row0 = row1;
        }
        let pieces = if halves {
            let later = bands.split_off(bands.len() / 2);
            let mut both = stitch(later);
            both.extend(stitch(bands));
            stitch(both)
        } else {
            stitch(bands)
        };
        assert_eq!(pieces.len(), 1);
        pieces.into_iter().flat_map(finish).collect()
    }

    #[test]
    fn any_cutting_of_any_picture_gives_the_blobs_of_a_flood_fill() {
        let mut state = 7u64;
        let mut next = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state >> 33
        };
        for case in 0..300 {
            let (rows, cols) = (1 + next() as usize % 24, 1 + next() as usize % 200);
            // From sparse specks to winding labyrinths.
            let share = [20, 90, 128, 200][case % 4];
            let picture: Vec<u8> = (0..rows * cols)
                .map(|_| if next() % 256 < share { 128 + (next() % 128) as u8 } else { 7 })
                .collect();
            let mut cuts: Vec<usize> = (1..rows).filter(|_| next() % 3 == 0).collect();
            cuts.push(rows);
            let wanted = flood(cols, &picture, 128);
            assert_eq!(by_bands(cols, &picture, &[rows], false), wanted, "case {case}, whole");
            assert_eq!(by_bands(cols, &picture, &cuts, false), wanted, "case {case}, cuts {cuts:?}");
            assert_eq!(by_bands(cols, &picture, &cuts, true), wanted, "case {case}, halves of {cuts:?}");
        }
    }

    #[test]
    fn a_spiral_over_bands_of_one_row_is_one_blob() {
        let drawing = [
            "#########",
            "........#",
            "#######.#",
            "#.....#.#",
            "#.###.#.#",
            "#.#...#.#",
            "#.#####.#",
            "#.......#",
            "#########",
        ];
        let picture: Vec<u8> =
            drawing.iter().flat_map(|line| line.bytes()).map(|b| if b == b'#' { 255 } else { 0 }).collect();
        let cuts: Vec<usize> = (1..=9).collect();
        let blobs = by_bands(9, &picture, &cuts, true);
        assert_eq!(blobs.len(), 1);
        assert_eq!(blobs, flood(9, &picture, 128));
    }
}
