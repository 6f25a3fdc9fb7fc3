//! A picture whole and through windows of several sizes: the same probabilities to 1e-5.

use marscan::config::{load, shipped_weights};
use marscan::detect::{Segmenter, WindowBatch};
use marscan::dice::Dice;
use marscan::tile::{TileGrid, halo_px};
use marscan::unet::layout::statistics;
use marscan::unet::{BurnNetwork, DirectSegmenter, Weights};

use crate::golden::drawn;

const SIDE: usize = 192;

fn picture() -> Vec<u8> {
    let mut dice = Dice::new(5, &[]);
    (0..SIDE * SIDE).map(|k| if k % SIDE < 20 { 0 } else { 60 + dice.below(120) as u8 }).collect()
}

/// The probabilities of the picture through windows of `window_px`, outside of it no data.
fn through_windows(
    network: &mut dyn FnMut(usize, &[u8]) -> Vec<f32>,
    window_px: u32,
    halo: u32,
    picture: &[u8],
) -> Vec<f32> {
    let grid = TileGrid { window_px, halo_px: halo };
    let window = window_px as usize;
    let mut all = vec![0.0; SIDE * SIDE];
    for core in grid.cores(0, SIDE as u64, SIDE as u64) {
        let mut pixels = vec![0; window * window];
        for (k, v) in pixels.iter_mut().enumerate() {
            let row = core.row0 as i64 - i64::from(halo) + (k / window) as i64;
            let col = core.col0 as i64 - i64::from(halo) + (k % window) as i64;
            if (0..SIDE as i64).contains(&row) && (0..SIDE as i64).contains(&col) {
                *v = picture[row as usize * SIDE + col as usize];
            }
        }
        let answer = network(window, &pixels);
        for row in core.row0..core.row1 {
            for col in core.col0..core.col1 {
                let at = (row - core.row0 + u64::from(halo)) as usize * window
                    + (col - core.col0 + u64::from(halo)) as usize;
                all[row as usize * SIDE + col as usize] = answer[at];
            }
        }
    }
    all
}

fn worst(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn windows_of_any_size_give_the_probabilities_of_the_whole() {
    let widths = load("unet1").unwrap().network.widths;
    let weights = Weights::parse(&widths, shipped_weights("unet1").unwrap()).unwrap();
    let burn = BurnNetwork::new(&weights);
    let direct = DirectSegmenter::new(&weights);
    let mut burn = |side, pixels: &[u8]| burn.probabilities(side, pixels).unwrap();
    let mut direct = |side, pixels: &[u8]| direct.probabilities(side, pixels).unwrap();
    let (picture, halo) = (picture(), halo_px(&widths));
    let whole = through_windows(&mut burn, SIDE as u32 + 2 * halo, halo, &picture);
    for window_px in [64, 100, 128, 176] {
        for (name, network) in
            [("burn", &mut burn as &mut dyn FnMut(usize, &[u8]) -> _), ("direct", &mut direct)]
        {
            let off = worst(&whole, &through_windows(network, window_px, halo, &picture));
            println!("{name}, windows of {window_px} px: largest difference {off:.1e}");
            assert!(off < 1e-5, "{name}, windows of {window_px} px: {off}");
        }
    }
    // The test can fail: with too small a halo the seams show.
    let off = worst(&whole, &through_windows(&mut burn, 64, halo - 16, &picture));
    assert!(off > 1e-3, "a halo of {} px would do: {off}", halo - 16);
}

#[test]
fn a_window_is_right_within_its_halo_for_any_number_of_levels() {
    for widths in [&[1, 2][..], &[5, 33], &[3, 5, 40], &[3, 5, 7, 9], &[3, 5, 7, 9, 11]] {
        let still = statistics(widths)
            .into_iter()
            .flat_map(|(name, shape)| vec![if name.ends_with("running_var") { 1.0 } else { 0.0 }; shape[0]]);
        let weights = Weights::from_flat(widths, &drawn(widths), &still.collect::<Vec<f32>>());
        let halo = halo_px(widths) as usize;
        let side = 2 * halo + 64;
        let mut dice = Dice::new(7, &[]);
        let mut batch = WindowBatch::new(1, side);
        batch.pixels.fill_with(|| 1 + dice.below(255) as u8);
        batch.count = 1;
        let burn = BurnNetwork::new(&weights);
        let whole = burn.probabilities(side, &batch.pixels).unwrap();
        let mut answer = vec![0; side * side];
        DirectSegmenter::new(&weights).segment(&batch, &mut answer).unwrap();
        let core = halo..side - halo;
        for at in core.clone().flat_map(|row| core.clone().map(move |col| row * side + col)) {
            let off = (f32::from(answer[at]) - 255.0 * whole[at]).abs();
            assert!(off < 0.51, "{widths:?}, pixel {at}: {} and {}", answer[at], 255.0 * whole[at]);
        }
        let spread =
            whole.iter().fold(0.0f32, |m, v| m.max(*v)) - whole.iter().fold(1.0f32, |m, v| m.min(*v));
        assert!(spread > 0.04, "{widths:?}: a network that tells nothing, spread {spread}");
    }
}
