//! How far repeats lie apart.

use serde::Serialize;

/// Mean, and deviation of a sample: over one less than the values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Sum over count.
    pub mean: f64,
    /// None of one value.
    pub deviation: Option<f64>,
}

impl Spread {
    /// Of at least one value.
    pub fn of(values: &[f64]) -> Self {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>();
        Self { mean, deviation: (count > 1.0).then(|| (squares / (count - 1.0)).sqrt()) }
    }
}
