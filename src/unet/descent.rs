//! Going down the loss: what an optimiser's step does to each parameter, whichever device keeps it.

use std::ops::Range;

use rayon::prelude::*;

use super::layout;

/// How much of the gradient's running mean is kept, of those that have two moments.
pub const KEEP_MEAN: f64 = 0.9;
/// The same of its square's.
pub const KEEP_SQUARE: f64 = 0.999;
/// Added to the root of the mean square.
pub const EPSILON: f64 = 1e-8;
/// Parameters that a thread takes at once.
const PIECE: usize = 1 << 14;

/// The network's parameters, flat in the order of [`layout::parameters`], and what the optimiser remembers of each.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parameters {
    /// Their values.
    pub values: Vec<f32>,
    /// Running mean of the gradient; with gradient descent, the last step in units of the step size.
    pub first: Vec<f32>,
    /// Running mean of the gradient's square; empty with gradient descent.
    pub second: Vec<f32>,
}

/// A step's rule, the same for all parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// Gradient descent.
    Descent {
        /// The step's size.
        rate: f64,
        /// How much of the last step is taken again.
        momentum: f64,
    },
    /// Adam's and its kin: both moments move on, then so much of the gradient and so much of its mean is taken, over the
    /// root of the mean square.
    Moments {
        /// Of the gradient.
        by_gradient: f64,
        /// Of its mean.
        by_first: f64,
        /// What the mean square is divided by, for it began at 0.
        correction: f64,
    },
}

/// A step down.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Descent {
    /// How parameters move.
    pub rule: Rule,
    /// The penalty on large weights, as Keras' `l2`: this times the sum of the squared kernels.
    pub l2: f64,
}

/// Where the kernels of a network of these widths are, which are penalised, unlike biases and batch norm.
pub fn kernels(widths: &[usize]) -> Vec<Range<usize>> {
    let (mut kernels, mut at) = (Vec::new(), 0);
    for (_, shape) in layout::parameters(widths) {
        let end = at + shape.iter().product::<usize>();
        if shape.len() == 4 {
            kernels.push(at..end);
        }
        at = end;
    }
    kernels
}

impl Parameters {
    /// Of `values`, with the one or two moments that an optimiser remembers of each, all 0.
    pub fn new(values: Vec<f32>, moments: usize) -> Self {
        let count = values.len();
        Self { values, first: vec![0.0; count], second: vec![0.0; count * (moments - 1)] }
    }
}

impl Descent {
    /// Moves `parameters` against `gradient`; gives the penalty that they had before, on `kernels`.
    pub fn take(&self, parameters: &mut Parameters, gradient: &[f32], kernels: &[Range<usize>]) -> f64 {
        let Parameters { values, first, second } = parameters;
        let pieces = values.par_chunks_mut(PIECE).zip(gradient.par_chunks(PIECE));
        let pieces = pieces.zip(first.par_chunks_mut(PIECE)).enumerate();
        let squares: Vec<f64> = match self.rule {
            Rule::Descent { rate, momentum } => pieces
                .map(|(k, ((values, gradient), first))| {
                    self.each(k * PIECE, values, gradient, kernels, |at, value, g| {
                        let first = &mut first[at];
                        *first = (momentum * f64::from(*first) + f64::from(g)) as f32;
                        *value -= (rate * f64::from(*first)) as f32;
                    })
                })
                .collect(),
            Rule::Moments { by_gradient, by_first, correction } => pieces
                .zip(second.par_chunks_mut(PIECE))
                .map(|((k, ((values, gradient), first)), second)| {
                    self.each(k * PIECE, values, gradient, kernels, |at, value, g| {
                        let (g, first, second) = (f64::from(g), &mut first[at], &mut second[at]);
                        *first = (KEEP_MEAN * f64::from(*first) + (1.0 - KEEP_MEAN) * g) as f32;
                        *second = (KEEP_SQUARE * f64::from(*second) + (1.0 - KEEP_SQUARE) * g * g) as f32;
                        let scale = (f64::from(*second) / correction).sqrt() + EPSILON;
                        *value -= ((by_gradient * g + by_first * f64::from(*first)) / scale) as f32;
                    })
                })
                .collect(),
        };
        self.l2 * squares.iter().sum::<f64>()
    }

    /// Calls `each` with the place, the value and the penalised gradient of a piece's parameters, which begin at `begin`;
    /// the sum of the squared kernels among them.
    fn each(
        &self,
        begin: usize,
        values: &mut [f32],
        gradient: &[f32],
        kernels: &[Range<usize>],
        mut each: impl FnMut(usize, &mut f32, f32),
    ) -> f64 {
        let (mut squares, mut at) = (0.0, 0);
        while at < values.len() {
            let next = kernels.iter().find(|kernel| kernel.end > begin + at && self.l2 != 0.0);
            let until = |place: usize| (place - begin).min(values.len());
            let (end, inside) = match next {
                Some(kernel) if kernel.start <= begin + at => (until(kernel.end), true),
                Some(kernel) => (until(kernel.start), false),
                None => (values.len(), false),
            };
            for (k, value) in (at..).zip(&mut values[at..end]) {
                let weight = if inside { f64::from(*value) } else { 0.0 };
                squares += weight * weight;
                each(k, value, gradient[k] + (2.0 * self.l2 * weight) as f32);
            }
            at = end;
        }
        squares
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_penalised_and_nothing_else_is() {
        // Kernels that begin and end within pieces, and one that holds several.
        let widths = [20, 33];
        let shapes = layout::parameters(&widths);
        let count = shapes.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
        assert!(count > 2 * PIECE);
        let gradient = vec![1.0f32; count];
        let rule = Rule::Descent { rate: 1.0, momentum: 0.0 };
        let mut parameters = Parameters::new(vec![0.5; count], 1);
        let penalty = Descent { rule, l2: 0.01 }.take(&mut parameters, &gradient, &kernels(&widths));
        let (mut at, mut penalised) = (0, 0);
        for (name, shape) in shapes {
            let end = at + shape.iter().product::<usize>();
            let is_kernel = name.contains("conv") && name.ends_with("weight") || name == "head.weight";
            let wanted = if is_kernel { -0.51 } else { -0.5 };
            assert!(parameters.values[at..end].iter().all(|v| (v - wanted).abs() < 1e-6), "{name}");
            penalised += if is_kernel { end - at } else { 0 };
            at = end;
        }
        assert!((penalty - 0.01 * 0.25 * penalised as f64).abs() < 1e-6, "{penalty}");
        let mut parameters = Parameters::new(vec![0.5; count], 1);
        let none = Descent { rule, l2: 0.0 }.take(&mut parameters, &gradient, &kernels(&widths));
        assert!(none == 0.0 && parameters.values.iter().all(|v| *v == -0.5));
    }
}
