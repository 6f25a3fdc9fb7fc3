//! A picture of any height through the network, a few rows at a time.
//!
//! Each node keeps only the rows that others still need, so that no pixel is computed twice, and computes of each
//! row only the columns that some wanted pixel depends on. A pixel's sums are formed in one order wherever
//! it lies, so what is computed around it changes nothing.

mod ring;
mod wiring;

use std::iter;
use std::ops::Range;

use anyhow::Result;
use rayon::prelude::*;

pub use self::ring::{Cut, Piece, Ring};
use self::wiring::{Groups, Node, Work, kept, nodes, steps, wanted};
pub use self::wiring::{Span, Wanted};
use super::kernel::{BLOCK, Lanes, SLACK_PX};
use super::layer::{Layer, Room};

/// The last convolution, 1x1.
pub struct Head {
    /// `[blocks][BLOCK]`.
    pub weight: Vec<f32>,
    pub bias: f32,
}

/// The network, packed.
pub struct Stream {
    widths: Vec<usize>,
    layers: Vec<Layer>,
    head: Head,
}

/// What the network looks at.
pub struct Picture<'a> {
    /// The pixels of a row, if it has any; what is not there is 0.
    pub row: &'a (dyn Fn(i64) -> Option<&'a [u8]> + Sync),
    /// Rows and columns beyond which all levels are zero, not only the picture.
    pub edge: Option<(i64, i64)>,
}

impl Stream {
    pub fn new(widths: &[usize], layers: Vec<Layer>, head: Head) -> Self {
        Self { widths: widths.to_vec(), layers, head }
    }

    /// The nodes, and what is wanted of them for `answer`.
    fn wanted(&self, answer: &Wanted, edge: Option<(i64, i64)>) -> (Vec<Node>, Vec<Wanted>) {
        let groups = |unit: usize| {
            let size = self.layers[unit].group();
            // A second convolution's groups want one pixel more on each side; so they begin amid the first one's.
            let first = if unit.is_multiple_of(2) && edge.is_none() { size / 2 } else { 0 };
            Groups { size, first }
        };
        let nodes = nodes(&self.widths, groups);
        let wanted = wanted(&nodes, answer.clone(), edge);
        (nodes, wanted)
    }

    /// Rows beyond an answer's that the picture is looked at, on either side, wherever the answer begins and ends.
    pub fn reach_px(&self) -> u32 {
        let period = 4 << self.widths.len();
        let beyond = (0..period).map(|row| {
            let answer = Wanted { rows: row..row + 1, spans: iter::once(0..1).collect() };
            let seen = self.wanted(&answer, None).1.swap_remove(0).rows;
            (row - seen.start).max(seen.end - row - 1)
        });
        beyond.max().unwrap_or(0) as u32
    }

    /// Gives `take` the probabilities, 0..=1, of what is wanted of each row from the top down, and tells how many
    /// products it took.
    ///
    /// # Errors
    /// Those of `take`.
    pub fn run(
        &self,
        picture: &Picture<'_>,
        answer: &Wanted,
        take: &mut dyn FnMut(i64, &[f32]) -> Result<()>,
    ) -> Result<u64> {
        /// Rows of the picture that are taken in at once, on the coarsest level.
        const COARSE_ROWS: i64 = 2;
        let (nodes, wanted) = self.wanted(answer, picture.edge);
        let steps = steps(&nodes, &wanted, (COARSE_ROWS << (self.widths.len() - 1)).max(16));
        let ring = |((node, kept), wanted): ((&Node, usize), &Wanted)| {
            Ring::new(wanted, kept, node.channels.div_ceil(BLOCK), 2 * SLACK_PX)
        };
        let mut rings: Vec<Ring> =
            nodes.iter().zip(kept(&nodes, &wanted, &steps)).zip(&wanted).map(ring).collect();
        let mut before: Vec<i64> = wanted.iter().map(|node| node.rows.start).collect();
        for after in steps {
            for (k, node) in nodes.iter().enumerate() {
                let (sources, rest) = rings.split_at_mut(k);
                self.advance(node, picture, (sources, &mut rest[0]), before[k]..after[k], &wanted[k]);
            }
            if let (Some(ring), Some(&from), Some(&to)) = (rings.last(), before.last(), after.last()) {
                self.give(ring, from.max(answer.rows.start)..to.min(answer.rows.end), answer, take)?;
            }
            before = after;
        }
        Ok(products(&nodes, &wanted))
    }

    /// Computes `rows` of a node.
    fn advance(
        &self,
        node: &Node,
        picture: &Picture<'_>,
        (sources, ring): (&[Ring], &mut Ring),
        rows: Range<i64>,
        wanted: &Wanted,
    ) {
        let blocks = ring.blocks();
        let whole = Cut { rows: 1, step: 1, steps: i64::MAX, blocks: 1 };
        match node.work {
            Work::Input => ring.pieces(rows, wanted, whole).into_par_iter().for_each(|piece| {
                let there = (picture.row)(piece.row).unwrap_or_default();
                for (_, _, line) in piece.lines {
                    for (to, col) in line.iter_mut().zip(piece.cols.clone()) {
                        let grey = usize::try_from(col).ok().and_then(|col| there.get(col));
                        to[0] = f32::from(grey.copied().unwrap_or(0)) / 255.0;
                    }
                }
            }),
            Work::Halve { of } => ring.pieces(rows, wanted, whole).into_par_iter().for_each(|piece| {
                for (row, block, line) in piece.lines {
                    let fine = |down| sources[of].row(2 * row + down, block, 2 * piece.cols.start);
                    let pairs = fine(0).as_chunks::<2>().0.iter().zip(fine(1).as_chunks::<2>().0);
                    for (to, (upper, lower)) in line.iter_mut().zip(pairs) {
                        *to = largest([&upper[0], &upper[1], &lower[0], &lower[1]]);
                    }
                }
            }),
            Work::Conv { unit, same, below } => {
                let layer = &self.layers[unit];
                let pieces = ring.pieces(rows, wanted, layer.cut(blocks));
                pieces.into_par_iter().for_each_init(Room::default, |room, piece| {
                    layer.compute(below.map(|below| &sources[below]), &sources[same], piece, room);
                });
            }
        }
    }

    /// The probabilities of some rows.
    fn give(
        &self,
        ring: &Ring,
        rows: Range<i64>,
        answer: &Wanted,
        take: &mut dyn FnMut(i64, &[f32]) -> Result<()>,
    ) -> Result<()> {
        let of_row = |row: i64| {
            let span = answer.span(row);
            let mut line = vec![self.head.bias; (span.end - span.start).max(0) as usize];
            for (block, weight) in self.head.weight.chunks_exact(BLOCK).enumerate() {
                for (sum, pixel) in line.iter_mut().zip(ring.row(row, block, span.start)) {
                    *sum += pixel.iter().zip(weight).map(|(v, w)| v * w).sum::<f32>();
                }
            }
            for v in &mut line {
                *v = 1.0 / (1.0 + (-*v).exp());
            }
            (row, line)
        };
        let wanted: Vec<i64> = rows.filter(|&row| !answer.span(row).is_empty()).collect();
        let lines: Vec<(i64, Vec<f32>)> = wanted.into_par_iter().map(of_row).collect();
        lines.iter().try_for_each(|(row, line)| take(*row, line))
    }

    /// Products that the definition of the network takes for a pixel.
    pub fn products_a_pixel(&self) -> u64 {
        let side = 1 << (self.widths.len() - 1);
        let whole = Wanted { rows: 0..side, spans: vec![0..side; side as usize] };
        let (nodes, wanted) = self.wanted(&whole, Some((side, side)));
        products(&nodes, &wanted) / (side * side) as u64
    }
}

/// The largest of four in each channel.
fn largest(of: [&Lanes; 4]) -> Lanes {
    std::array::from_fn(|lane| {
        let [a, b, c, d] = of.map(|pixel| pixel[lane]);
        a.max(b).max(c.max(d))
    })
}

/// Products that the definition of the convolutions takes for what is wanted.
fn products(nodes: &[Node], wanted: &[Wanted]) -> u64 {
    let of = |node: &Node, wanted: &Wanted| match node.work {
        Work::Conv { same, below, .. } => {
            let inputs = nodes[same].channels + below.map_or(0, |below| nodes[below].channels);
            9 * (inputs * node.channels) as u64 * wanted.pixels() as u64
        }
        _ => 0,
    };
    nodes.iter().zip(wanted).map(|(node, wanted)| of(node, wanted)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;
    use crate::unet::layout::units;
    use crate::unet::weights::FoldedConv;

    const ROWS: i64 = 150;
    const COLS: usize = 170;

    fn drawn(widths: &[usize]) -> Stream {
        let mut dice = Dice::new(3, &[]);
        let mut draw = |count: usize| -> Vec<f32> { (0..count).map(|_| dice.unit() as f32 - 0.5).collect() };
        let layers = units(widths)
            .iter()
            .map(|unit| {
                let channels = [unit.inputs, unit.outputs];
                let weight = draw(unit.inputs * unit.outputs * 9);
                let conv = FoldedConv { channels, weight, bias: draw(unit.outputs) };
                let doubled = unit.block.starts_with("dec") && unit.number == 1;
                Layer::new(&conv, if doubled { unit.inputs - unit.outputs } else { 0 })
            })
            .collect();
        Stream::new(widths, layers, Head { weight: draw(BLOCK), bias: 0.1 })
    }

    /// The probabilities of `answer`, a row and column each, of a picture of which only `seen` rows are shown.
    fn run(stream: &Stream, answer: &Wanted, seen: Range<i64>) -> Vec<(i64, i64, u32)> {
        let mut dice = Dice::new(8, &[]);
        let pixels: Vec<u8> = (0..ROWS as usize * COLS).map(|_| dice.below(256) as u8).collect();
        let there = seen.start.max(0)..seen.end.min(ROWS);
        let row = |row: i64| there.contains(&row).then(|| &pixels[row as usize * COLS..][..COLS]);
        let mut all = Vec::new();
        stream
            .run(&Picture { row: &row, edge: None }, answer, &mut |row, line| {
                all.extend(answer.span(row).zip(line).map(|(col, p)| (row, col, p.to_bits())));
                Ok(())
            })
            .unwrap();
        all
    }

    #[test]
    fn a_pixel_is_the_same_to_the_last_bit_whatever_is_computed_around_it() {
        for widths in [&[3, 5][..], &[2, 3, 4], &[2, 3, 4, 3, 2]] {
            let stream = drawn(widths);
            let reach = i64::from(stream.reach_px());
            let cols = COLS as i64;
            let whole = run(&stream, &Wanted { rows: 0..ROWS, spans: vec![0..cols; ROWS as usize] }, 0..ROWS);
            assert_eq!(whole.len(), ROWS as usize * COLS);
            for (rows, slant) in [(0..ROWS, 1), (1..2, 0), (37..101, 0), (64..150, 2), (3..90, -1)] {
                let spans = rows.clone().map(|row| {
                    let first = (11 + slant * row).rem_euclid(cols);
                    if row % 7 == 3 { 0..0 } else { first..(first + 40).min(cols) }
                });
                let answer = Wanted { spans: spans.collect(), rows: rows.clone() };
                let part = run(&stream, &answer, rows.start - reach..rows.end + reach);
                assert_eq!(part.len() as i64, answer.pixels());
                for one in &part {
                    let same = whole[one.0 as usize * COLS + one.1 as usize];
                    assert_eq!(*one, same, "{widths:?}, rows {rows:?}");
                }
            }
            // The test can fail: what is looked at does matter.
            let answer = Wanted { rows: 64..66, spans: vec![0..cols; 2] };
            let blind = run(&stream, &answer, 64 - reach / 3..66 + reach / 3);
            assert!(
                blind.iter().any(|one| *one != whole[one.0 as usize * COLS + one.1 as usize]),
                "{widths:?}"
            );
        }
    }
}
