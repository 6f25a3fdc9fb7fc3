//! The penalty on large weights, as Keras' `l2`: on the convolutions' kernels, not on biases or batch norm.

use std::ops::Range;

use crate::unet::layout::parameters;

/// A penalty of `factor` times the sum of the squared kernels.
#[derive(Clone, Debug)]
pub struct Penalty {
    factor: f64,
    /// Where the kernels are in the flat vector of parameters.
    kernels: Vec<Range<usize>>,
}

impl Penalty {
    /// The penalty on a network of these widths.
    pub fn new(widths: &[usize], factor: f64) -> Self {
        let (mut kernels, mut at) = (Vec::new(), 0);
        for (_, shape) in parameters(widths) {
            let end = at + shape.iter().product::<usize>();
            if shape.len() == 4 {
                kernels.push(at..end);
            }
            at = end;
        }
        Self { factor, kernels }
    }

    /// Adds the penalty's gradient to `gradient`, and gives the penalty itself.
    pub fn add(&self, values: &[f32], gradient: &mut [f32]) -> f64 {
        if self.factor == 0.0 {
            return 0.0;
        }
        let mut squares = 0.0;
        for kernel in &self.kernels {
            for (g, &w) in gradient[kernel.clone()].iter_mut().zip(&values[kernel.clone()]) {
                *g += (2.0 * self.factor * f64::from(w)) as f32;
                squares += f64::from(w) * f64::from(w);
            }
        }
        self.factor * squares
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_penalised_and_nothing_else_is() {
        let widths = [2, 3];
        let count = parameters(&widths).iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
        let values = vec![0.5f32; count];
        let mut gradient = vec![1.0f32; count];
        let penalty = Penalty::new(&widths, 0.01).add(&values, &mut gradient);
        let mut at = 0;
        let mut kernels = 0;
        for (name, shape) in parameters(&widths) {
            let end = at + shape.iter().product::<usize>();
            let is_kernel = name.contains("conv") && name.ends_with("weight") || name == "head.weight";
            let wanted = if is_kernel { 1.01 } else { 1.0 };
            assert!(gradient[at..end].iter().all(|g| (g - wanted).abs() < 1e-6), "{name}");
            kernels += if is_kernel { end - at } else { 0 };
            at = end;
        }
        assert!((penalty - 0.01 * 0.25 * kernels as f64).abs() < 1e-9, "{penalty}");
        let before = gradient.clone();
        assert!(Penalty::new(&widths, 0.0).add(&values, &mut gradient) == 0.0 && gradient == before);
    }
}
