//! STUB job.
