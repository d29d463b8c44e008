//! Messages between two nodes, whatever becomes of the links between them: sessions, lanes, receipts, expiry, requests.
//!
//! A [`Conversation`] keeps the promises of delivery towards one remote Id: exactly one outcome for each message, never
//! handed over twice, in order within a lane. The bytes are specified in docs/messages.md.

mod control;
mod conversation;
mod expiry;
mod frame;
mod inbox;
mod outbox;
mod requests;
mod send_lane;

#[cfg(feature = "fuzzing")]
pub mod window;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use std::time::Instant;

use bytes::Bytes;

pub use control::{Heard, MAX_RUNS, Receipt, SessionId, SessionMessage};
pub use conversation::Conversation;
pub use requests::{Requests, RequestsFull};

use crate::Reason;

/// Lanes are numbered below this, whatever `Config::lanes` says.
pub const MAX_LANES: usize = 16;

/// The most bytes that [`Conversation::poll_chunk`] returns at once, and the most to give to
/// [`Conversation::receive`] between two looks at [`Conversation::can_receive`].
pub const MAX_CHUNK: usize = 64 * 1024;

/// The length of a [`Fence`] in bytes.
pub const FENCE_LEN: usize = 34;

/// Under which Master's token something was sent, in its binary form; opaque here.
pub type Fence = [u8; FENCE_LEN];

/// What a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A message of the application.
    Message,
    /// A request; the reply names `rid`.
    Request {
        /// The sender's number for it.
        rid: u64,
    },
    /// A message to the Master of `fence`; an empty reply names `rid` when that Master's application has taken it.
    MasterMessage {
        /// The sender's number for it.
        rid: u64,
        /// The Master that is meant.
        fence: Fence,
    },
    /// A request to the Master of `fence`; the reply names `rid`.
    MasterRequest {
        /// The sender's number for it.
        rid: u64,
        /// The Master that is meant.
        fence: Fence,
    },
    /// The answer to one of those that have a number; one with a reason carries no data.
    Reply {
        /// The asker's number for it.
        rid: u64,
        /// Why there is no reply.
        result: Result<(), Reason>,
    },
}

/// A message to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Below `Config::lanes`.
    pub lane: u8,
    /// What it is for.
    pub kind: Kind,
    /// The payload, at most `Config::max_message` bytes.
    pub data: Bytes,
    /// When to give up.
    pub expires: Instant,
    /// Names it in its outcome.
    pub tag: u64,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Handed to the receiving application.
    Delivered,
    /// Not delivered; with [`Reason::UnknownOutcome`] it may have been handed over, once.
    Failed(Reason),
    /// Its time ran out; it may have been handed over, once.
    Expired,
}

/// News of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConversationEvent {
    /// Messages for the application, of [`Kind::Message`], that follow on each other; give `lane`, `seq` and their number to
    /// [`Conversation::handed`] when it has taken them.
    Messages {
        /// Their lane.
        lane: u8,
        /// That of the first; ascending within the lane for as long as the conversation lives, and numbers may be left out
        /// between one event and the next.
        seq: u64,
        /// The payloads; at least one.
        data: Vec<Bytes>,
    },
    /// Anything else for the application; give `lane`, `seq` and 1 to [`Conversation::handed`] when it has taken it.
    Arrived {
        /// Its lane.
        lane: u8,
        /// As above.
        seq: u64,
        /// What it is for; not [`Kind::Message`].
        kind: Kind,
        /// The payload.
        data: Bytes,
    },
    /// What became of messages of ours: exactly one each.
    Outcome {
        /// As in [`Outgoing`], of the first of them.
        tag: u64,
        /// How many have this outcome whose tags follow on that one; at least one.
        count: u64,
        /// What became of them.
        outcome: Outcome,
    },
    /// There is room again after [`Full`].
    Unblocked,
}

impl ConversationEvent {
    /// What arrived, each with its lane, `seq` and kind; nothing of other news.
    pub fn arrived(self) -> impl Iterator<Item = (u8, u64, Kind, Bytes)> {
        let (lane, seq, kind, data) = match self {
            Self::Messages { lane, seq, data } => (lane, seq, Kind::Message, data),
            Self::Arrived { lane, seq, kind, data } => (lane, seq, kind, vec![data]),
            Self::Outcome { .. } | Self::Unblocked => (0, 0, Kind::Message, Vec::new()),
        };
        (seq..).zip(data).map(move |(seq, data)| (lane, seq, kind, data))
    }
}

/// The queue has no room: try again after [`ConversationEvent::Unblocked`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the queue to this destination is full: wait for it to drain and send again")]
pub struct Full;

/// What the other end did against the protocol: the link to it is to be closed with this text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the remote broke the message protocol: {0}")]
pub struct Violation(pub &'static str);
