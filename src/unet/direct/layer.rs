//! The network's convolutions, each packed for the way that takes fewest steps.

use super::conv::{Conv, Packed};
use super::kernel::{BLOCK, ConvRow, Finish, Group, Lanes, Rows, SLACK_PX};
use super::stream::{Cut, Piece, Ring};
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

    /// Rows and columns are computed in groups of so many, an even number or 1.
    pub fn group(&self) -> i64 {
        match self {
            Self::Rows(_) => 1,
            Self::Tiles(_) => TiledConv::GROUP,
        }
    }

    /// How an answer of `blocks` is cut for the threads.
    pub fn cut(&self, blocks: usize) -> Cut {
        match self {
            Self::Rows(_) => Cut { rows: 1, step: SLACK_PX as i64, steps: 24, blocks: 1 },
            Self::Tiles(_) => TiledConv::cut(blocks),
        }
    }

    /// Computes a piece of the answer.
    pub fn compute(&self, below: Option<&Ring>, same: &Ring, piece: Piece<'_>, room: &mut Room) {
        match self {
            Self::Rows(conv) => rows(conv, same, piece, &mut room.scratch),
            Self::Tiles(conv) => conv.compute(below, same, piece, &mut room.tiles),
        }
    }
}

fn rows(conv: &Conv, source: &Ring, piece: Piece<'_>, scratch: &mut Vec<Lanes>) {
    for (row, block, out) in piece.lines {
        scratch.resize(out.len() + SLACK_PX, [0.0; BLOCK]);
        let groups = conv.blocks[block].iter().map(|packed| {
            let Packed { block, first_lane, lanes, ref weights, .. } = *packed;
            let line = |down| source.row(row - 1 + down, block, piece.cols.start - 1);
            Group { rows: Rows::Same([0, 1, 2].map(line)), first_lane, lanes, weights }
        });
        ConvRow { groups, bias: &conv.bias[block], scratch, out, finish: Finish::Elu }.run();
    }
}
