//! STUB timing.
