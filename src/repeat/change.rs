//! How much a place differs between two pictures of it.
//!
//! The other picture is moved by the shift, of at most [`MOST_SHIFT_PX`], at which the two are most alike (normalised
//! cross-correlation, then the vertex of a parabola), and brought to the median and the median deviation of the first
//! in a ring around the place. With `d` the difference of the two, and `a` and `b` how far each is from the ring's
//! median,
//!
//! ```text
//! change_score = (mean d² in the circle - noise²) / (mean a² + mean b² in the circle),   clipped to 0..=1
//! noise        = 1.4826 times the median of |d - median d| in the ring
//! ```
//!
//! so 0 where the place differs no more than its surroundings do, and 1 where what one picture shows is missing in
//! the other.

use super::ground::bilinear;
use super::shift::shift;

/// How far the other picture may lie off, pixels of the square.
pub const MOST_SHIFT_PX: usize = 6;

/// The circle and the ring around it, in pixels of a square, about its middle.
#[derive(Clone, Copy, Debug)]
pub struct Rings {
    /// Of the circle.
    pub radius: f64,
}

impl Rings {
    /// Where the ring begins.
    fn inner(self) -> f64 {
        1.25 * self.radius + 2.0
    }

    /// Where it ends.
    fn outer(self) -> f64 {
        2.5 * self.radius + 10.0
    }

    /// Pixels on the side of the square that holds the ring: odd.
    pub fn side_px(self) -> usize {
        2 * self.outer().ceil() as usize + 1
    }
}

/// Pixels of the circle that must be ground in both pictures, a share.
const LEAST_CIRCLE: f64 = 0.9;
/// Pixels of the ring, likewise.
const LEAST_RING: f64 = 0.25;
/// From the median deviation to the standard deviation of a normal distribution.
const NORMAL: f64 = 1.4826;

/// The change between `a`, the square of `rings`, and `b`, which is wider by [`MOST_SHIFT_PX`] on each side; both 0
/// where there is no data. `None` where there is too little ground to say.
pub fn change_score(a: &[f32], b: &[f32], rings: Rings) -> Option<f64> {
    let side = rings.side_px();
    let (down, right) = shift(a, b, side, rings.outer())?;
    let wide = side + 2 * MOST_SHIFT_PX;
    let middle = (side / 2) as f64;
    let (mut circle, mut ring) = (Pairs::default(), Pairs::default());
    for (k, &a) in a.iter().enumerate() {
        let (row, col) = ((k / side) as f64, (k % side) as f64);
        let off = (row - middle).hypot(col - middle);
        let pairs = if off <= rings.radius {
            &mut circle
        } else if (rings.inner()..=rings.outer()).contains(&off) {
            &mut ring
        } else {
            continue;
        };
        pairs.all += 1;
        let b = bilinear(b, wide, row + down, col + right);
        if a > 0.0 && b > 0.0 {
            pairs.levels.push((f64::from(a), f64::from(b)));
        }
    }
    (circle.share() >= LEAST_CIRCLE && ring.share() >= LEAST_RING).then(|| excess(&circle, &ring))
}

/// What both pictures show of the pixels of a circle or ring.
#[derive(Default)]
struct Pairs {
    all: usize,
    levels: Vec<(f64, f64)>,
}

impl Pairs {
    fn share(&self) -> f64 {
        self.levels.len() as f64 / self.all.max(1) as f64
    }
}

/// The formula at the head of this file.
fn excess(circle: &Pairs, ring: &Pairs) -> f64 {
    let (level_a, spread_a) = centre(ring.levels.iter().map(|pair| pair.0));
    let (level_b, spread_b) = centre(ring.levels.iter().map(|pair| pair.1));
    let gain = if spread_a > 0.0 && spread_b > 0.0 { spread_a / spread_b } else { 1.0 };
    let matched = |&(a, b): &(f64, f64)| (a - level_a, (b - level_b) * gain);
    let (_, spread) = centre(ring.levels.iter().map(matched).map(|(a, b)| a - b));
    let (mut difference, mut contrast) = (0.0, 0.0);
    for (a, b) in circle.levels.iter().map(matched) {
        difference += (a - b).powi(2);
        contrast += a * a + b * b;
    }
    let noise = (NORMAL * spread).powi(2) * circle.levels.len() as f64;
    if contrast > 0.0 { ((difference - noise) / contrast).clamp(0.0, 1.0) } else { 0.0 }
}

/// The median, and the median distance from it.
fn centre(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let median = |values: &mut [f64]| {
        let middle = values.len() / 2;
        *values.select_nth_unstable_by(middle, f64::total_cmp).1
    };
    let mut values: Vec<f64> = values.collect();
    let level = median(&mut values);
    for v in &mut values {
        *v = (*v - level).abs();
    }
    (level, median(&mut values))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;

    const RINGS: Rings = Rings { radius: 12.0 };

    /// Rough ground with an old crater in the middle, whose picture lies `off` down and right, under its own light.
    fn picture(side: usize, off: (f64, f64), light: (f64, f64), crater: bool, seed: u64) -> Vec<f32> {
        let mut dice = Dice::new(seed, &[]);
        let middle = (side / 2) as f64;
        let level = |k: usize| {
            let (y, x) = ((k / side) as f64 - middle - off.0, (k % side) as f64 - middle - off.1);
            let wall = (-(y.hypot(x) - 8.0).powi(2) / 4.0).exp() * y.atan2(x).cos();
            let ground = 8.0 * (y / 3.0).sin() * (x / 4.0).cos();
            let crater = if crater { 60.0 * wall } else { 0.0 };
            (light.0 * (110.0 + ground + crater) + light.1 + 3.0 * (dice.unit() - 0.5)) as f32
        };
        (0..side * side).map(level).collect()
    }

    fn score(off: (f64, f64), light: (f64, f64), crater: bool) -> Option<f64> {
        let side = RINGS.side_px();
        let a = picture(side, (0.0, 0.0), (1.0, 0.0), true, 1);
        change_score(&a, &picture(side + 2 * MOST_SHIFT_PX, off, light, crater, 2), RINGS)
    }

    #[test]
    fn a_picture_that_lies_a_little_off_under_another_light_is_no_change() {
        for off in [(0.0, 0.0), (0.5, 0.5), (-2.4, 3.3), (4.9, -4.6)] {
            for light in [(1.0, 0.0), (0.6, 50.0), (1.4, -40.0)] {
                let (same, gone) = (score(off, light, true).unwrap(), score(off, light, false).unwrap());
                assert!(same < 0.03 && gone > 0.85, "{off:?} {light:?}: {same}, without the crater {gone}");
            }
        }
    }

    #[test]
    fn without_ground_there_is_no_answer() {
        let side = RINGS.side_px();
        let a = picture(side, (0.0, 0.0), (1.0, 0.0), true, 1);
        let mut b = picture(side + 2 * MOST_SHIFT_PX, (0.0, 0.0), (1.0, 0.0), true, 2);
        let wide = side + 2 * MOST_SHIFT_PX;
        b[..wide * (wide / 2)].fill(0.0);
        assert_eq!(change_score(&a, &b, RINGS), None);
        b.fill(0.0);
        assert_eq!(change_score(&a, &b, RINGS), None);
    }
}
