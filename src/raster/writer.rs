//! A striped, uncompressed 8-bit TIFF, written as its rows come: classic, or Big beyond 4 GB.

use std::fs::{self, File};
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

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
        let header: Vec<u8> = if big {
            [&b"II\x2b\0\x08\0\0\0"[..], &directory.to_le_bytes()].concat()
        } else {
            [&b"II\x2a\0"[..], &(directory as u32).to_le_bytes(), &[0; 8]].concat()
        };
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

    /// The directory's bytes, tags in order, with their longer values behind it.
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
        if let Some(geo) = &self.tags {
            tags.push((33550, Values::Doubles(geo.pixel_scale.clone())));
            tags.push((33922, Values::Doubles(geo.tiepoints.clone())));
            tags.push((34735, Values::Shorts(geo.directory.iter().map(|&v| v as u16).collect())));
            tags.push((34736, Values::Doubles(geo.doubles.clone())));
            tags.push((42113, Values::Text("0".into())));
        }
        let (inline, entry) = if self.big { (8, 20) } else { (4, 12) };
        let mut head = if self.big {
            (tags.len() as u64).to_le_bytes().to_vec()
        } else {
            (tags.len() as u16).to_le_bytes().to_vec()
        };
        let behind = at + (head.len() + tags.len() * entry + inline) as u64;
        let mut tail = Vec::new();
        for (tag, values) in tags {
            let (kind, count, mut bytes) = values.encoded(self.big);
            head.extend(tag.to_le_bytes());
            head.extend(kind.to_le_bytes());
            head.extend(&(count as u64).to_le_bytes()[..inline]);
            if bytes.len() <= inline {
                bytes.resize(inline, 0);
                head.extend(bytes);
            } else {
                head.extend(&(behind + tail.len() as u64).to_le_bytes()[..inline]);
                tail.extend(bytes);
                tail.resize(tail.len().next_multiple_of(8), 0);
            }
        }
        head.resize(head.len() + inline, 0);
        head.extend(tail);
        head
    }
}

impl Drop for StripWriter {
    fn drop(&mut self) {
        // After `finish` there is nothing under this name.
        let _ = fs::remove_file(&self.aside);
    }
}

enum Values {
    Integers(Vec<u64>),
    Shorts(Vec<u16>),
    Doubles(Vec<f64>),
    Text(String),
}

impl Values {
    /// TIFF type, count and bytes.
    fn encoded(self, big: bool) -> (u16, usize, Vec<u8>) {
        match self {
            Self::Integers(v) if big => (16, v.len(), v.iter().flat_map(|v| v.to_le_bytes()).collect()),
            Self::Integers(v) => (4, v.len(), v.iter().flat_map(|v| (*v as u32).to_le_bytes()).collect()),
            Self::Shorts(v) => (3, v.len(), v.iter().flat_map(|v| v.to_le_bytes()).collect()),
            Self::Doubles(v) => (12, v.len(), v.iter().flat_map(|v| v.to_le_bytes()).collect()),
            Self::Text(text) => (2, text.len() + 1, [text.as_bytes(), &[0]].concat()),
        }
    }
}
