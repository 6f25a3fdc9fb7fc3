//! One row of a 3x3 convolution and what follows it, in the widest vectors the processor has.
//!
//! Sums of a few neighbouring pixels by [`BLOCK`] output channels stay in registers while 16 input channels
//! of all places are added; then they rest in `scratch` until the next 16. The weights that such a step needs
//! stay in the first cache over a whole row.
//!
//! Where the input is a coarser picture with each pixel doubled, the three places of a row or column meet only
//! two pixels: their weights are added beforehand, and nine products become four.

// What is not inlined into the function made for certain vectors is compiled without them.
#![allow(clippy::inline_always)]

use pulp::{Arch, Simd, WithSimd};

/// Channels of a pixel that lie together.
pub const BLOCK: usize = 32;
/// Input channels that are added before the sums leave the registers.
pub const GROUP: usize = 16;
/// Weights of one place: `[GROUP, BLOCK]`.
pub const PLACE: usize = GROUP * BLOCK;
/// Pixels past a row's end that a tile may read or write.
pub const SLACK_PX: usize = 14;

/// A pixel's block of channels.
pub type Lanes = [f32; BLOCK];

/// Up to [`GROUP`] input channels around an output row, with their weights. Rows begin one pixel before the
/// output row's first.
#[derive(Clone, Copy)]
pub struct Group<'a> {
    /// The input rows.
    pub rows: Rows<'a>,
    /// First of the group in each block: 0 or [`GROUP`].
    pub first_lane: usize,
    /// How many there are.
    pub lanes: usize,
    /// [`PLACE`] a place.
    pub weights: &'a [f32],
}

/// The input of an output row.
#[derive(Clone, Copy)]
pub enum Rows<'a> {
    /// Above, at and below the output row; 3x3 places.
    Same([&'a [Lanes]; 3]),
    /// The two rows of the coarser picture that the output row meets; for even output columns 2x2 places,
    /// then for odd ones. The output row begins at an even column.
    Doubled([&'a [Lanes]; 2]),
    /// The four rows of the finer picture around the output row; 4x4 places.
    Halved([&'a [Lanes]; 4]),
}

/// What becomes of a row's sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// Their ELU.
    Elu,
    /// Nothing more.
    Sum,
}

/// A row of one output block: `bias + sum of weights * input`, or its ELU.
pub struct ConvRow<'a, I> {
    /// The input.
    pub groups: I,
    /// Of the output block.
    pub bias: &'a Lanes,
    /// Room for the row and [`SLACK_PX`].
    pub scratch: &'a mut [Lanes],
    /// The row, without border.
    pub out: &'a mut [Lanes],
    /// What becomes of the sums.
    pub finish: Finish,
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

impl<'a, I: Iterator<Item = Group<'a>>> ConvRow<'a, I> {
    /// Computes the row.
    pub fn run(self) {
        fastest(self);
    }
}

/// Runs `work` in the widest vectors.
pub fn fastest<W: WithSimd<Output = ()>>(work: W) {
    #[cfg(target_arch = "x86_64")]
    {
        if let Some(simd) = pulp::x86::V4::try_new() {
            return Simd::vectorize(simd, work);
        }
        if let Some(simd) = pulp::x86::V3::try_new() {
            return Simd::vectorize(simd, work);
        }
    }
    Arch::new().dispatch(work);
}

impl<'a, I: Iterator<Item = Group<'a>>> WithSimd for ConvRow<'a, I> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // As many pixels, an even number, as there are registers for their sums beside weights and input.
        match S::F32_LANES {
            16 => row::<S, _, 14, 2>(simd, self),
            8 => row::<S, _, 2, 4>(simd, self),
            4 => row::<S, _, 2, 8>(simd, self),
            2 => row::<S, _, 2, 16>(simd, self),
            _ => row::<S, _, 2, 32>(simd, self),
        }
    }
}

/// `PX` pixels at a time, a block being `VECTORS` vectors.
#[inline(always)]
fn row<'a, S: Simd, I: Iterator<Item = Group<'a>>, const PX: usize, const VECTORS: usize>(
    simd: S,
    conv: ConvRow<'a, I>,
) {
    let ConvRow { groups, bias, scratch, out, finish } = conv;
    scratch.fill(*bias);
    let tiles = out.len().div_ceil(PX);
    for group in groups {
        let weights = S::as_simd_f32s(group.weights).0;
        for (tile, resting) in scratch.chunks_exact_mut(PX).take(tiles).enumerate() {
            let resting = S::as_mut_simd_f32s(resting.as_flattened_mut()).0;
            let mut sums = [[simd.splat_f32s(0.0); VECTORS]; PX];
            for p in 0..PX {
                for j in 0..VECTORS {
                    sums[p][j] = resting[p * VECTORS + j];
                }
            }
            let places = weights.chunks_exact(GROUP * VECTORS).enumerate();
            match group.rows {
                Rows::Same(rows) => {
                    for (place, weights) in places {
                        let pixels = &rows[place / 3][tile * PX + place % 3..];
                        add::<S, PX, VECTORS, 0, 1, 1>(simd, &mut sums, pixels, &group, weights);
                    }
                }
                Rows::Doubled(rows) => {
                    for (place, weights) in places {
                        let odd = place / 4;
                        let pixels = &rows[place / 2 % 2][tile * PX / 2 + odd + place % 2..];
                        if odd == 0 {
                            add::<S, PX, VECTORS, 0, 2, 1>(simd, &mut sums, pixels, &group, weights);
                        } else {
                            add::<S, PX, VECTORS, 1, 2, 1>(simd, &mut sums, pixels, &group, weights);
                        }
                    }
                }
                Rows::Halved(rows) => {
                    for (place, weights) in places {
                        let pixels = &rows[place / 4][2 * tile * PX + place % 4..];
                        add::<S, PX, VECTORS, 0, 1, 2>(simd, &mut sums, pixels, &group, weights);
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
    if finish == Finish::Sum {
        out.copy_from_slice(&scratch[..out.len()]);
        return;
    }
    let sums = S::as_simd_f32s(scratch[..out.len()].as_flattened()).0;
    for (out, &sum) in S::as_mut_simd_f32s(out.as_flattened_mut()).0.iter_mut().zip(sums) {
        *out = elu(simd, sum);
    }
}

/// Adds one place of one group to every `STEP`th pixel's sums, from the pixel `FIRST` on, `READ` input pixels
/// further for each.
#[inline(always)]
fn add<
    S: Simd,
    const PX: usize,
    const VECTORS: usize,
    const FIRST: usize,
    const STEP: usize,
    const READ: usize,
>(
    simd: S,
    sums: &mut [[S::f32s; VECTORS]; PX],
    pixels: &[Lanes],
    group: &Group<'_>,
    weights: &[S::f32s],
) {
    let (first, pixels) = (group.first_lane.min(GROUP), &pixels[..(PX / STEP - 1) * READ + 1]);
    for (lane, weights) in weights.chunks_exact(VECTORS).take(group.lanes.min(GROUP)).enumerate() {
        for p in 0..PX / STEP {
            let value = simd.splat_f32s(pixels[p * READ][first + lane]);
            for j in 0..VECTORS {
                let sum = &mut sums[FIRST + STEP * p][j];
                *sum = simd.mul_add_e_f32s(value, weights[j], *sum);
            }
        }
    }
}

/// `max(x, 0) + exp(min(x, 0)) - 1`, to 2e-7.
#[inline(always)]
pub fn elu<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let one = simd.splat_f32s(1.0);
    let zero = simd.splat_f32s(0.0);
    simd.add_f32s(simd.max_f32s(x, zero), simd.sub_f32s(exp_of_negative(simd, x), one))
}

/// `exp(min(x, 0))`, to 2e-7.
#[inline(always)]
pub fn exp_of_negative<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
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
    simd.transmute_f32s_u32s(simd.add_u32s(simd.transmute_u32s_f32s(power), exponent))
}

#[cfg(test)]
#[allow(clippy::print_stdout)]
mod tests {
    use super::*;
    use crate::dice::Dice;

    const COLS: usize = 44;
    type Conv<'a> = ConvRow<'a, std::array::IntoIter<Group<'a>, 3>>;

    /// A group on rows as they are, one of 3 channels on doubled ones and one on finer ones, through the vectors
    /// of `with`.
    fn through(with: impl FnOnce(Conv<'_>)) -> Vec<Lanes> {
        let mut dice = Dice::new(9, &[]);
        let mut draw = |count| -> Vec<f32> { (0..count).map(|_| dice.unit() as f32 * 2.0 - 1.0).collect() };
        let wide = 2 * (COLS + 2 + SLACK_PX);
        let (weights, pixels) = (draw(33 * PLACE), draw(9 * wide * BLOCK));
        let pixels: &[Lanes] = pixels.as_chunks().0;
        let line = |row: usize| &pixels[row * wide..][..wide];
        let (same, doubled) = (Rows::Same([0, 1, 2].map(line)), Rows::Doubled([3, 4].map(line)));
        let halved = Rows::Halved([5, 6, 7, 8].map(line));
        let (first, rest) = weights.split_at(9 * PLACE);
        let (second, third) = rest.split_at(8 * PLACE);
        let groups = [(same, 0, GROUP, first), (doubled, GROUP, 3, second), (halved, 0, 5, third)];
        let groups =
            groups.map(|(rows, first_lane, lanes, weights)| Group { rows, first_lane, lanes, weights });
        let bias = std::array::from_fn(|lane| lane as f32 * 0.1 - 2.0);
        let mut out = vec![[0.0; BLOCK]; COLS];
        let scratch = &mut vec![[0.0; BLOCK]; COLS + SLACK_PX];
        with(ConvRow { groups: groups.into_iter(), bias: &bias, scratch, out: &mut out, finish: Finish::Elu });
        out
    }

    /// The definition, in f64.
    fn plainly(conv: Conv<'_>) {
        let groups: Vec<_> = conv.groups.collect();
        let term = |group: &Group<'_>, place: usize, pixel: &Lanes, output: usize| -> f64 {
            let weight = |lane| f64::from(group.weights[(place * GROUP + lane) * BLOCK + output]);
            (0..group.lanes).map(|lane| weight(lane) * f64::from(pixel[group.first_lane + lane])).sum()
        };
        for (col, out) in conv.out.iter_mut().enumerate() {
            for (output, out) in out.iter_mut().enumerate() {
                let mut sum = f64::from(conv.bias[output]);
                for group in &groups {
                    sum += match group.rows {
                        Rows::Same(rows) => (0..9)
                            .map(|place| term(group, place, &rows[place / 3][col + place % 3], output))
                            .sum::<f64>(),
                        Rows::Doubled(rows) => (0..4)
                            .map(|k| (k / 2, col / 2 + col % 2 + k % 2, 4 * (col % 2) + k))
                            .map(|(row, from, place)| term(group, place, &rows[row][from], output))
                            .sum(),
                        Rows::Halved(rows) => (0..16)
                            .map(|place| term(group, place, &rows[place / 4][2 * col + place % 4], output))
                            .sum(),
                    };
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
