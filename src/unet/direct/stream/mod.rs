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

pub use self::ring::{Cut, CutCols, Line, Piece, Ring};
use self::wiring::{Groups, Node, Work, kept, nodes, steps, wanted};
pub use self::wiring::{Span, Wanted};
use super::kernel::{BLOCK, Lanes};

/// A block of a pixel's channels, as it is kept between layers.
pub trait Pixel: Copy + Default + Send + Sync {
    /// What the first layer reads of a row of the picture.
    fn look(picture: &Picture<'_>, row: i64, cols: Span, line: &mut [Self]);

    /// The largest of each 2x2 of two rows, channel by channel.
    fn halve(upper: &[Self], lower: &[Self], line: &mut [Self]);

    /// Adds to each sum its pixel's channels times their weights.
    fn weigh(pixels: &[Self], weights: &Lanes, sums: &mut [f32]);
}

/// A 3x3 convolution and its ELU.
pub trait Convolution: Send + Sync {
    /// What it reads and writes.
    type Pixel: Pixel;
    /// What a thread needs beside.
    type Room: Default;
    /// Pixels past a row's end that may be read, and mean nothing.
    const SLACK_PX: usize;

    /// Rows and columns are computed in groups of so many, an even number or 1.
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
    /// `[blocks]`.
    pub weight: Vec<Lanes>,
    pub bias: f32,
}

/// A network of any kind of layers.
pub trait Flow: Send + Sync {
    /// Rows beyond an answer's that the picture is looked at, on either side, wherever the answer begins and ends.
    fn reach_px(&self) -> u32;

    /// Gives `take` the probabilities, 0..=1, of what is wanted of each row from the top down, and tells how many
    /// products it took.
    ///
    /// # Errors
    /// Those of `take`.
    fn run(
        &self,
        picture: &Picture<'_>,
        answer: &Wanted,
        take: &mut dyn FnMut(i64, &[f32]) -> Result<()>,
    ) -> Result<u64>;

    /// Products that the definition of the network takes for a pixel.
    fn products_a_pixel(&self) -> u64;
}

/// The network, packed.
pub struct Stream<L> {
    widths: Vec<usize>,
    layers: Vec<L>,
    head: Head,
}

/// What the network looks at.
pub struct Picture<'a> {
    /// The pixels of a row, if it has any; what is not there is 0.
    pub row: &'a (dyn Fn(i64) -> Option<&'a [u8]> + Sync),
    /// Rows and columns beyond which all levels are zero, not only the picture.
    pub edge: Option<(i64, i64)>,
}

impl Picture<'_> {
    /// The grey levels of some columns of a row.
    pub fn greys(&self, row: i64, cols: Span) -> impl Iterator<Item = u8> {
        let line = (self.row)(row).unwrap_or_default();
        cols.map(|col| usize::try_from(col).ok().and_then(|col| line.get(col)).copied().unwrap_or(0))
    }
}

impl<L: Convolution> Stream<L> {
    pub fn new(widths: &[usize], layers: Vec<L>, head: Head) -> Self {
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

    /// Computes `rows` of a node.
    fn advance(
        &self,
        node: &Node,
        picture: &Picture<'_>,
        (sources, ring): (&[Ring<L::Pixel>], &mut Ring<L::Pixel>),
        rows: Range<i64>,
        wanted: &Wanted,
    ) {
        let blocks = ring.blocks();
        let whole = Cut { rows: 1, cols: CutCols::Whole, blocks: 1 };
        match node.work {
            Work::Input => ring.pieces(rows, wanted, whole).into_par_iter().for_each(|piece| {
                for line in piece.lines {
                    L::Pixel::look(picture, line.row, line.cols(), line.pixels);
                }
            }),
            Work::Halve { of } => ring.pieces(rows, wanted, whole).into_par_iter().for_each(|piece| {
                for line in piece.lines {
                    let fine = |down| sources[of].row(2 * line.row + down, line.block, 2 * line.col);
                    L::Pixel::halve(fine(0), fine(1), line.pixels);
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
            for (block, weights) in self.head.weight.iter().enumerate() {
                L::Pixel::weigh(ring.row(row, block, span.start), weights, &mut line);
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
}

impl<L: Convolution> Flow for Stream<L> {
    fn reach_px(&self) -> u32 {
        let period = 4 << self.widths.len();
        let beyond = (0..period).map(|row| {
            let answer = Wanted { rows: row..row + 1, spans: iter::once(0..1).collect() };
            let seen = self.wanted(&answer, None).1.swap_remove(0).rows;
            (row - seen.start).max(seen.end - row - 1)
        });
        beyond.max().unwrap_or(0) as u32
    }

    fn run(
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
            Ring::new(wanted, kept, node.channels.div_ceil(BLOCK), L::SLACK_PX)
        };
        let mut rings: Vec<Ring<L::Pixel>> =
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

    fn products_a_pixel(&self) -> u64 {
        let side = 1 << (self.widths.len() - 1);
        let whole = Wanted { rows: 0..side, spans: vec![0..side; side as usize] };
        let (nodes, wanted) = self.wanted(&whole, Some((side, side)));
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

#[cfg(test)]
#[allow(clippy::print_stdout)]
mod tests {
    use super::*;
    use crate::dice::Dice;
    use crate::unet::direct::conv::blocked;
    use crate::unet::direct::layer::Layer;
    use crate::unet::direct::matrices::{Available, MatrixConv, Plain, Registers};
    use crate::unet::layout::{Unit, units};
    use crate::unet::weights::FoldedConv;

    const ROWS: i64 = 150;
    const COLS: usize = 170;

    fn drawn<L: Convolution + 'static>(
        widths: &[usize],
        pack: impl Fn(usize, &FoldedConv, usize) -> L,
    ) -> Box<dyn Flow> {
        let mut dice = Dice::new(3, &[]);
        let mut draw = |count: usize| -> Vec<f32> { (0..count).map(|_| dice.unit() as f32 - 0.5).collect() };
        let head = Head { weight: blocked(&draw(BLOCK)), bias: 0.1 };
        // Of the same size on every level.
        let mut draw_of = |count: usize, inputs: usize| -> Vec<f32> {
            let size = 4.0 / (inputs as f32).sqrt();
            draw(count).iter().map(|v| v * size).collect()
        };
        let layer = |(k, unit): (usize, &Unit)| {
            let channels = [unit.inputs, unit.outputs];
            let weight = draw_of(unit.inputs * unit.outputs * 9, 9 * unit.inputs);
            let conv = FoldedConv { channels, weight, bias: draw_of(unit.outputs, 16) };
            let doubled = unit.block.starts_with("dec") && unit.number == 1;
            pack(k, &conv, if doubled { unit.inputs - unit.outputs } else { 0 })
        };
        let layers = units(widths).iter().enumerate().map(layer).collect();
        Box::new(Stream::new(widths, layers, head))
    }

    /// A network of each kind of layer.
    fn each(widths: &[usize]) -> Vec<Box<dyn Flow>> {
        let plain = |k, conv: &_, doubled| MatrixConv::<Plain>::new(conv, doubled, k == 0, ());
        let mut all = vec![drawn(widths, |_, conv, doubled| Layer::new(conv, doubled)), drawn(widths, plain)];
        if let Some(unit) = Available::ask() {
            let pack = |k, conv: &_, doubled| MatrixConv::<Registers>::new(conv, doubled, k == 0, unit);
            all.push(drawn(widths, pack));
        }
        all
    }

    /// The probabilities of `answer`, a row and column each, of a picture of which only `seen` rows are shown.
    fn run(stream: &dyn Flow, answer: &Wanted, seen: Range<i64>) -> Vec<(i64, i64, u32)> {
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
            for stream in each(widths) {
                let reach = i64::from(stream.reach_px());
                let cols = COLS as i64;
                let all = Wanted { rows: 0..ROWS, spans: vec![0..cols; ROWS as usize] };
                let whole = run(&*stream, &all, 0..ROWS);
                assert_eq!(whole.len(), ROWS as usize * COLS);
                for (rows, slant) in [(0..ROWS, 1), (1..2, 0), (37..101, 0), (64..150, 2), (3..90, -1)] {
                    let spans = rows.clone().map(|row| {
                        let first = (11 + slant * row).rem_euclid(cols);
                        if row % 7 == 3 { 0..0 } else { first..(first + 40).min(cols) }
                    });
                    let answer = Wanted { spans: spans.collect(), rows: rows.clone() };
                    let part = run(&*stream, &answer, rows.start - reach..rows.end + reach);
                    assert_eq!(part.len() as i64, answer.pixels());
                    for one in &part {
                        let same = whole[one.0 as usize * COLS + one.1 as usize];
                        assert_eq!(*one, same, "{widths:?}, rows {rows:?}");
                    }
                }
                // The test can fail: what is looked at does matter.
                let answer = Wanted { rows: 64..66, spans: vec![0..cols; 2] };
                let blind = run(&*stream, &answer, 64 - reach / 3..66 + reach / 3);
                assert!(
                    blind.iter().any(|one| *one != whole[one.0 as usize * COLS + one.1 as usize]),
                    "{widths:?}"
                );
            }
        }
    }

    #[test]
    fn bf16_is_near_f32_and_the_same_on_the_matrix_unit() {
        for widths in [&[3, 5][..], &[40, 70, 33]] {
            let answer = Wanted { rows: 0..ROWS, spans: vec![0..COLS as i64; ROWS as usize] };
            let of: Vec<Vec<f32>> = each(widths)
                .iter()
                .map(|stream| {
                    run(&**stream, &answer, 0..ROWS).iter().map(|one| f32::from_bits(one.2)).collect()
                })
                .collect();
            let off = of[0].iter().zip(&of[1]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            println!("{widths:?}: bf16 is {off:.1e} off f32");
            assert!(off < 0.05 && off > 1e-4, "{widths:?}: {off}");
            assert!(of[1..].iter().all(|same| *same == of[1]), "{widths:?}");
        }
    }
}
