//! Deflate chunks, to the last byte: the TIFF library stops where the samples are whole, before their checksum.

use std::io::Read;

use anyhow::{Context, Result, ensure};
use flate2::bufread::ZlibDecoder;

use super::header::SceneHeader;

/// The samples of the chunk `index`, in this machine's byte order, clipped to the scene's columns and rows.
///
/// # Errors
/// If it is damaged, or has fewer or more bytes than its pixels.
pub fn inflate(packed: &[u8], header: &SceneHeader, index: u64) -> Result<Vec<u8>> {
    let (row, across) = (index / header.chunks_across(), index % header.chunks_across());
    let sample_bytes = u64::from(header.bits / 8);
    let line = (header.chunk_cols * sample_bytes) as usize;
    // The last strip may be filled up to the rows of the others.
    let (least, most) = (header.chunk_bytes(row), header.chunk_rows * line as u64);
    let mut samples = Vec::with_capacity(least as usize);
    ZlibDecoder::new(packed)
        .take(most + 1)
        .read_to_end(&mut samples)
        .context("its Deflate data is damaged")?;
    let count = samples.len() as u64;
    ensure!((least..=most).contains(&count), "it holds {count} bytes, but its pixels need {least}");
    let (first, last) = header.chunk_row(row);
    samples.truncate((last - first) as usize * line);
    for line in samples.chunks_exact_mut(line) {
        match header.bits {
            8 if header.differences => add_up(line),
            16 => native(line, header),
            _ => {}
        }
    }
    let wide = (header.chunk_cols.min(header.cols - across * header.chunk_cols) * sample_bytes) as usize;
    if wide < line {
        samples = samples.chunks_exact(line).flat_map(|line| &line[..wide]).copied().collect();
    }
    Ok(samples)
}

/// A row of 8-bit differences becomes samples.
fn add_up(line: &mut [u8]) {
    let mut before = 0u8;
    for v in line {
        before = before.wrapping_add(*v);
        *v = before;
    }
}

/// A row of 16-bit samples, or differences, as stored becomes samples in this machine's byte order.
fn native(line: &mut [u8], header: &SceneHeader) {
    let mut before = 0u16;
    for pair in line.chunks_exact_mut(2) {
        let stored = [pair[0], pair[1]];
        let v = if header.big_endian { u16::from_be_bytes(stored) } else { u16::from_le_bytes(stored) };
        before = if header.differences { before.wrapping_add(v) } else { v };
        pair.copy_from_slice(&before.to_ne_bytes());
    }
}
