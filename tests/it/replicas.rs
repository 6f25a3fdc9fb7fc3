//! Training steps: the same on every kind of device, and on one device or several.

use anyhow::Result;
use std::slice::from_ref;

use marscan::config::{NetworkSettings, Precision, load};
use marscan::dice::Dice;
use marscan::train::optimiser::Optimiser;
use marscan::unet::descent::{Descent, Parameters, Rule, kernels};
use marscan::unet::device::{Chosen, choose, reference};
use marscan::unet::layout::statistics;
use marscan::unet::loss::Loss;
use marscan::unet::replica::{Alone, Place};
use marscan::unet::{CropBatch, Regime, Slope, Trainer};

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
    let regime = Regime { loss: Loss::BceJaccard, local_statistics, precision, seed: 5 };
    under(network, devices, regime)
}

fn under(network: &NetworkSettings, devices: &[Chosen], regime: Regime) -> Result<Trainer> {
    let count = statistics(&network.widths).iter().map(|(_, shape)| shape[0]).sum();
    let parameters = Parameters::new(drawn(&network.widths), 2);
    Trainer::new(network, devices, regime, parameters, vec![0.0; count])
}

/// The slope at `values`.
pub fn slope(network: &NetworkSettings, devices: &[Chosen], values: &[f32], crops: &CropBatch) -> Slope {
    let place = Place { step: 3, first_crop: 0 };
    trainer(network, devices, false).slope(values, crops, place, &Alone).unwrap()
}

/// Nadam's first steps.
fn nadam(count: u64, learning_rate: f64) -> Vec<Descent> {
    let mut nadam = Optimiser::new(&load("unet1.0").unwrap().train);
    let next = |_| {
        let (descent, after) = nadam.next(learning_rate);
        nadam = after;
        descent
    };
    (0..count).map(next).collect()
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
        let wanted = slope(&network, &[reference()], &values, &batch);
        let found = slope(&network, &[choose("cpu").unwrap()], &values, &batch);
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
        for (number, descent) in (0..).zip(nadam(20, 1e-3)) {
            let place = Place { step: number, first_crop: 0 };
            let outcome = trainer.step(&descent, &crops(8, 32, 100 + number), place, &Alone).unwrap();
            assert!(outcome.moved);
        }
        weights.push((trainer.parameters().unwrap().values.clone(), trainer.statistics));
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
    let wanted = slope(&network, &[reference()], &values, &batch);
    let exact = wanted.gradient.unwrap();
    let size = exact.iter().map(|v| v * v).sum::<f32>().sqrt();
    for precision in [Precision::F16, Precision::Bf16] {
        let count = statistics(&network.widths).iter().map(|(_, shape)| shape[0]).sum();
        let regime = Regime { loss: Loss::BceJaccard, local_statistics: false, precision, seed: 5 };
        let made = Trainer::new(&network, &[reference()], regime, Parameters::default(), vec![0.0; count]);
        let mut trainer = match made {
            Ok(trainer) => trainer,
            Err(why) => {
                println!("{precision}: {why}");
                continue;
            }
        };
        let found = trainer.slope(&values, &batch, Place { step: 3, first_crop: 0 }, &Alone).unwrap();
        let slopes = found.gradient.unwrap();
        let off = slopes.iter().zip(&exact).map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt() / size;
        println!("{precision}: loss {} and {}, gradient off by {off:.1e}", wanted.loss, found.loss);
        assert!((wanted.loss - found.loss).abs() < 0.02);
        assert!(off < 0.05 && off > 1e-6, "{precision}: {off}");
    }
    // The processor trains in 32 bits, and says so before it starts.
    let regime = Regime { loss: Loss::Bce, local_statistics: false, precision: Precision::F16, seed: 5 };
    let why = Trainer::new(&network, &[choose("cpu").unwrap()], regime, Parameters::default(), Vec::new())
        .err()
        .unwrap();
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
            let outcome = trainer.slope(&values, &batch, place, &Alone).unwrap();
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
        let wanted = slope(&network, &[reference()], &values, &batch);
        for precision in [Precision::F16, Precision::Bf16] {
            let mut trainer = match in_precision(&network, from_ref(&gpu), false, precision) {
                Ok(trainer) => trainer,
                Err(why) => {
                    println!("not run: {why}");
                    assert!(why.to_string().contains("train.precision = "), "{why}");
                    continue;
                }
            };
            let found = trainer.slope(&values, &batch, place, &Alone).unwrap();
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
    let mut parameters = Parameters::new(drawn(&network.widths), 2);
    for (number, descent) in (0..).zip(nadam(4, 1e-2)) {
        let place = Place { step: number, first_crop: 0 };
        // Its shape changes once.
        let batch = crops(4, if number < 2 { 16 } else { 32 }, 100 + number);
        let take = |trainer: &mut Trainer| trainer.slope(&parameters.values, &batch, place, &Alone).unwrap();
        let wanted = take(&mut one).gradient.unwrap();
        assert_eq!(wanted, take(&mut fresh(from_ref(&gpu))).gradient.unwrap(), "step {number}");
        let size = wanted.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        for trainer in &mut several {
            let off = farthest(&wanted, &take(trainer).gradient.unwrap()) / size;
            println!("step {number}: gradient of two off by {off:.1e}");
            assert!(off < 1e-5, "step {number}: {off}");
        }
        descent.take(&mut parameters, &wanted, &[]);
    }
    for trainer in &several {
        assert!(farthest(&one.statistics, &trainer.statistics) < 1e-6);
    }
}

#[test]
fn a_gpu_that_keeps_the_parameters_takes_the_hosts_steps() {
    let Some(gpu) = software() else { return };
    let network = NetworkSettings { widths: vec![5, 10], dropout: 0.2 };
    let nadam = nadam(4, 1e-2);
    let adam = Rule::Moments { by_gradient: 0.0, by_first: 0.01, correction: 0.1 };
    let cases = [
        (Loss::BceJaccard, nadam),
        (Loss::Bce, vec![Descent { rule: Rule::Descent { rate: 0.1, momentum: 0.9 }, l2: 0.01 }; 3]),
        (Loss::Focal { gamma: 2.0, alpha: 0.25 }, vec![Descent { rule: adam, l2: 1e-3 }; 3]),
    ];
    for (loss, descents) in cases {
        let regime = Regime { loss, local_statistics: false, precision: Precision::F32, seed: 5 };
        let fresh = || under(&network, from_ref(&gpu), regime).unwrap();
        let (mut there, mut here) = (fresh(), fresh());
        let kernels = kernels(&network.widths);
        let mut parameters = there.parameters().unwrap().clone();
        let start = parameters.values.clone();
        for (number, descent) in (0..).zip(&descents) {
            let (batch, place) = (crops(3, 16, 100 + number), Place { step: number, first_crop: 0 });
            let wanted = here.slope(&parameters.values, &batch, place, &Alone).unwrap();
            let penalty = descent.take(&mut parameters, &wanted.gradient.unwrap(), &kernels);
            let found = there.step(descent, &batch, place, &Alone).unwrap();
            assert!(found.moved && (found.loss - wanted.loss).abs() < 1e-5 * wanted.loss, "{loss:?}");
            assert!(
                (found.penalty - penalty).abs() <= 1e-5 * penalty,
                "{loss:?}: {} {penalty}",
                found.penalty
            );
            if number == 1 {
                // What was taken in between is not what it goes on from.
                there.slope(&start, &batch, place, &Alone).unwrap();
                there.statistics.clone_from(&here.statistics);
            }
        }
        let found = there.parameters().unwrap();
        let off = farthest(&parameters.values, &found.values);
        println!("{loss:?}: off by {off:.1e} after {} steps", descents.len());
        assert!(farthest(&start, &found.values) > 5e-3, "nothing was learnt");
        assert!(off < 1e-5, "{loss:?}: {off}");
        assert!(farthest(&parameters.first, &found.first) < 1e-5 && found.second.len() == start.len());
        assert!(farthest(&here.statistics, &there.statistics) < 1e-6);
    }
}

#[test]
fn a_gpu_leaves_a_step_out_whose_gradient_overflows() {
    let Some(gpu) = software() else { return };
    let network = NetworkSettings { widths: vec![5, 10], dropout: 0.0 };
    let mut trainer = match in_precision(&network, from_ref(&gpu), false, Precision::F16) {
        Ok(trainer) => trainer,
        Err(why) => return println!("not run: {why}"),
    };
    let (descent, batch, place) = (nadam(1, 1e-2)[0], crops(3, 16, 1), Place { step: 0, first_crop: 0 });
    let before = trainer.parameters().unwrap().clone();
    trainer.scale.factor = 1e12;
    assert!(!trainer.step(&descent, &batch, place, &Alone).unwrap().moved);
    assert_eq!(trainer.parameters().unwrap(), &before);
    assert_eq!(trainer.scale.factor.to_bits(), 5e11f64.to_bits());
    trainer.scale.factor = 64.0;
    assert!(trainer.step(&descent, &batch, place, &Alone).unwrap().moved);
    assert!(farthest(&before.values, &trainer.parameters().unwrap().values) > 5e-3);
}
