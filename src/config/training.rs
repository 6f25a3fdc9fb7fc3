//! The settings of training: `[train]`.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::{Precision, demand};

/// How the network is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainSettings {
    /// Side of a crop, px.
    pub crop_px: usize,
    /// Pixels this near the rim of a mask's impact are not judged; 0 judges all.
    pub ring_px: usize,
    /// Whether crops are turned, mirrored and brightened or darkened.
    pub augment: bool,
    /// Crops a step.
    pub batch: usize,
    /// Share of the crops that hold an impact, 0..=1.
    pub impact_share: f64,
    /// Share of the crops without an impact that hold a mistake of an earlier network, where its
    /// candidates are given, 0..=1.
    pub hard_share: f64,
    /// Crops an epoch: validation and a checkpoint come after each.
    pub epoch_crops: usize,
    /// Epochs, at most.
    pub epochs: usize,
    /// What a step lowers.
    pub loss: LossKind,
    /// With `focal`: how much less a pixel counts the surer the network is of it; 0 for not at all.
    pub focal_gamma: f64,
    /// With `focal`: weight of an impact's pixels, 0..1; the others weigh one minus it.
    pub focal_alpha: f64,
    /// How a step is taken.
    pub optimiser: OptimiserKind,
    /// What convolutions are computed in.
    pub precision: Precision,
    /// Whether each device normalises by its own share of the batch, as Keras does, and not by the whole.
    pub local_statistics: bool,
    /// With `sgd`: share of the last step that is taken again, 0..1.
    pub momentum: f64,
    /// The sum of the squared kernels times this is added to the loss, as Keras' `l2`; 0 for none.
    pub l2: f64,
    /// Highest step size, reached after the warm-up.
    pub learning_rate: f64,
    /// Steps over which the step size rises to its full value; 0 for none.
    pub warm_up_steps: u64,
    /// How the step size falls.
    pub schedule: ScheduleKind,
    /// With `plateau`: epochs without a better validation loss before the step size is lowered.
    pub plateau_epochs: u64,
    /// With `plateau`: what the step size is multiplied by then, 0..1.
    pub plateau_factor: f64,
    /// With `plateau`: the step size is never lowered below this.
    pub lowest_learning_rate: f64,
    /// Epochs without a better validation loss before training stops; 0 for never.
    pub stop_after_epochs: u64,
    /// Crops on which each epoch is validated: the same ones every time.
    pub validation_crops: usize,
    /// Minutes between two checkpoints within an epoch; 0 for none but at its end.
    pub checkpoint_minutes: f64,
    /// Share of the scenes held out for validation when no list of them is given, 0..1.
    pub validation_share: f64,
    /// Seed of the split, the crops and the initial weights.
    pub seed: u64,
}

/// What a step lowers, over the pixels that are ground.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LossKind {
    /// Mean binary cross-entropy.
    Bce,
    /// The same, plus one minus the soft Jaccard index of the batch.
    BceJaccard,
    /// Cross-entropy in which sure pixels count less (Lin et al. 2017).
    Focal,
}

/// How a step is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OptimiserKind {
    /// Nadam (Dozat 2016).
    Nadam,
    /// Adam (Kingma and Ba 2015).
    Adam,
    /// Gradient descent with momentum.
    Sgd,
}

/// How the step size falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleKind {
    /// Lowered when the validation loss no longer falls.
    Plateau,
    /// Half a cosine down to a hundredth.
    Cosine,
    /// Not at all.
    Constant,
}

impl TrainSettings {
    /// `multiple_px`: what the network's levels make a crop's side a multiple of.
    ///
    /// # Errors
    /// [`crate::fault::WrongUsage`] with the key, its value and its limit.
    pub(super) fn check(&self, multiple_px: u32) -> Result<()> {
        let crop = self.crop_px;
        let fits = (1..=4096).contains(&crop) && crop.is_multiple_of(multiple_px as usize);
        demand(fits, "train.crop_px", &crop, &format!("a positive multiple of {multiple_px}, at most 4096"))?;
        demand(self.ring_px <= 64, "train.ring_px", &self.ring_px, "0 to 64")?;
        demand((1..=65_536).contains(&self.batch), "train.batch", &self.batch, "1 to 65536")?;
        let crops = &self.epoch_crops;
        demand(*crops >= self.batch, "train.epoch_crops", crops, "at least train.batch")?;
        demand(self.epochs > 0, "train.epochs", &self.epochs, "at least 1")?;
        let crops = &self.validation_crops;
        demand(*crops > 0, "train.validation_crops", crops, "at least 1")?;
        let minutes = &self.checkpoint_minutes;
        demand(*minutes >= 0.0 && minutes.is_finite(), "train.checkpoint_minutes", minutes, "at least 0")?;
        let share = &self.impact_share;
        demand(*share > 0.0 && *share <= 1.0, "train.impact_share", share, "above 0, at most 1")?;
        let share = &self.hard_share;
        demand((0.0..=1.0).contains(share), "train.hard_share", share, "in 0..=1")?;
        let share = &self.validation_share;
        demand(*share > 0.0 && *share < 1.0, "train.validation_share", share, "between 0 and 1")?;
        self.check_descent()
    }

    /// What the loss, the optimiser and the schedule can be given.
    fn check_descent(&self) -> Result<()> {
        let gamma = &self.focal_gamma;
        demand((0.0..=10.0).contains(gamma), "train.focal_gamma", gamma, "in 0..=10")?;
        let alpha = &self.focal_alpha;
        demand(*alpha > 0.0 && *alpha < 1.0, "train.focal_alpha", alpha, "between 0 and 1")?;
        demand((0.0..1.0).contains(&self.momentum), "train.momentum", &self.momentum, "in 0..1")?;
        demand((0.0..=1.0).contains(&self.l2), "train.l2", &self.l2, "in 0..=1")?;
        let rate = &self.learning_rate;
        demand(*rate > 0.0 && *rate <= 1.0, "train.learning_rate", rate, "above 0, at most 1")?;
        let epochs = &self.plateau_epochs;
        demand(*epochs > 0, "train.plateau_epochs", epochs, "at least 1")?;
        let factor = &self.plateau_factor;
        demand(*factor > 0.0 && *factor < 1.0, "train.plateau_factor", factor, "between 0 and 1")?;
        let lowest = &self.lowest_learning_rate;
        let fits = *lowest > 0.0 && lowest.is_finite();
        demand(fits, "train.lowest_learning_rate", lowest, "above 0")
    }
}
