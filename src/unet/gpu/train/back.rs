//! A step's way back: the logits' slopes to the gradient.

use std::sync::mpsc::Sender;

use anyhow::Result;
use cubecl::prelude::{CubeCount, CubeDim};

use super::carry::{head_slopes, undouble, unpool};
use super::layers::{Inner, LayerRoom, Reads, Room};
use super::norm::{norm_slopes, settle_slopes, sum_slopes};
use super::packing::{GATHERING, gather};
use super::weights::{NUMBER_UNITS, weight_slopes_grey, weight_slopes_matrices, weight_slopes_numbers};
use super::{Asked, Buffer, GpuReplica, UNITS, floats, stretches, total};
use crate::unet::gpu::kernels::CHANNELS;
use crate::unet::replica::Sums;

/// What is known of a unit's gradient: that of its batch norm, gamma's and beta's, unless it is read as well, and what is
/// being read.
struct Known<'a> {
    unit: usize,
    norm: Option<Vec<f32>>,
    asked: Asked<'a>,
}

impl GpuReplica {
    /// From the slopes of the logits to those of what the head read, and parts of its weights' gradient.
    fn head_back(&self, room: &Room, last: &LayerRoom, slopes: &[f32]) {
        self.write(&room.logits, slopes.to_vec());
        head_slopes::launch(
            &self.client,
            stretches(last.split, last.shape.channels),
            UNITS,
            last.y.arg(),
            room.logits.arg(),
            self.head.arg(),
            room.head.arg(),
            last.pixels,
            last.split.each,
            last.shape.channels,
            self.kind,
        );
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

    /// Sums and means of the slopes of the batch norm of a unit, on the device.
    fn settle_slopes(&self, layer: &LayerRoom) {
        let channels = layer.shape.channels;
        settle_slopes::launch(
            &self.client,
            CubeCount::Static((2 * channels / CHANNELS) as u32, 1, 1),
            UNITS,
            layer.sums.arg(),
            layer.totals.arg(),
            layer.means.arg(),
            layer.split.parts(),
            layer.pixels,
            channels,
        );
    }

    /// As [`Self::settle_slopes`], of all replicas; gives this share's sums, gamma's and beta's gradient.
    fn settle_slopes_with(&self, room: &Room, k: usize, sums: &dyn Sums) -> Result<Vec<f32>> {
        let layer = &room.layers[k];
        let (channels, outputs) = (layer.shape.channels, self.layers[k].unit.outputs);
        let parts = self.wait(self.ask(&[&layer.sums]))?;
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

    /// The gradient of the weights of unit `k`, in its room.
    fn weights_back(&self, room: &Room, k: usize) {
        let (layer, own) = (&self.layers[k], &room.layers[k]);
        let LayerRoom { shape, y, tiles, .. } = own;
        if let Some(Inner { slopes: cut, .. }) = &layer.inner {
            let [first, second] = self.sources(room, k).map(Buffer::arg);
            let cubes = CubeCount::Static(cut.blocks() as u32, tiles.parts() as u32, 1);
            if let Some(by) = self.matrices {
                weight_slopes_matrices::launch(
                    &self.client,
                    cubes,
                    cut.form.units(by),
                    first,
                    second,
                    y.arg(),
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
                    first,
                    second,
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
            own.gradient.arg(),
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

    /// Through the network: the gradient, a unit at a time.
    pub(super) fn back(
        &self,
        room: &Room,
        slopes: &[f32],
        sums: &dyn Sums,
        found: &Sender<Vec<f32>>,
    ) -> Result<()> {
        let last = self.layers.len() - 1;
        self.head_back(room, &room.layers[last], slopes);
        let bias = slopes.iter().map(|&v| f64::from(v)).sum::<f64>() as f32;
        let mut before: Option<Known<'_>> = None;
        for unit in (0..=last).rev() {
            let layer = &room.layers[unit];
            self.add_up_slopes(room, unit);
            let norm = if sums.alone() {
                self.settle_slopes(layer);
                None
            } else {
                Some(self.settle_slopes_with(room, unit, sums)?)
            };
            self.through_norm(room, layer);
            self.weights_back(room, unit);
            let mut wanted = vec![&layer.gradient, &layer.totals];
            wanted.extend((unit == last).then_some(&room.head));
            let asked = self.ask(&wanted);
            self.input_back(room, unit);
            // While the device is at work.
            if let Some(known) = before.replace(Known { unit, norm, asked }) {
                found.send(self.gradient(known, bias)?)?;
            }
        }
        if let Some(known) = before {
            found.send(self.gradient(known, bias)?)?;
        }
        Ok(())
    }

    /// A unit's gradient, with the head's, whose bias has `bias`, if it is the last one.
    fn gradient(&self, Known { unit, norm, asked }: Known<'_>, bias: f32) -> Result<Vec<f32>> {
        let (outputs, channels) = (self.layers[unit].unit.outputs, self.layers[unit].outputs_padded());
        let answers = self.wait(asked)?;
        let norm = norm.unwrap_or_else(|| {
            let totals: Vec<f32> = floats(&answers[1]).collect();
            [&totals[channels..][..outputs], &totals[..outputs]].concat()
        });
        let weights = floats(&answers[0]);
        let mut all = Vec::with_capacity(answers[0].len() / 4 + 3 * outputs + channels + 1);
        all.extend(weights);
        // Batch norm takes the convolution's bias away again.
        all.resize(all.len() + outputs, 0.0);
        all.extend(norm);
        if let Some(head) = answers.get(2) {
            all.extend(total(head, channels)[..outputs].iter().map(|&v| v as f32));
            all.push(bias);
        }
        Ok(all)
    }
}
