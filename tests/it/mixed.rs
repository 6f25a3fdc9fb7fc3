//! What must not be mixed, and is refused or told: plans, images, lists, and runs that are not whole.

use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use tempfile::TempDir;

use crate::files::{bytes, fail, marscan, succeed};

/// Scenes `s1` to `s3` with their list, in a folder.
fn drawn(flags: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let scenes = path(&folder, "s");
    for seed in ["1", "2", "3"] {
        let name = format!("s{seed}");
        let size = ["--rows", "400", "--cols", "300", "--impacts", "4", "--seed", seed, "--name", &name];
        succeed(&[&["synth", "--out", &scenes], &size[..], flags].concat());
    }
    folder
}

fn path(folder: &TempDir, part: &str) -> String {
    folder.path().join(part).to_str().unwrap().to_owned()
}

/// Scans by grey level.
fn scan<'a>(list: &'a str, out: &'a str, flags: &[&'a str]) -> Vec<&'a str> {
    [&["scan", "--scenes", list, "--out", out, "--settings", "threshold", "--window", "64"], flags].concat()
}

#[test]
fn shards_of_two_plans_are_not_merged() {
    let folder = drawn(&[]);
    let (counted, plain) = (path(&folder, "s/scenes.csv"), path(&folder, "s/plain.csv"));
    let out = path(&folder, "out");
    fs::write(&plain, "file_name,height,width\ns1,400,300\ns2,400,300\ns3,400,300\n").unwrap();
    succeed(&scan(&plain, &out, &["--shards", "2", "--shard", "0"]));
    succeed(&scan(&counted, &out, &["--shards", "2", "--shard", "1"]));
    assert!(fail(&["merge", &out]).1.contains("their scene list differs"));
}

#[test]
fn shards_of_two_images_are_not_merged_and_a_replaced_image_is_not_done() {
    let folder = drawn(&[]);
    let (list, out) = (path(&folder, "list.csv"), path(&folder, "out"));
    fs::write(&list, "file_name,height,width\nx,400,300\n").unwrap();
    let image = |from: &str| fs::copy(path(&folder, from), path(&folder, "x.tif")).unwrap();
    image("s/s1.tif");
    succeed(&scan(&list, &out, &["--shards", "2", "--shard", "0"]));
    image("s/s2.tif");
    let (code, message) = fail(&scan(&list, &out, &["--shards", "2", "--shard", "0"]));
    assert!(code == 2 && message.contains("another image of x"), "{message}");
    succeed(&scan(&list, &out, &["--shards", "2", "--shard", "1"]));
    let (code, message) = fail(&["merge", &out]);
    assert!(code == 1 && message.contains("read different images of x"), "{message}");
    // The same bytes in another place are the same image.
    image("s/s1.tif");
    succeed(&scan(&list, &out, &["--shards", "2", "--shard", "0"]));
}

#[test]
fn a_finished_shard_names_what_failed_and_what_it_was_made_without() {
    let folder = drawn(&[]);
    let (list, out) = (path(&folder, "s/scenes.csv"), path(&folder, "out"));
    let good = bytes(path(&folder, "s/s2.tif"));
    fs::write(path(&folder, "s/s2.tif"), &good[..1000]).unwrap();
    assert_eq!(marscan(&scan(&list, &out, &[])).status.code(), Some(3));
    fs::write(path(&folder, "s/s2.tif"), &good).unwrap();
    let again = marscan(&scan(&list, &out, &[]));
    let text = String::from_utf8(again.stdout).unwrap();
    assert_eq!(again.status.code(), Some(3));
    assert!(text.contains("failed: s2 (") && text.contains("remove "), "{text}");
    let (code, message) = fail(&scan(&list, &out, &["--masks"]));
    assert!(code == 2 && message.contains("made without --masks"), "{message}");
    let plain = path(&folder, "s/plain.csv");
    fs::write(&plain, "file_name,height,width\ns1,400,300\n").unwrap();
    let (code, message) = fail(&scan(&plain, &path(&folder, "masks"), &["--masks"]));
    assert!(code == 2 && message.contains("names no mask"), "{message}");
}

#[test]
fn a_list_is_not_where_merge_writes_its_own_and_a_demo_not_where_a_run_is() {
    let folder = drawn(&[]);
    let (list, out) = (path(&folder, "s/scenes.csv"), path(&folder, "out"));
    let (code, message) = fail(&scan(&list, &path(&folder, "s"), &[]));
    assert!(code == 2 && message.contains("choose another --out"), "{message}");
    succeed(&scan(&list, &out, &[]));
    let (code, message) = fail(&["demo", "--out", &out, "--device", "cpu"]);
    assert!(code == 2 && message.contains("a run of its own"), "{message}");
    assert!(Path::new(&out).join("shards/shard-00000-of-00001/shard.json").exists());
}

#[test]
fn what_was_not_scanned_is_not_missed() {
    let folder = drawn(&[]);
    let (list, out, truth) = (path(&folder, "s/scenes.csv"), path(&folder, "out"), path(&folder, "s"));
    let catalogue = path(&folder, "out/catalogue.csv");
    let recalls = |text: &str| -> Vec<(String, u64)> {
        let lines = text.lines().filter(|line| line.starts_with('s') && !line.starts_with("scene"));
        let fields = lines.map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        fields.map(|fields| (fields[0].clone(), fields[1].parse().unwrap())).collect()
    };
    succeed(&scan(&list, &out, &["--shards", "4", "--shard", "1"]));
    marscan(&["merge", &out, "--allow-partial"]);
    let partly = marscan(&["eval", "--catalogue", &catalogue, "--truth", &truth]);
    let text = String::from_utf8(partly.stdout).unwrap();
    assert_eq!(partly.status.code(), Some(3), "{text}");
    assert!(text.contains("in rows that no shard has"), "{text}");
    let all: u64 = recalls(&text).iter().map(|(_, truth)| truth).sum();
    assert!(all < 8, "a quarter of twelve and no more is scored: {text}");

    fs::remove_dir_all(&out).unwrap();
    fs::write(path(&folder, "s/s2.tif"), [0; 100]).unwrap();
    marscan(&scan(&list, &out, &[]));
    marscan(&["merge", &out]);
    let partly = marscan(&["eval", "--catalogue", &catalogue, "--truth", &truth]);
    let text = String::from_utf8(partly.stdout).unwrap();
    assert!(partly.status.code() == Some(3) && text.contains("left out: s2, which failed"), "{text}");
    assert_eq!(recalls(&text), [("s1".to_owned(), 4), ("s3".to_owned(), 4)], "{text}");
    assert_eq!(fail(&["eval", "--catalogue", &catalogue, "--truth", &truth, "--min-score", "nan"]).0, 2);
}

#[test]
fn the_area_searched_is_the_same_whatever_the_shards_and_bands() {
    let folder = drawn(&["--georef"]);
    let list = path(&folder, "s/scenes.csv");
    let mut found = Vec::new();
    for (name, flags) in
        [("1", &["--shards", "1"][..]), ("7", &["--shards", "7"]), ("b", &["--band-rows", "5"])]
    {
        let out = path(&folder, name);
        succeed(&scan(&list, &out, flags));
        succeed(&["merge", &out]);
        found.push(["catalogue.diam", "catalogue.scc"].map(|file| bytes(Path::new(&out).join(file))));
    }
    assert!(found.iter().all(|files| *files == found[0]));
}

#[test]
fn a_list_that_would_be_empty_or_name_two_files_alike_is_not_written() {
    let folder = drawn(&[]);
    let (list, empty) = (path(&folder, "s/scenes.csv"), path(&folder, "empty"));
    let before = bytes(&list);
    fs::create_dir(&empty).unwrap();
    assert_eq!(fail(&["info", &empty, "--scenes", &list]).0, 1);
    fs::copy(path(&folder, "s/s1.tif"), path(&folder, "empty/s1.tif")).unwrap();
    let (code, message) = fail(&["info", &path(&folder, "s"), &empty, "--scenes", &list]);
    assert!(code == 2 && message.contains("both be s1"), "{message}");
    assert!(bytes(&list) == before);
    fs::write(&list, "file_name,height,width\nx,10000000000000,500\n").unwrap();
    let (code, message) = fail(&["plan", "--scenes", &list, "--shards", "2"]);
    assert!(code == 2 && message.contains("2147483647"), "{message}");
}

#[test]
fn a_merge_that_is_refused_leaves_what_there_was() {
    let folder = drawn(&[]);
    let (list, out) = (path(&folder, "s/scenes.csv"), path(&folder, "out"));
    succeed(&scan(&list, &out, &["--probabilities"]));
    succeed(&["merge", &out, "--overlay"]);
    let (overlay, map) = (path(&folder, "out/overlays/s1.png"), path(&folder, "out/probabilities/s1.tif"));
    let verdicts = path(&folder, "v.csv");
    fs::write(&verdicts, "id,verdict,reviewer,time,note\n9999,accept,ann,,\n").unwrap();
    fail(&["merge", &out, "--verdicts", &verdicts]);
    assert!(Path::new(&overlay).exists() && Path::new(&map).exists());
    // A run without maps leaves none of an earlier one.
    fs::remove_dir_all(path(&folder, "out/shards")).unwrap();
    succeed(&scan(&list, &out, &[]));
    succeed(&["merge", &out]);
    assert!(!Path::new(&overlay).exists() && !Path::new(&map).exists());
}

/// A picture of 64 x 64 px in one Deflate strip.
fn deflated(path: &Path, packed: &[u8]) {
    let entry = |tag: u16, kind: u16, value: u32| {
        [&tag.to_le_bytes()[..], &kind.to_le_bytes(), &1u32.to_le_bytes(), &value.to_le_bytes()].concat()
    };
    let entries = [
        (256, 64),
        (257, 64),
        (258, 8),
        (259, 8),
        (262, 1),
        (273, 122),
        (277, 1),
        (278, 64),
        (279, packed.len() as u32),
    ];
    let mut file = [&b"II*\0"[..], &8u32.to_le_bytes(), &9u16.to_le_bytes()].concat();
    for (tag, value) in entries {
        file.extend(entry(tag, 4, value));
    }
    file.extend([0; 4]);
    file.extend(packed);
    fs::write(path, file).unwrap();
}

#[test]
fn a_deflate_strip_whose_checksum_is_wrong_fails() {
    let folder = tempfile::tempdir().unwrap();
    let mut packer = ZlibEncoder::new(Vec::new(), Compression::none());
    packer.write_all(&[100; 64 * 64]).unwrap();
    let mut packed = packer.finish().unwrap();
    let (list, image) = (path(&folder, "scenes.csv"), folder.path().join("x.tif"));
    fs::write(&list, "file_name,height,width\nx,64,64\n").unwrap();
    deflated(&image, &packed);
    succeed(&scan(&list, &path(&folder, "good"), &[]));
    packed[2000] ^= 1;
    deflated(&image, &packed);
    let output = marscan(&scan(&list, &path(&folder, "bad"), &[]));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.code() == Some(1) && text.contains("Deflate data is damaged"), "{text}");
}

#[test]
fn truth_in_two_tables_weights_for_a_grey_level_and_names_with_folders_are_refused() {
    let folder = drawn(&[]);
    let (list, out) = (path(&folder, "s/scenes.csv"), path(&folder, "out"));
    succeed(&scan(&list, &out, &[]));
    succeed(&["merge", &out]);
    fs::write(path(&folder, "s/all_truth.csv"), "scene,row,col,diam_px\ns1,5,5,9\n").unwrap();
    let catalogue = path(&folder, "out/catalogue.csv");
    let (code, message) = fail(&["eval", "--catalogue", &catalogue, "--truth", &path(&folder, "s")]);
    assert!(code == 1 && message.contains("all_truth.csv and in"), "{message}");
    assert_eq!(fail(&scan(&list, &path(&folder, "w"), &["--weights", "none.safetensors"])).0, 2);
    let size = ["--rows", "64", "--cols", "64", "--impacts", "0"];
    assert_eq!(fail(&[&["synth", "--out", &out, "--name", "../x"], &size[..]].concat()).0, 2);
}
