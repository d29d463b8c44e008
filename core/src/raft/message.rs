//! What nodes say to each other; the names are etcd's without their prefix.

use serde::{Deserialize, Serialize};

use super::{Command, Entry, NodeId, Snapshot};

/// A message of one node to another.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(bound(
    serialize = "N: Serialize, D: Serialize",
    deserialize = "N: Deserialize<'de> + Ord, D: Deserialize<'de>"
))]
pub struct Message<N, D> {
    /// The sender's term; that of the election it asks about in a pre-vote and in the consent to one.
    pub term: u64,
    /// From a leader: when the receiver joined, as it is known to the leader. In an answer: the same number again.
    /// 0 elsewhere.
    pub join: u64,
    /// What it says.
    pub body: Body<N, D>,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(bound(
    serialize = "N: Serialize, D: Serialize",
    deserialize = "N: Deserialize<'de> + Ord, D: Deserialize<'de>"
))]
pub enum Body<N, D> {
    /// Would you vote for me? Asked before the term is raised (thesis, section 9.6).
    PreVote {
        /// The index of the last entry of the sender's log.
        last_index: u64,
        /// The term of that entry.
        last_term: u64,
    },
    /// The answer to [`PreVote`](Self::PreVote).
    PreVoteReply {
        /// Yes.
        granted: bool,
    },
    /// RequestVote.
    Vote {
        /// The index of the last entry of the sender's log.
        last_index: u64,
        /// The term of that entry.
        last_term: u64,
        /// The leader itself asked for this election and has given up its lease: no need to wait until it is silent.
        transfer: bool,
    },
    /// The answer to [`Vote`](Self::Vote).
    VoteReply {
        /// Yes.
        granted: bool,
    },
    /// AppendEntries.
    Append {
        /// The index of the entry before the first one.
        prev_index: u64,
        /// The term of that entry.
        prev_term: u64,
        /// New entries, with no gap; none to ask or to tell the commit index.
        entries: Vec<Entry<N, D>>,
        /// The leader's commit index.
        commit: u64,
    },
    /// The log agrees with the leader's up to `index`.
    Appended {
        /// The last index that is known to agree.
        index: u64,
    },
    /// The log has no entry at `prev_index` with that term.
    Rejected {
        /// The `prev_index` of the rejected append.
        prev_index: u64,
        /// The greatest index at which both logs may agree.
        hint_index: u64,
        /// The term of the receiver's entry there; 0 if it has none.
        hint_term: u64,
    },
    /// The leader is there.
    Heartbeat {
        /// The leader's commit index, but no entry that the receiver is not known to have.
        commit: u64,
        /// Counts the rounds of heartbeats in a term, from 1.
        round: u64,
    },
    /// The answer to [`Heartbeat`](Self::Heartbeat).
    HeartbeatReply {
        /// The round again.
        round: u64,
    },
    /// InstallSnapshot, in one piece; answered like an append.
    Snapshot(Snapshot<N>),
    /// Campaign at once.
    TimeoutNow,
}

impl<N: NodeId, D: Command> Body<N, D> {
    /// Whether it answers a request.
    pub fn is_reply(&self) -> bool {
        match self {
            Self::PreVoteReply { .. }
            | Self::VoteReply { .. }
            | Self::Appended { .. }
            | Self::Rejected { .. }
            | Self::HeartbeatReply { .. } => true,
            Self::PreVote { .. }
            | Self::Vote { .. }
            | Self::Append { .. }
            | Self::Heartbeat { .. }
            | Self::Snapshot(_)
            | Self::TimeoutNow => false,
        }
    }
}

impl<N: NodeId, D: Command> Message<N, D> {
    /// Whether a node that follows the rules could have sent it, whatever its state. Others are ignored as a whole.
    pub fn is_sound(&self) -> bool {
        let entry_terms_fit = match &self.body {
            Body::Append { prev_index, prev_term, entries, .. } => {
                (*prev_index > 0 || *prev_term == 0) && are_consecutive(*prev_index, *prev_term, entries, self.term)
            }
            Body::Snapshot(snapshot) => snapshot.index > 0 && snapshot.term <= self.term && snapshot.is_sound(),
            Body::PreVote { last_term, .. } | Body::Vote { last_term, .. } => *last_term < self.term,
            _ => true,
        };
        self.term > 0 && entry_terms_fit
    }
}

/// Whether `entries` follow (`index`, `term`) without a gap, in terms that never fall and end at `last_term` at most, and
/// at an index that another one follows.
pub(super) fn are_consecutive<N: NodeId, D: Command>(
    mut index: u64,
    mut term: u64,
    entries: &[Entry<N, D>],
    last_term: u64,
) -> bool {
    for entry in entries {
        let is_next = index.checked_add(1) == Some(entry.index) && entry.index < u64::MAX;
        if !is_next || entry.term < term || entry.config().is_some_and(|config| config.validate().is_err()) {
            return false;
        }
        (index, term) = (entry.index, entry.term);
    }
    term <= last_term
}
