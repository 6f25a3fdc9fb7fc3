//! A first look at a scene, by a small network at reduced resolution.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::{check_widths, demand};

/// Ground is looked at, or left out, in squares of this side, px of the scene.
pub const SCREEN_CELL_PX: u32 = 16;

/// What the first look is by, and where it is sure of nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScreenSettings {
    /// Channels of each level of the small U-Net, from the finest.
    pub widths: Vec<usize>,
    /// So many pixels on a side are one to it.
    pub reduce: u32,
    /// It is sure of nothing where its probability stays under this, 0..=1.
    pub probability: f64,
    /// blake3 of its weights; a scan fills it in.
    #[serde(default)]
    pub weights: String,
}

impl ScreenSettings {
    /// What the shipped network is made for.
    ///
    /// # Errors
    /// None that a test has not seen.
    pub fn shipped() -> Result<Self> {
        Ok(toml::from_str(include_str!("../../configs/screen.toml"))?)
    }

    /// # Errors
    /// [`crate::fault::WrongUsage`] with the key, its value and its limit.
    pub(super) fn check(&self) -> Result<()> {
        check_widths("scan.screen.widths", &self.widths)?;
        let divides = (2..=16).contains(&self.reduce) && SCREEN_CELL_PX.is_multiple_of(self.reduce);
        demand(divides, "scan.screen.reduce", &self.reduce, "2, 4, 8 or 16")?;
        let probability = self.probability;
        demand(
            probability > 0.0 && probability < 1.0,
            "scan.screen.probability",
            &probability,
            "above 0 and below 1",
        )
    }
}
