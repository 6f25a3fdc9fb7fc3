//! `report.html`: one page that holds all it shows, whatever the names in it and whatever became of the scenes.

use std::fs;

use crate::files::{bytes, fail, succeed, tiff};

/// A disc on grey ground, `cols` wide.
fn scene(path: &std::path::Path, cols: usize) {
    let disc = |k: usize| ((k / cols) as f64 - 60.0).hypot((k % cols) as f64 - 70.0) < 9.0;
    let pixels: Vec<u8> = (0..200 * cols).map(|k| if disc(k) { 20 } else { 120 + (k % 7) as u8 }).collect();
    tiff(path, cols, &pixels);
}

#[test]
fn the_page_shows_what_was_found_and_says_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    // The fourth is not there at all, and its name is markup, and a place of the template.
    scene(&folder.path().join("kept.tif"), 180);
    scene(&folder.path().join("gone.tif"), 180);
    scene(&folder.path().join("other.tif"), 180);
    let text = "file_name,height,width\nkept,200,180\ngone,200,180\nother,200,180\n<b>&{{best}},200,180\n";
    fs::write(place("scenes.csv"), text).unwrap();
    let (list, out) = (place("scenes.csv"), place("out"));
    let scan = ["scan", "--scenes", &list, "--settings", "threshold", "--window", "64", "--dark-max", "40"];
    assert_eq!(fail(&[&scan[..], &["--shards", "3", "--out", &out]].concat()).0, 3);
    fs::remove_file(place("gone.tif")).unwrap();
    scene(&folder.path().join("other.tif"), 190);
    let page = || {
        assert_eq!(fail(&["merge", &out, "--allow-partial"]).0, 3);
        String::from_utf8(bytes(place("out/report.html"))).unwrap()
    };
    let whole = page();
    assert_eq!(whole.matches("data:image/png;base64,").count(), 1, "of the scene that is still there");
    assert_eq!(whole.matches("<circle").count(), 1);
    assert!(
        whole.contains("class='pic none'>no picture: cannot open") || whole.contains("gone.tif"),
        "{whole}"
    );
    assert!(whole.contains("has now 200 x 190 px, it was scanned with 200 x 180"), "{whole}");
    assert!(whole.contains("&lt;b&gt;&amp;&#123;&#123;best}}") && !whole.contains("<b>&"), "{whole}");
    assert!(whole.contains("Incomplete scenes: 1.") && whole.contains("load balance"), "{whole}");
    assert!(
        whole.contains("UTC") && whole.contains("min_score = ") && whole.contains("--settings threshold")
    );
    for outside in ["http:", "https:", "<script", "<link", "url(", "{{"] {
        assert!(!whole.contains(outside), "the page fetches or runs nothing: {outside}");
    }
    fs::remove_dir_all(place("out/shards/shard-00001-of-00003")).unwrap();
    assert!(page().contains("1 of 3 shards are missing:</b> 1."));
}

#[test]
fn the_page_holds_the_ground_searched_and_the_table_of_several_runs() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let size = ["--rows", "300", "--cols", "260", "--impacts", "4", "--seed", "5", "--georef"];
    succeed(&[&["synth", "--out", &place("")], &size[..]].concat());
    let (list, out, table) = (place("scenes.csv"), place("out"), place("speedup"));
    let loose = ["--device", "cpu", "--min-score", "0", "--min-area", "1", "--window", "96", "--shards", "2"];
    succeed(&[&["scan", "--scenes", &list, "--out", &out], &loose[..]].concat());
    let run = format!("1={out}");
    succeed(&["speedup", &run, "--out", &table]);
    succeed(&["merge", &out, "--speedup", &table]);
    let page = String::from_utf8(bytes(place("out/report.html"))).unwrap();
    assert!(page.contains(" km²</b>searched<") && page.contains("impacts per 1000 km²"), "{page}");
    assert!(page.contains("Nothing is missing") && page.contains("data:image/svg+xml;base64,"), "{page}");
    assert!(page.contains("° E<br>") && page.contains(" m</span>") && !page.contains("karp flatt"));
    let found = fs::read_to_string(place("out/catalogue.csv")).unwrap().lines().count() - 1;
    assert!(found > 0);
    assert_eq!(page.matches("data:image/png;base64,").count(), found.min(50));
    let (code, message) = fail(&["merge", &out, "--speedup", &place("nothing")]);
    assert!(code == 2 && message.contains("speedup.csv") && message.contains("marscan speedup"), "{message}");
}
