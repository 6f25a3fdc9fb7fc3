//! `scan --screen`: less is looked at, and what is looked at is as without it.

use std::fs;
use std::path::Path;

use marscan::config::InputSettings;
use marscan::raster::MappedScene;
use marscan::records::ShardManifest;
use tempfile::TempDir;

use crate::files::{bytes, fail, succeed};

fn scene() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let size = ["--rows", "1500", "--cols", "1300", "--impacts", "6", "--seed", "11", "--name", "drawn"];
    succeed(&[&["synth", "--out", folder.path().to_str().unwrap()], &size[..]].concat());
    folder
}

/// Scans and merges into `out`; gives the catalogue and the scene's probabilities.
fn scan(folder: &Path, out: &str, flags: &[&str]) -> (Vec<u8>, Vec<u8>) {
    let (list, out) = (folder.join("scenes.csv"), folder.join(out));
    let fixed = ["scan", "--scenes", list.to_str().unwrap(), "--out", out.to_str().unwrap()];
    succeed(&[&fixed[..], &["--device", "cpu", "--probabilities"], flags].concat());
    succeed(&["merge", out.to_str().unwrap()]);
    let map = MappedScene::open(&out.join("probabilities/drawn.tif"), InputSettings::MASK).unwrap();
    let pixels = map.window(0..map.header().rows, 0..map.header().cols).unwrap();
    (bytes(out.join("catalogue.csv")), pixels)
}

/// Valid pixels, those that were looked at, and those computed, in a run of one shard.
fn counts(out: &Path) -> (u64, Option<u64>, u64) {
    let text = fs::read_to_string(out.join("shards/shard-00000-of-00001/shard.json")).unwrap();
    let manifest: ShardManifest = serde_json::from_str(&text).unwrap();
    let scene = &manifest.scenes[0];
    (scene.valid_px, scene.looked_px, scene.computed_px)
}

#[test]
fn a_screened_scan_finds_the_same_in_less_of_the_scene() {
    let folder = scene();
    let folder = folder.path();
    let (catalogue, all) = scan(folder, "all", &[]);
    let (screened, seen) = scan(folder, "screened", &["--screen"]);
    assert_eq!(catalogue, screened);
    let (valid, looked, computed) = counts(&folder.join("screened"));
    let looked = looked.unwrap();
    assert!(looked > 0 && looked < valid / 2 && computed < valid, "{looked} of {valid}, {computed} computed");
    assert_eq!(counts(&folder.join("all")).1, None);
    let says = |out: &str| {
        fs::read_to_string(folder.join(out).join("report.html")).unwrap().contains("A first look")
    };
    assert!(says("screened") && !says("all"));
    // The full scan's to the bit, or left out.
    let (mut same, mut out) = (0, 0);
    for (a, b) in all.iter().zip(&seen).filter(|(a, _)| **a != 0) {
        assert!(a == b || *b == 0);
        *if a == b { &mut same } else { &mut out } += 1;
    }
    assert!(same > 1000 && out > 1000, "{same} the same, {out} left out");
    for (name, flags) in [
        ("bands", &["--band-rows", "352", "--threads", "1"][..]),
        ("shards", &["--shards", "3", "--band-rows", "100"]),
    ] {
        assert!(
            scan(folder, name, &[&["--screen"], flags].concat()) == (screened.clone(), seen.clone()),
            "{name}"
        );
    }
}

#[test]
fn windows_are_left_out_too() {
    let folder = scene();
    let folder = folder.path();
    let with =
        |out, flags: &[&str]| scan(folder, out, &[&["--settings", "threshold", "--screen"], flags].concat());
    let whole = with("128", &["--window", "128"]);
    let (valid, looked, computed) = counts(&folder.join("128"));
    assert!(looked.unwrap() < valid / 2 && computed < valid, "{looked:?} of {valid}, {computed} computed");
    assert!(whole == with("64", &["--window", "64", "--shards", "2"]));
    let (_, all) = scan(folder, "all", &["--settings", "threshold"]);
    assert!(all.iter().zip(&whole.1).all(|(a, b)| a == b || *b == 0));
}

#[test]
fn another_screen_is_another_run_and_a_wrong_one_is_refused() {
    let folder = scene();
    let list = folder.path().join("scenes.csv");
    let out = folder.path().join("out");
    let fixed = [
        "scan",
        "--scenes",
        list.to_str().unwrap(),
        "--out",
        out.to_str().unwrap(),
        "--settings",
        "threshold",
    ];
    let with = |flags: &[&'static str]| [&fixed[..], flags].concat();
    let text = succeed(&with(&["--screen"]));
    assert!(text.contains("screened: ") && text.contains("% of the valid pixels were looked at"), "{text}");
    for flags in [&[][..], &["--screen", "--screen-probability", "0.9"]] {
        let (code, message) = fail(&with(flags));
        assert!(code == 2 && message.contains("made with another settings"), "{code}: {message}");
    }
    for (flags, wanted) in [
        (
            &["--screen", "--screen-probability", "1.5"][..],
            "scan.screen.probability = 1.5: must be above 0 and below 1",
        ),
        (
            &["--screen", "--screen-weights", "configs/unet1.safetensors"],
            "the weights cannot be used: tensor enc.1.conv1.weight",
        ),
        (
            &["--screen", "--screen-weights", "nothing.safetensors"],
            "cannot read the weights nothing.safetensors",
        ),
    ] {
        let (code, message) = fail(&with(flags));
        assert!(code == 2 && message.contains(wanted), "{code}: {message}");
    }
    // As a settings file says.
    let mut settings = succeed(&["settings", "--settings", "threshold"]);
    settings += "\n[scan.screen]\nwidths = [32, 64]\nreduce = 3\nprobability = 0.5\n";
    let file = folder.path().join("mine.toml");
    fs::write(&file, settings).unwrap();
    let (code, message) = fail(&[&fixed[..5], &["--settings", file.to_str().unwrap()]].concat());
    assert!(
        code == 2 && message.contains("scan.screen.reduce = 3: must be 2, 4, 8 or 16"),
        "{code}: {message}"
    );
}
