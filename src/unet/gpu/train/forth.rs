//! A step's way forth: crops to logits.

use std::ops::Range;

use anyhow::{Context, Result};
use cubecl::bytes::Bytes;
use cubecl::ir::{ElemType, FloatKind};
use cubecl::prelude::CubeCount;

use super::carry::logits;
use super::judge::{Kind, loss_sums};
use super::layers::{Inner, Layer, LayerRoom, Product, Reads, Room};
use super::norm::{activate, moments, settle};
use super::packing::{Order, pack, pack_one};
use super::{Buffer, GpuReplica, UNITS, floats, stretches};
use crate::unet::direct::Dropout;
use crate::unet::gpu::kernels::CHANNELS;
use crate::unet::gpu::launch::{convolve_grey, pooled};
use crate::unet::layout::BATCH_NORM_EPS;
use crate::unet::replica::{Place, Share, Sums};

impl GpuReplica {
    /// Sends crops and begins of streams of random numbers.
    pub(super) fn begin(&mut self, room: &Room, Share { crops, place, .. }: Share<'_>) {
        self.drawn = Dropout::new(self.seed, place.step, self.network.dropout);
        for (to, bytes) in [(&room.grey, &crops.pixels), (&room.mask, &crops.mask)] {
            let mut bytes = bytes.clone();
            bytes.resize(to.elements * 4, 0);
            self.client.write(&to.handle, Bytes::from_bytes_vec(bytes));
        }
        self.client.write(&room.starts.handle, Bytes::from_elems(self.starts(room, place)));
    }

    /// What the streams of random numbers of each unit and crop begin from, low and high halves.
    fn starts(&self, room: &Room, place: Place) -> Vec<u32> {
        let crops = place.first_crop..place.first_crop + room.shape.0 as u64;
        let all = (0..self.layers.len()).flat_map(|unit| crops.clone().map(move |crop| (unit, crop)));
        let halves = all.map(|(unit, crop)| self.drawn.dice(crop, unit).state());
        halves.flat_map(|state| [state as u32, (state >> 32) as u32]).collect()
    }

    /// Packs a unit's weights, after they and what follows them have been sent if they are `given`.
    fn send(&self, layer: &Layer, given: Option<&[f32]>) {
        if let Some(values) = given {
            self.put(layer.at..layer.end(), values);
        }
        if let Some(Inner { forth, back, .. }) = &layer.inner {
            self.pack(layer, forth, false);
            self.pack(layer, back, true);
        } else {
            self.pack_one(layer.at, &self.grey, 9, layer.unit.outputs);
        }
    }

    /// The same of the head.
    fn send_head(&self, given: Option<&[f32]>) {
        let count = self.network.widths[0];
        let at = self.values.elements - count - 1;
        if let Some(values) = given {
            self.put(at..self.values.elements, values);
        }
        self.pack_one(at, &self.head, 1, count);
    }

    fn put(&self, at: Range<usize>, values: &[f32]) {
        self.client.write(&self.values.part(at.clone()), Bytes::from_elems(values[at].to_vec()));
    }

    fn pack_one(&self, at: usize, to: &Buffer, taps: usize, outputs: usize) {
        let packed = Buffer { handle: to.handle.clone(), elements: to.elements * 4 };
        pack_one::launch(
            &self.client,
            self.each(packed.elements),
            UNITS,
            self.values.arg(),
            packed.arg(),
            at,
            taps,
            outputs,
        );
    }

    fn pack(&self, layer: &Layer, product: &Product, back: bool) {
        let [first, first_padded, second] = layer.inputs();
        let kind = match product.order {
            Order::Matrices { .. } => self.kind,
            Order::Numbers { .. } => ElemType::Float(FloatKind::F32),
        };
        pack::launch(
            &self.client,
            self.each(product.weights.elements),
            UNITS,
            self.values.arg(),
            product.weights.arg(),
            layer.at,
            product.conv.outputs,
            first,
            first_padded,
            second,
            layer.unit.outputs,
            product.order,
            back,
            kind,
        );
    }

    /// A unit's sums in `z`.
    fn sum(&self, room: &Room, k: usize) {
        let LayerRoom { shape, z, wide, .. } = &room.layers[k];
        if let Some(Inner { forth, .. }) = &self.layers[k].inner {
            if let (Reads::Above, Some(to)) = (self.layers[k].reads, wide) {
                let (from, channels) = (&room.layers[k - 1].y, forth.conv.first.channels);
                pooled(&self.client, self.kind, [from, to], (room.shape.0, shape.side, channels));
            }
            self.convolve((room.shape.0, shape.side), forth, self.sources(room, k), z);
            return;
        }
        let buffers = [&room.grey, &self.grey, &self.zeros, z];
        convolve_grey(&self.client, self.kind, buffers, (room.shape.0, shape.side, shape.channels), false);
    }

    /// Starts on the sums over a unit's values.
    fn add_up(&self, layer: &LayerRoom) {
        moments::launch(
            &self.client,
            stretches(layer.split, layer.shape.channels),
            UNITS,
            layer.z.arg(),
            layer.sums.arg(),
            layer.pixels,
            layer.split.each,
            layer.shape.channels,
            self.kind,
        );
    }

    /// Mean and variance of unit `k` into its table, on the device.
    fn settle(&self, room: &Room, k: usize) {
        let layer = &room.layers[k];
        let channels = layer.shape.channels;
        settle::launch(
            &self.client,
            CubeCount::Static((channels / CHANNELS) as u32, 1, 1),
            UNITS,
            layer.sums.arg(),
            self.values.arg(),
            layer.table.arg(),
            room.seen.arg(),
            self.layers[k].gamma(),
            self.layers[k].unit.outputs,
            self.layers[k].channel0 / 2,
            layer.split.parts(),
            layer.pixels,
            layer.split.each,
            BATCH_NORM_EPS as f32,
            channels,
        );
    }

    /// Sums of a unit's values and of their squares over this share; its bias counts.
    fn moments(&self, layer: &LayerRoom, bias: &[f32]) -> Result<Vec<f64>> {
        let parts: Vec<f32> = floats(&self.wait(self.ask(vec![layer.sums.handle.clone()]))?[0]).collect();
        let (channels, pixels) = (layer.shape.channels, layer.pixels as f64);
        let part = |part: usize, half: usize| &parts[(2 * part + half) * channels..][..channels];
        let mut means = vec![0.0; channels];
        for k in 0..layer.split.parts() {
            means.iter_mut().zip(part(k, 0)).for_each(|(mean, &sum)| *mean += f64::from(sum) / pixels);
        }
        // Squares of the distances from this share's mean: exact where the mean is large.
        let mut squares = vec![0.0; channels];
        for k in 0..layer.split.parts() {
            let count = layer.split.of(k) as f64;
            for (((to, &sum), &own), mean) in squares.iter_mut().zip(part(k, 0)).zip(part(k, 1)).zip(&means) {
                let away = f64::from(sum) / count - mean;
                *to += f64::from(own) + count * away * away;
            }
        }
        let biased: Vec<f64> = means.iter().zip(bias).map(|(mean, &bias)| mean + f64::from(bias)).collect();
        let mut all: Vec<f64> = biased.iter().map(|mean| mean * pixels).collect();
        all.extend(biased.iter().zip(&squares).map(|(mean, q)| q + mean * mean * pixels));
        all.push(pixels);
        Ok(all)
    }

    /// As [`Self::settle`], of all replicas.
    fn settle_with(&mut self, room: &Room, k: usize, values: &[f32], sums: &dyn Sums) -> Result<()> {
        let (layer, outputs) = (&room.layers[k], self.layers[k].unit.outputs);
        let [bias, gamma, beta] = self.layers[k].parts(values);
        let mut all = self.moments(layer, bias)?;
        sums.add(&mut all)?;
        let pixels = all[2 * outputs];
        let channels = layer.shape.channels;
        let at = self.seen_at(k);
        let mut table = vec![0.0; 4 * channels];
        for channel in 0..outputs {
            let mean = all[channel] / pixels;
            let variance = (all[outputs + channel] / pixels - mean * mean).max(0.0);
            self.seen[at + channel] = mean as f32;
            self.seen[at + outputs + channel] = variance as f32;
            table[channel] = (mean - f64::from(bias[channel])) as f32;
            table[channels + channel] = (1.0 / (variance + BATCH_NORM_EPS).sqrt()) as f32;
            table[2 * channels + channel] = gamma[channel];
            table[3 * channels + channel] = beta[channel];
        }
        self.pixels[k] = pixels;
        self.write(&layer.table, table);
        Ok(())
    }

    /// Where the statistics of unit `k` begin.
    fn seen_at(&self, k: usize) -> usize {
        self.layers[..k].iter().map(|layer| 2 * layer.unit.outputs).sum()
    }

    /// Takes over what [`Self::settle`] has found.
    pub(super) fn see(&mut self, found: &Bytes) {
        let found: Vec<f32> = floats(found).collect();
        for k in 0..self.layers.len() {
            let (at, layer) = (self.seen_at(k), &self.layers[k]);
            let (outputs, channels) = (layer.unit.outputs, layer.outputs_padded());
            for (half, found) in found[2 * layer.channel0..].chunks_exact(channels).take(2).enumerate() {
                self.seen[at + half * outputs..][..outputs].copy_from_slice(&found[..outputs]);
            }
        }
    }

    /// Batch norm, ELU and dropout: `z` to `y`.
    fn activate(&self, room: &Room, layer: &LayerRoom) {
        activate::launch(
            &self.client,
            self.each(layer.y.elements / 2),
            UNITS,
            layer.z.arg(),
            layer.y.arg(),
            layer.table.arg(),
            room.starts.arg(),
            layer.start0,
            self.drawn.silenced as u32,
            self.drawn.louder(),
            layer.shape,
            self.kind,
        );
    }

    /// Through the network at the parameters that are `given`, or that the device has: to parts of the loss's sums.
    pub(super) fn forth(
        &mut self,
        room: &Room,
        given: Option<&[f32]>,
        share: Share<'_>,
        sums: &dyn Sums,
    ) -> Result<()> {
        self.begin(room, share);
        self.send(&self.layers[0], given);
        self.send_head(given);
        for k in 0..self.layers.len() {
            self.sum(room, k);
            self.add_up(&room.layers[k]);
            // While the device is at work.
            if let Some(next) = self.layers.get(k + 1) {
                self.send(next, given);
            }
            if sums.alone() {
                self.settle(room, k);
            } else {
                let values = given.context("who shares statistics has its parameters from the host")?;
                self.settle_with(room, k, values, sums)?;
            }
            self.activate(room, &room.layers[k]);
        }
        let last = room.layers.last().context("a network without units")?;
        logits::launch(
            &self.client,
            self.each(room.logits.elements),
            UNITS,
            last.y.arg(),
            self.head.arg(),
            self.values.arg(),
            room.logits.arg(),
            last.shape.channels,
            self.kind,
        );
        let (kind, [gamma, alpha]) = Kind::of(share.loss);
        loss_sums::launch(
            &self.client,
            CubeCount::Static(room.split.parts() as u32, 1, 1),
            UNITS,
            room.logits.arg(),
            room.grey.arg(),
            room.mask.arg(),
            room.judged.arg(),
            room.split.count,
            room.split.each,
            gamma,
            alpha,
            kind,
        );
        Ok(())
    }
}
