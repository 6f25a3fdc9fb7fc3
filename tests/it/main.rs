//! The tests that drive the program or its public interface, in one binary.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

mod golden;
