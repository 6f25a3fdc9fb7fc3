//! The slopes of a convolution's weights: a row of its input against a row of its output's slopes.

// What is not inlined into the function made for certain vectors is compiled without them.
#![allow(clippy::inline_always)]

use pulp::{Simd, WithSimd};

use crate::unet::direct::kernel::{BLOCK, Lanes, fastest};

/// Input channels whose sums stay in registers together.
const TILE: usize = 8;

/// One place of a kernel over a row: how input and output pixels pair.
#[derive(Clone, Copy)]
pub struct Pairing<'a> {
    /// Input pixels, one after the other.
    pub input: &'a [Lanes],
    /// The first output pixel.
    pub first: usize,
    /// Output pixels from one to the next.
    pub step: usize,
}

/// Adds to `sums`, `[input lane][output lane]`, the products of paired pixels over a row.
pub fn add_products(pairing: Pairing<'_>, output: &[Lanes], lanes: usize, sums: &mut [Lanes]) {
    fastest(Products { pairing, output, lanes, sums });
}

struct Products<'a> {
    pairing: Pairing<'a>,
    output: &'a [Lanes],
    lanes: usize,
    sums: &'a mut [Lanes],
}

impl WithSimd for Products<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match S::F32_LANES {
            16 => products::<S, TILE, 2>(simd, self),
            8 => products::<S, 2, 4>(simd, self),
            4 => products::<S, 2, 8>(simd, self),
            2 => products::<S, 2, 16>(simd, self),
            _ => products::<S, 2, 32>(simd, self),
        }
    }
}

/// `LANES` input channels at a time, a block being `VECTORS` vectors.
#[inline(always)]
fn products<S: Simd, const LANES: usize, const VECTORS: usize>(simd: S, row: Products<'_>) {
    let Products { pairing: Pairing { input, first, step }, output, lanes, sums } = row;
    for (tile, resting) in sums.chunks_exact_mut(LANES).take(lanes.div_ceil(LANES)).enumerate() {
        let resting = S::as_mut_simd_f32s(resting.as_flattened_mut()).0;
        let mut registers = [[simd.splat_f32s(0.0); VECTORS]; LANES];
        for (input, output) in input.iter().zip(output[first..].iter().step_by(step)) {
            let slopes = S::as_simd_f32s(output).0;
            let input = &input.as_chunks::<LANES>().0[tile.min(BLOCK / LANES - 1)];
            for i in 0..LANES {
                let value = simd.splat_f32s(input[i]);
                for j in 0..VECTORS {
                    registers[i][j] = simd.mul_add_e_f32s(value, slopes[j], registers[i][j]);
                }
            }
        }
        for i in 0..LANES {
            for j in 0..VECTORS {
                let sum = &mut resting[i * VECTORS + j];
                *sum = simd.add_f32s(*sum, registers[i][j]);
            }
        }
    }
}
