//! STUB train.
