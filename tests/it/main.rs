//! The tests that drive the program or its public interface, in one binary.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

mod agree;
mod cli;
mod files;
mod georef;
mod golden;
mod judge;
mod layouts;
mod merge;
mod mine;
mod prepare;
mod ranks;
mod replicas;
mod report;
mod rooms;
#[path = "../../bench/run_folder.rs"]
mod run_folder;
mod synth;
mod together;
mod train;
mod training;
mod windows;
