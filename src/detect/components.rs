//! shim
#![allow(missing_docs)]
use crate::{records::Blob, space::PixelRect};
pub struct EdgeRun { pub row: u64, pub col0: u64, pub col1: u64 }
pub struct OpenBlob { pub blob: Blob, pub runs: Vec<EdgeRun> }
pub struct LabelledBand { pub row0: u64, pub row1: u64, pub closed: Vec<Blob>, pub open: Vec<OpenBlob> }
pub fn label_band(row0: u64, cols: usize, p: &[u8], level: u8) -> LabelledBand {
    let rows = p.len() / cols; let mut seen = vec![false; p.len()]; let mut closed = vec![];
    for i in 0..p.len() { if p[i] < level || seen[i] { continue; }
        let mut st = vec![i]; seen[i] = true; let (r, c) = ((i / cols) as u64, (i % cols) as u64);
        let mut b = Blob { area_px: 0, row_sum: 0, col_sum: 0, score_sum: 0, peak: 0, rect: PixelRect { row0: r, col0: c, row1: r + 1, col1: c + 1 } };
        while let Some(j) = st.pop() { let (r, c) = ((j / cols) as u64, (j % cols) as u64);
            b.area_px += 1; b.row_sum += r; b.col_sum += c; b.rect = b.rect.union(&PixelRect { row0: r, col0: c, row1: r + 1, col1: c + 1 });
            for dr in -1..=1i64 { for dc in -1..=1i64 { let (y, x) = (r as i64 + dr, c as i64 + dc); if y < 0 || x < 0 || y >= rows as i64 || x >= cols as i64 { continue; }
                let k = y as usize * cols + x as usize; if p[k] >= level && !seen[k] { seen[k] = true; st.push(k); } } } }
        closed.push(b); }
    LabelledBand { row0, row1: row0 + rows as u64, closed, open: vec![] }
}
