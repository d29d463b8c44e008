//! Being built.

pub mod program;
