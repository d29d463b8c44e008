//! Messages of every kind, made from the bytes of a case.

use std::net::SocketAddr;

use arbitrary::{Result, Unstructured};
use p2pcore::{
    ClusterId, Id, Incarnation, Name, PublicKey, Reason, Role,
    master::{
        Allegiance, Body, Generation, Kind, MasterMessage, MasterView, Member, MemberInfo, Membership, NoQuorum,
        Roster, Saying, Token, Wish,
    },
    message::{FENCE_LEN, Heard, Kind as MessageKind, MAX_RUNS, Receipt, SessionId, SessionMessage},
    raft::{self, Configuration, Entry, HardState, Payload, Snapshot, Stored, Voters},
    relay::Slot,
    table::{
        Addresses, Bounded, Delta, LinkKind, LinkReport, NatClass, NetworkInfo, PeerRow, ServerRow, Snapshot as Rows,
        Update, Version,
    },
    wire::{Control, Hello, Members, Sighting},
};

/// Makes values; of Ids, some that are known.
pub(super) struct Builder<'a> {
    pub(super) bytes: Unstructured<'a>,
    pub(super) ids: Vec<Id>,
    pub(super) clusters: Vec<ClusterId>,
}

type Raft = raft::Message<Id, Roster>;

impl<'a> Builder<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes: Unstructured::new(bytes), ids: Vec::new(), clusters: Vec::new() }
    }

    /// A control message of a kind that the role may send once it is admitted, or any.
    pub(super) fn said_by(&mut self, role: Role, legal: bool) -> Result<Control> {
        let kinds: &[u8] = match role {
            _ if !legal => return self.control(),
            Role::Peer => &[2, 7, 8, 8, 10, 12, 13],
            Role::Server => &[1, 3, 4, 5, 5, 6, 9, 10, 11, 13, 14, 15, 16],
        };
        let kind = *self.bytes.choose(kinds)?;
        self.control_of(kind)
    }

    /// Any control message.
    pub(super) fn control(&mut self) -> Result<Control> {
        let kind = self.bytes.int_in_range(0..=16)?;
        self.control_of(kind)
    }

    fn control_of(&mut self, kind: u8) -> Result<Control> {
        Ok(match kind {
            0 => Control::Hello(Box::new(self.hello()?)),
            1 => Control::Seen(self.address()?),
            2 => Control::Network(self.network()?),
            3 => Control::Servers(Bounded::first(self.list(64, |b| Ok((b.id()?, b.server_row()?)))?)),
            4 => Control::Slot(self.slot()?),
            5 => Control::Directory(Update::Snapshot(Rows {
                version: self.version()?,
                more: self.flag()?,
                rows: self.list(40, |b| Ok((b.id()?, b.peer_row()?)))?,
            })),
            6 => Control::Directory(Update::Delta(Delta {
                epoch: self.run()?,
                from: self.number()?,
                to: self.number()?,
                more: self.flag()?,
                set: self.list(40, |b| Ok((b.id()?, b.peer_row()?)))?,
                removed: self.list(40, Self::id)?,
            })),
            7 => Control::DirectoryLost,
            8 => match self.report()? {
                Some(report) => Control::Links(report),
                None => Control::LinksLost,
            },
            9 => Control::LinksLost,
            10 => Control::Session(self.session_message()?),
            11 => Control::Duplicate(Bounded::first(self.list(2, Self::address)?)),
            12 => Control::SeenElsewhere(Sighting {
                id: self.id()?,
                incarnation: self.run()?,
                address: self.option(Self::address)?,
            }),
            13 => Control::ForeignCluster { id: self.id()?, cluster: self.option(Self::cluster)? },
            14 => Control::Council(Box::new(self.master_message()?)),
            15 => Control::Master(self.view()?),
            _ => Control::Members(Members {
                generation: self.number()?,
                version: self.number()?,
                list: Bounded::first(self.list(64, |b| Ok(MemberInfo { id: b.id()?, is_voter: b.flag()? }))?),
            }),
        })
    }

    pub(super) fn hello(&mut self) -> Result<Hello> {
        Ok(Hello {
            name: self.name()?,
            incarnation: self.run()?,
            cluster: self.option(Self::cluster)?,
            server_proof: self.option(|b| b.bytes.arbitrary())?,
            last_link: self.option(|b| b.bytes.arbitrary())?,
            dial: self.number()?,
            network: self.network()?,
        })
    }

    pub(super) fn session_message(&mut self) -> Result<SessionMessage> {
        Ok(match self.bytes.int_in_range(0..=2)? {
            0 => SessionMessage::Known {
                instance: self.short()?,
                heard: self.option(|b| Ok(Heard { session: b.session()?, next: b.list(16, Self::number)? }))?,
            },
            1 => SessionMessage::Open { session: self.session()? },
            _ => SessionMessage::Receipt(Receipt {
                lane: self.bytes.int_in_range(0..=17)?,
                below: self.number()?,
                also: self.list(MAX_RUNS, |b| Ok((b.number()?, b.number()?)))?,
            }),
        })
    }

    pub(super) fn master_message(&mut self) -> Result<MasterMessage> {
        let allegiance = self.option(|b| Ok(Allegiance { cluster: b.cluster()?, generation: b.generation()? }))?;
        let body = match self.bytes.int_in_range(0..=5)? {
            0 => Body::Hello,
            1 => Body::Raft { from: self.run()?, to: self.run()?, message: self.raft()? },
            2 => Body::Ask {
                wish: match self.bytes.int_in_range(0..=3)? {
                    0 => Wish::Join { membership: self.membership()?, running_ms: self.option(Self::number)? },
                    1 => Wish::Leave(self.membership()?),
                    2 => Wish::Remove(self.id()?),
                    _ => Wish::HandOver(self.id()?),
                },
                passed_on: self.flag()?,
            },
            3 => Body::Ended(self.membership()?),
            4 => Body::Saying(Saying { token: self.token()?, round: self.number()? }),
            _ => Body::Expecting { running_ms: self.number()?, yields: self.flag()? },
        };
        Ok(MasterMessage { allegiance, body })
    }

    pub(super) fn raft(&mut self) -> Result<Raft> {
        use raft::Body::*;
        let (term, join) = (self.number()?, self.number()?);
        let body = match self.bytes.int_in_range(0..=10)? {
            0 => PreVote { last_index: self.number()?, last_term: self.number()? },
            1 => PreVoteReply { granted: self.flag()? },
            2 => Vote { last_index: self.number()?, last_term: self.number()?, transfer: self.flag()? },
            3 => VoteReply { granted: self.flag()? },
            4 => {
                let (prev_index, prev_term) = (self.number()?, self.number()?);
                // most logs have no gaps
                let gapless = self.flag()?;
                let mut entries = self.list(8, Self::entry)?;
                for (entry, place) in entries.iter_mut().zip(1..).filter(|_| gapless) {
                    (entry.index, entry.term) = (prev_index.wrapping_add(place), prev_term);
                }
                Append { prev_index, prev_term, entries, commit: self.number()? }
            }
            5 => Appended { index: self.number()? },
            6 => Rejected { prev_index: self.number()?, hint_index: self.number()?, hint_term: self.number()? },
            7 => Heartbeat { commit: self.number()?, round: self.number()? },
            8 => HeartbeatReply { round: self.number()? },
            9 => Snapshot(self.snapshot()?),
            _ => TimeoutNow,
        };
        Ok(raft::Message { term, join, body })
    }

    /// What a server's disk may hold of its council.
    pub(super) fn stored(&mut self) -> Result<Stored<Id, Roster>> {
        let hard_state = HardState { term: self.number()?, vote: self.option(Self::id)?, commit: self.number()? };
        Ok(Stored { hard_state, snapshot: self.snapshot()?, entries: self.list(8, Self::entry)? })
    }

    pub(super) fn roster(&mut self) -> Result<Roster> {
        Ok(Roster {
            members: self.list(6, |b| Ok(Member { membership: b.membership()?, age_ms: b.number()? }))?,
            leaving: self.list(4, Self::membership)?,
            gone: self.list(4, Self::membership)?,
        })
    }

    fn snapshot(&mut self) -> Result<Snapshot<Id>> {
        Ok(Snapshot { index: self.number()?, term: self.number()?, config: self.configuration()? })
    }

    fn entry(&mut self) -> Result<Entry<Id, Roster>> {
        let payload = match self.bytes.int_in_range(0..=2)? {
            0 => Payload::Noop,
            1 => Payload::Command(self.roster()?.into()),
            _ => Payload::Config(self.configuration()?.into()),
        };
        Ok(Entry { term: self.number()?, index: self.number()?, payload })
    }

    fn configuration(&mut self) -> Result<Configuration<Id>> {
        let set = |b: &mut Self| Ok(b.list(5, Self::id)?.into_iter().collect());
        Ok(Configuration {
            voters: Voters { incoming: set(self)?, outgoing: set(self)? },
            learners: set(self)?,
            learners_next: set(self)?,
            joins: self.list(6, |b| Ok((b.id()?, b.number()?)))?.into_iter().collect(),
        })
    }

    fn view(&mut self) -> Result<MasterView> {
        Ok(match self.bytes.int_in_range(0..=2)? {
            0 => MasterView::Master(self.token()?),
            1 => MasterView::NoMaster(None),
            _ => MasterView::NoMaster(Some(NoQuorum { need: self.bytes.arbitrary()?, have: self.bytes.arbitrary()? })),
        })
    }

    pub(super) fn token(&mut self) -> Result<Token> {
        let kind = if self.flag()? { Kind::Elected } else { Kind::Provisional };
        Ok(Token { generation: self.number()?, kind, term: self.number()?, id: self.id()? })
    }

    pub(super) fn generation(&mut self) -> Result<Generation> {
        Ok(Generation { number: self.number()?, founder: self.id()? })
    }

    pub(super) fn membership(&mut self) -> Result<Membership> {
        Ok(Membership { id: self.id()?, join: self.run()? })
    }

    /// By the layout of the wire: runs are nobody else's business.
    pub(super) fn report(&mut self) -> Result<Option<LinkReport>> {
        let kind = |b: &mut Self| {
            b.option(|b| b.bytes.choose(&[LinkKind::Direct, LinkKind::Punched, LinkKind::Relayed]).copied())
        };
        let head = (self.run()?, self.option(Self::number)?, self.number()?, self.flag()?);
        let directory = self.option(Self::version)?;
        let runs: Vec<(u32, u32, Option<LinkKind>)> =
            self.list(20, |b| Ok((b.number()? as u32, b.number()? as u32, kind(b)?)))?;
        let named: Vec<(Id, Option<LinkKind>)> = self.list(20, |b| Ok((b.id()?, kind(b)?)))?;
        let bytes = postcard::to_allocvec(&(head, directory, runs, named));
        Ok(bytes.ok().and_then(|bytes| postcard::from_bytes(&bytes).ok()))
    }

    /// What a message is for.
    pub(super) fn kind(&mut self) -> Result<MessageKind> {
        let rid = self.number()?;
        Ok(match self.bytes.int_in_range(0..=5)? {
            0 => MessageKind::Message,
            1 => MessageKind::Request { rid },
            2 => MessageKind::MasterMessage { rid, fence: self.fence()? },
            3 => MessageKind::MasterRequest { rid, fence: self.fence()? },
            4 => MessageKind::Reply { rid, result: Ok(()) },
            _ => MessageKind::Reply { rid, result: Err(self.reason()?) },
        })
    }

    fn fence(&mut self) -> Result<[u8; FENCE_LEN]> {
        if self.flag()? { Ok(self.token()?.to_bytes()) } else { self.bytes.arbitrary() }
    }

    pub(super) fn reason(&mut self) -> Result<Reason> {
        let reasons =
            [Reason::UnknownId, Reason::Offline, Reason::Full, Reason::Timeout, Reason::Refused, Reason::Reset];
        self.bytes.choose(&reasons).copied()
    }

    fn peer_row(&mut self) -> Result<PeerRow> {
        Ok(PeerRow { name: self.name()?, incarnation: self.run()?, network: self.network()?, slot: self.slot()? })
    }

    fn server_row(&mut self) -> Result<ServerRow> {
        Ok(ServerRow {
            name: self.name()?,
            incarnation: self.run()?,
            version: self.number()?,
            addresses: self.addresses()?,
            slot: self.option(Self::slot)?,
        })
    }

    pub(super) fn network(&mut self) -> Result<NetworkInfo> {
        let nats = [NatClass::default(), NatClass::Sequential, NatClass::Random];
        let (public, private, listen) = (self.addresses()?, self.addresses()?, self.addresses()?);
        let nat = *self.bytes.choose(&nats)?;
        Ok(NetworkInfo { version: self.number()?, public, private, listen, nat, relay_only: self.flag()? })
    }

    fn addresses(&mut self) -> Result<Addresses> {
        Ok(Addresses::first(self.list(4, Self::address)?))
    }

    pub(super) fn address(&mut self) -> Result<SocketAddr> {
        let (last, port) = (self.bytes.arbitrary::<u8>()?, self.bytes.arbitrary::<u16>()?);
        Ok(match self.bytes.int_in_range(0..=4)? {
            0 => ([192, 0, 2, last % 4 + 1], 7_000).into(),
            1 => ([10, 0, 0, last], port).into(),
            2 => ([127, 0, 0, 1], port).into(),
            3 => self.bytes.arbitrary::<std::net::Ipv6Addr>().map(|ip| SocketAddr::new(ip.into(), port))?,
            _ => self.bytes.arbitrary::<std::net::Ipv4Addr>().map(|ip| SocketAddr::new(ip.into(), port))?,
        })
    }

    pub(super) fn slot(&mut self) -> Result<Slot> {
        let (index, generation) = (self.number()? as u16, self.bytes.arbitrary::<u8>()?);
        Ok(Slot::new(index % u16::MAX, generation % Slot::GENERATIONS).unwrap_or(Slot::SERVER))
    }

    fn version(&mut self) -> Result<Version> {
        Ok(Version { epoch: self.run()?, number: self.number()? })
    }

    pub(super) fn run(&mut self) -> Result<Incarnation> {
        Ok(Incarnation { counter: self.number()?, random: self.short()? })
    }

    fn session(&mut self) -> Result<SessionId> {
        Ok(SessionId { seed: self.short()?, count: self.number()? })
    }

    pub(super) fn cluster(&mut self) -> Result<ClusterId> {
        if !self.clusters.is_empty() && self.flag()? {
            return self.bytes.choose(&self.clusters).copied();
        }
        Ok(ClusterId(self.short()?))
    }

    pub(super) fn id(&mut self) -> Result<Id> {
        let which = self.bytes.arbitrary::<u8>()?;
        if let Some(id) = self.ids.get(usize::from(which % 8)) {
            return Ok(*id);
        }
        let role = if which & 8 == 0 { Role::Server } else { Role::Peer };
        // mostly few, so that they meet again
        let key = if which < 200 { which >> 4 } else { self.bytes.arbitrary()? };
        Ok(Id::from_key(role, &PublicKey([key; 32])))
    }

    fn name(&mut self) -> Result<Name> {
        let text = self.bytes.arbitrary::<&str>()?;
        let cut = text.char_indices().map(|(at, _)| at).find(|at| *at > 8).unwrap_or(text.len());
        Ok(Name::new(text.get(..cut).unwrap_or_default()).unwrap_or_default())
    }

    /// 16 bytes of which one says all.
    fn short(&mut self) -> Result<[u8; 16]> {
        Ok([self.bytes.arbitrary()?; 16])
    }

    pub(super) fn number(&mut self) -> Result<u64> {
        Ok(match self.bytes.arbitrary::<u8>()? {
            small @ 0..=219 => small.into(),
            220..=229 => u64::MAX - u64::from(self.bytes.arbitrary::<u8>()?),
            230..=244 => self.bytes.arbitrary::<u16>()?.into(),
            _ => self.bytes.arbitrary()?,
        })
    }

    pub(super) fn flag(&mut self) -> Result<bool> {
        self.bytes.arbitrary()
    }

    pub(super) fn option<T>(&mut self, make: impl FnOnce(&mut Self) -> Result<T>) -> Result<Option<T>> {
        if self.flag()? { make(self).map(Some) } else { Ok(None) }
    }

    /// Mostly short ones; as long as the bytes last.
    pub(super) fn list<T>(&mut self, max: usize, mut make: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let len = usize::from(self.bytes.arbitrary::<u8>()?);
        let len = if len < 200 { len % 4 } else { len };
        let mut list = Vec::new();
        while list.len() < len.min(max) && !self.bytes.is_empty() {
            list.push(make(self)?);
        }
        Ok(list)
    }
}
