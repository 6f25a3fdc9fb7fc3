//! Which device `--device` and `--devices` mean, and that no other process uses it by accident.

use std::collections::BTreeMap;
use std::env;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, anyhow, bail};
use burn::tensor::{Device, DeviceKind};
use cubecl::client::Client;
use cubecl::device::WgpuDeviceKind;

pub use super::adapters::{Kind, Listed, Machine};
use crate::fault::WrongUsage;
use crate::job::{Asked, GpuLock, LOCKS, lock_gpu, task_id};

/// A device, opened by the framework when it is first used.
#[derive(Clone, Debug)]
pub struct Chosen {
    pub(super) device: Device,
    pub(super) is_cpu: bool,
    kind: Kind,
    /// For logs and tables.
    pub name: String,
    /// The lock of a GPU: its address, or what stands for one.
    key: Option<String>,
    /// Whether a scheduler gave it: it then knows who shares it.
    given: bool,
}

/// The GPUs that this process uses, until it ends.
static HELD: Mutex<BTreeMap<String, GpuLock>> = Mutex::new(BTreeMap::new());

impl Chosen {
    fn cpu() -> Self {
        Self {
            device: Device::flex(),
            is_cpu: true,
            kind: Kind::Cpu,
            name: "cpu".into(),
            key: None,
            given: false,
        }
    }

    fn of(listed: &Listed) -> Self {
        let is_gpu = listed.choice.starts_with("gpu:");
        Self {
            device: open(listed.kind),
            is_cpu: listed.kind == Kind::Cpu,
            kind: listed.kind,
            name: format!("{} {}", listed.choice, listed.name),
            key: is_gpu.then(|| listed.pci_address.clone().unwrap_or_else(|| listed.choice.clone())),
            given: listed.given == Some(true),
        }
    }

    /// What the ranks of a host compare to see whether they were given the same devices.
    pub fn place(&self) -> &str {
        self.key.as_deref().unwrap_or("cpu")
    }

    /// Whether it is a processor, through the framework or not.
    pub(super) fn is_processor(&self) -> bool {
        self.kind == Kind::Cpu
    }

    /// The GPU's own kernels and memory, beside what the framework does there.
    ///
    /// # Errors
    /// If it is no GPU.
    pub(super) fn client(&self) -> Result<Client> {
        let kind = match self.kind {
            Kind::Cpu => bail!("{} is no GPU", self.name),
            Kind::DiscreteGpu(n) => WgpuDeviceKind::DiscreteGpu(n),
            Kind::IntegratedGpu(n) => WgpuDeviceKind::IntegratedGpu(n),
            Kind::VirtualGpu(n) => WgpuDeviceKind::VirtualGpu(n),
            Kind::Software => WgpuDeviceKind::Cpu,
        };
        let device = cubecl::Device::vulkan(kind).map_err(|why| anyhow!("{}: {why}", self.name))?;
        Ok(device.client())
    }

    /// Asks for the GPU with the locks in `folder`; who uses it, if that is another process and no scheduler meant
    /// it so.
    fn ask(&self, folder: &Path) -> Result<Option<String>> {
        let Some(key) = &self.key else { return Ok(None) };
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        if held.contains_key(key) {
            return Ok(None);
        }
        match lock_gpu(folder, key, task_id(|name| env::var(name).ok()).as_deref()) {
            Ok(Asked::Free(lock)) => {
                held.insert(key.clone(), lock);
                Ok(None)
            }
            Ok(Asked::Taken(_)) | Err(_) if self.given => Ok(None),
            Ok(Asked::Taken(who)) => Ok(Some(who)),
            Err(why) => Err(why),
        }
    }
}

/// The device that `choice` means: `auto`, `cpu`, `gpu` (the first), `gpu:N`, `gpu:PCI-ADDRESS`, or
/// `software` (Vulkan on the processor, for tests). Of GPUs only those that a scheduler gave, where one did; N counts
/// these, as for CUDA programs. A GPU is then held until the process ends; `auto` takes the first that is free.
///
/// # Errors
/// [`WrongUsage`] if there is no such device; the message lists those there are. If another process uses it.
pub fn choose(choice: &str) -> Result<Chosen> {
    choose_sharing(choice, false)
}

/// As [`choose`]; with `share`, a GPU is taken though another process uses it.
///
/// # Errors
/// As [`choose`].
pub fn choose_sharing(choice: &str, share: bool) -> Result<Chosen> {
    let (free, taken) = hold(candidates(choice)?, 1, share, Path::new(LOCKS))?;
    free.into_iter().next().ok_or_else(|| in_use(&taken))
}

/// The device that is meant, or of `auto` those that may be, the best first.
fn candidates(choice: &str) -> Result<Vec<Chosen>> {
    if choice == "cpu" {
        return Ok(vec![Chosen::cpu()]);
    }
    let machine = Machine::look();
    if choice != "auto" {
        return Ok(vec![Chosen::of(machine.find(choice).map_err(WrongUsage)?)]);
    }
    if let Some(trouble) = &machine.trouble {
        return Err(WrongUsage(trouble.clone()).into());
    }
    let gpus = machine.gpus();
    let cards = gpus.iter().filter(|gpu| matches!(gpu.kind, Kind::DiscreteGpu(_))).count();
    let best = if cards > 0 { cards } else { gpus.len() };
    let best: Vec<_> = gpus.into_iter().take(best).map(Chosen::of).collect();
    Ok(if best.is_empty() { vec![Chosen::cpu()] } else { best })
}

/// Holds devices until the process ends, until `enough` are free: those, and who uses the others.
fn hold(
    devices: Vec<Chosen>,
    enough: usize,
    share: bool,
    folder: &Path,
) -> Result<(Vec<Chosen>, Vec<String>)> {
    let (mut free, mut taken) = (Vec::new(), Vec::new());
    for device in devices {
        if free.len() == enough {
            break;
        }
        match if share { None } else { device.ask(folder)? } {
            None => free.push(device),
            Some(who) => taken.push(format!("{} is used by {who}", device.name)),
        }
    }
    Ok((free, taken))
}

fn in_use(taken: &[String]) -> anyhow::Error {
    let taken = taken.join(", ");
    WrongUsage(format!("{taken}: wait, name another device, or share it deliberately with --share-gpu"))
        .into()
}

/// Holds `devices` until the process ends. Of `auto`, those that another process uses are left out.
///
/// # Errors
/// [`WrongUsage`] if another process uses one of them, or of `auto` all; it is named.
pub fn hold_all(devices: Vec<Chosen>, auto: bool, share: bool) -> Result<Vec<Chosen>> {
    let (free, taken) = hold(devices, usize::MAX, share, Path::new(LOCKS))?;
    if taken.is_empty() || auto && !free.is_empty() { Ok(free) } else { Err(in_use(&taken)) }
}

/// The devices that `choice` means: `auto` (all GPUs, or else the CPU), or a list with commas of `0` (the first
/// GPU), a PCI address, `cpu`, `cpu:4` (four replicas that share its threads), or what [`choose`] takes. They are not held yet:
/// see [`hold_all`].
///
/// # Errors
/// [`WrongUsage`] if there is no such device, or a GPU is named twice.
pub fn choose_all(choice: &str) -> Result<Vec<Chosen>> {
    if choice == "auto" {
        let machine = Machine::look();
        if let Some(trouble) = machine.trouble {
            return Err(WrongUsage(trouble).into());
        }
        let gpus: Vec<_> = machine.gpus().into_iter().map(Chosen::of).collect();
        return Ok(if gpus.is_empty() { vec![Chosen::cpu()] } else { gpus });
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
        let item = if replicas > 1 || item == "cpu:1" { "cpu" } else { &item };
        let device = candidates(item)?.swap_remove(0);
        if !device.is_cpu && chosen.iter().any(|other| other.name == device.name) {
            return Err(WrongUsage(format!("--devices {choice}: {} is named twice", device.name)).into());
        }
        chosen.extend(std::iter::repeat_n(device, replicas));
    }
    Ok(chosen)
}

/// The devices of the rank at place `rank` among those of its host, of which `all` are named; `lists` is what
/// [`places`] says on each. Where they were given the same devices each takes its own in turn, and only the
/// processor can be taken by several; where each was given its own, it has them.
///
/// # Errors
/// [`WrongUsage`] if there are more ranks than devices, or they were given some devices in common.
pub fn take_turn(all: Vec<Chosen>, rank: usize, lists: &[String]) -> Result<Vec<Chosen>> {
    let ranks = lists.len();
    if lists.iter().any(|list| *list != lists[0]) {
        let mut each: Vec<&str> = lists.iter().flat_map(|list| list.split(' ')).collect();
        let count = each.len();
        each.sort_unstable();
        each.dedup();
        if each.len() < count {
            let message =
                format!("the ranks of this host were given some devices in common: {}", lists.join(", "));
            return Err(WrongUsage(message).into());
        }
        return Ok(all);
    }
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

/// What the ranks of a host compare.
pub fn places(devices: &[Chosen]) -> String {
    devices.iter().map(Chosen::place).collect::<Vec<_>>().join(" ")
}

/// The processor through the framework: slow, and what the faster paths are held to.
pub fn reference() -> Chosen {
    Chosen { is_cpu: false, name: "cpu through Burn".into(), ..Chosen::cpu() }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu(address: &str, given: bool) -> Chosen {
        Chosen {
            is_cpu: false,
            name: format!("gpu {address}"),
            key: Some(address.into()),
            given,
            ..Chosen::cpu()
        }
    }

    #[test]
    fn a_gpu_that_another_process_uses_is_passed_over_named_or_shared_on_purpose() {
        let folder = tempfile::tempdir().unwrap();
        let locks = folder.path();
        let Asked::Free(theirs) = lock_gpu(locks, "0000:01:00.0", Some("77_3")).unwrap() else { panic!() };
        let both = || vec![gpu("0000:01:00.0", false), gpu("0000:02:00.0", false)];
        let names = |enough, share| {
            let (free, taken) = hold(both(), enough, share, locks).unwrap();
            (free.into_iter().map(|device| device.name).collect::<Vec<_>>(), taken)
        };
        let (free, taken) = names(1, false);
        assert_eq!(free, ["gpu 0000:02:00.0"]);
        let why = in_use(&taken).to_string();
        assert!(why.contains("0000:01:00.0 is used by process") && why.contains("of task 77_3"), "{why}");
        assert_eq!(names(9, false).0, free, "what this process holds is its own");
        assert_eq!(names(9, true).0.len(), 2);
        let given = hold(vec![gpu("0000:01:00.0", true)], 1, false, locks).unwrap().0;
        assert_eq!(given.len(), 1, "its scheduler knows who shares it");
        drop(theirs);
        assert_eq!(names(9, false).0.len(), 2);
    }

    #[test]
    fn ranks_share_one_list_or_have_each_their_own() {
        let all = || vec![gpu("a", true), gpu("b", true)];
        let lists = |lists: &[&str]| lists.iter().map(|list| (*list).to_owned()).collect::<Vec<_>>();
        let name = |devices: Vec<Chosen>| places(&devices);
        assert_eq!(name(take_turn(all(), 1, &lists(&["a b", "a b"])).unwrap()), "b");
        assert_eq!(name(take_turn(all(), 0, &lists(&["a b", "c"])).unwrap()), "a b");
        assert!(take_turn(all(), 0, &lists(&["a b", "b c"])).unwrap_err().is::<WrongUsage>());
        assert!(take_turn(all(), 2, &lists(&["a b", "a b", "a b"])).unwrap_err().is::<WrongUsage>());
        assert_eq!(name(take_turn(vec![Chosen::cpu()], 1, &lists(&["cpu", "cpu"])).unwrap()), "cpu");
    }
}
