//! Scenes that change or break while they are read.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use marscan::config::load;
use marscan::raster::{Io, MappedScene};

use super::{SLOW, bytes, drawn, merged, run, said, scan, start, wait_for_a_band};

/// Starts a scan of two scenes, does `harm` to the first once a band of it is finished, and gives what the run said.
fn harmed(io: &str, harm: impl Fn(&Path)) -> String {
    let folder = drawn("1500");
    let args = scan(folder.path(), "out", &[&SLOW[..], &["--io", io]].concat());
    let task = start(&args);
    wait_for_a_band(&folder.path().join("out"));
    harm(&folder.path().join("first.tif"));
    let ended = task.wait_with_output().unwrap();
    let text = said(&ended);
    assert_eq!(ended.status.code(), Some(3), "{text}");
    assert!(text.contains("failed: first") && text.contains("first.tif"), "{text}");
    let manifest = folder.path().join("out/shards/shard-00000-of-00001/shard.json");
    assert!(String::from_utf8(bytes(manifest)).unwrap().contains("first.tif"), "the reason is in shard.json");
    // The other scene went on, and nothing of the harmed one is in the catalogue.
    let out = folder.path().join("out");
    let merge = run(&["merge".into(), out.to_str().unwrap().into()]);
    assert_eq!(merge.status.code(), Some(3), "{}", said(&merge));
    let catalogue = String::from_utf8(bytes(out.join("catalogue.csv"))).unwrap();
    let of = |name: &str| catalogue.lines().filter(|line| line.split(',').nth(1) == Some(name)).count();
    assert!(of("first") == 0 && of("second") > 2, "{catalogue}");
    text
}

#[test]
fn a_scene_cut_short_under_its_map_fails_and_the_others_go_on() {
    let cut = |path: &Path| OpenOptions::new().write(true).open(path).unwrap().set_len(4096).unwrap();
    let text = harmed("mmap", cut);
    assert!(text.contains("could not be read where it is mapped"), "no SIGBUS was seen: {text}");
    let text = harmed("pread", cut);
    assert!(text.contains("first.tif"), "{text}");
}

#[test]
fn no_reader_takes_the_zeros_of_a_cut_file_for_pixels() {
    let folder = drawn("700");
    let path = folder.path().join("first.tif");
    let scene = MappedScene::open_by(&path, load("unet1").unwrap().input, Io::Mmap).unwrap();
    let rows = scene.rows(600..700).unwrap();
    assert!(scene.window(600..664, 0..64).is_ok() && rows.unchanged().is_ok());
    OpenOptions::new().write(true).open(&path).unwrap().set_len(4096).unwrap();
    let why = scene.window(600..664, 0..64).unwrap_err().to_string();
    assert!(why.contains("first.tif"), "{why}");
    assert!(rows.row(650).iter().all(|&v| v == 0), "the page is gone");
    let why = rows.unchanged().unwrap_err().to_string();
    assert!(why.contains("could not be read where it is mapped"), "{why}");
}

#[test]
fn a_scene_rewritten_or_replaced_while_it_is_read_is_not_published() {
    for io in ["mmap", "pread"] {
        let rewrite = |path: &Path| {
            OpenOptions::new().write(true).open(path).unwrap().write_all_at(&[9], 5000).unwrap();
        };
        let text = harmed(io, rewrite);
        assert!(text.contains("was changed or replaced"), "{text}");
        let text = harmed(io, |path| {
            let other = path.with_extension("new");
            fs::copy(path, &other).unwrap();
            fs::rename(&other, path).unwrap();
        });
        assert!(text.contains("was changed or replaced"), "{text}");
    }
}

#[test]
fn a_scene_replaced_between_two_tasks_is_scanned_from_its_start() {
    let folder = drawn("1100");
    let args = scan(folder.path(), "out", &SLOW);
    let mut task = start(&args);
    wait_for_a_band(&folder.path().join("out"));
    task.kill().unwrap();
    task.wait().unwrap();
    let place = folder.path().to_str().unwrap();
    let other = ["synth", "--out", place, "--rows", "1100", "--cols", "600", "--impacts", "5", "--seed", "9"];
    crate::files::succeed(&[&other[..], &["--name", "other"]].concat());
    fs::rename(folder.path().join("other.tif"), folder.path().join("first.tif")).unwrap();
    let list = fs::read_to_string(folder.path().join("scenes.csv")).unwrap();
    let lines: Vec<_> = list.lines().filter(|line| !line.starts_with("other")).collect();
    fs::write(folder.path().join("scenes.csv"), lines.join("\n") + "\n").unwrap();
    let ended = run(&args);
    assert!(ended.status.success(), "{}", said(&ended));
    let afresh = run(&scan(folder.path(), "afresh", &SLOW));
    assert!(afresh.status.success(), "{}", said(&afresh));
    assert_eq!(merged(folder.path(), "out"), merged(folder.path(), "afresh"));
}

#[test]
fn reading_and_mapping_give_the_same_bytes() {
    let folder = drawn("700");
    let catalogues = ["mmap", "pread"].map(|io| {
        let ended = run(&scan(folder.path(), io, &["--device", "cpu", "--io", io]));
        assert!(ended.status.success(), "{}", said(&ended));
        merged(folder.path(), io)
    });
    assert!(catalogues[0] == catalogues[1] && catalogues[0].len() > 200);
}
