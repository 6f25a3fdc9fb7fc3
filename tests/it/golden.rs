//! The network against PyTorch: probabilities of all presets, one training step, twenty of each
//! optimiser.
//!
//! The files in `tests/data` are written by `tests/data/dump_goldens.py`.

use marscan::config::{NetworkSettings, OptimiserKind, load};
use marscan::train::optimiser::Optimiser;
use marscan::unet::descent::Parameters;
use marscan::unet::device::{choose, reference};
use marscan::unet::layout::{parameters, statistics};
use marscan::unet::{BurnNetwork, CropBatch, Predictor, Weights, predictor};
use safetensors::SafeTensors;

use crate::devices::software;
use crate::replicas::slope;

fn floats(file: &SafeTensors, name: &str) -> Vec<f32> {
    let data = file.tensor(name).unwrap();
    data.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

/// `count` numbers in -1..1 for the `index`-th parameter, as `draw` of the script.
fn draw(index: usize, count: usize) -> impl Iterator<Item = f32> {
    (1..=count as u64).map(move |i| {
        let mut z = (i + ((index as u64) << 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        (z >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    })
}

pub fn drawn(widths: &[usize]) -> Vec<f32> {
    let mut flat = Vec::new();
    for (index, (name, shape)) in parameters(widths).into_iter().enumerate() {
        let fan_in = shape[1..].iter().product::<usize>();
        let bound = (6.0 / fan_in as f64).sqrt() as f32;
        flat.extend(draw(index, shape.iter().product()).map(|v| match shape.len() {
            4 => v * bound,
            _ if name.contains(".bn") && name.ends_with("weight") => 1.0 + 0.2 * v,
            _ => 0.1 * v,
        }));
    }
    flat
}

/// Largest difference of the preset's probabilities from PyTorch's.
fn difference(preset: &str, widths: &[usize], network: impl Fn(&Weights) -> Predictor) -> f32 {
    let bytes = std::fs::read(format!("tests/data/{preset}.golden.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let stats: Vec<f32> = statistics(widths).iter().flat_map(|(name, _)| floats(&file, name)).collect();
    let weights = Weights::from_flat(widths, &drawn(widths), &stats);
    let input = file.tensor("input").unwrap();
    let (side, pixels) = (input.shape()[0], input.data());
    let answer = network(&weights)(side, pixels).unwrap();
    let wanted = floats(&file, "output");
    let spread = wanted.iter().fold(0.0f32, |m, v| m.max(*v)) - wanted.iter().fold(1.0f32, |m, v| m.min(*v));
    assert!(spread > 0.5, "{preset}: a golden file that tells nothing, spread {spread}");
    answer.iter().zip(wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn probabilities_agree_with_pytorch_on_the_cpu() {
    for (preset, widths) in presets() {
        let burn = |weights: &Weights| -> Predictor {
            let network = BurnNetwork::new(weights);
            Box::new(move |side_px, pixels| network.probabilities(side_px, pixels))
        };
        for (path, worst) in
            [("framework", difference(preset, widths, burn)), ("cpu", difference(preset, widths, on("cpu")))]
        {
            println!("{preset}, {path}: largest difference from PyTorch {worst:.2e}");
            assert!(worst < 1e-4, "{preset}: {worst}");
        }
    }
}

#[test]
fn probabilities_agree_with_pytorch_on_software_vulkan() {
    if software().is_none() {
        return;
    }
    for (preset, widths) in presets() {
        let worst = difference(preset, widths, on("software"));
        println!("{preset} on software Vulkan: largest difference from PyTorch {worst:.2e}");
        assert!(worst < 1e-4, "{preset}: {worst}");
    }
}

fn on(device: &str) -> impl Fn(&Weights) -> Predictor {
    move |weights| predictor(weights, &choose(device).unwrap()).unwrap()
}

fn presets() -> [(&'static str, &'static [usize]); 3] {
    [("unet1", &[32, 64, 128]), ("unet2", &[32, 64, 128, 256]), ("unet3", &[32, 64, 128, 256, 512])]
}

#[test]
fn loss_and_gradient_of_a_step_agree_with_pytorch() {
    let bytes = std::fs::read("tests/data/step.golden.safetensors").unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let network = NetworkSettings { widths: vec![4, 8], dropout: 0.0 };
    let [pixels, mask] = ["pixels", "mask"].map(|name| file.tensor(name).unwrap().data().to_vec());
    let batch = CropBatch { side_px: 32, pixels, mask };
    for device in [choose("cpu").unwrap(), reference()] {
        let outcome = slope(&network, &[device], &drawn(&network.widths), &batch);
        assert!((outcome.loss - floats(&file, "loss")[0]).abs() < 1e-5);
        let wanted = floats(&file, "gradient");
        let size = wanted.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        let gradient = outcome.gradient.unwrap();
        for (k, (a, b)) in gradient.iter().zip(&wanted).enumerate() {
            assert!((a - b).abs() < 1e-4 * size, "parameter {k}: {a}, PyTorch {b}");
        }
        assert_eq!(gradient.len(), wanted.len());
    }
}

#[test]
fn the_optimisers_take_pytorchs_steps() {
    let bytes = std::fs::read("tests/data/optimiser.golden.safetensors").unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let cases = [
        ("nadam", OptimiserKind::Nadam, 0.0),
        ("adam", OptimiserKind::Adam, 0.0),
        ("sgd", OptimiserKind::Sgd, 0.0),
        ("momentum", OptimiserKind::Sgd, 0.9),
    ];
    for (name, kind, momentum) in cases {
        let wanted = floats(&file, name);
        let mut train = load("unet1.0").unwrap().train;
        (train.optimiser, train.momentum) = (kind, momentum);
        let mut optimiser = Optimiser::new(&train);
        let mut parameters = Parameters::new(vec![0.5f32, -1.0, 2.0, 0.0], optimiser.moments());
        let mut worst = 0.0f32;
        for (step, wanted) in wanted.chunks(4).enumerate() {
            let slope = [1.0f32, -2.0, 0.3, 1e-3].map(|s| s * (step + 1) as f32);
            let gradient: Vec<f32> = parameters.values.iter().zip(slope).map(|(v, s)| s + 2.0 * v).collect();
            let (descent, after) = optimiser.next(0.01);
            descent.take(&mut parameters, &gradient, &[]);
            optimiser = after;
            worst = parameters.values.iter().zip(wanted).map(|(a, b)| (a - b).abs()).fold(worst, f32::max);
        }
        println!("{name}: largest difference from PyTorch over 20 steps {worst:.2e}");
        assert!(worst < 1e-6, "{name}: {worst}");
        assert!((wanted[76] - 0.5).abs() > 0.1, "{name}: a path that leads nowhere");
    }
}
