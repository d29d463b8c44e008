//! What is promised, checked after each event. Each checker is a small type that knows one promise and says what broke it.

pub mod bounds;
pub mod consensus;
pub mod convergence;
pub mod honest;
pub mod ledger;
pub mod limits;
pub mod linear;
pub mod office;
pub mod pace;
pub mod requests;
pub mod strangers;
pub mod streams;

use std::time::Duration;

use p2pcore::Id;
use serde::Serialize;

/// One run of one node: a restart is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Run {
    /// Which node of the plan.
    pub process: usize,
    /// Which of its runs, from 1.
    pub run: u32,
}

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// The name of the promise.
    pub checker: &'static str,
    /// Whom it concerns.
    pub nodes: Vec<Id>,
    /// What happened.
    pub what: String,
}

impl Breach {
    /// A breach of `checker`'s promise.
    pub fn new(checker: &'static str, nodes: impl Into<Vec<Id>>, what: impl Into<String>) -> Self {
        Self { checker, nodes: nodes.into(), what: what.into() }
    }
}

/// A [`Breach`] with its place in a run, as it is printed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// The seed of the plan.
    pub seed: u64,
    /// The name of the promise.
    pub checker: &'static str,
    /// The virtual time.
    pub at_ms: u64,
    /// Whom it concerns.
    pub nodes: Vec<Id>,
    /// What happened.
    pub what: String,
}

/// The violations of one run; a bounded number, since one fault often shows up a thousand times.
#[derive(Clone, Debug, Default)]
pub struct Violations {
    list: Vec<Violation>,
}

impl Violations {
    /// After so many a run ends.
    pub const MAX: usize = 20;

    /// Takes what a checker says.
    pub fn add(&mut self, seed: u64, at: Duration, breach: Breach) {
        let Breach { checker, nodes, what } = breach;
        tracing::error!(target: "sim", checker, "{what}");
        if self.list.len() < Self::MAX {
            let at_ms = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
            self.list.push(Violation { seed, checker, at_ms, nodes, what });
        }
    }

    /// Whether there is no room for more.
    pub fn is_full(&self) -> bool {
        self.list.len() >= Self::MAX
    }

    /// All of them, oldest first.
    pub fn list(&self) -> &[Violation] {
        &self.list
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use p2pcore::{Id, PublicKey, Role};

    pub(crate) fn id(n: u8) -> Id {
        Id::from_key(Role::Peer, &PublicKey([n; 32]))
    }
}
