//! What both implementations do, say and are, in one language.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
};

use p2pcore::raft::{Change, Role};

pub(crate) type Id = u64;

/// The nodes of one implementation. Disks work at once: what a step changed is on them before the next one.
pub(crate) trait World {
    type Message: Clone + Debug;

    /// Does something at a node. Returns whether a proposal, a change or a transfer was accepted; true for the rest.
    fn act(&mut self, id: Id, act: &Act) -> bool;

    /// Delivers a message.
    fn step(&mut self, to: Id, message: Self::Message);

    /// What was sent since the last call, in order.
    fn take_sent(&mut self) -> Vec<(Said, Self::Message)>;

    /// Looks at a node; what it told its application is told once.
    fn view(&mut self, id: Id) -> View;
}

/// What can be done at a node from outside.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// It dies and comes back with its disk.
    Restart,
    /// It heard of no leader for the shortest election timeout.
    Silent,
    Campaign,
    Beat,
    CheckQuorum,
    Propose(u64),
    Change(Change<Id>),
    Transfer(Id),
    /// A transfer takes too long.
    Abort,
}

/// A message, without what only one of the two puts into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) from: Id,
    pub(crate) to: Id,
    pub(crate) term: u64,
    pub(crate) body: Saying,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Saying {
    PreVote { last: Place },
    PreVoteReply { granted: bool },
    Vote { last: Place, transfer: bool },
    VoteReply { granted: bool },
    Append { prev: Place, entries: Vec<Line>, commit: u64 },
    Appended { index: u64 },
    Rejected { prev_index: u64, hint: Place },
    Heartbeat { commit: u64 },
    HeartbeatReply,
    Snapshot { last: Place },
    TimeoutNow,
}

/// A place in a log: index and term.
pub(crate) type Place = (u64, u64);

/// An entry of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) place: Place,
    pub(crate) content: Content,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Noop,
    Command(u64),
    /// Which one shows in [`View::configs`]: raft-rs logs the change and not the configuration.
    Config,
}

/// A configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Members {
    pub(crate) voters: BTreeSet<Id>,
    pub(crate) outgoing: BTreeSet<Id>,
    pub(crate) learners: BTreeSet<Id>,
    pub(crate) learners_next: BTreeSet<Id>,
}

impl Members {
    pub(crate) fn is_voter(&self, id: Id) -> bool {
        self.voters.contains(&id) || self.outgoing.contains(&id)
    }

    pub(crate) fn contains(&self, id: Id) -> bool {
        self.is_voter(id) || self.learners.contains(&id)
    }
}

/// All that one can see of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) term: u64,
    /// Who got its vote in this term, or leads it.
    pub(crate) vote: Option<Id>,
    pub(crate) role: Option<Role>,
    pub(crate) leader: Option<Id>,
    pub(crate) commit: u64,
    pub(crate) snapshot: Place,
    /// The entries after the snapshot.
    pub(crate) log: Vec<Line>,
    /// The configuration of the snapshot and those of the log by index; the last one is in force.
    pub(crate) configs: Vec<(u64, Members)>,
    /// The term, vote and log that would be there after a restart are the same.
    pub(crate) is_saved: bool,
    /// At a leader: who is to lead next.
    pub(crate) transfer: Option<Id>,
    /// At a leader: what it knows of each other node.
    pub(crate) followers: BTreeMap<Id, Follower>,
    /// What the application was told since the last look.
    pub(crate) told: Vec<Told>,
}

/// What a leader knows of another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Follower {
    /// Up to where its log is known to agree.
    pub(crate) matched: u64,
    /// It answered since quorum was checked.
    pub(crate) is_active: bool,
    pub(crate) pace: Pace,
}

/// How a leader sends to another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// This entry comes next, and nothing after it before it is answered.
    Probe(u64),
    /// This entry comes next.
    Replicate(u64),
    /// A snapshot up to here is under way.
    Snapshot(u64),
}

/// What an application is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// This is committed.
    Committed(Line),
    /// All up to here is committed, and not to be had.
    Installed(Place),
}

impl View {
    pub(crate) fn last_index(&self) -> u64 {
        self.log.last().map_or(self.snapshot.0, |line| line.place.0)
    }

    pub(crate) fn has(&self, place: Place) -> bool {
        place.0 <= self.snapshot.0 || self.log.iter().any(|line| line.place == place)
    }
}

/// A cluster before anything has happened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    /// `1..=founders` are its first voters.
    pub(crate) founders: u64,
    /// Those after the founders are not known to anybody yet, and have empty disks.
    pub(crate) nodes: u64,
    /// Appends hold one entry each, or any number.
    pub(crate) is_chopped: bool,
    pub(crate) max_inflight: usize,
    pub(crate) max_log: usize,
}

impl Setting {
    pub(crate) fn ids(&self) -> std::ops::RangeInclusive<Id> {
        1..=self.nodes
    }
}
