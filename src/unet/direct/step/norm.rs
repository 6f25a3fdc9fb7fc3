//! Batch norm, ELU and dropout of a training step, forth and back, a picture's row of a block at a time.

// What is not inlined into the function made for certain vectors is compiled without them.
#![allow(clippy::inline_always)]

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::dice::Dice;
use crate::unet::direct::kernel::{BLOCK, Lanes, elu, exp_of_negative, fastest};
use crate::unet::layout::BATCH_NORM_EPS;

/// Batch norm of one block of channels.
#[derive(Clone, Copy, Debug)]
pub struct Norm {
    /// Of the batch.
    pub mean: Lanes,
    /// One over the batch's standard deviation.
    pub inverse: Lanes,
    /// `gamma * inverse`.
    pub scale: Lanes,
    /// `beta - mean * scale`.
    pub shift: Lanes,
}

impl Norm {
    /// From the batch's statistics and the parameters of a block's channels.
    pub fn new(mean: &[f64], variance: &[f64], gamma: &[f32], beta: &[f32]) -> Self {
        let mut norm =
            Self { mean: [0.0; BLOCK], inverse: [0.0; BLOCK], scale: [0.0; BLOCK], shift: [0.0; BLOCK] };
        for lane in 0..mean.len() {
            let inverse = 1.0 / (variance[lane] + BATCH_NORM_EPS).sqrt();
            let scale = f64::from(gamma[lane]) * inverse;
            norm.mean[lane] = mean[lane] as f32;
            norm.inverse[lane] = inverse as f32;
            norm.scale[lane] = scale as f32;
            norm.shift[lane] = (f64::from(beta[lane]) - mean[lane] * scale) as f32;
        }
        norm
    }
}

/// Sums over pixels, a value a lane.
pub type Pair = [Lanes; 2];

/// Adds a row's values and their squares.
pub fn add_moments(pixels: &[Lanes], sums: &mut Pair) {
    fastest(Moments { pixels, sums });
}

struct Moments<'a> {
    pixels: &'a [Lanes],
    sums: &'a mut Pair,
}

impl WithSimd for Moments<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let [sum, squares] = self.sums;
        let (sum, squares) = (S::as_mut_simd_f32s(sum).0, S::as_mut_simd_f32s(squares).0);
        for (k, (sum, squares)) in sum.iter_mut().zip(squares).enumerate() {
            let (mut s, mut q) = (*sum, *squares);
            for pixel in self.pixels {
                let v = S::as_simd_f32s(pixel).0[k];
                s = simd.add_f32s(s, v);
                q = simd.mul_add_e_f32s(v, v, q);
            }
            (*sum, *squares) = (s, q);
        }
    }
}

/// `y = keep * elu(scale * z + shift)`.
pub fn activate(norm: &Norm, z: &[Lanes], keep: &[Lanes], y: &mut [Lanes]) {
    fastest(Activate { norm, z, keep, y });
}

struct Activate<'a> {
    norm: &'a Norm,
    z: &'a [Lanes],
    keep: &'a [Lanes],
    y: &'a mut [Lanes],
}

impl WithSimd for Activate<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let [scale, shift] = [&self.norm.scale, &self.norm.shift].map(|v| S::as_simd_f32s(v).0);
        for ((y, z), keep) in self.y.iter_mut().zip(self.z).zip(self.keep) {
            let (z, keep) = (S::as_simd_f32s(z).0, S::as_simd_f32s(keep).0);
            for (k, y) in S::as_mut_simd_f32s(y).0.iter_mut().enumerate() {
                let normed = simd.mul_add_e_f32s(z[k], scale[k], shift[k]);
                *y = simd.mul_f32s(keep[k], elu(simd, normed));
            }
        }
    }
}

/// From the slope of [`activate`]'s answer to that of its batch norm's, in place; adds it, and it times the
/// normed value, to `sums`.
pub fn back_to_norm(norm: &Norm, z: &[Lanes], keep: &[Lanes], slope: &mut [Lanes], sums: &mut Pair) {
    fastest(BackToNorm { norm, z, keep, slope, sums });
}

struct BackToNorm<'a> {
    norm: &'a Norm,
    z: &'a [Lanes],
    keep: &'a [Lanes],
    slope: &'a mut [Lanes],
    sums: &'a mut Pair,
}

impl WithSimd for BackToNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let norm = self.norm;
        let [scale, shift, mean, inverse] =
            [&norm.scale, &norm.shift, &norm.mean, &norm.inverse].map(|v| S::as_simd_f32s(v).0);
        let [sum, with_normed] = self.sums;
        let (sum, with_normed) = (S::as_mut_simd_f32s(sum).0, S::as_mut_simd_f32s(with_normed).0);
        let (zero, one) = (simd.splat_f32s(0.0), simd.splat_f32s(1.0));
        for ((slope, z), keep) in self.slope.iter_mut().zip(self.z).zip(self.keep) {
            let (z, keep) = (S::as_simd_f32s(z).0, S::as_simd_f32s(keep).0);
            for (k, slope) in S::as_mut_simd_f32s(slope).0.iter_mut().enumerate() {
                let shifted = simd.mul_add_e_f32s(z[k], scale[k], shift[k]);
                let rise = exp_of_negative(simd, shifted);
                let rise = simd.select_f32s(simd.greater_than_f32s(shifted, zero), one, rise);
                let d = simd.mul_f32s(simd.mul_f32s(*slope, keep[k]), rise);
                let normed = simd.mul_f32s(simd.sub_f32s(z[k], mean[k]), inverse[k]);
                *slope = d;
                sum[k] = simd.add_f32s(sum[k], d);
                with_normed[k] = simd.mul_add_e_f32s(d, normed, with_normed[k]);
            }
        }
    }
}

/// The batch norm's share of the way back: `z` becomes `scale * slope + factor * z + constant`, the slope of
/// the convolution's answer.
pub fn back_to_sum(scale: &Lanes, factor: &Lanes, constant: &Lanes, slope: &[Lanes], z: &mut [Lanes]) {
    fastest(BackToSum { constants: [scale, factor, constant], slope, z });
}

struct BackToSum<'a> {
    constants: [&'a Lanes; 3],
    slope: &'a [Lanes],
    z: &'a mut [Lanes],
}

impl WithSimd for BackToSum<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let [scale, factor, constant] = self.constants.map(|v| S::as_simd_f32s(v).0);
        for (z, slope) in self.z.iter_mut().zip(self.slope) {
            let slope = S::as_simd_f32s(slope).0;
            for (k, z) in S::as_mut_simd_f32s(z).0.iter_mut().enumerate() {
                let rest = simd.mul_add_e_f32s(*z, factor[k], constant[k]);
                *z = simd.mul_add_e_f32s(slope[k], scale[k], rest);
            }
        }
    }
}

/// Which activations a step silences: a pure function of what they are, whichever device holds them.
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    /// Of the run.
    pub seed: u64,
    /// Counted from the run's begin.
    pub step: u64,
    /// Of 256.
    pub silenced: u64,
}

impl Dropout {
    /// Silences a share `p` of the activations, to the nearest 1/256.
    pub fn new(seed: u64, step: u64, p: f64) -> Self {
        Self { seed, step, silenced: (p * 256.0).round() as u64 }
    }

    /// Whether it silences anything.
    pub fn is_on(&self) -> bool {
        self.silenced > 0
    }

    /// What is drawn for a unit's activations on a crop; each row's are drawn from one of its parts.
    pub fn dice(&self, crop: u64, unit: usize) -> Dice {
        Dice::new(self.seed, &[u64::MAX - 1, self.step, crop, unit as u64])
    }

    /// What activations that are not silenced are multiplied with.
    pub fn louder(&self) -> f32 {
        (256.0 / (256.0 - self.silenced as f64)) as f32
    }

    /// [`Self::keep`] of whole pictures, `[images, channels, side, side]`.
    pub fn planes(&self, first_crop: u64, unit: usize, [images, channels, side]: [usize; 3]) -> Vec<f32> {
        let mut planes = vec![0.0; images * channels * side * side];
        let picture_px = channels * side * side;
        planes.par_chunks_exact_mut(picture_px).enumerate().for_each(|(image, planes)| {
            let mut keep = vec![[0.0; BLOCK]; side];
            for line in 0..channels.div_ceil(BLOCK) * side {
                let (block, row) = (line / side, line % side);
                self.keep(first_crop + image as u64, unit, line, &mut keep);
                for channel in block * BLOCK..channels.min((block + 1) * BLOCK) {
                    let to = &mut planes[(channel * side + row) * side..][..side];
                    to.iter_mut().zip(&keep).for_each(|(to, keep)| *to = keep[channel % BLOCK]);
                }
            }
        });
        planes
    }

    /// What a row's activations are multiplied with: 0, or what makes up for the silenced ones.
    pub fn keep(&self, crop: u64, unit: usize, line: usize, keep: &mut [Lanes]) {
        if self.silenced == 0 {
            keep.fill([1.0; BLOCK]);
            return;
        }
        let mut dice = self.dice(crop, unit).part(line as u64);
        let louder = self.louder();
        for eight in keep.as_flattened_mut().as_chunks_mut::<8>().0 {
            for (keep, byte) in eight.iter_mut().zip(dice.any().to_le_bytes()) {
                *keep = if u64::from(byte) < self.silenced { 0.0 } else { louder };
            }
        }
    }
}
