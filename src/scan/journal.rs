//! Bands that are finished, kept from one run of a shard to the next.
//!
//! A hidden file beside the published shards, a line a band, each behind its own blake3: a line that a kill or
//! a crash cut short is dropped, and what follows it. While a task works on the shard it holds the file's lock, so
//! that two tasks of one index never do the same work. Nothing is synced: a band that is lost costs its time.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::parts::Parts;
use super::{ScanJob, shard_folder};
use crate::detect::components::LabelledBand;
use crate::job::{StopRequest, Turn, wait_for};
use crate::raster::FileStamp;
use crate::records::{Band, PixelError};
use crate::timing::{Stage, host_name};

/// A band that is finished.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BandRecord {
    /// Which.
    pub band: Band,
    /// The file it was read from, as it was then.
    pub file: FileStamp,
    /// Pixels that are not no-data.
    pub valid_px: u64,
    /// Their area, m², where the file says how it lies on Mars.
    pub valid_m2: Option<f64>,
    /// Pixels through the network.
    pub computed_px: u64,
    /// Pixels with data that a first look did not leave out, where there was one.
    pub looked_px: Option<u64>,
    /// Against its mask, where that was looked at.
    pub pixel_error: Option<PixelError>,
    /// blake3 of its packed probabilities, where they are kept.
    pub packed: Option<String>,
    /// What it holds.
    pub found: LabelledBand,
    /// What it took.
    pub stages: Vec<Stage>,
}

#[derive(Serialize, Deserialize)]
enum Line {
    /// A task began to work on the shard.
    Task(String),
    /// A band is finished.
    Band(Box<BandRecord>),
}

/// The finished bands of one shard, locked.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    locked: bool,
    /// Finished by earlier tasks, as they did it.
    pub kept: Vec<BandRecord>,
    /// Tasks that began before this one.
    pub tasks: usize,
}

impl Journal {
    /// Opens the journal of shard `index`, and waits a minute for another task to let go of it. Runs with other
    /// settings, weights or scenes have journals of their own.
    ///
    /// # Errors
    /// If it cannot be read or written, or another task keeps it; [`Stopped`] if asked to stop while waiting.
    pub fn open(job: &ScanJob, index: usize) -> Result<Self> {
        let folder = shard_folder(&job.out, index, job.shards);
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let path = folder.with_file_name(format!(".{name}.{}.bands", run_digest(job)?));
        let opened = || -> Result<Self> {
            if let Some(shards) = path.parent() {
                fs::create_dir_all(shards)?;
            }
            let file = OpenOptions::new().read(true).append(true).create(true).open(&path)?;
            let locked = lock(&file, &path, &job.stop)?;
            let (lines, whole_bytes) = read(&file)?;
            file.set_len(whole_bytes)?;
            let mut journal = Self { path: path.clone(), file, locked, kept: Vec::new(), tasks: 0 };
            for line in lines {
                match line {
                    Line::Task(_) => journal.tasks += 1,
                    Line::Band(record) => journal.kept.push(*record),
                }
            }
            journal.write(&Line::Task(format!("process {} on {}", std::process::id(), host_name())))?;
            Ok(journal)
        };
        opened().with_context(|| format!("cannot keep finished bands in {}", path.display()))
    }

    /// Seconds that earlier tasks spent on bands that are kept.
    pub fn spent_s(&self) -> f64 {
        let ends =
            self.kept.iter().flat_map(|record| &record.stages).map(|stage| stage.start_s + stage.seconds);
        ends.fold(0.0, f64::max)
    }

    /// Keeps a band.
    ///
    /// # Errors
    /// If it cannot be written; the message names the file.
    pub fn keep(&mut self, record: BandRecord) -> Result<()> {
        self.write(&Line::Band(Box::new(record)))
            .with_context(|| format!("cannot keep a finished band in {}", self.path.display()))
    }

    /// Where the finished bands' probabilities are kept.
    pub fn parts(&self) -> Parts {
        Parts::new(self.path.with_extension("probabilities"))
    }

    /// An empty folder of this task alone, to write the shard in.
    ///
    /// # Errors
    /// If it cannot be made, or what a killed task left in it cannot be removed.
    pub fn aside(&self) -> Result<PathBuf> {
        let task =
            if self.locked { String::new() } else { format!("{}.{}.", host_name(), std::process::id()) };
        let aside = self.path.with_extension(format!("{task}part"));
        if aside.exists() {
            fs::remove_dir_all(&aside).with_context(|| format!("cannot remove {}", aside.display()))?;
        }
        fs::create_dir(&aside).with_context(|| format!("cannot make {}", aside.display()))?;
        Ok(aside)
    }

    /// Removes the file, and what is kept beside it: the shard is published.
    ///
    /// # Errors
    /// If they cannot be removed.
    pub fn remove(self) -> Result<()> {
        self.parts().remove()?;
        match fs::remove_file(&self.path) {
            // The task that this one waited for has removed it.
            Err(why) if why.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed.with_context(|| format!("cannot remove {}", self.path.display())),
        }
    }

    fn write(&mut self, line: &Line) -> Result<()> {
        let json = serde_json::to_string(line)?;
        // One write, so that lines are never interleaved.
        Ok(self.file.write_all(format!("{} {json}\n", blake3::hash(json.as_bytes()).to_hex()).as_bytes())?)
    }
}

/// What the bands of a run depend on: other runs keep theirs elsewhere.
fn run_digest(job: &ScanJob) -> Result<String> {
    let depends = serde_json::to_vec(&(job.ids(), job.masks, job.probabilities))?;
    Ok(blake3::hash(&depends).to_hex()[..16].to_owned())
}

/// Whether the file system has locks; if so, this task holds it. If not, the last rename still decides whose shard it is.
fn lock(file: &File, path: &Path, stop: &StopRequest) -> Result<bool> {
    match wait_for(file, stop, &mut || ())? {
        Turn::Mine => Ok(true),
        Turn::NoLocks => Ok(false),
        Turn::Theirs => bail!(
            "{} is scanning this shard: end it, or let it finish",
            holder(path).unwrap_or_else(|| "another task".into())
        ),
    }
}

/// Who wrote last that it began.
fn holder(path: &Path) -> Option<String> {
    let (lines, _) = read(&File::open(path).ok()?).ok()?;
    lines.into_iter().rev().find_map(|line| match line {
        Line::Task(name) => Some(name),
        Line::Band(_) => None,
    })
}

/// The lines that are whole, and how many bytes they are.
fn read(file: &File) -> Result<(Vec<Line>, u64)> {
    let mut from = BufReader::new(file);
    let (mut lines, mut whole_bytes, mut text) = (Vec::new(), 0, Vec::new());
    loop {
        text.clear();
        let bytes = from.read_until(b'\n', &mut text)?;
        let Some(line) = parse(&text) else { return Ok((lines, whole_bytes)) };
        lines.push(line);
        whole_bytes += bytes as u64;
    }
}

fn parse(text: &[u8]) -> Option<Line> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('\n')?;
    let (hash, json) = text.split_once(' ')?;
    (blake3::hash(json.as_bytes()).to_hex().as_str() == hash).then_some(())?;
    serde_json::from_str(json).ok()
}
