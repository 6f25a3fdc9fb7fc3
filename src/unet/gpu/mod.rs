//! The network on a GPU, by kernels of our own: the framework's convolutions leave most of a card idle.
//!
//! Half precision multiplies by cooperative matrices (tensor cores) where the device has them; elsewhere it only
//! halves what activations take. A byte a pixel goes up, a byte comes back.

mod kernels;
mod pack;
mod plan;

use anyhow::Result;
use burn::tensor::{DType, TensorData};
use cubecl::bytes::Bytes;
use cubecl::calculate_cube_count_elemwise;
use cubecl::ir::{ElemType, FloatKind};
use cubecl::prelude::{BufferArg, Client, CubeCount, CubeDim, TensorBinding};
use cubecl::server::{Handle, ServerError};
use cubecl::zspace::Tiling;

use self::kernels::{Matrices, TILE, conv_grey, conv_matrices, conv_numbers, head, units};
use self::pack::{Taps, padded, zero_padded};
use self::plan::{Step, cooperative, storable};
use super::device::Chosen;
use super::weights::Weights;
use crate::config::Precision;
use crate::detect::{Segmenter, WindowBatch};
use crate::fault::{DeviceLost, WrongUsage, guarded};
use crate::tile::{halo_px, multiple_px};

/// Units of a workgroup whose units need not know each other.
const UNITS: u32 = 256;

/// The network on one GPU, ready to run.
pub struct GpuSegmenter {
    widths: Vec<usize>,
    name: String,
    client: Client,
    /// Of the activations.
    kind: ElemType,
    matrices: Option<Matrices>,
    grey: [Buffer; 2],
    steps: Vec<(Step, [Buffer; 2])>,
    head: (Buffer, f32),
    room: Option<Room>,
}

/// Memory for batches of one shape.
struct Room {
    /// Windows, their side, and whether the answer is in bytes.
    shape: (usize, usize, bool),
    grey: Buffer,
    /// Two a level, for what each unit of a block gives.
    activations: Vec<Buffer>,
    answer: Buffer,
}

/// Memory of the device, and how many of a kernel's elements it holds.
struct Buffer {
    handle: Handle,
    elements: usize,
}

impl Buffer {
    /// Of `elements` of `bytes` each, for as long as it is kept.
    fn new(client: &Client, elements: usize, bytes: usize) -> Self {
        let handle = client.memory_dedicated_allocation((), |()| client.empty(elements * bytes));
        Self { handle, elements }
    }

    /// Of f32, four an element.
    fn of(client: &Client, values: Vec<f32>) -> Self {
        Self::as_type(client, values, DType::F32)
    }

    /// Of what f32 become as `dtype`, four an element.
    fn as_type(client: &Client, values: Vec<f32>, dtype: DType) -> Self {
        let count = values.len();
        let data = TensorData::new(values, [count]).convert_dtype(dtype);
        Self { elements: count / 4, handle: client.create(data.into_bytes()) }
    }

    fn arg(&self) -> BufferArg {
        let handle = self.handle.clone().binding();
        let (strides, shape) = ([1].into(), [self.elements].into());
        TensorBinding { handle, strides, shape, tiling: Tiling::UNTILED }.into_tensor_arg().into_buffer_arg()
    }
}

impl GpuSegmenter {
    /// Folds `weights` and puts them on the device, which keeps activations in `precision`, and multiplies halves by
    /// cooperative matrices if it has them.
    ///
    /// # Errors
    /// [`WrongUsage`] if it cannot; [`DeviceLost`] if the device fails.
    pub fn new(weights: &Weights, chosen: &Chosen, precision: Precision) -> Result<Self> {
        Self::with(weights, chosen, precision, cooperative)
    }

    /// As [`Self::new`], number by number.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn without_matrices(weights: &Weights, chosen: &Chosen, precision: Precision) -> Result<Self> {
        Self::with(weights, chosen, precision, |_, _| None)
    }

    fn with(
        weights: &Weights,
        chosen: &Chosen,
        precision: Precision,
        matrices: impl Fn(&Client, ElemType) -> Option<Matrices>,
    ) -> Result<Self> {
        let (dtype, kind) = match precision {
            Precision::F32 => (DType::F32, FloatKind::F32),
            Precision::F16 => (DType::F16, FloatKind::F16),
            Precision::Bf16 => (DType::BF16, FloatKind::BF16),
        };
        let kind = ElemType::Float(kind);
        guarded(|| {
            let client = chosen.client()?;
            if !storable(&client, kind) {
                let message = format!("scan.precision = {precision}: {} cannot compute in it", chosen.name);
                return Err(WrongUsage(message).into());
            }
            let matrices = matrices(&client, kind);
            let name = match (precision, &matrices) {
                (Precision::F32, _) => chosen.name.clone(),
                (_, Some(by)) => format!("{} ({precision}, cooperative matrices of {by})", chosen.name),
                (_, None) => format!("{} ({precision}, no cooperative matrices)", chosen.name),
            };
            let widths = weights.widths().to_vec();
            let (convs, first) = (weights.folded(), padded(widths[0]));
            let put = |values| Buffer::of(&client, values);
            let grey = [put(Taps::new(&convs[0], &[1]).grey(first)), put(zero_padded(&convs[0].bias, first))];
            let steps = Step::all(&widths, matrices).into_iter().zip(&convs[1..]).map(|(step, conv)| {
                let taps = Taps::new(conv, &step.channels);
                let factors = match matrices {
                    Some(by) => Buffer::as_type(&client, taps.matrices(step.conv.outputs, by), dtype),
                    None => put(taps.numbers(&step.conv)),
                };
                let bias = put(zero_padded(&conv.bias, step.conv.outputs));
                (step, [factors, bias])
            });
            let steps = steps.collect();
            let (weight, bias) = weights.head();
            let head = (put(zero_padded(weight, first)), bias);
            Ok(Self { widths, name, client, kind, matrices, grey, steps, head, room: None })
        })
    }

    /// Probabilities, `[count, side, side]` in 0..=1, of network input of the same shape.
    ///
    /// # Errors
    /// [`DeviceLost`] if the device fails.
    pub fn probabilities(&mut self, side_px: usize, pixels: &[u8]) -> Result<Vec<f32>> {
        let answer = self.run(side_px, pixels, false)?;
        Ok(answer.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
    }

    /// As [`Self::probabilities`]: in `bytes`, 0..=255, or in f32.
    fn run(&mut self, side: usize, pixels: &[u8], bytes: bool) -> Result<Bytes> {
        let count = pixels.len() / (side * side);
        let name = self.name.clone();
        let lost = |why: &str| {
            let remedy = format!("{count} windows of {side} px; fewer or smaller ones need less memory");
            DeviceLost(format!("{name}: {why} ({remedy}: --batch, --window)"))
        };
        // Kernels count elements in 32 bits.
        if elements(&self.widths, count * side * side).any(|elements| u32::try_from(elements).is_err()) {
            return Err(lost("can't allocate so many activations").into());
        }
        guarded(|| {
            let shape = (count, side, bytes);
            // Another room is given back before this one is made.
            let same = self.room.take().filter(|room| room.shape == shape);
            let room = same.unwrap_or_else(|| Room::new(&self.client, &self.widths, self.kind.size(), shape));
            let answer = self.submit(&room, pixels).map_err(|why| lost(last_cause(&format!("{why:?}"))))?;
            self.room = Some(room);
            Ok(answer)
        })
    }

    /// Sends a batch through the network; waits for the answer.
    fn submit(&self, room: &Room, pixels: &[u8]) -> Result<Bytes, ServerError> {
        let (client, kind, (count, side, bytes)) = (&self.client, self.kind, room.shape);
        client.write(&room.grey.handle, Bytes::from_bytes_vec(pixels.to_vec()));
        let [weights, bias] = &self.grey;
        let (first, units) = (&room.activations[0], CubeDim::new_1d(UNITS));
        conv_grey::launch(
            client,
            calculate_cube_count_elemwise(client, first.elements, units),
            units,
            room.grey.arg(),
            weights.arg(),
            bias.arg(),
            first.arg(),
            side,
            padded(self.widths[0]),
            kind,
        );
        for step in &self.steps {
            self.convolve(room, step);
        }
        head::launch(
            client,
            calculate_cube_count_elemwise(client, count * side * side, units),
            units,
            room.activations[1].arg(),
            self.head.0.arg(),
            room.answer.arg(),
            self.head.1,
            padded(self.widths[0]),
            bytes,
            UNITS as usize,
            kind,
        );
        client.read_one(room.answer.handle.clone())
    }

    fn convolve(&self, room: &Room, (step, [weights, bias]): &(Step, [Buffer; 2])) {
        let (count, side, _) = room.shape;
        let (conv, side) = (step.conv, side >> step.level);
        let tiles = |size| side.div_ceil(size) as u32;
        let wide = tiles(self.matrices.map_or(TILE, |by| by.rows));
        let cubes = CubeCount::Static(wide, tiles(TILE), (count * (conv.outputs / conv.block)) as u32);
        let [first, second] = step.sources.map(|source| room.activations[source].arg());
        let out = room.activations[step.out].arg();
        let (weights, bias) = (weights.arg(), bias.arg());
        if let Some(by) = self.matrices {
            let units = by.units(&conv);
            conv_matrices::launch(
                &self.client,
                cubes,
                units,
                first,
                second,
                weights,
                bias,
                out,
                side,
                conv,
                by,
                self.kind,
            );
        } else {
            let units = units(&conv);
            conv_numbers::launch(
                &self.client,
                cubes,
                units,
                first,
                second,
                weights,
                bias,
                out,
                side,
                conv,
                self.kind,
            );
        }
    }
}

impl Room {
    fn new(client: &Client, widths: &[usize], bytes_each: usize, shape: (usize, usize, bool)) -> Self {
        let (count, side, bytes) = shape;
        let pixels = count * side * side;
        let words = if bytes { pixels.div_ceil(4) } else { pixels };
        let activations = elements(widths, pixels)
            .flat_map(|elements| [(); 2].map(|()| Buffer::new(client, elements, 4 * bytes_each)));
        Self {
            shape,
            grey: Buffer::new(client, pixels.div_ceil(4), 4),
            activations: activations.collect(),
            answer: Buffer::new(client, words, 4),
        }
    }
}

impl Segmenter for GpuSegmenter {
    fn halo_px(&self) -> u32 {
        halo_px(&self.widths)
    }

    fn multiple_px(&self) -> u32 {
        multiple_px(&self.widths)
    }

    fn device(&self) -> String {
        self.name.clone()
    }

    fn segment(&mut self, batch: &WindowBatch, probabilities: &mut [u8]) -> Result<()> {
        let meant = batch.count * batch.side_px * batch.side_px;
        // A short batch keeps its padding: the shape never changes, and what was allocated serves again.
        let answer = self.run(batch.side_px, &batch.pixels, true)?;
        probabilities[..meant].copy_from_slice(&answer[..meant]);
        Ok(())
    }
}

/// Elements of each level's activations, four channels an element.
fn elements(widths: &[usize], pixels: usize) -> impl Iterator<Item = usize> {
    widths.iter().enumerate().map(move |(level, &width)| (pixels >> (2 * level)) * padded(width) / 4)
}

/// The innermost cause of the framework's many lines.
fn last_cause(text: &str) -> &str {
    let inner = text.rsplit_once("Caused by:").map_or(text, |(_, inner)| inner);
    inner.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or(text)
}
