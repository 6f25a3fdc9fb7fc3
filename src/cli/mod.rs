//! The command line: one file a subcommand, each parsing, calling one library function and printing.

/// Prints a line.
macro_rules! say {
    ($($part:tt)*) => { $crate::cli::tell(format_args!($($part)*)) };
}

/// The same on standard error.
macro_rules! note {
    ($($part:tt)*) => { $crate::cli::remark(format_args!($($part)*)) };
}

/// Why a line that was to be printed is nowhere.
static UNTOLD: OnceLock<io::Error> = OnceLock::new();

/// Writes a line to standard output; that nobody reads on is no loss, and no reason to stop (`println!` would panic).
fn tell(text: Arguments<'_>) {
    match writeln!(stdout(), "{text}") {
        Err(why) if why.kind() != ErrorKind::BrokenPipe => drop(UNTOLD.set(why)),
        _ => (),
    }
}

fn remark(text: Arguments<'_>) {
    drop(writeln!(stderr(), "{text}"));
}

mod demo;
mod devices;
mod epochs;
mod eval;
mod info;
mod judge;
mod merge;
mod mine;
mod plan;
mod prepare;
mod progress;
mod review;
mod scan;
mod settings;
mod speedup;
mod synth;
mod train;

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write, stderr, stdout};
use std::path::Path;
use std::sync::OnceLock;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};

use crate::job::{keep_kernels, leave_out_traces, outlive_file_size_limit};

/// Finds fresh impact craters in giant orbital images of Mars with a U-Net, as a batch program for job arrays.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Start with:\n  marscan demo --out demo\n\nExit codes: 0 all done; 1 nothing usable; \
    2 wrong usage or settings; 3 some scenes failed and are named; 4 no scene is new; 75 stopped early by a signal, the same \
    command goes on."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Args),
    Synth(synth::Args),
    Info(info::Args),
    Plan(plan::Args),
    Scan(scan::Args),
    Merge(merge::Args),
    Review(review::Args),
    Eval(eval::Args),
    Prepare(prepare::Args),
    Train(train::Args),
    Mine(mine::Args),
    Judge(judge::Args),
    Speedup(speedup::Args),
    Devices(devices::Args),
    Settings(settings::Args),
}

impl Command {
    fn kernel_cache(&self) -> Option<&Path> {
        let folder = match self {
            Self::Demo(args) => &args.device.kernel_cache,
            Self::Scan(args) => &args.device.kernel_cache,
            Self::Review(args) => &args.device.kernel_cache,
            Self::Mine(args) => &args.device.kernel_cache,
            Self::Judge(args) => &args.device.kernel_cache,
            Self::Train(args) => &args.kernel_cache,
            _ => return None,
        };
        folder.as_deref()
    }

    /// Whether what it prints is what it is for, so that half of it must not pass for all.
    fn answers(&self) -> bool {
        matches!(
            self,
            Self::Info(_)
                | Self::Plan(_)
                | Self::Eval(_)
                | Self::Speedup(_)
                | Self::Devices(_)
                | Self::Settings(_)
        )
    }
}

/// How a command that did not fail ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// All of it: exit code 0.
    All,
    /// The outputs are valid, some scenes failed and were named: exit code 3.
    Partly,
    /// Nothing usable came of it, and why was printed: exit code 1.
    Nothing,
    /// There was nothing to do, and that was printed: exit code 4.
    NothingNew,
    /// A signal asked to stop; what was done is kept, and the same command goes on: exit code 75.
    Stopped,
}

/// Runs the command.
///
/// # Errors
/// Whatever ended it; [`crate::fault::WrongUsage`] in the chain means exit code 2.
pub fn run(cli: &Cli) -> Result<Done> {
    leave_out_traces();
    if let Some(folder) = cli.command.kernel_cache() {
        keep_kernels(folder)?;
    }
    outlive_file_size_limit()?;
    let done = match &cli.command {
        Command::Demo(args) => demo::run(args),
        Command::Synth(args) => synth::run(args),
        Command::Info(args) => info::run(args),
        Command::Plan(args) => plan::run(args),
        Command::Scan(args) => scan::run(args),
        Command::Merge(args) => merge::run(args),
        Command::Review(args) => review::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Prepare(args) => prepare::run(args),
        Command::Train(args) => train::run_command(args),
        Command::Mine(args) => mine::run(args),
        Command::Judge(args) => judge::run(args),
        Command::Speedup(args) => speedup::run(args),
        Command::Devices(args) => Ok(devices::run(args)),
        Command::Settings(args) => settings::run(args),
    }?;
    match UNTOLD.get() {
        Some(why) if cli.command.answers() => bail!("cannot write to standard output: {why}"),
        _ => Ok(done),
    }
}
