//! What goes into a [`Node`](super::Node) and what comes out of it.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};

use crate::{
    Id, Identity, Incarnation, Name, NetworkKey, Reason, Role, ServerKey,
    master::{self, MasterView, MemberInfo, Token},
};
pub use crate::{message::Outcome, path::PathKind};

/// All that a node is given at its start; it takes nothing from anywhere else. [`new`](Self::new) takes what every node needs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Start {
    /// Role and key pair.
    pub identity: Identity,
    /// The human name.
    pub name: Name,
    /// What every node of the network has.
    pub network_key: NetworkKey,
    /// What only servers have.
    pub server_key: Option<ServerKey>,
    /// This run: a counter of the starts of this Id (or the seconds of the clock) and 128 random bits. The counter is the
    /// program's, not in `saved`: it must be on disk before the node is made.
    pub incarnation: Incarnation,
    /// Addresses of any servers. A peer with saved state knows more.
    pub introducers: Vec<SocketAddr>,
    /// Make a new cluster, if there is no saved one. For the very first start only: should the state be lost, it makes another
    /// cluster, which those who know the first one refuse.
    pub found: bool,
    /// Without saved state: wait for so many servers, this one included, and make a new cluster with them, unless one of
    /// them has one.
    pub expect: Option<usize>,
    /// What the last run asked to persist.
    pub saved: Option<Bytes>,
    /// The sockets and interfaces.
    pub network: LocalNetwork,
    /// Never use a direct path to another peer.
    pub relay_only: bool,
    /// 32 bytes from a cryptographic random source: all randomness of this run follows from them.
    pub seed: [u8; 32],
    /// The time.
    pub now: Instant,
}

impl Start {
    /// A node without a name, that knows nobody and has no saved state. A server needs its key as well, and to
    /// [`found`](Self::found) a cluster, [`expect`](Self::expect) other servers, or an introducer; a peer an introducer.
    pub fn new(
        identity: Identity,
        network_key: NetworkKey,
        incarnation: Incarnation,
        network: LocalNetwork,
        seed: [u8; 32],
        now: Instant,
    ) -> Self {
        Self {
            identity,
            name: Name::default(),
            network_key,
            server_key: None,
            incarnation,
            introducers: Vec::new(),
            found: false,
            expect: None,
            saved: None,
            network,
            relay_only: false,
            seed,
            now,
        }
    }
}

/// Names one of the sockets that the adapter bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(pub u8);

/// What the machine has: sockets bound, addresses of its interfaces, addresses that the user says it is reached by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalNetwork {
    /// The bound sockets, each with an id of its own, and their local addresses (the IP may be unspecified). One for each address
    /// family: to an IPv4 address nothing is sent from an IPv6 socket.
    pub sockets: Vec<(SocketId, SocketAddr)>,
    /// The addresses of all interfaces that are up. Loopback ones may be among them; they count where the other end is on
    /// loopback too.
    pub interfaces: Vec<IpAddr>,
    /// Given by the user, for machines whose public address is not an interface's.
    pub advertised: Vec<SocketAddr>,
}

/// What happened outside.
#[derive(Clone, Debug)]
pub enum Input {
    /// Bytes from a socket.
    Datagram(Datagram),
    /// The deadline has passed (calling too early is harmless).
    Timeout,
    /// What [`Persist`] asked for is on disk, and so is all that was asked before: of several, only the last need be written.
    Persisted(PersistId),
    /// Interfaces or sockets changed.
    NetworkChanged(LocalNetwork),
    /// The machine was asleep: its clock may have stood still, so that nothing is certain that was to end by now.
    Resumed,
}

/// One or several datagrams of one sender, as the kernel's receive offload (GRO) hands them out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Where it arrived: one of [`LocalNetwork::sockets`], else it is dropped.
    pub socket: SocketId,
    /// Who sent it.
    pub remote: SocketAddr,
    /// The local address it was sent to, if the socket tells.
    pub local_ip: Option<IpAddr>,
    /// The ECN bits of the IP header, 0 to 3.
    pub ecn: u8,
    /// The payload, cut every `segment_size` bytes.
    pub data: BytesMut,
    /// The length of each datagram but the last; 0, or the length of `data` and more, if there is only one.
    pub segment_size: usize,
}

/// One or several datagrams to one destination; the bytes are in the buffer given to
/// [`poll_transmit`](super::Node::poll_transmit).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Transmit {
    /// From which socket.
    pub socket: SocketId,
    /// To whom.
    pub destination: SocketAddr,
    /// From which local address, where that matters.
    pub source: Option<IpAddr>,
    /// The ECN bits for the IP header, 0 to 3.
    pub ecn: u8,
    /// How many bytes were appended to the buffer.
    pub size: usize,
    /// The length of each datagram but the last, if there are several.
    pub segment_size: Option<usize>,
}

/// The next time at which the node wants `Input::Timeout`, and who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// When.
    pub at: Instant,
    /// For logs and for finding a loop that does not end.
    pub why: &'static str,
}

/// What the node wants done or wants known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// For the application.
    Event(Event),
    /// For the disk.
    Persist(Persist),
}

/// Names one order to persist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PersistId(pub u64);

/// The whole durable state; it replaces the last one, atomically, and outlives a loss of power. Answer with
/// [`Input::Persisted`]: until then a server admits nobody and is not Master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Persist {
    /// To be named in the answer.
    pub id: PersistId,
    /// To be handed back as [`Start::saved`].
    pub state: Bytes,
}

/// Names a multi-destination message of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SendId(pub u64);

/// Messages of ours that were sent one right after another: their numbers follow on each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sends {
    /// The first of them.
    pub first: SendId,
    /// How many.
    pub count: u64,
}

impl Sends {
    /// A single one.
    pub const fn one(id: SendId) -> Self {
        Self { first: id, count: 1 }
    }

    /// The number of the message behind the last.
    pub const fn behind(self) -> SendId {
        SendId(self.first.0.saturating_add(self.count))
    }
}

impl IntoIterator for Sends {
    type Item = SendId;
    type IntoIter = std::iter::Map<std::ops::Range<u64>, fn(u64) -> SendId>;

    fn into_iter(self) -> Self::IntoIter {
        (self.first.0..self.behind().0).map(SendId)
    }
}

/// Names a request of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Names a request of a remote, until it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplyToken(pub u64);

/// Names messages handed to the application; give it back with [`handed`](super::Node::handed). What it says is for the
/// node alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Receipt {
    /// Who sent it.
    pub from: Id,
    /// In which conversation with that one.
    pub conversation: u64,
    /// In which lane.
    pub lane: u8,
    /// Which of that lane is the first; of the node's own messages, which of all.
    pub seq: u64,
    /// How many messages.
    pub count: u64,
}

impl Receipt {
    /// One for each of the messages, in their order.
    pub fn each(self) -> impl Iterator<Item = Self> {
        (0..self.count).map(move |place| Self { seq: self.seq.saturating_add(place), count: 1, ..self })
    }
}

/// Names a byte stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamKey(pub u64);

/// How to send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SendOptions {
    /// Messages of one lane to one destination arrive in order; lanes do not wait for each other.
    pub lane: u8,
    /// How long to try; `None` means `Config::message_ttl`.
    pub ttl: Option<Duration>,
}

impl SendOptions {
    /// The same in another lane.
    #[must_use]
    pub const fn lane(mut self, lane: u8) -> Self {
        self.lane = lane;
        self
    }

    /// The same with a time to live.
    #[must_use]
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }
}

/// What a peer can watch.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Watch {
    /// This peer.
    Id(Id),
    /// Every peer with this name.
    Name(Name),
}

/// News for the application.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// Own link to a server is up.
    ServerUp {
        /// The server.
        id: Id,
        /// Its name.
        name: Name,
    },
    /// Own link to a server is lost.
    ServerDown {
        /// The server.
        id: Id,
        /// Its name.
        name: Name,
    },
    /// In the first server's directory. On demand only of peers that are watched, linked or written to, and again each time
    /// that this begins.
    PeerUp {
        /// The peer.
        id: Id,
        /// Its name.
        name: Name,
    },
    /// Gone from the last server's directory. On demand only of peers that are watched, linked or written to.
    PeerDown {
        /// The peer.
        id: Id,
        /// Its name.
        name: Name,
    },
    /// All linked servers have said who is there of what the application began to watch.
    Found {
        /// What it watches.
        what: Watch,
        /// Who is there; of one name at most `Config::max_same_name` at each server.
        ids: Vec<Id>,
    },
    /// The way to another node is now this one.
    Path {
        /// The other node.
        id: Id,
        /// Direct, punched or relayed.
        kind: PathKind,
        /// The relaying server.
        via: Option<Id>,
    },
    /// Messages arrived, one after another from one sender in one lane; the driver takes what is ready, so there can be many.
    Messages {
        /// The sender.
        from: Id,
        /// The sender's name.
        name: Name,
        /// The lane they were sent in.
        lane: u8,
        /// The payloads in their order; at least one.
        data: Vec<Bytes>,
        /// To be given back when the application has taken them, whole or [one by one](Receipt::each).
        receipt: Receipt,
    },
    /// A request arrived; answer it once.
    Request {
        /// The sender.
        from: Id,
        /// The sender's name.
        name: Name,
        /// The payload.
        data: Bytes,
        /// To be named in the reply.
        token: ReplyToken,
        /// To be given back when the application has taken it.
        receipt: Receipt,
    },
    /// The outcome of messages at one of their destinations: exactly one each.
    Outcome {
        /// Which messages.
        sends: Sends,
        /// Which destination.
        to: Id,
        /// What became of them.
        outcome: Outcome,
    },
    /// The answer to a request: exactly one each.
    Reply {
        /// Which request.
        request: RequestId,
        /// Who was asked.
        from: Id,
        /// The reply, or why there is none.
        result: Result<Bytes, Reason>,
    },
    /// A best-effort datagram arrived.
    Datagram {
        /// The sender.
        from: Id,
        /// The payload.
        data: Bytes,
    },
    /// A remote opened a byte stream.
    StreamOpened {
        /// The remote.
        from: Id,
        /// The stream.
        stream: StreamKey,
    },
    /// There is something to read, the end included.
    StreamReadable(StreamKey),
    /// There is room to write again.
    StreamWritable(StreamKey),
    /// The stream ended before its time; nothing more comes of it.
    StreamReset {
        /// The stream.
        stream: StreamKey,
        /// Why.
        reason: Reason,
    },
    /// A queue that gave a message back has room again.
    Unblocked {
        /// The destination.
        to: Id,
    },
    /// The last link to a server is lost. A node starts in that state, without this event.
    Suspended,
    /// A link to a server is back.
    Resumed,
    /// Another running node holds the key of `id`.
    DuplicateIdentity {
        /// Whose key.
        id: Id,
        /// Where the holders were seen.
        addresses: Vec<SocketAddr>,
    },
    /// Who is the Master, when first known and at each change, also of the token alone.
    Master(MasterView),
    /// The committed members of the cluster or who of them votes, from the oldest on.
    Members(Vec<MemberInfo>),
    /// This server is no member of its cluster any more, because it left or was removed: it says goodbye and stops. When it
    /// is started again with its state, it asks to join as a new member.
    Left,
    /// Something the operator should know: a wrong key or address, a foreign cluster.
    Warning(Warning),
    /// Goodbye is said and every link is closed: the node may be dropped.
    Stopped,
}

/// What an operator should know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Warning {
    /// None of the addresses answered, or none could be asked since no socket is of its family.
    #[error("no server answered at {}: the network key or the address may be wrong", list(.0))]
    NoServerAnswered(Vec<SocketAddr>),
    /// The cluster has not admitted this server.
    #[error(
        "linked to a cluster that has not admitted this server yet, for want of a Master: it serves nobody until then"
    )]
    NotAdmitted,
    /// A server would not have us.
    #[error("{by} refused this node: {why}")]
    Refused {
        /// The server.
        by: Id,
        /// Its reason.
        why: &'static str,
    },
    /// A server of another cluster under the same network key.
    #[error("{id} belongs to another cluster: two clusters share one network key")]
    ForeignCluster {
        /// That server.
        id: Id,
    },
    /// Another node says that it met such a server.
    #[error("{by} met {id}, which belongs to another cluster: two clusters share one network key")]
    ForeignClusterMet {
        /// Who says so.
        by: Id,
        /// That server.
        id: Id,
    },
    /// A server relays no more of what this node sends, and drops the rest.
    #[error("{by} relays less than this node sends: send less, or have the quotas of that server raised")]
    OverQuota {
        /// The server.
        by: Id,
    },
    /// Something about the members.
    #[error(transparent)]
    Master(#[from] master::Warning),
}

fn list(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The tables as of now, in the order of the Ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// This node.
    pub id: Id,
    /// Its name.
    pub name: Name,
    /// The addresses of its sockets.
    pub listen: Vec<SocketAddr>,
    /// Whether it has no link to any server.
    pub suspended: bool,
    /// Who is the Master; `None` until anything is known.
    pub master: Option<MasterView>,
    /// The committed members of the cluster, from the oldest on.
    pub members: Vec<MemberInfo>,
    /// Whether a linked server shows rows on demand: `peers` are those watched, linked or written to.
    pub on_demand: bool,
    /// What the application watches.
    pub watches: Vec<Watch>,
    /// Table C, and own links to the servers.
    pub servers: Vec<ServerStatus>,
    /// The union of the tables E, and own links to the peers.
    pub peers: Vec<PeerStatus>,
    /// Table A; only servers have one.
    pub clients: Vec<NodeInfo>,
    /// Table B; only servers have one.
    pub links: Vec<LinkInfo>,
    /// What was counted since the start.
    pub counters: BTreeMap<&'static str, u64>,
}

impl Status {
    /// Server or peer.
    pub fn role(&self) -> Role {
        self.id.role()
    }
}

/// The right to act as Master.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guard {
    /// Give it to each resource that fences.
    pub token: Token,
    /// The right ends then, strictly before anybody else can have it, while clocks keep the bound of
    /// [`Timing::drift_ppm`](crate::raft::Timing::drift_ppm).
    pub until: Instant,
}

impl Guard {
    /// Whether it holds at `now`.
    pub fn is_valid(&self, now: Instant) -> bool {
        now < self.until
    }
}

/// A server, as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerStatus {
    /// Its Id.
    pub id: Id,
    /// Its name.
    pub name: Name,
    /// Its addresses.
    pub addresses: Vec<SocketAddr>,
    /// Whether this node has a link to it.
    pub linked: bool,
    /// The round trip of that link.
    pub rtt: Option<Duration>,
}

/// A peer, as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Its Id, name and addresses.
    pub info: NodeInfo,
    /// Whether this node has a link to it.
    pub linked: bool,
    /// The kind of path of that link.
    pub kind: Option<PathKind>,
    /// The server that relays it.
    pub via: Option<Id>,
    /// The round trip of that link.
    pub rtt: Option<Duration>,
}

/// What a node tells of itself (D), and what servers saw of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeInfo {
    /// Its Id.
    pub id: Id,
    /// Its name.
    pub name: Name,
    /// The addresses that servers see it under.
    pub public: Vec<SocketAddr>,
    /// The addresses of its interfaces.
    pub private: Vec<SocketAddr>,
    /// The addresses it listens on or advertises.
    pub listen: Vec<SocketAddr>,
}

/// A link that a peer reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkInfo {
    /// Who reports it.
    pub from: Id,
    /// To whom.
    pub to: Id,
    /// By which kind of path.
    pub kind: PathKind,
}
