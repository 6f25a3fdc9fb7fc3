//! Broken TIFFs by the thousand: a header or a strip that lies gives an error, never a panic, a hang or a flood of memory.
//!
//! Two targets, headers and strips, each in a process of its own, so that what it allocates can be counted. A failure
//! names its case, which is made again from the seed: that below, or `FUZZ_SEED`.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use cap::Cap;
use marscan::config::InputSettings;
use marscan::dice::Dice;
use marscan::raster::header::CHUNK_LIMIT_BYTES;
use marscan::raster::{Io, MappedScene};

use crate::files::{bytes, has, marscan_command, tiff};

#[global_allocator]
static ALLOCATOR: Cap<std::alloc::System> = Cap::new(std::alloc::System, usize::MAX);

const SEED: u64 = 2026;
const CASES: u64 = 10_000;
/// Of a case.
const LIMIT_S: u64 = 5;
/// Of a target with all its cases.
const TARGET_LIMIT_S: u64 = 300;
/// Of a case: a chunk as large as the header may claim.
const LIMIT_BYTES: u64 = CHUNK_LIMIT_BYTES;
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
fn break_header(file: &mut Vec<u8>, dice: &mut Dice) {
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
            4 => file.insert(at, dice.any() as u8),
            kind => break_bytes(&mut file[at..end], kind, dice),
        }
    }
}

/// Turns a few bytes over within the strips or tiles that the header tells of.
fn break_strips(file: &mut [u8], dice: &mut Dice, chunks: &[(u64, u64)]) {
    for _ in 0..=dice.below(5) {
        let (start, bytes) = chunks[dice.below(chunks.len() as u64) as usize];
        // What unpacks a strip reads its first bytes as a header of its own.
        let reach = if dice.below(2) == 0 { bytes } else { bytes.min(16) };
        let at = start + dice.below(reach);
        let end = (at + 1 + dice.below(4)).min(start + bytes);
        break_bytes(&mut file[at as usize..end as usize], dice.below(7), dice);
    }
}

fn break_bytes(bytes: &mut [u8], kind: u64, dice: &mut Dice) {
    match kind {
        1 => bytes.fill(0xFF),
        2 => bytes.fill(0),
        3 => bytes[0] = 1 << dice.below(8),
        _ => bytes[0] ^= 1 << dice.below(8),
    }
}

/// Opens a file, and reads it where it says that it can be read; whether all was well.
fn read(path: &Path, io: Io) -> bool {
    let Ok(scene) = MappedScene::open_by(path, INPUT, io) else { return false };
    let mut well = true;
    let (rows, cols) = (scene.header().rows, scene.header().cols);
    for row0 in (0..rows).step_by(50).take(40) {
        match scene.rows(row0..(row0 + 50).min(rows)) {
            Ok(piece) => assert_eq!(piece.row(row0).len() as u64, cols),
            Err(_) => well = false,
        }
    }
    let window = scene.window(rows / 2..rows.min(rows / 2 + 9), cols / 2..cols.min(cols / 2 + 9));
    well && window.is_ok()
}

/// Breaks files one after the other, and reads them.
fn fuzz(break_it: impl Fn(&mut Vec<u8>, &mut Dice, &[(u64, u64)])) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broken.tif");
    let chunks_of = |layout: Vec<u8>| {
        fs::write(&path, &layout).unwrap();
        let chunks = MappedScene::open(&path, INPUT).unwrap().header().chunks.clone();
        (layout, chunks)
    };
    let layouts: Vec<_> = layouts(folder.path()).into_iter().map(chunks_of).collect();
    let seed = std::env::var("FUZZ_SEED").map_or(SEED, |seed| seed.parse().unwrap());
    let (mut read_through, mut slowest, before) = (0, Duration::ZERO, ALLOCATOR.allocated());
    let most = || (ALLOCATOR.max_allocated() - before) as u64;
    for case in 0..CASES {
        let mut dice = Dice::new(seed, &[case]);
        let (mut file, chunks) = layouts[(case % layouts.len() as u64) as usize].clone();
        break_it(&mut file, &mut dice, &chunks);
        fs::write(&path, &file).unwrap();
        let io = if case % 2 == 0 { Io::Mmap } else { Io::Pread };
        let began = Instant::now();
        let ended = std::panic::catch_unwind(|| read(&path, io));
        assert!(ended.is_ok(), "case {case} of seed {seed} panicked");
        slowest = slowest.max(began.elapsed());
        assert!(slowest < Duration::from_secs(LIMIT_S), "case {case} of seed {seed} took {slowest:?}");
        assert!(most() < LIMIT_BYTES, "case {case} of seed {seed} allocated {} MiB", most() >> 20);
        read_through += u64::from(ended.unwrap_or_default());
    }
    let mib = most() as f64 / f64::from(1 << 20);
    println!("seed {seed}: {read_through} of {CASES} read; slowest {slowest:?}; most allocated {mib:.1} MiB");
    // Neither was all damage missed, nor was nothing left to read.
    assert!((CASES / 20..CASES * 19 / 20).contains(&read_through), "{read_through} of {CASES} read");
}

/// Runs the ignored test `name` of this binary alone, within its time.
fn alone(name: &str) {
    let mut command = Command::new("timeout");
    command.arg(TARGET_LIMIT_S.to_string()).arg(std::env::current_exe().unwrap());
    let output = command.args(["--exact", name, "--ignored", "--nocapture"]).output().unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let text = text.concat();
    assert!(output.status.success() && text.contains("read; slowest"), "{:?} {text}", output.status);
    text.lines().filter(|line| line.contains("seed")).for_each(|line| println!("{name}: {line}"));
}

#[test]
fn broken_headers_give_errors_and_never_a_panic_a_hang_or_a_flood_of_memory() {
    alone("fuzz::target_headers");
}

#[test]
fn broken_strips_give_errors_and_never_a_panic_a_hang_or_a_flood_of_memory() {
    alone("fuzz::target_strips");
}

#[test]
#[ignore = "run by the test above, as the only one of its process"]
fn target_headers() {
    fuzz(|file, dice, _| break_header(file, dice));
}

#[test]
#[ignore = "run by the test above, as the only one of its process"]
fn target_strips() {
    fuzz(|file, dice, chunks| break_strips(file, dice, chunks));
}

#[test]
fn what_a_target_allocates_is_counted() {
    let before = ALLOCATOR.allocated();
    // Never written to: no memory of the machine is taken, and it counts all the same.
    let large = std::hint::black_box(Vec::<u8>::with_capacity(2 * LIMIT_BYTES as usize));
    assert!(ALLOCATOR.max_allocated() as u64 >= before as u64 + large.capacity() as u64);
}

#[test]
fn broken_files_are_scanned_within_a_limit_of_memory() {
    let folder = tempfile::tempdir().unwrap();
    let layouts = layouts(folder.path());
    let scenes = folder.path().join("scenes");
    fs::create_dir(&scenes).unwrap();
    for case in 0..500u64 {
        let mut file = layouts[(case % layouts.len() as u64) as usize].clone();
        break_header(&mut file, &mut Dice::new(7, &[case]));
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
