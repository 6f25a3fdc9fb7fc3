//! A room names only rooms of a lower floor; burn, cubecl and wgpu are named in `unet` alone, MPI in `ranks`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const FLOORS: [&[&str]; 6] = [
    &["space", "records", "fault", "dice"],
    &["geo", "tile", "table", "job", "ranks", "timing"],
    &["config", "detect", "raster", "picture", "verdict"],
    &["unet"],
    &["plan", "scan", "merge", "repeat", "score", "train", "synth", "speedup", "review"],
    &["cli"],
];

/// Allowed all the same: a manifest carries a scene's georeferencing, and rooms of the pipeline call each
/// other downwards.
const ALLOWED: [(&str, &str); 18] = [
    ("records", "geo"),
    ("records", "space"),
    ("raster", "config"),
    ("unet", "config"),
    ("scan", "plan"),
    ("merge", "plan"),
    ("merge", "scan"),
    ("merge", "repeat"),
    ("repeat", "plan"),
    ("synth", "plan"),
    ("train", "plan"),
    ("speedup", "train"),
    ("speedup", "merge"),
    ("speedup", "scan"),
    ("detect", "config"),
    ("review", "merge"),
    ("review", "repeat"),
    ("review", "scan"),
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn rooms_name_only_rooms_of_lower_floors() {
    let mut floor = BTreeMap::new();
    for (number, rooms) in FLOORS.iter().enumerate() {
        floor.extend(rooms.iter().map(|room| (*room, number)));
    }
    let mut files = Vec::new();
    sources(Path::new("src"), &mut files);
    let mut wrong = Vec::new();
    for file in &files {
        let inside = file.strip_prefix("src").unwrap();
        let room = inside.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs");
        if matches!(room, "lib" | "main") {
            continue;
        }
        let text = fs::read_to_string(file).unwrap();
        for (number, line) in
            text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"))
        {
            let framework = ["burn::", "cubecl::", "wgpu::"].iter().any(|name| line.contains(name));
            if (room != "unet" && framework) || (room != "ranks" && line.contains("mpi::")) {
                wrong.push(format!("{}:{}: {line}", file.display(), number + 1));
            }
            for part in line.split("crate::").skip(1) {
                let other: String =
                    part.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
                let Some(below) = floor.get(other.as_str()) else { continue };
                let allowed =
                    other == room || *below < floor[room] || ALLOWED.contains(&(room, other.as_str()));
                if !allowed {
                    wrong.push(format!("{}:{}: {line}", file.display(), number + 1));
                }
            }
        }
    }
    assert!(files.len() > 40, "only {} files were read", files.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
