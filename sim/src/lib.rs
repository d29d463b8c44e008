//! A deterministic world that runs many p2pcore nodes: the whole protocol stack, not a model of it.
//!
//! A seed makes a [`plan::Plan`], which is plain data: hosts, LANs, links, faults and load. A [`world::World`] runs it from
//! one event heap; every choice comes from a counter-based stream ([`rng::Stream`]). The types in [`check`] say what broke
//! a promise. [`scenario::Scenario`] writes worlds by hand.
#![forbid(unsafe_code)]

pub mod check;
pub mod clock;
pub mod fuzz;
pub mod machine;
pub mod net;
pub mod payload;
pub mod plan;
pub mod rng;
pub mod run;
pub mod scale;
pub mod scenario;
pub mod schedule;
pub mod trace;
pub mod world;

#[cfg(test)]
mod engine;
