//! The network: the only room that names burn or wgpu.
//!
//! One description of the wiring ([`layout::walk`]) serves training and inference on any device, chosen at
//! run time. [`DirectSegmenter`] says it again for inference on the CPU, without the framework, and is held
//! to it by the tests. A panic inside the framework ends here as an error.

mod adapters;
mod burn_replica;
pub mod device;
mod direct;
mod gang;
pub mod layout;
pub mod loss;
pub mod replica;
mod segment;
mod trainer;
pub mod weights;

use anyhow::Result;

use crate::config::NetworkSettings;
use crate::detect::Segmenter;
use crate::fault::WrongUsage;

pub use device::{Chosen, Machine};
pub use direct::DirectSegmenter;
pub use segment::UnetSegmenter;
pub use trainer::{CropBatch, LossScale, Regime, StepOutcome, StepSeconds, Trainer};
pub use weights::Weights;

/// Probabilities, `[count, side, side]` in 0..=1, of network input of the same shape, given its side.
pub type Predictor = Box<dyn FnMut(usize, &[u8]) -> Result<Vec<f32>> + Send>;

/// The network of `weights` as a function, on the fastest path of its device.
///
/// # Errors
/// If the device fails.
pub fn predictor(weights: &Weights, chosen: Chosen) -> Result<Predictor> {
    Ok(if chosen.is_cpu {
        let network = DirectSegmenter::new(weights);
        Box::new(move |side_px, pixels| network.probabilities(side_px, pixels))
    } else {
        let network = UnetSegmenter::new(weights, chosen)?;
        Box::new(move |side_px, pixels| {
            network.probabilities(pixels.len() / (side_px * side_px), side_px, pixels)
        })
    })
}

/// The network of `weights` (a safetensors file's bytes) on a device (see [`device::choose_sharing`]).
///
/// # Errors
/// [`WrongUsage`] if the weights do not fit the network, or there is no such device.
pub fn segmenter(
    network: &NetworkSettings,
    weights: &[u8],
    device: &str,
    share: bool,
) -> Result<Box<dyn Segmenter>> {
    let weights = Weights::parse(&network.widths, weights)
        .map_err(|why| WrongUsage(format!("the weights cannot be used: {why:#}")))?;
    let chosen = device::choose_sharing(device, share)?;
    Ok(if chosen.is_cpu {
        Box::new(DirectSegmenter::new(&weights))
    } else {
        Box::new(UnetSegmenter::new(&weights, chosen)?)
    })
}
