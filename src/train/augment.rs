//! A crop seen another way: turned, mirrored, brightened or darkened.

use crate::dice::Dice;

/// Turns and mirrors both planes of a crop, `[side, side]` each, one of eight ways, and brightens or darkens
/// the ground by up to a fifth; no data stays no data.
pub fn augment(dice: &mut Dice, side: usize, pixels: &mut [u8], mask: &mut [u8]) {
    let turn = dice.below(8);
    let gain = 0.8 + 0.4 * dice.unit();
    turn_square(pixels, side, turn);
    turn_square(mask, side, turn);
    let brightened: [u8; 256] =
        std::array::from_fn(|v| if v == 0 { 0 } else { (v as f64 * gain).round().clamp(1.0, 255.0) as u8 });
    for v in pixels {
        *v = brightened[usize::from(*v)];
    }
}

/// Turns a square by `turn` % 4 quarters and mirrors it when `turn` >= 4, in place.
fn turn_square(square: &mut [u8], side: usize, turn: u64) {
    if turn == 0 {
        return;
    }
    let place = |row: usize, col: usize| {
        let (mut r, mut c) = (row, col);
        for _ in 0..turn % 4 {
            (r, c) = (c, side - 1 - r);
        }
        if turn >= 4 {
            c = side - 1 - c;
        }
        (r * side + c) as isize
    };
    // The way is straight: three corners say where every pixel goes.
    let start = place(0, 0);
    let (down, right) = (place(1, 0) - start, place(0, 1) - start);
    let old = square.to_vec();
    for (row, line) in old.chunks_exact(side).enumerate() {
        let mut to = start + row as isize * down;
        for &v in line {
            square[to as usize] = v;
            to += right;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_eight_turns_of_a_square_differ_and_keep_every_pixel() {
        let all: std::collections::BTreeSet<Vec<u8>> = (0..8)
            .map(|turn| {
                let mut square = vec![1, 2, 3, 4, 5, 6, 7, 8, 9];
                turn_square(&mut square, 3, turn);
                let mut sorted = square.clone();
                sorted.sort_unstable();
                assert_eq!(sorted, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
                // Neighbours stay neighbours: the middle is the middle.
                assert_eq!(square[4], 5);
                square
            })
            .collect();
        assert_eq!(all.len(), 8);
    }

    #[test]
    fn ground_is_brightened_and_no_data_is_not() {
        let mut dice = Dice::new(3, &[]);
        let (mut pixels, mut mask) = (vec![0, 1, 100, 255], vec![0, 255, 127, 0]);
        augment(&mut dice, 2, &mut pixels, &mut mask);
        pixels.sort_unstable();
        assert!(pixels[0] == 0 && pixels[1] > 0, "{pixels:?}");
        mask.sort_unstable();
        assert_eq!(mask, [0, 0, 127, 255]);
    }
}
