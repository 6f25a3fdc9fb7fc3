//! STUB score.
