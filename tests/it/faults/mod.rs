//! What goes wrong on nodes nobody watches, made to happen: each test also checks that it did happen.

mod files;
mod kills;
mod scenes;
mod tasks;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::files::{bytes, marscan_command, succeed, tiff};

/// A run that takes a moment: the shipped network, one thread, bands of 352 rows.
const SLOW: [&str; 6] = ["--device", "cpu", "--threads", "1", "--band-rows", "352"];
/// A run that takes none: a grey level.
const FAST: [&str; 6] = ["--settings", "threshold", "--window", "64", "--band-rows", "64"];

/// A folder with scenes drawn by `synth`, to be scanned slowly.
fn drawn(rows: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().to_str().unwrap();
    for (name, seed) in [("first", "3"), ("second", "4")] {
        let size = ["--rows", rows, "--cols", "600", "--impacts", "8", "--seed", seed, "--name", name];
        succeed(&[&["synth", "--out", place], &size[..]].concat());
    }
    folder
}

/// A folder with a scene of discs, to be scanned at once.
fn discs() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (rows, cols) = (300, 200);
    let lit = |row: usize, col: usize| (row % 60).abs_diff(30).pow(2) + (col % 50).abs_diff(25).pow(2) < 90;
    let pixels: Vec<u8> = (0..rows * cols).map(|k| if lit(k / cols, k % cols) { 20 } else { 130 }).collect();
    tiff(&folder.path().join("discs.tif"), cols, &pixels);
    let list = "file_name,height,width\ndiscs,300,200\n";
    std::fs::write(folder.path().join("scenes.csv"), list).unwrap();
    folder
}

/// The arguments of a scan of `folder`'s scenes into its `out`.
fn scan(folder: &Path, out: &str, flags: &[&str]) -> Vec<String> {
    let place = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let (list, out) = (place("scenes.csv"), place(out));
    let fixed = ["scan", "--scenes", &list, "--out", &out];
    fixed.iter().chain(flags).map(|&part| part.to_owned()).collect()
}

fn start(args: &[String]) -> Child {
    marscan_command().args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn run(args: &[String]) -> Output {
    marscan_command().args(args).output().unwrap()
}

fn merged(folder: &Path, out: &str) -> Vec<u8> {
    let out = folder.join(out);
    succeed(&["merge", out.to_str().unwrap()]);
    bytes(out.join("catalogue.csv"))
}

/// The catalogue of a scan that nothing befell.
fn undisturbed(folder: &Path, flags: &[&str]) -> Vec<u8> {
    let ended = run(&scan(folder, "undisturbed", flags));
    assert!(ended.status.success(), "{}", said(&ended));
    let catalogue = merged(folder, "undisturbed");
    assert!(String::from_utf8_lossy(&catalogue).lines().count() > 5, "nothing was found");
    catalogue
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The journal of finished bands of a run in work.
fn journal(out: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(out.join("shards")).ok()?;
    entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|end| end == "bands"))
}

/// Waits until a run in work has finished a band and has more to do.
fn wait_for_a_band(out: &Path) {
    let began = Instant::now();
    let bands =
        || journal(out).map_or(0, |path| String::from_utf8_lossy(&bytes(path)).matches("\"Band\"").count());
    while bands() == 0 {
        assert!(began.elapsed() < Duration::from_mins(1), "no band was finished");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether system calls can be tampered with here.
fn strace() -> bool {
    let there =
        Command::new("strace").args(["-o", "/dev/null", "true"]).output().is_ok_and(|o| o.status.success());
    if !there {
        println!("not run: strace is not installed, or may not trace (apt-get install strace)");
    }
    there
}

/// Runs the program with `injected` into its `when`th call of `call` (`strace -e inject`).
fn tampered(call: &str, injected: &str, when: usize, args: &[String]) -> Output {
    let program = marscan_command();
    let mut command = Command::new("strace");
    let (trace, inject) = (format!("trace={call}"), format!("inject={call}:{injected}:when={when}"));
    command
        .args(["-f", "-o", "/dev/null", "-e", &trace, "-e", &inject])
        .arg(program.get_program())
        .args(args);
    command.env_remove("SLURM_ARRAY_TASK_ID").output().unwrap()
}
