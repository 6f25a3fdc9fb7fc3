//! From stored samples to network input: one rule for every way a scene is stored.

use super::header::SceneHeader;
use crate::config::InputSettings;

/// What each stored value becomes.
#[derive(Debug)]
pub struct ToInput {
    /// By stored value; empty where 8-bit samples are taken as they are.
    table: Vec<u8>,
    bits: u8,
    /// Whether stored 16-bit samples are in the other byte order than this machine's.
    swapped: bool,
}

impl ToInput {
    /// The rule for a scene: its no-data value and everything outside the valid range is 0, white is
    /// not 0, and the valid range of 16-bit samples spreads over 1..=255.
    pub fn new(header: &SceneHeader, input: InputSettings) -> Self {
        let is_nodata = |v: u32| header.nodata == Some(f64::from(v));
        let table: Vec<u8> = if header.bits == 8 {
            let rule = |v: u8| match v {
                v if is_nodata(u32::from(v)) => 0,
                v if header.white_is_zero => !v,
                v => v,
            };
            (0..=u8::MAX).map(rule).collect()
        } else {
            let rule = |v: u16| if is_nodata(u32::from(v)) { 0 } else { spread(v, input) };
            (0..=u16::MAX).map(rule).collect()
        };
        let identity = header.bits == 8 && table.iter().enumerate().all(|(k, &v)| k == usize::from(v));
        // Samples that were unpacked are in this machine's order already.
        let stored = header.compression == super::Compression::None;
        let swapped = stored && header.big_endian != cfg!(target_endian = "big");
        Self { table: if identity { Vec::new() } else { table }, bits: header.bits, swapped }
    }

    /// Whether stored bytes are network input as they are.
    pub fn is_identity(&self) -> bool {
        self.table.is_empty()
    }

    /// Converts the first samples of `stored` into `out`.
    pub fn convert(&self, stored: &[u8], out: &mut [u8]) {
        if self.is_identity() {
            out.copy_from_slice(&stored[..out.len()]);
        } else if self.bits == 8 {
            for (out, &v) in out.iter_mut().zip(stored) {
                *out = self.table[usize::from(v)];
            }
        } else {
            for (out, pair) in out.iter_mut().zip(stored.chunks_exact(2)) {
                let v = u16::from_ne_bytes([pair[0], pair[1]]);
                *out = self.table[usize::from(if self.swapped { v.swap_bytes() } else { v })];
            }
        }
    }
}

/// `valid_min..=valid_max` on 1..=255, rounded half up; anything else is no data.
fn spread(v: u16, input: InputSettings) -> u8 {
    if !(input.valid_min..=input.valid_max).contains(&v) {
        return 0;
    }
    let span = u32::from(input.valid_max - input.valid_min).max(1);
    let above = u32::from(v - input.valid_min);
    (1 + (above * 254 * 2 + span) / (2 * span)) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_bits_spread_over_the_bytes_and_special_values_are_no_data() {
        let input = InputSettings { valid_min: 3, valid_max: 1021 };
        assert_eq!([0, 1, 2, 1022, 1023, 65535].map(|v| spread(v, input)), [0; 6]);
        assert_eq!([3, 512, 1021].map(|v| spread(v, input)), [1, 128, 255]);
    }
}
