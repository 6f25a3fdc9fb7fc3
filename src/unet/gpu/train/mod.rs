//! A training step on a GPU by kernels of our own.
//!
//! Each unit's sums stay on the device in the precision of the step. What goes over all crops, means and variances and
//! the sums of slopes, is added up on the host, where the replicas meet, one wait a unit each way; on the device where
//! there is one replica only, and then the parameters stay and move there too. On the way back slopes take the place of
//! the answers that they belong to.

mod back;
mod carry;
mod descend;
mod forth;
mod judge;
mod keep;
mod layers;
mod norm;
mod packing;
mod weights;

use std::pin::Pin;
use std::sync::mpsc::Sender;

use anyhow::{Context, Result, ensure};
use cubecl::bytes::Bytes;
use cubecl::calculate_cube_count_elemwise;
use cubecl::ir::ElemType;
use cubecl::prelude::{Client, CubeCount, CubeDim};
use cubecl::server::{Handle, ServerError};

use self::judge::add_parts;
use self::keep::Memory;
use self::layers::{Layer, Product, Reads, Room};
use self::norm::Split;
use super::kernels::{CHANNELS, Matrices};
use super::launch::Windows;
use super::pack::padded;
use super::plan::{cooperative, kind, storable};
use super::{Buffer, said};
use crate::config::{NetworkSettings, Precision};
use crate::fault::{DeviceLost, WrongUsage, guarded};
use crate::tile::multiple_px;
use crate::unet::crops::CropBatch;
use crate::unet::device::Chosen;
use crate::unet::direct::Dropout;
use crate::unet::loss::LossSums;
use crate::unet::replica::{Keeper, Replica, Share, Sums};

/// Of the loss's sums, with padding.
const TOTALS: usize = 8;
/// Units of a workgroup.
const UNITS: CubeDim = CubeDim::new_1d(norm::UNITS as u32);

/// Buffers that are being read.
type Asked<'a> = Pin<Box<dyn Future<Output = Result<Vec<Bytes>, ServerError>> + 'a>>;

/// The network in training on one GPU.
pub struct GpuReplica {
    network: NetworkSettings,
    name: String,
    seed: u64,
    client: Client,
    /// Of the activations.
    kind: ElemType,
    matrices: Option<Matrices>,
    layers: Vec<Layer>,
    /// All parameters and their gradient, f32 in the parameters' order.
    values: Buffer,
    gradient: Buffer,
    /// Weights of the first convolution, `[tap][outputs]`, and of the head.
    grey: Buffer,
    head: Buffer,
    zeros: Buffer,
    /// The loss's sums over the whole batch, f32.
    total: Buffer,
    /// Where parameters stay here.
    kept: Option<Memory>,
    room: Option<Room>,
    /// Of the last step.
    drawn: Dropout,
    /// Pixels of the whole batch at each unit.
    pixels: Vec<f64>,
    seen: Vec<f32>,
}

impl GpuReplica {
    /// A replica of `network` that convolves in `precision`, halves by cooperative matrices where the device has them;
    /// batch norm and gradients are f32.
    ///
    /// # Errors
    /// [`WrongUsage`] if the device cannot compute in it; [`DeviceLost`] if it fails.
    pub fn new(network: &NetworkSettings, chosen: &Chosen, precision: Precision, seed: u64) -> Result<Self> {
        let kind = kind(precision);
        guarded(|| {
            let client = chosen.client()?;
            if !storable(&client, kind) {
                let message = format!("train.precision = {precision}: {} cannot compute in it", chosen.name);
                return Err(WrongUsage(message).into());
            }
            let matrices = cooperative(&client, kind);
            let widths = &network.widths;
            let layers = Layer::all(&client, widths, matrices, kind.size());
            let outputs: usize = layers.iter().map(|layer| layer.unit.outputs).sum();
            let most = layers.iter().map(|layer| layer.inputs_padded().max(layer.outputs_padded())).max();
            let first = padded(widths[0]);
            let parameters = layers.last().map_or(0, Layer::end) + widths[0] + 1;
            Ok(Self {
                network: network.clone(),
                name: chosen.name.clone(),
                seed,
                kind,
                matrices,
                values: Buffer::new(&client, parameters, 4),
                // A convolution's bias has none, and is never written.
                gradient: Buffer::zeros(&client, parameters),
                grey: Buffer::new(&client, 9 * first / 4, 16),
                head: Buffer::new(&client, first / 4, 16),
                zeros: Buffer::of(&client, vec![0.0; most.unwrap_or(CHANNELS)]),
                total: Buffer::new(&client, TOTALS, 4),
                kept: None,
                room: None,
                drawn: Dropout::new(seed, 0, 0.0),
                pixels: vec![0.0; layers.len()],
                seen: vec![0.0; 2 * outputs],
                layers,
                client,
            })
        })
    }

    fn lost(&self, why: &str) -> DeviceLost {
        DeviceLost(format!("{}: {why} (a smaller [train] batch needs less memory)", self.name))
    }

    /// Has memory read when all that was asked before is done.
    fn ask(&self, handles: Vec<Handle>) -> Asked<'_> {
        Box::pin(self.client.read_async(handles))
    }

    /// Adds up so many parts, of so many times four, and keeps some of the sums.
    fn add_parts(&self, parts: &Buffer, (count, fours): (usize, usize), to: &Buffer, at: usize, keep: usize) {
        let cubes = CubeCount::Static(fours as u32, 1, 1);
        add_parts::launch(&self.client, cubes, UNITS, parts.arg(), to.arg(), count, fours, at, keep);
    }

    /// Waits for what was asked.
    fn wait(&self, asked: Asked<'_>) -> Result<Vec<Bytes>> {
        Ok(pollster::block_on(asked).map_err(|why| self.lost(&said(&why)))?)
    }

    fn write(&self, to: &Buffer, values: Vec<f32>) {
        self.client.write(&to.handle, Bytes::from_elems(values));
    }

    /// Workgroups for `work` units that need not know each other.
    fn each(&self, work: usize) -> CubeCount {
        calculate_cube_count_elemwise(&self.client, work, UNITS)
    }

    /// Room for the crops, the one there is if it fits.
    fn room(&mut self, crops: &CropBatch) -> Result<Room> {
        let shape @ (count, side) = (crops.count(), crops.side_px);
        let multiple = multiple_px(&self.network.widths) as usize;
        ensure!(
            side > 0 && side.is_multiple_of(multiple),
            "crops of {side} px: must be a multiple of {multiple}"
        );
        // Kernels count elements in 32 bits.
        let most = |layer: &Layer| {
            (count * (side >> layer.level).pow(2) * layer.inputs_padded().max(layer.outputs_padded()))
                .div_ceil(4)
        };
        if self.layers.iter().any(|layer| u32::try_from(most(layer)).is_err()) {
            return Err(self.lost("can't allocate so many activations").into());
        }
        // Another room is given back before this one is made.
        let same = self.room.take().filter(|room| room.shape == shape);
        let drawn = Dropout::new(self.seed, 0, self.network.dropout).is_on();
        Ok(same.unwrap_or_else(|| Room::new(&self.client, &self.layers, shape, self.kind.size(), drawn)))
    }

    /// A convolution's sums.
    fn convolve(&self, (count, side): (usize, usize), product: &Product, from: [&Buffer; 2], to: &Buffer) {
        let windows = Windows::whole(count, side);
        let buffers = [from[0], from[1], &product.weights, &self.zeros, to];
        product.conv.launch(&self.client, self.kind, &windows, buffers);
    }

    /// What a unit after the first reads.
    fn sources<'a>(&self, room: &'a Room, k: usize) -> [&'a Buffer; 2] {
        let before = &room.layers[k - 1].y;
        match (self.layers[k].reads, &room.layers[k].wide) {
            (Reads::BelowAnd(skip), _) => [before, &room.layers[skip].y],
            (Reads::Above, Some(pooled)) => [pooled, pooled],
            _ => [before, before],
        }
    }
}

impl Replica for GpuReplica {
    fn forward(&mut self, values: &[f32], share: Share<'_>, sums: &dyn Sums) -> Result<LossSums> {
        ensure!(values.len() == self.values.elements, "parameters of another network");
        guarded(|| {
            let room = self.room(share.crops)?;
            self.forth(&room, Some(values), share, sums)?;
            let judged = room.judged.handle.clone();
            let answers = self.wait(self.ask(vec![judged, room.seen.handle.clone()]))?;
            if sums.alone() {
                self.see(&answers[1]);
            }
            self.room = Some(room);
            let found = total(&answers[0], TOTALS);
            Ok(std::array::from_fn(|k| found[k]))
        })
    }

    fn backward(
        &mut self,
        share: Share<'_>,
        total: LossSums,
        sums: &dyn Sums,
        found: &Sender<Vec<f32>>,
    ) -> Result<()> {
        let room = self.room.take().context("backward without forward")?;
        let total = total.iter().map(|&sum| sum as f32).chain([0.0; TOTALS]).take(TOTALS);
        guarded(|| {
            self.write(&self.total, total.collect());
            self.back_to(&room, share, sums, found)
        })?;
        self.room = Some(room);
        Ok(())
    }

    fn seen(&self) -> &[f32] {
        &self.seen
    }

    fn keeper(&mut self) -> Option<&mut dyn Keeper> {
        Some(self)
    }
}

/// Workgroups for [`CHANNELS`] each of a stretch of pixels.
fn stretches(split: Split, channels: usize) -> CubeCount {
    CubeCount::Static(split.parts() as u32, (channels / CHANNELS) as u32, 1)
}

fn floats(bytes: &Bytes) -> impl Iterator<Item = f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

/// The sums of parts of `values` each.
fn total(parts: &Bytes, values: usize) -> Vec<f64> {
    let mut sums = vec![0.0; values];
    for (k, value) in floats(parts).enumerate() {
        sums[k % values] += f64::from(value);
    }
    sums
}
