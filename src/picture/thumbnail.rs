//! A piece of a scene, small, as a page shows it.

use anyhow::{Result, ensure};

use super::{encode, stretched};

/// `[row, col]` pixels of a scene, 0 = no data, as a grey PNG: each pixel the mean of `step` x `step` of the scene,
/// stretched between the darkest and brightest thousandth of this piece alone.
///
/// # Errors
/// If there is no pixel.
pub fn thumbnail(pixels: &[u8], cols: usize, step: usize) -> Result<Vec<u8>> {
    ensure!(step > 0 && cols >= step && pixels.len() >= cols * step, "no picture of {} px", pixels.len());
    let (rows, across) = (pixels.len() / cols / step, cols / step);
    let mut grey = Vec::with_capacity(rows * across);
    for (row, col) in (0..rows).flat_map(|row| (0..across).map(move |col| (row, col))) {
        let line = |k: usize| &pixels[(row * step + k) * cols + col * step..][..step];
        let ground = (0..step).flat_map(line).filter(|v| **v != 0);
        let (sum, count) = ground.fold((0u64, 0u64), |all, &v| (all.0 + u64::from(v), all.1 + 1));
        grey.push(sum.checked_div(count).unwrap_or(0) as u8);
    }
    let mut png = Vec::new();
    encode(rows, across, &stretched(&grey), &mut png)?;
    Ok(png)
}

/// `bytes` of a `kind` such as `image/png`, as an address that a page carries in itself.
pub fn data_uri(kind: &str, bytes: &[u8]) -> String {
    format!("data:{kind};base64,{}", base64(bytes))
}

/// `bytes` as text (base64, RFC 4648).
pub fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |k: usize| u32::from(group.get(k).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for k in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * k)) as usize & 63];
            text.push(if k > group.len() { '=' } else { char::from(digit) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_standard() {
        for (plain, coded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(data_uri("a/b", plain.as_bytes()), format!("data:a/b;base64,{coded}"));
        }
    }

    #[test]
    fn a_thumbnail_is_grey_and_reduced() {
        let pixels: Vec<u8> = (0..40 * 60).map(|k| (k % 251) as u8).collect();
        let png = thumbnail(&pixels, 60, 2).unwrap();
        let reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().unwrap();
        let info = reader.info();
        assert_eq!((info.size(), info.color_type), ((30, 20), png::ColorType::Grayscale));
        assert!(thumbnail(&pixels[..10], 60, 2).is_err());
    }
}
