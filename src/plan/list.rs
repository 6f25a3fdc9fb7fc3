//! The scene list: `file_name,height,width`, and what else is known of each scene.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::fault::WrongUsage;
use crate::records::SceneRecord;
use crate::space::MOST_PX;
use crate::table::{read_rows, write_rows};

/// The columns of a scene list; the first three are the original ones, the others may be missing.
pub const SCENE_HEADER: [&str; 6] = ["file_name", "height", "width", "path", "valid_px", "mask"];

/// The scenes that runs before have scanned completely, and the looks of their images ([`MappedScene::look`]), as far as
/// they were written down. A path is a list that `merge` wrote, or a folder that holds runs, each of whose `scenes.csv`
/// counts, as does the folder's own.
///
/// [`MappedScene::look`]: crate::raster::MappedScene::look
///
/// # Errors
/// [`WrongUsage`] if a path is not there or a list cannot be read.
pub fn scanned_before(paths: &[PathBuf]) -> Result<BTreeMap<String, Vec<Option<String>>>> {
    #[derive(Deserialize)]
    struct Scanned {
        file_name: String,
        #[serde(default)]
        look: Option<String>,
    }
    let mut scenes = BTreeMap::<_, Vec<_>>::new();
    for path in paths {
        let lists =
            lists(path).map_err(|why| WrongUsage(format!("cannot read {}: {why}", path.display())))?;
        for list in lists {
            let lines: Vec<Scanned> = read_rows(&list).map_err(|why| WrongUsage(format!("{why:#}")))?;
            for Scanned { file_name, look } in lines {
                scenes.entry(file_name).or_default().push(look);
            }
        }
    }
    Ok(scenes)
}

/// Writes a scene list with the looks of the scenes' images, for [`scanned_before`].
///
/// # Errors
/// If it cannot be written.
pub fn write_scanned(path: &Path, scenes: &[(SceneRecord, Option<String>)]) -> Result<()> {
    write_rows(path, &[&SCENE_HEADER[..], &["look"]].concat(), scenes)
}

/// The list itself, or the `scenes.csv` of a folder and of the folders in it.
fn lists(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut lists = vec![path.join(SCANNED)];
    for entry in std::fs::read_dir(path)? {
        lists.push(entry?.path().join(SCANNED));
    }
    lists.retain(|list| list.is_file());
    Ok(lists)
}

/// What a run's list of completely scanned scenes is called.
const SCANNED: &str = "scenes.csv";

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
                    [record.rows, record.cols].iter().all(|side| (1..=MOST_PX).contains(side)),
                    "{}: {name} has {} rows and {} columns: both must be 1 to {MOST_PX}",
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

    /// blake3 of the names, sizes and valid pixels: what a plan depends on.
    pub fn id(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for SceneRecord { file_name, rows, cols, valid_px, .. } in &self.records {
            let valid_px = valid_px.map_or(String::new(), |valid_px| format!(",{valid_px}"));
            hasher.update(format!("{file_name},{rows},{cols}{valid_px}\n").as_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenes_of_a_list_and_of_a_folder_of_runs_are_known() {
        let folder = tempfile::tempdir().unwrap();
        let nights = folder.path().join("nights");
        for (night, name) in [("1", "a"), ("2", "b")] {
            std::fs::create_dir_all(nights.join(night)).unwrap();
            let list = format!("file_name,height,width\n{name},1,1\n");
            std::fs::write(nights.join(night).join("scenes.csv"), list).unwrap();
        }
        std::fs::create_dir(nights.join("tonight")).unwrap();
        let alone = folder.path().join("alone.csv");
        let record =
            SceneRecord { file_name: "b".into(), rows: 1, cols: 1, path: None, valid_px: None, mask: None };
        write_scanned(&alone, &[(record.clone(), Some("other".into()))]).unwrap();
        assert_eq!(SceneList::read(&alone).unwrap().records, [record]);
        let scenes = scanned_before(&[nights, alone]).unwrap();
        let wanted = [("a".into(), vec![None]), ("b".into(), vec![None, Some("other".into())])];
        assert_eq!(scenes, BTreeMap::from(wanted));
        let why = scanned_before(&[folder.path().join("none.csv")]).unwrap_err();
        assert!(why.is::<WrongUsage>() && why.to_string().contains("none.csv"), "{why}");
    }
}
