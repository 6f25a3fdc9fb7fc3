//! From the pixels of a row or column to the sums at its places, and from those to pixels: F(4, 3) with the points 0, 1, -1,
//! 2 and -2 (Lavin and Gray 2016).

// What is not inlined into the function made for certain vectors is compiled without them.
#![allow(clippy::inline_always)]

use pulp::Simd;

use super::{READ, SIDE};
use crate::unet::direct::kernel::Lanes;

/// A vector of a pixel.
#[inline(always)]
pub fn load<S: Simd>(pixel: &Lanes, vector: usize) -> S::f32s {
    S::as_simd_f32s(&pixel[..]).0[vector]
}

/// Of four pixels.
#[inline(always)]
pub fn load4<S: Simd>(of: &[Lanes], vector: usize) -> [S::f32s; SIDE] {
    let of = &of[..SIDE];
    [
        load::<S>(&of[0], vector),
        load::<S>(&of[1], vector),
        load::<S>(&of[2], vector),
        load::<S>(&of[3], vector),
    ]
}

/// Of six pixels, `step` apart.
#[inline(always)]
pub fn every<S: Simd>(of: &[Lanes], step: usize, vector: usize) -> [S::f32s; READ] {
    let of = &of[..=(READ - 1) * step];
    [
        load::<S>(&of[0], vector),
        load::<S>(&of[step], vector),
        load::<S>(&of[2 * step], vector),
        load::<S>(&of[3 * step], vector),
        load::<S>(&of[4 * step], vector),
        load::<S>(&of[5 * step], vector),
    ]
}

/// A column of six rows.
#[inline(always)]
pub fn column<V: Copy, const N: usize>(rows: &[[V; N]; READ], k: usize) -> [V; READ] {
    [rows[0][k], rows[1][k], rows[2][k], rows[3][k], rows[4][k], rows[5][k]]
}

/// Puts a vector into a pixel.
#[inline(always)]
pub fn store<S: Simd>(to: &mut Lanes, vector: usize, value: S::f32s) {
    S::as_mut_simd_f32s(&mut to[..]).0[vector] = value;
}

/// Six pixels of a row or column of a tile, seen from its places.
#[inline(always)]
pub fn sums<S: Simd>(s: S, d: [S::f32s; READ]) -> [S::f32s; READ] {
    let (two, four, five) = (s.splat_f32s(2.0), s.splat_f32s(4.0), s.splat_f32s(-5.0));
    let (minus_two, minus_four) = (s.splat_f32s(-2.0), s.splat_f32s(-4.0));
    let (by_two, apart) = (s.sub_f32s(d[1], d[3]), s.sub_f32s(d[4], d[2]));
    [
        s.mul_add_e_f32s(four, d[0], s.mul_add_e_f32s(five, d[2], d[4])),
        s.mul_add_e_f32s(minus_four, s.add_f32s(d[1], d[2]), s.add_f32s(d[3], d[4])),
        s.mul_add_e_f32s(four, s.sub_f32s(d[1], d[2]), s.sub_f32s(d[4], d[3])),
        s.mul_add_e_f32s(minus_two, by_two, apart),
        s.mul_add_e_f32s(two, by_two, apart),
        s.mul_add_e_f32s(four, d[1], s.mul_add_e_f32s(five, d[3], d[5])),
    ]
}

/// [`sums`] of `a, b, b, c, c, e`, without the one that vanishes.
#[inline(always)]
pub fn doubled_sums<S: Simd>(s: S, d: [S::f32s; SIDE]) -> [S::f32s; READ - 1] {
    let (two, three, four) = (s.splat_f32s(2.0), s.splat_f32s(-3.0), s.splat_f32s(4.0));
    let (five, eight) = (s.splat_f32s(-5.0), s.splat_f32s(-8.0));
    let less = s.sub_f32s(d[1], d[2]);
    [
        s.mul_add_e_f32s(four, d[0], s.mul_add_e_f32s(five, d[1], d[2])),
        s.mul_add_e_f32s(eight, d[1], s.mul_f32s(two, d[2])),
        s.mul_f32s(three, less),
        less,
        s.mul_add_e_f32s(four, d[1], s.mul_add_e_f32s(five, d[2], d[3])),
    ]
}

/// From a row or column of places to four pixels.
#[inline(always)]
pub fn pixels<S: Simd>(s: S, m: [S::f32s; READ]) -> [S::f32s; SIDE] {
    let (two, four, eight) = (s.splat_f32s(2.0), s.splat_f32s(4.0), s.splat_f32s(8.0));
    let (near, far) = (s.add_f32s(m[1], m[2]), s.add_f32s(m[3], m[4]));
    let (near_apart, far_apart) = (s.sub_f32s(m[1], m[2]), s.sub_f32s(m[3], m[4]));
    [
        s.add_f32s(m[0], s.add_f32s(near, far)),
        s.mul_add_e_f32s(two, far_apart, near_apart),
        s.mul_add_e_f32s(four, far, near),
        s.add_f32s(s.mul_add_e_f32s(eight, far_apart, near_apart), m[5]),
    ]
}
