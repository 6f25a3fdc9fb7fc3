//! A layer in bf16 on the processor's matrix unit: the definition of the convolution, in which each place of the 3x3 is
//! a product of the pixels there, as they lie, with that place's weights.
//!
//! Sums are f32; what is kept between layers is rounded to bf16. Of a doubled source the places that meet the same
//! pixel are added beforehand, which leaves 2x2 of the 3x3, other ones for even and odd rows and columns.

// What is not inlined into the function made for certain vectors is compiled without them.
#![allow(clippy::inline_always)]

mod half;
mod unit;

use std::array;
use std::ops::Range;

use burn::tensor::bf16;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use self::half::{Bf16Lanes, PLACES};
#[cfg(test)]
pub use self::unit::Plain;
pub use self::unit::{Available, Registers};
use self::unit::{Factor, Multiply, STRIP, Steps, Sums};
use super::conv::{Scale, blocked};
use super::kernel::{BLOCK, Lanes, fastest};
use super::stream::{Convolution, Cut, CutCols, Line, Piece, Ring};
use crate::config::Precision;
use crate::unet::weights::{FoldedConv, nearest};

/// A convolution in bf16, packed.
pub struct MatrixConv<M: Multiply> {
    leave: M::Leave,
    /// Whether the same level's source is the picture, whose pixels bring their neighbours with them.
    of_picture: bool,
    /// Blocks read of the level below, and of the same level.
    blocks: [usize; 2],
    /// `[output block]`.
    outputs: Vec<Packed>,
}

/// The weights of an output block.
struct Packed {
    /// `[input block][place]`.
    same: Vec<Factor>,
    /// `[odd row][odd column][input block][place]`.
    below: [[Vec<Factor>; 2]; 2],
    bias: Lanes,
}

impl<M: Multiply> MatrixConv<M> {
    /// The first `doubled` input channels come from the level below; `of_picture` says that its one input channel
    /// is the picture.
    pub fn new(conv: &FoldedConv, doubled: usize, of_picture: bool, leave: M::Leave) -> Self {
        let [inputs, outputs] = conv.channels;
        let blocks = [doubled, inputs - doubled].map(|channels| channels.div_ceil(BLOCK));
        let bias = blocked(&conv.bias);
        let pack = |(output, bias): (usize, &Lanes)| {
            let weight = |lane: usize, input: usize| {
                let output = output * BLOCK + lane;
                (output < outputs).then(|| &conv.weight[(output * inputs + input) * 9..][..9])
            };
            // What rounding takes from a weight is given to its next place: pixels that lie together are much alike.
            let of_block = |first: usize, end: usize, places: &[Vec<usize>]| -> Vec<Factor> {
                let mut left = [[0.0; BLOCK]; BLOCK];
                let mut place = |met: &Vec<usize>| {
                    factor(|lane, to| {
                        let filter = (first + lane < end).then(|| weight(to, first + lane)).flatten();
                        let sum =
                            |filter: &[f32]| met.iter().map(|&p| f64::from(filter[p])).sum::<f64>() as f32;
                        nearest(filter.map_or(0.0, sum), &mut left[lane][to], Precision::Bf16)
                    })
                };
                places.iter().map(&mut place).collect()
            };
            let of_source = |first: usize, end: usize, places: &[Vec<usize>]| -> Vec<Factor> {
                (first..end).step_by(BLOCK).flat_map(|first| of_block(first, end, places)).collect()
            };
            let same = if of_picture {
                vec![factor_of_picture(|place, to| weight(to, 0).map_or(0.0, |filter| filter[place]))]
            } else {
                of_source(doubled, inputs, &met(Scale::Same))
            };
            let places = met(Scale::Doubled);
            let below = array::from_fn(|row| {
                array::from_fn(|col| of_source(0, doubled, &places[8 * row + 4 * col..][..4]))
            });
            Packed { same, below, bias: array::from_fn(|k| bias[2 * (k % (BLOCK / 2)) + k / (BLOCK / 2)]) }
        };
        let outputs = bias.par_iter().enumerate().map(pack).collect();
        Self { leave, of_picture, blocks, outputs }
    }

    /// What a row of strips is the sum of: from column `first` on, every column or every second one.
    fn steps<'a>(&self, sources: Sources<'a>, row: i64, cols: Columns) -> Steps<'a> {
        let Columns { first, apart, count } = cols;
        let mut steps = Steps::new(count.div_ceil(STRIP));
        for block in 0..self.blocks[1] {
            if self.of_picture {
                steps.push(sources.same.row(row, block, first), apart);
                continue;
            }
            for place in 0..9 {
                steps.push(sources.same.row(row - 1 + place / 3, block, first - 1 + place % 3), apart);
            }
        }
        let (row, first) = ((row - 1) >> 1, (first - 1) >> 1);
        for (below, block) in sources.below.into_iter().flat_map(|b| (0..self.blocks[0]).map(move |k| (b, k)))
        {
            for place in 0..4 {
                steps.push(below.row(row + place / 2, block, first + place % 2), 1);
            }
        }
        steps
    }
}

/// The places of the 3x3 that are added for each place of a source.
fn met(scale: Scale) -> Vec<Vec<usize>> {
    let places = scale.places().into_iter();
    places.map(|[rows, cols]| rows.flat_map(|r| cols.clone().map(move |c| 3 * r + c)).collect()).collect()
}

/// A factor of the weights from an input's lane to an output's, which are bf16 already.
fn factor(mut weight: impl FnMut(usize, usize) -> f32) -> Factor {
    let mut all = Factor([[[[bf16::ZERO; 2]; BLOCK / 2]; BLOCK / 2]; 2]);
    for (lane, output) in (0..BLOCK).flat_map(|lane| (0..BLOCK).map(move |output| (lane, output))) {
        all.0[output % 2][lane / 2][output / 2][lane % 2] = bf16::from_f32(weight(lane, output));
    }
    all
}

/// As [`factor`], from a place of the picture, whose levels are 0 to 255, in two parts: a weight's bf16, and what is
/// left of it.
fn factor_of_picture(weight: impl Fn(usize, usize) -> f32) -> Factor {
    factor(|lane, to| {
        let mut left = 0.0;
        let first = nearest(weight(lane % PLACES, to) / 255.0, &mut left, Precision::Bf16);
        [first, left].get(lane / PLACES).copied().unwrap_or(0.0)
    })
}

#[derive(Clone, Copy)]
struct Sources<'a> {
    below: Option<&'a Ring<Bf16Lanes>>,
    same: &'a Ring<Bf16Lanes>,
}

/// Columns of a line that are computed together.
#[derive(Clone, Copy)]
struct Columns {
    first: i64,
    apart: usize,
    count: usize,
}

impl Columns {
    /// Those of a line; of a doubled source, odd and even ones by themselves.
    fn of(line: &Line<'_, Bf16Lanes>, doubled: bool) -> Vec<Self> {
        let Range { start, end } = line.cols();
        let first = [start, start + 1].into_iter().filter(|&first| first < end);
        if doubled {
            first.map(|first| Self { first, apart: 2, count: (end - first + 1) as usize / 2 }).collect()
        } else {
            vec![Self { first: start, apart: 1, count: line.pixels.len() }]
        }
    }
}

impl<M: Multiply> Convolution for MatrixConv<M> {
    type Pixel = Bf16Lanes;
    type Room = ();
    const SLACK_PX: usize = 2 * STRIP;

    fn group(&self) -> i64 {
        1
    }

    fn cut(&self, blocks: usize) -> Cut {
        Cut { rows: 8, cols: CutCols::At(4 * STRIP as i64), blocks: blocks.min(2) }
    }

    fn compute(
        &self,
        below: Option<&Ring<Bf16Lanes>>,
        same: &Ring<Bf16Lanes>,
        piece: Piece<'_, Bf16Lanes>,
        (): &mut (),
    ) {
        fastest(MatrixPiece { conv: self, sources: Sources { below, same }, piece });
    }
}

struct MatrixPiece<'a, 'b, M: Multiply> {
    conv: &'a MatrixConv<M>,
    sources: Sources<'a>,
    piece: Piece<'b, Bf16Lanes>,
}

impl<M: Multiply> WithSimd for MatrixPiece<'_, '_, M> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (conv, mut lines) = (self.conv, self.piece.lines);
        // Of each row, and of each part of its columns.
        let mut parts: Vec<Vec<(Columns, Steps<'_>)>> = Vec::new();
        for line in &lines {
            let row = (line.row - self.piece.row) as usize;
            if row >= parts.len() {
                parts.resize_with(row, Vec::new);
                let cols = Columns::of(line, self.sources.below.is_some()).into_iter();
                parts.push(cols.map(|cols| (cols, conv.steps(self.sources, line.row, cols))).collect());
            }
        }
        // A block's weights are used for all rows before the next one's.
        lines.sort_unstable_by_key(|line| (line.block, line.row));
        // A strip is finished after the next one's products are begun: the processor works on both at once.
        let mut sums = [Sums([[0.0; BLOCK]; STRIP]), Sums([[0.0; BLOCK]; STRIP])];
        let mut turn = 0;
        let mut unfinished: Option<(usize, usize, usize)> = None;
        let mut unit = M::begin(conv.leave);
        for k in 0..lines.len() {
            let (row, col, packed) = (lines[k].row, lines[k].col, &conv.outputs[lines[k].block]);
            let parts = &parts[(row - self.piece.row) as usize];
            let strips = parts.iter().map(|part| part.1.strips()).max().unwrap_or(0);
            for strip in 0..strips {
                for (cols, steps) in parts.iter().filter(|part| strip < part.1.strips()) {
                    let below = &packed.below[(row & 1) as usize][(cols.first & 1) as usize];
                    unit.strip(steps, strip, [&packed.same, below], &packed.bias, &mut sums[turn]);
                    turn = 1 - turn;
                    if let Some((k, first, apart)) = unfinished {
                        finish(simd, &sums[turn], lines[k].pixels[first..].iter_mut().step_by(apart));
                    }
                    let first = (cols.first - col) as usize + strip * STRIP * cols.apart;
                    unfinished = Some((k, first, cols.apart));
                }
            }
        }
        if let Some((k, first, apart)) = unfinished {
            finish(simd, &sums[1 - turn], lines[k].pixels[first..].iter_mut().step_by(apart));
        }
    }
}

/// The ELU of sums, rounded.
#[inline(always)]
fn finish<'a, S: Simd>(simd: S, sums: &Sums, line: impl Iterator<Item = &'a mut Bf16Lanes>) {
    let (sixteen, upper) = (simd.splat_u32s(16), simd.splat_u32s(0xffff_0000));
    for (to, sums) in line.zip(&sums.0) {
        let (even, odd) = sums.split_at(BLOCK / 2);
        let sums = S::as_simd_f32s(even).0.iter().zip(S::as_simd_f32s(odd).0);
        for (to, (&even, &odd)) in S::as_mut_simd_u32s(&mut to.0).0.iter_mut().zip(sums) {
            let (even, odd) = (elu_in_bf16(simd, even), elu_in_bf16(simd, odd));
            *to = simd.or_u32s(simd.wrapping_dyn_shr_u32s(even, sixteen), simd.and_u32s(odd, upper));
        }
    }
}

/// The bits of the ELU, to 1.2e-4, of which the upper half is the nearest bf16.
#[inline(always)]
fn elu_in_bf16<S: Simd>(simd: S, x: S::f32s) -> S::u32s {
    /// Adding it rounds to an integer, whose low bits are then the number's own.
    const ROUND: f32 = 12_582_912.0;
    /// Of 2^f, f from -0.5 to 0.5.
    const POWER: [f32; 4] = [0.055_7, 0.242_3, std::f32::consts::LN_2, 1.0];
    let splat = |v: f32| simd.splat_f32s(v);
    let (zero, log2_e) = (splat(0.0), splat(std::f32::consts::LOG2_E));
    let low = simd.max_f32s(simd.min_f32s(x, zero), splat(-87.0));
    let shifted = simd.mul_add_e_f32s(low, log2_e, splat(ROUND));
    let rest = simd.mul_add_e_f32s(low, log2_e, simd.sub_f32s(splat(ROUND), shifted));
    let mut power = splat(POWER[0]);
    for term in &POWER[1..] {
        power = simd.mul_add_e_f32s(power, rest, splat(*term));
    }
    let exponent = simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(shifted), simd.splat_u32s(23));
    let power = simd.transmute_f32s_u32s(simd.add_u32s(simd.transmute_u32s_f32s(power), exponent));
    let elu = simd.add_f32s(simd.sub_f32s(simd.max_f32s(x, zero), splat(1.0)), power);
    simd.add_u32s(simd.transmute_u32s_f32s(elu), simd.splat_u32s(0x8000))
}

#[cfg(test)]
#[allow(clippy::print_stdout)]
mod tests {
    use super::super::stream::Wanted;
    use super::*;
    use crate::dice::Dice;

    /// Odd ones, more than a strip and less than two of each parity.
    const COLS: Range<i64> = 3..96;

    fn channel(pixel: &Bf16Lanes, channel: usize) -> f32 {
        bf16::from_bits((pixel.0[channel / 2] >> (16 * (channel % 2))) as u16).to_f32()
    }

    /// Random pixels of `channels`, some around rows `rows` and columns 0..`cols`.
    fn drawn(channels: usize, rows: i64, cols: i64) -> Ring<Bf16Lanes> {
        let mut dice = Dice::new(4, &[]);
        let wanted = Wanted { rows: -3..rows + 3, spans: vec![-3..cols + 3; (rows + 6) as usize] };
        let slack = MatrixConv::<Plain>::SLACK_PX;
        let mut ring: Ring<Bf16Lanes> =
            Ring::new(&wanted, (rows + 6) as usize, channels.div_ceil(BLOCK), slack);
        let cut = Cut { rows: 1, cols: CutCols::Whole, blocks: 1 };
        for line in ring.pieces(-3..rows + 3, &wanted, cut).into_iter().flat_map(|p| p.lines) {
            let count = line.pixels.len();
            for k in 0..count * BLOCK.min(channels - line.block * BLOCK) {
                let (pixel, lane) = (k % count, k / count);
                line.pixels[pixel].0[lane / 2] |=
                    u32::from(bf16::from_f64(dice.unit() - 0.5).to_bits()) << (16 * (lane % 2));
            }
        }
        ring
    }

    fn conv(inputs: usize, outputs: usize) -> FoldedConv {
        let mut dice = Dice::new(5, &[]);
        let mut draw = |count| -> Vec<f32> { (0..count).map(|_| dice.unit() as f32 - 0.5).collect() };
        FoldedConv { channels: [inputs, outputs], weight: draw(inputs * outputs * 9), bias: draw(outputs) }
    }

    /// Rows 2 to 5 of 37 channels of the level below, if that is `doubled`, and 5 of the same, to 40.
    fn through<M: Multiply>(doubled: bool, leave: M::Leave) -> Vec<f32> {
        let (below, same) = (drawn(37, 5, COLS.end / 2 + 2), drawn(5, 8, COLS.end + 2));
        let wanted = Wanted { rows: 2..6, spans: vec![COLS; 4] };
        let mut out = Ring::new(&wanted, 4, 2, 0);
        let coarse = if doubled { 37 } else { 0 };
        let packed = MatrixConv::<M>::new(&conv(coarse + 5, 40), coarse, false, leave);
        for piece in out.pieces(2..6, &wanted, packed.cut(2)) {
            packed.compute(doubled.then_some(&below), &same, piece, &mut ());
        }
        let pixels = (2..6).flat_map(|row| COLS.map(move |col| (row, col)));
        let channels = |(row, col)| {
            let out = &out;
            (0..40).map(move |k| channel(&out.row(row, k / BLOCK, col)[0], k % BLOCK))
        };
        pixels.flat_map(channels).collect()
    }

    /// The definition, in f64.
    fn defined(doubled: bool) -> Vec<f32> {
        let (below, same) = (drawn(37, 5, COLS.end / 2 + 2), drawn(5, 8, COLS.end + 2));
        let coarse = if doubled { 37 } else { 0 };
        let inputs = coarse + 5;
        let conv = conv(inputs, 40);
        let read = |input: usize, row: i64, col: i64| match input.checked_sub(coarse) {
            None => channel(&below.row(row >> 1, input / BLOCK, col >> 1)[0], input % BLOCK),
            Some(input) => channel(&same.row(row, 0, col)[0], input),
        };
        let at = |row: i64, col: i64, output: usize| {
            let mut sum = f64::from(conv.bias[output]);
            for k in 0..inputs * 9 {
                let (input, row, col) = (k / 9, row + k as i64 % 9 / 3 - 1, col + k as i64 % 3 - 1);
                sum += f64::from(conv.weight[output * inputs * 9 + k]) * f64::from(read(input, row, col));
            }
            if sum > 0.0 { sum as f32 } else { sum.exp_m1() as f32 }
        };
        let pixels = (2..6).flat_map(|row| COLS.map(move |col| (row, col)));
        pixels
            .flat_map(|(row, col)| (0..40).map(move |k| (row, col, k)))
            .map(|(r, c, k)| at(r, c, k))
            .collect()
    }

    #[test]
    fn matrices_give_the_definitions_sums_to_bf16_and_the_unit_the_same_bits_as_plain_numbers() {
        for doubled in [false, true] {
            let (plain, wanted) = (through::<Plain>(doubled, ()), defined(doubled));
            let off = plain.iter().zip(&wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            let size = wanted.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            println!("largest difference {off:.1e}, of values to {size:.1}");
            assert!(off < 4e-3 * size && off > 1e-4 * size, "{off} of {size}");
            match Available::ask() {
                Some(unit) => assert!(through::<Registers>(doubled, unit) == plain),
                None => println!("not run: no AMX here"),
            }
        }
    }

    #[test]
    #[should_panic(expected = "a row of 32 pixels is read at 62")]
    fn a_row_that_is_too_short_is_not_read() {
        Steps::new(1).push(&[Bf16Lanes::default(); STRIP], 2);
    }
}
