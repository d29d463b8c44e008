//! A small world of nodes, checked after every step.

mod checks;
mod explore;
mod faults;
mod hostile;
mod planted;
mod random;
mod timed;
mod transcript;
mod world;

use super::*;

type Node = Raft<u8, u64>;
type Msg = Message<u8, u64>;
