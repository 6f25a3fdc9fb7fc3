//! Pixels whose channels are kept in bf16: the upper half of an f32.

// What is not inlined into the function made for certain vectors is compiled without them.
#![allow(clippy::inline_always)]

use std::array;

use crate::unet::direct::kernel::{BLOCK, Lanes, fastest};
use crate::unet::direct::layer::of_products;
use crate::unet::direct::stream::{Picture, Pixel, Span};

/// The upper half of an f32.
const UPPER: u32 = 0xffff_0000;

/// Pixels of the picture that the first convolution meets.
pub const PLACES: usize = 9;

/// A pixel's block of channels in bf16, two in a word, the even one in its lower half: in their order in memory.
#[derive(Clone, Copy, Default)]
#[repr(C, align(64))]
pub struct Bf16Lanes(pub [u32; BLOCK / 2]);

/// The channels of a word.
#[inline(always)]
fn both(word: u32) -> [f32; 2] {
    [word << 16, word & UPPER].map(f32::from_bits)
}

#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

impl Pixel for Bf16Lanes {
    /// The grey levels of the 3x3 pixels around are the first nine channels, and the next nine: each is a whole number
    /// of 8 bits, which bf16 holds. The first convolution becomes one of a single place, with room for weights in two parts.
    fn look(picture: &Picture<'_>, row: i64, cols: Span, line: &mut [Self]) {
        let wide = cols.start - 1..cols.end + 1;
        let lines: [Vec<u32>; 3] = array::from_fn(|down| {
            let greys = picture.greys(row - 1 + down as i64, wide.clone());
            greys.map(|grey| f32::from(grey).to_bits() >> 16).collect()
        });
        let [above, here, below] = &lines;
        for (k, to) in line.iter_mut().enumerate() {
            let (a, b, c) = (&above[k..k + 3], &here[k..k + 3], &below[k..k + 3]);
            let greys = [a[0], a[1], a[2], b[0], b[1], b[2], c[0], c[1], c[2]];
            for word in 0..PLACES {
                to.0[word] = greys[2 * word % PLACES] | greys[(2 * word + 1) % PLACES] << 16;
            }
        }
    }

    fn halve(upper: &[Self], lower: &[Self], line: &mut [Self]) {
        fastest(|| {
            let pairs = upper.as_chunks::<2>().0.iter().zip(lower.as_chunks::<2>().0);
            for (to, (upper, lower)) in line.iter_mut().zip(pairs) {
                for (word, to) in to.0.iter_mut().enumerate() {
                    let [a, b, c, d] = [&upper[0], &upper[1], &lower[0], &lower[1]].map(|p| both(p.0[word]));
                    let [even, odd] = array::from_fn(|k| larger(larger(a[k], b[k]), larger(c[k], d[k])));
                    *to = even.to_bits() >> 16 | odd.to_bits();
                }
            }
        });
    }

    fn weigh(pixels: &[Self], weights: &Lanes, sums: &mut [f32]) {
        let [even, odd]: [[f32; BLOCK / 2]; 2] =
            array::from_fn(|odd| array::from_fn(|k| weights[2 * k + odd]));
        fastest(|| {
            for (sum, pixel) in sums.iter_mut().zip(pixels) {
                let mut products = [0.0; BLOCK];
                let (of_even, of_odd) = products.split_at_mut(BLOCK / 2);
                for k in 0..BLOCK / 2 {
                    let value = both(pixel.0[k]);
                    of_even[k] = value[0] * even[k];
                    of_odd[k] = value[1] * odd[k];
                }
                *sum += of_products(products);
            }
        });
    }
}
