//! A scene's bytes, from a map or by reads: which is better depends on the file system.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result};

use super::FileStamp;
use super::mapped::{Identity, MappedFile, on_network};
use crate::fault::WrongUsage;

/// How files are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Io {
    /// Mapped, but read on network file systems: a map there sees a server's failure as a signal, and its pages
    /// come one by one.
    #[default]
    Auto,
    /// Mapped.
    Mmap,
    /// Read piece by piece.
    Pread,
}

impl FromStr for Io {
    type Err = WrongUsage;

    fn from_str(text: &str) -> Result<Self, WrongUsage> {
        match text {
            "auto" => Ok(Self::Auto),
            "mmap" => Ok(Self::Mmap),
            "pread" => Ok(Self::Pread),
            other => Err(WrongUsage(format!("{other}: must be auto, mmap or pread"))),
        }
    }
}

/// An open file.
#[derive(Debug)]
pub enum Source {
    /// All of it in memory, as the system brings it.
    Mapped(MappedFile),
    /// To be read.
    Opened(OpenedFile),
}

/// A file that is read piece by piece.
#[derive(Debug)]
pub struct OpenedFile {
    path: PathBuf,
    file: File,
    identity: Identity,
}

impl Source {
    /// Opens `path`.
    ///
    /// # Errors
    /// If it cannot be opened, is no file, or is empty.
    pub fn open(path: &Path, io: Io) -> Result<Self> {
        if io == Io::Mmap || io == Io::Auto && !on_network(path) {
            return Ok(Self::Mapped(MappedFile::open(path)?));
        }
        let open = || -> Result<Self> {
            let file = File::open(path)?;
            let identity = Identity::of_file(&file)?;
            Ok(Self::Opened(OpenedFile { path: path.to_owned(), file, identity }))
        };
        open().with_context(|| format!("cannot read {}", path.display()))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        match self {
            Self::Mapped(file) => file.path(),
            Self::Opened(file) => &file.path,
        }
    }

    /// Bytes it had when it was opened.
    pub fn file_bytes(&self) -> u64 {
        self.identity().stamp.bytes
    }

    /// What it was when it was opened.
    pub fn stamp(&self) -> FileStamp {
        self.identity().stamp
    }

    /// `len` bytes from `start`.
    ///
    /// # Errors
    /// If they are not all there, or cannot be read.
    pub fn bytes(&self, start: u64, len: u64) -> Result<Cow<'_, [u8]>> {
        let end = start.checked_add(len).filter(|end| *end <= self.file_bytes());
        let end = end.with_context(|| {
            format!("the file ends at {} bytes, before byte {start} + {len}", self.file_bytes())
        })?;
        match self {
            Self::Mapped(file) => Ok(Cow::Borrowed(&file.bytes()[start as usize..end as usize])),
            Self::Opened(file) => {
                let mut bytes = vec![0; len as usize];
                file.file
                    .read_exact_at(&mut bytes, start)
                    .with_context(|| format!("{len} bytes at {start}"))?;
                Ok(Cow::Owned(bytes))
            }
        }
    }

    /// All its bytes, if they are in memory.
    pub fn mapped(&self) -> Option<&[u8]> {
        match self {
            Self::Mapped(file) => Some(file.bytes()),
            Self::Opened(_) => None,
        }
    }

    /// Tells the system what will be wanted soon; a hint, so failure is not one.
    pub fn prefetch(&self, start: u64, len: u64) {
        if let Self::Mapped(file) = self {
            file.prefetch(start as usize, len as usize);
        }
    }

    /// Holds what the path names now against what was opened.
    ///
    /// # Errors
    /// If the file was replaced, cut, grown or rewritten since, or a part of its map could not be read.
    pub fn unchanged(&self) -> Result<()> {
        self.whole()?;
        self.identity().check(self.path())
    }

    /// # Errors
    /// If a part of its map could not be read, so that zeros were read there.
    pub fn whole(&self) -> Result<()> {
        match self {
            Self::Mapped(file) => file.whole(),
            Self::Opened(_) => Ok(()),
        }
    }

    fn identity(&self) -> &Identity {
        match self {
            Self::Mapped(file) => file.identity(),
            Self::Opened(file) => &file.identity,
        }
    }
}

/// Bytes read ahead from a file that is not mapped.
const AHEAD_BYTES: usize = 1 << 16;

/// A [`Source`] for a library that reads and seeks.
#[derive(Debug)]
pub struct Cursor<'a> {
    source: &'a Source,
    at: u64,
    ahead: Vec<u8>,
    ahead_at: u64,
}

impl<'a> Cursor<'a> {
    /// At the file's first byte.
    pub fn new(source: &'a Source) -> Self {
        Self { source, at: 0, ahead: Vec::new(), ahead_at: 0 }
    }
}

impl Read for Cursor<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let left = self.source.file_bytes().saturating_sub(self.at);
        let piece: &[u8] = match self.source {
            Source::Mapped(file) => file.bytes().get(self.at as usize..).unwrap_or_default(),
            Source::Opened(file) => {
                let end = self.ahead_at + self.ahead.len() as u64;
                if !(self.ahead_at..end).contains(&self.at) {
                    // Nothing is ahead if the read fails.
                    let mut ahead = std::mem::take(&mut self.ahead);
                    ahead.resize(left.min(AHEAD_BYTES as u64) as usize, 0);
                    file.file.read_exact_at(&mut ahead, self.at)?;
                    (self.ahead, self.ahead_at) = (ahead, self.at);
                }
                &self.ahead[(self.at - self.ahead_at) as usize..]
            }
        };
        let count = piece.len().min(out.len());
        out[..count].copy_from_slice(&piece[..count]);
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Cursor<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.source.file_bytes().checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at =
            at.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a place before the file's start"))?;
        Ok(self.at)
    }
}
