//! A striped, uncompressed 8-bit TIFF, written as its rows come: classic, or Big beyond 4 GB.

use std::fs::{self, File};
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::directory::{self, Values, geo_values};
use crate::geo::GeoTags;

const ROWS_PER_STRIP: u64 = 64;
/// First byte of the pixels: behind the header of either kind.
const DATA_AT: u64 = 16;

/// Takes a picture's rows in order; the file gets its name when the last one is in.
#[derive(Debug)]
pub struct StripWriter {
    path: PathBuf,
    aside: PathBuf,
    out: BufWriter<File>,
    rows: u64,
    cols: u64,
    written: u64,
    big: bool,
    tags: Option<GeoTags>,
}

impl StripWriter {
    /// Begins a picture of `rows` x `cols`, georeferenced by `tags`.
    ///
    /// # Errors
    /// If the file cannot be made.
    pub fn create(path: &Path, rows: u64, cols: u64, tags: Option<GeoTags>) -> Result<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let aside = path.with_file_name(format!(".{name}.{}.part", std::process::id()));
        let big = rows * cols + (1 << 20) + 16 * rows > u64::from(u32::MAX);
        let file = File::create(&aside).with_context(|| format!("cannot write {}", aside.display()))?;
        let mut writer = Self {
            path: path.to_owned(),
            aside,
            out: BufWriter::with_capacity(1 << 20, file),
            rows,
            cols,
            written: 0,
            big,
            tags,
        };
        let directory = DATA_AT + (rows * cols).next_multiple_of(8);
        let mut header = directory::header(directory, big);
        header.resize(DATA_AT as usize, 0);
        writer.out.write_all(&header)?;
        Ok(writer)
    }

    /// Appends whole rows; zeros become a hole in the file where the system has such.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn append(&mut self, pixels: &[u8]) -> Result<()> {
        self.written += pixels.len() as u64 / self.cols;
        let put = if pixels.iter().all(|&v| v == 0) {
            self.out.seek(SeekFrom::Current(pixels.len() as i64)).map(drop)
        } else {
            self.out.write_all(pixels)
        };
        put.with_context(|| format!("cannot write {}", self.aside.display()))
    }

    /// Writes the directory, syncs and renames.
    ///
    /// # Errors
    /// If rows are missing, or the file cannot be written.
    pub fn finish(mut self) -> Result<()> {
        ensure!(self.written == self.rows, "{} of {} rows written", self.written, self.rows);
        let directory = DATA_AT + (self.rows * self.cols).next_multiple_of(8);
        self.out.seek(SeekFrom::Start(directory))?;
        self.out.write_all(&self.directory(directory))?;
        let mut written = || -> Result<()> {
            self.out.flush()?;
            self.out.get_ref().sync_all()?;
            Ok(fs::rename(&self.aside, &self.path)?)
        };
        written().with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// The directory's bytes.
    fn directory(&self, at: u64) -> Vec<u8> {
        let strips = self.rows.div_ceil(ROWS_PER_STRIP);
        let offsets = (0..strips).map(|k| DATA_AT + k * ROWS_PER_STRIP * self.cols);
        let lengths = (0..strips).map(|k| (self.rows - k * ROWS_PER_STRIP).min(ROWS_PER_STRIP) * self.cols);
        let mut tags: Vec<(u16, Values)> = vec![
            (256, Values::Integers(vec![self.cols])),
            (257, Values::Integers(vec![self.rows])),
            (258, Values::Integers(vec![8])),
            (259, Values::Integers(vec![1])),
            (262, Values::Integers(vec![1])),
            (273, Values::Integers(offsets.collect())),
            (277, Values::Integers(vec![1])),
            (278, Values::Integers(vec![ROWS_PER_STRIP])),
            (279, Values::Integers(lengths.collect())),
        ];
        tags.extend(self.tags.as_ref().map(geo_values).into_iter().flatten());
        directory::directory(tags, at, self.big, false)
    }
}

impl Drop for StripWriter {
    fn drop(&mut self) {
        // After `finish` there is nothing under this name.
        let _ = fs::remove_file(&self.aside);
    }
}
