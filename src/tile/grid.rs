//! The window grid: anchored at the scene's (0, 0), the same whatever the bands, shards and threads.

use crate::space::PixelRect;

/// Square windows of `window_px`, of which `halo_px` on each side belongs to the neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TileGrid {
    /// Side of a window.
    pub window_px: u32,
    /// Thrown away on each side after inference.
    pub halo_px: u32,
}

impl TileGrid {
    /// Side of what a window answers for: the grid's step.
    pub fn core_px(&self) -> u64 {
        u64::from(self.window_px - 2 * self.halo_px)
    }

    /// First row of the whole core that row `row` belongs to.
    pub fn core_row(&self, row: u64) -> u64 {
        row / self.core_px() * self.core_px()
    }

    /// The cores that cover rows `row0..row1` of a scene of `cols` columns, in (row, col) order, cut off at these
    /// rows.
    pub fn cores(&self, row0: u64, row1: u64, cols: u64) -> impl Iterator<Item = PixelRect> {
        let core = self.core_px();
        let starts = move |from: u64, to: u64| (from..to).step_by(core as usize);
        starts(self.core_row(row0), row1).flat_map(move |r| {
            starts(0, cols).map(move |c| PixelRect {
                row0: r.max(row0),
                col0: c,
                row1: (r + core).min(row1),
                col1: (c + core).min(cols),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_cover_every_pixel_once() {
        let grid = TileGrid { window_px: 64, halo_px: 24 };
        let mut covered = vec![0; 40 * 53];
        for core in grid.cores(0, 23, 53).chain(grid.cores(23, 32, 53)).chain(grid.cores(32, 40, 53)) {
            for row in core.row0..core.row1 {
                for col in core.col0..core.col1 {
                    covered[(row * 53 + col) as usize] += 1;
                }
            }
        }
        assert!(covered.iter().all(|&times| times == 1));
    }
}
