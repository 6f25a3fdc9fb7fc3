//! The network's convolutions in f32, each packed for the way that takes fewest steps.

use super::conv::{Conv, Packed};
use super::kernel::{BLOCK, ConvRow, Finish, Group, Lanes, Rows, SLACK_PX, fastest};
use super::stream::{Convolution, Cut, CutCols, Picture, Piece, Pixel, Ring, Span};
use super::tiles::{TileRoom, TiledConv};
use crate::unet::weights::FoldedConv;

/// A convolution with its ELU.
pub enum Layer {
    /// Of few channels of one level: the definition.
    Rows(Conv),
    /// By tiles.
    Tiles(TiledConv),
}

/// What a thread needs beside.
#[derive(Default)]
pub struct Room {
    scratch: Vec<Lanes>,
    tiles: TileRoom,
}

impl Layer {
    /// The first `doubled` input channels come from the level below.
    pub fn new(conv: &FoldedConv, doubled: usize) -> Self {
        /// With fewer input channels than this most of a block of them would be zeros.
        const FEW: usize = 4;
        if doubled == 0 && conv.channels[0] < FEW {
            Self::Rows(Conv::folded(conv, doubled))
        } else {
            Self::Tiles(TiledConv::new(conv, doubled))
        }
    }
}

impl Convolution for Layer {
    type Pixel = Lanes;
    type Room = Room;
    const SLACK_PX: usize = 2 * SLACK_PX;

    fn group(&self) -> i64 {
        match self {
            Self::Rows(_) => 1,
            Self::Tiles(_) => TiledConv::GROUP,
        }
    }

    fn cut(&self, blocks: usize) -> Cut {
        match self {
            Self::Rows(_) => {
                Cut { rows: 1, cols: CutCols::Even { step: SLACK_PX as i64, most: 24 }, blocks: 1 }
            }
            Self::Tiles(_) => TiledConv::cut(blocks),
        }
    }

    fn compute(
        &self,
        below: Option<&Ring<Lanes>>,
        same: &Ring<Lanes>,
        piece: Piece<'_, Lanes>,
        room: &mut Room,
    ) {
        match self {
            Self::Rows(conv) => rows(conv, same, piece, &mut room.scratch),
            Self::Tiles(conv) => conv.compute(below, same, piece, &mut room.tiles),
        }
    }
}

impl Pixel for Lanes {
    /// The grey level, 0..=1, is the first channel.
    fn look(picture: &Picture<'_>, row: i64, cols: Span, line: &mut [Self]) {
        for (to, grey) in line.iter_mut().zip(picture.greys(row, cols)) {
            to[0] = f32::from(grey) / 255.0;
        }
    }

    fn halve(upper: &[Self], lower: &[Self], line: &mut [Self]) {
        fastest(|| {
            let pairs = upper.as_chunks::<2>().0.iter().zip(lower.as_chunks::<2>().0);
            for (to, (upper, lower)) in line.iter_mut().zip(pairs) {
                for lane in 0..BLOCK {
                    to[lane] = upper[0][lane].max(upper[1][lane]).max(lower[0][lane].max(lower[1][lane]));
                }
            }
        });
    }

    fn weigh(pixels: &[Self], weights: &Lanes, sums: &mut [f32]) {
        fastest(|| {
            for (sum, pixel) in sums.iter_mut().zip(pixels) {
                *sum += of_products(std::array::from_fn(|lane| pixel[lane] * weights[lane]));
            }
        });
    }
}

/// Their sum, in an order that any width of vectors can take.
// What is not inlined into the function made for certain vectors is compiled without them.
#[allow(clippy::inline_always)]
#[inline(always)]
pub fn of_products(mut products: Lanes) -> f32 {
    let mut half = BLOCK / 2;
    while half > 0 {
        for lane in 0..half {
            products[lane] += products[lane + half];
        }
        half /= 2;
    }
    products[0]
}

fn rows(conv: &Conv, source: &Ring<Lanes>, piece: Piece<'_, Lanes>, scratch: &mut Vec<Lanes>) {
    for line in piece.lines {
        let (row, col, out) = (line.row, line.col, line.pixels);
        scratch.resize(out.len() + SLACK_PX, [0.0; BLOCK]);
        let groups = conv.blocks[line.block].iter().map(|packed| {
            let Packed { block, first_lane, lanes, ref weights, .. } = *packed;
            let read = |down| source.row(row - 1 + down, block, col - 1);
            Group { rows: Rows::Same([0, 1, 2].map(read)), first_lane, lanes, weights }
        });
        ConvRow { groups, bias: &conv.bias[line.block], scratch, out, finish: Finish::Elu }.run();
    }
}
