//! STUB plan.
