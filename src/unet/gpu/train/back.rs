//! A step's way back: the loss's sums to the gradient.

use std::sync::mpsc::Sender;

use anyhow::Result;
use cubecl::prelude::{CubeCount, CubeDim};

use super::carry::{head_slopes, undouble, unpool};
use super::judge::{Kind, loss_slopes};
use super::layers::{Inner, LayerRoom, Reads, Room};
use super::norm::{norm_slopes, settle_slopes, sum_slopes};
use super::packing::{GATHERING, gather};
use super::weights::{NUMBER_UNITS, weight_slopes_grey, weight_slopes_matrices, weight_slopes_numbers};
use super::{Asked, Buffer, GpuReplica, UNITS, floats, stretches, total};
use crate::unet::gpu::kernels::CHANNELS;
use crate::unet::replica::{Alone, Share, Sums};

/// What is known of a unit's gradient: what is being read, and that of its batch norm, gamma's and beta's, where the host
/// has it.
struct Known<'a> {
    unit: usize,
    norm: Option<Vec<f32>>,
    asked: Asked<'a>,
}

impl GpuReplica {
    /// From the loss's sums, in `total`, to the slopes of what the head read, and the head's gradient.
    fn head_back(&self, room: &Room, share: Share<'_>) {
        let (kind, [gamma, alpha]) = Kind::of(share.loss);
        loss_slopes::launch(
            &self.client,
            CubeCount::Static(room.split.parts() as u32, 1, 1),
            UNITS,
            room.logits.arg(),
            room.grey.arg(),
            room.mask.arg(),
            self.total.arg(),
            room.judged.arg(),
            room.split.count,
            room.split.each,
            gamma,
            alpha,
            share.scale as f32,
            kind,
        );
        let Some(last) = room.layers.last() else { return };
        let channels = last.shape.channels;
        head_slopes::launch(
            &self.client,
            stretches(last.split, channels),
            UNITS,
            last.y.arg(),
            room.logits.arg(),
            self.head.arg(),
            room.head.arg(),
            last.pixels,
            last.split.each,
            channels,
            self.kind,
        );
        let (bias, outputs) = (self.gradient.elements - 1, self.network.widths[0]);
        self.add_parts(
            &room.head,
            (last.split.parts(), channels / 4),
            &self.gradient,
            bias - outputs,
            outputs,
        );
        self.add_parts(&room.judged, (room.split.parts(), 1), &self.gradient, bias, 1);
    }

    /// Starts on the sums over the slopes of unit `k`; those of one that hands over are brought together first.
    fn add_up_slopes(&self, room: &Room, k: usize) {
        let layer = &room.layers[k];
        if let Some((pooled, wide)) = self.split_slopes(room, k) {
            unpool::launch(
                &self.client,
                self.each(layer.y.elements / 4),
                UNITS,
                pooled.arg(),
                wide.arg(),
                layer.y.arg(),
                layer.shape.side / 2,
                layer.shape.channels,
                wide.elements * 4 / layer.pixels,
                self.kind,
            );
        }
        norm_slopes::launch(
            &self.client,
            stretches(layer.split, layer.shape.channels),
            UNITS,
            layer.z.arg(),
            layer.y.arg(),
            layer.table.arg(),
            room.starts.arg(),
            layer.sums.arg(),
            layer.start0,
            layer.pixels,
            layer.split.each,
            self.drawn.silenced as u32,
            self.drawn.louder(),
            layer.shape,
            self.kind,
        );
    }

    /// Slopes of unit `k` that came back through the pooling, and among others those of the hand-over, if it is one that
    /// hands over.
    fn split_slopes<'a>(&self, room: &'a Room, k: usize) -> Option<(&'a Buffer, &'a Buffer)> {
        let up = self.layers.iter().position(|layer| layer.reads == Reads::BelowAnd(k))?;
        Some((room.layers[k + 1].wide.as_ref()?, room.layers[up].wide.as_ref()?))
    }

    /// Sums and means of the slopes of the batch norm of unit `k`, on the device.
    fn settle_slopes(&self, room: &Room, k: usize) {
        let layer = &room.layers[k];
        let channels = layer.shape.channels;
        settle_slopes::launch(
            &self.client,
            CubeCount::Static((2 * channels / CHANNELS) as u32, 1, 1),
            UNITS,
            layer.sums.arg(),
            self.gradient.arg(),
            layer.means.arg(),
            self.layers[k].gamma(),
            self.layers[k].unit.outputs,
            layer.split.parts(),
            layer.pixels,
            channels,
        );
    }

    /// As [`Self::settle_slopes`], of all replicas; gives this share's sums, gamma's and beta's gradient.
    fn settle_slopes_with(&self, room: &Room, k: usize, sums: &dyn Sums) -> Result<Vec<f32>> {
        let layer = &room.layers[k];
        let (channels, outputs) = (layer.shape.channels, self.layers[k].unit.outputs);
        let parts = self.wait(self.ask(vec![layer.sums.handle.clone()]))?;
        // Beta's, then gamma's.
        let mut all = total(&parts[0], 2 * channels);
        all.drain(channels + outputs..);
        all.drain(outputs..channels);
        let own = all[outputs..].iter().chain(&all[..outputs]).map(|&v| v as f32).collect();
        sums.add(&mut all)?;
        let mut means = vec![0.0; 2 * channels];
        for (half, sums) in all.chunks_exact(outputs).enumerate() {
            let to = &mut means[half * channels..];
            to.iter_mut().zip(sums).for_each(|(to, sum)| *to = (sum / self.pixels[k]) as f32);
        }
        self.write(&layer.means, means);
        Ok(own)
    }

    /// From the slopes of a unit's answer to those of its convolution's sums, in their place.
    fn through_norm(&self, room: &Room, layer: &LayerRoom) {
        sum_slopes::launch(
            &self.client,
            self.each(layer.y.elements / 2),
            UNITS,
            layer.z.arg(),
            layer.y.arg(),
            layer.table.arg(),
            layer.means.arg(),
            room.starts.arg(),
            layer.start0,
            self.drawn.silenced as u32,
            self.drawn.louder(),
            layer.shape,
            self.kind,
        );
    }

    /// The gradient of the weights of unit `k`.
    fn weights_back(&self, room: &Room, k: usize) {
        let (layer, own) = (&self.layers[k], &room.layers[k]);
        let LayerRoom { shape, y, tiles, .. } = own;
        if let Some(Inner { slopes: cut, .. }) = &layer.inner {
            let [first, second] = self.sources(room, k);
            let cubes = CubeCount::Static(cut.blocks() as u32, tiles.parts() as u32, 1);
            if let Some(by) = self.matrices {
                weight_slopes_matrices::launch(
                    &self.client,
                    cubes,
                    cut.form.units(by),
                    first.eights(),
                    second.eights(),
                    y.eights(),
                    room.parts.arg(),
                    shape.side,
                    cut.first.channels,
                    cut.of_second(),
                    cut.outputs,
                    tiles.count,
                    tiles.each,
                    cut.form,
                    by,
                    self.kind,
                );
            } else {
                weight_slopes_numbers::launch(
                    &self.client,
                    cubes,
                    CubeDim::new_1d(NUMBER_UNITS as u32),
                    first.arg(),
                    second.arg(),
                    y.arg(),
                    room.parts.arg(),
                    shape.side,
                    cut.first.channels,
                    cut.of_second(),
                    cut.outputs,
                    tiles.count,
                    tiles.each,
                    cut.form,
                    self.kind,
                );
            }
        } else {
            weight_slopes_grey::launch(
                &self.client,
                stretches(*tiles, shape.channels),
                UNITS,
                room.grey.arg(),
                y.arg(),
                room.parts.arg(),
                tiles.count,
                tiles.each,
                shape.side,
                shape.channels,
                self.kind,
            );
        }
        let [first, first_padded, second] = layer.inputs();
        gather::launch(
            &self.client,
            self.each(9 * layer.inputs_padded() * shape.channels / 4 * GATHERING),
            UNITS,
            room.parts.arg(),
            self.gradient.arg(),
            layer.at,
            tiles.parts(),
            layer.inputs_padded(),
            shape.channels,
            first,
            first_padded,
            second,
            layer.unit.outputs,
        );
    }

    /// The slopes of what unit `k` read.
    fn input_back(&self, room: &Room, k: usize) {
        let Some(Inner { back, slopes, .. }) = &self.layers[k].inner else { return };
        let (own, before) = (&room.layers[k], &room.layers[k - 1]);
        let shape = (room.shape.0, own.shape.side);
        let to = own.wide.as_ref().unwrap_or(&before.y);
        self.convolve(shape, back, [&own.y, &own.y], to);
        if let Reads::BelowAnd(_) = self.layers[k].reads {
            undouble::launch(
                &self.client,
                self.each(before.y.elements),
                UNITS,
                to.arg(),
                before.y.arg(),
                before.shape.side,
                before.shape.channels,
                slopes.inputs(),
                self.kind,
            );
        }
    }

    /// Through unit `k`, from the slopes of its answer: its gradient, and the slopes of its convolution's sums. Gamma's
    /// and beta's gradient is given if the host has it.
    fn unit_back(&self, room: &Room, k: usize, sums: &dyn Sums) -> Result<Option<Vec<f32>>> {
        self.add_up_slopes(room, k);
        let norm = if sums.alone() {
            self.settle_slopes(room, k);
            None
        } else {
            Some(self.settle_slopes_with(room, k, sums)?)
        };
        self.through_norm(room, &room.layers[k]);
        self.weights_back(room, k);
        Ok(norm)
    }

    /// Through the network: the gradient, on the device.
    pub(super) fn back(&self, room: &Room, share: Share<'_>) -> Result<()> {
        self.head_back(room, share);
        for unit in (0..self.layers.len()).rev() {
            self.unit_back(room, unit, &Alone)?;
            self.input_back(room, unit);
        }
        Ok(())
    }

    /// As [`Self::back`], and the gradient is sent, a unit at a time.
    pub(super) fn back_to(
        &self,
        room: &Room,
        share: Share<'_>,
        sums: &dyn Sums,
        found: &Sender<Vec<f32>>,
    ) -> Result<()> {
        self.head_back(room, share);
        let mut before: Option<Known<'_>> = None;
        let mut end = self.gradient.elements;
        for unit in (0..self.layers.len()).rev() {
            let norm = self.unit_back(room, unit, sums)?;
            let begin = self.layers[unit].at;
            let asked = self.ask(vec![self.gradient.part(begin..end)]);
            end = begin;
            self.input_back(room, unit);
            // While the device is at work.
            if let Some(known) = before.replace(Known { unit, norm, asked }) {
                found.send(self.known(known)?)?;
            }
        }
        if let Some(known) = before {
            found.send(self.known(known)?)?;
        }
        Ok(())
    }

    /// A unit's gradient, with the head's if it is the last one.
    fn known(&self, Known { unit, norm, asked }: Known<'_>) -> Result<Vec<f32>> {
        let mut all: Vec<f32> = floats(&self.wait(asked)?[0]).collect();
        if let Some(norm) = norm {
            let layer = &self.layers[unit];
            all[layer.gamma() - layer.at..][..norm.len()].copy_from_slice(&norm);
        }
        Ok(all)
    }
}
