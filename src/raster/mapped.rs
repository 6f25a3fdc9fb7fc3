//! The map of a file: the only `unsafe` of the program.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use memmap2::{Advice, Mmap};

/// A file in memory, and what it was when it was opened.
#[derive(Debug)]
pub struct MappedFile {
    path: PathBuf,
    map: Mmap,
    identity: Identity,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
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
            let meta = file.metadata()?;
            ensure!(meta.is_file(), "not a file");
            ensure!(meta.len() > 0, "the file is empty");
            // SAFETY: the map is read only, so no reference into it is ever mutable. That nobody else
            // changes the file while it is mapped cannot be promised by this process: what was read
            // is published only after `unchanged` has held, and a file cut short ends the process
            // with SIGBUS before it publishes anything.
            let map = unsafe { Mmap::map(&file)? };
            Ok(Self { path: path.to_owned(), map, identity: Identity::of(&meta) })
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

    /// Asks the system to read `len` bytes from `start` ahead; a hint, so failure is not one.
    pub fn prefetch(&self, start: usize, len: usize) {
        let _ = self.map.advise_range(Advice::WillNeed, start, len);
    }

    /// Holds what the path names now against what was opened.
    ///
    /// # Errors
    /// If the file was replaced, cut, grown or rewritten since.
    pub fn unchanged(&self) -> Result<()> {
        let now = std::fs::metadata(&self.path)
            .with_context(|| format!("{} went away while it was read", self.path.display()))?;
        ensure!(
            Identity::of(&now) == self.identity,
            "{} was changed or replaced while it was read: scan it again",
            self.path.display()
        );
        Ok(())
    }
}

impl Identity {
    fn of(meta: &std::fs::Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            bytes: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
        }
    }
}
