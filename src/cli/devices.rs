//! `marscan devices`: what the network can run on here, and which of it a scheduler gave.

use clap::Args as ClapArgs;

use super::Done;
use crate::unet::Machine;

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
