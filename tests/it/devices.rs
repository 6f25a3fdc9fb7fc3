//! Devices that are held against the CPU, that compute in half precision, and that share a scene.

use anyhow::Result;
use marscan::config::Precision;
use marscan::detect::{Segmenter, WindowBatch};
use marscan::dice::Dice;
use marscan::fault::DeviceLost;
use marscan::unet::device::{Chosen, choose};
use marscan::unet::layout::statistics;
use marscan::unet::{DirectSegmenter, GpuSegmenter, Make, Weights, Workers, agrees, computes};

use tempfile::TempDir;

use crate::files::{fail, succeed};
use crate::golden::drawn;

fn weights(widths: &[usize], changed: bool) -> Weights {
    let still = statistics(widths)
        .into_iter()
        .flat_map(|(name, shape)| vec![if name.ends_with("running_var") { 1.0 } else { 0.0 }; shape[0]]);
    let mut values = drawn(widths);
    if changed {
        values[0] += 0.5;
    }
    Weights::from_flat(widths, &values, &still.collect::<Vec<f32>>())
}

/// Software Vulkan, where there is some that works.
pub fn software() -> Option<Chosen> {
    let chosen = choose("software");
    if let Err(why) = &chosen {
        println!("not run: {why} (apt-get install mesa-vulkan-drivers libvulkan1)");
    }
    chosen.ok()
}

/// A small scene: its folder, list, and a place for a run.
fn scene() -> (TempDir, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().to_str().unwrap();
    succeed(&["synth", "--out", place, "--rows", "64", "--cols", "64", "--impacts", "0"]);
    let (list, out) = (format!("{place}/scenes.csv"), format!("{place}/out"));
    (folder, list, out)
}

#[test]
fn a_device_that_is_wrong_is_found_by_its_first_window() {
    let widths = [6, 9, 12];
    let mut cpu = DirectSegmenter::new(&weights(&widths, false));
    let mut other = DirectSegmenter::new(&weights(&widths, true));
    agrees(&mut DirectSegmenter::new(&weights(&widths, false)), &mut cpu, Precision::F32).unwrap();
    let why = agrees(&mut other, &mut cpu, Precision::F32).unwrap_err().to_string();
    assert!(why.contains("cannot be trusted") && why.contains("--device cpu"), "{why}");
}

/// Holds a network of `widths` on a GPU against the CPU on drawn windows.
fn hold(gpu: Result<GpuSegmenter>, weights: &Weights, windows: usize, side: usize, limit: f32) {
    let mut gpu = match gpu {
        Ok(gpu) => gpu,
        Err(why) => {
            println!("not run: {why}");
            assert!(why.to_string().contains("scan.precision = "), "{why}");
            return;
        }
    };
    let mut dice = Dice::new(11, &[]);
    let mut batch = WindowBatch::new(windows, side);
    batch.pixels.fill_with(|| dice.below(256) as u8);
    batch.count = windows;
    let wanted = DirectSegmenter::new(weights).probabilities(side, &batch.pixels).unwrap();
    let found = gpu.probabilities(side, &batch.pixels).unwrap();
    let off = found.iter().zip(&wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let (what, device) = (weights.widths(), gpu.device());
    println!("{what:?}, {windows} windows of {side} px, {device}: off by {off:.1e}");
    assert!(off < limit, "{what:?}, {device}: {off}");
    let spread = wanted.iter().fold(0.0f32, |m, v| m.max(*v)) - wanted.iter().fold(1.0f32, |m, v| m.min(*v));
    assert!(spread > 0.04, "{what:?}: a network that tells nothing, spread {spread}");
    let mut levels = vec![0; found.len()];
    gpu.segment(&batch, &mut levels).unwrap();
    assert!(levels.iter().zip(&found).all(|(&level, p)| level == (p * 255.0 + 0.5) as u8));
    // Of a part of each window: what other windows have left around what is needed for it is not seen.
    let mut other = batch.clone();
    other.pixels.reverse();
    for (rows, cols) in
        [(0..side - 3, 0..side - 5), (side / 2..side, side / 3..side / 3 + 2), (7..8, 0..side)]
    {
        gpu.segment(&other, &mut vec![0; levels.len()]).unwrap();
        (batch.rows, batch.cols) = (rows.clone(), cols.clone());
        let mut part = vec![0; levels.len()];
        gpu.segment(&batch, &mut part).unwrap();
        for row in (0..windows).flat_map(|window| rows.clone().map(move |row| (window * side + row) * side)) {
            let asked = row + cols.start..row + cols.end;
            assert!(part[asked.clone()] == levels[asked], "{what:?}, {rows:?}, {cols:?}, at {row}");
        }
        assert!(gpu.computed_px(&batch) < batch.meant_px() as u64);
    }
}

#[test]
fn a_gpu_gives_the_probabilities_of_the_cpu() {
    let Some(chosen) = software() else { return };
    // Sides that workgroups divide, and that they do not; several windows, several chunks and blocks of channels.
    for (widths, windows, side) in [
        (&[1, 2][..], 3, 36),
        (&[2, 3], 1, 16),
        (&[6, 9, 12], 2, 52),
        (&[40, 17, 33], 2, 28),
        (&[64, 32], 1, 32),
    ] {
        let weights = weights(widths, false);
        hold(GpuSegmenter::new(&weights, &chosen, Precision::F32), &weights, windows, side, 2e-5);
        for precision in [Precision::F16, Precision::Bf16] {
            let limit = if precision == Precision::F16 { 5e-3 } else { 5e-2 };
            hold(
                GpuSegmenter::without_matrices(&weights, &chosen, precision),
                &weights,
                windows,
                side,
                limit,
            );
        }
    }
}

#[test]
fn cooperative_matrices_give_the_probabilities_of_the_cpu() {
    let Some(chosen) = software() else { return };
    for (widths, windows, side) in [(&[1, 2][..], 3, 36), (&[40, 17], 1, 20), (&[64, 32], 1, 32)] {
        let weights = weights(widths, false);
        let gpu = GpuSegmenter::new(&weights, &chosen, Precision::F16);
        if gpu.as_ref().is_ok_and(|gpu| gpu.device().contains("no cooperative matrices")) {
            println!("not run: no cooperative matrices here (Mesa 26 has them)");
            return;
        }
        hold(gpu, &weights, windows, side, 5e-3);
    }
}

#[test]
fn half_precision_that_a_cpu_has_not_and_replicas_in_a_scan_are_refused_by_name() {
    let (_folder, list, out) = scene();
    let args = ["scan", "--scenes", &list, "--out", &out, "--device", "cpu", "--precision", "f16"];
    let (code, message) = fail(&args);
    assert_eq!(code, 2);
    assert!(message.contains("scan.precision = f16: the CPU"), "{message}");
    if !DirectSegmenter::offers_bf16() {
        let args = ["scan", "--scenes", &list, "--out", &out, "--device", "cpu", "--precision", "bf16"];
        let (code, message) = fail(&args);
        assert_eq!(code, 2);
        assert!(message.contains("scan.precision = bf16: this processor has no"), "{message}");
    }
    let args = ["scan", "--scenes", &list, "--out", &out, "--devices", "cpu:3"];
    let (code, message) = fail(&args);
    assert_eq!(code, 2);
    assert!(message.contains("--threads"), "{message}");
}

#[test]
fn what_a_cpu_computes_in_is_known_before_it_is_asked() {
    let cpu = choose("cpu").unwrap();
    for (precision, offered) in
        [(Precision::F32, true), (Precision::F16, false), (Precision::Bf16, DirectSegmenter::offers_bf16())]
    {
        assert_eq!(computes(&cpu, precision).unwrap(), offered, "{precision}");
    }
    assert_eq!(DirectSegmenter::in_bf16(&weights(&[3, 5], false)).is_some(), DirectSegmenter::offers_bf16());
}

#[test]
fn several_devices_take_batches_in_turn_and_answer_as_one() {
    let widths = [6, 9, 12];
    let one = || -> Make { Box::new(|| Ok(Box::new(DirectSegmenter::new(&weights(&[6, 9, 12], false))))) };
    let mut several = Workers::new(vec![one(), one(), one()]).unwrap();
    let mut direct = DirectSegmenter::new(&weights(&widths, false));
    assert_eq!(several.halo_px(), direct.halo_px());
    assert_eq!(several.device().matches(" + ").count(), 2);
    let mut dice = Dice::new(7, &[]);
    // More batches than are in hand at once, some with room to spare.
    let batches: Vec<_> = (0..20usize)
        .map(|k| {
            let mut batch = WindowBatch::new(3, 64);
            batch.pixels.fill_with(|| dice.below(256) as u8);
            batch.count = 1 + k % 3;
            batch
        })
        .collect();
    let queue = several.queue().unwrap();
    let mut found = Vec::new();
    for (k, batch) in batches.iter().enumerate() {
        queue.submit(batch.clone()).unwrap();
        if k >= queue.depth() {
            found.extend(queue.collect().unwrap());
        }
    }
    while let Some(batch) = queue.collect().unwrap() {
        found.push(batch);
    }
    assert_eq!(found.len(), batches.len());
    for (found, batch) in found.iter().zip(&batches) {
        let mut wanted = vec![0; batch.pixels.len()];
        direct.segment(batch, &mut wanted).unwrap();
        let meant = batch.meant_px();
        assert!(found.count == batch.count && found.pixels[..meant] == wanted[..meant]);
        assert!(wanted.iter().max() > wanted.iter().min());
    }
}

/// Fails at its third batch, by an error or a panic.
struct Third(u32, bool);

impl Segmenter for Third {
    fn halo_px(&self) -> u32 {
        0
    }

    fn multiple_px(&self) -> u32 {
        1
    }

    fn device(&self) -> String {
        "third".into()
    }

    fn segment(&mut self, _: &WindowBatch, _: &mut [u8]) -> Result<()> {
        self.0 += 1;
        assert!(self.0 < 3 || !self.1, "a panic inside the library");
        anyhow::ensure!(self.0 != 3, DeviceLost("unplugged".into()));
        Ok(())
    }
}

#[test]
fn a_device_that_is_lost_or_cannot_be_made_is_an_error_of_all() {
    let batch = WindowBatch { count: 1, ..WindowBatch::new(1, 4) };
    for panics in [false, true] {
        let make: Make = Box::new(move || Ok(Box::new(Third(0, panics))));
        let mut workers = Workers::new(vec![make]).unwrap();
        let mut answer = vec![0; 16];
        workers.segment(&batch, &mut answer).unwrap();
        workers.segment(&batch, &mut answer).unwrap();
        let why = workers.segment(&batch, &mut answer).unwrap_err();
        assert!(why.is::<DeviceLost>(), "{why}");
    }
    let good: Make = Box::new(|| Ok(Box::new(Third(0, false))));
    let bad: Make = Box::new(|| Err(DeviceLost("no memory".into()).into()));
    let why = Workers::new(vec![good, bad]).err().unwrap().to_string();
    assert!(why.contains("no memory"), "{why}");
}

#[test]
fn windows_that_a_device_cannot_hold_end_the_shard_with_a_remedy() {
    if software().is_none() {
        return;
    }
    let (folder, list, out) = scene();
    // An activation of 8192 px by 32 channels is 8.6 GB; software Vulkan allocates 4 GiB at most.
    let args = [
        "scan", "--scenes", &list, "--out", &out, "--device", "software", "--window", "8192", "--batch", "1",
    ];
    let (code, message) = fail(&args);
    assert_eq!(code, 1);
    assert!(message.contains("allocat") && message.contains("--window"), "{message}");
    assert!(!folder.path().join("out/shards/shard-00000-of-00001").exists());
}

#[test]
fn compiled_kernels_are_kept_where_it_is_said() {
    let (folder, list, out) = scene();
    let place = format!("{list}/kept");
    let (code, message) = fail(&["scan", "--scenes", &list, "--out", &out, "--kernel-cache", &place]);
    assert!(code == 2 && message.contains("--kernel-cache") && message.contains(&place), "{message}");
    let kept = folder.path().join("kept");
    let place = kept.to_str().unwrap();
    let device = if software().is_some() { "software" } else { "cpu" };
    succeed(&["scan", "--scenes", &list, "--out", &out, "--device", device, "--kernel-cache", place]);
    let files = std::fs::read_dir(&kept).unwrap().count();
    assert!(if device == "cpu" { files == 0 } else { files > 0 }, "{files} files");
}
