//! The same catalogue, byte for byte, whatever the shards, bands, threads and batches; the same impacts
//! whatever the windows.

use std::path::Path;

use marscan::records::Impact;
use marscan::unet::DirectSegmenter;

use crate::files::{bytes, fail, succeed, tiff};

/// Draws a dark disc, or a bar, on grey ground.
fn draw(pixels: &mut [u8], cols: usize, inside: impl Fn(f64, f64) -> bool) {
    for (k, v) in pixels.iter_mut().enumerate() {
        if inside((k / cols) as f64, (k % cols) as f64) {
            *v = 30;
        }
    }
}

/// A list of two scenes with impacts over every kind of edge: of windows and bands (multiples of 64), of
/// shards, of the scene, of its no-data border; one is taller than any band.
fn scenes(folder: &Path) {
    let (rows, cols) = (1000, 517);
    let mut first: Vec<u8> = (0..rows * cols).map(|k| 90 + (k * 31 % 47) as u8).collect();
    let discs = [
        (64.0, 64.0, 9.0),
        (128.0, 200.0, 14.0),
        (3.0, 300.0, 12.0),
        (996.0, 100.0, 12.0),
        (500.0, 2.0, 10.0),
        (300.0, 463.0, 10.0),
        (320.0, 320.0, 11.0),
        (448.5, 130.0, 8.0),
        (700.0, 440.0, 16.0),
    ];
    for (row, col, radius) in discs {
        draw(&mut first, cols, |r, c| (r - row).hypot(c - col) < radius);
    }
    draw(&mut first, cols, |r, c| {
        (180.0..900.0).contains(&r) && (c - 250.0 - 20.0 * (r / 40.0).sin()).abs() < 4.0
    });
    for (k, v) in first.iter_mut().enumerate() {
        if k % cols > 450 + (k / cols) / 20 {
            *v = 0;
        }
    }
    tiff(&folder.join("first.tif"), cols, &first);
    let mut second = vec![120; 130 * 70];
    draw(&mut second, 70, |r, c| (r - 64.0).hypot(c - 35.0) < 20.0);
    tiff(&folder.join("second.tif"), 70, &second);
    std::fs::write(folder.join("scenes.csv"), "file_name,height,width\nfirst,1000,517\nsecond,130,70\n")
        .unwrap();
}

fn catalogue(folder: &Path, name: &str, flags: &[&str]) -> Vec<u8> {
    let (list, out) = (folder.join("scenes.csv"), folder.join(name));
    let (list, out) = (list.to_str().unwrap(), out.to_str().unwrap());
    let window: &[&str] = if flags.contains(&"--window") { &[] } else { &["--window", "64"] };
    succeed(&[&["scan", "--scenes", list, "--out", out, "--settings", "threshold"], window, flags].concat());
    succeed(&["merge", out]);
    bytes(Path::new(out).join("catalogue.csv"))
}

#[test]
fn any_count_of_shards_bands_threads_and_batches_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    scenes(folder);
    let wanted = catalogue(folder, "whole", &["--band-rows", "100000"]);
    let text = String::from_utf8(wanted.clone()).unwrap();
    // Nine discs and a bar in the first scene, a disc in the second.
    assert_eq!(text.lines().count(), 1 + 11, "{text}");
    assert!(
        text.lines().any(|line| line.contains(",180,") && line.contains(",900,")),
        "the tall one: {text}"
    );
    for (name, flags) in [
        ("2", &["--shards", "2"][..]),
        ("3", &["--shards", "3", "--threads", "1"]),
        ("7", &["--shards", "7", "--batch", "3"]),
        ("64", &["--shards", "64"]),
        ("bands", &["--band-rows", "3"]),
        ("bands128", &["--band-rows", "128", "--threads", "2"]),
        ("windows", &["--window", "96"]),
    ] {
        assert_eq!(catalogue(folder, name, flags), wanted, "{name}");
    }
}

#[test]
fn a_finished_shard_is_left_alone_and_other_results_are_never_mixed_in() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    scenes(folder);
    let (list, out) = (folder.join("scenes.csv"), folder.join("out"));
    let (list, out) = (list.to_str().unwrap(), out.to_str().unwrap());
    let scan = ["scan", "--scenes", list, "--out", out, "--settings", "threshold", "--shards", "3"];
    succeed(&[&scan[..], &["--shard", "1"]].concat());
    let (code, message) = fail(&["merge", out]);
    assert_eq!(code, 1);
    assert!(message.contains("2 of 3 shards are missing") && message.contains("0, 2"), "{message}");
    let manifest = folder.join("out/shards/shard-00001-of-00003/shard.json");
    let before = bytes(&manifest);
    assert!(succeed(&scan).contains("nothing to do"));
    assert_eq!(bytes(&manifest), before);
    let (code, message) = fail(&[&scan[..], &["--probability", "0.7"]].concat());
    assert_eq!(code, 2);
    assert!(message.contains("another settings"), "{message}");
    // A bit turned over in a published file is found.
    let blobs = folder.join("out/shards/shard-00002-of-00003/seams.csv");
    let mut damaged = bytes(&blobs);
    damaged[3] ^= 1;
    std::fs::write(&blobs, damaged).unwrap();
    let (code, message) = fail(&["merge", out]);
    assert_eq!(code, 1);
    assert!(message.contains("checksum"), "{message}");
}

#[test]
fn the_stages_of_a_band_add_up_to_its_wall_time() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    scenes(folder);
    catalogue(folder, "out", &["--band-rows", "64"]);
    let timing = String::from_utf8(bytes(folder.join("out/timing.csv"))).unwrap();
    let rows: Vec<Vec<&str>> = timing.lines().skip(1).map(|line| line.split(',').collect()).collect();
    assert!(rows.len() > 60, "{timing}");
    for pair in rows.windows(2).filter(|pair| pair[0][1..3] == pair[1][1..3] && !pair[0][1].is_empty()) {
        let number = |text: &str| text.parse::<f64>().unwrap();
        let ended = number(pair[0][4]) + number(pair[0][5]);
        assert!((ended - number(pair[1][4])).abs() < 1e-6, "a gap between {:?} and {:?}", pair[0], pair[1]);
    }
}

#[test]
fn the_network_too_gives_the_same_bytes_over_shards_threads_and_bands() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let place = folder.to_str().unwrap();
    succeed(&["synth", "--out", place, "--rows", "420", "--cols", "300", "--impacts", "6", "--seed", "11"]);
    let list = folder.join("scenes.csv");
    let scan = |name: &str, flags: &[&str]| {
        let out = folder.join(name);
        let out = out.to_str().unwrap();
        let common = ["scan", "--scenes", list.to_str().unwrap(), "--out", out, "--device", "cpu"];
        let loose = ["--min-score", "0", "--min-area", "1"];
        succeed(&[&common[..], &loose, flags].concat());
        succeed(&["merge", out]);
        bytes(Path::new(out).join("catalogue.csv"))
    };
    let everywhere_the_same = |precision: &str| {
        let scan = |name: &str, flags: &[&str]| {
            let precision = ["--window", "100", "--precision", precision];
            scan(&format!("{}-{name}", precision[3]), &[&precision, flags].concat())
        };
        let wanted = scan("whole", &[]);
        assert!(String::from_utf8_lossy(&wanted).lines().count() > 3, "nothing was found in {precision}");
        assert!(scan("3", &["--shards", "3", "--threads", "1"]) == wanted, "{precision}");
        assert!(scan("7", &["--shards", "7", "--band-rows", "53"]) == wanted, "{precision}");
        wanted
    };
    let wanted = everywhere_the_same("f32");
    if DirectSegmenter::offers_bf16() {
        assert!(everywhere_the_same("bf16") != wanted);
    } else {
        println!("bf16 not run: no AMX here");
    }
    // Other windows round otherwise, by 1e-5: the same impacts, a pixel on the edge more or less.
    let wanted = read(&wanted);
    for window in ["64", "176"] {
        let others = read(&scan(window, &["--window", window]));
        assert_eq!(others.len(), wanted.len(), "windows of {window} px");
        for (a, b) in wanted.iter().zip(&others) {
            let off = (a.row_px - b.row_px).hypot(a.col_px - b.col_px);
            assert!(
                off < 0.1 && a.area_px.abs_diff(b.area_px) <= 1,
                "windows of {window} px: {a:?} and {b:?}"
            );
        }
    }
}

fn read(catalogue: &[u8]) -> Vec<Impact> {
    csv::Reader::from_reader(catalogue).deserialize().map(Result::unwrap).collect()
}

#[test]
fn the_squared_error_is_the_masks_whatever_the_shards() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    // No data, a false find, two right ones, a miss, ground.
    let (pixels, mask) = ([0, 10, 10, 10, 200, 200], [255, 0, 255, 255, 255, 0]);
    tiff(&folder.join("s.tif"), 6, &pixels.repeat(40));
    tiff(&folder.join("s_gt.tif"), 6, &mask.repeat(40));
    let list = folder.join("scenes.csv");
    std::fs::write(&list, "file_name,height,width,mask\ns,40,6,s_gt.tif\n").unwrap();
    for shards in ["1", "3"] {
        let out = folder.join(shards);
        let (list, out) = (list.to_str().unwrap(), out.to_str().unwrap());
        let flags = ["--masks", "--settings", "threshold", "--window", "64", "--band-rows", "7"];
        succeed(&[&["scan", "--scenes", list, "--out", out, "--shards", shards], &flags[..]].concat());
        succeed(&["merge", out]);
        let catalogue = format!("{out}/catalogue.csv");
        let mask = folder.join("s_gt.tif");
        let text = succeed(&["eval", "--catalogue", &catalogue, "--truth", mask.to_str().unwrap()]);
        assert!(text.contains("40.0000   60.0000") && !text.contains("valid pixels:"), "{text}");
    }
    let out = folder.join("mixed");
    let (list, out) = (list.to_str().unwrap(), out.to_str().unwrap());
    let half = ["scan", "--scenes", list, "--out", out, "--settings", "threshold", "--window", "64"];
    succeed(&[&half[..], &["--shards", "2", "--shard", "0", "--masks"]].concat());
    succeed(&[&half[..], &["--shards", "2", "--shard", "1"]].concat());
    succeed(&["merge", out]);
    let catalogue = format!("{out}/catalogue.csv");
    let mask = folder.join("s_gt.tif");
    let text = succeed(&["eval", "--catalogue", &catalogue, "--truth", mask.to_str().unwrap()]);
    assert!(text.contains("mean squared errors are of 100 of 200 valid pixels: elsewhere no mask"), "{text}");
}
