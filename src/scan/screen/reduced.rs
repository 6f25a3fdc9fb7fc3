//! A picture at reduced resolution.

use std::ops::Range;

use rayon::prelude::*;

use crate::detect::BandPixels;

/// Rows of a band, so many pixels on a side made one: the mean of those with data, if any has.
pub struct Reduced {
    first: u64,
    /// Of it.
    pub cols: u64,
    /// From the first that was asked for.
    pub rows: Vec<Vec<u8>>,
}

impl Reduced {
    /// Those of `rows` that the scene has.
    pub fn new(band: &BandPixels<'_>, reduce: u64, rows: Range<u64>) -> Self {
        let cols = band.cols.div_ceil(reduce);
        let there = rows.clone().take_while(|row| (band.row)((row * reduce) as i64).is_some()).count() as u64;
        let line = |row: u64| {
            let mut sums = vec![(0u16, 0u16); cols as usize];
            for source in (row * reduce..(row + 1) * reduce).filter_map(|row| (band.row)(row as i64)) {
                for (sum, pixels) in sums.iter_mut().zip(source.chunks(reduce as usize)) {
                    for &grey in pixels {
                        *sum = (sum.0 + u16::from(grey), sum.1 + u16::from(grey != 0));
                    }
                }
            }
            sums.into_iter().map(|(sum, count)| ((sum + count / 2) / count.max(1)) as u8).collect()
        };
        Self {
            first: rows.start,
            cols,
            rows: (rows.start..rows.start + there).into_par_iter().map(line).collect(),
        }
    }

    /// A row of it.
    pub fn row(&self, row: i64) -> Option<&[u8]> {
        let row = u64::try_from(row).ok()?.checked_sub(self.first)?;
        self.rows.get(row as usize).map(Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_without_data_do_not_count_to_the_mean() {
        let picture = [[0, 9, 0, 0, 7], [0, 8, 0, 0, 8], [3, 3, 3, 4, 0]];
        let row = |row: i64| usize::try_from(row).ok().and_then(|row| picture.get(row)).map(|row| &row[..]);
        let band = BandPixels { rows: 0..3, cols: 5, spans: &|_| 0..5, row: &row, stop: &|| false };
        let reduced = Reduced::new(&band, 2, 0..7);
        assert_eq!(reduced.rows, [[9, 0, 8], [3, 4, 0]]);
    }
}
