//! STUB scan.
