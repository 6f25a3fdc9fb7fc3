//! The GPUs that a scheduler gave this task. Vulkan does not honour its list, so that we must.
//!
//! Numbers mean two things. Those of `CUDA_VISIBLE_DEVICES` count the GPUs that the task can see, in the order of
//! their PCI addresses: what Slurm, LSF and nvidia-smi mean by them, also where a device cgroup hides some, and what
//! `CUDA_DEVICE_ORDER=PCI_BUS_ID` means. (CUDA's own default, fastest first, differs only on a node of unequal
//! GPUs, and there it is not what the scheduler meant.) Those of `SLURM_STEP_GPUS` and `SLURM_JOB_GPUS` are the
//! node's device files, `/dev/nvidia3`, whatever is hidden.

use std::fs;
use std::path::Path;

/// A scheduler's list of GPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuList {
    /// The variable that holds it.
    pub variable: &'static str,
    /// As it was set.
    pub text: String,
    named: Vec<Named>,
}

/// A GPU as a list names it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Named {
    /// Its place among the visible ones, in PCI order.
    Place(usize),
    /// The number of its device file.
    Minor(usize),
    /// `GPU-...`, perhaps only its beginning.
    Uuid(String),
    /// A slice of a GPU, or what is not understood.
    Other(String),
}

/// A GPU that NVIDIA's driver knows of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriverGpu {
    /// `0000:01:00.0`.
    pub address: String,
    /// `GPU-...`; without it the driver has not looked at the GPU yet.
    pub uuid: Option<String>,
    /// N of `/dev/nvidiaN`.
    pub minor: Option<usize>,
}

/// The list that counts for this process; `None` where no scheduler gave one.
pub fn gpu_list(get: impl Fn(&str) -> Option<String>) -> Option<GpuList> {
    if let Some(text) = get("CUDA_VISIBLE_DEVICES") {
        // As CUDA does: what follows a number below 0 is not visible.
        let visible =
            text.split(',').map(str::trim).take_while(|part| !matches!(*part, "-1" | "NoDevFiles" | ""));
        let named = visible.map(|part| Named::parse(part, Named::Place)).collect();
        return Some(GpuList { variable: "CUDA_VISIBLE_DEVICES", text, named });
    }
    ["SLURM_STEP_GPUS", "SLURM_JOB_GPUS"].into_iter().find_map(|variable| {
        let text = get(variable)?;
        let named = text.split(',').filter(|part| !part.is_empty()).flat_map(minors).collect();
        Some(GpuList { variable, text, named })
    })
}

/// `3`, or `0-3`.
fn minors(part: &str) -> Vec<Named> {
    let range =
        part.split_once('-').and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
    match range {
        Some((first, last)) => (first..=last).map(Named::Minor).collect(),
        None => vec![Named::parse(part, Named::Minor)],
    }
}

impl Named {
    fn parse(part: &str, number: fn(usize) -> Self) -> Self {
        match part.parse() {
            Ok(index) => number(index),
            Err(_) if part.starts_with("GPU-") => Self::Uuid(part.to_owned()),
            Err(_) => Self::Other(part.to_owned()),
        }
    }
}

/// The GPUs under `proc` (`/proc`) by address; none without NVIDIA's driver.
pub fn driver_gpus(proc: &Path) -> Vec<DriverGpu> {
    let Ok(folders) = fs::read_dir(proc.join("driver/nvidia/gpus")) else { return Vec::new() };
    let gpu = |folder: fs::DirEntry| {
        let text = fs::read_to_string(folder.path().join("information")).ok()?;
        Some(described(&folder.file_name().to_string_lossy(), &text))
    };
    let mut gpus: Vec<_> = folders.flatten().filter_map(gpu).collect();
    gpus.sort_by(|a, b| a.address.cmp(&b.address));
    gpus
}

/// A GPU as the driver's file `information` describes it.
fn described(folder: &str, text: &str) -> DriverGpu {
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.split_once(':').filter(|(key, _)| key.trim() == name));
        line.map(|(_, value)| value.trim().to_owned())
    };
    DriverGpu {
        address: address(&value("Bus Location").unwrap_or_else(|| folder.to_owned())),
        uuid: value("GPU UUID").filter(|uuid| !uuid.contains('?')),
        minor: value("Device Minor").and_then(|minor| minor.parse().ok()),
    }
}

/// A PCI address in one way of writing: `0000:41:00.0`, where others write `00000000:41:00.0` or capitals.
pub fn address(text: &str) -> String {
    let text = text.trim().to_ascii_lowercase();
    match text.split_once(':') {
        Some((domain, rest)) if rest.contains(':') => {
            format!("{:0>4}:{rest}", domain.trim_start_matches('0'))
        }
        _ => text,
    }
}

impl GpuList {
    /// The addresses of the listed GPUs, in the list's order: `visible` are those that can be used, `driver` those
    /// that the driver knows of.
    ///
    /// # Errors
    /// Why a GPU of the list cannot be found, in words.
    pub fn given(&self, visible: &[String], driver: &[DriverGpu]) -> Result<Vec<String>, String> {
        let mut in_order = visible.to_vec();
        in_order.sort();
        let known = |is: &dyn Fn(&DriverGpu) -> bool| {
            driver.iter().find(|gpu| is(gpu)).map(|gpu| gpu.address.clone())
        };
        let by_minor = |number: usize| known(&|gpu| gpu.minor == Some(number));
        let find = |named: &Named| -> Result<String, String> {
            let found = match named {
                // A number beyond those that are visible can only be the node's own.
                Named::Place(place) => in_order.get(*place).cloned().or_else(|| by_minor(*place)),
                // Without the driver's word, device files are numbered in PCI order.
                Named::Minor(number) if driver.is_empty() => in_order.get(*number).cloned(),
                Named::Minor(number) => by_minor(*number),
                Named::Uuid(uuid) => {
                    known(&|gpu| gpu.uuid.as_ref().is_some_and(|whole| whole.starts_with(uuid)))
                }
                Named::Other(text) if text.starts_with("MIG-") => {
                    return Err(self.because(&format!(
                        "{text} is a slice of a GPU, and Vulkan cannot be kept to it: ask for a whole GPU, or say \
                         --device cpu"
                    )));
                }
                Named::Other(text) => {
                    return Err(self.because(&format!("{text} is neither a number nor a UUID")));
                }
            };
            match found {
                Some(address) if in_order.contains(&address) => Ok(address),
                Some(address) => Err(self.because(&format!(
                    "the GPU at {address} is not visible to Vulkan, which sees {}: is the driver's Vulkan installed?",
                    in_order.join(", ")
                ))),
                None => Err(self.because(&format!("no GPU is meant by it; Vulkan sees {}", in_order.join(", ")))),
            }
        };
        self.named.iter().map(find).collect()
    }

    fn because(&self, why: &str) -> String {
        format!("{}={}: {why}", self.variable, self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As driver 535 writes it.
    const INFORMATION: &str = "Model: \t\t NVIDIA A100-SXM4-40GB\nIRQ:   \t\t 421\nGPU UUID: \t \
        GPU-5c89a0b5-4d1e-2d4c-9c1a-0f0a6f3b2d11\nVideo BIOS: \t 92.00.45.00.03\nBus Type: \t PCIe\nDMA Size: \t 47 bits\n\
        DMA Mask: \t 0x7fffffffffff\nBus Location: \t 0000:C1:00.0\nDevice Minor: \t 2\nGPU Firmware: \t 535.104.05\n\
        GPU Excluded:\t No\n";

    fn list(name: &str, text: &str) -> GpuList {
        gpu_list(|asked| (asked == name).then(|| text.to_owned())).unwrap()
    }

    fn node() -> (Vec<String>, Vec<DriverGpu>) {
        let addresses = ["0000:07:00.0", "0000:0f:00.0", "0000:47:00.0", "0000:c1:00.0"].map(String::from);
        let driver = addresses.iter().zip([3, 1, 0, 2]);
        let driver = driver.map(|(address, minor)| DriverGpu {
            address: address.clone(),
            uuid: Some(format!("GPU-{minor}c89a0b5-4d1e")),
            minor: Some(minor),
        });
        (addresses.to_vec(), driver.collect())
    }

    #[test]
    fn numbers_count_what_is_visible_in_pci_order_and_slurms_are_device_files() {
        let (all, driver) = node();
        let mut shuffled = all.clone();
        shuffled.reverse();
        let cuda = list("CUDA_VISIBLE_DEVICES", "2,0");
        assert_eq!(cuda.given(&shuffled, &driver).unwrap(), [all[2].as_str(), all[0].as_str()]);
        // A device cgroup left two; Slurm then counts these from 0.
        assert_eq!(list("CUDA_VISIBLE_DEVICES", "1").given(&all[2..], &driver).unwrap(), [all[3].as_str()]);
        assert_eq!(
            list("SLURM_JOB_GPUS", "0-1,3").given(&all, &driver).unwrap(),
            [all[2].as_str(), all[1].as_str(), all[0].as_str()]
        );
        assert_eq!(list("SLURM_STEP_GPUS", "1").given(&all, &[]).unwrap(), [all[1].as_str()]);
        assert!(list("CUDA_VISIBLE_DEVICES", "").given(&all, &driver).unwrap().is_empty());
        assert!(list("CUDA_VISIBLE_DEVICES", "-1,0").given(&all, &driver).unwrap().is_empty());
        assert!(list("CUDA_VISIBLE_DEVICES", "NoDevFiles").given(&all, &driver).unwrap().is_empty());
        assert_eq!(gpu_list(|_| None), None);
    }

    #[test]
    fn uuids_are_found_by_the_driver_and_what_cannot_be_found_is_said() {
        let (all, driver) = node();
        assert_eq!(
            list("CUDA_VISIBLE_DEVICES", "GPU-2c89a0b5").given(&all, &driver).unwrap(),
            [all[3].as_str()]
        );
        let why = |text: &str, visible: &[String]| {
            list("CUDA_VISIBLE_DEVICES", text).given(visible, &driver).unwrap_err()
        };
        assert!(why("GPU-9", &all).contains("CUDA_VISIBLE_DEVICES=GPU-9: no GPU is meant by it"));
        assert!(why("GPU-2c89a0b5-4d1e", &all[..2]).contains("0000:c1:00.0 is not visible to Vulkan"));
        assert!(why("MIG-8f9c", &all).contains("slice of a GPU"));
        assert!(why("all", &all).contains("neither a number nor a UUID"));
        assert!(why("7", &all).contains("no GPU is meant by it"));
    }

    #[test]
    fn the_drivers_files_say_which_gpu_is_which() {
        let proc = tempfile::tempdir().unwrap();
        let folder = proc.path().join("driver/nvidia/gpus");
        for (name, text) in
            [("0000:c1:00.0", INFORMATION), ("0000:07:00.0", "GPU UUID: \t GPU-????????-????\n")]
        {
            fs::create_dir_all(folder.join(name)).unwrap();
            fs::write(folder.join(name).join("information"), text).unwrap();
        }
        let gpus = driver_gpus(proc.path());
        assert_eq!(gpus[0], DriverGpu { address: "0000:07:00.0".into(), uuid: None, minor: None });
        assert_eq!((gpus[1].address.as_str(), gpus[1].minor), ("0000:c1:00.0", Some(2)));
        assert_eq!(gpus[1].uuid.as_deref(), Some("GPU-5c89a0b5-4d1e-2d4c-9c1a-0f0a6f3b2d11"));
        assert!(driver_gpus(Path::new("nowhere")).is_empty());
        assert_eq!(address("00000000:C1:00.0"), "0000:c1:00.0");
        assert_eq!(address("00010000:01:00.0"), "10000:01:00.0");
    }
}
