//! A network's kernels on a GPU, one by one: ms and TFLOP/s, and what they are off the CPU's probabilities.
//!
//!     cargo bench --bench gpu_kernels -- unet1 configs/unet1.safetensors [DEVICE PRECISION SIDE_PX WINDOWS]
#![allow(clippy::print_stdout)]

use std::time::Instant;

use anyhow::{Context, Result};
use marscan::config::{Precision, load};
use marscan::unet::device::choose;
use marscan::unet::{DirectSegmenter, GpuSegmenter, Weights};

const ROUNDS: usize = 20;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let get = |k: usize, or: &str| args.get(k).map_or(or, String::as_str).to_owned();
    let name = get(0, "unet1");
    let weights = std::fs::read(get(1, "configs/unet1.safetensors")).context("the weights")?;
    let weights = Weights::parse(&load(&name)?.network.widths, &weights)?;
    let chosen = choose(&get(2, "gpu"))?;
    let precision = match get(3, "f16").as_str() {
        "f32" => Precision::F32,
        "bf16" => Precision::Bf16,
        _ => Precision::F16,
    };
    let (side, count): (usize, usize) = (get(4, "1024").parse()?, get(5, "4").parse()?);
    let began = Instant::now();
    let mut gpu = GpuSegmenter::new(&weights, &chosen, precision)?;
    let small = 160;
    let grey: Vec<u8> = (0..small * small).map(|k| (k * 7919 % 251) as u8 + 1).collect();
    let found = gpu.probabilities(small, &grey)?;
    let ready = began.elapsed().as_secs_f64();
    let wanted = DirectSegmenter::new(&weights).probabilities(small, &grey)?;
    let off = found.iter().zip(&wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    // Cards wake up slowly.
    gpu.kernel_times(side, count, ROUNDS)?;
    let times = gpu.kernel_times(side, count, ROUNDS)?;
    let (seconds, flop) =
        times.iter().fold((0.0, 0.0), |(s, f), kernel| (s + kernel.seconds, f + kernel.flop));
    for kernel in times {
        let rate = kernel.flop / kernel.seconds / 1e12;
        println!("{:28} {:8.3} ms {rate:8.2} TFLOP/s", kernel.name, kernel.seconds * 1e3);
    }
    let px = (count * side * side) as f64;
    println!(
        "{name}, {count} windows of {side} px on {}: {:.3} ms, {:.2} TFLOP/s, {:.1} Mpx/s; ready after {ready:.2} s; \
         at most {off:.1e} off the CPU",
        marscan::detect::Segmenter::device(&gpu),
        seconds * 1e3,
        flop / seconds / 1e12,
        px / seconds / 1e6
    );
    Ok(())
}
