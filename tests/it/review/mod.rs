//! The review page: what is on it, and what becomes of it in a real browser, key by key.

mod browser;
mod page;
mod verdicts;

use std::fs;
use std::path::{Path, PathBuf};

use marscan::dice::Dice;
use marscan::records::Impact;
use marscan::table::read_rows;
use tempfile::TempDir;

use crate::files::{bytes, fail, marscan, succeed, tiff};

/// Grey noise, a border without data on the left, and dark discs: row, column, radius.
fn scene(path: &Path, rows: usize, cols: usize, discs: &[(f64, f64, f64)]) {
    let mut dice = Dice::new(rows as u64, &[cols as u64]);
    let mut pixels: Vec<u8> =
        (0..rows * cols).map(|k| if k % cols < 40 { 0 } else { 110 + dice.below(80) as u8 }).collect();
    for &(row, col, radius) in discs {
        let around = |middle: f64, end: usize| {
            (middle - radius).max(0.0) as usize..((middle + radius) as usize + 1).min(end)
        };
        for (y, x) in around(row, rows).flat_map(|y| around(col, cols).map(move |x| (y, x))) {
            if (y as f64 - row).hypot(x as f64 - col) < radius {
                pixels[y * cols + x] = 20;
            }
        }
    }
    tiff(path, cols, &pixels);
}

/// A merged run of one scene, called `name`, with twelve candidates of 5 to 27 px.
fn twelve(name: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let discs: Vec<_> = (0..12)
        .map(|k| (60.0 + 110.0 * f64::from(k / 3), 90.0 + 130.0 * f64::from(k % 3), 2.5 + f64::from(k)))
        .collect();
    scene(&folder.path().join("ground.tif"), 520, 480, &discs);
    let out = scanned(folder.path(), name, (520, 480));
    (folder, out)
}

/// Scans and merges `ground.tif`, which the list calls `name`.
fn scanned(folder: &Path, name: &str, (rows, cols): (usize, usize)) -> PathBuf {
    let name = name.replace('"', "\"\"");
    let list = format!("file_name,height,width,path\n\"{name}\",{rows},{cols},ground.tif\n");
    fs::write(folder.join("scenes.csv"), list).unwrap();
    let (list, out) = (folder.join("scenes.csv"), folder.join("found"));
    let settings = ["--settings", "threshold", "--dark-max", "40", "--min-area", "4", "--window", "64"];
    let place = ["scan", "--scenes", list.to_str().unwrap(), "--out", out.to_str().unwrap()];
    succeed(&[&place[..], &settings].concat());
    succeed(&["merge", out.to_str().unwrap()]);
    out
}

fn review(out: &Path, flags: &[&str]) -> String {
    succeed(&[&["review", out.to_str().unwrap()], flags].concat())
}

fn catalogue(out: &Path) -> Vec<Impact> {
    read_rows(&out.join("catalogue.csv")).unwrap()
}

/// What the page knows of its candidates.
fn candidates(out: &Path) -> Vec<serde_json::Value> {
    let page = String::from_utf8(bytes(out.join("review.html"))).unwrap();
    let json = page.split("id=\"candidates\">").nth(1).unwrap().split("</script>").next().unwrap();
    serde_json::from_str(json).unwrap()
}

fn ids(out: &Path) -> Vec<u64> {
    candidates(out).iter().map(|one| one["impact"]["id"].as_u64().unwrap()).collect()
}

#[test]
fn the_page_holds_all_that_it_shows_and_is_the_same_each_time() {
    let (_folder, out) = twelve("ground");
    let said = review(&out, &[]);
    assert!(said.contains("12 of 12 candidates") && said.contains("12 outlines, 12 of them"), "{said}");
    let page = String::from_utf8(bytes(out.join("review.html"))).unwrap();
    for outside in ["http:", "https:", "<link", "url(", "{{", "innerHTML", "eval("] {
        let plain = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!plain.contains(outside), "the page fetches nothing: {outside}");
    }
    assert_eq!(page.matches("iVBORw0KGgo").count(), 2 * 12 + 1, "two pictures each, and the scene");
    review(&out, &[]);
    assert!(bytes(out.join("review.html")) == page.as_bytes());
    assert!(review(&out, &["--no-outlines"]).contains("12 of 12"));
    let plain = String::from_utf8(bytes(out.join("review.html"))).unwrap();
    assert_eq!((page.matches("\"outline\":\"M").count(), plain.matches("\"outline\":\"M").count()), (12, 0));
}

#[test]
fn the_order_is_by_score_or_of_every_kind_and_stays() {
    let (_folder, out) = twelve("ground");
    review(&out, &["--at-most", "5"]);
    // A threshold is sure of everything: equal scores keep the catalogue's order.
    assert_eq!(ids(&out), [1, 2, 3, 4, 5]);
    let kinds = ["--stratify", "diameter,score,scene", "--at-most", "4"];
    review(&out, &kinds);
    let first = ids(&out);
    let octave = |id: &u64| catalogue(&out)[*id as usize - 1].diameter_px.log2().floor() as i64;
    let mut octaves: Vec<i64> = first.iter().map(octave).collect();
    octaves.sort_unstable();
    octaves.dedup();
    assert!(octaves.len() >= 3, "{first:?}");
    review(&out, &kinds);
    assert_eq!(ids(&out), first);
    let (code, message) = fail(&["review", out.to_str().unwrap(), "--stratify", "size"]);
    assert!(code == 2 && message.contains("diameter, score or scene"), "{message}");
}

#[test]
fn a_giant_impact_is_shown_reduced_and_whole() {
    let folder = tempfile::tempdir().unwrap();
    // Over the scene's left edge: 240 px tall, and what is not there is no data.
    scene(&folder.path().join("ground.tif"), 700, 600, &[(350.0, 140.0, 120.0)]);
    let out = scanned(folder.path(), "ground", (700, 600));
    let said = review(&out, &[]);
    assert!(said.contains("1 outlines, 1 of them with the catalogue's box and area"), "{said}");
    let found = &candidates(&out)[0];
    let box_px = |name: &str| found["impact"][name].as_i64().unwrap();
    let tall = box_px("row1_px") - box_px("row0_px");
    let middle =
        [box_px("row0_px") + box_px("row1_px"), box_px("col0_px") + box_px("col1_px")].map(|sum| sum / 2);
    let view = |step: i64| serde_json::json!([middle[0] - 64 * step, middle[1] - 64 * step, step]);
    assert_eq!((tall, &found["view"], &found["context"]), (239, &view(4), &view(32)));
}

#[test]
fn scenes_that_cannot_be_shown_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let names = ["gone", "other", "there"];
    let file = |name: &str| folder.path().join(format!("{name}.tif"));
    for name in names {
        scene(&file(name), 200, 200, &[(60.0, 90.0, 8.0), (140.0, 120.0, 9.0)]);
    }
    let list = folder.path().join("scenes.csv");
    let line = |name: &&str| format!("{name},200,200,{name}.tif\n");
    fs::write(&list, format!("file_name,height,width,path\n{}", names.iter().map(line).collect::<String>()))
        .unwrap();
    let out = folder.path().join("found");
    let scan = ["scan", "--settings", "threshold", "--dark-max", "40", "--window", "64", "--scenes"];
    succeed(&[&scan[..], &[list.to_str().unwrap(), "--out", out.to_str().unwrap()]].concat());
    succeed(&["merge", out.to_str().unwrap()]);
    fs::remove_file(file("gone")).unwrap();
    scene(&file("other"), 210, 200, &[]);
    let output = marscan(&["review", out.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("2 without pictures: gone (no picture"), "{said}");
    assert!(
        said.contains("2 without pictures: other (no picture") && said.contains("210 x 200 px"),
        "{said}"
    );
    assert!(said.contains("6 of 6 candidates") && !said.contains("there ("), "{said}");
    fs::remove_file(out.join("catalogue.csv")).unwrap();
    let (code, message) = fail(&["review", out.to_str().unwrap()]);
    assert!(code == 2 && message.contains("run `marscan merge"), "{message}");
}

#[test]
fn another_scenes_picture_and_change_stand_beside() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let size = ["--rows", "400", "--cols", "360", "--impacts", "5", "--seed", "5", "--georef"];
    succeed(&[&["synth", "--out", &place("later"), "--name", "later"], &size[..]].concat());
    // The same ground before: other impacts, on the same frame.
    succeed(
        &[
            &["synth", "--out", &place("before"), "--name", "before"],
            &size[..6],
            &["--seed", "6", "--georef"],
        ]
        .concat(),
    );
    let (list, before, out) = (place("later/scenes.csv"), place("before/scenes.csv"), place("found"));
    succeed(&["scan", "--scenes", &list, "--out", &out, "--device", "cpu", "--min-score", "0.3"]);
    succeed(&["merge", &out]);
    let (code, message) = fail(&["review", &out, "--repeat", &before]);
    assert!(code == 2 && message.contains("merge --repeat"), "{message}");
    succeed(&["merge", &out, "--repeat", &before]);
    review(Path::new(&out), &["--repeat", &before]);
    let out = Path::new(&out);
    let changed: Vec<_> = candidates(out).into_iter().filter(|one| one["repeat_scene"] == "before").collect();
    assert!(!changed.is_empty() && changed.iter().all(|one| one["change_score"].as_f64().is_some()));
    let text = String::from_utf8(bytes(out.join("review.html"))).unwrap();
    assert_eq!(text.matches("\"beside\":\"iVBOR").count(), changed.len());
    let Some(mut browser) = browser::Browser::start() else { return };
    browser.open(&out.join("review.html"));
    // Sorted by change, the most changed one comes first, with three pictures.
    browser.js("sortBy(SORTS.findIndex((one) => one[0] === 'change')), go(0)");
    browser.until("document.querySelectorAll('#pictures figure').length === 3");
    let beside = browser.js("document.querySelector('#pictures .beside').textContent");
    assert!(beside.to_string().contains("before"), "{beside}");
    let score = |one: &serde_json::Value| one["change_score"].as_f64().unwrap();
    let most = changed.iter().max_by(|a, b| score(a).total_cmp(&score(b))).unwrap();
    let name = browser.text("name");
    assert!(name.starts_with(&format!("No. {} ", most["impact"]["id"])), "{name}");
    browser.picture("beside.png");
}
