//! The scene list: `file_name,height,width`, and what else is known of each scene.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::fault::WrongUsage;
use crate::records::SceneRecord;
use crate::table::{read_rows, write_rows};

/// The columns of a scene list; the first three are the original ones, the others may be missing.
pub const SCENE_HEADER: [&str; 6] = ["file_name", "height", "width", "path", "valid_px", "mask"];

/// A scene list and the folder that its paths are relative to.
#[derive(Clone, Debug)]
pub struct SceneList {
    folder: PathBuf,
    /// In the list's order; names are unique.
    pub records: Vec<SceneRecord>,
}

impl SceneList {
    /// Reads a list.
    ///
    /// # Errors
    /// [`WrongUsage`] if it cannot be read, is empty, or names a scene twice.
    pub fn read(path: &Path) -> Result<Self> {
        let list = || -> Result<Self> {
            let records: Vec<SceneRecord> = read_rows(path)?;
            anyhow::ensure!(!records.is_empty(), "{} lists no scene", path.display());
            let mut names = BTreeSet::new();
            for record in &records {
                let name = &record.file_name;
                anyhow::ensure!(names.insert(name), "{} lists {name} twice", path.display());
                anyhow::ensure!(
                    record.rows > 0 && record.cols > 0,
                    "{}: {name} has {} rows and {} columns: both must be positive",
                    path.display(),
                    record.rows,
                    record.cols
                );
            }
            Ok(Self { folder: path.parent().unwrap_or(Path::new("")).to_owned(), records })
        };
        list().map_err(|why| WrongUsage(format!("{why:#}")).into())
    }

    /// Writes `records` as a list.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(path: &Path, records: &[SceneRecord]) -> Result<()> {
        write_rows(path, &SCENE_HEADER, records).context("the scene list")
    }

    /// Where a scene's TIFF is.
    pub fn path(&self, record: &SceneRecord) -> PathBuf {
        if let Some(path) = &record.path {
            return self.folder.join(path);
        }
        let plain = self.folder.join(&record.file_name);
        let with_suffix = self.folder.join(format!("{}.tif", record.file_name));
        if !plain.exists() && with_suffix.exists() { with_suffix } else { plain }
    }

    /// Where its mask is, if it has one.
    pub fn mask(&self, record: &SceneRecord) -> Option<PathBuf> {
        record.mask.as_ref().map(|mask| self.folder.join(mask))
    }

    /// blake3 of the names and sizes: what a plan depends on.
    pub fn id(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for record in &self.records {
            hasher.update(format!("{},{},{}\n", record.file_name, record.rows, record.cols).as_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }
}
