//! Maps of probabilities: the same bytes whatever scanned them, what GDAL says of them, and what is refused.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use marscan::config::InputSettings;
use marscan::raster::MappedScene;
use marscan::records::Impact;
use marscan::table::read_rows;
use tempfile::TempDir;

use crate::files::{bytes, fail, has, marscan, shared, succeed, tiff};

/// A folder with a georeferenced scene of more than one row of tiles, and one that is not georeferenced.
fn scenes() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().to_str().unwrap();
    let size =
        ["--rows", "1100", "--cols", "700", "--impacts", "8", "--seed", "3", "--name", "first", "--georef"];
    succeed(&[&["synth", "--out", place], &size[..]].concat());
    let discs: Vec<u8> = (0..300 * 200)
        .map(|k| if (k / 200 % 60_i32 - 30).pow(2) + (k % 50 - 25).pow(2) < 90 { 20 } else { 130 })
        .collect();
    tiff(&folder.path().join("discs.tif"), 200, &discs);
    let list = folder.path().join("scenes.csv");
    let text = fs::read_to_string(&list).unwrap();
    fs::write(&list, format!("{text}few/discs,300,200,discs.tif,,\n")).unwrap();
    folder
}

/// Scans and merges into `out`; gives the maps' files.
fn maps(folder: &Path, out: &str, flags: &[&str]) -> [PathBuf; 2] {
    let (list, out) = (folder.join("scenes.csv"), folder.join(out));
    let fixed =
        ["scan", "--scenes", list.to_str().unwrap(), "--out", out.to_str().unwrap(), "--probabilities"];
    succeed(&[&fixed, flags].concat());
    let text = succeed(&["merge", out.to_str().unwrap()]);
    assert!(text.contains("2 maps of probabilities: "), "{text}");
    ["first.tif", "few/discs.tif"].map(|name| out.join("probabilities").join(name))
}

fn open(path: &Path) -> Arc<MappedScene> {
    MappedScene::open(path, InputSettings { valid_min: 3, valid_max: 1021 }).unwrap()
}

fn pixels(path: &Path) -> Vec<u8> {
    let scene = open(path);
    scene.window(0..scene.header().rows, 0..scene.header().cols).unwrap()
}

#[test]
fn shards_bands_and_threads_do_not_change_a_byte_of_a_map() {
    let folder = scenes();
    let folder = folder.path();
    let whole = maps(folder, "whole", &["--settings", "threshold", "--band-rows", "100000"]);
    for (name, file) in [("first", 0), ("discs", 1)] {
        let scene = pixels(&folder.join(format!("{name}.tif")));
        let wanted: Vec<u8> = scene.iter().map(|v| if (1..=60).contains(v) { 255 } else { 0 }).collect();
        assert!(pixels(&whole[file]) == wanted && wanted.contains(&255), "{name}");
    }
    for (name, flags) in [
        ("3", &["--shards", "3", "--threads", "1", "--window", "64"][..]),
        ("8", &["--shards", "8", "--window", "96", "--band-rows", "96"]),
        ("bands", &["--band-rows", "5", "--threads", "2"]),
    ] {
        let made = maps(folder, name, &[&["--settings", "threshold"], flags].concat());
        assert!(whole.iter().zip(&made).all(|(a, b)| bytes(a) == bytes(b)), "{name}");
    }
}

#[test]
fn a_networks_map_has_the_catalogues_peaks_in_it_and_costs_nothing_when_not_asked_for() {
    let folder = scenes();
    let folder = folder.path();
    let device = ["--device", "cpu"];
    let one = maps(folder, "one", &device);
    let three = maps(folder, "three", &[&device[..], &["--shards", "3", "--band-rows", "61"]].concat());
    assert!(one.iter().zip(&three).all(|(a, b)| bytes(a) == bytes(b)));
    let impacts: Vec<Impact> = read_rows(&folder.join("one/catalogue.csv")).unwrap();
    let map = open(&one[0]);
    for impact in impacts.iter().filter(|impact| impact.scene == "first") {
        let inside = map.window(impact.row0_px..impact.row1_px, impact.col0_px..impact.col1_px).unwrap();
        let peak = f64::from(*inside.iter().max().unwrap()) / 255.0;
        assert!((peak - impact.peak).abs() < 1e-4, "{peak}, {impact:?}");
    }
    assert!(impacts.len() > 4, "{impacts:?}");
    let (list, out) = (folder.join("scenes.csv"), folder.join("without"));
    let (list, out) = (list.to_str().unwrap(), out.to_str().unwrap());
    succeed(&["scan", "--scenes", list, "--out", out, "--device", "cpu"]);
    succeed(&["merge", out]);
    let shard = folder.join("without/shards/shard-00000-of-00001");
    assert!(!folder.join("without/probabilities").exists() && !shard.join("probabilities.bin").exists());
    assert!(bytes(folder.join("without/catalogue.csv")) == bytes(folder.join("one/catalogue.csv")));
}

/// What gdalinfo says; fails on any complaint.
fn gdalinfo(path: &Path) -> String {
    let output = Command::new("gdalinfo").args(["-mm", "-stats"]).arg(path).output().unwrap();
    drop(fs::remove_file(path.with_extension("tif.aux.xml")));
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints.is_empty(), "{}: {complaints}", path.display());
    String::from_utf8(output.stdout).unwrap()
}

/// Where gdalinfo says that a picture is.
fn place(text: &str) -> String {
    let from = |start: &str, end: &str| {
        let from = text.find(start).unwrap_or_else(|| panic!("{start}: {text}"));
        &text[from..from + text[from..].find(end).unwrap()]
    };
    let parts = [("Coordinate System is", "Metadata"), ("Corner Coordinates", "Band 1")];
    parts.map(|(start, end)| from(start, end)).concat()
}

#[test]
fn maps_of_real_files_lie_where_these_do() {
    let Some(real) = shared("data/georef") else { return };
    if !has("gdalinfo") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let files =
        ["before_u8_tiled_deflate", "before_u16_bigendian", "nochange_after_u8_strip", "mars_geographic_lzw"];
    let paths = files.map(|name| real.join(format!("{name}.tif")));
    let line = |(path, name): (&PathBuf, &str)| {
        let scene = open(path);
        format!("{name},{},{},{}\n", scene.header().rows, scene.header().cols, path.display())
    };
    let lines: Vec<String> = paths.iter().zip(files).map(line).collect();
    let list = folder.path().join("scenes.csv");
    fs::write(&list, format!("file_name,height,width,path\n{}", lines.concat())).unwrap();
    let (list, out) = (list.to_str().unwrap(), folder.path().join("out"));
    let fixed = ["scan", "--scenes", list, "--settings", "threshold", "--probabilities", "--out"];
    succeed(&[&fixed[..], &[out.to_str().unwrap()]].concat());
    succeed(&["merge", out.to_str().unwrap()]);
    for (path, name) in paths.iter().zip(files) {
        let map = gdalinfo(&out.join("probabilities").join(format!("{name}.tif")));
        // Without statistics, which would be written beside the file.
        let real = Command::new("gdalinfo").arg(path).output().unwrap();
        assert_eq!(place(&map), place(&String::from_utf8(real.stdout).unwrap()), "{name}");
    }
}

#[test]
fn gdal_finds_a_map_on_mars_with_tiles_and_overviews() {
    if !has("gdalinfo") || !has("gdal_translate") {
        return;
    }
    let folder = scenes();
    let made = maps(folder.path(), "out", &["--settings", "threshold", "--shards", "2"]);
    let [scene, map] = [&folder.path().join("first.tif"), &made[0]].map(|path| gdalinfo(path));
    for part in [
        "Size is 700, 1100",
        "Block=256x256 Type=Byte",
        "COMPRESSION=DEFLATE",
        "Overviews: 350x550, 175x275",
        "NoData Value=0",
        "Computed Min/Max=255.000,255.000",
    ] {
        assert!(map.contains(part), "{part}: {map}");
    }
    assert_eq!(place(&map), place(&scene));
    // The overview that GDAL reads is the map averaged down, and the pixels are the map's.
    let raw = folder.path().join("raw");
    let translate = |flags: &[&str]| {
        let mut command = Command::new("gdal_translate");
        let done = command.args(["-q", "-of", "ENVI"]).args(flags).arg(&made[0]).arg(&raw).status().unwrap();
        assert!(done.success());
        bytes(&raw)
    };
    let all = pixels(&made[0]);
    assert!(translate(&[]) == all);
    let at = |row: usize, col: usize| u32::from(all[row * 700 + col]);
    let halved: Vec<u8> = (0..550 * 350)
        .map(|k| (2 * (k / 350), 2 * (k % 350)))
        .map(|(r, c)| ((at(r, c) + at(r, c + 1) + at(r + 1, c) + at(r + 1, c + 1) + 2) / 4) as u8)
        .collect();
    assert!(translate(&["-oo", "OVERVIEW_LEVEL=0"]) == halved);
    assert!(gdalinfo(&made[1]).contains("Size is 200, 300"));
}

#[test]
fn damage_mixtures_and_missing_shards_are_told() {
    let folder = scenes();
    let place = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (list, out) = (place("scenes.csv"), place("out"));
    let scan = [
        "scan",
        "--scenes",
        &list,
        "--out",
        &out,
        "--settings",
        "threshold",
        "--window",
        "64",
        "--shards",
        "3",
    ];
    let with = |flags: &[&'static str]| [&scan[..], flags].concat();
    succeed(&with(&["--shard", "0", "--probabilities"]));
    succeed(&with(&["--shard", "1"]));
    let (code, message) = fail(&with(&["--shard", "1", "--probabilities"]));
    assert!(code == 2 && message.contains("made without --probabilities"), "{code}: {message}");
    let (code, message) = fail(&["merge", &out, "--allow-partial"]);
    assert!(code == 1 && message.contains("shard-00001-of-00003 without"), "{code}: {message}");
    fs::remove_dir_all(folder.path().join("out/shards/shard-00001-of-00003")).unwrap();
    // Rows that no shard has are 0.
    assert_eq!(marscan(&["merge", &out, "--allow-partial"]).status.code(), Some(3));
    let part = pixels(&folder.path().join("out/probabilities/first.tif"));
    succeed(&with(&["--probabilities"]));
    succeed(&["merge", &out]);
    let all = pixels(&folder.path().join("out/probabilities/first.tif"));
    let end = part.iter().rposition(|&v| v != 0).unwrap() + 1;
    assert!(part[..end] == all[..end] && all[end..].contains(&255));
    let file = folder.path().join("out/shards/shard-00002-of-00003/probabilities.bin");
    let mut damaged = bytes(&file);
    damaged[9] ^= 1;
    fs::write(&file, damaged).unwrap();
    let (code, message) = fail(&["merge", &out]);
    assert!(code == 1 && message.contains("probabilities.bin") && message.contains("checksum"), "{message}");
    // A name that leads out of the folder.
    fs::write(folder.path().join("bad.csv"), "file_name,height,width,path\n../out,300,200,discs.tif\n")
        .unwrap();
    let (list, out) = (place("bad.csv"), place("bad"));
    for flag in ["--probabilities", "--overlay"] {
        let (code, message) =
            fail(&["scan", "--scenes", &list, "--out", &out, "--settings", "threshold", flag]);
        assert!(code == 2 && message.contains("../out: a scene of this name"), "{code}: {message}");
    }
}

/// A picture's size and its pixels as `[row, col, rgb]`.
fn png(path: &Path) -> ((u32, u32), Vec<u8>) {
    let mut reader = png::Decoder::new(std::io::Cursor::new(bytes(path))).read_info().unwrap();
    let mut rgb = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut rgb).unwrap();
    (reader.info().size(), rgb)
}

#[test]
fn scenes_are_drawn_with_their_candidates_whatever_the_shards() {
    let folder = scenes();
    let place = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (list, whole, parts) = (place("scenes.csv"), place("whole"), place("parts"));
    let scan = ["scan", "--scenes", &list, "--settings", "threshold", "--window", "64", "--out"];
    succeed(&[&scan[..], &[&whole]].concat());
    succeed(&["merge", &whole]);
    assert!(!folder.path().join("whole/overlays").exists());
    let text = succeed(&[&scan[..], &[&whole, "--overlay"]].concat());
    assert!(text.contains("scanned without --overlay: say so to `marscan merge`"), "{text}");
    succeed(&["merge", &whole, "--overlay"]);
    // Any shard that was asked is enough.
    succeed(&[&scan[..], &[&parts, "--shards", "3", "--shard", "1", "--overlay"]].concat());
    succeed(&[&scan[..], &[&parts, "--shards", "3"]].concat());
    let text = succeed(&["merge", &parts]);
    assert!(text.contains("2 scenes drawn: "), "{text}");
    for name in ["overlays/first.png", "overlays/few/discs.png"] {
        let [a, b] = [&whole, &parts].map(|out| bytes(Path::new(out).join(name)));
        assert!(a == b, "{name}");
    }
    let (size, rgb) = png(&folder.path().join("whole/overlays/few/discs.png"));
    assert_eq!(size, (200, 300));
    let blue = |row: usize, col: usize| {
        let at = &rgb[(row * 200 + col) * 3..][..3];
        at[2] > at[0].saturating_add(60)
    };
    let impacts: Vec<Impact> = read_rows(&folder.path().join("whole/catalogue.csv")).unwrap();
    let discs = impacts.iter().filter(|impact| impact.scene == "few/discs");
    for impact in discs.clone() {
        let (row, col) = (impact.row_px.round() as usize, impact.col_px.round() as usize);
        let radius = 0.75 * impact.diameter_px;
        let (down, right) = ((row + radius as usize).min(299), (col + radius as usize).min(199));
        assert!(!blue(row, col) && (blue(down, col) || blue(row, right)), "{impact:?}");
    }
    assert_eq!(discs.count(), 20);
    // What an earlier merge drew does not stay beside another catalogue.
    succeed(&["merge", &whole]);
    assert!(!folder.path().join("whole/overlays/first.png").exists());
    // A scene that is not there any more is named, and the others are drawn.
    fs::remove_file(folder.path().join("discs.tif")).unwrap();
    let output = marscan(&["merge", &whole, "--overlay"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(text.contains("not drawn: few/discs (") && text.contains("1 scenes drawn"), "{text}");
}

#[test]
fn a_tall_scene_is_drawn_at_most_4096_px_high() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    tiff(&folder.path().join("tall.tif"), 100, &vec![100; 100 * 9000]);
    fs::write(place("scenes.csv"), "file_name,height,width\ntall,9000,100\n").unwrap();
    succeed(&["scan", "--scenes", &place("scenes.csv"), "--out", &place("out"), "--settings", "threshold"]);
    succeed(&["merge", &place("out"), "--overlay"]);
    assert_eq!(png(&folder.path().join("out/overlays/tall.png")).0, (34, 3000));
}
