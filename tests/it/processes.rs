//! The program's processes under a scheduler, as `/proc` shows them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What a program printed.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Waits until `done`.
///
/// # Panics
/// After `seconds`.
pub fn until(seconds: u64, what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(seconds), "{what}: not within {seconds} s");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Sees to it that a scheduler's SIGUSR1 finds the two tasks that scan into `out` with a band done and others not,
/// however fast the machine is: they are stopped there, and go on when they are told.
pub fn told_in_the_middle(out: &'static str, shards: PathBuf) -> JoinHandle<()> {
    told_once(out, 2, move |task| has_a_band(&shards, task))
}

/// The same for a scheduler's signal and the `ranks` processes that train into `out`, once the checkpoint is there.
pub fn told_while_training(out: &'static str, ranks: usize, checkpoint: PathBuf) -> JoinHandle<()> {
    told_once(out, ranks, move |_| checkpoint.exists())
}

fn told_once(
    out: &'static str,
    count: usize,
    is_under_way: impl Fn(&str) -> bool + Send + 'static,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let tasks = processes(out, count);
        let mut busy = tasks.clone();
        until(30, "the middle", || {
            let at_work = |task: &String| !(is_told(task) || ended(task));
            busy.retain(|task| at_work(task) && !(is_under_way(task) && signal(task, "STOP")));
            busy.is_empty()
        });
        for task in tasks {
            until(60, "the signal", || is_told(&task) || ended(&task));
            signal(&task, "CONT");
        }
    })
}

/// The numbers of the `count` running programs that scan or train into `out`.
pub fn processes(out: &str, count: usize) -> Vec<String> {
    let mut found = Vec::new();
    until(30, out, || {
        found.clear();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let line = text(&std::fs::read(entry.path().join("cmdline")).unwrap_or_default());
            let program = line.split('\0').next().unwrap_or_default();
            if program.ends_with("marscan") && line.contains(&format!("\0{out}\0")) {
                found.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        found.len() == count
    });
    found
}

/// Whether the task keeps a finished band for its next run.
fn has_a_band(shards: &Path, process: &str) -> bool {
    let variables = text(&std::fs::read(format!("/proc/{process}/environ")).unwrap_or_default());
    let number = |name: &str| {
        let value = variables.split('\0').find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        value.and_then(|value| value.parse::<usize>().ok())
    };
    let of_lsf = || number("LSB_JOBINDEX").and_then(|index| index.checked_sub(1));
    let Some(index) = number("SLURM_ARRAY_TASK_ID").or_else(of_lsf) else { return false };
    let entries = std::fs::read_dir(shards).into_iter().flatten().flatten();
    let journals = entries.filter(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        name.starts_with(&format!(".shard-{index:05}-"))
    });
    let lines =
        |entry: std::fs::DirEntry| text(&std::fs::read(entry.path()).unwrap_or_default()).lines().count();
    // The first line is the task's own.
    journals.map(lines).any(|lines| lines > 1)
}

/// Whether a signal waits for the process to go on: SIGUSR1 or SIGTERM, of those that Slurm sends to a stopped one.
fn is_told(process: &str) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("ShdPnd:")).unwrap_or("0").trim();
    u64::from_str_radix(line, 16).unwrap() & ((1 << 9) | (1 << 14)) != 0
}

/// Whether it is no more, or only its number is.
fn ended(process: &str) -> bool {
    std::fs::read(format!("/proc/{process}/cmdline")).map_or(true, |line| line.is_empty())
}

/// Sends it, if it can.
pub fn signal(process: &str, name: &str) -> bool {
    Command::new("kill").args(["-s", name, process]).output().is_ok()
}
