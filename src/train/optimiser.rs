//! Optimisers, each taking the steps that PyTorch's takes: `NAdam`, `Adam`, and `SGD` with momentum.

use crate::config::{OptimiserKind, TrainSettings};
use crate::unet::descent::{Descent, KEEP_MEAN, KEEP_SQUARE, Rule};

const MOMENTUM_DECAY: f64 = 4e-3;

/// An optimiser, less what it remembers of each parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Optimiser {
    kind: OptimiserKind,
    momentum: f64,
    l2: f64,
    /// Steps taken.
    pub steps: u64,
    /// With Nadam: product of the momentum factors of all steps so far.
    pub momentum_product: f64,
}

impl Optimiser {
    /// The settings', which has not moved yet.
    pub fn new(train: &TrainSettings) -> Self {
        let TrainSettings { optimiser: kind, momentum, l2, .. } = *train;
        Self { kind, momentum, l2, steps: 0, momentum_product: 1.0 }
    }

    /// How many moments it remembers of each parameter.
    pub fn moments(&self) -> usize {
        if self.kind == OptimiserKind::Sgd { 1 } else { 2 }
    }

    /// The next step, at `learning_rate`, and the optimiser after it.
    pub fn next(&self, learning_rate: f64) -> (Descent, Self) {
        let mut after = Self { steps: self.steps + 1, ..*self };
        let time = after.steps as f64;
        let correction = 1.0 - KEEP_SQUARE.powf(time);
        let rule = match self.kind {
            OptimiserKind::Sgd => Rule::Descent { rate: learning_rate, momentum: self.momentum },
            OptimiserKind::Adam => {
                let by_first = learning_rate / (1.0 - KEEP_MEAN.powf(time));
                Rule::Moments { by_gradient: 0.0, by_first, correction }
            }
            OptimiserKind::Nadam => {
                let momentum = |t: f64| KEEP_MEAN * (1.0 - 0.5 * 0.96f64.powf(t * MOMENTUM_DECAY));
                let (now, next) = (momentum(time), momentum(time + 1.0));
                after.momentum_product *= now;
                let by_gradient = learning_rate * (1.0 - now) / (1.0 - after.momentum_product);
                let by_first = learning_rate * next / (1.0 - after.momentum_product * next);
                Rule::Moments { by_gradient, by_first, correction }
            }
        };
        (Descent { rule, l2: self.l2 }, after)
    }
}
