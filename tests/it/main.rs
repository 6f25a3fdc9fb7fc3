//! The tests that drive the program or its public interface, in one binary.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

mod agree;
mod bsub;
mod cli;
mod devices;
mod faults;
mod files;
mod fuzz;
mod georef;
mod golden;
mod judge;
mod layouts;
mod lsf;
mod maps;
mod merge;
mod mine;
mod mixed;
mod prepare;
mod processes;
mod ranks;
mod repeat;
mod replicas;
mod report;
mod review;
mod rooms;
#[path = "../../bench/run_folder.rs"]
mod run_folder;
mod screen;
mod slurm;
mod synth;
mod together;
mod train;
mod training;
mod unusable;
mod windows;
