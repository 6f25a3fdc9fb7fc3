//! Settings: presets compiled in, a file, then flags; checked once, then plain values.

mod presets;
mod screen;
mod training;

use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::fault::WrongUsage;
use crate::tile::{halo_px, multiple_px};

pub use presets::{PRESETS, SCREEN_WEIGHTS, shipped_weights};
pub use screen::{SCREEN_CELL_PX, ScreenSettings};
pub use training::{LossKind, OptimiserKind, ScheduleKind, TrainSettings};

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

impl InputSettings {
    /// For a mask: whatever is not zero counts.
    pub const MASK: Self = Self { valid_min: 1, valid_max: u16::MAX };
}

/// How a scene is scanned, and which blobs are impacts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScanSettings {
    /// `unet`, or `threshold` for a plain grey level.
    pub segmenter: SegmenterKind,
    /// Side of a window, px; the CPU needs no windows.
    pub window_px: u32,
    /// Windows given to the device at once.
    pub batch: usize,
    /// What the network is computed in; a CPU has f32 and, with AMX, bf16.
    #[serde(default)]
    pub precision: Precision,
    /// Rows read, inferred and measured in one piece, at most.
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
    /// A first look that leaves out ground, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub screen: Option<ScreenSettings>,
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

/// What convolutions are computed in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits, 5 of exponent; small slopes need to be made larger.
    F16,
    /// 16 bits, 8 of exponent.
    Bf16,
}

impl std::str::FromStr for Precision {
    type Err = WrongUsage;

    fn from_str(text: &str) -> Result<Self, WrongUsage> {
        let all = [Self::F32, Self::F16, Self::Bf16];
        let found = all.into_iter().find(|one| one.to_string() == text);
        found.ok_or_else(|| WrongUsage("must be f32, f16 or bf16".into()))
    }
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        })
    }
}

/// The settings of a preset's name, or of a TOML file, checked.
///
/// # Errors
/// [`WrongUsage`] that names the key: unknown, missing, of the wrong type or out of range.
pub fn load(name: &str) -> Result<Settings> {
    let preset = PRESETS.iter().find(|(preset, _)| *preset == name);
    let text = match preset {
        Some((_, text)) => (*text).to_owned(),
        None if Path::new(name).exists() => std::fs::read_to_string(name)
            .map_err(|why| wrong(format!("cannot read settings {name}: {why}")))?,
        None => {
            let presets = PRESETS.map(|(preset, _)| preset).join(", ");
            return Err(wrong(format!("no settings {name}: neither a preset ({presets}) nor a file")));
        }
    };
    let settings: Settings = toml::from_str(&text).map_err(|why| wrong(format!("settings {name}: {why}")))?;
    settings.check()?;
    Ok(settings)
}

/// [`WrongUsage`] with the key, its value and its limit, unless the limit holds.
fn demand(holds: bool, key: &str, value: &dyn std::fmt::Display, limit: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(wrong(format!("{key} = {value}: must be {limit}"))) }
}

fn check_widths(key: &str, widths: &[usize]) -> Result<()> {
    let usable = (2..=6).contains(&widths.len()) && widths.iter().all(|width| (1..=2048).contains(width));
    demand(usable, key, &format!("{widths:?}"), "2 to 6 numbers of 1 to 2048")
}

fn wrong(message: String) -> anyhow::Error {
    WrongUsage(message).into()
}

impl Settings {
    /// # Errors
    /// [`WrongUsage`] with the key, its value and its limit.
    pub fn check(&self) -> Result<()> {
        /// Pixels given to the device at once.
        const MOST_PX: u64 = 1 << 27;
        let (network, scan) = (&self.network, &self.scan);
        check_widths("network.widths", &network.widths)?;
        demand((0.0..1.0).contains(&network.dropout), "network.dropout", &network.dropout, "in 0..1")?;
        let input = &self.input;
        demand(
            input.valid_min < input.valid_max,
            "input.valid_min",
            &input.valid_min,
            "less than input.valid_max",
        )?;
        let (multiple, halo) = (self.multiple_px(), self.halo_px());
        let limit = format!("a multiple of {multiple} above {} (twice the halo) and at most 8192", 2 * halo);
        let window = scan.window_px;
        let fits = window > 2 * halo && window <= 8192 && window.is_multiple_of(multiple);
        demand(fits, "scan.window_px", &window, &limit)?;
        demand((1..=1024).contains(&scan.batch), "scan.batch", &scan.batch, "1 to 1024")?;
        let each = u64::from(window) * u64::from(window);
        let limit = format!("at most {} with windows of {window} px, 2^27 px at once", MOST_PX / each);
        demand(scan.batch as u64 * each <= MOST_PX, "scan.batch", &scan.batch, &limit)?;
        demand((1..=1 << 20).contains(&scan.band_rows), "scan.band_rows", &scan.band_rows, "1 to 1048576")?;
        let probability = &scan.probability;
        demand(
            *probability > 0.0 && *probability <= 1.0,
            "scan.probability",
            probability,
            "above 0, at most 1",
        )?;
        demand((0.0..=1.0).contains(&scan.min_score), "scan.min_score", &scan.min_score, "in 0..=1")?;
        demand(scan.min_area_px > 0, "scan.min_area_px", &scan.min_area_px, "at least 1")?;
        if let Some(screen) = &scan.screen {
            screen.check()?;
        }
        self.train.check(multiple_px(&network.widths))
    }

    /// Pixels on each side of a window that belong to its neighbours.
    pub fn halo_px(&self) -> u32 {
        match self.scan.segmenter {
            SegmenterKind::Unet => halo_px(&self.network.widths),
            SegmenterKind::Threshold => 0,
        }
    }

    /// What a window's side and origin are multiples of.
    pub fn multiple_px(&self) -> u32 {
        match self.scan.segmenter {
            SegmenterKind::Unet => multiple_px(&self.network.widths),
            SegmenterKind::Threshold => 1,
        }
    }

    /// Pixels of a window that are its own: the step of the window grid.
    pub fn core_px(&self) -> u32 {
        self.scan.window_px - 2 * self.halo_px()
    }

    /// blake3 of what changes a result: how fast it is reached (batch, band height) and how the network
    /// was trained do not.
    pub fn id(&self) -> String {
        let mut scan = self.scan.clone();
        (scan.batch, scan.band_rows) = (0, 0);
        let text = format!("{:?}{:?}{scan:?}", self.network.widths, self.input);
        blake3::hash(text.as_bytes()).to_hex().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_sound() {
        for (name, _) in PRESETS {
            assert_eq!(load(name).unwrap().name, name);
        }
    }

    #[test]
    fn the_studys_networks_are_trained_as_the_study_says() {
        for name in ["unet1.0", "unet2.0", "unet2.1", "unet3.0"] {
            let train = load(name).unwrap().train;
            assert_eq!((train.loss, train.optimiser), (LossKind::Bce, OptimiserKind::Nadam), "{name}");
            assert_eq!((train.batch, train.epochs, train.learning_rate), (32, 200, 1e-4), "{name}");
            let plateau = (train.plateau_epochs, train.plateau_factor, train.lowest_learning_rate);
            assert_eq!((train.schedule, plateau), (ScheduleKind::Plateau, (5, 0.5, 1e-5)), "{name}");
            let fed_back = matches!(name, "unet2.1" | "unet3.0");
            assert_eq!(train.hard_share > 0.0, fed_back, "{name}");
        }
        let last = load("unet3.0").unwrap();
        assert_eq!((last.network.widths.len(), last.network.dropout, last.train.l2), (5, 0.2, 0.01));
    }

    #[test]
    fn a_bad_value_is_named_with_its_limit() {
        let mut settings = load("unet3").unwrap();
        settings.scan.window_px = 200;
        let message = settings.check().unwrap_err().to_string();
        assert!(message.contains("scan.window_px = 200") && message.contains("multiple of 16"), "{message}");
    }

    #[test]
    fn the_id_ignores_what_changes_no_result() {
        let settings = load("unet1").unwrap();
        let mut other = settings.clone();
        (other.scan.batch, other.scan.band_rows) = (7, 99);
        assert_eq!(settings.id(), other.id());
        other.scan.probability = 0.6;
        assert_ne!(settings.id(), other.id());
    }
}
