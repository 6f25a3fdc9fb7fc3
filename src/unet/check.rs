//! A GPU is asked one window whose answer is known before it is trusted with a scene: drivers and shader compilers
//! have been silently wrong.

use anyhow::{Result, ensure};

use super::direct::DirectSegmenter;
use crate::config::Precision;
use crate::detect::{Segmenter, WindowBatch};
use crate::dice::Dice;

/// Probabilities may differ by so many 255ths.
fn limit(precision: Precision) -> u8 {
    match precision {
        Precision::F32 => 1,
        Precision::F16 => 8,
        Precision::Bf16 => 26,
    }
}

/// Holds `device` against the CPU on a drawn window.
///
/// # Errors
/// If the device fails, or its answer is another; the message says by how much, and what to do.
pub fn agrees(device: &mut dyn Segmenter, cpu: &mut DirectSegmenter, precision: Precision) -> Result<()> {
    /// Pixels of the answer that are looked at, on each side.
    const LOOKED_AT_PX: usize = 64;
    let halo = cpu.halo_px() as usize;
    let side = LOOKED_AT_PX + 2 * halo;
    let mut batch = WindowBatch::new(1, side);
    let mut dice = Dice::new(1, &[]);
    let core = halo..side - halo;
    (batch.count, batch.rows, batch.cols) = (1, core.clone(), core.clone());
    // Ground, a dark spot in its midst, and a border of no data: what a scene has.
    for (k, pixel) in batch.pixels.iter_mut().enumerate() {
        let (row, col) = (k / side, k % side);
        let from_middle = (row as f64 - side as f64 / 2.0).hypot(col as f64 - side as f64 / 2.0);
        let grey = if from_middle < 12.0 { 40 } else { 120 } + dice.below(30) as u8;
        *pixel = if col < halo + 8 { 0 } else { grey };
    }
    let (mut theirs, mut ours) = (vec![0; side * side], vec![0; side * side]);
    device.segment(&batch, &mut theirs)?;
    cpu.segment(&batch, &mut ours)?;
    let pixels = core.clone().flat_map(|row| core.clone().map(move |col| row * side + col));
    let ground = pixels.filter(|&at| batch.pixels[at] != 0);
    let off = ground.map(|at| theirs[at].abs_diff(ours[at])).max().unwrap_or(0);
    ensure!(
        off <= limit(precision),
        "{} cannot be trusted: a probability is {:.3} off the CPU's, in {precision} at most {:.3} is rounding; \
         another driver may help, or scan with --device cpu",
        device.device(),
        f64::from(off) / 255.0,
        f64::from(limit(precision)) / 255.0
    );
    Ok(())
}
