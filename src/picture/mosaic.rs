//! Crops in rows and columns with a name beside each row and above each column, as papers compare networks.

use std::path::Path;

use anyhow::Result;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::plot::{FONT, failed, font};
use super::{encode, stretched};
use crate::table::write_whole;

/// One crop, `[side, side]`, row-major.
#[derive(Clone, Copy, Debug)]
pub enum Tile<'a> {
    /// A scene's grey levels, 0 = no data; stretched to be seen.
    Grey(&'a [u8]),
    /// Probabilities in 0..=255, as they are.
    Probability(&'a [u8]),
}

/// A picture made row by row.
#[derive(Clone, Debug)]
pub struct Mosaic {
    side_px: usize,
    columns: Vec<String>,
    rows: Vec<(String, Vec<Vec<u8>>)>,
}

/// Crops narrower than this are drawn with pixels of a whole multiple of their size.
const LEAST_TILE: usize = 128;
const GAP: usize = 6;
const LABEL_COLS: usize = 84;
const CAPTION_ROWS: usize = 24;
const TEXT_PX: u32 = 15;

impl Mosaic {
    /// An empty picture of crops of `side_px`, with the given names above its columns.
    pub fn new(side_px: usize, columns: &[&str]) -> Self {
        Self { side_px, columns: columns.iter().map(|&name| name.to_owned()).collect(), rows: Vec::new() }
    }

    /// Adds a row, its name, and a crop a column.
    pub fn row<'a>(&mut self, name: &str, tiles: impl Iterator<Item = Tile<'a>>) {
        let grey = |tile: Tile| match tile {
            Tile::Grey(pixels) => stretched(pixels),
            Tile::Probability(pixels) => pixels.to_vec(),
        };
        self.rows.push((name.to_owned(), tiles.map(grey).collect()));
    }

    /// Writes the picture as PNG, whole or not at all.
    ///
    /// # Errors
    /// If it cannot be drawn or written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let (rows, cols, pixels) = self.draw()?;
        let mut png = Vec::new();
        encode(rows, cols, &pixels, &mut png)?;
        write_whole(path, &png)
    }

    /// Rows, columns and `[row, col, rgb]`.
    fn draw(&self) -> Result<(usize, usize, Vec<u8>)> {
        font()?;
        let times = LEAST_TILE.div_ceil(self.side_px);
        let tile = times * self.side_px;
        let rows = CAPTION_ROWS + self.rows.len() * (tile + GAP);
        let cols = LABEL_COLS + self.columns.len() * (tile + GAP);
        let corner =
            |row: usize, col: usize| (CAPTION_ROWS + row * (tile + GAP), LABEL_COLS + col * (tile + GAP));
        let mut pixels = vec![255u8; rows * cols * 3];
        for (number, (_, tiles)) in self.rows.iter().enumerate() {
            for (column, grey) in tiles.iter().enumerate().take(self.columns.len()) {
                let (top, left) = corner(number, column);
                for (y, x) in (0..tile).flat_map(|y| (0..tile).map(move |x| (y, x))) {
                    let at = ((top + y) * cols + left + x) * 3;
                    pixels[at..at + 3].fill(grey[y / times * self.side_px + x / times]);
                }
            }
        }
        {
            let paper =
                BitMapBackend::with_buffer(&mut pixels, (cols as u32, rows as u32)).into_drawing_area();
            let style = |side| {
                TextStyle::from((FONT, TEXT_PX).into_font()).color(&BLACK).pos(Pos::new(side, VPos::Center))
            };
            let write = |text: &str, side, (row, col): (usize, usize)| {
                paper.draw_text(text, &style(side), (col as i32, row as i32)).map_err(failed)
            };
            for (column, name) in self.columns.iter().enumerate() {
                write(name, HPos::Center, (CAPTION_ROWS / 2, corner(0, column).1 + tile / 2))?;
            }
            for (number, (name, _)) in self.rows.iter().enumerate() {
                write(name, HPos::Right, (corner(number, 0).0 + tile / 2, LABEL_COLS - GAP))?;
            }
            paper.present().map_err(failed)?;
        }
        Ok((rows, cols, pixels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_stand_in_their_places_and_names_beside_them() {
        let mut mosaic = Mosaic::new(64, &["impact", "border"]);
        let (dark, bright) = (vec![10; 64 * 64], vec![200; 64 * 64]);
        mosaic.row("image", [Tile::Probability(&dark), Tile::Probability(&bright)].into_iter());
        let (rows, cols, pixels) = mosaic.draw().unwrap();
        assert_eq!((rows, cols), (CAPTION_ROWS + 134, LABEL_COLS + 268), "64 px are drawn as 128");
        let at = |row: usize, col: usize| pixels[(row * cols + col) * 3];
        assert_eq!(at(CAPTION_ROWS + 127, LABEL_COLS + 127), 10);
        assert_eq!(at(CAPTION_ROWS, LABEL_COLS + 134), 200);
        let ink = |cols: std::ops::Range<usize>| {
            cols.filter(|&col| (0..rows).any(|row| at(row, col) < 100)).count()
        };
        assert!(ink(0..LABEL_COLS) > 10, "the row's name");
    }
}
