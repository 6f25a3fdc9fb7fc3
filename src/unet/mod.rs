//! The network: the only room that names burn, cubecl or wgpu.
//!
//! One description of the wiring ([`layout::walk`]) is the reference. Training and inference say it again without the
//! framework's tensors, on the CPU ([`DirectSegmenter`]) and on GPUs ([`GpuSegmenter`]), and are held to it by the tests.
//! A panic inside the framework ends here as an error.

mod adapters;
mod burn_network;
mod burn_replica;
mod check;
mod crops;
pub mod descent;
pub mod device;
mod direct;
mod gang;
mod gpu;
pub mod layout;
pub mod loss;
pub mod replica;
mod trainer;
pub mod weights;
mod workers;

use std::sync::Arc;

use anyhow::Result;

use crate::config::{NetworkSettings, Precision};
use crate::detect::Segmenter;
use crate::fault::WrongUsage;

pub use burn_network::BurnNetwork;
pub use check::agrees;
pub use crops::CropBatch;
pub use device::{Chosen, Machine};
pub use direct::DirectSegmenter;
pub use gpu::{GpuSegmenter, KernelTime};
pub use trainer::{LossScale, Regime, Slope, StepOutcome, StepSeconds, Trainer};
pub use weights::Weights;
pub use workers::{Make, Workers};

/// Probabilities, `[count, side, side]` in 0..=1, of network input of the same shape, given its side.
pub type Predictor = Box<dyn FnMut(usize, &[u8]) -> Result<Vec<f32>> + Send>;

/// The network of `weights` as a function, on the fastest path of its device.
///
/// # Errors
/// If the device fails.
pub fn predictor(weights: &Weights, chosen: &Chosen) -> Result<Predictor> {
    Ok(if chosen.is_cpu {
        let network = DirectSegmenter::new(weights);
        Box::new(move |side_px, pixels| network.probabilities(side_px, pixels))
    } else {
        let mut network = GpuSegmenter::new(weights, chosen, Precision::F32)?;
        Box::new(move |side_px, pixels| network.probabilities(side_px, pixels))
    })
}

/// Whether a device can scan in `precision`.
///
/// # Errors
/// If the device cannot be opened.
pub fn computes(chosen: &Chosen, precision: Precision) -> Result<bool> {
    match precision {
        Precision::F32 => Ok(true),
        _ if !chosen.is_cpu => gpu::computes(chosen, precision),
        Precision::Bf16 => Ok(DirectSegmenter::offers_bf16()),
        Precision::F16 => Ok(false),
    }
}

/// The network of `weights` (a safetensors file's bytes) on the CPU.
///
/// # Errors
/// [`WrongUsage`] if the weights do not fit the network, or the CPU cannot compute in `precision`.
pub fn on_cpu(widths: &[usize], weights: &[u8], precision: Precision) -> Result<DirectSegmenter> {
    let weights = parse(widths, weights)?;
    let network = match precision {
        Precision::F32 => Ok(DirectSegmenter::new(&weights)),
        Precision::Bf16 => DirectSegmenter::in_bf16(&weights).ok_or(
            "this processor has no matrix unit for it (AMX), or the system keeps it back; f32 is what is fast here",
        ),
        Precision::F16 => Err("the CPU scans in f32 or bf16"),
    };
    Ok(network.map_err(|why| WrongUsage(format!("scan.precision = {precision}: {why}")))?)
}

fn parse(widths: &[usize], weights: &[u8]) -> Result<Weights> {
    let parsed = Weights::parse(widths, weights);
    Ok(parsed.map_err(|why| WrongUsage(format!("the weights cannot be used: {why:#}")))?)
}

/// The network of `weights` (a safetensors file's bytes) on the devices that `choose` gives, each of which has agreed
/// with the CPU on a window.
///
/// # Errors
/// [`WrongUsage`] if the weights do not fit the network, a device cannot compute in `precision`, or those of
/// `choose`; if a device fails, or disagrees.
pub fn segmenter(
    network: &NetworkSettings,
    weights: &[u8],
    precision: Precision,
    choose: impl FnOnce() -> Result<Vec<Chosen>>,
) -> Result<Box<dyn Segmenter>> {
    let chosen = choose()?;
    if chosen.iter().any(|device| device.is_cpu) {
        if chosen.len() > 1 {
            let message = "several devices must be GPUs: the CPU shares a scene among its --threads";
            return Err(WrongUsage(message.into()).into());
        }
        return Ok(Box::new(on_cpu(&network.widths, weights, precision)?));
    }
    let weights = Arc::new(parse(&network.widths, weights)?);
    let each = chosen.into_iter().map(|chosen| -> Make {
        let weights = Arc::clone(&weights);
        Box::new(move || {
            let mut device = GpuSegmenter::new(&weights, &chosen, precision)?;
            agrees(&mut device, &mut DirectSegmenter::new(&weights), precision)?;
            Ok(Box::new(device) as Box<dyn Segmenter>)
        })
    });
    Ok(Box::new(Workers::new(each.collect())?))
}
