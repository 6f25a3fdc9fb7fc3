//! Activations of one window: planes of blocked channels with a border of zeros.

use rayon::prelude::*;

use super::conv::{Conv, Packed, Scale};
use super::kernel::{BLOCK, ConvRow, Finish, Group, Lanes, Rows, SLACK_PX};

/// Activations of one level.
pub struct Plane {
    rows: usize,
    cols: usize,
    /// A row with its border and slack.
    stride: usize,
    /// `[blocks][rows + 2][stride]`; everything but the pixels is zero.
    pixels: Vec<Lanes>,
}

impl Plane {
    pub fn new(channels: usize, rows: usize, cols: usize) -> Self {
        let stride = cols + 2 + SLACK_PX;
        let pixels = vec![[0.0; BLOCK]; channels.div_ceil(BLOCK) * (rows + 2) * stride];
        Self { rows, cols, stride, pixels }
    }

    /// A row of a block with its border; row 0 is the border above.
    pub fn row(&self, block: usize, row: usize) -> &[Lanes] {
        let at = (block * (self.rows + 2) + row) * self.stride;
        &self.pixels[at..at + self.stride]
    }

    /// The pixels at least `margin` from every side, a row of a block each, in parallel: block, row, pixels.
    pub fn par_rows(&mut self, margin: usize) -> impl ParallelIterator<Item = (usize, usize, &mut [Lanes])> {
        let (rows, cols) = (self.rows, self.cols);
        self.pixels.par_chunks_exact_mut(self.stride).enumerate().filter_map(move |(k, line)| {
            let (block, row) = (k / (rows + 2), k % (rows + 2));
            let wanted = (1 + margin..=rows - margin).contains(&row);
            wanted.then(|| (block, row - 1, &mut line[1 + margin..=cols - margin]))
        })
    }

    /// The largest of each 2x2 of `fine`.
    pub fn halve(&mut self, fine: &Self, margin: usize) {
        self.par_rows(margin).for_each(|(block, row, out)| {
            let [upper, lower] = [1, 2].map(|down| &fine.row(block, 2 * row + down)[1 + 2 * margin..]);
            let pairs = upper.chunks_exact(2).zip(lower.chunks_exact(2));
            for (out, (upper, lower)) in out.iter_mut().zip(pairs) {
                for lane in 0..BLOCK {
                    let [a, b] = [upper, lower].map(|pair| pair[0][lane].max(pair[1][lane]));
                    out[lane] = a.max(b);
                }
            }
        });
    }

    /// Computes what is at least `margin` from every side from the level's own planes and, `doubled`, from
    /// the level below; with a doubled source the margin is even.
    pub fn convolve(&mut self, conv: &Conv, doubled: Option<&Self>, same: &Self, margin: usize) {
        let scratch_px = self.cols + SLACK_PX;
        self.par_rows(margin).for_each_init(
            || vec![[0.0; BLOCK]; scratch_px],
            |scratch, (block, row, out)| {
                let groups = conv.blocks[block].iter().map(|packed| group(packed, doubled, same, row, margin));
                ConvRow { groups, bias: &conv.bias[block], scratch, out, finish: Finish::Elu }.run();
            },
        );
    }
}

/// What output row `row` needs of some packed channels, from column `margin` on.
fn group<'a>(
    packed: &'a Packed,
    doubled: Option<&'a Plane>,
    same: &'a Plane,
    row: usize,
    margin: usize,
) -> Group<'a> {
    let (rows, weights) = if let Some(plane) = doubled.filter(|_| packed.scale == Scale::Doubled) {
        let half = packed.weights.len() / 2;
        let line = |down| &plane.row(packed.block, row.div_ceil(2) + down)[margin / 2..];
        (Rows::Doubled([0, 1].map(line)), &packed.weights[row % 2 * half..][..half])
    } else {
        let line = |down| &same.row(packed.block, row + down)[margin..];
        (Rows::Same([0, 1, 2].map(line)), &packed.weights[..])
    };
    Group { rows, first_lane: packed.first_lane, lanes: packed.lanes, weights }
}
