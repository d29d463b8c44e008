//! Starts the real programs and talks to them by their JSON lines.
//!
//! Every wait has a generous limit, after which the test fails with all that the program said.

mod network;
mod programs;
mod running;

pub use network::{Network, NodeCommand, one_line};
pub use programs::{Program, run};
pub use running::Running;
