//! Settings: presets compiled in, a file, then flags; checked once, then plain values.

use serde::{Deserialize, Serialize};

/// All settings of a run, none optional; each run saves them beside its results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The preset's or file's name.
    pub name: String,
    /// The U-Net.
    pub network: NetworkSettings,
    /// From stored samples to network input.
    pub input: InputSettings,
    /// Scanning and measuring.
    pub scan: ScanSettings,
    /// Training.
    pub train: TrainSettings,
}

/// The U-Net's shape.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkSettings {
    /// Channels of each level, from the finest.
    pub widths: Vec<usize>,
    /// Probability that training silences an activation, 0..1.
    pub dropout: f64,
}

/// How a stored sample becomes the network's 8-bit input.
///
/// 8-bit samples are taken as they are. Of 16-bit samples, `valid_min..=valid_max` is mapped
/// linearly on 1..=255, rounding half up, and everything outside is no data (0).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputSettings {
    /// Lowest 16-bit sample that is ground.
    pub valid_min: u16,
    /// Highest 16-bit sample that is ground.
    pub valid_max: u16,
}

/// How a scene is scanned, and which blobs are impacts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScanSettings {
    /// `unet`, or `threshold` for a plain grey level.
    pub segmenter: SegmenterKind,
    /// Side of a window, px.
    pub window_px: u32,
    /// Windows given to the device at once.
    pub batch: usize,
    /// Rows read, inferred and measured in one piece; rounded up to whole windows' cores.
    pub band_rows: u64,
    /// Probability from which a pixel is impact, 0..=1.
    pub probability: f64,
    /// Smallest impact, px.
    pub min_area_px: u64,
    /// Lowest mean probability of an impact, 0..=1.
    pub min_score: f64,
    /// With `threshold`: grey levels `1..=dark_max` are impact; 0 for none.
    pub dark_max: u8,
    /// With `threshold`: grey levels from here are impact; 0 for none.
    pub bright_min: u8,
}

/// What gives pixels their probability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SegmenterKind {
    /// The network.
    Unet,
    /// A grey level.
    Threshold,
}

/// How the network is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainSettings {
    /// Side of a crop, px.
    pub crop_px: usize,
    /// Crops a step.
    pub batch: usize,
    /// Crops an epoch: validation and a checkpoint come after each.
    pub epoch_crops: usize,
    /// Epochs.
    pub epochs: usize,
    /// Highest step size of Nadam, reached after the warm-up.
    pub learning_rate: f64,
    /// Share of the scenes held out for validation when no list of them is given, 0..1.
    pub validation_share: f64,
    /// Seed of the split, the crops and the initial weights.
    pub seed: u64,
}
