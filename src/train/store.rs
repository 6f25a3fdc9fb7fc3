//! A data set's crops in one file, mapped when read: no scene is opened for them.
//!
//! Little-endian: magic, version, side, count, blake3 of the crop list; then each crop's pixels and mask,
//! `[side, side]` each; at the end blake3 of all before it.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::raster::MappedFile;
use crate::table::write_whole_with;
use crate::unet::CropBatch;

const MAGIC: [u8; 8] = *b"MARSCROP";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 56;
const HASH_BYTES: usize = 32;

/// The stored crops of a data set.
#[derive(Debug)]
pub struct CropStore {
    file: MappedFile,
    side_px: usize,
    count: u64,
}

impl CropStore {
    /// Writes `count` crops of `side_px`, each appended to an empty batch by `crop`, in the list's order.
    ///
    /// # Errors
    /// If one cannot be read, or the file cannot be written.
    pub fn write(
        path: &Path,
        list_id: &str,
        side_px: usize,
        count: u64,
        mut crop: impl FnMut(u64, &mut CropBatch) -> Result<()>,
    ) -> Result<()> {
        let mut header = MAGIC.to_vec();
        header.extend(VERSION.to_le_bytes());
        header.extend(u32::try_from(side_px)?.to_le_bytes());
        header.extend(count.to_le_bytes());
        header.extend(blake3::Hash::from_hex(list_id)?.as_bytes());
        write_whole_with(path, |out| {
            let mut hasher = blake3::Hasher::new();
            let mut put = |bytes: &[u8]| -> Result<()> {
                hasher.update(bytes);
                Ok(out.write_all(bytes)?)
            };
            put(&header)?;
            let mut batch = CropBatch { side_px, pixels: Vec::new(), mask: Vec::new() };
            for number in 0..count {
                batch.pixels.clear();
                batch.mask.clear();
                crop(number, &mut batch)?;
                put(&batch.pixels)?;
                put(&batch.mask)?;
            }
            let hash = hasher.finalize();
            Ok(out.write_all(hash.as_bytes())?)
        })
    }

    /// Maps a store and holds it against its length, its checksum and the list that it belongs to.
    ///
    /// # Errors
    /// If it is damaged, of another version, or of another list than `list_id`.
    pub fn open(path: &Path, list_id: &str, side_px: usize, count: u64) -> Result<Self> {
        let file = MappedFile::open(path)?;
        let checked = || -> Result<()> {
            let bytes = file.bytes();
            ensure!(bytes.len() >= HEADER_BYTES && bytes[..8] == MAGIC, "it is no store of crops");
            let number = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
            ensure!(number(8) == VERSION, "its version is {}, this program reads {VERSION}", number(8));
            let held = u64::from_le_bytes(std::array::from_fn(|i| bytes[16 + i]));
            let whole = held
                .checked_mul(2 * u64::from(number(12)).pow(2))
                .and_then(|bytes| bytes.checked_add((HEADER_BYTES + HASH_BYTES) as u64));
            ensure!(
                whole == Some(bytes.len() as u64),
                "{held} crops of {} px do not make its {} bytes",
                number(12),
                bytes.len()
            );
            let of_list = blake3::Hash::from_hex(list_id)?;
            ensure!(
                bytes[24..HEADER_BYTES] == *of_list.as_bytes()
                    && (u64::from(number(12)), held) == (side_px as u64, count),
                "it belongs to another list of crops"
            );
            let (body, hash) = bytes.split_at(bytes.len() - HASH_BYTES);
            ensure!(blake3::hash(body).as_bytes() == hash, "its checksum differs");
            Ok(())
        };
        checked().with_context(|| {
            format!("{} cannot be used: remove it, or prepare the data again with --store", path.display())
        })?;
        Ok(Self { file, side_px, count })
    }

    /// Appends the crop numbered `number`.
    ///
    /// # Errors
    /// If there is no such crop.
    pub fn append(&self, number: u64, batch: &mut CropBatch) -> Result<()> {
        ensure!(number < self.count, "crop {number} of {}", self.count);
        let crop_px = self.side_px * self.side_px;
        let at = HEADER_BYTES + number as usize * 2 * crop_px;
        let (pixels, mask) = self.file.bytes()[at..at + 2 * crop_px].split_at(crop_px);
        batch.pixels.extend_from_slice(pixels);
        batch.mask.extend_from_slice(mask);
        self.file.whole()
    }
}
