//! Files that tests make, and the program as they run it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use marscan::raster::writer::StripWriter;

/// Runs the program.
pub fn marscan(args: &[&str]) -> Output {
    marscan_command().args(args).output().unwrap()
}

/// The program, in no job array, by the runner that cargo was told to run the tests with, if any.
pub fn marscan_command() -> Command {
    let runner = std::env::var("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER").unwrap_or_default();
    let mut words = runner.split_whitespace().chain([env!("CARGO_BIN_EXE_marscan")]);
    let mut command = Command::new(words.next().unwrap());
    command.args(words);
    for name in ["SLURM_ARRAY_TASK_ID", "LSB_JOBINDEX", "PBS_ARRAY_INDEX", "PBS_ARRAYID", "SGE_TASK_ID"] {
        command.env_remove(name);
    }
    command
}

/// Runs the program and gives what it printed; fails if it failed.
pub fn succeed(args: &[&str]) -> String {
    let output = marscan(args);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{args:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// Exit code and standard error.
pub fn fail(args: &[&str]) -> (i32, String) {
    let output = marscan(args);
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Writes a picture as a striped TIFF.
pub fn tiff(path: &Path, cols: usize, pixels: &[u8]) {
    let mut writer = StripWriter::create(path, (pixels.len() / cols) as u64, cols as u64, None).unwrap();
    writer.append(pixels).unwrap();
    writer.finish().unwrap();
}

/// `../shared`, or `None` where it is not there.
pub fn shared(part: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared").join(part);
    if !path.exists() {
        println!("not run: ../shared/{part} is not here");
    }
    path.exists().then_some(path)
}

/// Whether a program of GDAL can be run.
pub fn has(program: &str) -> bool {
    let there = Command::new(program).arg("--version").output().is_ok();
    if !there {
        println!("not run: {program} is not installed (apt-get install gdal-bin)");
    }
    there
}

/// A file's bytes.
pub fn bytes(path: impl AsRef<Path>) -> Vec<u8> {
    fs::read(&path).unwrap_or_else(|why| panic!("{}: {why}", path.as_ref().display()))
}
