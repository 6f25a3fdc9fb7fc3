//! Optimisers on flat vectors, each taking the steps that PyTorch's takes: `NAdam`, `Adam`, and `SGD` with
//! momentum.

use rayon::prelude::*;

use crate::config::{OptimiserKind, TrainSettings};

const BETA_1: f64 = 0.9;
const BETA_2: f64 = 0.999;
const EPSILON: f64 = 1e-8;
const MOMENTUM_DECAY: f64 = 4e-3;
/// Parameters that a thread takes at once.
const PIECE: usize = 1 << 14;

/// An optimiser and its memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Optimiser {
    kind: OptimiserKind,
    momentum: f64,
    /// Steps taken.
    pub steps: u64,
    /// With Nadam: product of the momentum factors of all steps so far.
    pub momentum_product: f64,
    /// Running mean of the gradient; with gradient descent, the last step in units of the step size.
    pub first: Vec<f32>,
    /// Running mean of the gradient's square; empty with gradient descent.
    pub second: Vec<f32>,
}

impl Optimiser {
    /// The settings' optimiser of `count` parameters, which has not moved yet.
    pub fn new(train: &TrainSettings, count: usize) -> Self {
        let second = if train.optimiser == OptimiserKind::Sgd { 0 } else { count };
        Self {
            kind: train.optimiser,
            momentum: train.momentum,
            steps: 0,
            momentum_product: 1.0,
            first: vec![0.0; count],
            second: vec![0.0; second],
        }
    }

    /// Moves `values` against `gradient` at `learning_rate`.
    pub fn step(&mut self, learning_rate: f64, values: &mut [f32], gradient: &[f32]) {
        self.steps += 1;
        let time = self.steps as f64;
        match self.kind {
            OptimiserKind::Sgd => self.descend(learning_rate, values, gradient),
            OptimiserKind::Adam => {
                let by_first = learning_rate / (1.0 - BETA_1.powf(time));
                self.by_moments(0.0, by_first, values, gradient);
            }
            OptimiserKind::Nadam => {
                let momentum = |t: f64| BETA_1 * (1.0 - 0.5 * 0.96f64.powf(t * MOMENTUM_DECAY));
                let (now, next) = (momentum(time), momentum(time + 1.0));
                self.momentum_product *= now;
                let by_gradient = learning_rate * (1.0 - now) / (1.0 - self.momentum_product);
                let by_first = learning_rate * next / (1.0 - self.momentum_product * next);
                self.by_moments(by_gradient, by_first, values, gradient);
            }
        }
    }

    fn descend(&mut self, learning_rate: f64, values: &mut [f32], gradient: &[f32]) {
        let momentum = self.momentum;
        let all = values.par_iter_mut().zip(gradient).zip(&mut self.first);
        all.with_min_len(PIECE).for_each(|((value, &g), first)| {
            *first = (momentum * f64::from(*first) + f64::from(g)) as f32;
            *value -= (learning_rate * f64::from(*first)) as f32;
        });
    }

    /// Adam's step and its kin: both moments move on, then so much of the gradient and so much of its mean is
    /// taken, over the root of the mean square.
    fn by_moments(&mut self, by_gradient: f64, by_first: f64, values: &mut [f32], gradient: &[f32]) {
        let correction = 1.0 - BETA_2.powf(self.steps as f64);
        let all = values.par_iter_mut().zip(gradient).zip(&mut self.first).zip(&mut self.second);
        all.with_min_len(PIECE).for_each(|(((value, &g), first), second)| {
            let g = f64::from(g);
            *first = (BETA_1 * f64::from(*first) + (1.0 - BETA_1) * g) as f32;
            *second = (BETA_2 * f64::from(*second) + (1.0 - BETA_2) * g * g) as f32;
            let scale = (f64::from(*second) / correction).sqrt() + EPSILON;
            *value -= ((by_gradient * g + by_first * f64::from(*first)) / scale) as f32;
        });
    }
}
