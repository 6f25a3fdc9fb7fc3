//! STUB synth.
