//! STUB cli.
