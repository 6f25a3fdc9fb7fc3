//! What the network took for an impact, as an outline: shards keep sums, not pixels, so it is computed again.
//!
//! A window on the network's pooling grid, with its halo around it, has the scan's probabilities up to rounding. Keeping
//! the pixels of every blob would cost each scan for the few that are looked at; the windows of a thousand candidates are
//! as many pixels as one small scene.

use anyhow::Result;

use super::view::{View, square};
use crate::detect::components::label_band;
use crate::detect::{Segmenter, WindowBatch};
use crate::fault::guarded;
use crate::raster::Rows;
use crate::records::Impact;

/// Windows up to this side are computed; a candidate that needs a larger one goes without an outline.
const MOST_PX: usize = 2048;

/// The network, and from which probability (0..=255) it means an impact.
pub struct Outliner<'a> {
    segmenter: &'a mut dyn Segmenter,
    level: u8,
}

/// An outline, and whether it is that of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    /// SVG path in pixels of the view.
    pub path: String,
    /// Whether a group of its pixels has the candidate's box and area.
    pub agrees: bool,
}

impl<'a> Outliner<'a> {
    /// Outlines what `segmenter` gives `level` or more.
    pub fn new(segmenter: &'a mut dyn Segmenter, level: u8) -> Self {
        Self { segmenter, level }
    }

    /// Rows beyond a view that its outline depends on.
    pub fn reach_px(&self) -> u64 {
        u64::from(self.segmenter.halo_px() + self.segmenter.multiple_px())
    }

    /// The outline in the candidate's view; none where the view is too wide.
    ///
    /// # Errors
    /// If the device fails; [`crate::fault::DeviceLost`] if it is lost.
    pub fn outline(
        &mut self,
        impact: &Impact,
        view: &View,
        rows: &Rows,
        cols: u64,
    ) -> Result<Option<Outline>> {
        let (halo, multiple) = (self.segmenter.halo_px() as usize, self.segmenter.multiple_px() as usize);
        let span = view.span();
        // As large wherever the view lies on the grid, so that a device sees one shape.
        let side = (span + multiple - 1).next_multiple_of(multiple) + 2 * halo;
        if side > MOST_PX {
            return Ok(None);
        }
        let first = |corner: i64| corner.div_euclid(multiple as i64) * multiple as i64;
        let corner = (first(view.row0), first(view.col0));
        let outer = (corner.0 - halo as i64, corner.1 - halo as i64);
        let pixels = square(rows, cols, outer, side);
        let inner = halo..side - halo;
        let batch =
            WindowBatch { count: 1, rows: inner.clone(), cols: inner, pixels, ..WindowBatch::new(0, side) };
        let mut answer = vec![0; side * side];
        guarded(|| self.segmenter.segment(&batch, &mut answer))?;
        let (down, right) = ((view.row0 - outer.0) as usize, (view.col0 - outer.1) as usize);
        let mut seen = Vec::with_capacity(span * span);
        for row in down..down + span {
            let line = row * side + right..row * side + right + span;
            let pixels = answer[line.clone()].iter().zip(&batch.pixels[line]);
            seen.extend(pixels.map(|(p, v)| if *v == 0 { 0 } else { *p }));
        }
        let agrees = self.finds(impact, view, &seen);
        Ok(Some(Outline { path: path(&reduced(&seen, view, self.level), view.side_px), agrees }))
    }

    /// Whether a group of pixels among the probabilities `seen` is the candidate's.
    fn finds(&self, impact: &Impact, view: &View, seen: &[u8]) -> bool {
        let band = label_band(0, view.span(), seen, self.level);
        let inside = |at: u64, corner: i64| at as i64 - corner;
        let corner = (inside(impact.row0_px, view.row0), inside(impact.col0_px, view.col0));
        let blobs = band.closed.iter().chain(band.open.iter().map(|open| &open.blob));
        blobs
            .map(|blob| ((blob.rect.row0 as i64, blob.rect.col0 as i64), blob.area_px))
            .any(|blob| blob == (corner, impact.area_px))
    }
}

/// Which pixels of the view are `level` or more in the mean.
fn reduced(seen: &[u8], view: &View, level: u8) -> Vec<bool> {
    let (side, step, span) = (view.side_px, view.step, view.span());
    let mean = |row: usize, col: usize| {
        let lines = (0..step).map(|k| &seen[(row * step + k) * span + col * step..][..step]);
        let sum: u64 = lines.flatten().map(|p| u64::from(*p)).sum();
        sum >= u64::from(level) * (step * step) as u64
    };
    (0..side * side).map(|at| mean(at / side, at % side)).collect()
}

/// The edges between pixels that are in `mask`, `[side, side]`, and those that are not.
fn path(mask: &[bool], side: usize) -> String {
    let at = |row: i64, col: i64| {
        let inside = |k: i64| (0..side as i64).contains(&k);
        inside(row) && inside(col) && mask[row as usize * side + col as usize]
    };
    let side = side as i64;
    let mut path = String::new();
    for line in 0..=side {
        // Edges under this row of pixels, then those left of this column, each in runs.
        let lying = |k: i64| at(line - 1, k) != at(line, k);
        let standing = |k: i64| at(k, line - 1) != at(k, line);
        path.extend(runs(side, lying).map(|(from, to)| format!("M{from} {line}h{}", to - from)));
        path.extend(runs(side, standing).map(|(from, to)| format!("M{line} {from}v{}", to - from)));
    }
    path
}

/// Half-open ranges of `0..end` in which `holds`.
fn runs(end: i64, holds: impl Fn(i64) -> bool) -> impl Iterator<Item = (i64, i64)> {
    let mut next = 0;
    std::iter::from_fn(move || {
        let from = (next..end).find(|k| holds(*k))?;
        next = (from..end).find(|k| !holds(*k)).unwrap_or(end);
        Some((from, next))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outline_goes_around_its_pixels_and_around_holes() {
        let drawing = ["....", ".##.", ".#..", "...."];
        let mask: Vec<bool> = drawing.iter().flat_map(|line| line.bytes().map(|b| b == b'#')).collect();
        assert_eq!(path(&mask, 4), "M1 1h2M1 1v2M2 2h1M2 2v1M1 3h1M3 1v1");
        let ring = [true, true, true, true, false, true, true, true, true];
        assert_eq!(path(&ring, 3), "M0 0h3M0 0v3M1 1h1M1 1v1M1 2h1M2 1v1M0 3h3M3 0v3");
    }
}
