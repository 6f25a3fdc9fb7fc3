//! A training step of 32 crops of 128 x 128 px: images a second and memory.
//!
//!     cargo bench --bench train_step [-- unet1 unet3] [f16] [device=gpu]
#![allow(clippy::print_stdout)]

use std::time::Instant;

use marscan::config::{Precision, load};
use marscan::dice::Dice;
use marscan::train::optimiser::Optimiser;
use marscan::unet::descent::Parameters;
use marscan::unet::device::choose;
use marscan::unet::layout::{parameters, statistics};
use marscan::unet::loss::Loss;
use marscan::unet::replica::{Alone, Place};
use marscan::unet::{CropBatch, Regime, Trainer};

/// Steps that do not count, and that do: on a CPU the first makes the sheets, and a GPU wakes up slowly.
const ON_CPU: [u64; 2] = [1, 5];
const ON_GPU: [u64; 2] = [100, 100];
const CROPS: usize = 32;
const SIDE_PX: usize = 128;

fn main() -> anyhow::Result<()> {
    let asked: Vec<String> = std::env::args().skip(1).collect();
    let named: Vec<String> = asked.iter().filter(|name| name.starts_with("unet")).cloned().collect();
    let device = asked.iter().find_map(|word| word.strip_prefix("device=")).unwrap_or("cpu");
    let [before, counted] = if device.starts_with("gpu") { ON_GPU } else { ON_CPU };
    let device = choose(device)?;
    let precision = asked.iter().find_map(|word| match word.as_str() {
        "f16" => Some(Precision::F16),
        "bf16" => Some(Precision::Bf16),
        _ => None,
    });
    let precision = precision.unwrap_or(Precision::F32);
    let networks = if named.is_empty() { vec!["unet1".into(), "unet3".into()] } else { named };
    for name in networks {
        let network = load(&name)?.network;
        let count = |shapes: Vec<(String, Vec<usize>)>| -> usize {
            shapes.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum()
        };
        let mut dice = Dice::new(1, &[]);
        let values =
            (0..count(parameters(&network.widths))).map(|_| (dice.unit() as f32 - 0.5) * 0.1).collect();
        let px = CROPS * SIDE_PX * SIDE_PX;
        let pixels = (0..px).map(|_| 1 + dice.below(255) as u8).collect();
        let mask = (0..px).map(|_| if dice.below(100) < 5 { 255 } else { 0 }).collect();
        let crops = CropBatch { side_px: SIDE_PX, pixels, mask };
        let regime = Regime { loss: Loss::Bce, local_statistics: false, precision, seed: 1 };
        let still = vec![0.0; count(statistics(&network.widths))];
        let mut nadam = Optimiser::new(&load("unet1.0")?.train);
        let parameters = Parameters::new(values, nadam.moments());
        let mut trainer = Trainer::new(&network, std::slice::from_ref(&device), regime, parameters, still)?;
        let mut rates = Vec::new();
        for step in 0..before + counted {
            let began = Instant::now();
            let (descent, after) = nadam.next(1e-4);
            trainer.step(&descent, &crops, Place { step, first_crop: 0 }, &Alone)?;
            nadam = after;
            if step >= before {
                rates.push(CROPS as f64 / began.elapsed().as_secs_f64());
            }
        }
        rates.sort_by(f64::total_cmp);
        println!("{name}: median {:.2} images/s, most memory {}", rates[rates.len() / 2], peak());
    }
    Ok(())
}

fn peak() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("unknown").trim().to_owned()
}
