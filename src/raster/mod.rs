//! Scenes as files: a header checked once, then rows on demand.

mod bus;
mod deflate;
mod directory;
pub mod header;
mod ifd;
mod mapped;
mod samples;
mod source;
pub mod tiles;
pub mod writer;

use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, anyhow, ensure};
use rayon::prelude::*;
use tiff::decoder::{Decoder, DecodingResult, Limits};

use crate::config::InputSettings;
use header::{CHUNK_LIMIT_BYTES, Compression, SceneHeader};
use samples::ToInput;

use source::Cursor;

pub use mapped::{FileStamp, MappedFile};
pub use source::{Io, Source};

type ChunkDecoder<'a> = Decoder<Cursor<'a>>;

/// A scene's file, open, its header checked.
#[derive(Debug)]
pub struct MappedScene {
    file: Source,
    header: SceneHeader,
    to_input: ToInput,
    /// The chunk unpacked last, where chunks are so tall that the next rows will want it again.
    tall: Mutex<Option<(u64, Vec<u8>)>>,
}

/// Rows of a scene as network input: a byte a pixel, 0 = no data.
#[derive(Debug)]
pub struct Rows {
    scene: Arc<MappedScene>,
    range: Range<u64>,
    /// `None`: the file holds just these bytes, and is mapped.
    decoded: Option<Vec<u8>>,
}

/// Most pixels of the rows asked for at a time, so that a header's claim never takes all memory.
const ROWS_LIMIT_PX: u64 = 512 << 20;
/// Pixels up to which a plain copy is faster than handing it to other threads.
const SMALL_PX: usize = 1 << 18;
/// Looks at a file that tell it from others, and bytes of each.
const LOOKS: u64 = 32;
const LOOK_BYTES: u64 = 4096;
/// Chunks of at least this many rows are kept for the next call.
const TALL_ROWS: u64 = 512;

impl MappedScene {
    /// Opens a scene; `input` says how 16-bit samples become network input.
    ///
    /// # Errors
    /// If the file cannot be read, or is not a scene this program reads; the message says why.
    pub fn open(path: &Path, input: InputSettings) -> Result<Arc<Self>> {
        Self::open_by(path, input, Io::Auto)
    }

    /// As [`Self::open`], read as `io` says.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_by(path: &Path, input: InputSettings, io: Io) -> Result<Arc<Self>> {
        let file = Source::open(path, io)?;
        let header = SceneHeader::read(&file).with_context(|| path.display().to_string())?;
        let to_input = ToInput::new(&header, input);
        Ok(Arc::new(Self { file, header, to_input, tall: Mutex::new(None) }))
    }

    /// What the header says.
    pub fn header(&self) -> &SceneHeader {
        &self.header
    }

    /// What the file was when it was opened.
    pub fn stamp(&self) -> FileStamp {
        self.file.stamp()
    }

    /// blake3 of the file's length, of its first and last bytes and of some between: what tells two images of one name apart
    /// without reading them.
    ///
    /// # Errors
    /// If it cannot be read, or changed meanwhile.
    pub fn look(&self) -> Result<String> {
        let all = self.file.file_bytes();
        let len = LOOK_BYTES.min(all);
        let mut hasher = blake3::Hasher::new();
        hasher.update(&all.to_le_bytes());
        for k in 0..LOOKS {
            let start = u128::from(all - len) * u128::from(k) / u128::from(LOOKS - 1);
            hasher.update(&self.file.bytes(start as u64, len)?);
        }
        self.unchanged()?;
        Ok(hasher.finalize().to_hex().to_string())
    }

    /// # Errors
    /// If the file is no longer the one that was opened: what was read is then not to be published.
    pub fn unchanged(&self) -> Result<()> {
        self.file.unchanged()
    }

    /// The rows of `range`: straight from the map where they are stored as the network takes them,
    /// else unpacked.
    ///
    /// # Errors
    /// If `range` is not within the scene or too large, or a chunk cannot be unpacked; the message names it.
    pub fn rows(self: &Arc<Self>, range: Range<u64>) -> Result<Rows> {
        let cols = self.header.cols;
        ensure!(
            range.start <= range.end && range.end <= self.header.rows,
            "rows {range:?} of a scene of {} rows",
            self.header.rows
        );
        ensure!(
            (range.end - range.start).checked_mul(cols).is_some_and(|px| px <= ROWS_LIMIT_PX),
            "{} rows of {cols} columns at a time are more than {} Mpx: take fewer with --band-rows",
            range.end - range.start,
            ROWS_LIMIT_PX >> 20
        );
        let decoded = if self.is_direct() {
            for strip in self.chunk_rows_of(&range) {
                let (start, length) = self.header.chunks[strip as usize];
                self.file.prefetch(start, length);
            }
            None
        } else {
            Some(
                self.decode(&range, 0..cols)
                    .with_context(|| format!("cannot unpack {}", self.file.path().display()))?,
            )
        };
        Ok(Rows { scene: Arc::clone(self), range, decoded })
    }

    /// Pixels that are not no-data; every one is read.
    ///
    /// # Errors
    /// As [`Self::rows`], and if the file changed meanwhile.
    pub fn valid_px(self: &Arc<Self>) -> Result<u64> {
        const BAND_ROWS: usize = 1024;
        let rows = self.header.rows;
        let mut valid_px = 0;
        for row0 in (0..rows).step_by(BAND_ROWS) {
            let band = self.rows(row0..(row0 + BAND_ROWS as u64).min(rows))?;
            valid_px += band.valid_px(band.range());
            band.unchanged()?;
        }
        Ok(valid_px)
    }

    /// The pixels of `rows` and `cols`, row by row: of a packed scene, only the chunks that hold them are
    /// unpacked.
    ///
    /// # Errors
    /// As [`Self::rows`].
    pub fn window(&self, rows: Range<u64>, cols: Range<u64>) -> Result<Vec<u8>> {
        let header = &self.header;
        ensure!(
            rows.start <= rows.end
                && rows.end <= header.rows
                && cols.start <= cols.end
                && cols.end <= header.cols,
            "rows {rows:?} and columns {cols:?} of a scene of {} x {}",
            header.rows,
            header.cols
        );
        self.decode(&rows, cols).with_context(|| format!("cannot unpack {}", self.file.path().display()))
    }

    /// Whether rows are read from the map without a copy.
    pub fn is_direct(&self) -> bool {
        let header = &self.header;
        let as_stored =
            header.compression == Compression::None && !header.tiled && self.to_input.is_identity();
        as_stored && self.file.mapped().is_some()
    }

    fn chunk_rows_of(&self, range: &Range<u64>) -> Range<u64> {
        if range.is_empty() {
            return 0..0;
        }
        range.start / self.header.chunk_rows..range.end.div_ceil(self.header.chunk_rows)
    }

    fn decode(&self, range: &Range<u64>, cols: Range<u64>) -> Result<Vec<u8>> {
        let wide = (cols.end - cols.start) as usize;
        let mut out = vec![0; (range.end - range.start) as usize * wide];
        let small = out.len() <= SMALL_PX;
        // Each row of chunks owns the rows of `out` that it covers.
        let mut pieces = Vec::new();
        let mut rest = &mut out[..];
        for chunk_row in self.chunk_rows_of(range) {
            let (first, last) = self.header.chunk_row(chunk_row);
            let rows = first.max(range.start)..last.min(range.end);
            let (mine, others) = rest.split_at_mut((rows.end - rows.start) as usize * wide);
            rest = others;
            pieces.push((chunk_row, rows, mine));
        }
        let fill = |decoder: &mut Option<_>, (chunk_row, rows, out): (u64, Range<u64>, &mut [u8])| {
            self.decode_chunk_row(decoder, chunk_row, &rows, &cols, out)
        };
        if small && self.header.compression == Compression::None {
            pieces.into_iter().try_for_each(|piece| fill(&mut None, piece))?;
        } else {
            pieces.into_par_iter().try_for_each_init(|| None, fill)?;
        }
        self.file.whole()?;
        Ok(out)
    }

    /// Fills `out`, `[rows, cols]`, from those of the chunks side by side in `chunk_row` that hold `cols`.
    fn decode_chunk_row<'a>(
        &'a self,
        decoder: &mut Option<ChunkDecoder<'a>>,
        chunk_row: u64,
        rows: &Range<u64>,
        cols: &Range<u64>,
        out: &mut [u8],
    ) -> Result<()> {
        let header = &self.header;
        let (all, wide) = (header.cols, header.chunk_cols);
        let out_cols = (cols.end - cols.start) as usize;
        let skipped = (rows.start - header.chunk_row(chunk_row).0) as usize;
        let sample_bytes = usize::from(header.bits / 8);
        for across in cols.start / wide..cols.end.div_ceil(wide) {
            let index = chunk_row * header.chunks_across() + across;
            let (col0, col1) = (across * wide, ((across + 1) * wide).min(all));
            let width = (col1 - col0) as usize;
            let (first, last) = (col0.max(cols.start), col1.min(cols.end));
            let lines = (rows.end - rows.start) as usize;
            let to = (first - cols.start) as usize;
            let count = (last - first) as usize;
            let mut place = |samples: &[u8], stride: usize| {
                for line in 0..lines {
                    let from = (skipped + line) * stride + (first - col0) as usize * sample_bytes;
                    let to = line * out_cols + to;
                    self.to_input.convert(&samples[from..], &mut out[to..to + count]);
                }
            };
            if header.compression == Compression::None {
                let stride = wide as usize * sample_bytes;
                for (line, out) in out.chunks_exact_mut(out_cols).enumerate() {
                    let from = (skipped + line) * stride + (first - col0) as usize * sample_bytes;
                    let samples = self.stored(index, from as u64, (count * sample_bytes) as u64)?;
                    self.to_input.convert(&samples, &mut out[to..to + count]);
                }
            } else if header.chunk_rows >= TALL_ROWS {
                let mut tall = self.tall.lock().map_err(|_| anyhow!("another thread failed"))?;
                if tall.as_ref().is_none_or(|(kept, _)| *kept != index) {
                    *tall = Some((index, self.unpack(decoder, index)?));
                }
                if let Some((_, samples)) = tall.as_ref() {
                    place(samples, width * sample_bytes);
                }
            } else {
                place(&self.unpack(decoder, index)?, width * sample_bytes);
            }
        }
        Ok(())
    }

    /// `len` bytes of a chunk from its byte `from`, as they stand in the file.
    fn stored(&self, index: u64, from: u64, len: u64) -> Result<Cow<'_, [u8]>> {
        let (start, length) = self.header.chunks[index as usize];
        ensure!(from + len <= length, "chunk {index} has {length} bytes, not {from} and {len} more");
        self.file.bytes(start + from, len)
    }

    /// A packed chunk's samples, in this machine's byte order, clipped to the scene's columns and rows.
    fn unpack<'a>(&'a self, decoder: &mut Option<ChunkDecoder<'a>>, index: u64) -> Result<Vec<u8>> {
        let header = &self.header;
        let name = if header.tiled { "tile" } else { "strip" };
        let mut read = || -> Result<Vec<u8>> {
            if header.compression == Compression::Deflate {
                let (start, bytes) = header.chunks[usize::try_from(index)?];
                return deflate::inflate(&self.file.bytes(start, bytes)?, header, index);
            }
            let decoder = match decoder {
                Some(decoder) => decoder,
                None => decoder.insert(self.decoder()?),
            };
            let mut samples = match decoder.read_chunk(u32::try_from(index)?)? {
                DecodingResult::U8(samples) => samples,
                DecodingResult::U16(samples) => samples.iter().flat_map(|v| v.to_ne_bytes()).collect(),
                _ => return Err(anyhow!("its samples are not 8 or 16 bits unsigned")),
            };
            if header.white_is_zero {
                // The library inverts such pictures; this program's own rule is applied later, to both paths.
                for v in &mut samples {
                    *v = !*v;
                }
            }
            let (row, across) = (index / header.chunks_across(), index % header.chunks_across());
            let (first, last) = header.chunk_row(row);
            let width = header.chunk_cols.min(header.cols - across * header.chunk_cols);
            let needed = (last - first) * width * u64::from(header.bits / 8);
            ensure!(
                samples.len() as u64 == needed,
                "it holds {} bytes, but its pixels need {needed}",
                samples.len()
            );
            Ok(samples)
        };
        read().with_context(|| format!("{name} {index}"))
    }

    fn decoder(&self) -> Result<ChunkDecoder<'_>> {
        let mut limits = Limits::default();
        limits.decoding_buffer_size = CHUNK_LIMIT_BYTES as usize;
        limits.intermediate_buffer_size = CHUNK_LIMIT_BYTES as usize;
        // The lists of chunks have been held against the file's length already.
        limits.ifd_value_size = limits.ifd_value_size.max(self.header.chunks.len() * 16);
        Ok(Decoder::new(Cursor::new(&self.file))?.with_limits(limits))
    }
}

impl Rows {
    /// One row of the scene, numbered as in the scene.
    ///
    /// # Panics
    /// If `row` is not among the rows asked for.
    pub fn row(&self, row: u64) -> &[u8] {
        assert!(self.range.contains(&row), "row {row} of rows {:?}", self.range);
        let header = &self.scene.header;
        let cols = header.cols as usize;
        if let Some(decoded) = &self.decoded {
            return &decoded[(row - self.range.start) as usize * cols..][..cols];
        }
        let strip = row / header.chunk_rows;
        let (start, _) = header.chunks[strip as usize];
        let from = (start + (row - strip * header.chunk_rows) * header.cols) as usize;
        &self.scene.file.mapped().unwrap_or_default()[from..from + cols]
    }

    /// Pixels in `rows` of the scene that are not no-data.
    ///
    /// # Panics
    /// If they are not among the rows asked for.
    pub fn valid_px(&self, rows: Range<u64>) -> u64 {
        // In blocks short enough to count in bytes.
        let block = |block: &[u8]| block.iter().fold(0u8, |count, &v| count + u8::from(v != 0));
        rows.flat_map(|row| self.row(row).chunks(255)).map(|chunk| u64::from(block(chunk))).sum()
    }

    /// # Errors
    /// If the file is no longer the one that was opened; rows that are read from the map are what they were only
    /// where this holds after they were read.
    pub fn unchanged(&self) -> Result<()> {
        self.scene.unchanged()
    }

    /// The rows these are.
    pub fn range(&self) -> Range<u64> {
        self.range.clone()
    }
}
