//! `marscan devices`: what the network can run on here.

use clap::Args as ClapArgs;

use super::Done;
use crate::unet::devices;

/// List what the network can run on, and which of it `--device auto` takes.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Example:\n  marscan devices")]
pub struct Args {}

/// Prints a line a device.
pub fn run(_: &Args) -> Done {
    say!("{:10} {:16} {:14} {:24} name", "--device", "kind", "PCI address", "driver");
    for device in devices() {
        say!(
            "{:10} {:16} {:14} {:24} {}{}",
            device.choice,
            device.kind.to_string(),
            device.pci_address.as_deref().unwrap_or("-"),
            device.driver,
            device.name,
            if device.auto { "   <- auto" } else { "" }
        );
    }
    Done::All
}
