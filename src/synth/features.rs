//! What stands on the ground: fresh impacts, and old craters, dunes and streaks that are mistaken for them.

use std::f64::consts::{PI, TAU};

use crate::dice::Dice;
use crate::space::PixelRect;

/// What a feature is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A small pit in a dark or bright blast zone with rays.
    Impact,
    /// A bowl with a lit and a shaded wall, and no blast zone.
    Crater,
    /// Ripples.
    Dunes,
    /// A dark track down a slope.
    Streak,
}

/// A feature in its place.
#[derive(Clone, Debug)]
pub struct Feature {
    /// What it is.
    pub kind: Kind,
    row: f64,
    col: f64,
    /// Reach of a blast zone's longest ray, a crater's rim, a field's edge; half a streak's length. Px.
    radius: f64,
    /// Of dunes' crests, a streak, or a blast zone's first ray.
    angle: f64,
    /// Of its contrast, negative for dark.
    strength: f64,
    /// Wavelength of dunes, width of a streak, share of a blast zone that is pit.
    detail: f64,
    /// Lengths of the rays around a blast zone, 0..=1 of `radius`.
    rays: Vec<f64>,
}

/// The sun stands in the west, as in CTX's afternoon orbit: walls that face it are bright.
const SUN: (f64, f64) = (0.2, -0.98);
/// Share of the full contrast from which a blast zone's pixel is in the mask.
const MASKED: f64 = 0.3;
/// A crater's rim and ejecta reach this many radii.
const CRATER_REACH: f64 = 1.6;

impl Feature {
    /// Draws one of `kind` around a place.
    pub fn draw(kind: Kind, row: f64, col: f64, dice: &mut Dice) -> Self {
        let mut between = |low: f64, high: f64| low + (high - low) * dice.unit();
        let angle = between(0.0, TAU);
        let mut rays = Vec::new();
        let (radius, strength, detail) = match kind {
            Kind::Impact => {
                let radius = (between(8.0f64.ln(), 38.0f64.ln())).exp();
                let dark = between(0.0, 1.0) < 0.75;
                let contrast = between(0.28, 0.55);
                let count = between(7.0, 15.0) as usize;
                rays = (0..count).map(|_| between(0.45, 1.0)).collect();
                (radius, if dark { -contrast } else { 0.8 * contrast }, between(0.10, 0.18))
            }
            // Small craters are far more frequent than large ones.
            Kind::Crater => (4.0 * between(0.002, 1.0).powf(-0.55).min(25.0), between(0.15, 0.4), 0.0),
            Kind::Dunes => (between(60.0, 220.0), between(0.06, 0.18), between(7.0, 16.0)),
            Kind::Streak => (between(20.0, 90.0), -between(0.08, 0.22), between(2.0, 6.0)),
        };
        Self { kind, row, col, radius, angle, strength, detail, rays }
    }

    /// The box outside which it changes nothing, clipped to the scene.
    pub fn rect(&self, rows: u64, cols: u64) -> PixelRect {
        let reach = if self.kind == Kind::Crater { CRATER_REACH * self.radius } else { self.radius } + 1.0;
        let clip = |value: f64, end: u64| value.clamp(0.0, end as f64) as u64;
        PixelRect {
            row0: clip(self.row - reach, rows),
            col0: clip(self.col - reach, cols),
            row1: clip((self.row + reach).ceil() + 1.0, rows),
            col1: clip((self.col + reach).ceil() + 1.0, cols),
        }
    }

    /// Changes a row's `light` within `rect`, and marks an impact in `mask`.
    pub fn shade(&self, row: u64, rect: &PixelRect, light: &mut [f32], mask: &mut [u8]) {
        for col in rect.col0..rect.col1 {
            let factor = self.factor(row as f64, col as f64);
            light[col as usize] *= factor as f32;
            if self.kind == Kind::Impact && self.is_impact(row as f64, col as f64) {
                mask[col as usize] = 255;
            }
        }
    }

    /// Whether the pixel belongs to a fresh impact's visible blast zone or pit.
    pub fn is_impact(&self, row: f64, col: f64) -> bool {
        let (dr, dc) = (row - self.row, col - self.col);
        self.blast(dr, dc) > MASKED
    }

    /// What the ground's brightness is multiplied by.
    fn factor(&self, row: f64, col: f64) -> f64 {
        let (dr, dc) = (row - self.row, col - self.col);
        let r = dr.hypot(dc);
        match self.kind {
            Kind::Impact => {
                let pit = (self.detail * self.radius).max(1.5);
                1.0 + self.strength * self.blast(dr, dc) + 0.5 * bowl(dr, dc, pit)
            }
            Kind::Crater => 1.0 + self.strength * bowl(dr, dc, self.radius),
            Kind::Dunes => {
                let along = dr * self.angle.sin() + dc * self.angle.cos();
                let across = dr * self.angle.cos() - dc * self.angle.sin();
                let phase = TAU * (along / self.detail + 0.35 * (across / (3.0 * self.detail)).sin());
                1.0 + self.strength * phase.sin() * fade(r / self.radius, 0.5)
            }
            Kind::Streak => {
                let along = (dr * self.angle.sin() + dc * self.angle.cos()) / self.radius;
                let across = dr * self.angle.cos() - dc * self.angle.sin();
                // Narrow at its upper end, wide at the lower one.
                let width = self.detail * (0.4 + 0.6 * (along + 1.0) / 2.0);
                1.0 + self.strength * fade(along.abs(), 0.8) * fade(across.abs() / (width + 1.0), 0.5)
            }
        }
    }

    /// How much of the blast zone's contrast is left at an offset from the centre, 0..=1.
    fn blast(&self, dr: f64, dc: f64) -> f64 {
        let r = dr.hypot(dc);
        if r >= self.radius {
            return 0.0;
        }
        let turn = ((dr.atan2(dc) - self.angle) / TAU).rem_euclid(1.0) * self.rays.len() as f64;
        let (ray, between) = (turn as usize % self.rays.len(), turn.fract());
        // Long on the rays, short between them.
        let edge = |k: usize| self.rays[k % self.rays.len()];
        let reach = edge(ray) + (edge(ray + 1) - edge(ray)) * between;
        let notch = 0.88 + 0.12 * (TAU * between).cos();
        fade(r / (self.radius * reach * notch), 0.45)
    }
}

/// 1 up to `from`, then smoothly down to 0 at 1.
fn fade(t: f64, from: f64) -> f64 {
    let t = ((t - from) / (1.0 - from)).clamp(0.0, 1.0);
    1.0 - t * t * (3.0 - 2.0 * t)
}

/// Light on a bowl of `radius`: the wall that faces the sun is bright, the other dark, and the rim outside
/// the other way round, fainter.
fn bowl(dr: f64, dc: f64, radius: f64) -> f64 {
    let r = dr.hypot(dc);
    let t = r / radius;
    if r == 0.0 || t >= CRATER_REACH {
        return 0.0;
    }
    // A wall's slope faces the centre, so what lies away from the sun faces it.
    let facing = -(dr * SUN.0 + dc * SUN.1) / r;
    if t < 1.0 {
        facing * (PI * t * 0.92).sin()
    } else {
        -0.4 * facing * (PI * (t - 1.0) / (CRATER_REACH - 1.0)).sin()
    }
}
