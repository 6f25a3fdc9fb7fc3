//! The network's layers in f32.

use super::conv::{Conv, Packed};
use super::kernel::{BLOCK, ConvRow, Finish, Group, Lanes, Rows, SLACK_PX};
use super::stream::{Cut, Layer, Piece, Ring};
use super::tiles::{Room, TiledConv};
use crate::unet::weights::FoldedConv;

/// A layer, by the way that takes fewest steps.
pub enum Single {
    /// Of few channels: the definition.
    Rows(Conv),
    /// By tiles.
    Tiles(TiledConv),
}

impl Single {
    /// The first `doubled` input channels come from the level below.
    pub fn new(conv: &FoldedConv, doubled: usize) -> Self {
        /// With fewer input channels than this most of a block of them would be zeros.
        const FEW: usize = 4;
        if conv.channels[0] < FEW {
            Self::Rows(Conv::folded(conv, doubled))
        } else {
            Self::Tiles(TiledConv::new(conv, doubled))
        }
    }
}

impl Layer for Single {
    type Pixel = Lanes;
    type Room = (Vec<Lanes>, Room);
    const ZERO: Lanes = [0.0; BLOCK];

    fn input(pixel: &mut Lanes, grey: u8) {
        pixel[0] = f32::from(grey) / 255.0;
    }

    fn largest(of: [&Lanes; 4]) -> Lanes {
        std::array::from_fn(|lane| {
            let [a, b, c, d] = of.map(|pixel| pixel[lane]);
            a.max(b).max(c.max(d))
        })
    }

    fn dot(pixel: &Lanes, weights: &[f32]) -> f32 {
        pixel.iter().zip(weights).map(|(v, w)| v * w).sum()
    }

    fn group(&self) -> i64 {
        match self {
            Self::Rows(_) => 1,
            Self::Tiles(_) => TiledConv::GROUP,
        }
    }

    fn cut(&self, blocks: usize) -> Cut {
        match self {
            Self::Rows(_) => Cut { rows: 1, step: SLACK_PX as i64, steps: 24, blocks: 1 },
            Self::Tiles(_) => TiledConv::cut(blocks),
        }
    }

    fn compute(
        &self,
        below: Option<&Ring<Lanes>>,
        same: &Ring<Lanes>,
        piece: Piece<'_, Lanes>,
        (scratch, room): &mut Self::Room,
    ) {
        let conv = match self {
            Self::Rows(conv) => conv,
            Self::Tiles(conv) => return conv.compute(below, same, piece, room),
        };
        for (row, block, out) in piece.lines {
            scratch.resize(out.len() + SLACK_PX, Self::ZERO);
            let group = |packed: &'_ Packed| {
                let line = |down| same.row(row - 1 + down, packed.block, piece.cols.start - 1);
                let rows = Rows::Same([0, 1, 2].map(line));
                Group { rows, first_lane: packed.first_lane, lanes: packed.lanes, weights: &[] }
            };
            let groups =
                conv.blocks[block].iter().map(|packed| Group { weights: &packed.weights, ..group(packed) });
            ConvRow { groups, bias: &conv.bias[block], scratch, out, finish: Finish::Elu }.run();
        }
    }
}
