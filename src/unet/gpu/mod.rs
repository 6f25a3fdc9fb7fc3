//! The network on a GPU, by kernels of our own: the framework's convolutions leave most of a card idle.
//!
//! Half precision multiplies by cooperative matrices (tensor cores) where the device has them; elsewhere it only
//! halves what activations take. A byte a pixel goes up, a byte comes back.

mod kernels;
mod launch;
mod matrices;
mod pack;
mod plan;
mod train;

use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, sync_channel};
use std::time::Instant;

use anyhow::Result;
use burn::tensor::{DType, TensorData};
use cubecl::bytes::Bytes;
use cubecl::calculate_cube_count_elemwise;
use cubecl::ir::ElemType;
use cubecl::prelude::{BufferArg, Client, CubeDim, TensorBinding};
use cubecl::server::{Handle, ServerError};
use cubecl::zspace::Tiling;

use self::kernels::{Matrices, head};
use self::launch::{Windows, convolve_grey, pooled};
use self::pack::{Taps, padded, zero_padded};
use self::plan::{Step, cooperative, kind, needed, storable};
pub use self::train::GpuReplica;
use super::device::Chosen;
use super::layout::units;
use super::weights::Weights;
use crate::config::Precision;
use crate::detect::{Segmenter, WindowBatch};
use crate::fault::{DeviceLost, WrongUsage, guarded};
use crate::tile::{halo_px, multiple_px};

/// Units of a workgroup whose units need not know each other.
const UNITS: u32 = 256;

/// Whether a GPU can compute in `precision`.
///
/// # Errors
/// If it cannot be opened.
pub fn computes(chosen: &Chosen, precision: Precision) -> Result<bool> {
    guarded(|| Ok(storable(&chosen.client()?, kind(precision))))
}

/// The network on one GPU, ready to run.
pub struct GpuSegmenter {
    widths: Vec<usize>,
    name: String,
    client: Client,
    /// Of the activations.
    kind: ElemType,
    grey: [Buffer; 2],
    steps: Vec<(Step, [Buffer; 2])>,
    head: (Buffer, f32),
    room: Option<Room>,
}

/// A kernel's time.
#[derive(Clone, Debug, PartialEq)]
pub struct KernelTime {
    /// Its level, and the channels of what it reads and writes.
    pub name: String,
    /// Of one launch.
    pub seconds: f64,
    /// Multiplications and additions, as the network is defined.
    pub flop: f64,
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

    /// Of so many f32, all 0.
    fn zeros(client: &Client, elements: usize) -> Self {
        let empty = Self::new(client, elements, 4);
        client.write(&empty.handle, Bytes::from_elems(vec![0.0f32; elements]));
        empty
    }

    /// Some of its f32.
    fn part(&self, range: Range<usize>) -> Handle {
        let behind = (self.elements - range.end) * 4;
        self.handle.clone().offset_start(range.start as u64 * 4).offset_end(behind as u64)
    }

    fn arg(&self) -> BufferArg {
        self.of_elements(self.elements)
    }

    /// Of halves, four an element: eight an element.
    fn eights(&self) -> BufferArg {
        self.of_elements(self.elements / 2)
    }

    fn of_elements(&self, elements: usize) -> BufferArg {
        let handle = self.handle.clone().binding();
        let (strides, shape) = ([1].into(), [elements].into());
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
        let dtype = match precision {
            Precision::F32 => DType::F32,
            Precision::F16 => DType::F16,
            Precision::Bf16 => DType::BF16,
        };
        let kind = kind(precision);
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
            let (mut convs, first) = (weights.folded(), padded(widths[0]));
            let inner = convs.split_off(1);
            let put = |values| Buffer::of(&client, values);
            let grey = [put(Taps::new(&convs[0], &[1]).grey(first)), put(zero_padded(&convs[0].bias, first))];
            let steps = Step::all(&widths, matrices).into_iter().zip(inner).map(|(step, conv)| {
                let bias = put(zero_padded(&conv.bias, step.conv.outputs));
                let factors = match matrices {
                    Some(_) => {
                        let conv = conv.rounded(precision);
                        let taps = Taps::new(&conv, &step.channels).matrices(&step.conv);
                        Buffer::as_type(&client, taps, dtype)
                    }
                    None => put(Taps::new(&conv, &step.channels).numbers(&step.conv)),
                };
                (step, [factors, bias])
            });
            let steps = steps.collect();
            let (weight, bias) = weights.head();
            let head = (put(zero_padded(weight, first)), bias);
            Ok(Self { widths, name, client, kind, grey, steps, head, room: None })
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

    /// How long each kernel takes on `count` windows of `side_px`, alone, as a mean over `rounds` launches.
    ///
    /// # Errors
    /// [`DeviceLost`] if the device fails.
    pub fn kernel_times(&mut self, side_px: usize, count: usize, rounds: usize) -> Result<Vec<KernelTime>> {
        let pixels = vec![128; count * side_px * side_px];
        self.run(side_px, &pixels, true)?;
        let room = self.room.take().ok_or_else(|| lost(&self.name, count, side_px, "no memory is kept"))?;
        let time = |name: String, flop_per_px: usize, level: usize, launch: &dyn Fn()| {
            let wait = || self.client.read_one(self.head.0.handle.clone());
            let timed = wait().and_then(|_| {
                let began = Instant::now();
                (0..rounds).for_each(|_| launch());
                wait().map(|_| began.elapsed().as_secs_f64() / rounds as f64)
            });
            let seconds = timed.map_err(|why| lost(&self.name, count, side_px, &said(&why)))?;
            let flop = ((pixels.len() >> (2 * level)) * flop_per_px) as f64;
            anyhow::Ok(KernelTime { name, seconds, flop })
        };
        let grey = time("grey".into(), 18 * self.widths[0], 0, &|| self.convolve_grey(&room, count))?;
        let mut all = vec![grey];
        for step in &self.steps {
            let Step { channels, level, out, .. } = &step.0;
            let (inputs, outputs) = (channels.iter().sum::<usize>(), self.widths[out / 2]);
            let of_level = Windows::whole(count, side_px >> level);
            if step.0.pooled {
                let name = format!("level {level}, {inputs} pooled");
                all.push(time(name, 0, *level, &|| self.pool(&room, &step.0, count))?);
            }
            let name = format!("level {level}, {channels:?} to {outputs}");
            all.push(time(name, 18 * inputs * outputs, *level, &|| self.convolve(&room, step, &of_level))?);
        }
        all.push(time("head".into(), 2 * self.widths[0], 0, &|| self.answer(&room, count))?);
        self.room = Some(room);
        Ok(all)
    }

    /// As [`Self::probabilities`]: in `bytes`, 0..=255, or in f32.
    fn run(&mut self, side: usize, pixels: &[u8], bytes: bool) -> Result<Bytes> {
        let count = pixels.len() / (side * side);
        guarded(|| {
            let answer = self.launch(pixels, &Windows::whole(count, side), (count, bytes))?;
            self.client.read_one(answer).map_err(|why| lost(&self.name, count, side, &said(&why)))
        })
    }

    /// Sends the first `windows` of `pixels` through the network, in a room for `capacity`; where their answer, in `bytes`
    /// or in f32, will be.
    fn launch(
        &mut self,
        pixels: &[u8],
        windows: &Windows,
        (capacity, bytes): (usize, bool),
    ) -> Result<Handle> {
        let Windows { count, side, .. } = *windows;
        let shape = (capacity, side, bytes);
        // Kernels count elements in 32 bits.
        if elements(&self.widths, capacity * side * side).any(|elements| u32::try_from(elements).is_err()) {
            return Err(lost(&self.name, capacity, side, "can't allocate so many activations"));
        }
        // Another room is given back before this one is made.
        let same = self.room.take().filter(|room| room.shape == shape);
        let room = same.unwrap_or_else(|| Room::new(&self.client, &self.widths, self.kind.size(), shape));
        self.client.write(&room.grey.handle, Bytes::from_bytes_vec(pixels[..count * side * side].to_vec()));
        self.convolve_grey(&room, count);
        for (step, windows) in self.steps.iter().zip(self.needed(windows)) {
            if step.0.pooled {
                self.pool(&room, &step.0, count);
            }
            self.convolve(&room, step, &windows);
        }
        self.answer(&room, count);
        let used = (count * side * side).next_multiple_of(4) * if bytes { 1 } else { 4 };
        let left = room.answer.elements * 4 - used;
        let answer = room.answer.handle.clone().offset_end(left as u64);
        self.room = Some(room);
        Ok(answer)
    }

    /// What each step must compute for what is asked of `windows`.
    fn needed(&self, Windows { count, side, rows, cols }: &Windows) -> Vec<Windows> {
        let needed = |asked: &Range<usize>| {
            needed(self.steps.iter().map(|(step, _)| step), self.widths.len(), *side, asked.clone())
        };
        let both = needed(rows).into_iter().zip(needed(cols)).zip(&self.steps);
        both.map(|((rows, cols), (step, _))| Windows { count: *count, side: side >> step.level, rows, cols })
            .collect()
    }

    fn convolve_grey(&self, room: &Room, count: usize) {
        let [weights, bias] = &self.grey;
        let buffers = [&room.grey, weights, bias, &room.activations[0]];
        let shape = (count, room.shape.1, padded(self.widths[0]));
        convolve_grey(&self.client, self.kind, buffers, shape, true);
    }

    fn answer(&self, room: &Room, count: usize) {
        let ((_, side, bytes), units) = (room.shape, CubeDim::new_1d(UNITS));
        head::launch(
            &self.client,
            calculate_cube_count_elemwise(&self.client, count * side * side, units),
            units,
            room.activations[1].arg(),
            self.head.0.arg(),
            room.answer.arg(),
            self.head.1,
            padded(self.widths[0]),
            bytes,
            UNITS as usize,
            self.kind,
        );
    }

    fn convolve(&self, room: &Room, (step, [weights, bias]): &(Step, [Buffer; 2]), windows: &Windows) {
        let [first, second] = if step.pooled { [step.out + 1; 2] } else { step.sources };
        let [first, second, out] = [first, second, step.out].map(|k| &room.activations[k]);
        step.conv.launch(&self.client, self.kind, windows, [first, second, weights, bias, out]);
    }

    /// Pools what a step reads, to where its level's next step will write.
    fn pool(&self, room: &Room, step: &Step, count: usize) {
        let buffers = [step.sources[0], step.out + 1].map(|k| &room.activations[k]);
        let shape = (count, room.shape.1 >> step.level, step.conv.first.channels);
        pooled(&self.client, self.kind, buffers, shape);
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

    fn computed_px(&self, batch: &WindowBatch) -> u64 {
        let units = units(&self.widths).into_iter();
        // The first convolution takes whole windows.
        let windows = std::iter::once(Windows::whole(batch.count, batch.side_px))
            .chain(self.needed(&Windows::of(batch)));
        let (mut done, mut all) = (0.0, 0.0);
        for (unit, windows) in units.zip(windows) {
            let Windows { count, side, rows, cols } = windows;
            let of_pixel = (unit.inputs * unit.outputs) as f64;
            done += of_pixel * (count * rows.len() * cols.len()) as f64;
            all += of_pixel * (count * side * side) as f64;
        }
        (batch.meant_px() as f64 * done / all).round() as u64
    }

    fn segment(&mut self, batch: &WindowBatch, probabilities: &mut [u8]) -> Result<()> {
        let meant = batch.meant_px();
        guarded(|| {
            let answer = self.launch(&batch.pixels, &Windows::of(batch), (batch.capacity(), true))?;
            let answer = self.client.read_one(answer);
            let answer =
                answer.map_err(|why| lost(&self.name, batch.capacity(), batch.side_px, &said(&why)))?;
            probabilities[..meant].copy_from_slice(&answer[..meant]);
            Ok(())
        })
    }

    /// While a batch is computed, the next goes up and the last comes down.
    fn serve(mut self: Box<Self>, batches: Receiver<WindowBatch>, answers: &Sender<Result<WindowBatch>>) {
        let (client, name) = (self.client.clone(), self.name.clone());
        std::thread::scope(|scope| {
            let (launched, coming) = sync_channel::<(WindowBatch, Result<_>)>(1);
            scope.spawn(move || {
                for (mut batch, answer) in coming {
                    let done = guarded(|| {
                        let answer: Result<Vec<Bytes>, _> = pollster::block_on(answer?);
                        let answer = answer
                            .map_err(|why| lost(&name, batch.capacity(), batch.side_px, &said(&why)))?;
                        let meant = batch.meant_px();
                        batch.pixels[..meant].copy_from_slice(&answer[0][..meant]);
                        Ok(batch)
                    });
                    if answers.send(done).is_err() {
                        return;
                    }
                }
            });
            for mut batch in batches {
                batch.computed_px = self.computed_px(&batch);
                let room = (batch.capacity(), true);
                let answer = guarded(|| self.launch(&batch.pixels, &Windows::of(&batch), room));
                let answer = answer.map(|answer| client.read_async(vec![answer]));
                if launched.send((batch, answer)).is_err() {
                    return;
                }
            }
        });
    }
}

/// That a device failed at `count` windows of `side` px.
fn lost(name: &str, count: usize, side: usize, why: &str) -> anyhow::Error {
    let remedy = format!("{count} windows of {side} px; fewer or smaller ones need less memory");
    DeviceLost(format!("{name}: {why} ({remedy}: --batch, --window)")).into()
}

/// Elements of each level's activations, four channels an element; what comes from the level above has room as well.
fn elements(widths: &[usize], pixels: usize) -> impl Iterator<Item = usize> {
    widths.iter().enumerate().map(move |(level, &width)| {
        let most = width.max(widths[level.saturating_sub(1)]);
        (pixels >> (2 * level)) * padded(most) / 4
    })
}

/// The innermost cause of the framework's many lines.
fn said(why: &ServerError) -> String {
    let text = format!("{why:?}");
    let inner = text.rsplit_once("Caused by:").map_or(text.as_str(), |(_, inner)| inner);
    inner.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or(&text).to_owned()
}
