//! The engine's own tests, with a machine small enough to be right, and wrong on demand.

mod tests;
mod toy;
