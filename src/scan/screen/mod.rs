//! A first look at a band: where a small network at reduced resolution is sure of nothing, the full one need not look.
//!
//! Whether a cell is looked at depends on the scene around it alone, not on bands or shards, and a pixel that is looked
//! at has the probability of a full scan, to the bit.

mod cells;
mod reduced;

use anyhow::{Result, anyhow};

use self::cells::{CELL, Grid};
pub use self::cells::{Looked, Region};
use self::reduced::Reduced;
use crate::config::{SCREEN_CELL_PX, ScreenSettings};
use crate::detect::{BandPixels, Segmenter, reach_px};

/// The small network.
pub struct Screen {
    network: Box<dyn Segmenter>,
    reduce: u64,
    level: u8,
}

impl Screen {
    /// `network` is one of `settings`, and takes bands as they are.
    pub fn new(network: Box<dyn Segmenter>, settings: &ScreenSettings) -> Self {
        let level = super::level(settings.probability);
        Self { network, reduce: u64::from(settings.reduce), level }
    }

    /// Rows on each side of a band that decide on its cells: those of the cells beside, and what is seen from there.
    pub fn reach_px(&self) -> u32 {
        2 * SCREEN_CELL_PX + self.reduce as u32 * reach_px(self.network.as_ref())
    }

    /// The cells of `band` that may hold an impact, and those around them.
    ///
    /// # Errors
    /// [`crate::fault::Stopped`], or if the network takes no bands.
    pub fn look(&self, band: &BandPixels<'_>) -> Result<Looked> {
        let seen = u64::from(reach_px(self.network.as_ref()));
        let per_cell = CELL / self.reduce;
        let cells = band.rows.start / CELL..band.rows.end.div_ceil(CELL);
        let decided = cells.start.saturating_sub(1)..cells.end + 1;
        let first = (decided.start * per_cell).saturating_sub(seen);
        let picture = Reduced::new(band, self.reduce, first..decided.end * per_cell + seen);
        let rows = decided.start * per_cell..(decided.end * per_cell).min(first + picture.rows.len() as u64);
        let mut probabilities = vec![0; ((rows.end - rows.start) * picture.cols) as usize];
        let network = self.network.streaming().ok_or_else(|| anyhow!("a screening network takes bands"))?;
        let (cols, row0) = (picture.cols, rows.start);
        let small =
            BandPixels { rows, cols, spans: &|_| 0..cols, row: &|row| picture.row(row), stop: band.stop };
        network.stream(&small, &mut |row, col, line| {
            probabilities[((row - row0) * cols + col) as usize..][..line.len()].copy_from_slice(line);
        })?;

        let across = band.cols.div_ceil(CELL);
        let mut hit = Grid::new(decided.clone(), across);
        for (row, line) in (row0..).zip(probabilities.chunks_exact(cols as usize)) {
            for (cell, part) in (0..).zip(line.chunks(per_cell as usize)) {
                if part.iter().any(|&p| p >= self.level) {
                    hit.set(row / per_cell, cell);
                }
            }
        }
        Ok(Looked::new(hit.spread(cells), band.rows.clone(), band.cols))
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;
    use crate::detect::{Streaming, Take, WindowBatch};

    const ROWS: u64 = 500;
    const COLS: u64 = 421;

    /// Sees spots of grey 200 and more, and looks three rows further than it needs.
    struct Spots;

    impl Segmenter for Spots {
        fn halo_px(&self) -> u32 {
            0
        }

        fn multiple_px(&self) -> u32 {
            1
        }

        fn device(&self) -> String {
            "spots".into()
        }

        fn streaming(&self) -> Option<&dyn Streaming> {
            Some(self)
        }

        fn segment(&mut self, _: &WindowBatch, _: &mut [u8]) -> Result<()> {
            Err(anyhow!("bands only"))
        }
    }

    impl Streaming for Spots {
        fn reach_px(&self) -> u32 {
            3
        }

        fn stream(&self, band: &BandPixels<'_>, take: &mut Take<'_>) -> Result<u64> {
            for row in band.rows.clone() {
                let pixels = (band.row)(row as i64).unwrap();
                let line: Vec<u8> = pixels.iter().map(|&grey| if grey >= 200 { 255 } else { 0 }).collect();
                assert!((band.row)(row as i64 - 3).is_some() || row < 3);
                take(row, 0, &line);
            }
            Ok(0)
        }
    }

    fn screen() -> Screen {
        let settings =
            ScreenSettings { widths: vec![32, 64], reduce: 4, probability: 0.5, weights: String::new() };
        Screen::new(Box::new(Spots), &settings)
    }

    /// The cells that are looked at of rows of a picture with some bright spots.
    fn looked(rows: Range<u64>, spots: &[(u64, u64)]) -> Looked {
        let mut picture = vec![100; (ROWS * COLS) as usize];
        for (row, col) in spots {
            for (row, col) in (0..4).flat_map(|r| (0..4).map(move |c| (row / 4 * 4 + r, col / 4 * 4 + c))) {
                if row < ROWS && col < COLS {
                    picture[(row * COLS + col) as usize] = 255;
                }
            }
        }
        let screen = screen();
        let reach = u64::from(screen.reach_px());
        let known = rows.start.saturating_sub(reach)..(rows.end + reach).min(ROWS);
        let row = |row: i64| {
            let row = u64::try_from(row).ok().filter(|row| known.contains(row))?;
            Some(&picture[(row * COLS) as usize..][..COLS as usize])
        };
        let band = BandPixels { rows, cols: COLS, spans: &|_| 0..COLS, row: &row, stop: &|| false };
        screen.look(&band).unwrap()
    }

    const SPOTS: [(u64, u64); 5] = [(0, 0), (95, 200), (96, 240), (255, 420), (499, 30)];

    #[test]
    fn the_cell_of_a_spot_and_those_around_it_are_looked_at() {
        let looked = looked(0..ROWS, &SPOTS);
        for row in 0..ROWS {
            for col in 0..COLS {
                let near = |(r, c): &(u64, u64)| {
                    (r / CELL).abs_diff(row / CELL) <= 1 && (c / CELL).abs_diff(col / CELL) <= 1
                };
                assert_eq!(looked.at(row, col), SPOTS.iter().any(near), "{row}, {col}");
            }
        }
    }

    #[test]
    fn a_cell_is_looked_at_whatever_the_band() {
        let whole = looked(0..ROWS, &SPOTS);
        for rows in [0..1, 0..130, 31..33, 64..96, 100..101, 130..ROWS, 499..ROWS] {
            let part = looked(rows.clone(), &SPOTS);
            for row in rows {
                for col in 0..COLS {
                    assert_eq!(part.at(row, col), whole.at(row, col), "{row}, {col}");
                }
            }
        }
    }

    #[test]
    fn the_regions_hold_all_that_is_looked_at_and_stay_in_the_band() {
        let looked = looked(10..490, &SPOTS);
        let regions = looked.regions();
        assert_eq!(regions.len(), 4, "the two in the middle hang together");
        for row in 0..ROWS {
            for col in 0..COLS {
                let inside = regions
                    .iter()
                    .any(|region| region.rows.contains(&row) && region.span(row).contains(&col));
                let wanted = looked.at(row, col);
                assert!(inside || !wanted, "{row}, {col}");
                assert!(!inside || (10..490).contains(&row));
            }
        }
    }
}
