//! What a TIFF's header says, checked once against the file, so that reading can trust it.

use std::fmt;

use anyhow::{Context, Result, bail, ensure};

use super::Source;
use super::ifd::Ifd;
use crate::geo::{GeoRef, GeoTags};
use crate::space::MOST_PX;

/// Largest chunk (strip or tile) that is decompressed in one piece, bytes.
pub const CHUNK_LIMIT_BYTES: u64 = 512 << 20;

/// How a scene's samples are stored.
#[derive(Clone, Debug, PartialEq)]
pub struct SceneHeader {
    /// Rows.
    pub rows: u64,
    /// Columns.
    pub cols: u64,
    /// 8 or 16.
    pub bits: u8,
    /// Whether chunks are tiles rather than strips.
    pub tiled: bool,
    /// Rows of a chunk.
    pub chunk_rows: u64,
    /// Columns of a chunk; of a strip, the scene's.
    pub chunk_cols: u64,
    /// How chunks are packed.
    pub compression: Compression,
    /// Whether rows are stored as differences (predictor 2).
    pub differences: bool,
    /// Whether samples are stored most significant byte first.
    pub big_endian: bool,
    /// Whether offsets are 64 bits wide.
    pub big_tiff: bool,
    /// Whether 0 is white: such samples are inverted, after the no-data value was compared.
    pub white_is_zero: bool,
    /// `GDAL_NODATA`: stored samples of this value are no data; 0 always is.
    pub nodata: Option<f64>,
    /// The tags that say how pixels lie on Mars, as they are.
    pub geo_tags: GeoTags,
    /// How pixels lie on Mars.
    pub georef: Option<GeoRef>,
    /// Why there is no `georef`, where the file has tags for one.
    pub georef_trouble: Option<String>,
    /// First byte and bytes of each chunk, in row order.
    pub chunks: Vec<(u64, u64)>,
}

/// How chunks are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// As they are: read straight from the map.
    None,
    /// LZW.
    Lzw,
    /// Deflate, under either of its two codes.
    Deflate,
    /// `PackBits`.
    PackBits,
    /// Zstandard.
    Zstd,
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "uncompressed",
            Self::Lzw => "LZW",
            Self::Deflate => "Deflate",
            Self::PackBits => "PackBits",
            Self::Zstd => "ZSTD",
        })
    }
}

impl SceneHeader {
    /// Reads and checks the header of a file's first picture.
    ///
    /// # Errors
    /// If it is no TIFF, is of a kind this program does not read (named), or claims what the file
    /// does not hold.
    pub fn read(file: &Source) -> Result<Self> {
        let ifd = Ifd::read(file)?;
        let bits = check_samples(&ifd)?;
        let compression = compression(&ifd)?;
        let predictor = ifd.integer(317, 1)?;
        ensure!(predictor <= 2, "predictor {predictor} is not read: only 1 (none) and 2 (differences)");
        let white_is_zero = ifd.integer(262, 1)? == 0;
        ensure!(
            !(white_is_zero && bits == 16),
            "WhiteIsZero with 16 bits is not read: what is white there is not known"
        );
        let rows = ifd.integer(257, 0)?;
        let cols = ifd.integer(256, 0)?;
        ensure!(
            [rows, cols].iter().all(|side| (1..=MOST_PX).contains(side)),
            "it claims {rows} rows, {cols} columns: both must be 1 to {MOST_PX}"
        );
        let tiled = ifd.has(322);
        let (chunk_rows, chunk_cols) = if tiled {
            (ifd.integer(323, 0)?, ifd.integer(322, 0)?)
        } else {
            (ifd.integer(278, rows)?.min(rows), cols)
        };
        ensure!(chunk_rows > 0 && chunk_cols > 0, "its chunks have {chunk_rows} rows, {chunk_cols} columns");
        let geo_tags = geo_tags(&ifd)?;
        let (georef, georef_trouble) = match GeoRef::from_tags(&geo_tags) {
            Ok(georef) => (georef, None),
            Err(why) => (None, Some(format!("{why:#}"))),
        };
        let nodata = ifd.text(42113)?.and_then(|text| text.parse().ok());
        let mut header = Self {
            rows,
            cols,
            bits,
            tiled,
            chunk_rows,
            chunk_cols,
            compression,
            differences: predictor == 2 && compression != Compression::None,
            big_endian: ifd.big_endian,
            big_tiff: ifd.big_tiff,
            white_is_zero,
            nodata,
            geo_tags,
            georef,
            georef_trouble,
            chunks: Vec::new(),
        };
        header.chunks = header.locate(&ifd, file.file_bytes())?;
        Ok(header)
    }

    /// Chunks side by side.
    pub fn chunks_across(&self) -> u64 {
        self.cols.div_ceil(self.chunk_cols)
    }

    /// Rows of the chunk row numbered `row`, half-open.
    pub fn chunk_row(&self, row: u64) -> (u64, u64) {
        (row * self.chunk_rows, ((row + 1) * self.chunk_rows).min(self.rows))
    }

    /// Bytes of the chunks in row `row` when unpacked: of a strip, only the rows the scene has.
    pub fn chunk_bytes(&self, row: u64) -> u64 {
        let (first, last) = self.chunk_row(row);
        let rows = if self.tiled { self.chunk_rows } else { last - first };
        rows * self.chunk_cols * u64::from(self.bits / 8)
    }

    /// `strips of 64 rows, Deflate, differences`, say.
    pub fn layout(&self) -> String {
        let chunks = if self.tiled {
            format!("tiles of {} x {}", self.chunk_rows, self.chunk_cols)
        } else {
            format!("strips of {} rows", self.chunk_rows)
        };
        let kind = if self.big_tiff { "BigTIFF" } else { "TIFF" };
        let order = if self.big_endian { "big-endian" } else { "little-endian" };
        let differences = if self.differences { ", predictor 2" } else { "" };
        format!("{kind}, {chunks}, {}{differences}, {order}", self.compression)
    }

    /// Where the chunks are; each within the file and, unpacked, within the limits.
    fn locate(&self, ifd: &Ifd, file_bytes: u64) -> Result<Vec<(u64, u64)>> {
        let (name, offsets, counts) = if self.tiled { ("tile", 324, 325) } else { ("strip", 273, 279) };
        let down = self.rows.div_ceil(self.chunk_rows);
        let wanted = down.checked_mul(self.chunks_across()).context("too many chunks")?;
        let (starts, lengths) = (ifd.integers(offsets)?, ifd.integers(counts)?);
        ensure!(
            starts.len() as u64 == wanted && lengths.len() as u64 == wanted,
            "{wanted} {name}s are needed for {} rows and {} columns, but it lists {} offsets and {} lengths",
            self.rows,
            self.cols,
            starts.len(),
            lengths.len()
        );
        let packed = self.compression != Compression::None;
        ensure!(
            !packed || self.chunk_bytes(0) <= CHUNK_LIMIT_BYTES,
            "its {name}s are {} MiB each when unpacked, the limit is {} MiB: rewrite it, for example with \
             gdal_translate -co TILED=YES -co COMPRESS=DEFLATE",
            self.chunk_bytes(0) >> 20,
            CHUNK_LIMIT_BYTES >> 20
        );
        for (k, (&start, &length)) in starts.iter().zip(&lengths).enumerate() {
            ensure!(
                start.checked_add(length).is_some_and(|end| end <= file_bytes),
                "{name} {k} is said to be {length} bytes at {start}, beyond the file's {file_bytes} bytes: \
                 was it cut short?"
            );
            let needed = self.chunk_bytes(k as u64 / self.chunks_across());
            ensure!(
                packed || length >= needed,
                "{name} {k} has {length} bytes, but its pixels need {needed}"
            );
        }
        Ok(starts.into_iter().zip(lengths).collect())
    }
}

/// Bits a sample, once everything about samples that is not supported is refused by name.
fn check_samples(ifd: &Ifd) -> Result<u8> {
    let samples = ifd.integer(277, 1)?;
    ensure!(samples == 1, "{samples} samples a pixel are not read: a scene is one band");
    match ifd.integer(262, 1)? {
        0 | 1 => {}
        3 => bail!("a palette picture is not read: grey levels are needed (gdal_translate -expand gray)"),
        other => bail!("photometric interpretation {other} is not read: only grey levels (0, 1)"),
    }
    let order = ifd.integer(266, 1)?;
    ensure!(order == 1, "FillOrder {order} is not read: only 1, high bits first");
    match ifd.integer(339, 1)? {
        1 | 4 => {}
        2 => bail!("signed samples are not read: 8 or 16 bits unsigned are"),
        3 => bail!(
            "floating point samples are not read: scale them to 8 or 16 bits (gdal_translate -ot Byte -scale)"
        ),
        other => bail!("sample format {other} is not read: 8 or 16 bits unsigned are"),
    }
    match ifd.integer(258, 1)? {
        8 => Ok(8),
        16 => Ok(16),
        other => bail!("{other} bits a sample are not read: 8 or 16 bits unsigned are"),
    }
}

fn compression(ifd: &Ifd) -> Result<Compression> {
    Ok(match ifd.integer(259, 1)? {
        1 => Compression::None,
        5 => Compression::Lzw,
        8 | 32946 => Compression::Deflate,
        32773 => Compression::PackBits,
        50000 => Compression::Zstd,
        other => {
            let name = match other {
                2..=4 => "fax",
                6 | 7 => "JPEG",
                34712 | 33003 | 33005 => "JPEG 2000",
                34887 => "LERC",
                34925 => "LZMA",
                50001 => "WebP",
                _ => "unknown",
            };
            bail!("compression {other} ({name}) is not read: none, LZW, Deflate, PackBits and ZSTD are")
        }
    })
}

fn geo_tags(ifd: &Ifd) -> Result<GeoTags> {
    Ok(GeoTags {
        pixel_scale: ifd.doubles(33550)?,
        tiepoints: ifd.doubles(33922)?,
        transformation: ifd.doubles(34264)?,
        directory: ifd.integers(34735)?,
        doubles: ifd.doubles(34736)?,
        names: ifd.text(34737)?.unwrap_or_default(),
    })
}
