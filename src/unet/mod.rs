//! The network: the only room that names burn or wgpu.

use anyhow::{Result, bail};

use crate::config::NetworkSettings;
use crate::detect::Segmenter;

/// STUB (its owner fills it in): the network of `weights` (a safetensors file's bytes) on `device` (`auto`, `cpu`, `gpu`, `gpu:PCI`).
pub fn segmenter(_network: &NetworkSettings, _weights: &[u8], _device: &str) -> Result<Box<dyn Segmenter>> {
    bail!("no network in this build")
}
