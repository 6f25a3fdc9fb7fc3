//! How the step size goes: a warm-up, then by plateau, by cosine, or as it is.

use serde::{Deserialize, Serialize};

use crate::config::{ScheduleKind, TrainSettings};

/// What the plateau schedule remembers between epochs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plateau {
    /// The step size in force, before the warm-up.
    pub learning_rate: f64,
    /// Lowest validation loss so far.
    pub best: f32,
    /// Epochs since then, or since the step size was lowered.
    pub flat_epochs: u64,
}

impl Plateau {
    /// At the highest step size.
    pub fn new(train: &TrainSettings) -> Self {
        Self { learning_rate: train.learning_rate, best: f32::INFINITY, flat_epochs: 0 }
    }

    /// Takes an epoch's validation loss, and lowers the step size after too many flat epochs.
    pub fn see(&mut self, train: &TrainSettings, validation_loss: f32) {
        if validation_loss < self.best {
            (self.best, self.flat_epochs) = (validation_loss, 0);
            return;
        }
        self.flat_epochs += 1;
        if self.flat_epochs >= train.plateau_epochs {
            self.flat_epochs = 0;
            let lowest = train.lowest_learning_rate.min(self.learning_rate);
            self.learning_rate = (self.learning_rate * train.plateau_factor).max(lowest);
        }
    }
}

/// The step size of the step numbered `step` of `total`, counted from 0.
pub fn learning_rate(train: &TrainSettings, plateau: &Plateau, step: u64, total: u64) -> f64 {
    let warm = ((step + 1) as f64 / train.warm_up_steps.max(1) as f64).min(1.0);
    warm * match train.schedule {
        ScheduleKind::Constant => train.learning_rate,
        ScheduleKind::Plateau => plateau.learning_rate,
        ScheduleKind::Cosine => {
            let done = step as f64 / total.max(1) as f64;
            train.learning_rate * (0.01 + 0.99 * 0.5 * (1.0 + (std::f64::consts::PI * done).cos()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;

    #[test]
    fn the_plateau_halves_after_five_flat_epochs_down_to_the_lowest() {
        let train = load("unet3.0").unwrap().train;
        let mut plateau = Plateau::new(&train);
        let mut seen = |loss: f32, epochs: usize| -> Vec<f64> {
            let rates = (0..epochs).map(|_| {
                plateau.see(&train, loss);
                learning_rate(&train, &plateau, 0, 1)
            });
            rates.collect()
        };
        assert_eq!(seen(0.5, 1), [1e-4]);
        assert_eq!(seen(0.5, 5), [1e-4, 1e-4, 1e-4, 1e-4, 5e-5], "an equal loss is no better one");
        assert_eq!(seen(0.6, 4), [5e-5; 4]);
        assert_eq!(seen(0.4, 1), [5e-5], "a better loss starts the count again");
        assert_eq!(seen(0.4, 5)[4], 2.5e-5);
        assert_eq!(seen(0.4, 5)[4], 1.25e-5);
        assert_eq!(seen(0.4, 50)[49], 1e-5);
    }

    #[test]
    fn the_cosine_warms_up_and_ends_at_a_hundredth_and_the_constant_stays() {
        let mut train = load("unet1").unwrap().train;
        let plateau = Plateau::new(&train);
        let rate = |train: &TrainSettings, step| learning_rate(train, &plateau, step, 10_000) / 1e-3;
        assert!((rate(&train, 49) - 0.5).abs() < 1e-3);
        assert!((rate(&train, 5_000) - 0.505).abs() < 1e-3);
        assert!((rate(&train, 9_999) - 0.01).abs() < 1e-3);
        (train.schedule, train.warm_up_steps) = (ScheduleKind::Constant, 0);
        assert!(rate(&train, 0) == 1.0 && rate(&train, 9_999) == 1.0);
    }
}
