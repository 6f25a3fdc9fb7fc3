//! What the network can run on, and which of it `--device` means.
//!
//! `auto` never takes a software rasteriser for a GPU: it is slower than the CPU path.

use std::fmt;

use anyhow::Result;
use burn::tensor::{Device, DeviceKind};

use super::direct::instructions;
use crate::fault::WrongUsage;

/// A device, opened by the framework when it is first used.
#[derive(Clone, Debug)]
pub struct Chosen {
    pub(super) device: Device,
    pub(super) is_cpu: bool,
    /// For logs and tables.
    pub name: String,
}

/// Something the network can run on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// What `--device` takes.
    pub choice: String,
    /// The adapter's own name.
    pub name: String,
    /// `0000:01:00.0`, where the driver tells.
    pub pci_address: Option<String>,
    /// Driver and version.
    pub driver: String,
    /// Its kind.
    pub kind: Kind,
    /// Whether `auto` takes it.
    pub auto: bool,
}

/// What sort of device, with the number of it among its sort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The processor, through the framework's CPU backend.
    Cpu,
    /// A card of its own.
    DiscreteGpu(usize),
    /// A GPU that shares the processor's memory.
    IntegratedGpu(usize),
    /// A GPU handed through by a hypervisor.
    VirtualGpu(usize),
    /// Vulkan on the processor: for tests.
    Software,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "CPU",
            Self::DiscreteGpu(_) => "discrete GPU",
            Self::IntegratedGpu(_) => "integrated GPU",
            Self::VirtualGpu(_) => "virtual GPU",
            Self::Software => "software Vulkan",
        })
    }
}

/// Everything the network can run on: the CPU, then the Vulkan adapters.
pub fn devices() -> Vec<Listed> {
    let cpu = Listed {
        choice: "cpu".into(),
        name: format!("{} threads", rayon::current_num_threads()),
        pci_address: None,
        driver: instructions().into(),
        kind: Kind::Cpu,
        auto: false,
    };
    let mut all = vec![cpu];
    let (mut gpus, mut of_kind) = (0, [0; 3]);
    for info in adapters() {
        let mut next = |slot: usize| {
            of_kind[slot] += 1;
            of_kind[slot] - 1
        };
        let kind = match info.device_type {
            wgpu::DeviceType::DiscreteGpu => Kind::DiscreteGpu(next(0)),
            wgpu::DeviceType::IntegratedGpu => Kind::IntegratedGpu(next(1)),
            wgpu::DeviceType::VirtualGpu => Kind::VirtualGpu(next(2)),
            wgpu::DeviceType::Cpu => Kind::Software,
            wgpu::DeviceType::Other => continue,
        };
        let choice = if kind == Kind::Software {
            "software".into()
        } else {
            gpus += 1;
            format!("gpu:{}", gpus - 1)
        };
        let pci_address = Some(info.device_pci_bus_id).filter(|address| !address.is_empty());
        let driver = format!("{} {}", info.driver, info.driver_info);
        all.push(Listed { choice, name: info.name, pci_address, driver, kind, auto: false });
    }
    let best = all.iter().position(|d| matches!(d.kind, Kind::DiscreteGpu(_)));
    let best = best.or_else(|| all.iter().position(|d| !matches!(d.kind, Kind::Cpu | Kind::Software)));
    all[best.unwrap_or(0)].auto = true;
    all
}

/// The device that `choice` means: `auto`, `cpu`, `gpu` (the first), `gpu:N`, `gpu:PCI-ADDRESS`, or
/// `software` (Vulkan on the processor, for tests).
///
/// # Errors
/// [`WrongUsage`] if there is no such device; the message lists those there are.
pub fn choose(choice: &str) -> Result<Chosen> {
    if choice == "cpu" {
        return Ok(Chosen { device: Device::flex(), is_cpu: true, name: "cpu".into() });
    }
    let all = devices();
    let wanted = |listed: &&Listed| match choice {
        "auto" => listed.auto,
        "gpu" => listed.choice == "gpu:0",
        _ => {
            let address = choice.strip_prefix("gpu:");
            listed.choice == choice || (address.is_some() && listed.pci_address.as_deref() == address)
        }
    };
    let Some(listed) = all.iter().find(wanted) else {
        let there: Vec<_> = all.iter().map(|d| format!("{} ({})", d.choice, d.name)).collect();
        let message = format!("--device {choice}: not on this machine, which has {}", there.join(", "));
        return Err(WrongUsage(message).into());
    };
    Ok(Chosen {
        device: open(listed.kind),
        is_cpu: listed.kind == Kind::Cpu,
        name: format!("{} {}", listed.choice, listed.name),
    })
}

/// The devices that `choice` means: `auto` (all GPUs, or else the CPU), or a list with commas of `0` (the first
/// GPU), a PCI address, `cpu`, `cpu:4` (four replicas that share its threads), or what [`choose`] takes.
///
/// # Errors
/// [`WrongUsage`] if there is no such device, or a GPU is named twice.
pub fn choose_all(choice: &str) -> Result<Vec<Chosen>> {
    if choice == "auto" {
        let gpus: Vec<_> = devices().into_iter().filter(|d| d.choice.starts_with("gpu:")).collect();
        return if gpus.is_empty() {
            Ok(vec![choose("cpu")?])
        } else {
            gpus.iter().map(|gpu| choose(&gpu.choice)).collect()
        };
    }
    let mut chosen: Vec<Chosen> = Vec::new();
    for item in choice.split(',').map(str::trim) {
        let is_gpu = item.parse::<usize>().is_ok() || item.split(':').count() > 2 && !item.starts_with("gpu");
        let item = if is_gpu { format!("gpu:{item}") } else { item.to_owned() };
        let replicas = match item.strip_prefix("cpu:") {
            Some(count) => count
                .parse()
                .ok()
                .filter(|count| (1..=1024).contains(count))
                .ok_or_else(|| WrongUsage(format!("--devices {item}: after cpu: 1 to 1024 replicas")))?,
            None => 1,
        };
        let device = choose(if replicas > 1 || item == "cpu:1" { "cpu" } else { &item })?;
        if !device.is_cpu && chosen.iter().any(|other| other.name == device.name) {
            return Err(WrongUsage(format!("--devices {choice}: {} is named twice", device.name)).into());
        }
        chosen.extend(std::iter::repeat_n(device, replicas));
    }
    Ok(chosen)
}

/// The devices of one of the `ranks` on a host, of which `all` are named: each takes its own in turn; only the
/// processor can be taken by several.
///
/// # Errors
/// [`WrongUsage`] if there are more ranks than devices.
pub fn take_turn(all: Vec<Chosen>, rank: usize, ranks: usize) -> Result<Vec<Chosen>> {
    if ranks > all.len() && all.iter().all(|device| device.is_cpu) {
        return Ok(all.into_iter().take(1).collect());
    }
    if ranks > all.len() {
        let message = format!(
            "{ranks} ranks on this host for {} devices: start one rank a device, or one a host, which drives all",
            all.len()
        );
        return Err(WrongUsage(message).into());
    }
    Ok(all.into_iter().skip(rank).step_by(ranks).collect())
}

/// The processor through the framework: slow, and what the faster paths are held to.
pub fn reference() -> Chosen {
    Chosen { device: Device::flex(), is_cpu: false, name: "cpu through Burn".into() }
}

fn open(kind: Kind) -> Device {
    Device::vulkan(match kind {
        Kind::Cpu => return Device::flex(),
        Kind::DiscreteGpu(n) => DeviceKind::DiscreteGpu(n),
        Kind::IntegratedGpu(n) => DeviceKind::IntegratedGpu(n),
        Kind::VirtualGpu(n) => DeviceKind::VirtualGpu(n),
        Kind::Software => DeviceKind::Cpu,
    })
}

fn adapters() -> Vec<wgpu::AdapterInfo> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: wgpu::Backends::VULKAN,
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::VULKAN));
    adapters.iter().map(wgpu::Adapter::get_info).collect()
}
