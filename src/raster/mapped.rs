//! The map of a file, and what a file was when it was opened.

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use memmap2::{Advice, Mmap};
use serde::{Deserialize, Serialize};

use super::bus::Guard;

/// A file in memory, and what it was when it was opened.
#[derive(Debug)]
pub struct MappedFile {
    path: PathBuf,
    // Before the map, so that it is dropped first.
    guard: Guard,
    map: Mmap,
    identity: Identity,
}

/// What tells one state of a file from another, on whatever machine looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStamp {
    /// Its number on its file system.
    pub inode: u64,
    /// Its length.
    pub bytes: u64,
    /// When it was last written: seconds and nanoseconds since 1970.
    pub modified: (i64, i64),
}

/// A file's stamp, and its file system as this machine numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    device: u64,
    /// The rest.
    pub stamp: FileStamp,
}

impl MappedFile {
    /// Maps `path` for reading.
    ///
    /// # Errors
    /// If it cannot be opened or mapped.
    #[allow(unsafe_code)]
    pub fn open(path: &Path) -> Result<Self> {
        let open = || -> Result<Self> {
            let file = File::open(path)?;
            let identity = Identity::of_file(&file)?;
            // SAFETY: the map is read only, so no reference into it is ever mutable. That nobody else
            // changes the file while it is mapped cannot be promised by this process: what was read
            // is published only after `Source::unchanged` has held, and where a file is cut short the guard
            // gives zeros and remembers it.
            let map = unsafe { Mmap::map(&file)? };
            Ok(Self { path: path.to_owned(), guard: Guard::new(&map), map, identity })
        };
        open().with_context(|| format!("cannot read {}", path.display()))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// What it was when it was opened.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// # Errors
    /// If a part of it could not be read, so that zeros were read there.
    pub fn whole(&self) -> Result<()> {
        ensure!(
            !self.guard.faulted(),
            "{} could not be read where it is mapped: it was cut short, or its disk fails",
            self.path.display()
        );
        Ok(())
    }

    /// Asks the system to read `len` bytes from `start` ahead; a hint, so failure is not one.
    pub fn prefetch(&self, start: usize, len: usize) {
        let _ = self.map.advise_range(Advice::WillNeed, start, len);
    }
}

impl Identity {
    /// Of an open file.
    ///
    /// # Errors
    /// If it is no file, or empty.
    pub fn of_file(file: &File) -> Result<Self> {
        let meta = file.metadata()?;
        ensure!(meta.is_file(), "not a file");
        ensure!(meta.len() > 0, "the file is empty");
        Ok(Self::of(&meta))
    }

    /// Holds what `path` names now against this.
    ///
    /// # Errors
    /// If the file was replaced, cut, grown or rewritten since.
    pub fn check(&self, path: &Path) -> Result<()> {
        let now = std::fs::metadata(path)
            .with_context(|| format!("{} went away while it was read", path.display()))?;
        ensure!(
            Self::of(&now) == *self,
            "{} was changed or replaced while it was read: scan it again",
            path.display()
        );
        Ok(())
    }

    fn of(meta: &Metadata) -> Self {
        let modified = (meta.mtime(), meta.mtime_nsec());
        Self { device: meta.dev(), stamp: FileStamp { inode: meta.ino(), bytes: meta.len(), modified } }
    }
}

/// Whether `path` lies on a file system that a network or another process serves; `false` where that is not known.
pub fn on_network(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|about| NETWORK.contains(&(about.f_type as u32)))
}

/// `f_type` of NFS, Lustre, GPFS, SMB (three of them), Ceph, BeeGFS, PanFS, AFS, 9P and FUSE: `statfs(2)` and the
/// file systems' own headers.
const NETWORK: [u32; 12] = [
    0x6969,
    0x0BD0_0BD0,
    0x4750_4653,
    0x517B,
    0xFF53_4D42,
    0xFE53_4D42,
    0x00C3_6400,
    0x1983_0326,
    0xAAD7_AAEA,
    0x5346_414F,
    0x0102_1997,
    0x6573_5546,
];
