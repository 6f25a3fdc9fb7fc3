//! What training makes small, on the host in f32 and f64 whatever the device computes in.
//!
//! A loss is a function of sums over all pixels of the batch that count, so that replicas that hold a part of
//! it each need exchange nothing but those. Pixels count that are ground and not marked as "don't care".

use rayon::prelude::*;

use super::crops::CropBatch;

/// A loss function.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Loss {
    /// Mean binary cross-entropy.
    Bce,
    /// That, plus one minus the soft Jaccard index of the batch.
    BceJaccard,
    /// Focal loss (Lin et al. 2017), the mean over the pixels.
    Focal {
        /// How little a pixel counts that is almost right; 0 is plain cross-entropy.
        gamma: f64,
        /// Weight of impact pixels, 0..=1; the others have the rest.
        alpha: f64,
    },
}

/// Sums over pixels that count: how many, of their loss terms, of probabilities, of impact pixels, of
/// probabilities of impact pixels.
pub type LossSums = [f64; 5];

impl Loss {
    /// The sums over a share of the batch, from its logits.
    pub fn sums(self, logits: &[f32], crops: &CropBatch) -> LossSums {
        // By crops, so that the sums do not depend on the threads.
        let each: Vec<LossSums> = counted(logits, crops).map(|pixels| self.crop_sums(pixels)).collect();
        let mut sums = [0.0; 5];
        for crop in each {
            sums.iter_mut().zip(crop).for_each(|(sum, own)| *sum += own);
        }
        sums
    }

    fn crop_sums(self, pixels: impl Iterator<Item = Option<(f64, bool)>>) -> LossSums {
        let mut sums = [0.0; 5];
        for (z, truth) in pixels.flatten() {
            let p = probability(z);
            let terms =
                [1.0, self.term(z, truth), p, f64::from(u8::from(truth)), if truth { p } else { 0.0 }];
            sums.iter_mut().zip(terms).for_each(|(sum, term)| *sum += term);
        }
        sums
    }

    /// The loss of a batch with these sums; 0 where no pixel counts.
    pub fn value(self, [pixels, terms, predicted, truth, both]: LossSums) -> f64 {
        let mean = if pixels > 0.0 { terms / pixels } else { 0.0 };
        match self {
            Self::BceJaccard => mean + 1.0 - (both + 1.0) / (predicted + truth - both + 1.0),
            Self::Bce | Self::Focal { .. } => mean,
        }
    }

    /// `scale` times the loss's slope over each logit of a share of the batch, given the whole batch's sums.
    pub fn slopes(self, logits: &[f32], crops: &CropBatch, sums: LossSums, scale: f64) -> Vec<f32> {
        let [pixels, _, predicted, truth_px, both] = sums;
        let either = predicted + truth_px - both + 1.0;
        let slope = |pixel: Option<(f64, bool)>| {
            let Some((z, truth)) = pixel else { return 0.0 };
            let mut slope = self.term_slope(z, truth) / pixels;
            if self == Self::BceJaccard {
                let p = probability(z);
                // Of (both + 1) / either over this pixel's probability.
                let rise = if truth { 1.0 / either } else { -(both + 1.0) / (either * either) };
                slope -= rise * p * (1.0 - p);
            }
            (slope * scale) as f32
        };
        counted(logits, crops).flat_map_iter(|pixels| pixels.map(slope)).collect()
    }

    /// A pixel's loss.
    fn term(self, z: f64, truth: bool) -> f64 {
        let right = if truth { z } else { -z };
        match self {
            Self::Bce | Self::BceJaccard => softplus(-right),
            Self::Focal { gamma, alpha } => {
                let weight = if truth { alpha } else { 1.0 - alpha };
                weight * probability(-right).powf(gamma) * softplus(-right)
            }
        }
    }

    /// Its slope over the logit.
    fn term_slope(self, z: f64, truth: bool) -> f64 {
        let (right, sign) = if truth { (z, 1.0) } else { (-z, -1.0) };
        let wrong = probability(-right);
        match self {
            Self::Bce | Self::BceJaccard => -sign * wrong,
            Self::Focal { gamma, alpha } => {
                let weight = if truth { alpha } else { 1.0 - alpha };
                -sign * weight * wrong.powf(gamma) * (wrong + gamma * (1.0 - wrong) * softplus(-right))
            }
        }
    }
}

/// Of each crop, each pixel's logit and whether it is impact; nothing where it does not count.
fn counted<'a>(
    logits: &'a [f32],
    crops: &'a CropBatch,
) -> impl IndexedParallelIterator<Item = impl Iterator<Item = Option<(f64, bool)>> + 'a> + 'a {
    let crop_px = crops.side_px * crops.side_px;
    let crops = crops.pixels.par_chunks(crop_px).zip(crops.mask.par_chunks(crop_px));
    logits.par_chunks(crop_px).zip(crops).map(|(logits, (pixels, mask))| {
        logits.iter().zip(pixels).zip(mask).map(|((&z, &v), &m)| {
            let counts = v != 0 && m != CropBatch::DONT_CARE;
            counts.then(|| (f64::from(z), m != 0))
        })
    })
}

fn probability(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

/// `ln(1 + exp(x))`.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_are_those_of_the_value() {
        let crops = CropBatch {
            side_px: 3,
            pixels: vec![9, 9, 9, 0, 9, 9, 9, 9, 9],
            mask: vec![255, 0, 0, 255, CropBatch::DONT_CARE, 255, 0, 0, 0],
        };
        let logits = vec![0.3, -1.2, 2.0, 4.0, -3.0, -0.7, 0.1, -5.0, 8.0];
        for loss in [Loss::Bce, Loss::BceJaccard, Loss::Focal { gamma: 2.0, alpha: 0.25 }] {
            let slopes = loss.slopes(&logits, &crops, loss.sums(&logits, &crops), 1.0);
            for k in 0..logits.len() {
                let moved = |by: f32| {
                    let mut logits = logits.clone();
                    logits[k] += by;
                    loss.value(loss.sums(&logits, &crops))
                };
                let wanted = (moved(0.01) - moved(-0.01)) / 0.02;
                assert!((f64::from(slopes[k]) - wanted).abs() < 1e-5, "{loss:?} {k}: {} {wanted}", slopes[k]);
            }
            assert!(slopes[3] == 0.0 && slopes[4] == 0.0, "{loss:?}: pixels that do not count");
        }
    }

    #[test]
    fn focal_loss_without_focus_is_half_the_cross_entropy() {
        let crops = CropBatch { side_px: 2, pixels: vec![1; 4], mask: vec![0, 255, 0, 255] };
        let logits = [0.5, -2.0, 100.0, -100.0];
        let focal = Loss::Focal { gamma: 0.0, alpha: 0.5 };
        let [focal, bce] = [focal, Loss::Bce].map(|loss| loss.value(loss.sums(&logits, &crops)));
        assert!((2.0 * focal - bce).abs() < 1e-12 && bce.is_finite(), "{focal} {bce}");
    }
}
