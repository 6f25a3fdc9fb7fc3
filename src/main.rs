//! marscan: parse, run, print the error chain, exit.

use std::io::{Write, stderr};
use std::process::ExitCode;

use clap::Parser;
use marscan::cli::{Cli, Done, run};
use marscan::fault::WrongUsage;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(Done::All) => ExitCode::SUCCESS,
        Ok(Done::Nothing) => ExitCode::from(1),
        Ok(Done::Partly) => ExitCode::from(3),
        Ok(Done::NothingNew) => ExitCode::from(4),
        Ok(Done::Stopped) => ExitCode::from(75),
        Err(why) => {
            // That nobody can read it is no reason to panic, as `eprintln!` would.
            drop(writeln!(stderr(), "error: {why}"));
            why.chain().skip(1).for_each(|cause| drop(writeln!(stderr(), "  because: {cause}")));
            let wrong_usage = why.chain().any(<dyn std::error::Error>::is::<WrongUsage>);
            ExitCode::from(if wrong_usage { 2 } else { 1 })
        }
    }
}
