//! Plains: value noise of several wavelengths, and the grain of the detector.

use crate::dice::Dice;

/// Wavelength, px, and strength, grey levels, of each octave.
const OCTAVES: [(u64, f32); 5] = [(1400, 14.0), (320, 11.0), (80, 8.0), (22, 9.0), (6, 9.0)];
/// Mean grey level.
const MEAN: f32 = 105.0;
/// Half the width of the detector's noise, grey levels.
const GRAIN: f32 = 9.0;

/// The ground of one scene.
#[derive(Clone, Copy, Debug)]
pub struct Terrain {
    seed: u64,
}

impl Terrain {
    /// Another seed, another ground.
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// Fills `light` with a row's grey levels before anything stands on the ground.
    pub fn light(self, row: u64, light: &mut [f32]) {
        light.fill(MEAN);
        for (octave, (wave, strength)) in OCTAVES.into_iter().enumerate() {
            let (above, down) = (row / wave, smooth((row % wave) as f32 / wave as f32));
            let lattice = |line: u64, column: u64| {
                let mut dice = Dice::new(self.seed, &[octave as u64 + 20, line, column]);
                2.0 * dice.unit() as f32 - 1.0
            };
            let node = |column: u64| {
                let (a, b) = (lattice(above, column), lattice(above + 1, column));
                (a + (b - a) * down) * strength
            };
            let mut left = node(0);
            for (column, part) in light.chunks_mut(wave as usize).enumerate() {
                let right = node(column as u64 + 1);
                for (k, light) in part.iter_mut().enumerate() {
                    *light += left + (right - left) * smooth(k as f32 / wave as f32);
                }
                left = right;
            }
        }
    }

    /// Rounds a row's `light` from column `col0` to 1..=255, with noise.
    pub fn grain(self, row: u64, col0: u64, light: &[f32], picture: &mut [u8]) {
        let line = Dice::new(self.seed, &[30, row]).any();
        for (k, (out, &light)) in picture.iter_mut().zip(light).enumerate() {
            // A multiplicative hash: cheap, and its high bits are as good as noise to the eye.
            let hash = (line ^ (col0 + k as u64)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let hash = (hash ^ (hash >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            // Two uniform numbers added: a triangle, nearer to a detector's noise than one.
            let noise = ((hash >> 48) as f32 + ((hash >> 32) & 0xFFFF) as f32) / 65_536.0 - 1.0;
            *out = (light + GRAIN * noise + 0.5).clamp(1.0, 255.0) as u8;
        }
    }
}

fn smooth(t: f32) -> f32 {
    t * t * (3.0 - 2.0 * t)
}
