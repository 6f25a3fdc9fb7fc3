//! The loss of a step on the GPU: its sums, and the slopes of the logits.

use cubecl::prelude::*;

use super::norm::{UNITS, added};
use crate::unet::crops::CropBatch;
use crate::unet::gpu::kernels::Four;
use crate::unet::loss::Loss;

/// A loss, as far as kernels are compiled for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Entropy,
    EntropyJaccard,
    Focal,
}

impl Kind {
    /// With gamma and alpha of the focal loss.
    pub fn of(loss: Loss) -> (Self, [f32; 2]) {
        match loss {
            Loss::Bce => (Self::Entropy, [0.0; 2]),
            Loss::BceJaccard => (Self::EntropyJaccard, [0.0; 2]),
            Loss::Focal { gamma, alpha } => (Self::Focal, [gamma as f32, alpha as f32]),
        }
    }

    fn is_focal(self) -> bool {
        self == Self::Focal
    }

    fn has_index(self) -> bool {
        self == Self::EntropyJaccard
    }
}

/// A pixel as the loss sees it.
#[derive(CubeType)]
struct Judged {
    /// 1 if it counts, or 0.
    counts: f32,
    /// 1 if it is impact, or 0.
    truth: f32,
    /// Its probability, and that of what it is not.
    p: f32,
    wrong: f32,
    /// Its cross-entropy, and what that is multiplied with.
    entropy: f32,
    weight: f32,
}

#[cube]
fn probability(z: f32) -> f32 {
    1.0 / (1.0 + (-z).exp())
}

#[cube]
fn byte(words: &[u32], k: usize) -> u32 {
    (words[k / 4] >> ((k % 4) as u32 * 8)) & 255
}

#[cube]
fn judge(
    z: f32,
    grey: &[u32],
    mask: &[u32],
    pixel: usize,
    gamma: f32,
    alpha: f32,
    #[comptime] kind: Kind,
) -> Judged {
    let said = byte(mask, pixel);
    let counts = byte(grey, pixel) != 0 && said != comptime!(u32::from(CropBatch::DONT_CARE));
    let is = said != 0;
    let right = select(is, z, -z);
    let wrong = probability(-right);
    let entropy = max(-right, 0.0) + (-right.abs()).exp().log1p();
    let mut weight = 1.0f32;
    if comptime!(kind.is_focal()) {
        weight = select(is, alpha, 1.0 - alpha) * max(wrong, 1e-30).powf(gamma);
    }
    let (counts, truth) = (select(counts, 1.0f32, 0.0f32), select(is, 1.0f32, 0.0f32));
    Judged { counts, truth, p: probability(z), wrong, entropy, weight }
}

/// Sums over a stretch of pixels that count, in the order of [`crate::unet::loss::LossSums`], `[stretch][8]`.
#[cube(launch)]
pub fn loss_sums(
    logits: &[f32],
    grey: &[u32],
    mask: &[u32],
    out: &mut [Four<f32>],
    pixels: usize,
    each: usize,
    gamma: f32,
    alpha: f32,
    #[comptime] kind: Kind,
) {
    let mut shared = Shared::<[Four<f32>]>::new_slice(UNITS);
    let begin = CUBE_POS_X as usize * each;
    let mut most = Four::<f32>::new(0.0);
    let mut both = Four::<f32>::new(0.0);
    for pixel in range_stepped(begin + UNIT_POS as usize, min(begin + each, pixels), UNITS) {
        let of = judge(logits[pixel], grey, mask, pixel, gamma, alpha, kind);
        // What does not count may be infinite.
        if of.counts > 0.0 {
            let mut own = Four::<f32>::new(1.0);
            own.insert(1usize, of.weight * of.entropy);
            own.insert(2usize, of.p);
            own.insert(3usize, of.truth);
            most += own;
            both += Four::<f32>::new(of.truth * of.p);
        }
    }
    let most = added(&mut shared, most, UNITS, 1usize);
    let both = added(&mut shared, both, UNITS, 1usize);
    if UNIT_POS == 0 {
        out[CUBE_POS_X as usize * 2] = most;
        out[CUBE_POS_X as usize * 2 + 1] = both;
    }
}

/// Slopes of the logits, times `scale`, in their place, from the batch's sums; their sums over a stretch of pixels are the
/// first of each element of `out`.
#[cube(launch)]
pub fn loss_slopes(
    logits: &mut [f32],
    grey: &[u32],
    mask: &[u32],
    total: &[f32],
    out: &mut [Four<f32>],
    pixels: usize,
    each: usize,
    gamma: f32,
    alpha: f32,
    scale: f32,
    #[comptime] kind: Kind,
) {
    let mut shared = Shared::<[Four<f32>]>::new_slice(UNITS);
    let begin = CUBE_POS_X as usize * each;
    let either = total[2] + total[3] - total[4] + 1.0;
    let mut sum = Four::<f32>::new(0.0);
    for pixel in range_stepped(begin + UNIT_POS as usize, min(begin + each, pixels), UNITS) {
        let of = judge(logits[pixel], grey, mask, pixel, gamma, alpha, kind);
        let mut rise = of.wrong;
        if comptime!(kind.is_focal()) {
            rise = of.weight * (of.wrong + gamma * (1.0 - of.wrong) * of.entropy);
        }
        let is = of.truth > 0.0;
        let mut slope = select(is, -rise, rise) / total[0];
        if comptime!(kind.has_index()) {
            // Of (both + 1) / either over this pixel's probability.
            let index = select(is, 1.0 / either, -(total[4] + 1.0) / (either * either));
            slope -= index * of.p * (1.0 - of.p);
        }
        let slope = select(of.counts > 0.0, slope * scale, 0.0);
        logits[pixel] = slope;
        sum += Four::<f32>::new(slope);
    }
    let sum = added(&mut shared, sum, UNITS, 1usize);
    if UNIT_POS == 0 {
        out[CUBE_POS_X as usize] = sum;
    }
}

/// Adds up `count` parts of so many `fours`: a workgroup each four. The first `keep` of the sums go to `out`, from `at` on.
#[cube(launch)]
pub fn add_parts(parts: &[Four<f32>], out: &mut [f32], count: usize, fours: usize, at: usize, keep: usize) {
    let mut shared = Shared::<[Four<f32>]>::new_slice(UNITS);
    let four = CUBE_POS_X as usize;
    let mut sum = Four::<f32>::new(0.0);
    for part in range_stepped(UNIT_POS as usize, count, UNITS) {
        sum += parts[part * fours + four];
    }
    let sum = added(&mut shared, sum, UNITS, 1usize);
    if UNIT_POS == 0 {
        #[unroll]
        for lane in 0..4usize {
            if four * 4 + lane < keep {
                out[at + four * 4 + lane] = sum.extract(lane);
            }
        }
    }
}
