//! A prepared data set on disk: a scene list for each part, the list of crops, and what they were made by.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::Pair;
use super::strategy::Strategy;
use crate::config::InputSettings;
use crate::fault::WrongUsage;
use crate::geo::name::observation;
use crate::plan::SceneList;
use crate::records::SceneRecord;
use crate::table::read_rows;

/// The file that says what a data set is.
pub const SPEC: &str = "data.json";
/// The list of crops.
pub const CROPS: &str = "crops.csv";
/// The crops' pixels, where they were stored.
pub const STORE: &str = "crops.bin";

/// What a scene, and so each of its crops, is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Weights are moved on it.
    Train,
    /// Each epoch is scored on it.
    Validation,
    /// Kept for the end.
    Test,
}

impl Part {
    /// All three.
    pub const ALL: [Self; 3] = [Self::Train, Self::Validation, Self::Test];

    /// Its scene list.
    pub fn file(self) -> String {
        format!("scenes_{self}.csv")
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        })
    }
}

/// What a crop shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Pixels of an impact.
    Impact,
    /// None, and ground all over.
    Ground,
    /// None, and no-data somewhere: a border.
    Border,
}

/// One line of `crops.csv`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CropRow {
    /// Counted from 0: the crop's place in the store.
    pub number: u64,
    /// Its scene's part.
    pub part: Part,
    /// The scene's `file_name`.
    pub scene: String,
    /// Top row; less than 0 above the scene.
    pub row0_px: i64,
    /// Left column; less than 0 left of the scene.
    pub col0_px: i64,
    /// Side.
    pub side_px: u64,
    /// Of the mask, without a ring.
    pub impact_px: u64,
    /// Pixels that are not no-data.
    pub valid_px: u64,
    /// What it shows.
    pub kind: Kind,
}

/// The names of a [`CropRow`]'s columns.
pub const CROP_HEADER: [&str; 9] =
    ["number", "part", "scene", "row0_px", "col0_px", "side_px", "impact_px", "valid_px", "kind"];

/// What a part holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartCounts {
    /// Scenes.
    pub scenes: u64,
    /// Observations, each of one scene or more.
    pub observations: u64,
    /// Impacts of its scenes' masks.
    pub impacts: u64,
    /// Crops.
    pub crops: u64,
    /// Of these, with impact.
    pub with_impact: u64,
}

/// `data.json`: what a data set was made by, and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataSpec {
    /// Program version.
    pub version: String,
    /// How crops were chosen.
    pub strategy: Strategy,
    /// Crops an impact, with `random`.
    pub per_impact: u64,
    /// Side of a crop.
    pub side_px: usize,
    /// Pixels this near an impact's rim are not judged.
    pub ring_px: usize,
    /// Of the split and the crops.
    pub seed: u64,
    /// Of train, validation and test.
    pub shares: [u64; 3],
    /// From stored samples to network input.
    pub input: InputSettings,
    /// What each part holds.
    pub parts: BTreeMap<Part, PartCounts>,
    /// blake3 of each list.
    pub ids: BTreeMap<String, String>,
    /// Of each scene and its mask, what [`crate::raster::MappedScene::look`] said: crops are places in these images.
    #[serde(default)]
    pub looks: BTreeMap<String, [String; 2]>,
}

/// A prepared data set, its lists held against their ids.
#[derive(Clone, Debug)]
pub struct DataSet {
    /// Where it is.
    pub folder: PathBuf,
    /// `data.json`.
    pub spec: DataSpec,
    /// `crops.csv`.
    pub crops: Vec<CropRow>,
    scenes: BTreeMap<Part, Vec<Pair>>,
}

impl DataSet {
    /// Reads the data set in `folder`.
    ///
    /// # Errors
    /// [`WrongUsage`] if there is none, or a list is not the one that was prepared.
    pub fn open(folder: &Path) -> Result<Self> {
        Self::read(folder).map_err(|why| WrongUsage(format!("{why:#}")).into())
    }

    fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(SPEC);
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("no data set in {}: run `marscan prepare` first", folder.display()))?;
        let spec: DataSpec = serde_json::from_str(&text)
            .with_context(|| format!("{} is damaged: prepare the data again", path.display()))?;
        for (name, id) in &spec.ids {
            let file = folder.join(name);
            let bytes = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
            ensure!(
                blake3::hash(&bytes).to_hex().as_str() == id,
                "{} is not what was prepared (its checksum differs): prepare the data again",
                file.display()
            );
        }
        let mut scenes = BTreeMap::new();
        for part in Part::ALL {
            scenes.insert(part, pairs_of(folder, part)?);
        }
        let crops: Vec<CropRow> = read_rows(&folder.join(CROPS))?;
        let data = Self { folder: folder.to_owned(), spec, crops, scenes };
        data.check()?;
        Ok(data)
    }

    /// No line of the list may lead outside what the rest says.
    fn check(&self) -> Result<()> {
        let names: BTreeSet<(Part, &str)> = Part::ALL
            .iter()
            .flat_map(|part| self.scenes(*part).iter().map(|pair| (*part, pair.name.as_str())))
            .collect();
        for (k, crop) in self.crops.iter().enumerate() {
            let fits = crop.number == k as u64 && crop.side_px == self.spec.side_px as u64;
            ensure!(
                fits && names.contains(&(crop.part, &crop.scene)),
                "{}: crop {} ({} of {}) does not fit the rest of the data set: prepare it again",
                self.folder.join(CROPS).display(),
                crop.number,
                crop.part,
                crop.scene
            );
        }
        Ok(())
    }

    /// The scenes of a part.
    pub fn scenes(&self, part: Part) -> &[Pair] {
        self.scenes.get(&part).map_or(&[], Vec::as_slice)
    }

    /// The lines of a part's crops.
    pub fn crops_of(&self, part: Part) -> Vec<CropRow> {
        self.crops.iter().filter(|crop| crop.part == part).cloned().collect()
    }

    /// The part that a scene of this name, or another scene of its observation, is kept for, if it is no
    /// training scene.
    pub fn held_out(&self, name: &str) -> Option<Part> {
        let same = |pair: &Pair| pair.name == name || observation(&pair.name) == observation(name);
        [Part::Validation, Part::Test].into_iter().find(|part| self.scenes(*part).iter().any(same))
    }

    /// As [`Self::held_out`], for the file of a scene.
    pub fn holds_out_file(&self, image: &Path) -> Option<Part> {
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let image = real(image);
        let same = |pair: &Pair| real(&pair.image) == image;
        [Part::Validation, Part::Test].into_iter().find(|part| self.scenes(*part).iter().any(same))
    }
}

/// The pairs of a part; a part may be empty.
fn pairs_of(folder: &Path, part: Part) -> Result<Vec<Pair>> {
    let path = folder.join(part.file());
    let records: Vec<SceneRecord> = read_rows(&path)?;
    if records.is_empty() {
        return Ok(Vec::new());
    }
    let list = SceneList::read(&path)?;
    let pair = |record: &SceneRecord| {
        let mask = list.mask(record).with_context(|| format!("{} has no mask", record.file_name))?;
        Ok(Pair { name: record.file_name.clone(), image: list.path(record), mask })
    };
    list.records.iter().map(pair).collect()
}
