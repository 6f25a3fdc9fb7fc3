//! A picture of any height through the network, a few rows at a time.
//!
//! Each node keeps only the rows that others still need, so that no pixel is computed twice, and computes of each
//! row only the columns that some wanted pixel depends on. A pixel's sums are formed in one order wherever
//! it lies, so what is computed around it changes nothing.

mod ring;
mod wiring;

use std::ops::Range;

use anyhow::Result;
use rayon::prelude::*;

pub use self::ring::{Cut, Piece, Ring};
use self::wiring::{Node, Work, kept, nodes, reach, wanted};
pub use self::wiring::{Span, Wanted};
use super::kernel::{BLOCK, SLACK_PX};

/// A convolution of the network, in some arithmetic.
pub trait Layer: Sync {
    /// [`BLOCK`] channels of a pixel.
    type Pixel: Copy + Send + Sync;
    /// What a thread needs beside.
    type Room: Default;
    /// All channels zero.
    const ZERO: Self::Pixel;

    /// A pixel of the picture, of one channel.
    fn input(grey: u8) -> Self::Pixel;
    /// The largest of four in each channel.
    fn largest(of: [&Self::Pixel; 4]) -> Self::Pixel;
    /// The sum of channels by weights.
    fn dot(pixel: &Self::Pixel, weights: &[f32]) -> f32;

    /// Rows and columns are computed in groups of so many.
    fn group(&self) -> i64;
    /// How an answer of `blocks` is cut for the threads.
    fn cut(&self, blocks: usize) -> Cut;
    /// Computes a piece of the answer.
    fn compute(
        &self,
        below: Option<&Ring<Self::Pixel>>,
        same: &Ring<Self::Pixel>,
        piece: Piece<'_, Self::Pixel>,
        room: &mut Self::Room,
    );
}

/// The last convolution, 1x1.
pub struct Head {
    /// `[blocks][BLOCK]`.
    pub weight: Vec<f32>,
    pub bias: f32,
}

/// The network, packed.
pub struct Stream<L> {
    widths: Vec<usize>,
    layers: Vec<L>,
    head: Head,
}

/// What the network looks at.
pub struct Picture<'a> {
    /// The pixels of a row from a column on, if it has any; what is not there is 0.
    pub row: &'a (dyn Fn(i64) -> Option<&'a [u8]> + Sync),
    /// Rows and columns beyond which all levels are zero, not only the picture.
    pub edge: Option<(i64, i64)>,
}

impl<L: Layer> Stream<L> {
    pub fn new(widths: &[usize], layers: Vec<L>, head: Head) -> Self {
        Self { widths: widths.to_vec(), layers, head }
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
        let nodes = nodes(&self.widths, |unit| self.layers[unit].group());
        let wanted = wanted(&nodes, answer.clone(), picture.edge);
        let step = (COARSE_ROWS << (self.widths.len() - 1)).max(16);
        let all = wanted[0].rows.clone();
        let ends = (1..).map(|k| (all.start + k * step).min(all.end));
        let mut steps = Vec::new();
        for end in ends {
            steps.push(reach(&nodes, &wanted, end));
            if end == all.end {
                break;
            }
        }
        let room = kept(&nodes, &wanted, &steps);
        let mut rings: Vec<_> = nodes
            .iter()
            .zip(&wanted)
            .zip(room)
            .map(|((node, wanted), kept)| {
                Ring::new(L::ZERO, wanted, kept, node.channels.div_ceil(BLOCK), 2 * SLACK_PX)
            })
            .collect();
        let mut before: Vec<i64> = wanted.iter().map(|node| node.rows.start).collect();
        for after in steps {
            for (k, node) in nodes.iter().enumerate() {
                let (sources, rest) = rings.split_at_mut(k);
                self.advance(node, picture, sources, &mut rest[0], before[k]..after[k], &wanted[k]);
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
        sources: &[Ring<L::Pixel>],
        ring: &mut Ring<L::Pixel>,
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
                        *to = L::input(grey.copied().unwrap_or(0));
                    }
                }
            }),
            Work::Halve { of } => ring.pieces(rows, wanted, whole).into_par_iter().for_each(|piece| {
                for (row, block, line) in piece.lines {
                    let fine = |down| sources[of].row(2 * row + down, block, 2 * piece.cols.start);
                    let pairs = fine(0).as_chunks::<2>().0.iter().zip(fine(1).as_chunks::<2>().0);
                    for (to, (upper, lower)) in line.iter_mut().zip(pairs) {
                        *to = L::largest([&upper[0], &upper[1], &lower[0], &lower[1]]);
                    }
                }
            }),
            Work::Conv { unit, same, below } => {
                let layer = &self.layers[unit];
                let pieces = ring.pieces(rows, wanted, layer.cut(blocks));
                pieces.into_par_iter().for_each_init(L::Room::default, |room, piece| {
                    layer.compute(below.map(|below| &sources[below]), &sources[same], piece, room);
                });
            }
        }
    }

    /// The probabilities of some rows.
    fn give(
        &self,
        ring: &Ring<L::Pixel>,
        rows: Range<i64>,
        answer: &Wanted,
        take: &mut dyn FnMut(i64, &[f32]) -> Result<()>,
    ) -> Result<()> {
        let of_row = |row: i64| {
            let span = answer.span(row);
            let mut line = vec![self.head.bias; (span.end - span.start).max(0) as usize];
            for (block, weight) in self.head.weight.chunks_exact(BLOCK).enumerate() {
                for (sum, pixel) in line.iter_mut().zip(ring.row(row, block, span.start)) {
                    *sum += L::dot(pixel, weight);
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
        let nodes = nodes(&self.widths, |_| 1);
        let wanted = wanted(&nodes, whole, Some((side, side)));
        products(&nodes, &wanted) / (side * side) as u64
    }
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
