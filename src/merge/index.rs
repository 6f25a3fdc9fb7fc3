//! A published file read once: held against its checksum, and where it speaks of which scene.
//!
//! What a merge keeps of a table is where the lines of each scene begin and end, never the lines.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::de::DeserializeOwned;

use crate::records::TimingRow;

/// Bytes that the CSV reader takes at a time.
const BUFFER_BYTES: usize = 1 << 16;

/// Neighbouring lines of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// The first line's first byte.
    pub start: u64,
    /// One past the last line's last byte.
    pub end: u64,
    /// Lines.
    pub rows: u64,
}

/// A table of lines in scene order, on disk.
#[derive(Clone, Debug)]
pub struct SceneTable {
    path: PathBuf,
    /// One a scene of the shard's manifest, in its order.
    spans: Vec<Span>,
}

impl SceneTable {
    /// Lines of the manifest's scene number `scene`.
    pub fn count(&self, scene: usize) -> u64 {
        self.spans[scene].rows
    }

    /// Reads the lines of the manifest's scene number `scene`.
    ///
    /// # Errors
    /// If they cannot be read, are no longer what was verified, or `see` fails.
    pub fn rows<T: DeserializeOwned>(
        &self,
        scene: usize,
        mut see: impl FnMut(T) -> Result<()>,
    ) -> Result<()> {
        let span = self.spans[scene];
        if span.rows == 0 {
            return Ok(());
        }
        let mut read = || -> Result<u64> {
            let mut file = File::open(&self.path)?;
            file.seek(SeekFrom::Start(span.start))?;
            let lines = BufReader::with_capacity(BUFFER_BYTES, file.take(span.end - span.start));
            let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(lines);
            let mut record = csv::StringRecord::new();
            let mut rows = 0;
            while reader.read_record(&mut record)? {
                see(record.deserialize(None)?)?;
                rows += 1;
            }
            Ok(rows)
        };
        let rows = read().with_context(|| gone(&self.path))?;
        ensure!(rows == span.rows, "{} was changed while it was merged: merge again", self.path.display());
        Ok(())
    }
}

/// What to say of a file that was verified and cannot be read any more.
pub fn gone(path: &Path) -> String {
    let folder = path.parent().unwrap_or(Path::new("")).display();
    format!("cannot read {} again: merge again, or remove {folder} and scan this shard again", path.display())
}

/// Reads all of the file at `path` through `read`, which may stop early.
///
/// # Errors
/// If it cannot be read, or its blake3 is not `hash`; only then if `read` failed, for which damage is the
/// likelier cause.
pub fn verified<T>(path: &Path, hash: &str, read: impl FnOnce(&mut Hashed) -> Result<T>) -> Result<T> {
    let folder = path.parent().unwrap_or(Path::new("")).display();
    let unreadable =
        || format!("cannot read {}: mend that, or remove {folder} and scan this shard again", path.display());
    let file = File::open(path).with_context(unreadable)?;
    let mut file = Hashed { file, hasher: blake3::Hasher::new() };
    let answer = read(&mut file);
    io::copy(&mut file, &mut io::sink()).with_context(unreadable)?;
    ensure!(
        file.hasher.finalize().to_hex().as_str() == hash,
        "{} is not what was published (its checksum differs): remove {folder} and scan this shard again",
        path.display()
    );
    answer.with_context(unreadable)
}

/// A file whose bytes are hashed as they are read.
pub struct Hashed {
    file: File,
    hasher: blake3::Hasher,
}

impl Read for Hashed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}

/// A table's lines by the scene in their first column; `scenes` are those of the manifest.
///
/// # Errors
/// If the columns are others than `header`, a line does not fit, or a scene is unknown or comes twice.
pub fn scene_table(path: &Path, file: &mut Hashed, header: &[&str], scenes: &[&str]) -> Result<SceneTable> {
    let mut reader = reader(file, header)?;
    let mut spans = vec![Span::default(); scenes.len()];
    let mut record = csv::ByteRecord::new();
    let (mut start, mut next, mut here) = (reader.position().byte(), 0, None::<usize>);
    while reader.read_byte_record(&mut record)? {
        let name = record.get(0).unwrap_or_default();
        if here.is_none_or(|here| scenes[here].as_bytes() != name) {
            // Lines come in the manifest's order; scenes without any are passed over.
            let Some(skipped) = scenes[next..].iter().position(|scene| scene.as_bytes() == name) else {
                bail!("scene {} is not in shard.json, or out of its order", String::from_utf8_lossy(name))
            };
            spans[next + skipped].start = start;
            here = Some(next + skipped);
            next += skipped + 1;
        }
        start = reader.position().byte();
        if let Some(here) = here {
            spans[here].rows += 1;
            spans[here].end = start;
        }
    }
    Ok(SceneTable { path: path.to_owned(), spans })
}

/// Where the lines of a `timing.csv` are, and the seconds of each stage.
///
/// # Errors
/// If the columns are others than `header`, or a line does not fit.
pub fn timing_table(file: &mut Hashed, header: &[&str]) -> Result<(Span, Vec<(String, f64)>)> {
    let mut reader = reader(file, header)?;
    let mut span = Span { start: reader.position().byte(), ..Span::default() };
    let mut sums: Vec<(String, f64)> = Vec::new();
    let mut record = csv::StringRecord::new();
    while reader.read_record(&mut record)? {
        let TimingRow { stage, seconds, .. } = record.deserialize(None)?;
        span.rows += 1;
        match sums.iter_mut().find(|sum| sum.0 == stage) {
            Some(sum) => sum.1 += seconds,
            None => sums.push((stage, seconds)),
        }
    }
    span.end = reader.position().byte();
    Ok((span, sums))
}

fn reader<'a>(file: &'a mut Hashed, header: &[&str]) -> Result<csv::Reader<&'a mut Hashed>> {
    let mut reader = csv::ReaderBuilder::new().buffer_capacity(BUFFER_BYTES).from_reader(file);
    let columns = reader.headers()?;
    ensure!(*columns == *header, "its columns are {columns:?}, not {header:?}: another version wrote it");
    Ok(reader)
}
