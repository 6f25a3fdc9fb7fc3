//! The shift at which two pictures of a place are most alike, by normalised cross-correlation.

use super::change::MOST_SHIFT_PX;

/// Less than any correlation.
const NO_GROUND: f64 = -2.0;
/// Products added up side by side.
const LANES: usize = 8;

/// A square picture, about a middle grey so that sums of squares keep their digits; all 0 where there is no data.
struct Picture {
    /// 1 where there is ground.
    ground: Vec<f32>,
    grey: Vec<f32>,
    square: Vec<f32>,
}

impl Picture {
    fn new(levels: impl Iterator<Item = f32>) -> Self {
        let (mut ground, mut grey, mut square) = (Vec::new(), Vec::new(), Vec::new());
        for level in levels {
            let here = f32::from(u8::from(level > 0.0));
            let off = (level - 128.0) * here;
            ground.push(here);
            grey.push(off);
            square.push(off * off);
        }
        Self { ground, grey, square }
    }
}

/// How far down and right in `b` the pixel (0, 0) of `a` is, so that the two are most alike within `reach` of the
/// middle; between pixels by the vertex of a parabola. `b` is wider than `a`, of `side`, by [`MOST_SHIFT_PX`] on each
/// side. `None` where at no shift half of the ground of `a` is ground in `b`.
pub fn shift(a: &[f32], b: &[f32], side: usize, reach: f64) -> Option<(f64, f64)> {
    let middle = (side / 2) as f64;
    let seen = |k: usize| ((k / side) as f64 - middle).hypot((k % side) as f64 - middle) <= reach;
    let a = Picture::new(a.iter().enumerate().map(|(k, &level)| if seen(k) { level } else { 0.0 }));
    let b = Picture::new(b.iter().copied());
    let shifts = 2 * MOST_SHIFT_PX + 1;
    let likeness: Vec<f64> =
        (0..shifts * shifts).map(|k| likeness(&a, &b, side, k / shifts, k % shifts)).collect();
    let best = (0..likeness.len()).max_by(|&i, &j| likeness[i].total_cmp(&likeness[j]))?;
    (likeness[best] > NO_GROUND).then_some(())?;
    let (down, right) = (best / shifts, best % shifts);
    let along = |at: usize, stride: usize| {
        let inside = (1..shifts - 1).contains(&at);
        if inside { vertex([best - stride, best, best + stride].map(|k| likeness[k])) } else { 0.0 }
    };
    Some((down as f64 + along(down, shifts), right as f64 + along(right, 1)))
}

/// Where between -0.5 and 0.5 the parabola through three values, the middle one the highest, has its vertex.
fn vertex([before, here, after]: [f64; 3]) -> f64 {
    let bend = before - 2.0 * here + after;
    if before == NO_GROUND || after == NO_GROUND || bend >= 0.0 { 0.0 } else { 0.5 * (before - after) / bend }
}

/// The correlation at a shift; [`NO_GROUND`] where they have too little ground in common.
fn likeness(a: &Picture, b: &Picture, side: usize, down: usize, right: usize) -> f64 {
    let wide = side + 2 * MOST_SHIFT_PX;
    let sum = |of_a: &[f32], of_b: &[f32]| -> f64 {
        let lines = of_a.chunks_exact(side).zip(of_b.chunks_exact(wide).skip(down));
        lines.map(|(line, other)| f64::from(dot(line, &other[right..right + side]))).sum()
    };
    let all: f64 = a.ground.iter().map(|&here| f64::from(here)).sum();
    let both = sum(&a.ground, &b.ground);
    if both < 0.5 * all || both == 0.0 {
        return NO_GROUND;
    }
    let (of_a, of_b) = (sum(&a.grey, &b.ground), sum(&a.ground, &b.grey));
    let spread_a = sum(&a.square, &b.ground) - of_a * of_a / both;
    let spread_b = sum(&a.ground, &b.square) - of_b * of_b / both;
    let spread = (spread_a * spread_b).sqrt();
    if spread > 0.0 { (sum(&a.grey, &b.grey) - of_a * of_b / both) / spread } else { 0.0 }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (mut a, mut b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let mut sums = [0f32; LANES];
    for (a, b) in a.by_ref().zip(b.by_ref()) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    let rest: f32 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}
