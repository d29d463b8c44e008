//! Why something did not happen, in the words of the JSON lines.

use std::fmt;

use bytes::Bytes;

use crate::{Id, master};

/// Why a message, a request or a stream failed. The text of each is part of the programs' contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// No directory has ever shown this Id.
    UnknownId,
    /// Seen before, now in no reachable server's directory.
    Offline,
    /// This node has no link to any server.
    Suspended,
    /// Over `Config::max_message`.
    TooLarge,
    /// A queue at either end is full.
    Full,
    /// No reply in time.
    Timeout,
    /// The other end does not want it.
    Refused,
    /// The link or the stream ended.
    Reset,
    /// The other end forgot the session: the message may have been handed over, once.
    UnknownOutcome,
    /// The Master changed on the way.
    MasterChanged,
    /// There is no Master.
    NoMaster,
    /// Another running node holds the same key.
    DuplicateIdentity,
}

impl Reason {
    /// The fixed text of the contract.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnknownId => "unknown_id",
            Self::Offline => "offline",
            Self::Suspended => "suspended",
            Self::TooLarge => "too_large",
            Self::Full => "full",
            Self::Timeout => "timeout",
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::UnknownOutcome => "unknown_outcome",
            Self::MasterChanged => "master_changed",
            Self::NoMaster => "no_master",
            Self::DuplicateIdentity => "duplicate_identity",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a command was not accepted. Nothing was queued, and nothing will be reported about it later.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// A queue to this destination is full; here is the message again. One `Unblocked` event follows when there is room.
    #[error("the queue to {to} is full: wait for it to drain and send again")]
    Blocked {
        /// A destination without room.
        to: Id,
        /// The message, for another try.
        data: Bytes,
    },
    /// The message is over the limit.
    #[error("the message has {len} bytes: at most {max} are allowed")]
    TooLarge {
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// There is no such lane.
    #[error("there is no lane {lane}: they are numbered from 0 to {max}")]
    NoSuchLane {
        /// The lane asked for.
        lane: u8,
        /// The highest lane.
        max: u8,
    },
    /// A list of destinations that is empty or names one twice.
    #[error("the destinations are empty or name one twice: name each once")]
    BadDestinations,
    /// The operation cannot be done now, for this reason.
    #[error("not possible now: {0}")]
    Failed(Reason),
    /// The handle names nothing that is still there.
    #[error("that request or stream is over")]
    Gone,
    /// Only servers are members of the cluster.
    #[error("this node is a peer: only servers sit in the council, ask one of them")]
    NotAServer,
    /// The members cannot be changed so.
    #[error(transparent)]
    Members(#[from] master::CommandError),
    /// `stop` was called.
    #[error("this node is stopping")]
    Stopped,
}

/// Why a node cannot start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A server without the server key.
    #[error("a server needs the server key")]
    NoServerKey,
    /// A server that has neither a cluster to return to nor one to join nor the order to make one.
    #[error("this server has no saved state: give an introducer to join a cluster, or found a new one")]
    NoCluster,
    /// A peer that knows nobody to ask.
    #[error("this peer knows no server: give an introducer")]
    NoIntroducer,
    /// The saved state cannot be read.
    #[error("the saved state is damaged or of another version ({0}): restore it or remove it to start anew")]
    BadState(&'static str),
    /// The saved state is another identity's.
    #[error("the saved state belongs to {0}: use its own key or another state")]
    ForeignState(Id),
    /// What this server knew of the Master cannot be used.
    #[error(transparent)]
    Master(#[from] master::StartError),
    /// A value in the configuration is out of range.
    #[error("bad configuration: {0}")]
    BadConfig(&'static str),
}
