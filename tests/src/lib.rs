//! Starts the real programs and talks to them by their JSON lines.
//!
//! Every wait has a generous limit, after which the test fails with all that the program said.

mod control;
mod lan;
mod network;
mod programs;
mod running;
mod servers;
mod text;

pub use control::Control;
pub use lan::{Host, Lan};
pub use network::{Network, NodeCommand, free_address, one_line};
pub use programs::{Program, run};
pub use running::Running;
pub use servers::{Servers, linked_servers, long_file, peer_row, voters, wait_for_bytes};
pub use text::Text;

/// Its examples of the library compile.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
