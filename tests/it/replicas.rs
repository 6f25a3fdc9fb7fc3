//! Training steps: the same on every kind of device, and on one device or several.

use anyhow::Result;
use std::slice::from_ref;

use marscan::config::{NetworkSettings, Precision, load};
use marscan::dice::Dice;
use marscan::train::optimiser::Optimiser;
use marscan::unet::device::{Chosen, choose, reference};
use marscan::unet::layout::statistics;
use marscan::unet::loss::Loss;
use marscan::unet::replica::{Alone, Place};
use marscan::unet::{CropBatch, Regime, StepOutcome, Trainer};

use crate::devices::software;
use crate::golden::drawn;

fn trainer(network: &NetworkSettings, devices: &[Chosen], local_statistics: bool) -> Trainer {
    in_precision(network, devices, local_statistics, Precision::F32).unwrap()
}

fn in_precision(
    network: &NetworkSettings,
    devices: &[Chosen],
    local_statistics: bool,
    precision: Precision,
) -> Result<Trainer> {
    let count = statistics(&network.widths).iter().map(|(_, shape)| shape[0]).sum();
    let regime = Regime { loss: Loss::BceJaccard, local_statistics, precision, seed: 5 };
    Trainer::new(network, devices, regime, vec![0.0; count])
}

/// One step from `values`.
pub fn step(network: &NetworkSettings, devices: &[Chosen], values: &[f32], crops: &CropBatch) -> StepOutcome {
    let place = Place { step: 3, first_crop: 0 };
    trainer(network, devices, false).step(values, crops, place, &Alone).unwrap()
}

/// Crops with a border of no data and a dark disc each, which the mask marks.
fn crops(count: usize, side_px: usize, seed: u64) -> CropBatch {
    let mut batch = CropBatch { side_px, pixels: Vec::new(), mask: Vec::new() };
    for k in 0..count {
        let mut dice = Dice::new(seed, &[k as u64]);
        let (row, col) = (dice.below(side_px as u64), dice.below(side_px as u64));
        for at in 0..(side_px * side_px) as u64 {
            let (r, c) = (at / side_px as u64, at % side_px as u64);
            let inside = r.abs_diff(row).pow(2) + c.abs_diff(col).pow(2) < 20;
            let ground = c >= 3;
            let grey = if inside { 40 } else { 100 } + dice.below(40) as u8;
            batch.pixels.push(if ground { grey } else { 0 });
            batch.mask.push(if inside && ground { 255 } else { 0 });
        }
    }
    batch
}

fn farthest(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn the_step_without_the_framework_is_the_frameworks() {
    // Counts of channels off the blocks, batches off the sheets, every depth.
    let networks: [(&[usize], usize, usize); 5] = [
        (&[5, 33], 3, 16),
        (&[3, 40, 7], 5, 32),
        (&[32, 64, 128], 3, 64),
        (&[4, 8, 16, 32, 64], 17, 32),
        (&[6, 5], 2, 200),
    ];
    for (widths, count, side) in networks {
        let network = NetworkSettings { widths: widths.to_vec(), dropout: 0.2 };
        let (values, batch) = (drawn(widths), crops(count, side, 8));
        let wanted = step(&network, &[reference()], &values, &batch);
        let found = step(&network, &[choose("cpu").unwrap()], &values, &batch);
        let (wanted_slopes, slopes) = (wanted.gradient.unwrap(), found.gradient.unwrap());
        let size = wanted_slopes.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        let off = farthest(&wanted_slopes, &slopes) / size;
        println!("{widths:?}: loss {} and {}, gradient off by {off:.1e}", wanted.loss, found.loss);
        assert!((wanted.loss - found.loss).abs() < 1e-5 * wanted.loss.abs(), "{widths:?}");
        assert!(off < 1e-4, "{widths:?}: {off}");
    }
}

#[test]
fn several_replicas_take_the_steps_of_one() {
    let network = NetworkSettings { widths: vec![8, 16, 24], dropout: 0.2 };
    let mut weights = Vec::new();
    for (count, local) in [(1, false), (2, false), (3, false), (4, false), (4, true)] {
        let mut trainer = trainer(&network, &vec![choose("cpu").unwrap(); count], local);
        let mut values = drawn(&network.widths);
        let mut nadam = Optimiser::new(&load("unet1.0").unwrap().train, values.len());
        for number in 0..20 {
            let place = Place { step: number, first_crop: 0 };
            let outcome = trainer.step(&values, &crops(8, 32, 100 + number), place, &Alone).unwrap();
            nadam.step(1e-3, &mut values, &outcome.gradient.unwrap());
        }
        weights.push((values, trainer.statistics));
    }
    let start = drawn(&network.widths);
    assert!(farthest(&start, &weights[0].0) > 5e-3, "nothing was learnt");
    for (k, (values, seen)) in weights[1..4].iter().enumerate() {
        let off = farthest(values, &weights[0].0).max(farthest(seen, &weights[0].1));
        println!("{} replicas: weights off by {off:.1e} after 20 steps", k + 2);
        assert!(off < 1e-5, "{} replicas: {off}", k + 2);
    }
    // With statistics of its own each replica sees another network.
    assert!(farthest(&weights[4].0, &weights[0].0) > 1e-4);
}

#[test]
fn half_precision_takes_nearly_the_same_step() {
    let network = NetworkSettings { widths: vec![8, 16], dropout: 0.0 };
    let (values, batch) = (drawn(&network.widths), crops(3, 32, 8));
    let wanted = step(&network, &[reference()], &values, &batch);
    let exact = wanted.gradient.unwrap();
    let size = exact.iter().map(|v| v * v).sum::<f32>().sqrt();
    for precision in [Precision::F16, Precision::Bf16] {
        let count = statistics(&network.widths).iter().map(|(_, shape)| shape[0]).sum();
        let regime = Regime { loss: Loss::BceJaccard, local_statistics: false, precision, seed: 5 };
        let mut trainer = match Trainer::new(&network, &[reference()], regime, vec![0.0; count]) {
            Ok(trainer) => trainer,
            Err(why) => {
                println!("{precision}: {why}");
                continue;
            }
        };
        let found = trainer.step(&values, &batch, Place { step: 3, first_crop: 0 }, &Alone).unwrap();
        let slopes = found.gradient.unwrap();
        let off = slopes.iter().zip(&exact).map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt() / size;
        println!("{precision}: loss {} and {}, gradient off by {off:.1e}", wanted.loss, found.loss);
        assert!((wanted.loss - found.loss).abs() < 0.02);
        assert!(off < 0.05 && off > 1e-6, "{precision}: {off}");
    }
    // The processor trains in 32 bits, and says so before it starts.
    let regime = Regime { loss: Loss::Bce, local_statistics: false, precision: Precision::F16, seed: 5 };
    let why = Trainer::new(&network, &[choose("cpu").unwrap()], regime, Vec::new()).err().unwrap();
    assert!(why.to_string().contains("train.precision = f16"), "{why}");
}

/// The size of the differences of two gradients, relative to the first's.
fn relative(wanted: &[f32], found: &[f32]) -> f32 {
    let size = |values: &mut dyn Iterator<Item = f32>| values.map(|v| v * v).sum::<f32>().sqrt();
    size(&mut wanted.iter().zip(found).map(|(a, b)| a - b)) / size(&mut wanted.iter().copied())
}

#[test]
fn the_step_on_a_gpu_is_the_frameworks() {
    let Some(gpu) = software() else { return };
    let networks: [(&[usize], usize, usize, f64); 5] = [
        (&[4, 8], 2, 16, 0.0),
        (&[5], 3, 17, 0.2),
        (&[5, 33], 3, 20, 0.2),
        (&[16, 32, 16], 2, 36, 0.2),
        (&[3, 7, 5], 1, 24, 0.2),
    ];
    for (widths, count, side, dropout) in networks {
        let network = NetworkSettings { widths: widths.to_vec(), dropout };
        let (values, batch) = (drawn(widths), crops(count, side, 8));
        let place = Place { step: 3, first_crop: 4 };
        let take = |device| {
            let mut trainer = trainer(&network, &[device], false);
            let outcome = trainer.step(&values, &batch, place, &Alone).unwrap();
            (outcome.loss, outcome.gradient.unwrap(), trainer.statistics)
        };
        let (wanted, found) = (take(reference()), take(gpu.clone()));
        let size = wanted.1.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        let off = farthest(&wanted.1, &found.1) / size;
        let seen = farthest(&wanted.2, &found.2);
        println!(
            "{widths:?}: loss {} and {}, gradient off by {off:.1e}, statistics by {seen:.1e}",
            wanted.0, found.0
        );
        assert!((wanted.0 - found.0).abs() < 1e-5 * wanted.0.abs(), "{widths:?}");
        assert!(off < 1e-4, "{widths:?}: {off}");
        assert!(seen < 1e-6, "{widths:?}: {seen}");
    }
}

#[test]
fn the_step_on_a_gpu_in_half_precision_is_nearly_the_same() {
    let Some(gpu) = software() else { return };
    for (widths, count, side) in [(&[4, 8][..], 2, 16), (&[16, 40, 16], 2, 24)] {
        let network = NetworkSettings { widths: widths.to_vec(), dropout: 0.2 };
        let (values, batch) = (drawn(widths), crops(count, side, 8));
        let place = Place { step: 3, first_crop: 0 };
        let wanted = step(&network, &[reference()], &values, &batch);
        for precision in [Precision::F16, Precision::Bf16] {
            let mut trainer = match in_precision(&network, from_ref(&gpu), false, precision) {
                Ok(trainer) => trainer,
                Err(why) => {
                    println!("not run: {why}");
                    assert!(why.to_string().contains("train.precision = "), "{why}");
                    continue;
                }
            };
            let found = trainer.step(&values, &batch, place, &Alone).unwrap();
            let off = relative(wanted.gradient.as_ref().unwrap(), &found.gradient.unwrap());
            println!(
                "{widths:?} in {precision}: loss {} and {}, gradient off by {off:.1e}",
                wanted.loss, found.loss
            );
            let limit = if precision == Precision::F16 { 0.03 } else { 0.2 };
            assert!((wanted.loss - found.loss).abs() < limit, "{precision}");
            assert!(off < limit && off > 1e-6, "{precision}: {off}");
        }
    }
}

#[test]
fn gpus_take_the_steps_of_one_and_each_step_afresh() {
    let Some(gpu) = software() else { return };
    let network = NetworkSettings { widths: vec![6, 10], dropout: 0.2 };
    let fresh = |devices: &[Chosen]| trainer(&network, devices, false);
    let mut one = fresh(from_ref(&gpu));
    let mut several = [fresh(&vec![gpu.clone(); 2]), fresh(&[gpu.clone(), choose("cpu").unwrap()])];
    let mut values = drawn(&network.widths);
    let mut nadam = Optimiser::new(&load("unet1.0").unwrap().train, values.len());
    for number in 0..4 {
        let place = Place { step: number, first_crop: 0 };
        // Its shape changes once.
        let batch = crops(4, if number < 2 { 16 } else { 32 }, 100 + number);
        let take = |trainer: &mut Trainer| trainer.step(&values, &batch, place, &Alone).unwrap();
        let wanted = take(&mut one).gradient.unwrap();
        assert_eq!(wanted, take(&mut fresh(from_ref(&gpu))).gradient.unwrap(), "step {number}");
        let size = wanted.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        for trainer in &mut several {
            let off = farthest(&wanted, &take(trainer).gradient.unwrap()) / size;
            println!("step {number}: gradient of two off by {off:.1e}");
            assert!(off < 1e-5, "step {number}: {off}");
        }
        nadam.step(1e-2, &mut values, &wanted);
    }
    for trainer in &several {
        assert!(farthest(&one.statistics, &trainer.statistics) < 1e-6);
    }
}
