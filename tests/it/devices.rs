//! Devices that are held against the CPU, that compute in half precision, and that share a scene.

use marscan::config::Precision;
use marscan::detect::{Segmenter, WindowBatch};
use marscan::dice::Dice;
use marscan::unet::device::{Chosen, choose, reference};
use marscan::unet::layout::statistics;
use marscan::unet::{DirectSegmenter, Machine, SeveralSegmenters, UnetSegmenter, Weights, agrees};

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

/// The framework's processor, and software Vulkan where there is one.
fn devices() -> Vec<Chosen> {
    let mut all = vec![reference()];
    if Machine::look().all.iter().any(|device| device.choice == "software") {
        all.push(choose("software").unwrap());
    } else {
        println!("not run: no software Vulkan here (apt-get install mesa-vulkan-drivers libvulkan1)");
    }
    all
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
    for chosen in devices() {
        let mut right = UnetSegmenter::new(&weights(&widths, false), chosen.clone(), Precision::F32).unwrap();
        agrees(&mut right, &mut cpu, Precision::F32).unwrap();
        let mut wrong = UnetSegmenter::new(&weights(&widths, true), chosen, Precision::F32).unwrap();
        let why = agrees(&mut wrong, &mut cpu, Precision::F32).unwrap_err().to_string();
        assert!(why.contains("cannot be trusted") && why.contains("--device cpu"), "{why}");
    }
}

#[test]
fn half_precision_agrees_within_its_rounding_and_what_cannot_be_is_refused_by_name() {
    let widths = [6, 9, 12];
    let mut cpu = DirectSegmenter::new(&weights(&widths, false));
    for chosen in devices() {
        for precision in [Precision::F16, Precision::Bf16] {
            match UnetSegmenter::new(&weights(&widths, false), chosen.clone(), precision) {
                Ok(mut half) => agrees(&mut half, &mut cpu, precision).unwrap(),
                Err(why) => {
                    println!("{precision}: {why}");
                    assert!(why.to_string().contains(&format!("scan.precision = {precision}")), "{why}");
                }
            }
        }
    }
    let (_folder, list, out) = scene();
    let args = ["scan", "--scenes", &list, "--out", &out, "--device", "cpu", "--precision", "f16"];
    let (code, message) = fail(&args);
    assert_eq!(code, 2);
    assert!(message.contains("scan.precision = f16: the CPU"), "{message}");
    let args = ["scan", "--scenes", &list, "--out", &out, "--devices", "cpu:3"];
    let (code, message) = fail(&args);
    assert_eq!(code, 2);
    assert!(message.contains("--threads"), "{message}");
}

#[test]
fn several_devices_share_a_batch_and_answer_as_one() {
    let widths = [6, 9, 12];
    let one = || Box::new(UnetSegmenter::new(&weights(&widths, false), reference(), Precision::F32).unwrap());
    let mut several = SeveralSegmenters::new(vec![one(), one(), one()]);
    let mut dice = Dice::new(7, &[]);
    // Seven windows in a batch that has room for eight: shares of three, three and one.
    let mut batch = WindowBatch::new(8, 64);
    batch.pixels.fill_with(|| dice.below(256) as u8);
    batch.count = 7;
    let (mut wanted, mut found) = (vec![0; batch.pixels.len()], vec![0; batch.pixels.len()]);
    one().segment(&batch, &mut wanted).unwrap();
    several.segment(&batch, &mut found).unwrap();
    assert_eq!(several.devices(), 3);
    assert!(found[..7 * 64 * 64] == wanted[..7 * 64 * 64]);
    assert!(wanted.iter().max() > wanted.iter().min());
}

#[test]
fn windows_that_a_device_cannot_hold_end_the_shard_with_a_remedy() {
    if devices().len() < 2 {
        return;
    }
    let (folder, list, out) = scene();
    // Software Vulkan holds 128 MiB in a buffer: a window of 1472 px by 32 channels is 277 MB.
    let args = ["scan", "--scenes", &list, "--out", &out, "--device", "software", "--window", "1472"];
    let (code, message) = fail(&args);
    assert_eq!(code, 1);
    assert!(message.contains("can't allocate") && message.contains("--window"), "{message}");
    assert!(!folder.path().join("out/shards/shard-00000-of-00001").exists());
}
