//! One Master among the servers: who it is, and what protects a resource from those who no longer are.
//!
//! A [`Council`] is one server's part in that: a pure state machine around [`raft`](crate::raft). It knows of links only
//! that they are there, and of the disk only what it ordered to be written.
//!
//! ```text
//!  linked, unlinked ──┐  ┌────────────────────────────────────────┐
//!  witnessed          │  │ Council                                │──▶ Send      to a linked server
//!  handle (message) ──┼─▶│  roster ── rules ──▶ next safe step    │──▶ Persist   the whole durable state
//!  timeout, persisted │  │    ▲ committed          │ change       │──▶ Event     Master, members, warnings
//!  leave, remove, … ──┘  │    └────── raft ◀───────┘              │
//!                        │  guard · view · heir · founding        │    view(), members(), is_valid(now), token()
//!                        └────────────────────────────────────────┘
//! ```
//!
//! The members agree through Raft's log on a [`Roster`]: who belongs to the cluster, from the oldest on. Raft's own
//! configuration, who votes, follows it: whoever leads compares the two and takes the [next safe step](rules), so that
//! any leader can go on where another one stopped.
//!
//! # Rules
//!
//! | rule | where |
//! |---|---|
//! | 1 member is Master at once; of 2 the older one is the only voter; from 3 on all vote | [`rules`] |
//! | no step by which quorums could become disjoint | [`rules`], checked again by Raft |
//! | age is compared once, at admission, and committed | [`roster`] |
//! | a server without its disk is another, younger member and never answers for the old one | [`message::Body::Raft`] |
//! | nor does it stand for election before it has read of its own admission: the log begins with its old membership | `machine` |
//! | a newcomer learns first, and votes when it is stable | `admission` |
//! | the long dead are removed one at a time, never below 3 | `admission` |
//! | the younger of two may show itself as Provisional, without a guard | `provisional` |
//! | tokens are totally ordered; a lower one never replaces a higher one in a view | [`token`], [`view`] |
//! | the guard ends before anybody else can be elected | `guard`, Raft's lease |
//! | a forced cluster is a new generation; whoever meets a higher one drops everything and asks to join | [`Council::force_new_cluster`] |
//! | servers that start together found one cluster | `founding` |
//!
//! # What is not promised
//!
//! At most one guard is valid at any instant *within a generation*, while clocks run apart by no more than
//! [`Timing::drift_ppm`](crate::raft::Timing::drift_ppm). A forced cluster may have a Master while one of the generation
//! before is still valid somewhere else: only the [`Token`] protects a resource from that. Others than servers see the
//! Master through [`Hearsay`].

mod admission;
mod api;
mod commands;
mod durable;
mod flaw;
mod founding;
mod guard;
mod hearsay;
mod inbound;
mod lead;
mod limits;
mod machine;
pub mod message;
mod provisional;
pub mod roster;
pub mod rules;
mod settings;
pub mod token;
pub mod view;
mod watch;

#[cfg(test)]
mod tests;

pub use api::{Event, MemberInfo, Output, Standing, Start, StartError, Warning};
pub use commands::{CommandError, TransferError};
pub use durable::{Durable, PersistId};
#[cfg(any(test, feature = "planted"))]
pub use flaw::Flaw;
pub use hearsay::Hearsay;
pub use machine::Council;
pub use message::{Allegiance, Body, Generation, MasterMessage, Wish};
pub use roster::{Member, Membership, Roster};
pub use rules::{Sight, Step};
pub use settings::Settings;
pub use token::{Kind, ParseTokenError, Token};
pub use view::{MasterView, NoQuorum, Saying};

#[cfg(not(any(test, feature = "planted")))]
use flaw::Flaw;
