//! The node: demultiplexes, composes, and owns the ready queue and the deadlines.

mod absence;
mod api;
mod control;
mod council;
mod dial;
mod foreign;
mod goodbye;
mod greet;
mod idle;
mod inbound;
mod links;
mod lookup;
mod messages;
#[cfg(any(test, feature = "planted"))]
mod misdeeds;
mod outbound;
mod own;
mod persist;
mod remote;
mod reports;
mod requests;
mod roles;
mod route;
mod settle;
mod sources;
mod status;
mod streams;
mod to_master;
mod twins;
mod usage;
mod watching;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Instant,
};

pub use api::*;
pub use council::MemberCommand;
use council::{Mastery, Told};
use foreign::Foreigners;
use goodbye::Stopping;
use links::Links;
use messages::Messages;
#[cfg(any(test, feature = "planted"))]
pub use misdeeds::Misdeed;
use outbound::Outgoing;
use own::OwnNetwork;
use persist::Saved;
use remote::Remote;
use reports::LinkReports;
use roles::RoleState;
use route::Route;
use streams::StreamTable;
use to_master::ToMaster;
pub use usage::Usage;
use watching::Watching;

use crate::{
    ClusterId, Config, Id, Identity, Incarnation, Name, ServerKey, StartError,
    deadline::Deadlines,
    link::{LinkEnv, LinkToken},
    noise::{Handshake, NonceFilter},
    relay::{Forwarder, RelayLink, Slot},
    rng::Rng,
};

/// A server or a peer: the whole protocol as one state machine without sockets, clocks, threads or randomness of its own.
pub struct Node {
    config: Arc<Config>,
    identity: Identity,
    name: Name,
    incarnation: Incarnation,
    server_key: Option<ServerKey>,
    relay_only: bool,
    cluster: Option<ClusterId>,
    /// The cluster that this server founded or was admitted to just now: it counts once it is on disk.
    admitted: Option<(PersistId, ClusterId)>,
    /// Servers that wait for each other to found a cluster are linked without one.
    expects: bool,
    introducers: Vec<dial::Introducer>,
    saved: Saved,
    network: OwnNetwork,
    rng: Rng,
    now: Instant,
    env: Arc<LinkEnv>,
    nonces: NonceFilter,
    first_packets: inbound::FirstPackets,
    links: Links,
    remotes: BTreeMap<Id, Box<Remote>>,
    /// How many there were when some to forget were last looked for.
    remotes_kept: usize,
    linked_servers: BTreeSet<Id>,
    /// Unknown Ids with messages, while a linked server has not said yet whether it has them.
    awaited: BTreeSet<Id>,
    watching: Watching,
    role: RoleState,
    /// How this node uses other servers as relays: keys and own slot.
    relays: BTreeMap<Id, Box<Relay>>,
    /// How others use this server as a relay.
    forwarder: Forwarder<LinkToken, Route>,
    slots: BTreeMap<Id, Slot>,
    /// From where a server's relayed packets may come: routes on which that server has proven itself.
    relay_sources: BTreeMap<Route, Id>,
    messages: Messages,
    /// Conversations begun so far.
    conversations: u64,
    to_master: ToMaster,
    mastery: Mastery,
    told: Told,
    streams: StreamTable,
    reports: LinkReports,
    foreigners: Foreigners,
    /// A link to that Id takes this one's place: nothing comes up or goes down by that.
    replacing: Option<(Id, LinkToken)>,
    /// Whether the application was told that this node is suspended.
    suspended_told: bool,
    /// Servers refuse this node, since another run of it is linked there.
    is_duplicate: bool,
    timers: Deadlines<Timer>,
    /// Links whose events and deadlines are to be looked at.
    dirty: BTreeSet<LinkToken>,
    /// Conversations with something to write.
    unwritten: BTreeSet<Id>,
    /// Links that may have datagrams to send, in turn.
    ready: VecDeque<LinkToken>,
    outgoing: VecDeque<Outgoing>,
    outputs: VecDeque<Output>,
    counters: BTreeMap<&'static str, u64>,
    stopping: Option<Stopping>,
    #[cfg(any(test, feature = "planted"))]
    misdeed: Option<misdeeds::Doing>,
    #[cfg(any(test, feature = "planted"))]
    begun_halves: BTreeSet<(LinkToken, u8)>,
}

/// A server used as a relay.
struct Relay {
    link: RelayLink,
    own_slot: Option<Slot>,
    /// It said that this node is over its quota: what has another way takes that until then.
    rests_until: Option<Instant>,
}

/// What a deadline of the node is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Link(LinkToken),
    Challenge(Id),
    Accused(Id),
    Greeting(LinkToken),
    Refused(LinkToken),
    Dial(Id),
    Introducer(usize),
    Conversation(Id),
    Requests,
    WaitingStreams,
    Absent(Id),
    Idle(Id),
    Interest(Id),
    Directory,
    Leaving,
    Council,
    NoServer,
    Stop,
    #[cfg(any(test, feature = "planted"))]
    Misdeed,
}

impl Timer {
    const fn why(self) -> &'static str {
        match self {
            Self::Link(_) => "link",
            Self::Challenge(_) => "challenge",
            Self::Accused(_) => "accused",
            Self::Greeting(_) => "greeting",
            Self::Refused(_) => "refused",
            Self::Dial(_) => "dial",
            Self::Introducer(_) => "introducer",
            Self::Conversation(_) => "conversation",
            Self::Requests => "requests",
            Self::WaitingStreams => "waiting streams",
            Self::Absent(_) => "absent",
            Self::Idle(_) => "idle",
            Self::Interest(_) => "interest",
            Self::Directory => "directory",
            Self::Leaving => "leaving",
            Self::Council => "council",
            Self::NoServer => "no server",
            Self::Stop => "stop",
            #[cfg(any(test, feature = "planted"))]
            Self::Misdeed => "misdeed",
        }
    }
}

impl Node {
    /// Makes a node.
    ///
    /// # Errors
    /// What [`StartError`] lists; nothing was done then.
    pub fn new(config: Config, start: Start) -> Result<Self, StartError> {
        if config.lanes == 0 || usize::from(config.lanes) > config.lane_priority.len() {
            return Err(StartError::BadConfig("lanes must be 1 to 16"));
        }
        if config.ciphers.is_empty() {
            return Err(StartError::BadConfig("name at least one cipher"));
        }
        let id = start.identity.id();
        let saved = Saved::read(start.saved.as_ref(), id)?;
        let rng = Rng::from_seed(start.seed);
        if id.is_server() {
            if start.server_key.is_none() {
                return Err(StartError::NoServerKey);
            }
            let begins = start.found || start.expect.is_some();
            if saved.cluster.is_none() && !begins && start.introducers.is_empty() {
                return Err(StartError::NoCluster);
            }
        } else if start.introducers.is_empty() && saved.servers.is_empty() {
            return Err(StartError::NoIntroducer);
        }
        let config = Arc::new(config);
        let mastery = Mastery::new(&config, &start, &saved, &rng)?;
        let handshake = Handshake::new(start.identity.clone(), start.network_key.clone(), config.ciphers.clone());
        let env = Arc::new(LinkEnv { config: Arc::clone(&config), handshake: Arc::new(handshake) });
        let network = OwnNetwork::new(start.network, start.relay_only);
        let role = RoleState::new(id, &start.name, start.incarnation, &network, &config);
        let mut node = Self {
            identity: start.identity,
            name: start.name,
            incarnation: start.incarnation,
            server_key: start.server_key,
            relay_only: start.relay_only,
            cluster: saved.cluster,
            admitted: None,
            expects: start.expect.is_some(),
            introducers: start.introducers.into_iter().map(dial::Introducer::new).collect(),
            network,
            now: start.now,
            env,
            nonces: NonceFilter::new(config.max_first_packet_nonces),
            first_packets: inbound::FirstPackets::default(),
            links: Links::new(rng.fork("links", 0)),
            remotes: BTreeMap::new(),
            remotes_kept: 0,
            linked_servers: BTreeSet::new(),
            awaited: BTreeSet::new(),
            watching: Watching::default(),
            role,
            relays: BTreeMap::new(),
            forwarder: Forwarder::new(config.slot_rest, config.max_peers, &config.quota_limits()),
            slots: BTreeMap::new(),
            relay_sources: BTreeMap::new(),
            messages: Messages::new(&config, rng.fork("requests", 0).next_u64()),
            conversations: 0,
            to_master: ToMaster::default(),
            mastery,
            told: Told::default(),
            streams: StreamTable::default(),
            reports: LinkReports::new(start.incarnation, config.max_links, config.directory_log),
            foreigners: Foreigners::default(),
            replacing: None,
            suspended_told: false,
            is_duplicate: false,
            timers: Deadlines::default(),
            dirty: BTreeSet::new(),
            unwritten: BTreeSet::new(),
            ready: VecDeque::new(),
            outgoing: VecDeque::new(),
            outputs: VecDeque::new(),
            counters: BTreeMap::new(),
            stopping: None,
            #[cfg(any(test, feature = "planted"))]
            misdeed: None,
            #[cfg(any(test, feature = "planted"))]
            begun_halves: BTreeSet::new(),
            saved,
            rng,
            config,
        };
        node.begin(start.now);
        Ok(node)
    }

    fn begin(&mut self, now: Instant) {
        let known: Vec<Id> = self.saved.servers.keys().copied().collect();
        for id in known {
            self.remote(id);
            self.consider(now, id);
        }
        self.review_servers(now);
        self.drain_council(now);
        for index in 0..self.introducers.len() {
            self.timers.set(Timer::Introducer(index), Some(now));
        }
        if !self.introducers.is_empty() || !self.saved.servers.is_empty() {
            self.timers.set(Timer::NoServer, Some(now + self.config.no_server_after));
        }
    }

    /// Takes what happened outside. Several inputs in a row are legal; nothing must be drained in between. `now` never goes
    /// back, and was read after a datagram was received: a voter gives no vote for a while from then on.
    pub fn handle(&mut self, now: Instant, input: Input) {
        self.now = now;
        match input {
            Input::Datagram(datagram) => self.receive(now, datagram),
            Input::Timeout => {}
            Input::Persisted(id) => self.persisted(now, id),
            Input::NetworkChanged(local) => self.network_changed(now, local),
            Input::Resumed => self.resumed(now),
        }
        self.run_timers(now);
        self.settle(now);
    }

    fn run_timers(&mut self, now: Instant) {
        while let Some(timer) = self.timers.pop_due(now) {
            match timer {
                Timer::Link(token) => {
                    if let Some(entry) = self.links.get_mut(token) {
                        entry.link.handle_timeout(now);
                        self.dirty.insert(token);
                    }
                }
                Timer::Challenge(id) => self.judge_challenge(now, id),
                Timer::Accused(id) => self.judge_accused(now, id),
                Timer::Greeting(token) => self.greeting_due(now, token),
                Timer::Refused(token) => self.close(now, token, crate::wire::CloseCode::DuplicateIdentity),
                Timer::Dial(id) => self.consider(now, id),
                Timer::Introducer(index) => self.dial_introducer(now, index),
                Timer::Conversation(id) => {
                    if let Some(conversation) = self.remotes.get_mut(&id).and_then(|r| r.conversation.as_mut()) {
                        conversation.handle_timeout(now);
                        self.unwritten.insert(id);
                    }
                }
                Timer::Requests => self.requests_due(now),
                Timer::WaitingStreams => self.waiting_streams_due(now),
                Timer::Absent(id) => self.give_up_on(id),
                Timer::Idle(id) => self.idle_due(now, id),
                Timer::Interest(id) => self.watching.touch(id),
                Timer::Directory => self.send_directory(now),
                Timer::Leaving => self.leaving_due(now),
                Timer::Council => self.council_due(now),
                Timer::NoServer => self.no_server_due(),
                Timer::Stop => self.goodbye_due(now),
                #[cfg(any(test, feature = "planted"))]
                Timer::Misdeed => self.misdeed_due(now),
            }
        }
    }

    /// Brings the parts to rest: link events are taken, conversations written, deadlines indexed.
    fn settle(&mut self, now: Instant) {
        loop {
            if let Some(token) = self.dirty.pop_first() {
                self.drain_link(now, token);
            } else if let Some(id) = self.unwritten.pop_first() {
                self.pump(now, id);
            } else if !self.watching.is_at_rest() {
                self.settle_watches(now);
            } else {
                return;
            }
        }
    }

    /// Appends the next run of datagrams to `buf`. Call until it returns `None` or the socket is full.
    pub fn poll_transmit(&mut self, now: Instant, buf: &mut Vec<u8>) -> Option<Transmit> {
        self.now = now;
        self.settle(now);
        let transmit = self.next_transmit(now, buf);
        if transmit.is_none() && self.stopping == Some(Stopping::HandingOver) {
            self.go_on_stopping(now);
            return self.next_transmit(now, buf);
        }
        transmit
    }

    /// The next event or order to persist. Call until it returns `None`.
    pub fn poll(&mut self) -> Option<Output> {
        self.settle(self.now);
        loop {
            let output = self.outputs.pop_front()?;
            // what happened to a stream before its end does not matter after it
            if let Output::Event(Event::StreamReadable(stream) | Event::StreamWritable(stream)) = &output
                && !self.streams.is_open(*stream)
            {
                continue;
            }
            return Some(output);
        }
    }

    /// When to call [`handle`](Self::handle) with [`Input::Timeout`]; due at once while any output is queued, or the end of the
    /// node waits for nothing but that its outputs are asked for.
    pub fn deadline(&self) -> Option<Deadline> {
        let due = |why| Some(Deadline { at: self.now, why });
        if !self.outputs.is_empty() {
            due("event queued")
        } else if !self.outgoing.is_empty() || !self.ready.is_empty() {
            due("datagram queued")
        } else if !self.dirty.is_empty() || !self.unwritten.is_empty() || !self.watching.is_at_rest() {
            due("command given")
        } else if self.stopping == Some(Stopping::HandingOver) && !self.is_handing_over() {
            due("goodbye")
        } else {
            self.timers.next().map(|(at, timer)| Deadline { at, why: timer.why() })
        }
    }

    /// This node's Id.
    pub fn id(&self) -> Id {
        self.identity.id()
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    fn count(&mut self, what: &'static str) {
        self.count_many(what, 1);
    }

    fn count_many(&mut self, what: &'static str, many: u64) {
        let counter = self.counters.entry(what).or_default();
        *counter = counter.saturating_add(many);
    }

    fn is_linked(&self, id: &Id) -> bool {
        self.remotes.get(id).is_some_and(|remote| remote.current.is_some())
    }

    /// A peer without a link to any server. Servers are never suspended.
    fn is_suspended(&self) -> bool {
        !self.id().is_server() && self.linked_servers.is_empty()
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("id", &self.id()).field("links", &self.links.len()).finish_non_exhaustive()
    }
}
