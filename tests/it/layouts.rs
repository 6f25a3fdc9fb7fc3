//! The same picture in every layout gives the same bytes; what is not read is refused by name.

use std::path::Path;
use std::process::Command;

use marscan::config::InputSettings;
use marscan::raster::MappedScene;
use tempfile::tempdir;

use crate::files::{bytes, has, shared, tiff};

const INPUT: InputSettings = InputSettings { valid_min: 3, valid_max: 1021 };

/// A scene's rows, read in pieces that cut its chunks.
fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let scene = MappedScene::open(path, INPUT)?;
    let rows = scene.header().rows;
    let mut all = Vec::new();
    for row0 in (0..rows).step_by(37) {
        let row1 = (row0 + 37).min(rows);
        let piece = scene.rows(row0..row1)?;
        (row0..row1).for_each(|row| all.extend_from_slice(piece.row(row)));
    }
    let cols = scene.header().cols;
    for (down, right) in [(0, 0), (rows / 3, cols / 4), (rows - 1, cols - 1), (rows, cols), (rows / 2, 0)] {
        let (window_rows, window_cols) = (down..(down + 70).min(rows), right..(right + 66).min(cols));
        let cut = |row: u64| &all[(row * cols + right) as usize..][..(window_cols.end - right) as usize];
        let wanted: Vec<u8> = window_rows.clone().flat_map(cut).copied().collect();
        assert_eq!(scene.window(window_rows.clone(), window_cols.clone())?, wanted, "{window_rows:?}");
    }
    assert!(scene.window(0..rows, 0..cols + 1).is_err() && scene.window(0..rows + 1, 0..1).is_err());
    Ok(all)
}

fn picture() -> Vec<u8> {
    (0..211 * 133).map(|k| if k % 133 < 9 { 0 } else { (k / 133 + k % 133 * (k % 7)) as u8 }).collect()
}

fn translate(from: &Path, to: &Path, options: &str) {
    let output =
        Command::new("gdal_translate").arg("-q").args(options.split(' ')).args([from, to]).output().unwrap();
    assert!(output.status.success(), "{options}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_same_picture_in_every_layout_gives_the_same_bytes() {
    let folder = tempdir().unwrap();
    let plain = folder.path().join("plain.tif");
    tiff(&plain, 133, &picture());
    assert_eq!(read(&plain).unwrap(), picture());
    assert!(MappedScene::open(&plain, INPUT).unwrap().is_direct());
    if !has("gdal_translate") {
        return;
    }
    let layouts = [
        "-co COMPRESS=LZW",
        "-co COMPRESS=LZW -co PREDICTOR=2",
        "-co COMPRESS=DEFLATE -co PREDICTOR=2 -co BLOCKYSIZE=211",
        "-co COMPRESS=DEFLATE -co TILED=YES -co BLOCKXSIZE=64 -co BLOCKYSIZE=32",
        "-co COMPRESS=PACKBITS -co BLOCKYSIZE=1",
        "-co COMPRESS=ZSTD -co PREDICTOR=2",
        "-co TILED=YES -co BLOCKXSIZE=64 -co BLOCKYSIZE=48",
        "-co BIGTIFF=YES -co BLOCKYSIZE=17",
        "-co ENDIANNESS=BIG",
        "-co COMPRESS=DEFLATE -co ENDIANNESS=BIG -co BIGTIFF=YES",
    ];
    for options in layouts {
        let other = folder.path().join("other.tif");
        translate(&plain, &other, options);
        assert_eq!(read(&other).unwrap(), picture(), "{options}");
    }
    // White is 0: one rule, whether the library unpacks it or not.
    let inverted: Vec<u8> = picture().iter().map(|v| !v).collect();
    for options in ["-co PHOTOMETRIC=MINISWHITE", "-co PHOTOMETRIC=MINISWHITE -co COMPRESS=DEFLATE"] {
        let other = folder.path().join("other.tif");
        translate(&plain, &other, options);
        assert_eq!(read(&other).unwrap(), inverted, "{options}");
    }
    // 16 bits: 0..=255 stretched over 3..=1021, then back to 1..=255 the same way in both byte orders.
    let wide = folder.path().join("wide.tif");
    translate(&plain, &wide, "-ot UInt16 -scale 0 255 0 1023");
    let wanted = read(&wide).unwrap();
    assert!(wanted.iter().all(|v| *v > 0 || wanted.contains(&0)) && wanted.contains(&255));
    for options in [
        "-co ENDIANNESS=BIG",
        "-co COMPRESS=LZW -co PREDICTOR=2",
        "-co COMPRESS=DEFLATE -co PREDICTOR=2 -co ENDIANNESS=BIG -co TILED=YES -co BLOCKXSIZE=64 -co BLOCKYSIZE=64",
    ] {
        let other = folder.path().join("other.tif");
        translate(&wide, &other, options);
        assert_eq!(read(&other).unwrap(), wanted, "16 bits, {options}");
    }
}

#[test]
fn the_same_real_picture_in_every_layout_gives_the_same_bytes() {
    let Some(folder) = shared("data/georef") else { return };
    let wanted = read(&folder.join("before_u8_strip.tif")).unwrap();
    for name in ["bigtiff", "lzw", "packbits", "tiled_deflate"] {
        let other = read(&folder.join(format!("before_u8_{name}.tif"))).unwrap();
        assert!(other == wanted, "before_u8_{name}.tif differs");
    }
    let little = read(&folder.join("before_u16_10bit_strip.tif")).unwrap();
    assert!(little == read(&folder.join("before_u16_bigendian.tif")).unwrap());
    let refused = read(&folder.join("nochange_before_f32_strip.tif")).unwrap_err();
    assert!(format!("{refused:#}").contains("floating point"), "{refused:#}");
}

/// The offset of a tag's entry in a little-endian classic TIFF.
fn entry(file: &[u8], tag: u16) -> usize {
    let start = u32::from_le_bytes(file[4..8].try_into().unwrap()) as usize;
    let count = usize::from(file[start]);
    (0..count).map(|k| start + 2 + 12 * k).find(|at| file[*at..at + 2] == tag.to_le_bytes()).unwrap()
}

#[test]
fn what_is_not_read_is_refused_by_name() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("p.tif");
    tiff(&path, 133, &picture());
    let good = bytes(&path);
    let cases = [
        (262, 3, "palette"),
        (277, 3, "3 samples"),
        (258, 4, "4 bits"),
        (259, 7, "JPEG"),
        (259, 99, "compression 99"),
        (257, 70_000, "strips are needed"),
        (256, 400, "its pixels need"),
        (278, 0, "0 rows"),
    ];
    for (tag, value, named) in cases {
        let mut file = good.clone();
        let at = entry(&file, tag) + 8;
        file[at..at + 4].copy_from_slice(&u32::to_le_bytes(value));
        std::fs::write(&path, file).unwrap();
        let why = format!("{:#}", MappedScene::open(&path, INPUT).unwrap_err());
        assert!(why.contains(named) && why.contains("p.tif"), "tag {tag} = {value}: {why}");
    }
    // FillOrder stands in no file of ours: it takes the place of another tag.
    let mut file = good.clone();
    let at = entry(&file, 277);
    file[at..at + 2].copy_from_slice(&266u16.to_le_bytes());
    file[at + 8] = 2;
    std::fs::write(&path, file).unwrap();
    let why = format!("{:#}", MappedScene::open(&path, INPUT).unwrap_err());
    assert!(why.contains("FillOrder 2"), "{why}");
    std::fs::write(&path, &good[..good.len() / 2]).unwrap();
    assert!(MappedScene::open(&path, INPUT).is_err());
}

#[test]
fn damaged_files_are_errors_and_never_panics() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("p.tif");
    tiff(&path, 133, &picture());
    let mut seeds = vec![bytes(&path)];
    if has("gdal_translate") {
        for options in
            ["-co COMPRESS=LZW", "-co COMPRESS=DEFLATE -co TILED=YES -co BLOCKXSIZE=64 -co BLOCKYSIZE=64"]
        {
            let other = folder.path().join("other.tif");
            translate(&path, &other, options);
            seeds.push(bytes(&other));
        }
    }
    let mut dice = marscan::dice::Dice::new(11, &[]);
    let mut refused = 0;
    for round in 0..1500 {
        let mut file = seeds[round % seeds.len()].clone();
        let directory = u32::from_le_bytes(file[4..8].try_into().unwrap()) as usize;
        for _ in 0..=dice.below(3) {
            // Mostly in the header and the directory, where claims are made.
            let at = if dice.below(4) == 0 {
                dice.below(file.len() as u64)
            } else {
                directory as u64 + dice.below(150)
            };
            let at = (at as usize).min(file.len() - 1);
            file[at] = dice.any() as u8;
        }
        if dice.below(8) == 0 {
            file.truncate(dice.below(file.len() as u64) as usize + 1);
        }
        std::fs::write(&path, file).unwrap();
        let small = |scene: &MappedScene| scene.header().rows * scene.header().cols < 1 << 26;
        let answer = MappedScene::open(&path, INPUT).and_then(|scene| {
            if small(&scene) { scene.rows(0..scene.header().rows).map(drop) } else { Ok(()) }
        });
        refused += usize::from(answer.is_err());
    }
    assert!(refused > 300, "only {refused} of 1500 damaged files were refused");
}
