//! Weights in the order in which the kernels read them, padded with zeros.

use rayon::prelude::*;

use super::kernels::{CHANNELS, Conv};
use crate::unet::weights::FoldedConv;

/// Channels with their padding.
pub fn padded(channels: usize) -> usize {
    channels.next_multiple_of(CHANNELS)
}

/// The weights of a convolution, by output, input and tap.
pub struct Taps<'a> {
    conv: &'a FoldedConv,
    /// Which of its inputs each padded one is.
    inputs: Vec<Option<usize>>,
}

impl<'a> Taps<'a> {
    /// `sources` are the channels of each source.
    pub fn new(conv: &'a FoldedConv, sources: &[usize]) -> Self {
        let mut inputs = Vec::new();
        let mut before = 0;
        for &channels in sources {
            inputs.extend((0..padded(channels)).map(|k| (k < channels).then_some(before + k)));
            before += channels;
        }
        Self { conv, inputs }
    }

    fn at(&self, output: usize, input: usize, tap: usize) -> f32 {
        let [inputs, outputs] = self.conv.channels;
        match self.inputs[input] {
            Some(input) if output < outputs => self.conv.weight[(output * inputs + input) * 9 + tap],
            _ => 0.0,
        }
    }

    /// `[chunk][output][tap][chunk's channels]`, of an output eight zeros more.
    pub fn matrices(&self, conv: &Conv) -> Vec<f32> {
        let (chunk, each) = (conv.form.chunk, conv.form.weights_stride() * 8);
        let mut all = vec![0.0; conv.weights()];
        all.par_chunks_exact_mut(each * conv.outputs).enumerate().for_each(|(part, all)| {
            for (output, all) in all.chunks_exact_mut(each).enumerate() {
                for (tap, channels) in all.chunks_exact_mut(chunk).take(9).enumerate() {
                    for (input, to) in (part * chunk..).zip(channels) {
                        *to = self.at(output, input, tap);
                    }
                }
            }
        });
        all
    }

    /// `[chunk][outputs / block][tap][chunk's channels][block]`.
    pub fn numbers(&self, conv: &Conv) -> Vec<f32> {
        let (chunk, block) = (conv.form.chunk, conv.form.block);
        let mut all = vec![0.0; conv.weights()];
        all.par_chunks_exact_mut(9 * chunk * block).enumerate().for_each(|(part, all)| {
            let blocks = conv.outputs / block;
            let (input0, output0) = (part / blocks * chunk, part % blocks * block);
            for (k, outputs) in all.chunks_exact_mut(block).enumerate() {
                for (output, to) in (output0..).zip(outputs) {
                    *to = self.at(output, input0 + k % chunk, k / chunk);
                }
            }
        });
        all
    }

    /// `[tap][outputs]` of the first input.
    pub fn grey(&self, outputs: usize) -> Vec<f32> {
        (0..9).flat_map(|tap| (0..outputs).map(move |output| self.at(output, 0, tap))).collect()
    }
}

/// `values` and zeros.
pub fn zero_padded(values: &[f32], count: usize) -> Vec<f32> {
    let mut all = values.to_vec();
    all.resize(count, 0.0);
    all
}
