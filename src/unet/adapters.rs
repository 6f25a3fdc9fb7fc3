//! What the network can run on, and which of it a scheduler gave to this process.
//!
//! GPUs are numbered as CUDA programs number them: of those that were given, in the list's order. `auto` never
//! takes a software rasteriser for a GPU: it is slower than the CPU path.

use std::path::Path;
use std::{env, fmt};

use super::direct::{DirectSegmenter, instructions};
use crate::job::{DriverGpu, GpuList, address, driver_gpus, gpu_list};

/// Something the network can run on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// What `--device` takes; `-` for a GPU that the scheduler did not give.
    pub choice: String,
    /// The adapter's own name.
    pub name: String,
    /// `0000:01:00.0`, where the driver tells.
    pub pci_address: Option<String>,
    /// Driver and version.
    pub driver: String,
    /// Its kind.
    pub kind: Kind,
    /// Whether the scheduler's list has it; `None` without a list, and for what is no GPU.
    pub given: Option<bool>,
    /// Whether `auto` takes it first.
    pub auto: bool,
    nvidia: bool,
}

impl Listed {
    /// Software Vulkan older than Mesa 26: 22 and 25 were seen to crash.
    fn is_of_old_mesa(&self) -> bool {
        let version = self.driver.split_once("Mesa ").and_then(|(_, version)| version.split('.').next());
        self.kind == Kind::Software
            && version.and_then(|major| major.parse().ok()).is_some_and(|major: u32| major < 26)
    }
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

impl Kind {
    fn is_gpu(self) -> bool {
        !matches!(self, Self::Cpu | Self::Software)
    }
}

/// What the network can run on here.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The CPU, then the Vulkan adapters.
    pub all: Vec<Listed>,
    /// The GPUs that a scheduler gave, in its words.
    pub list: Option<GpuList>,
    /// Why the list cannot be matched with the adapters.
    pub trouble: Option<String>,
}

impl Machine {
    /// Looks at this machine and this process's environment.
    pub fn look() -> Self {
        let list = gpu_list(|name| env::var(name).ok());
        Self::arrange(listed(), list, &driver_gpus(Path::new("/proc")))
    }

    /// Numbers the GPUs, of a scheduler's list those that it has.
    fn arrange(mut all: Vec<Listed>, list: Option<GpuList>, driver: &[DriverGpu]) -> Self {
        let mut trouble = None;
        let addresses = |nvidia: bool| -> Vec<String> {
            let gpus = all.iter().filter(|device| device.kind.is_gpu() && (device.nvidia || !nvidia));
            gpus.filter_map(|gpu| gpu.pci_address.clone()).collect()
        };
        // The list is CUDA's; where there are only other GPUs it counts those, as HIP does.
        let visible =
            Some(addresses(true)).filter(|gpus| !gpus.is_empty()).unwrap_or_else(|| addresses(false));
        let order = list.as_ref().filter(|_| !visible.is_empty()).map(|list| {
            list.given(&visible, driver).unwrap_or_else(|why| {
                trouble = Some(why);
                Vec::new()
            })
        });
        let mut next = 0..;
        for gpu in all.iter_mut().filter(|device| device.kind.is_gpu()) {
            let place = match &order {
                Some(order) => order.iter().position(|address| Some(address) == gpu.pci_address.as_ref()),
                None => next.next(),
            };
            gpu.given = order.as_ref().map(|_| place.is_some());
            gpu.choice = place.map_or("-".into(), |place| format!("gpu:{place}"));
        }
        let mut machine = Self { all, list, trouble };
        if machine.trouble.is_none() {
            let first = machine.gpus().first().map_or("cpu", |gpu| gpu.choice.as_str()).to_owned();
            machine.all.iter_mut().for_each(|device| device.auto = device.choice == first);
        }
        machine
    }

    /// The GPUs that may be used, cards of their own before others, each sort in the order of its numbers.
    pub fn gpus(&self) -> Vec<&Listed> {
        let mut gpus: Vec<_> = self.all.iter().filter(|device| device.choice.starts_with("gpu:")).collect();
        gpus.sort_by_key(|gpu| {
            (!matches!(gpu.kind, Kind::DiscreteGpu(_)), gpu.choice.len(), gpu.choice.clone())
        });
        gpus
    }

    /// The device that `choice` means, which is not `auto`.
    ///
    /// # Errors
    /// In words, if there is no such device or it was not given.
    pub fn find(&self, choice: &str) -> Result<&Listed, String> {
        let wanted = if choice == "gpu" { "gpu:0" } else { choice };
        let named = wanted.strip_prefix("gpu:").map(address);
        if let (Some(trouble), Some(_)) = (&self.trouble, &named) {
            return Err(trouble.clone());
        }
        let is_named = |device: &&Listed| named.is_some() && device.pci_address == named;
        let found =
            self.all.iter().find(|device| device.choice == wanted).or_else(|| self.all.iter().find(is_named));
        let gives = self.list.as_ref().filter(|_| named.is_some());
        let gives =
            gives.map_or(String::new(), |list| format!(", of which {}={} gives", list.variable, list.text));
        match found {
            Some(device) if device.is_of_old_mesa() => Err(format!(
                "--device {choice}: {} ends the process at the first kernel with shared memory; Mesa 26 is needed",
                device.driver
            )),
            Some(device) if device.given != Some(false) => Ok(device),
            Some(device) => Err(format!("--device {choice}: {} is not one{gives} to this task", device.name)),
            None => {
                let there = self.all.iter().filter(|device| device.choice != "-");
                let there: Vec<_> = there.map(|d| format!("{} ({})", d.choice, d.name)).collect();
                let there = there.join(", ");
                let gives =
                    if gives.is_empty() { String::new() } else { format!("{gives} what has a number") };
                Err(format!("--device {choice}: not on this machine, which has {there}{gives}"))
            }
        }
    }
}

fn listed() -> Vec<Listed> {
    let cpu = Listed {
        choice: "cpu".into(),
        name: format!("{} threads", rayon::current_num_threads()),
        pci_address: None,
        driver: format!(
            "{}{}",
            instructions(),
            if DirectSegmenter::offers_bf16() { ", AMX for bf16" } else { "" }
        ),
        kind: Kind::Cpu,
        given: None,
        auto: false,
        nvidia: false,
    };
    let mut all = vec![cpu];
    let mut of_kind = [0; 3];
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
        all.push(Listed {
            choice: if kind == Kind::Software { "software" } else { "-" }.into(),
            name: info.name,
            pci_address: Some(info.device_pci_bus_id)
                .filter(|text| !text.is_empty())
                .map(|text| address(&text)),
            driver: format!("{} {}", info.driver, info.driver_info),
            kind,
            given: None,
            auto: false,
            nvidia: info.vendor == NVIDIA,
        });
    }
    all
}

/// NVIDIA's number on the PCI bus.
const NVIDIA: u32 = 0x10de;

fn adapters() -> Vec<wgpu::AdapterInfo> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: wgpu::Backends::VULKAN,
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::VULKAN));
    adapters.iter().map(wgpu::Adapter::get_info).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(kind: Kind, address: &str) -> Listed {
        Listed {
            choice: if kind == Kind::Cpu { "cpu" } else { "-" }.into(),
            name: format!("card at {address}"),
            pci_address: Some(address.to_owned()).filter(|text| !text.is_empty()),
            driver: String::new(),
            kind,
            given: None,
            auto: false,
            nvidia: matches!(kind, Kind::DiscreteGpu(_)),
        }
    }

    /// A processor, a GPU in it, and three cards that Vulkan does not name in PCI order.
    fn machine(visible: Option<&str>) -> Machine {
        let all = vec![
            device(Kind::Cpu, ""),
            device(Kind::IntegratedGpu(0), "0000:00:02.0"),
            device(Kind::DiscreteGpu(0), "0000:41:00.0"),
            device(Kind::DiscreteGpu(1), "0000:01:00.0"),
            device(Kind::DiscreteGpu(2), "0000:81:00.0"),
        ];
        let list = gpu_list(|name| visible.filter(|_| name == "CUDA_VISIBLE_DEVICES").map(str::to_owned));
        Machine::arrange(all, list, &[])
    }

    #[test]
    fn without_a_list_all_gpus_have_numbers_and_auto_takes_a_card() {
        let machine = machine(None);
        let choices: Vec<_> = machine.all.iter().map(|device| device.choice.as_str()).collect();
        assert_eq!(choices, ["cpu", "gpu:0", "gpu:1", "gpu:2", "gpu:3"]);
        assert_eq!(machine.gpus()[0].pci_address.as_deref(), Some("0000:41:00.0"));
        assert!(machine.all[2].auto && machine.all.iter().all(|device| device.given.is_none()));
        assert_eq!(machine.find("gpu:00000000:81:00.0").unwrap().choice, "gpu:3");
    }

    #[test]
    fn of_a_list_only_what_it_gives_has_a_number_in_its_order() {
        let machine = machine(Some("2,0"));
        assert_eq!(machine.find("gpu:0").unwrap().pci_address.as_deref(), Some("0000:81:00.0"));
        assert_eq!(machine.find("gpu:1").unwrap().pci_address.as_deref(), Some("0000:01:00.0"));
        assert_eq!(machine.gpus().len(), 2);
        assert!(machine.find("gpu").unwrap().auto);
        let why = machine.find("gpu:0000:41:00.0").unwrap_err();
        assert!(why.contains("is not one, of which CUDA_VISIBLE_DEVICES=2,0 gives"), "{why}");
        assert!(machine.find("gpu:2").unwrap_err().contains("CUDA_VISIBLE_DEVICES=2,0"));
        assert_eq!(machine.find("cpu").unwrap().kind, Kind::Cpu);
    }

    #[test]
    fn software_vulkan_that_crashes_is_refused_with_what_to_do() {
        let software = |driver: &str| {
            let mut device = device(Kind::Software, "");
            (device.choice, device.driver) = ("software".into(), format!("llvmpipe Mesa {driver}"));
            Machine::arrange(vec![device], None, &[])
        };
        assert!(software("26.2.6-1 (LLVM 22.1.8)").find("software").is_ok());
        let why = software("22.3.6 (LLVM 15.0.6)").find("software").unwrap_err();
        assert!(why.contains("Mesa 22.3.6") && why.contains("Mesa 26"), "{why}");
    }

    #[test]
    fn a_list_that_gives_nothing_leaves_the_processor_and_one_that_fits_nothing_is_said() {
        let none = machine(Some(""));
        assert!(none.gpus().is_empty() && none.all[0].auto && none.trouble.is_none());
        let wrong = machine(Some("MIG-1234"));
        assert!(wrong.find("gpu:0").unwrap_err().contains("slice of a GPU"));
        assert!(wrong.find("cpu").is_ok() && wrong.all.iter().all(|device| !device.auto));
    }
}
