//! One row of a 3x3 convolution and what follows it, in the widest vectors the processor has.
//!
//! Sums of a few neighbouring pixels by [`BLOCK`] output channels stay in registers while 16 input channels
//! of all nine places are added; then they rest in `scratch` until the next 16. The 18 KiB of weights that
//! such a step needs stay in the first cache over a whole row.

use pulp::{Arch, Simd, WithSimd};

/// Channels of a pixel that lie together.
pub const BLOCK: usize = 32;
/// Input channels that are added before the sums leave the registers.
pub const GROUP: usize = 16;
/// Weights of one group: `[3, 3, GROUP, BLOCK]`.
pub const GROUP_WEIGHTS: usize = 9 * GROUP * BLOCK;
/// Pixels past a row's end that a tile may read or write.
pub const SLACK_PX: usize = 14;

/// A pixel's block of channels.
pub type Lanes = [f32; BLOCK];

/// [`GROUP`] input channels of the three rows around the output row, each with a pixel of border.
#[derive(Clone, Copy)]
pub struct GroupRows<'a> {
    /// Above, at and below the output row.
    pub rows: [&'a [Lanes]; 3],
    /// First of the group in each block: 0 or [`GROUP`].
    pub first_lane: usize,
    /// How many there are, at most [`GROUP`].
    pub lanes: usize,
}

/// A row of one output block: `elu(bias + sum of weights * input)`.
pub struct ConvRow<'a, I> {
    /// The input's groups.
    pub groups: I,
    /// [`GROUP_WEIGHTS`] a group.
    pub weights: &'a [f32],
    /// Of the output block.
    pub bias: &'a Lanes,
    /// Room for the row and [`SLACK_PX`].
    pub scratch: &'a mut [Lanes],
    /// The row, without border.
    pub out: &'a mut [Lanes],
}

/// The vectors that [`ConvRow::run`] takes on this processor.
pub fn instructions() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if pulp::x86::V4::is_available() {
            return "AVX-512";
        }
        if pulp::x86::V3::is_available() {
            return "AVX2";
        }
    }
    "without vectors"
}

impl<'a, I: Iterator<Item = GroupRows<'a>>> ConvRow<'a, I> {
    /// Computes the row.
    pub fn run(self) {
        #[cfg(target_arch = "x86_64")]
        {
            if let Some(simd) = pulp::x86::V4::try_new() {
                return Simd::vectorize(simd, self);
            }
            if let Some(simd) = pulp::x86::V3::try_new() {
                return Simd::vectorize(simd, self);
            }
        }
        Arch::new().dispatch(self);
    }
}

impl<'a, I: Iterator<Item = GroupRows<'a>>> WithSimd for ConvRow<'a, I> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // As many pixels as there are registers for their sums, beside the weights and the input.
        match S::F32_LANES {
            16 => row::<S, _, 14, 2>(simd, self),
            8 => row::<S, _, 3, 4>(simd, self),
            4 => row::<S, _, 1, 8>(simd, self),
            2 => row::<S, _, 1, 16>(simd, self),
            _ => row::<S, _, 1, 32>(simd, self),
        }
    }
}

/// `PX` pixels at a time, a block being `VECTORS` vectors.
#[inline(always)]
fn row<'a, S: Simd, I: Iterator<Item = GroupRows<'a>>, const PX: usize, const VECTORS: usize>(
    simd: S,
    conv: ConvRow<'a, I>,
) {
    let ConvRow { groups, weights, bias, scratch, out } = conv;
    scratch.fill(*bias);
    let tiles = out.len().div_ceil(PX);
    for (group, weights) in groups.zip(weights.chunks_exact(GROUP_WEIGHTS)) {
        let weights = S::as_simd_f32s(weights).0;
        let (first, lanes) = (group.first_lane.min(GROUP), group.lanes.min(GROUP));
        for (tile, resting) in scratch.chunks_exact_mut(PX).take(tiles).enumerate() {
            let resting = S::as_mut_simd_f32s(resting.as_flattened_mut()).0;
            let mut sums = [[simd.splat_f32s(0.0); VECTORS]; PX];
            for p in 0..PX {
                for j in 0..VECTORS {
                    sums[p][j] = resting[p * VECTORS + j];
                }
            }
            for (place, weights) in weights.chunks_exact(GROUP * VECTORS).enumerate() {
                let from = tile * PX + place % 3;
                let pixels = &group.rows[place / 3][from..from + PX];
                for (lane, weights) in weights.chunks_exact(VECTORS).take(lanes).enumerate() {
                    for p in 0..PX {
                        let value = simd.splat_f32s(pixels[p][first + lane]);
                        for j in 0..VECTORS {
                            sums[p][j] = simd.mul_add_e_f32s(value, weights[j], sums[p][j]);
                        }
                    }
                }
            }
            for p in 0..PX {
                for j in 0..VECTORS {
                    resting[p * VECTORS + j] = sums[p][j];
                }
            }
        }
    }
    let sums = S::as_simd_f32s(scratch[..out.len()].as_flattened()).0;
    for (out, &sum) in S::as_mut_simd_f32s(out.as_flattened_mut()).0.iter_mut().zip(sums) {
        *out = elu(simd, sum);
    }
}

/// `max(x, 0) + exp(min(x, 0)) - 1`, to 2e-7.
#[inline(always)]
fn elu<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    /// Adding it rounds to an integer, whose low bits are then the number's own.
    const ROUND: f32 = 12_582_912.0;
    /// ln 2 in two parts, the first with few bits, so that its product is exact.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    const TAYLOR: [f32; 6] = [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];
    let splat = |v: f32| simd.splat_f32s(v);
    let low = simd.max_f32s(simd.min_f32s(x, splat(0.0)), splat(-87.0));
    let shifted = simd.mul_add_e_f32s(low, splat(std::f32::consts::LOG2_E), splat(ROUND));
    let whole = simd.sub_f32s(shifted, splat(ROUND));
    let rest = simd.mul_add_e_f32s(whole, splat(-LN_2[0]), low);
    let rest = simd.mul_add_e_f32s(whole, splat(-LN_2[1]), rest);
    let mut power = splat(1.0 / 720.0);
    for term in TAYLOR {
        power = simd.mul_add_e_f32s(power, rest, splat(term));
    }
    let exponent = simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(shifted), simd.splat_u32s(23));
    let exp = simd.transmute_f32s_u32s(simd.add_u32s(simd.transmute_u32s_f32s(power), exponent));
    simd.add_f32s(simd.max_f32s(x, splat(0.0)), simd.sub_f32s(exp, splat(1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;

    const COLS: usize = 45;

    /// Two groups of a row, the second of 3 channels only, through the vectors that `with` takes.
    fn through(with: impl FnOnce(ConvRow<'_, std::array::IntoIter<GroupRows<'_>, 2>>)) -> Vec<Lanes> {
        let mut dice = Dice::new(9, &[]);
        let mut draw = |count| -> Vec<f32> { (0..count).map(|_| dice.unit() as f32 * 2.0 - 1.0).collect() };
        let (weights, pixels) = (draw(2 * GROUP_WEIGHTS), draw(3 * (COLS + 2 + SLACK_PX) * BLOCK));
        let pixels: &[Lanes] = pixels.as_chunks().0;
        let lines = [0, 1, 2].map(|row| &pixels[row * (COLS + 2 + SLACK_PX)..][..COLS + 2 + SLACK_PX]);
        let groups =
            [(0, GROUP), (GROUP, 3)].map(|(first_lane, lanes)| GroupRows { rows: lines, first_lane, lanes });
        let bias = std::array::from_fn(|lane| lane as f32 * 0.1 - 2.0);
        let mut out = vec![[0.0; BLOCK]; COLS];
        let scratch = &mut vec![[0.0; BLOCK]; COLS + SLACK_PX];
        with(ConvRow { groups: groups.into_iter(), weights: &weights, bias: &bias, scratch, out: &mut out });
        out
    }

    /// The definition, in f64.
    fn plainly(conv: ConvRow<'_, std::array::IntoIter<GroupRows<'_>, 2>>) {
        let groups: Vec<_> = conv.groups.collect();
        for (col, out) in conv.out.iter_mut().enumerate() {
            for (output, out) in out.iter_mut().enumerate() {
                let mut sum = f64::from(conv.bias[output]);
                for (g, group) in groups.iter().enumerate() {
                    for place in 0..9 {
                        for lane in 0..group.lanes {
                            let weight = conv.weights[((g * 9 + place) * GROUP + lane) * BLOCK + output];
                            let input = group.rows[place / 3][col + place % 3][group.first_lane + lane];
                            sum += f64::from(weight) * f64::from(input);
                        }
                    }
                }
                *out = if sum > 0.0 { sum } else { sum.exp_m1() } as f32;
            }
        }
    }

    #[test]
    fn every_kind_of_vector_gives_the_definitions_sums() {
        let wanted = through(plainly);
        let close = |name: &str, answer: &[Lanes]| {
            let pairs = answer.as_flattened().iter().zip(wanted.as_flattened());
            let off = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            println!("{name}: largest difference {off:.1e}");
            assert!(off < 2e-5, "{name}: {off}");
        };
        close("scalar", &through(|conv| Simd::vectorize(pulp::Scalar, conv)));
        #[cfg(target_arch = "x86_64")]
        {
            match pulp::x86::V3::try_new() {
                Some(simd) => close("AVX2", &through(|conv| Simd::vectorize(simd, conv))),
                None => println!("not run: no AVX2 here"),
            }
            match pulp::x86::V4::try_new() {
                Some(simd) => close("AVX-512", &through(|conv| Simd::vectorize(simd, conv))),
                None => println!("not run: no AVX-512 here"),
            }
        }
    }
}
