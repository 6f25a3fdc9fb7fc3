//! Broken TIFFs by the thousand: a header or a strip that lies gives an error, never a panic, a hang or a flood of memory.
//!
//! Seeded, so that a failure can be made again; the seed of a case is in its message.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use marscan::config::InputSettings;
use marscan::dice::Dice;
use marscan::raster::{Io, MappedScene};

use crate::files::{bytes, has, marscan_command, tiff};

const CASES: u64 = 10_000;
const INPUT: InputSettings = InputSettings { valid_min: 3, valid_max: 1021 };

/// The same picture in the layouts that this machine can write.
fn layouts(folder: &Path) -> Vec<Vec<u8>> {
    let picture: Vec<u8> = (0..97 * 83).map(|k| (k / 83 + k % 83 * (k % 7)) as u8).collect();
    let plain = folder.join("plain.tif");
    tiff(&plain, 83, &picture);
    let mut all = vec![bytes(&plain)];
    if has("gdal_translate") {
        for (k, options) in [
            "-co COMPRESS=DEFLATE -co PREDICTOR=2 -co BLOCKYSIZE=16",
            "-co COMPRESS=LZW -co TILED=YES -co BLOCKXSIZE=32 -co BLOCKYSIZE=48 -co ENDIANNESS=BIG",
            "-ot UInt16 -co COMPRESS=PACKBITS -a_nodata 7",
            "-co COMPRESS=ZSTD -co BIGTIFF=YES -a_srs EPSG:4326 -a_ullr 1 2 3 0",
        ]
        .iter()
        .enumerate()
        {
            let other = folder.join(format!("layout{k}.tif"));
            let mut command = Command::new("gdal_translate");
            let ended = command.arg("-q").args(options.split(' ')).args([&plain, &other]).status();
            assert!(ended.unwrap().success(), "{options}");
            all.push(bytes(other));
        }
    }
    all
}

/// Turns a few bytes of a file over: most of them where its tags are, at either end.
fn break_it(file: &mut Vec<u8>, dice: &mut Dice) {
    for _ in 0..=dice.below(5) {
        let bytes = file.len() as u64;
        let at = match dice.below(3) {
            0 => dice.below(bytes.min(400)),
            1 => bytes - 1 - dice.below(bytes.min(400)),
            _ => dice.below(bytes),
        } as usize;
        let end = (at + 1 + dice.below(4) as usize).min(file.len());
        match dice.below(7) {
            0 => file.truncate(at.max(1)),
            1 => file[at..end].fill(0xFF),
            2 => file[at..end].fill(0),
            3 => file[at] = 1 << dice.below(8),
            4 => file.insert(at, dice.any() as u8),
            _ => file[at] ^= 1 << dice.below(8),
        }
    }
}

/// Opens a file, and reads all of it where it says that it can be read.
fn read(path: &Path, io: Io) {
    let Ok(scene) = MappedScene::open_by(path, INPUT, io) else { return };
    let (rows, cols) = (scene.header().rows, scene.header().cols);
    for row0 in (0..rows).step_by(50).take(40) {
        if let Ok(piece) = scene.rows(row0..(row0 + 50).min(rows)) {
            assert_eq!(piece.row(row0).len() as u64, cols);
        }
    }
    drop(scene.window(rows / 2..rows.min(rows / 2 + 9), cols / 2..cols.min(cols / 2 + 9)));
}

#[test]
fn ten_thousand_broken_files_give_errors_and_never_a_panic_or_a_hang() {
    let folder = tempfile::tempdir().unwrap();
    let layouts = layouts(folder.path());
    let path = folder.path().join("broken.tif");
    let (mut opened, mut slowest) = (0, Duration::ZERO);
    for case in 0..CASES {
        let mut dice = Dice::new(2026, &[case]);
        let mut file = layouts[(case % layouts.len() as u64) as usize].clone();
        break_it(&mut file, &mut dice);
        fs::write(&path, &file).unwrap();
        let io = if case % 2 == 0 { Io::Mmap } else { Io::Pread };
        let began = Instant::now();
        let ended = std::panic::catch_unwind(|| read(&path, io));
        assert!(ended.is_ok(), "case {case} panicked");
        slowest = slowest.max(began.elapsed());
        assert!(slowest < Duration::from_secs(5), "case {case} took {slowest:?}");
        opened += u64::from(MappedScene::open(&path, INPUT).is_ok());
    }
    println!("{opened} of {CASES} could still be opened; the slowest took {slowest:?}");
    assert!((CASES / 20..CASES * 19 / 20).contains(&opened), "{opened} of {CASES} could still be opened");
}

#[test]
fn broken_files_are_scanned_within_a_limit_of_memory() {
    let folder = tempfile::tempdir().unwrap();
    let layouts = layouts(folder.path());
    let scenes = folder.path().join("scenes");
    fs::create_dir(&scenes).unwrap();
    for case in 0..500u64 {
        let mut file = layouts[(case % layouts.len() as u64) as usize].clone();
        break_it(&mut file, &mut Dice::new(7, &[case]));
        fs::write(scenes.join(format!("case{case:03}.tif")), file).unwrap();
    }
    let limited = |args: &[&str]| {
        let mut command = Command::new("bash");
        // The largest chunk and the rows of a band are 512 MiB each; the rest is address space.
        command.args(["-c", "ulimit -v 4000000; exec timeout 60 \"$@\"", "bash"]);
        command.arg(marscan_command().get_program()).args(args).output().unwrap()
    };
    let (list, out) = (folder.path().join("scenes.csv"), folder.path().join("out"));
    let (list, out) = (list.to_str().unwrap(), out.to_str().unwrap());
    let info = limited(&["info", scenes.to_str().unwrap(), "--scenes", list]);
    let text = String::from_utf8_lossy(&info.stderr).into_owned();
    assert!(info.status.code() == Some(3), "{:?} {text}", info.status);
    let scan =
        limited(&["scan", "--scenes", list, "--out", out, "--settings", "threshold", "--threads", "2"]);
    let text = String::from_utf8_lossy(&scan.stderr).into_owned();
    assert!(
        matches!(scan.status.code(), Some(0 | 3)) && !text.contains("panicked"),
        "{:?} {text}",
        scan.status
    );
}
