//! A tiled, Deflate-packed 8-bit TIFF with overviews, written as its rows come: classic, or Big where it might grow
//! beyond 4 GiB.
//!
//! In memory is a row of tiles of each level. Tiles of nothing but zeros, most of a map of rare things, share their
//! bytes.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use flate2::Compression;
use flate2::write::ZlibEncoder;
use rayon::prelude::*;

use super::directory::{Values, directory, geo_values, header};
use crate::geo::GeoTags;
use crate::table::Aside;

/// Side of a tile, px.
const TILE: usize = 256;
/// Overviews go down to one that is smaller than this on both sides, px.
const LEAST_PX: u64 = 512;

/// Takes a picture's rows in order; the file gets its name when the last one is in.
pub struct TileWriter {
    aside: Aside,
    out: BufWriter<File>,
    big: bool,
    tags: Option<GeoTags>,
    /// Where the next bytes go.
    end: u64,
    levels: Vec<Level>,
    /// Where the tile of zeros is, once there is one.
    zeros: Option<(u64, u64)>,
}

/// The picture, or one of its overviews.
struct Level {
    rows: u64,
    cols: usize,
    /// Whole rows, at most as many as a tile has.
    lines: Vec<u8>,
    /// The first of two rows that make one of the next level.
    waiting: Option<Vec<u8>>,
    /// Rows that came.
    taken: u64,
    /// First byte and bytes of each tile.
    tiles: Vec<(u64, u64)>,
}

impl TileWriter {
    /// Begins a picture of `rows` x `cols`, georeferenced by `tags`.
    ///
    /// # Errors
    /// If the file cannot be made.
    pub fn create(path: &Path, rows: u64, cols: u64, tags: Option<GeoTags>) -> Result<Self> {
        // The overviews are a third of the picture, and what cannot be packed grows by less than a tenth.
        let big = (rows + TILE as u64) * (cols + TILE as u64) * 3 / 2 > u64::from(u32::MAX);
        Self::create_as(path, (rows, cols), tags, big)
    }

    fn create_as(path: &Path, (rows, cols): (u64, u64), tags: Option<GeoTags>, big: bool) -> Result<Self> {
        ensure!(rows > 0 && cols > 0, "no picture of {rows} x {cols} px");
        let mut levels = vec![Level::new(rows, cols)];
        let (mut down, mut across) = (rows, cols);
        while down.max(across) >= LEAST_PX {
            (down, across) = (down.div_ceil(2), across.div_ceil(2));
            levels.push(Level::new(down, across));
        }
        let aside = Aside::new(path);
        let file = File::create(aside.file()).with_context(|| format!("cannot write {}", path.display()))?;
        let out = BufWriter::with_capacity(1 << 20, file);
        let mut writer = Self { aside, out, big, tags, end: 0, levels, zeros: None };
        writer.put(&header(0, big))?;
        Ok(writer)
    }

    /// Takes the next row.
    ///
    /// # Errors
    /// If it cannot be written; the message names the file.
    pub fn append(&mut self, row: &[u8]) -> Result<()> {
        self.take(0, row)
    }

    fn take(&mut self, number: usize, row: &[u8]) -> Result<()> {
        let last = number + 1 == self.levels.len();
        let level = &mut self.levels[number];
        ensure!(
            row.len() == level.cols && level.taken < level.rows,
            "row {} of {} px does not fit {} rows of {} px",
            level.taken,
            row.len(),
            level.rows,
            level.cols
        );
        level.taken += 1;
        level.lines.extend(row);
        let whole = level.lines.len() == TILE * level.cols || level.taken == level.rows;
        let halved = match level.waiting.take() {
            Some(first) => Some(halved(&first, row)),
            // The last of an odd number of rows stands for two.
            None if level.taken == level.rows => Some(halved(row, row)),
            None => {
                level.waiting = Some(row.to_vec());
                None
            }
        };
        if whole {
            self.pack(number)?;
        }
        match halved {
            Some(row) if !last => self.take(number + 1, &row),
            _ => Ok(()),
        }
    }

    /// Writes the tiles that the lines of a level make.
    fn pack(&mut self, number: usize) -> Result<()> {
        let level = &mut self.levels[number];
        let (lines, cols) = (std::mem::take(&mut level.lines), level.cols);
        let tiles: Vec<Option<Vec<u8>>> = (0..cols.div_ceil(TILE))
            .into_par_iter()
            .map(|across| {
                let tile = tile(&lines, cols, across * TILE);
                if tile.iter().all(|&v| v == 0) { Ok(None) } else { packed(&tile).map(Some) }
            })
            .collect::<Result<_>>()?;
        for tile in tiles {
            let place = match (tile, self.zeros) {
                (Some(tile), _) => self.put(&tile)?,
                (None, Some(zeros)) => zeros,
                (None, None) => {
                    let zeros = self.put(&packed(&vec![0; TILE * TILE])?)?;
                    *self.zeros.insert(zeros)
                }
            };
            self.levels[number].tiles.push(place);
        }
        Ok(())
    }

    /// Appends `bytes`, and says where they are.
    fn put(&mut self, bytes: &[u8]) -> Result<(u64, u64)> {
        let place = (self.end, bytes.len() as u64);
        self.out.write_all(bytes).with_context(|| self.trouble())?;
        self.end += bytes.len() as u64;
        Ok(place)
    }

    /// Writes the directories and the data through to the disk, and gives the file its name.
    ///
    /// # Errors
    /// If rows are missing, or the file cannot be written.
    pub fn finish(mut self) -> Result<()> {
        let (taken, rows) = (self.levels[0].taken, self.levels[0].rows);
        ensure!(taken == rows, "{taken} of {rows} rows written");
        self.put(&vec![0; (self.end.next_multiple_of(8) - self.end) as usize])?;
        let first = self.end;
        let levels = std::mem::take(&mut self.levels);
        for (number, level) in levels.iter().enumerate() {
            let mut tags = level.tags(number > 0);
            if let Some(geo) = self.tags.as_ref().filter(|_| number == 0) {
                tags.extend(geo_values(geo));
            }
            let bytes = directory(tags, self.end, self.big, number + 1 < levels.len());
            self.put(&bytes)?;
        }
        let trouble = self.trouble();
        let Self { mut out, aside, big, .. } = self;
        let mut written = || -> Result<()> {
            out.seek(SeekFrom::Start(0))?;
            out.write_all(&header(first, big))?;
            Ok(out.flush()?)
        };
        written().context(trouble)?;
        aside.sync()?.publish()
    }

    fn trouble(&self) -> String {
        format!("cannot write {}", self.aside.name().display())
    }
}

impl Level {
    fn new(rows: u64, cols: u64) -> Self {
        let cols = cols as usize;
        Self { rows, cols, lines: Vec::new(), waiting: None, taken: 0, tiles: Vec::new() }
    }

    fn tags(&self, overview: bool) -> Vec<(u16, Values)> {
        let part = |of: fn(&(u64, u64)) -> u64| Values::Integers(self.tiles.iter().map(of).collect());
        vec![
            (254, Values::Integers(vec![u64::from(overview)])),
            (256, Values::Integers(vec![self.cols as u64])),
            (257, Values::Integers(vec![self.rows])),
            (258, Values::Shorts(vec![8])),
            (259, Values::Shorts(vec![8])),
            (262, Values::Shorts(vec![1])),
            (277, Values::Shorts(vec![1])),
            (322, Values::Shorts(vec![TILE as u16])),
            (323, Values::Shorts(vec![TILE as u16])),
            (324, part(|tile| tile.0)),
            (325, part(|tile| tile.1)),
            (339, Values::Shorts(vec![1])),
        ]
    }
}

/// Two rows at half the size: means of four, rounded half up; a last column alone is of two.
fn halved(first: &[u8], second: &[u8]) -> Vec<u8> {
    let mean = |(a, b): (&[u8], &[u8])| {
        let sum: usize = a.iter().chain(b).map(|&v| usize::from(v)).sum();
        ((sum + a.len()) / (2 * a.len())) as u8
    };
    first.chunks(2).zip(second.chunks(2)).map(mean).collect()
}

/// The tile that begins at column `col0` of `lines`, filled up with zeros.
fn tile(lines: &[u8], cols: usize, col0: usize) -> Vec<u8> {
    let mut tile = vec![0; TILE * TILE];
    let wide = TILE.min(cols - col0);
    for (to, line) in tile.chunks_exact_mut(TILE).zip(lines.chunks_exact(cols)) {
        to[..wide].copy_from_slice(&line[col0..col0 + wide]);
    }
    tile
}

fn packed(tile: &[u8]) -> Result<Vec<u8>> {
    let mut packer = ZlibEncoder::new(Vec::new(), Compression::default());
    packer.write_all(tile)?;
    Ok(packer.finish()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::InputSettings;
    use crate::raster::MappedScene;

    /// Rows of every level, the slow and plain way.
    fn plain(rows: usize, cols: usize, pixels: &[u8]) -> Vec<u8> {
        let (down, across) = (rows.div_ceil(2), cols.div_ceil(2));
        let at = |row: usize, col: usize| usize::from(pixels[row.min(rows - 1) * cols + col.min(cols - 1)]);
        let mean = |row: usize, col: usize| {
            let four = [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(y, x)| at(2 * row + y, 2 * col + x));
            ((four.iter().sum::<usize>() + 2) / 4) as u8
        };
        (0..down * across).map(|k| mean(k / across, k % across)).collect()
    }

    #[test]
    fn what_is_written_is_read_classic_and_big_and_small() {
        let folder = tempfile::tempdir().unwrap();
        for (k, (rows, cols)) in [(1, 1), (256, 512), (700, 300), (257, 1111)].into_iter().enumerate() {
            let pixels: Vec<u8> =
                (0..rows * cols).map(|k| if k % cols < 280 { (k * 7 % 251) as u8 } else { 0 }).collect();
            for big in [false, true] {
                let path = folder.path().join(format!("{k}-{big}.tif"));
                let size = (rows as u64, cols as u64);
                let mut writer = TileWriter::create_as(&path, size, None, big).unwrap();
                pixels.chunks(cols).for_each(|row| writer.append(row).unwrap());
                writer.finish().unwrap();
                let scene = MappedScene::open(&path, InputSettings::MASK).unwrap();
                assert_eq!((scene.header().big_tiff, scene.header().tiled), (big, true));
                assert!(scene.window(0..size.0, 0..size.1).unwrap() == pixels, "{rows} x {cols}, {big}");
                // Where GDAL is installed, it has nothing to complain of in either.
                if let Ok(output) =
                    std::process::Command::new("gdalinfo").arg("-checksum").arg(&path).output()
                {
                    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
                }
            }
        }
    }

    #[test]
    fn overviews_are_means_of_four() {
        for (rows, cols) in [(6, 8), (7, 9), (1, 5), (5, 1)] {
            let pixels: Vec<u8> = (0..rows * cols).map(|k| (k * 97 % 256) as u8).collect();
            let pairs = (0..rows).step_by(2).flat_map(|row| {
                let line = |row: usize| &pixels[row.min(rows - 1) * cols..][..cols];
                halved(line(row), line(row + 1))
            });
            assert_eq!(pairs.collect::<Vec<u8>>(), plain(rows, cols, &pixels));
        }
    }

    #[test]
    fn a_row_too_many_or_too_few_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tif");
        let begin = || TileWriter::create(&path, 2, 3, None).unwrap();
        let mut writer = begin();
        writer.append(&[1, 2, 3]).unwrap();
        assert!(writer.append(&[1, 2]).is_err() && writer.finish().is_err());
        assert!(!path.exists() && std::fs::read_dir(folder.path()).unwrap().count() == 0);
    }
}
