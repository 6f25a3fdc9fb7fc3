//! Training steps: the same on every kind of device, and on one device or several.

use marscan::config::{NetworkSettings, Precision, load};
use marscan::dice::Dice;
use marscan::train::optimiser::Optimiser;
use marscan::unet::device::{Chosen, choose, reference};
use marscan::unet::layout::statistics;
use marscan::unet::loss::Loss;
use marscan::unet::replica::{Alone, Place};
use marscan::unet::{CropBatch, Regime, StepOutcome, Trainer};

use crate::golden::drawn;

fn trainer(network: &NetworkSettings, devices: &[Chosen], local_statistics: bool) -> Trainer {
    let count = statistics(&network.widths).iter().map(|(_, shape)| shape[0]).sum();
    let regime = Regime { loss: Loss::BceJaccard, local_statistics, precision: Precision::F32, seed: 5 };
    Trainer::new(network, devices, regime, vec![0.0; count]).unwrap()
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
