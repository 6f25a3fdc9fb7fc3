//! The network's units as a training step meets them, and the memory that a step needs.

use cubecl::prelude::Client;

use super::norm::{BUSY, Shape, Split};
use super::packing::Order;
use super::weights::Slopes;
use crate::unet::gpu::Buffer;
use crate::unet::gpu::kernels::{CHANNELS, Conv, Form, Matrices, Reading, Source};
use crate::unet::gpu::pack::padded;
use crate::unet::layout::{Unit, units};

/// Pixels that a workgroup adds up at least.
const LEAST_PX: usize = 256;
/// The parts of the slopes of a convolution's weights take no more than this.
const PARTS_BYTES: usize = 64 << 20;

/// Where a unit reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// The crops.
    Grey,
    /// The unit before it.
    Before,
    /// The unit before it, through the pooling.
    Above,
    /// The unit before it, doubled, and the encoder's of its level.
    BelowAnd(usize),
}

/// A unit of the network.
pub struct Layer {
    pub unit: Unit,
    pub reads: Reads,
    pub level: usize,
    /// Where its parameters begin.
    pub at: usize,
    /// Where its channels, with padding, begin among those of all units.
    pub channel0: usize,
    /// None of the first, which reads grey levels.
    pub inner: Option<Inner>,
}

/// A convolution of a unit that reads activations.
pub struct Inner {
    pub forth: Product,
    /// From the slopes of its sums to those of what it read.
    pub back: Product,
    pub slopes: Slopes,
}

/// A convolution and its packed weights.
pub struct Product {
    pub conv: Conv,
    pub order: Order,
    pub weights: Buffer,
}

impl Product {
    fn new(
        client: &Client,
        (first, second): (Source, Option<Source>),
        outputs: usize,
        matrices: Option<Matrices>,
        bytes: usize,
    ) -> Self {
        let conv = Conv::new(first, second, outputs, matrices);
        let conv = Conv { form: Form { elu: false, ..conv.form }, ..conv };
        let (order, bytes) = match matrices {
            Some(_) => (Order::Matrices { chunk: conv.form.chunk }, bytes),
            None => (Order::Numbers { chunk: conv.form.chunk, block: conv.form.block }, 4),
        };
        let weights = Buffer::new(client, conv.weights() / 4, 4 * bytes);
        Self { conv, order, weights }
    }
}

impl Layer {
    /// All of a network of `widths`, whose activations take `bytes` each.
    pub fn all(client: &Client, widths: &[usize], matrices: Option<Matrices>, bytes: usize) -> Vec<Self> {
        let levels = widths.len();
        let (mut at, mut channel0) = (0, 0);
        let layer = |(k, unit): (usize, Unit)| {
            let level = (k / 2).min(2 * (levels - 1) - k / 2);
            let reads = match k {
                0 => Reads::Grey,
                _ if k % 2 == 1 => Reads::Before,
                _ if k < 2 * levels => Reads::Above,
                _ => Reads::BelowAnd(2 * level + 1),
            };
            let source = |channels, reading| Source { channels: padded(channels), reading };
            let sources = match reads {
                Reads::Grey => None,
                Reads::Before | Reads::Above => Some((source(unit.inputs, Reading::Same), None)),
                Reads::BelowAnd(_) => Some((
                    source(widths[level + 1], Reading::Doubled),
                    Some(source(widths[level], Reading::Same)),
                )),
            };
            let inner = sources.map(|(first, second)| {
                let slopes = Slopes::new(first, second, padded(unit.outputs), matrices);
                let product = |sources, outputs| Product::new(client, sources, outputs, matrices, bytes);
                Inner {
                    forth: product((first, second), slopes.outputs),
                    back: product((source(unit.outputs, Reading::Same), None), slopes.inputs()),
                    slopes,
                }
            });
            let weights = 9 * unit.inputs * unit.outputs;
            let layer = Self { unit, reads, level, at, channel0, inner };
            at += weights + 3 * layer.unit.outputs;
            channel0 += layer.outputs_padded();
            layer
        };
        units(widths).into_iter().enumerate().map(layer).collect()
    }

    /// Where its gamma is among all parameters; its beta is behind.
    pub fn gamma(&self) -> usize {
        let Unit { inputs, outputs, .. } = self.unit;
        self.at + 9 * inputs * outputs + outputs
    }

    /// Where its parameters end.
    pub fn end(&self) -> usize {
        self.gamma() + 2 * self.unit.outputs
    }

    /// Its bias, gamma and beta among all parameters.
    pub fn parts<'a>(&self, values: &'a [f32]) -> [&'a [f32]; 3] {
        let outputs = self.unit.outputs;
        [0, 1, 2].map(|k| &values[self.gamma() - outputs + k * outputs..][..outputs])
    }

    /// Channels of each source, with the first one's padding.
    pub fn inputs(&self) -> [usize; 3] {
        let skipped = match self.reads {
            Reads::BelowAnd(_) => self.unit.outputs,
            Reads::Grey => return [1, 1, 0],
            Reads::Before | Reads::Above => 0,
        };
        let first = self.unit.inputs - skipped;
        [first, padded(first), skipped]
    }

    /// With padding.
    pub fn inputs_padded(&self) -> usize {
        self.inner.as_ref().map_or(1, |inner| inner.slopes.inputs())
    }

    /// With padding.
    pub fn outputs_padded(&self) -> usize {
        padded(self.unit.outputs)
    }
}

/// Memory for crops of one shape.
pub struct Room {
    /// Crops and their side.
    pub shape: (usize, usize),
    pub grey: Buffer,
    pub mask: Buffer,
    /// What streams of random numbers begin from, of all units and crops.
    pub starts: Buffer,
    /// Mean and variance of all units.
    pub seen: Buffer,
    /// A f32 a pixel: logits, then their slopes.
    pub logits: Buffer,
    /// How pixels are cut where the loss is added up, and parts of its sums, then of its slopes.
    pub split: Split,
    pub judged: Buffer,
    /// Parts of the slopes of the head's weights.
    pub head: Buffer,
    /// Parts of the slopes of a convolution's weights, one unit's at a time.
    pub parts: Buffer,
    pub layers: Vec<LayerRoom>,
}

/// What a unit keeps.
pub struct LayerRoom {
    pub shape: Shape,
    pub pixels: usize,
    /// The convolution's sums.
    pub z: Buffer,
    /// The unit's answer; on the way back its slopes, then those of the convolution's sums.
    pub y: Buffer,
    /// What it reads, where that is pooled; on the way back slopes of what it read, where that lies otherwise than its pixels.
    pub wide: Option<Buffer>,
    /// Of its batch norm.
    pub table: Buffer,
    /// Of the slopes of its batch norm.
    pub means: Buffer,
    /// Parts of sums a channel.
    pub sums: Buffer,
    /// Where its streams' begins are.
    pub start0: usize,
    /// How pixels are cut where they are added up, and tiles, or pixels of grey, for the weights' slopes.
    pub split: Split,
    pub tiles: Split,
}

impl Room {
    /// For `count` crops of `side` px; activations take `bytes` each.
    pub fn new(
        client: &Client,
        layers: &[Layer],
        (count, side): (usize, usize),
        bytes: usize,
        drawn: bool,
    ) -> Self {
        let buffer = |elements, bytes| Buffer::new(client, elements, bytes);
        let mut parts = 1;
        let room = |(unit, layer): (usize, &Layer)| {
            let side = side >> layer.level;
            let (channels, pixels) = (layer.outputs_padded(), count * side * side);
            let fours = channels / 4;
            let split = Split::new(pixels, BUSY * CHANNELS / channels, LEAST_PX);
            let taps = 9 * layer.inputs_padded() * fours;
            let fits = (PARTS_BYTES / (16 * taps)).max(1);
            let tiles = match &layer.inner {
                Some(Inner { slopes, .. }) => {
                    Split::new(count * Slopes::tiles(side), slopes.parts().min(fits), 1)
                }
                None => Split::new(pixels, (BUSY * CHANNELS / channels).min(fits), LEAST_PX),
            };
            parts = parts.max(tiles.parts() * taps);
            let wide = matches!(layer.reads, Reads::Above | Reads::BelowAnd(_));
            LayerRoom {
                shape: Shape { channels, side, drawn },
                pixels,
                z: buffer(pixels * fours, 4 * bytes),
                y: buffer(pixels * fours, 4 * bytes),
                wide: wide.then(|| buffer(pixels * layer.inputs_padded() / 4, 4 * bytes)),
                table: buffer(4 * fours, 16),
                means: buffer(2 * fours, 16),
                sums: buffer(split.parts() * 2 * fours, 16),
                start0: unit * count,
                split,
                tiles,
            }
        };
        let channels: usize = layers.iter().map(Layer::outputs_padded).sum();
        let layers: Vec<_> = layers.iter().enumerate().map(room).collect();
        let pixels = count * side * side;
        let head = layers.last().map_or(1, |last| last.sums.elements / 2);
        let split = Split::new(pixels, BUSY, LEAST_PX);
        Self {
            shape: (count, side),
            grey: buffer(pixels.div_ceil(4), 4),
            mask: buffer(pixels.div_ceil(4), 4),
            starts: buffer(layers.len() * count * 2, 4),
            seen: buffer(channels / 2, 16),
            logits: buffer(pixels, 4),
            split,
            judged: buffer(2 * split.parts(), 16),
            head: buffer(head, 16),
            parts: buffer(parts, 16),
            layers,
        }
    }
}
