//! The probabilities of finished bands, packed: a hidden file a band until the shard is published, then one file.
//!
//! As the journal says which bands are finished, these files only have to hold what it says.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use flate2::Compression;
use flate2::write::ZlibEncoder;

use super::ScanJob;
use super::pipeline::Findings;
use crate::records::{Band, PartRow};
use crate::table::{WholeFile, write_whole};

/// A shard's packed bands, one behind the other.
pub const PARTS: &str = "probabilities.bin";
/// Where in it is what: [`PartRow`].
pub const PART_TABLE: &str = "probabilities.csv";

/// Where a shard's packed bands are until it is published.
#[derive(Clone, Debug)]
pub struct Parts {
    folder: PathBuf,
}

impl Parts {
    /// In `folder`, which is made when the first one comes.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Packs and keeps a band's probabilities; gives their blake3.
    ///
    /// # Errors
    /// If they cannot be written; the message names the file.
    pub fn keep(&self, band: Band, probabilities: &[u8]) -> Result<String> {
        let mut packer = ZlibEncoder::new(Vec::new(), Compression::fast());
        packer.write_all(probabilities)?;
        let packed = packer.finish()?;
        fs::create_dir_all(&self.folder).with_context(|| format!("cannot make {}", self.folder.display()))?;
        write_whole(&self.path(band), &packed)?;
        Ok(blake3::hash(&packed).to_hex().to_string())
    }

    /// A band's packed probabilities.
    ///
    /// # Errors
    /// If they cannot be read, or are not what was kept.
    pub fn read(&self, band: Band, hash: &str) -> Result<Vec<u8>> {
        let path = self.path(band);
        let packed = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        ensure!(
            blake3::hash(&packed).to_hex().as_str() == hash,
            "{} is not what was written (its checksum differs): scan this shard again",
            path.display()
        );
        Ok(packed)
    }

    /// Writes the bands of the scenes that did not fail to [`PARTS`] in `folder`; gives its blake3 and what is where.
    ///
    /// # Errors
    /// If one is not what was kept, or the file cannot be written.
    pub fn publish(&self, folder: &Path, job: &ScanJob, found: &Findings) -> Result<(String, Vec<PartRow>)> {
        let mut file = WholeFile::create(&folder.join(PARTS))?;
        let (mut hasher, mut rows, mut start) = (blake3::Hasher::new(), Vec::new(), 0);
        for (&index, scene) in found.scenes.iter().filter(|(_, scene)| scene.failed.is_none()) {
            let mut parts: Vec<&(Band, String)> = scene.parts.iter().collect();
            parts.sort();
            for (band, hash) in parts {
                let packed = self.read(*band, hash)?;
                file.append(&packed)?;
                hasher.update(&packed);
                let (bytes, scene) = (packed.len() as u64, job.scenes.records[index].file_name.clone());
                rows.push(PartRow { scene, row0_px: band.row0, row1_px: band.row1, start, bytes });
                start += bytes;
            }
        }
        file.finish()?.publish()?;
        Ok((hasher.finalize().to_hex().to_string(), rows))
    }

    /// Removes them: the shard is published.
    ///
    /// # Errors
    /// If they cannot be removed.
    pub fn remove(&self) -> Result<()> {
        match fs::remove_dir_all(&self.folder) {
            Err(why) if why.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed.with_context(|| format!("cannot remove {}", self.folder.display())),
        }
    }

    fn path(&self, band: Band) -> PathBuf {
        self.folder.join(format!("{}-{}", band.scene, band.row0))
    }
}
