//! Files that appear whole or not at all: written aside, synced, renamed.

use std::fs::{self, File};
use std::io::{BufWriter, IntoInnerError, Write};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// Writes `bytes` to `path` through a temporary file in the same folder and a rename.
///
/// # Errors
/// If any step fails; what stood under `path` before is then untouched.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    write_whole_with(path, |out| Ok(out.write_all(bytes)?))
}

/// As [`write_whole`], with the content written by `fill`.
///
/// # Errors
/// If any step fails; what stood under `path` before is then untouched.
pub fn write_whole_with(path: &Path, fill: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<()> {
    let mut file = WholeFile::create(path)?;
    fill(&mut file.out).with_context(|| format!("cannot write {}", path.display()))?;
    file.finish()?.publish()
}

/// `SCENE.end` in `folder`; a scene whose name has folders in it gets such here too.
///
/// # Errors
/// If the name leads elsewhere.
pub fn scene_file(folder: &Path, scene: &str, end: &str) -> Result<PathBuf> {
    let inside = Path::new(scene).components().all(|part| matches!(part, Component::Normal(_)));
    ensure!(
        inside,
        "{scene}: a scene of this name would have its file outside of {}: list it under another name, with a path",
        folder.display()
    );
    Ok(folder.join(format!("{scene}.{end}")))
}

/// Makes the folder that `path` is to be in.
///
/// # Errors
/// If it cannot be made.
pub fn make_folder_of(path: &Path) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new(""));
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
}

/// A name that a file will get: until then it is written aside, and removed if it never comes so far.
#[derive(Debug)]
pub struct Aside {
    path: PathBuf,
    aside: PathBuf,
    published: bool,
}

/// Of the name of a file that a process wrote aside, or a library beside that: what it was to be called.
pub fn aside_of(file: &str) -> Option<&str> {
    let (written, _) = file.strip_prefix('.')?.rsplit_once(".part")?;
    let (name, process) = written.rsplit_once('.')?;
    (!process.is_empty() && process.bytes().all(|b| b.is_ascii_digit())).then_some(name)
}

impl Aside {
    /// For a file that will be called `path`; nothing is made yet.
    pub fn new(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let aside = path.with_file_name(format!(".{name}.{}.part", std::process::id()));
        Self { path: path.to_owned(), aside, published: false }
    }

    /// Where it is written meanwhile.
    pub fn file(&self) -> &Path {
        &self.aside
    }

    /// What it will be called.
    pub fn name(&self) -> &Path {
        &self.path
    }

    /// Writes what another library wrote to it through to the disk.
    ///
    /// # Errors
    /// If that cannot be done.
    pub fn sync(self) -> Result<Self> {
        let synced = File::open(&self.aside).and_then(|file| file.sync_all());
        synced.with_context(|| format!("cannot write {}", self.path.display()))?;
        Ok(self)
    }

    /// Gives the file, synced by now, its name.
    ///
    /// # Errors
    /// If it cannot be renamed; what stood under the name before is then untouched.
    pub fn publish(mut self) -> Result<()> {
        fs::rename(&self.aside, &self.path)
            .with_context(|| format!("cannot write {}", self.path.display()))?;
        self.published = true;
        Ok(())
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        if !self.published {
            drop(fs::remove_file(&self.aside));
        }
    }
}

/// A file written as its content comes, under its name only in the end.
#[derive(Debug)]
pub struct WholeFile {
    out: BufWriter<File>,
    aside: Aside,
}

impl WholeFile {
    /// Opens the file aside.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn create(path: &Path) -> Result<Self> {
        let aside = Aside::new(path);
        let file = File::create(aside.file()).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { out: BufWriter::new(file), aside })
    }

    /// Appends `bytes`.
    ///
    /// # Errors
    /// If they cannot be written; the message names the file.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).with_context(|| format!("cannot write {}", self.aside.path.display()))
    }

    /// Writes the last bytes through to the disk; the name is still to be given.
    ///
    /// # Errors
    /// If they cannot be written; the message names the file.
    pub fn finish(self) -> Result<Aside> {
        let Self { out, aside } = self;
        let synced = out.into_inner().map_err(IntoInnerError::into_error).and_then(|file| file.sync_all());
        synced.with_context(|| format!("cannot write {}", aside.path.display()))?;
        Ok(aside)
    }
}
