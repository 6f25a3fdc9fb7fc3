//! `marscan devices`: what the network can run on here, and which of it a scheduler gave; and the flags that choose.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args as ClapArgs;

use super::Done;
use crate::unet::device::choose_sharing;
use crate::unet::{Chosen, Machine};

/// The device of a command.
#[derive(Clone, Debug, ClapArgs)]
pub struct DeviceFlags {
    /// auto, cpu, gpu, gpu:N or gpu:PCI-ADDRESS
    #[arg(long, default_value = "auto")]
    device: String,
    /// Use a GPU though another process uses it; without it a GPU is one process's, unless a scheduler deals them out
    #[arg(long)]
    pub share_gpu: bool,
    /// Folder where GPU drivers (NVIDIA's, Mesa's) keep compiled kernels for the next start; an array's tasks may share it
    #[arg(long, value_name = "FOLDER")]
    pub kernel_cache: Option<PathBuf>,
}

impl DeviceFlags {
    /// Chooses it, see [`choose_sharing`].
    ///
    /// # Errors
    /// If there is no such device, or another process uses it.
    pub fn choose(&self) -> Result<Chosen> {
        choose_sharing(&self.device, self.share_gpu)
    }
}

/// List what the network can run on, which GPUs a scheduler gave, and which of them `--device auto` takes first.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Example:\n  marscan devices")]
pub struct Args {}

/// Prints a line a device.
pub fn run(_: &Args) -> Done {
    let machine = Machine::look();
    if let Some(list) = &machine.list {
        say!("{}={} is the scheduler's list of GPUs: column `given`", list.variable, list.text);
    }
    say!("{:10} {:16} {:14} {:6} {:24} name", "--device", "kind", "PCI address", "given", "driver");
    for device in machine.all {
        say!(
            "{:10} {:16} {:14} {:6} {:24} {}{}",
            device.choice,
            device.kind.to_string(),
            device.pci_address.as_deref().unwrap_or("-"),
            device.given.map_or("-", |given| if given { "yes" } else { "no" }),
            device.driver,
            device.name,
            if device.auto { "   <- auto" } else { "" }
        );
    }
    if let Some(trouble) = machine.trouble {
        say!("cannot tell which GPUs are given: {trouble}");
    }
    Done::All
}
