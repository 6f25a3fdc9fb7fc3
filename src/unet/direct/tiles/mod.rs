//! A layer in f32 by Winograd's minimal filtering, F(4x4, 3x3) (Lavin and Gray 2016): 36 products for 16 pixels
//! where the definition takes 144, on vectors of [`BLOCK`] output channels.
//!
//! A doubled source shows two pixels where it has one. Of the six sums of a tile's row one is then always zero, so
//! that 25 products are left of the 36.

// What is not inlined into the function made for certain vectors is compiled without them.
#![allow(clippy::inline_always)]
// Plain loops over small arrays of vectors stay in registers; closures over them may not be inlined.
#![allow(clippy::needless_range_loop)]

mod sums;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use self::sums::{column, doubled_sums, every, load4, pixels, store, sums};
use super::conv::blocked;
use super::kernel::{BLOCK, Lanes, elu, fastest};
use super::stream::{Cut, CutCols, Piece, Ring};
use crate::unet::weights::FoldedConv;

/// Side of the tile that is written.
const SIDE: usize = 4;
/// Side of the tile that is read, and of the tile of sums.
const READ: usize = 6;
/// Products of a tile.
const PLACES: usize = READ * READ;
/// The sum that is always zero of a doubled source.
const VANISHES: usize = 2;
/// Tiles of a piece.
const MOST_TILES: i64 = 28;
/// Blocks of a piece: enough for what is made of its input to be used often.
const MOST_BLOCKS: usize = 4;

/// From a filter's three weights to their six.
const FILTER: [[f64; 3]; READ] = [
    [0.25, 0.0, 0.0],
    [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
    [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
    [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
    [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
    [0.0, 0.0, 1.0],
];

/// A convolution, packed for tiles.
pub struct TiledConv {
    /// Blocks read of the level below, and of the same level after them.
    blocks: [usize; 2],
    /// `[output block][place][input block that has it][BLOCK inputs][BLOCK outputs]`.
    weights: Vec<Vec<Lanes>>,
    bias: Vec<Lanes>,
}

/// Whether a source has this place.
fn has(doubled: bool, place: usize) -> bool {
    !doubled || (place / READ != VANISHES && place % READ != VANISHES)
}

/// What a thread needs for a piece.
#[derive(Default)]
pub struct TileRoom {
    /// `[input block][place that it has][tile]`.
    read: Vec<Lanes>,
    /// `[place][tile]` of one output block.
    sums: Vec<Lanes>,
}

impl TiledConv {
    /// The first `doubled` input channels come from the level below.
    pub fn new(conv: &FoldedConv, doubled: usize) -> Self {
        let [inputs, outputs] = conv.channels;
        let blocks = [doubled, inputs - doubled].map(|channels| channels.div_ceil(BLOCK));
        // Channel of each lane of each input block, the last lanes of a source standing for none.
        let lanes = |first: usize, end: usize| {
            (first..first + (end - first).next_multiple_of(BLOCK)).map(move |k| (k < end).then_some(k))
        };
        let channels: Vec<Option<usize>> = lanes(0, doubled).chain(lanes(doubled, inputs)).collect();
        let pack = |output: usize| {
            let doubled_blocks = |place: usize| if has(true, place) { blocks[0] } else { 0 };
            let mut first = [0; PLACES];
            for place in 1..PLACES {
                first[place] = first[place - 1] + (doubled_blocks(place - 1) + blocks[1]) * BLOCK;
            }
            let all = first[PLACES - 1] + (blocks[0] + blocks[1]) * BLOCK;
            let mut packed = vec![[0.0; BLOCK]; all];
            fastest(Packing { conv, output, channels: &channels, blocks, first, packed: &mut packed });
            packed
        };
        let weights = (0..outputs.div_ceil(BLOCK)).into_par_iter().map(pack).collect();
        Self { blocks, weights, bias: blocked(&conv.bias) }
    }

    /// How an answer of `blocks` is cut.
    pub fn cut(blocks: usize) -> Cut {
        let cols = CutCols::Even { step: SIDE as i64, most: MOST_TILES };
        Cut { rows: SIDE as i64, cols, blocks: blocks.min(MOST_BLOCKS) }
    }

    /// Rows and columns are computed in groups of so many.
    pub const GROUP: i64 = SIDE as i64;

    /// Computes a piece, whose rows and columns begin a tile.
    pub fn compute(
        &self,
        below: Option<&Ring<Lanes>>,
        same: &Ring<Lanes>,
        piece: Piece<'_, Lanes>,
        room: &mut TileRoom,
    ) {
        let Some(line) = piece.lines.first() else { return };
        let (col, tiles) = (line.col, line.pixels.len().div_ceil(SIDE));
        fastest(TiledPiece { conv: self, below, same, piece, col, tiles, room });
    }
}

/// A block of output channels that is packed.
struct Packing<'a> {
    conv: &'a FoldedConv,
    output: usize,
    /// Of each lane of each input block.
    channels: &'a [Option<usize>],
    blocks: [usize; 2],
    /// Where each place begins.
    first: [usize; PLACES],
    packed: &'a mut [Lanes],
}

impl WithSimd for Packing<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { conv, output, channels, blocks, first, packed } = self;
        let [inputs, outputs] = conv.channels;
        let lanes = BLOCK.min(outputs - output * BLOCK);
        let mut filters = [[0.0; BLOCK]; 9];
        for (row, input) in channels.iter().enumerate() {
            let Some(input) = input else { continue };
            for lane in 0..lanes {
                let filter = &conv.weight[((output * BLOCK + lane) * inputs + input) * 9..][..9];
                for k in 0..9 {
                    filters[k][lane] = f64::from(filter[k]);
                }
            }
            let doubled = row / BLOCK < blocks[0];
            for down in 0..READ {
                let across = across(&filters, FILTER[down]);
                for right in 0..READ {
                    let place = down * READ + right;
                    if has(doubled, place) {
                        let skips = !doubled && !has(true, place);
                        let row = if skips { row - blocks[0] * BLOCK } else { row };
                        for lane in 0..BLOCK {
                            let [a, b, c] = [0, 1, 2].map(|k| across[k][lane] * FILTER[right][k]);
                            packed[first[place] + row][lane] = (a + b + c) as f32;
                        }
                    }
                }
            }
        }
    }
}

/// The sums of filters' rows: with [`FILTER`] on both sides, a filter becomes its weights at all places.
#[inline(always)]
fn across(filters: &[[f64; BLOCK]; 9], weights: [f64; 3]) -> [[f64; BLOCK]; 3] {
    let mut across = [[0.0; BLOCK]; 3];
    for k in 0..3 {
        for lane in 0..BLOCK {
            let [a, b, c] = [0, 1, 2].map(|row| weights[row] * filters[3 * row + k][lane]);
            across[k][lane] = a + b + c;
        }
    }
    across
}

struct TiledPiece<'a, 'b> {
    conv: &'a TiledConv,
    below: Option<&'a Ring<Lanes>>,
    same: &'a Ring<Lanes>,
    piece: Piece<'b, Lanes>,
    /// The first column.
    col: i64,
    tiles: usize,
    room: &'a mut TileRoom,
}

impl WithSimd for TiledPiece<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // A block of channels in as many vectors.
        match S::F32_LANES {
            16 => self.run::<S, 2>(simd),
            8 => self.run::<S, 4>(simd),
            4 => self.run::<S, 8>(simd),
            2 => self.run::<S, 16>(simd),
            _ => self.run::<S, 32>(simd),
        }
    }
}

impl TiledPiece<'_, '_> {
    #[inline(always)]
    fn run<S: Simd, const VECTORS: usize>(mut self, simd: S) {
        self.read::<S, VECTORS>(simd);
        self.room.sums.resize(PLACES * self.tiles, [0.0; BLOCK]);
        let first = self.piece.block;
        let last = self.piece.lines.iter().map(|line| line.block).max().unwrap_or(first);
        for block in first..=last {
            self.multiply::<S, VECTORS>(simd, block);
            self.write::<S, VECTORS>(simd, block);
        }
    }

    /// The sums of each tile that is read.
    #[inline(always)]
    fn read<S: Simd, const VECTORS: usize>(&mut self, simd: S) {
        let (tiles, row, col) = (self.tiles, self.piece.row, self.col);
        let [doubled, same] = self.conv.blocks;
        let places = READ - 1;
        let of_doubled = places * places * tiles;
        self.room.read.resize(doubled * of_doubled + same * PLACES * tiles, [0.0; BLOCK]);
        let (coarse, fine) = self.room.read.split_at_mut(doubled * of_doubled);
        if let Some(below) = self.below {
            for (block, to) in coarse.chunks_exact_mut(of_doubled.max(1)).enumerate() {
                let rows = [0, 1, 2, 3].map(|down| below.row(((row - 1) >> 1) + down, block, (col - 1) >> 1));
                for tile in 0..tiles {
                    let at = SIDE / 2 * tile;
                    for vector in 0..VECTORS {
                        let across = [
                            doubled_sums(simd, load4::<S>(&rows[0][at..], vector)),
                            doubled_sums(simd, load4::<S>(&rows[1][at..], vector)),
                            doubled_sums(simd, load4::<S>(&rows[2][at..], vector)),
                            doubled_sums(simd, load4::<S>(&rows[3][at..], vector)),
                        ];
                        for k in 0..places {
                            let down =
                                doubled_sums(simd, [across[0][k], across[1][k], across[2][k], across[3][k]]);
                            for place in 0..places {
                                store::<S>(&mut to[(place * places + k) * tiles + tile], vector, down[place]);
                            }
                        }
                    }
                }
            }
        }
        for (block, to) in fine.chunks_exact_mut(PLACES * tiles).enumerate() {
            let rows = [0, 1, 2, 3, 4, 5].map(|down| self.same.row(row - 1 + down, block, col - 1));
            for tile in 0..tiles {
                let at = SIDE * tile;
                for vector in 0..VECTORS {
                    let across = [
                        sums(simd, every::<S>(&rows[0][at..], 1, vector)),
                        sums(simd, every::<S>(&rows[1][at..], 1, vector)),
                        sums(simd, every::<S>(&rows[2][at..], 1, vector)),
                        sums(simd, every::<S>(&rows[3][at..], 1, vector)),
                        sums(simd, every::<S>(&rows[4][at..], 1, vector)),
                        sums(simd, every::<S>(&rows[5][at..], 1, vector)),
                    ];
                    for k in 0..READ {
                        let down = sums(simd, column(&across, k));
                        for place in 0..READ {
                            store::<S>(&mut to[(place * READ + k) * tiles + tile], vector, down[place]);
                        }
                    }
                }
            }
        }
    }

    /// Multiplies each place's sums of all input channels by the weights of an output block.
    #[inline(always)]
    fn multiply<S: Simd, const VECTORS: usize>(&mut self, simd: S, block: usize) {
        let tiles = self.tiles;
        let mut weights = &self.conv.weights[block][..];
        let [doubled, same] = self.conv.blocks;
        let per_doubled = (READ - 1) * (READ - 1);
        let mut seen_doubled = 0;
        for place in 0..PLACES {
            let in_doubled = has(true, place).then_some(seen_doubled);
            seen_doubled += usize::from(in_doubled.is_some());
            let coarse = in_doubled.into_iter().flat_map(|k| (0..doubled).map(move |b| b * per_doubled + k));
            let fine = (0..same).map(|b| doubled * per_doubled + b * PLACES + place);
            let count = same + if in_doubled.is_some() { doubled } else { 0 };
            let (mine, rest) = weights.split_at(count * BLOCK);
            weights = rest;
            let sources = coarse.chain(fine).map(|k| k * tiles);
            let out = &mut self.room.sums[place * tiles..][..tiles];
            products::<S, VECTORS>(simd, &sources, &self.room.read, mine, out);
        }
    }

    /// From the sums to the pixels of an output block.
    #[inline(always)]
    fn write<S: Simd, const VECTORS: usize>(&mut self, simd: S, block: usize) {
        let (tiles, row) = (self.tiles, self.piece.row);
        let bias = S::as_simd_f32s(&self.conv.bias[block][..]).0;
        let mut lines: [Option<&mut [Lanes]>; SIDE] = [const { None }; SIDE];
        for line in self.piece.lines.iter_mut().filter(|line| line.block == block) {
            lines[(line.row - row) as usize] = Some(&mut *line.pixels);
        }
        for tile in 0..tiles {
            for vector in 0..VECTORS {
                let of = &self.room.sums[tile..];
                let across = [
                    pixels(simd, every::<S>(of, tiles, vector)),
                    pixels(simd, every::<S>(&of[READ * tiles..], tiles, vector)),
                    pixels(simd, every::<S>(&of[2 * READ * tiles..], tiles, vector)),
                    pixels(simd, every::<S>(&of[3 * READ * tiles..], tiles, vector)),
                    pixels(simd, every::<S>(&of[4 * READ * tiles..], tiles, vector)),
                    pixels(simd, every::<S>(&of[5 * READ * tiles..], tiles, vector)),
                ];
                for k in 0..SIDE {
                    let down = pixels(simd, column(&across, k));
                    for row in 0..SIDE {
                        let Some(line) = &mut lines[row] else { continue };
                        let Some(to) = line.get_mut(SIDE * tile + k) else { continue };
                        store::<S>(to, vector, elu(simd, simd.add_f32s(down[row], bias[vector])));
                    }
                }
            }
        }
    }
}

/// `out[tile][output] = sum over inputs of read[source + tile][input] * weights[source][input][output]`.
#[inline(always)]
fn products<S: Simd, const VECTORS: usize>(
    simd: S,
    sources: &(impl Iterator<Item = usize> + Clone),
    read: &[Lanes],
    weights: &[Lanes],
    out: &mut [Lanes],
) {
    // As many tiles as there are registers for their sums beside weights and input.
    let most = if VECTORS == 2 { 14 } else { 2 };
    let mut first = 0;
    while first < out.len() {
        let (sources, out) = (sources.clone(), &mut out[first..]);
        first += match out.len().min(most) {
            14.. => first_products::<S, VECTORS, 14>(simd, sources, &read[first..], weights, out),
            12.. => first_products::<S, VECTORS, 12>(simd, sources, &read[first..], weights, out),
            10.. => first_products::<S, VECTORS, 10>(simd, sources, &read[first..], weights, out),
            8.. => first_products::<S, VECTORS, 8>(simd, sources, &read[first..], weights, out),
            6.. => first_products::<S, VECTORS, 6>(simd, sources, &read[first..], weights, out),
            4.. => first_products::<S, VECTORS, 4>(simd, sources, &read[first..], weights, out),
            2.. => first_products::<S, VECTORS, 2>(simd, sources, &read[first..], weights, out),
            _ => first_products::<S, VECTORS, 1>(simd, sources, &read[first..], weights, out),
        };
    }
}

/// [`products`] of the first `TILES`; gives their number.
#[inline(always)]
fn first_products<S: Simd, const VECTORS: usize, const TILES: usize>(
    simd: S,
    sources: impl Iterator<Item = usize>,
    read: &[Lanes],
    weights: &[Lanes],
    out: &mut [Lanes],
) -> usize {
    let mut sums = [[simd.splat_f32s(0.0); VECTORS]; TILES];
    for (source, weights) in sources.zip(weights.as_chunks::<BLOCK>().0) {
        let tiles = &read[source..][..TILES];
        for lane in 0..BLOCK {
            let weights = S::as_simd_f32s(&weights[lane][..]).0;
            for p in 0..TILES {
                let value = simd.splat_f32s(tiles[p][lane]);
                for j in 0..VECTORS {
                    sums[p][j] = simd.mul_add_e_f32s(value, weights[j], sums[p][j]);
                }
            }
        }
    }
    for (to, sums) in out.iter_mut().zip(sums) {
        for (vector, sum) in sums.into_iter().enumerate() {
            store::<S>(to, vector, sum);
        }
    }
    TILES
}

#[cfg(test)]
#[allow(clippy::print_stdout)]
mod tests {
    use super::super::stream::Wanted;
    use super::*;
    use crate::dice::Dice;

    const COLS: i64 = 62;

    /// Random pixels of `channels`, some around rows `rows` and columns 0..`cols`.
    fn drawn(channels: usize, rows: i64, cols: i64) -> Ring<Lanes> {
        let mut dice = Dice::new(4, &[]);
        let wanted = Wanted { rows: -3..rows + 3, spans: vec![-3..cols + 3; (rows + 6) as usize] };
        let blocks = channels.div_ceil(BLOCK);
        let mut ring: Ring<Lanes> = Ring::new(&wanted, (rows + 6) as usize, blocks, 0);
        let cut = Cut { rows: 1, cols: CutCols::Whole, blocks: 1 };
        for line in ring.pieces(-3..rows + 3, &wanted, cut).into_iter().flat_map(|p| p.lines) {
            for pixel in line.pixels {
                pixel[..BLOCK.min(channels - line.block * BLOCK)].fill_with(|| dice.unit() as f32 - 0.5);
            }
        }
        ring
    }

    fn conv(inputs: usize, outputs: usize) -> FoldedConv {
        let mut dice = Dice::new(5, &[]);
        let mut draw = |count| -> Vec<f32> { (0..count).map(|_| dice.unit() as f32 - 0.5).collect() };
        FoldedConv { channels: [inputs, outputs], weight: draw(inputs * outputs * 9), bias: draw(outputs) }
    }

    /// A piece of four rows from row 2 on: 37 channels of the level below and 5 of the same to 40.
    fn through(with: impl FnOnce(TiledPiece<'_, '_>)) -> Vec<f32> {
        let (below, same) = (drawn(37, 5, COLS / 2 + 2), drawn(5, 8, COLS + 2));
        let wanted = Wanted { rows: 2..6, spans: vec![2..COLS; 4] };
        let mut out = Ring::new(&wanted, 4, 2, 0);
        let tiled = TiledConv::new(&conv(42, 40), 37);
        let cut = Cut { cols: CutCols::Whole, ..TiledConv::cut(2) };
        let piece = out.pieces(2..6, &wanted, cut).swap_remove(0);
        let tiles = (COLS as usize - 2) / SIDE;
        let (below, room) = (Some(&below), &mut TileRoom::default());
        with(TiledPiece { conv: &tiled, below, same: &same, piece, col: 2, tiles, room });
        let pixel = |k: i64| (2 + k / 60, 2 + k % 60);
        (0..4 * 60 * 40)
            .map(|k| (pixel(k / 40), (k % 40) as usize))
            .map(|((row, col), channel)| out.row(row, channel / BLOCK, col)[0][channel % BLOCK])
            .collect()
    }

    /// The definition, in f64.
    fn defined() -> Vec<f32> {
        let (below, same) = (drawn(37, 5, COLS / 2 + 2), drawn(5, 8, COLS + 2));
        let conv = conv(42, 40);
        let read = |input: usize, row: i64, col: i64| match input.checked_sub(37) {
            None => below.row(row >> 1, input / BLOCK, col >> 1)[0][input % BLOCK],
            Some(input) => same.row(row, 0, col)[0][input],
        };
        let value = |row: i64, col: i64, output: usize| {
            let mut sum = f64::from(conv.bias[output]);
            for k in 0..42 * 9 {
                let (input, row, col) = (k / 9, row + k as i64 % 9 / 3 - 1, col + k as i64 % 3 - 1);
                sum += f64::from(conv.weight[output * 42 * 9 + k]) * f64::from(read(input, row, col));
            }
            if sum > 0.0 { sum as f32 } else { sum.exp_m1() as f32 }
        };
        (0..4 * 60 * 40i64).map(|k| value(2 + k / 2400, 2 + k / 40 % 60, (k % 40) as usize)).collect()
    }

    #[test]
    fn tiles_of_both_sources_give_the_definitions_sums_on_every_kind_of_vector() {
        let wanted = defined();
        let close = |name: &str, answer: &[f32]| {
            let off = answer.iter().zip(&wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            let size = wanted.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            println!("{name}: largest difference {off:.1e}, of values to {size:.1}");
            assert!(off < 1e-5 * size, "{name}: {off}");
        };
        close("scalar", &through(|piece| Simd::vectorize(pulp::Scalar, piece)));
        #[cfg(target_arch = "x86_64")]
        {
            match pulp::x86::V3::try_new() {
                Some(simd) => close("AVX2", &through(|piece| Simd::vectorize(simd, piece))),
                None => println!("not run: no AVX2 here"),
            }
            match pulp::x86::V4::try_new() {
                Some(simd) => close("AVX-512", &through(|piece| Simd::vectorize(simd, piece))),
                None => println!("not run: no AVX-512 here"),
            }
        }
    }
}
