//! What a network's convolutions are on a device: where each reads and writes, and in which sizes it is cut.

use std::fmt;
use std::ops::Range;

use cubecl::ir::features::{Plane, TypeUsage};
use cubecl::ir::{ElemType, FloatKind};
use cubecl::prelude::Client;

use super::kernels::{CHANNELS, Conv, Cut, Form, Matrices, Reading, Source, TILE};
use super::pack::padded;
use crate::config::Precision;

/// A convolution after the first.
pub struct Step {
    pub conv: Conv,
    /// Channels of its sources, without padding.
    pub channels: Vec<usize>,
    pub level: usize,
    /// Of the activations, two a level; the second is the first where there is one only.
    pub sources: [usize; 2],
    /// Whether what it reads is pooled before.
    pub pooled: bool,
    pub out: usize,
}

impl Step {
    /// All of a network, in the order of its units. A block's first unit writes the first activation of its level, its
    /// second the second: in the decoder that is the skip, which then has been read.
    pub fn all(widths: &[usize], matrices: Option<Matrices>) -> Vec<Self> {
        let step = |from: &[(usize, Reading)], out: usize| {
            let channels: Vec<_> = from.iter().map(|(source, _)| widths[source / 2]).collect();
            let source = |&(source, reading): &(usize, Reading)| Source {
                channels: padded(widths[source / 2]),
                reading,
            };
            let outputs = padded(widths[out / 2]);
            let conv = Conv::new(source(&from[0]), from.get(1).map(source), outputs, matrices);
            let sources = [from[0].0, from.last().map_or(0, |last| last.0)];
            Self { conv, channels, level: out / 2, sources, pooled: false, out }
        };
        let mut all = Vec::new();
        for level in 0..widths.len() {
            if level > 0 {
                let above = step(&[(2 * level - 1, Reading::Same)], 2 * level);
                all.push(Self { pooled: true, ..above });
            }
            all.push(step(&[(2 * level, Reading::Same)], 2 * level + 1));
        }
        for level in (0..widths.len() - 1).rev() {
            let below = (2 * level + 3, Reading::Doubled);
            all.push(step(&[below, (2 * level + 1, Reading::Same)], 2 * level));
            all.push(step(&[(2 * level, Reading::Same)], 2 * level + 1));
        }
        all
    }
}

/// Rows, or columns, of its level that each of a network's steps must compute so that those `asked` for are right, in
/// windows of `side` px.
pub fn needed<'a>(
    steps: impl DoubleEndedIterator<Item = &'a Step>,
    levels: usize,
    side: usize,
    asked: Range<usize>,
) -> Vec<Range<usize>> {
    // Of each activation as it is when a step has been taken; what the first convolution computes is not looked at.
    let mut wanted = vec![None; 2 * levels];
    wanted[1] = Some(asked);
    let mut all = Vec::new();
    for step in steps.rev() {
        let own = wanted[step.out].take().unwrap_or(0..0);
        let around = own.start.saturating_sub(1)..(own.end + 1).min(side >> step.level);
        let sources = step.sources.into_iter().zip([Some(step.conv.first), step.conv.second]);
        for (source, reading) in sources.filter_map(|(k, source)| Some((k, source?.reading))) {
            let read = match reading {
                Reading::Same if step.pooled => 2 * around.start..2 * around.end,
                Reading::Same => around.clone(),
                Reading::Doubled => around.start / 2..around.end.div_ceil(2),
            };
            let before = wanted[source].get_or_insert(read.clone());
            *before = before.start.min(read.start)..before.end.max(read.end);
        }
        all.push(own);
    }
    all.reverse();
    all
}

impl Conv {
    /// Cut for the outputs of a workgroup, and for shared memory.
    pub fn new(first: Source, second: Option<Source>, outputs: usize, by: Option<Matrices>) -> Self {
        let matrices = by.map(|by| (by, Cut::new(by, outputs)));
        let (block, chunk) = match matrices {
            Some((by, cut)) => (cut.outputs(by), CHANNELS),
            None => (if outputs.is_multiple_of(32) { 32 } else { CHANNELS }, 8),
        };
        let second_read = second.map(|second| second.reading);
        let form = Form { first: first.reading, second: second_read, chunk, block, elu: true };
        Self { first, second, outputs, form, matrices }
    }

    /// Values of its packed weights.
    pub fn weights(&self) -> usize {
        let inputs = self.first.channels + self.second.map_or(0, |second| second.channels);
        match self.matrices {
            Some(_) => inputs / self.form.chunk * self.outputs * self.form.weights_stride() * 8,
            None => 9 * inputs * self.outputs,
        }
    }
}

impl Cut {
    /// Where few outputs share what is read, more rows do.
    fn new(by: Matrices, outputs: usize) -> Self {
        let cuts = [(TILE, 2, 2), (2 * TILE, 2, 1), (2 * TILE, 1, 1)];
        let cuts = cuts.map(|(rows, parts, across)| Self { rows, parts, across });
        cuts.into_iter().find(|cut| outputs.is_multiple_of(cut.outputs(by))).unwrap_or(cuts[2])
    }

    /// Tiles that a workgroup takes, of so many: a few, but a large device is to be busy.
    pub fn tiles_each(tiles: usize) -> usize {
        (tiles / 1024).clamp(1, 8)
    }

    /// Of a workgroup.
    fn outputs(self, by: Matrices) -> usize {
        self.parts * self.across * by.cols
    }
}

impl fmt::Display for Matrices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}x{}", self.rows, self.cols, self.depth)
    }
}

/// What activations are of.
pub fn kind(precision: Precision) -> ElemType {
    ElemType::Float(match precision {
        Precision::F32 => FloatKind::F32,
        Precision::F16 => FloatKind::F16,
        Precision::Bf16 => FloatKind::BF16,
    })
}

/// Whether the device keeps `kind` in memory and converts it.
pub fn storable(client: &Client, kind: ElemType) -> bool {
    client.features().type_usage(kind).is_superset(TypeUsage::Buffer | TypeUsage::Conversion)
}

/// The largest cooperative matrices of `kind` that add up in f32 and fit the kernels, if it is a half and the device
/// has such.
pub fn cooperative(client: &Client, kind: ElemType) -> Option<Matrices> {
    let hardware = &client.properties().hardware;
    let plane = hardware.plane_size_max;
    // A workgroup is laid out in whole planes, so that their size must be known.
    let certain = plane == hardware.plane_size_min && client.features().plane.contains(Plane::Sync);
    let fits = |size: u32| [8, 16].contains(&size);
    let sum = ElemType::Float(FloatKind::F32);
    let all = client.features().matmul.cmma.iter().filter(|matrix| {
        certain
            && kind != sum
            && (matrix.a_type, matrix.b_type, matrix.cd_type) == (kind, kind, sum)
            && [matrix.m, matrix.n, matrix.k].into_iter().all(fits)
    });
    let largest = all.max_by_key(|matrix| matrix.m * matrix.n * matrix.k)?;
    let [rows, cols, depth, plane] = [largest.m, largest.n, largest.k, plane].map(|size| size as usize);
    let by = Matrices { rows, cols, depth, plane };
    let fits = |outputs| {
        let any = Source { channels: CHANNELS, reading: Reading::Same };
        let conv = Conv::new(any, None, outputs, Some(by));
        Cut::new(by, outputs).shared(&conv.form, by) * 16 <= hardware.max_shared_memory_size
    };
    [cols, 2 * cols, 4 * cols].into_iter().all(fits).then_some(by)
}
