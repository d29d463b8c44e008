//! The control messages of a link: postcard behind a version byte, every length checked. The layout is written down in
//! `docs/protocol.md`; the golden vectors of the tests pin it.

use std::net::SocketAddr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    ClusterId, Id, Incarnation, Name,
    master::{MasterMessage, MasterView, MemberInfo},
    message::SessionMessage,
    relay::Slot,
    table::{Bounded, LinkReport, MAX_PART_ROWS, NetworkInfo, PeerRow, ServerRow, Update},
};

/// The version of the control messages; it stands before each of them.
pub const VERSION: u8 = 1;
/// The longest control message in bytes, version included.
pub const MAX_CONTROL: usize = 64 * 1024;
/// The most servers in one message; more are not told.
pub const MAX_SERVERS: usize = 64;

/// The most Ids in one message that asks for rows.
pub const MAX_WATCHED_IDS: usize = 2_048;
/// The most names in one message that asks for rows.
pub const MAX_WATCHED_NAMES: usize = 256;

/// What two linked nodes tell each other beside the application's messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Control {
    /// The first message in each direction.
    Hello(Box<Hello>),
    /// Where the sender sees the receiver's packets come from.
    Seen(SocketAddr),
    /// D: the sender's own network info, at each change.
    Network(NetworkInfo),
    /// C: all servers that the sending server knows to be up, itself included.
    Servers(Bounded<(Id, ServerRow), MAX_SERVERS>),
    /// The receiver's relay slot at the sending server.
    Slot(Slot),
    /// E: rows of the sending server's directory.
    Directory(Update<Id, PeerRow>),
    /// The receiver's deltas do not fit: a snapshot is wanted.
    DirectoryLost,
    /// F: the sending peer's links.
    Links(LinkReport),
    /// The receiver's report does not fit: all its links are wanted, by Id.
    LinksLost,
    /// Delivery state of the messages between the two.
    Session(SessionMessage),
    /// Two holders of one key were seen: at most two addresses.
    Duplicate(Bounded<SocketAddr, 2>),
    /// Another server shows another run of one of the receiver's peers.
    SeenElsewhere(Sighting),
    /// A server of another cluster under the same network key was met.
    ForeignCluster {
        /// That server.
        id: Id,
        /// Its cluster, if it said so before it closed the link.
        cluster: Option<ClusterId>,
    },
    /// What servers say to each other about the Master.
    Council(Box<MasterMessage>),
    /// Who is the Master, as the sending server sees it; for peers.
    Master(MasterView),
    /// The committed members, as the sending server knows them; for peers.
    Members(Members),
    /// The sending server shows rows on demand from now on: its directory is void, what is watched is to be told. Its next
    /// snapshot of the directory ends that.
    OnDemand {
        /// How many Ids and names together the receiver may watch there.
        max_watches: u32,
    },
    /// The sending peer watches these from now on: [`Rows`](Self::Rows) answer, and follow at each change.
    Watch(Wanted),
    /// The sending peer watches these no more.
    Unwatch(Wanted),
    /// Rows that the receiver watches.
    Rows(Rows),
    /// The sending peer needs this link no more, has nothing under way on it and writes nothing more: the receiver closes it
    /// with [`CloseCode::Idle`], or answers `Busy`.
    Idle,
    /// The receiver of `Idle` needs the link: it goes on.
    Busy,
    /// A first packet for a peer of the receiving server, from one that does not know where that is yet.
    FirstPacket {
        /// For whom it is.
        to: Id,
        /// A QUIC Initial packet under a first connection id for that Id.
        packet: Bytes,
    },
}

/// What a peer asks of a server that is on demand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// The rows of these.
    pub ids: Bounded<Id, MAX_WATCHED_IDS>,
    /// All rows with one of these names.
    pub names: Bounded<Name, MAX_WATCHED_NAMES>,
}

/// What a server that is on demand shows to one peer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rows {
    /// Rows that are there, or have changed.
    pub set: Bounded<(Id, PeerRow), MAX_PART_ROWS>,
    /// Ids without a row at that server.
    pub absent: Bounded<Id, MAX_PART_ROWS>,
    /// The rows with these names have been told, in this message or before it.
    pub names: Bounded<Name, MAX_WATCHED_NAMES>,
}

/// The committed members of the cluster as of one commit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members {
    /// The generation of the cluster.
    pub generation: u64,
    /// The commit index at which they were seen; 0 for never.
    pub version: u64,
    /// From the oldest on.
    pub list: Bounded<MemberInfo, MAX_SERVERS>,
}

/// A peer as some other server than the receiver shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighting {
    /// The peer.
    pub id: Id,
    /// Its run there.
    pub incarnation: Incarnation,
    /// Where that run is.
    pub address: Option<SocketAddr>,
}

/// Who the sender is, beyond the key that the handshake has proven.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Its name.
    pub name: Name,
    /// Its run.
    pub incarnation: Incarnation,
    /// Its cluster; a server without one serves nobody yet.
    pub cluster: Option<ClusterId>,
    /// Servers only: MAC under the server key of side, own Id and handshake, so that it cannot be reflected.
    pub server_proof: Option<[u8; 32]>,
    /// The nonce of the last link to the receiver that the dialler knew when it dialled.
    pub last_link: Option<[u8; 16]>,
    /// Grows with each dial of this run: of two links dialled by one node the later stays.
    pub dial: u64,
    /// D as of now.
    pub network: NetworkInfo,
}

/// Why a control message could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Another version of the protocol.
    #[error("control message of version {0}: this node speaks version {VERSION}; upgrade the older of the two")]
    UnknownVersion(u8),
    /// Over [`MAX_CONTROL`].
    #[error("control message of {0} bytes: at most {MAX_CONTROL} are allowed")]
    TooLong(usize),
    /// Cut short, trailing bytes, or a value that does not exist.
    #[error("control message malformed")]
    Malformed,
}

impl Control {
    /// Whether it serves the tables A to F, and not delivery, the Master or the life of a link.
    pub(crate) fn is_of_tables(&self) -> bool {
        match self {
            Self::Seen(_)
            | Self::Network(_)
            | Self::Servers(_)
            | Self::Slot(_)
            | Self::Directory(_)
            | Self::DirectoryLost
            | Self::Links(_)
            | Self::LinksLost
            | Self::OnDemand { .. }
            | Self::Watch(_)
            | Self::Unwatch(_)
            | Self::Rows(_)
            // it carries D
            | Self::Hello(_) => true,
            Self::Session(_)
            | Self::Duplicate(_)
            | Self::SeenElsewhere(_)
            | Self::ForeignCluster { .. }
            | Self::Council(_)
            | Self::Master(_)
            | Self::Members(_)
            | Self::Idle
            | Self::Busy
            | Self::FirstPacket { .. } => false,
        }
    }

    /// The bytes of the message.
    pub fn encode(&self) -> Bytes {
        // serialising these types into memory cannot fail; an empty message would be refused at the other end
        postcard::to_extend(self, vec![VERSION]).map(Bytes::from).unwrap_or_default()
    }

    /// Reads a whole message.
    ///
    /// # Errors
    /// [`WireError`]; nothing larger than the input's own size was allocated.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        if bytes.len() > MAX_CONTROL {
            return Err(WireError::TooLong(bytes.len()));
        }
        let (&version, body) = bytes.split_first().ok_or(WireError::Malformed)?;
        if version != VERSION {
            return Err(WireError::UnknownVersion(version));
        }
        let (message, rest) = postcard::take_from_bytes::<Self>(body).map_err(|_| WireError::Malformed)?;
        if !rest.is_empty() {
            return Err(WireError::Malformed);
        }
        Ok(message)
    }
}

/// Why a link was closed, as the QUIC application error code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum CloseCode {
    /// The node stops.
    Goodbye = 0,
    /// Another link to the same node took over.
    Superseded = 1,
    /// The other holder of this key answered.
    DuplicateIdentity = 2,
    /// Of another cluster.
    ForeignCluster = 3,
    /// A server that no cluster has admitted yet serves nobody.
    NotAdmitted = 4,
    /// The proof of the server key is missing or wrong.
    BadServerKey = 5,
    /// The other end broke the protocol.
    Violation = 6,
    /// Another version of the control messages.
    UnknownVersion = 7,
    /// A table at the closing end is full.
    Full = 8,
    /// The link is not wanted.
    Unwanted = 9,
    /// Neither end has used the link for long.
    Idle = 10,
}

impl CloseCode {
    const ALL: [Self; 11] = [
        Self::Goodbye,
        Self::Superseded,
        Self::DuplicateIdentity,
        Self::ForeignCluster,
        Self::NotAdmitted,
        Self::BadServerKey,
        Self::Violation,
        Self::UnknownVersion,
        Self::Full,
        Self::Unwanted,
        Self::Idle,
    ];

    /// Reads the number from the wire.
    pub fn from_code(code: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|known| *known as u64 == code)
    }

    /// What the other end should read in its log.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Goodbye => "it is leaving",
            Self::Superseded => "another link took over",
            Self::DuplicateIdentity => "another running node holds this key",
            Self::ForeignCluster => "it belongs to another cluster",
            Self::NotAdmitted => "it has not been admitted to a cluster yet",
            Self::BadServerKey => "the server key is missing or wrong",
            Self::Violation => "the protocol was broken",
            Self::UnknownVersion => "it speaks another version of the protocol",
            Self::Full => "it is full",
            Self::Unwanted => "the link is not wanted",
            Self::Idle => "nobody has used the link for long",
        }
    }
}

#[cfg(test)]
mod tests;
