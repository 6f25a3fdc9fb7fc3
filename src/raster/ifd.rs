//! The first directory of a TIFF, classic or Big, either byte order.
//!
//! Every offset and count in it is a claim, held against the file's length before it is used.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

use super::Source;

/// The tags of a TIFF's first picture.
#[derive(Debug)]
pub struct Ifd<'a> {
    file: &'a Source,
    /// Whether numbers are stored most significant byte first.
    pub big_endian: bool,
    /// Whether offsets are 64 bits wide.
    pub big_tiff: bool,
    entries: BTreeMap<u16, Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    kind: u16,
    count: u64,
    start: u64,
}

impl<'a> Ifd<'a> {
    /// Reads the header and the first directory.
    ///
    /// # Errors
    /// If this is no TIFF, or a claim in it goes beyond the file.
    pub fn read(file: &'a Source) -> Result<Self> {
        let big_endian = match file.bytes(0, 2).as_deref() {
            Ok(b"II") => false,
            Ok(b"MM") => true,
            _ => bail!("not a TIFF: it begins with neither II nor MM"),
        };
        let mut ifd = Self { file, big_endian, big_tiff: false, entries: BTreeMap::new() };
        let directory = match ifd.number(2, 2)? {
            42 => ifd.number(4, 4)?,
            43 => {
                ifd.big_tiff = true;
                ensure!(ifd.number(4, 2)? == 8, "a BigTIFF with offsets that are not 8 bytes");
                ifd.number(8, 8)?
            }
            other => bail!("not a TIFF: version {other}, must be 42 or 43 (BigTIFF)"),
        };
        ifd.read_entries(directory).context("the directory of the first picture")?;
        Ok(ifd)
    }

    fn read_entries(&mut self, directory: u64) -> Result<()> {
        // Widths of the directory's count, of an entry, and of an entry's value.
        let (count_len, entry_len, value_len) = if self.big_tiff { (8, 20, 8) } else { (2, 12, 4) };
        let file_bytes = self.file.file_bytes();
        let count = self.number(directory, count_len)?;
        ensure!(count <= file_bytes / entry_len, "it claims {count} tags, more than the file has room for");
        for k in 0..count {
            let at = directory + count_len + k * entry_len;
            let entry = self.file.bytes(at, entry_len)?;
            let part = |from: u64, len: u64| self.value(&entry[from as usize..(from + len) as usize]);
            let (tag, kind, count) = (part(0, 2) as u16, part(2, 2) as u16, part(4, value_len));
            let Some(width) = width(kind) else { continue };
            let total = count
                .checked_mul(width)
                .filter(|&total| total <= file_bytes)
                .with_context(|| format!("tag {tag} claims {count} values, more than the file holds"))?;
            let value_at = 4 + value_len;
            let start = if total <= value_len { at + value_at } else { part(value_at, value_len) };
            ensure!(
                start.checked_add(total).is_some_and(|end| end <= file_bytes),
                "the values of tag {tag} lie at {start}, beyond the file's {file_bytes} bytes"
            );
            self.entries.insert(tag, Entry { kind, count, start });
        }
        Ok(())
    }

    /// Whether the tag is there.
    pub fn has(&self, tag: u16) -> bool {
        self.entries.contains_key(&tag)
    }

    /// All values of an integer tag; none if it is absent.
    ///
    /// # Errors
    /// If the tag is not of an unsigned integer type.
    pub fn integers(&self, tag: u16) -> Result<Vec<u64>> {
        let Some(entry) = self.entries.get(&tag) else { return Ok(Vec::new()) };
        ensure!(
            matches!(entry.kind, 1 | 3 | 4 | 13 | 16 | 18),
            "tag {tag} is of type {}, must be an unsigned integer",
            entry.kind
        );
        let width = width(entry.kind).unwrap_or(1);
        let bytes = self.file.bytes(entry.start, entry.count * width)?;
        Ok(bytes.chunks_exact(width as usize).map(|bytes| self.value(bytes)).collect())
    }

    /// The one value of an integer tag, or `default`.
    ///
    /// # Errors
    /// If the tag is not of an unsigned integer type, or empty.
    pub fn integer(&self, tag: u16, default: u64) -> Result<u64> {
        if !self.has(tag) {
            return Ok(default);
        }
        self.integers(tag)?.first().copied().with_context(|| format!("tag {tag} has no value"))
    }

    /// All values of a tag of doubles; none if it is absent or of another type.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn doubles(&self, tag: u16) -> Result<Vec<f64>> {
        let Some(entry) = self.entries.get(&tag).filter(|entry| entry.kind == 12) else {
            return Ok(Vec::new());
        };
        let bytes = self.file.bytes(entry.start, entry.count * 8)?;
        Ok(bytes.chunks_exact(8).map(|bytes| f64::from_bits(self.value(bytes))).collect())
    }

    /// A text tag without its closing zero, if it is there.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn text(&self, tag: u16) -> Result<Option<String>> {
        let Some(entry) = self.entries.get(&tag).filter(|entry| entry.kind == 2) else { return Ok(None) };
        let bytes = self.file.bytes(entry.start, entry.count)?;
        Ok(Some(String::from_utf8_lossy(&bytes).trim_end_matches('\0').trim().to_owned()))
    }

    fn number(&self, at: u64, width: u64) -> Result<u64> {
        Ok(self.value(&self.file.bytes(at, width)?))
    }

    fn value(&self, bytes: &[u8]) -> u64 {
        let fold = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
        if self.big_endian { bytes.iter().fold(0, fold) } else { bytes.iter().rev().fold(0, fold) }
    }
}

/// Bytes of one value of a TIFF field type; `None` for types this format does not have.
fn width(kind: u16) -> Option<u64> {
    match kind {
        1 | 2 | 6 | 7 => Some(1),
        3 | 8 => Some(2),
        4 | 9 | 11 | 13 => Some(4),
        5 | 10 | 12 | 16..=18 => Some(8),
        _ => None,
    }
}
