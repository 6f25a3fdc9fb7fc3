//! STUB merge.
