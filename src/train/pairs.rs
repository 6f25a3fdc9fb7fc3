//! Scenes and their masks in a folder tree, told apart and paired by the patterns of their paths.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Pair;
use crate::fault::WrongUsage;

/// A path with placeholders, `IMPACTS/{folder}/{id}.geo.tif`: each stands for one or more characters of one
/// part of the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Plain(String),
    Named(String),
}

/// What the placeholders stand for, by name.
type Values = BTreeMap<String, String>;

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`WrongUsage`] if a brace is not closed, a name is empty, or there is no `{id}`.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |why: &str| WrongUsage(format!("pattern {text}: {why}"));
        let (mut pieces, mut rest) = (Vec::new(), text);
        while let Some((plain, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').ok_or_else(|| wrong("a { is not closed"))?;
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                return Err(wrong("a placeholder is letters and digits, as in {id}").into());
            }
            if !plain.is_empty() {
                pieces.push(Piece::Plain(plain.to_owned()));
            } else if matches!(pieces.last(), Some(Piece::Named(_))) {
                return Err(wrong("two placeholders need something between them").into());
            }
            pieces.push(Piece::Named(name.to_owned()));
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Plain(rest.to_owned()));
        }
        if !pieces.contains(&Piece::Named("id".into())) {
            return Err(wrong("it has no {id}").into());
        }
        Ok(Self { text: text.to_owned(), pieces })
    }

    fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self
            .pieces
            .iter()
            .filter_map(|piece| match piece {
                Piece::Named(name) => Some(name.as_str()),
                Piece::Plain(_) => None,
            })
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Folders a matching path goes down through, the file among them.
    fn depth(&self) -> usize {
        self.text.split('/').count()
    }

    fn matches(&self, path: &str) -> Option<Values> {
        let mut values = Values::new();
        fits(&self.pieces, path, &mut values).then_some(values)
    }
}

/// Whether `path` is made of `pieces`; the shortest values that do are in `values`.
fn fits(pieces: &[Piece], path: &str, values: &mut Values) -> bool {
    let Some((piece, others)) = pieces.split_first() else { return path.is_empty() };
    match piece {
        Piece::Plain(text) => path.strip_prefix(text.as_str()).is_some_and(|rest| fits(others, rest, values)),
        Piece::Named(name) => {
            if let Some(known) = values.get(name).cloned() {
                return path.strip_prefix(known.as_str()).is_some_and(|rest| fits(others, rest, values));
            }
            let part = path.split('/').next().unwrap_or("");
            for (at, c) in part.char_indices() {
                let (value, rest) = path.split_at(at + c.len_utf8());
                values.insert(name.clone(), value.to_owned());
                if fits(others, rest, values) {
                    return true;
                }
                values.remove(name);
            }
            false
        }
    }
}

/// What a folder tree holds.
#[derive(Clone, Debug, Default)]
pub struct FoundPairs {
    /// Scenes with their masks, by name. A name is the `{id}`, with the other values before it where another
    /// scene has the same.
    pub pairs: Vec<Pair>,
    /// Scenes without a mask.
    pub without_mask: Vec<PathBuf>,
    /// Masks without a scene.
    pub without_scene: Vec<PathBuf>,
}

/// Pairs what lies below `root`. A file that fits both patterns is a mask.
///
/// # Errors
/// [`WrongUsage`] if the patterns have other placeholders, a folder cannot be read, or nothing fits.
pub fn find(root: &Path, scene: &Pattern, mask: &Pattern) -> Result<FoundPairs> {
    let wrong = |message: String| Err(WrongUsage(message).into());
    if scene.names() != mask.names() || scene == mask {
        return wrong(format!(
            "{} and {} cannot be paired: they must differ, and have the same placeholders",
            scene.text, mask.text
        ));
    }
    let mut files = Vec::new();
    walk(root, "", scene.depth().max(mask.depth()), &mut files)
        .map_err(|why| WrongUsage(format!("{why:#}")))?;
    files.sort();
    let (mut scenes, mut masks) = (BTreeMap::new(), BTreeMap::new());
    for file in files {
        if let Some(values) = mask.matches(&file) {
            masks.insert(values, root.join(file));
        } else if let Some(values) = scene.matches(&file) {
            scenes.insert(values, root.join(file));
        }
    }
    if scenes.is_empty() {
        return wrong(format!(
            "no file below {} fits {}: say how its scenes are named with --scene-pattern and --mask-pattern",
            root.display(),
            scene.text
        ));
    }
    Ok(pair_up(&scenes, masks))
}

fn pair_up(scenes: &BTreeMap<Values, PathBuf>, mut masks: BTreeMap<Values, PathBuf>) -> FoundPairs {
    let mut ids: BTreeMap<&str, usize> = BTreeMap::new();
    for values in scenes.keys() {
        *ids.entry(values["id"].as_str()).or_default() += 1;
    }
    let mut found = FoundPairs::default();
    for (values, image) in scenes {
        let Some(mask) = masks.remove(values) else {
            found.without_mask.push(image.clone());
            continue;
        };
        let id = &values["id"];
        let others = values.iter().filter(|(name, _)| *name != "id").map(|(_, value)| value.as_str());
        let name = if ids[id.as_str()] > 1 {
            others.chain([id.as_str()]).collect::<Vec<_>>().join("/")
        } else {
            id.clone()
        };
        found.pairs.push(Pair { name, image: image.clone(), mask });
    }
    found.pairs.sort_by(|a, b| a.name.cmp(&b.name));
    found.without_scene = masks.into_values().collect();
    found
}

/// The files down to `depth` folders, as paths with `/` below `root`.
fn walk(root: &Path, below: &str, depth: usize, files: &mut Vec<String>) -> Result<()> {
    let folder = root.join(below);
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read {}", folder.display()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if below.is_empty() { name } else { format!("{below}/{name}") };
        // A link whose end is gone is no file; it is passed over.
        match fs::metadata(entry.path()) {
            Ok(meta) if meta.is_dir() && depth > 1 => walk(root, &path, depth - 1, files)?,
            Ok(meta) if meta.is_file() => files.push(path),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_paths_and_no_placeholder_crosses_a_folder() {
        let study = Pattern::parse("IMPACTS/{folder}/{id}.geo.tif").unwrap();
        let values = study.matches("IMPACTS/f1/D21_035473_1885_XI_08N342W.geo.tif").unwrap();
        assert_eq!(values["folder"], "f1");
        assert_eq!(values["id"], "D21_035473_1885_XI_08N342W");
        for other in
            ["IMPACTS/f1/a.tif", "IMPACTS/f1/g/a.geo.tif", "x/IMPACTS/f1/a.geo.tif", "IMPACTS/f1/.geo.tif"]
        {
            assert_eq!(study.matches(other), None, "{other}");
        }
        let twice = Pattern::parse("{id}/{id}_x.tif").unwrap();
        assert!(twice.matches("a/a_x.tif").is_some() && twice.matches("a/b_x.tif").is_none());
        for wrong in ["{id", "a.tif", "{}/{id}", "{folder}{id}", "{a b}{id}"] {
            assert!(Pattern::parse(wrong).unwrap_err().is::<WrongUsage>(), "{wrong}");
        }
    }
}
