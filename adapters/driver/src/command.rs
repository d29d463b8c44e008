//! What handles tell the task that owns the node.

use std::{collections::VecDeque, slice, sync::Arc, time::Duration};

use bytes::Bytes;
use p2pcore::{
    CommandError, Config, Id, Reason,
    master::{MemberInfo, Token},
    node::{LocalNetwork, MemberCommand, PersistId, Receipt, ReplyToken, SendOptions, Status, StreamKey, Watch},
};

use crate::{
    ByteStream, Outcomes, RequestError, oneshot,
    outcomes::{BatchSlot, Waiter},
};

/// How many commands wait for the driver; past it, callers wait.
pub(crate) const MAX_COMMANDS: usize = 4_096;

/// The destinations of one message, in the cheapest form.
#[derive(Clone, Debug)]
pub(crate) enum To {
    One(Id),
    Many(Arc<[Id]>),
}

impl To {
    /// At least one Id, and none twice. They are in order, so that whoever checks them again need not sort.
    pub(crate) fn checked(ids: &[Id]) -> Result<Self, CommandError> {
        if let [id] = ids {
            return Ok(Self::One(*id));
        }
        let mut many: Arc<[Id]> = ids.into();
        Arc::make_mut(&mut many).sort_unstable();
        Config::check_destinations(&many)?;
        Ok(Self::Many(many))
    }

    pub(crate) fn as_slice(&self) -> &[Id] {
        match self {
            Self::One(id) => slice::from_ref(id),
            Self::Many(ids) => ids,
        }
    }
}

/// Whom a request is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sought {
    Node(Id),
    /// Whoever that is when the node takes the request.
    Master,
}

/// Some messages of a batch.
pub(crate) struct Batch {
    pub(crate) to: Id,
    pub(crate) messages: VecDeque<Bytes>,
    pub(crate) options: SendOptions,
    pub(crate) slot: Arc<BatchSlot>,
    /// The first of these is so many messages behind the first one of the batch.
    pub(crate) first: usize,
}

/// Waits for its turn in a bounded queue.
pub(crate) enum Command {
    Send {
        to: To,
        data: Bytes,
        options: SendOptions,
        waiter: Waiter,
    },
    SendBatch(Batch),
    SendToMaster {
        data: Bytes,
        options: SendOptions,
        waits: bool,
        reply: oneshot::Sender<Result<Outcomes, CommandError>>,
    },
    Request {
        to: Sought,
        data: Bytes,
        timeout: Option<Duration>,
        reply: oneshot::Sender<Result<Bytes, RequestError>>,
    },
    Datagram {
        to: Id,
        data: Bytes,
        reply: oneshot::Sender<Result<(), CommandError>>,
    },
    OpenStream {
        to: Id,
        reply: oneshot::Sender<Result<ByteStream, CommandError>>,
    },
    Watch {
        what: Watch,
        reply: oneshot::Sender<Result<(), CommandError>>,
    },
    Unwatch {
        what: Watch,
        reply: oneshot::Sender<()>,
    },
    Status {
        reply: oneshot::Sender<Status>,
    },
    Members {
        reply: oneshot::Sender<Vec<MemberInfo>>,
    },
    /// With an office, it is done only if that is still held.
    ChangeMembers {
        command: MemberCommand,
        office: Option<Token>,
        reply: oneshot::Sender<Result<(), CommandError>>,
    },
    /// As above.
    Resign {
        office: Option<Token>,
        reply: oneshot::Sender<Result<(), CommandError>>,
    },
}

impl Command {
    /// How many commands it counts for in a turn of the driver.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::SendBatch(batch) => batch.messages.len().max(1),
            _ => 1,
        }
    }
}

/// Never waits. Each kind is bounded by what it is about: a message handed out, a stream, an order to the disk.
pub(crate) enum Notice {
    Handed(Receipt),
    Reply { token: ReplyToken, result: Result<Bytes, Reason>, reply: Option<oneshot::Sender<Result<(), CommandError>>> },
    Stream(StreamKey),
    Persisted(Vec<PersistId>),
    NetworkChanged(LocalNetwork),
    Stop,
}
