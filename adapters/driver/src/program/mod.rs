//! The programs: one implementation for every runtime.

mod cli;
mod failure;
mod json;
mod keys;
mod lines;
