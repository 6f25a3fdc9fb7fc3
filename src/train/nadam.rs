//! Nadam (Dozat 2016) as PyTorch's `NAdam` computes it, on flat vectors.

use serde::{Deserialize, Serialize};

const BETA_1: f64 = 0.9;
const BETA_2: f64 = 0.999;
const EPSILON: f64 = 1e-8;
const MOMENTUM_DECAY: f64 = 4e-3;

/// The optimiser's memory: first and second moments, and how far the momentum schedule has come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Nadam {
    /// Steps taken.
    pub steps: u64,
    /// Product of the momentum factors of all steps so far.
    pub momentum_product: f64,
    /// Running mean of the gradient.
    #[serde(skip)]
    pub first: Vec<f32>,
    /// Running mean of its square.
    #[serde(skip)]
    pub second: Vec<f32>,
}

impl Nadam {
    /// An optimiser of `count` parameters that has not moved yet.
    pub fn new(count: usize) -> Self {
        Self { steps: 0, momentum_product: 1.0, first: vec![0.0; count], second: vec![0.0; count] }
    }

    /// Moves `values` against `gradient` at `learning_rate`.
    pub fn step(&mut self, learning_rate: f64, values: &mut [f32], gradient: &[f32]) {
        self.steps += 1;
        let time = self.steps as f64;
        let momentum = |t: f64| BETA_1 * (1.0 - 0.5 * 0.96f64.powf(t * MOMENTUM_DECAY));
        let (now, next) = (momentum(time), momentum(time + 1.0));
        self.momentum_product *= now;
        let by_gradient = learning_rate * (1.0 - now) / (1.0 - self.momentum_product);
        let by_first = learning_rate * next / (1.0 - self.momentum_product * next);
        let correction = 1.0 - BETA_2.powf(time);
        let moments = self.first.iter_mut().zip(&mut self.second);
        for ((value, &g), (first, second)) in values.iter_mut().zip(gradient).zip(moments) {
            let g = f64::from(g);
            *first = (BETA_1 * f64::from(*first) + (1.0 - BETA_1) * g) as f32;
            *second = (BETA_2 * f64::from(*second) + (1.0 - BETA_2) * g * g) as f32;
            let scale = (f64::from(*second) / correction).sqrt() + EPSILON;
            *value -= ((by_gradient * g + by_first * f64::from(*first)) / scale) as f32;
        }
    }
}
