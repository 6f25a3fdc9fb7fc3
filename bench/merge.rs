//! The merge of 10,000 shards with 5 million impacts: seconds and memory.
//!
//!     cargo bench --bench merge [-- SHARDS SCENES IMPACTS [MERGE-FLAGS]]
//!
//! The run is drawn in a temporary folder; the merge is another process, so that only its own memory counts.
//! It must stay under 60 s and 1 GiB on 2 cores.
#![allow(clippy::print_stdout)]

mod run_folder;

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use marscan::merge::{MergeOptions, run};
use marscan::timing::peak_resident_bytes;
use run_folder::{RunSpec, make};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const MERGE: &str = "merge-this";

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if let [word, out, flags @ ..] = &args[..]
        && word == MERGE
    {
        return merge(Path::new(out), flags);
    }
    let flags_from = args.iter().position(|arg| arg.starts_with("--")).unwrap_or(args.len());
    let (numbers, flags) = args.split_at(flags_from);
    let number = |k: usize, usual: u64| numbers.get(k).map_or(Ok(usual), |text| text.parse());
    let spec = RunSpec {
        shards: number(0, 10_000)? as usize,
        scenes: number(1, 1000)? as usize,
        impacts: number(2, 5_000_000)?,
    };
    let folder = tempfile::tempdir()?;
    let began = Instant::now();
    make(folder.path(), &spec)?;
    println!("{spec:?} drawn in {:.1} s", began.elapsed().as_secs_f64());
    let child = Command::new(std::env::current_exe()?).arg(MERGE).arg(folder.path()).args(flags).status()?;
    ensure!(child.success(), "the merge failed");
    Ok(())
}

/// Merges and prints what it took.
fn merge(out: &Path, flags: &[String]) -> Result<()> {
    let began = Instant::now();
    let merged = run(out, &options(flags)?)?;
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{} impacts of {} shards: {seconds:.1} s ({:.1} s of user time), {} MiB at most",
        merged.impacts,
        merged.manifests.len(),
        user_seconds().context("no /proc/self/stat")?,
        peak_resident_bytes() >> 20
    );
    let mut files: Vec<_> = std::fs::read_dir(out)?.collect::<Result<_, _>>()?;
    files.sort_by_key(std::fs::DirEntry::file_name);
    for file in files.iter().filter(|file| file.path().is_file()) {
        let bytes = file.metadata()?.len() as f64;
        println!("  {:20} {:9.1} MB", file.file_name().to_string_lossy(), bytes / 1e6);
    }
    Ok(())
}

fn options(flags: &[String]) -> Result<MergeOptions> {
    let mut options = MergeOptions::default();
    let mut flags = flags.iter();
    while let Some(flag) = flags.next() {
        match flag.as_str() {
            "--group-m" => options.group_m = flags.next().map(|text| text.parse()).transpose()?,
            "--gpkg" => options.gpkg = true,
            _ => bail!("{flag}: --group-m M and --gpkg are known"),
        }
    }
    Ok(options)
}

/// Processor time in user mode, in the hundredths of a second that Linux counts.
fn user_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let ticks = stat.rsplit_once(')')?.1.split_whitespace().nth(11)?.parse::<u64>().ok()?;
    Some(ticks as f64 / 100.0)
}
