//! The context a U-Net needs around a pixel, computed from its number of levels.

/// Widths of the levels -> the multiple a window's origin and side must be of: 2^(levels - 1).
pub fn multiple_px(widths: &[usize]) -> u32 {
    1 << widths.len().saturating_sub(1)
}

/// Pixels on each side of a window that must be thrown away so that the rest equals the answer on
/// an endless plane; rounded up to [`multiple_px`].
///
/// Follows the two 3x3 convolutions of each block (2 px on each side), the 2x2 poolings and the
/// nearest upsamplings from an output pixel back to the input, over every position in the pooling
/// grid. What is kept of a window must begin and end on that grid.
pub fn halo_px(widths: &[usize]) -> u32 {
    let levels = widths.len();
    let multiple = i64::from(multiple_px(widths));
    let reach = (0..multiple)
        .map(|pixel| {
            let (first, last) = seen_from(pixel, levels);
            (-first).max(last - (multiple - 1))
        })
        .max()
        .unwrap_or(0);
    (reach.max(0) as u32).next_multiple_of(multiple as u32)
}

/// First and last input pixel that the output at `pixel` depends on, in one dimension.
fn seen_from(pixel: i64, levels: usize) -> (i64, i64) {
    const BLOCK_PX: i64 = 2;
    let (mut first, mut last) = (pixel, pixel);
    for _ in 1..levels {
        first = (first - BLOCK_PX).div_euclid(2);
        last = (last + BLOCK_PX).div_euclid(2);
    }
    for _ in 1..levels {
        first = (first - BLOCK_PX) * 2;
        last = (last + BLOCK_PX) * 2 + 1;
    }
    (first - BLOCK_PX, last + BLOCK_PX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halo_of_the_presets_is_what_was_measured_in_pytorch() {
        assert_eq!(halo_px(&[32, 64, 128]), 24);
        assert_eq!(halo_px(&[32, 64, 128, 256, 512]), 96);
        assert_eq!(multiple_px(&[32, 64, 128, 256, 512]), 16);
    }
}
