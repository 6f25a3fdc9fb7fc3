//! The review page: what is on it, and what becomes of it in a real browser, key by key.

mod browser;
mod page;

use std::fs;
use std::path::{Path, PathBuf};

use marscan::dice::Dice;
use marscan::records::Impact;
use marscan::review::{Candidate, ReviewOptions, Run, View};
use marscan::table::read_rows;
use tempfile::TempDir;

use crate::files::{bytes, fail, succeed, tiff};

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
fn what_cannot_be_shown_is_said() {
    let (folder, out) = twelve("ground");
    fs::remove_file(folder.path().join("ground.tif")).unwrap();
    let said = review(&out, &[]);
    assert!(said.contains("12 without pictures") && said.contains("ground.tif"), "{said}");
    fs::remove_file(out.join("catalogue.csv")).unwrap();
    let (code, message) = fail(&["review", out.to_str().unwrap()]);
    assert!(code == 2 && message.contains("run `marscan merge"), "{message}");
}

#[test]
fn another_scenes_picture_and_change_stand_beside() {
    let (_folder, out) = twelve("ground");
    let text = fs::read_to_string(out.join("catalogue.csv")).unwrap();
    let lines = text.lines().enumerate().map(|(k, line)| match k {
        0 => format!("{line},repeat_scene,change_score\n"),
        4 => format!("{line},later <i>,0.75\n"),
        _ => format!("{line},,\n"),
    });
    fs::write(out.join("catalogue.csv"), lines.collect::<String>()).unwrap();
    let beside = |one: &Candidate, view: &View| {
        let seen = one.change.repeat_scene.is_some();
        Ok(seen.then(|| vec![99; view.side_px * view.side_px]))
    };
    let options = ReviewOptions {
        at_most: 12,
        kinds: Vec::new(),
        network: None,
        beside: Some(&beside),
        watch: &|_| {},
    };
    let page = out.join("review.html");
    marscan::review::write(&out, &Run::open(&out).unwrap(), options, &page).unwrap();
    let fourth = &candidates(&out)[3];
    assert_eq!((&fourth["change_score"], &fourth["repeat_scene"]), (&0.75.into(), &"later <i>".into()));
    let text = String::from_utf8(bytes(&page)).unwrap();
    assert_eq!(text.matches("\"beside\":\"iVBOR").count(), 1);
    let Some(mut browser) = browser::Browser::start() else { return };
    browser.open(&page);
    browser.until("document.querySelectorAll('#pictures figure').length === 2");
    // Sorted by change, it comes first.
    browser.js("sortBy(5), go(0)");
    browser.until("document.querySelectorAll('#pictures figure').length === 3");
    assert!(
        browser
            .js("document.querySelector('#pictures .beside').textContent")
            .to_string()
            .contains("later <i>")
    );
    assert!(browser.text("name").starts_with("No. 4 "), "{}", browser.text("name"));
    browser.picture("beside.png");
}
