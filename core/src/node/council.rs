//! The Master as this node sees it: a server sits in the council, a peer believes what its servers say.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Instant,
};

use super::{Event, Guard, Node, PersistId, Saved, Start, Timer, Warning, roles::RoleState};
use crate::{
    ClusterId, CommandError, Config, Id, StartError,
    link::LinkToken,
    master::{self, Council, Hearsay, MasterMessage, MasterView, MemberInfo, Output},
    rng::Rng,
    table::Bounded,
    wire::{CloseCode, Control, Members},
};

/// What a node knows of the Master, and by what right.
#[derive(Debug)]
pub(super) enum Mastery {
    /// Servers.
    Council(Box<Council>),
    /// Peers.
    Hearsay(Hearsay),
}

/// What was told to the application, and what waits for the disk.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// `None` until something is known.
    pub(super) view: Option<MasterView>,
    /// What the council allows; asked for before each datagram, so it is not worked out each time.
    guard: Option<Guard>,
    pub(super) members: Members,
    /// At a peer: what each linked server says of them.
    members_by: BTreeMap<Id, Members>,
    /// The council's orders, by those of the node that carry them.
    orders: VecDeque<(PersistId, master::PersistId)>,
}

/// How a server begins.
fn council_start(start: &Start, saved: &Saved, rng: &Rng) -> master::Start {
    if let Some(durable) = &saved.council {
        return master::Start::Saved(durable.clone());
    }
    let cluster = ClusterId(rng.fork("cluster", 0).bytes());
    match start.expect {
        _ if start.found => master::Start::Found(cluster),
        Some(servers) => master::Start::Expect { servers, cluster },
        None => master::Start::Join,
    }
}

impl Mastery {
    pub(super) fn new(config: &Config, start: &Start, saved: &Saved, rng: &Rng) -> Result<Self, StartError> {
        let id = start.identity.id();
        if !id.is_server() {
            return Ok(Self::Hearsay(Hearsay::default()));
        }
        let begin = council_start(start, saved, rng);
        let rng = rng.fork("council", 0);
        let council = Council::new(start.now, id, start.incarnation, begin, config.master, rng)?;
        Ok(Self::Council(Box::new(council)))
    }

    fn council_mut(&mut self) -> Result<&mut Council, CommandError> {
        match self {
            Self::Council(council) => Ok(council),
            Self::Hearsay(_) => Err(CommandError::NotAServer),
        }
    }
}

/// What an operator may do about the members of the cluster, at any server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberCommand {
    /// This server leaves: [`Event::Left`] and the goodbye follow when the others have agreed.
    Leave,
    /// This member is removed; if it is alive, it stops.
    Remove(Id),
    /// The office of Master goes to this voter.
    Transfer(Id),
    /// The voters are lost for good: this server alone begins a new generation of the cluster, and all others join it anew.
    ForceNewCluster,
}

impl Node {
    /// Who is the Master, as far as this node knows; `None` until it knows anything.
    pub fn master(&self) -> Option<MasterView> {
        self.told.view
    }

    /// The committed members, from the oldest on.
    pub fn members(&self) -> &[MemberInfo] {
        &self.told.members.list
    }

    /// The right of this server to act as Master, if it has it. Ask before each act: it may end before the time that was
    /// told earlier, when this server hands the office over.
    pub fn guard(&self) -> Option<Guard> {
        self.told.guard.filter(|guard| self.stopping.is_none() && self.now < guard.until)
    }

    /// The part of this server in the council, to look at: for tests and tools.
    pub fn council(&self) -> Option<&Council> {
        match &self.mastery {
            Mastery::Council(council) => Some(council),
            Mastery::Hearsay(_) => None,
        }
    }

    /// Plants a fault of the consensus in a server, right after the start.
    #[cfg(any(test, feature = "planted"))]
    pub fn plant(&mut self, flaw: master::Flaw) {
        if let Mastery::Council(council) = &mut self.mastery {
            council.plant(flaw);
        }
    }

    /// Gives up the office of Master at once, and hands it over if there is another voter. Not being Master is no error.
    ///
    /// # Errors
    /// `NotAServer`.
    pub fn resign(&mut self, now: Instant) -> Result<(), CommandError> {
        self.now = now;
        self.mastery.council_mut()?.resign(now);
        self.drain_council(now);
        Ok(())
    }

    /// Changes the members, or what they do. That it is accepted does not say that it is done: the members and the Master
    /// show that.
    ///
    /// # Errors
    /// `NotAServer`; `Members` says what speaks against it; `Stopped`.
    pub fn change_members(&mut self, now: Instant, command: MemberCommand) -> Result<(), CommandError> {
        self.now = now;
        let council = self.mastery.council_mut()?;
        if self.stopping.is_some() {
            return Err(CommandError::Stopped);
        }
        match command {
            MemberCommand::Leave => council.leave(now),
            MemberCommand::Remove(id) => council.remove(now, id),
            MemberCommand::Transfer(id) => council.transfer(now, id),
            MemberCommand::ForceNewCluster => council.force_new_cluster(now),
        }?;
        self.drain_council(now);
        Ok(())
    }

    /// This server stops: whoever takes the office over shall not have to wait for an election.
    pub(super) fn give_up_office(&mut self, now: Instant) {
        if let Mastery::Council(council) = &mut self.mastery {
            council.resign(now);
        }
        self.drain_council(now);
    }

    /// Whether another voter was told to take over and has not done so yet.
    pub(super) fn is_handing_over(&self) -> bool {
        matches!(&self.mastery, Mastery::Council(council) if council.raft().transfer_target().is_some())
    }

    /// The machine slept: the clock may have stood still, and no guard is to be trusted.
    pub(super) fn resumed(&mut self, now: Instant) {
        if let Mastery::Council(council) = &mut self.mastery {
            council.resumed(now);
        }
        self.drain_council(now);
    }

    pub(super) fn council_due(&mut self, now: Instant) {
        if let Mastery::Council(council) = &mut self.mastery {
            council.timeout(now);
        }
        self.drain_council(now);
    }

    /// An order of the node is on disk, with all that the council ordered until then.
    pub(super) fn council_persisted(&mut self, now: Instant, id: PersistId) {
        let mut newest = None;
        while let Some((carrier, order)) = self.told.orders.front().copied()
            && carrier <= id
        {
            newest = Some(order);
            self.told.orders.pop_front();
        }
        if let (Some(order), Mastery::Council(council)) = (newest, &mut self.mastery) {
            council.persisted(now, order);
            self.drain_council(now);
        }
    }

    /// Another node is linked: a server is heard in the council, a peer is told.
    pub(super) fn council_linked(&mut self, now: Instant, token: LinkToken, id: Id) {
        let rtt = self.links.get(token).and_then(|entry| entry.link.rtt()).unwrap_or_default();
        match &mut self.mastery {
            Mastery::Council(council) if id.is_server() => {
                council.linked(now, id, rtt);
                self.drain_council(now);
            }
            Mastery::Council(_) => {
                if let Some(view) = self.told.view {
                    self.tell(now, id, &Control::Master(view));
                }
                if self.told.members.version > 0 {
                    self.tell(now, id, &Control::Members(self.told.members.clone()));
                }
            }
            Mastery::Hearsay(_) => {}
        }
    }

    pub(super) fn council_unlinked(&mut self, now: Instant, id: Id) {
        if !id.is_server() {
            return self.witness(now);
        }
        match &mut self.mastery {
            Mastery::Council(council) => {
                council.unlinked(now, id);
                self.drain_council(now);
            }
            Mastery::Hearsay(hearsay) => {
                let view = hearsay.unlinked(&id);
                self.told.members_by.remove(&id);
                if let Some(view) = view {
                    self.show_master(view);
                }
                self.show_newest_members();
            }
        }
        self.witness(now);
    }

    pub(super) fn on_council_message(&mut self, now: Instant, token: LinkToken, id: Id, message: MasterMessage) {
        let Mastery::Council(council) = &mut self.mastery else { return self.violation(now, token) };
        let belongs = message.allegiance.is_some_and(|theirs| self.cluster.is_none_or(|own| own == theirs.cluster));
        council.handle(now, id, message);
        if belongs && let RoleState::Server(tables) = &mut self.role {
            let is_news = tables.admit_server(&id);
            if is_news {
                self.broadcast_servers(now);
            }
        }
        self.drain_council(now);
    }

    pub(super) fn on_master_told(&mut self, now: Instant, token: LinkToken, server: Id, view: MasterView) {
        let Mastery::Hearsay(hearsay) = &mut self.mastery else { return self.violation(now, token) };
        if hearsay.word_of(&server) == Some(view) {
            return;
        }
        let shown = hearsay.told(server, view);
        // the dead tell nothing any more: whoever shows another Master than the one told just now is asked whether it lives
        let doubted: Vec<Id> = hearsay.contradicting(&server).collect();
        if let Some(view) = shown {
            self.show_master(view);
        }
        for id in doubted {
            self.challenge(now, id, None);
        }
    }

    pub(super) fn on_members_told(&mut self, now: Instant, token: LinkToken, server: Id, members: Members) {
        if let Mastery::Council(_) = self.mastery {
            return self.violation(now, token);
        }
        self.told.members_by.insert(server, members);
        self.show_newest_members();
    }

    /// The newest that a linked server tells; one that lies is believed for as long as its link lasts.
    fn show_newest_members(&mut self) {
        let newest = self.told.members_by.values().max_by_key(|members| (members.generation, members.version));
        if let Some(newest) = newest.filter(|newest| **newest != self.told.members) {
            self.show_members(newest.clone());
        }
    }

    /// Only the last one of two members wants to know whether peers still see the other one.
    pub(super) fn witness(&mut self, now: Instant) {
        let (Mastery::Council(council), RoleState::Server(tables)) = (&mut self.mastery, &self.role) else { return };
        if council.wants_witnesses() {
            council.witnessed(now, tables.witnessed_servers());
            self.drain_council(now);
        }
    }

    /// Carries out what the council wants, and sets its timer. Follows each input of the council.
    pub(super) fn drain_council(&mut self, now: Instant) {
        loop {
            let Mastery::Council(council) = &mut self.mastery else { return };
            match council.poll() {
                Some(Output::Send { to, message }) => self.tell(now, to, &Control::Council(message)),
                Some(Output::Persist { id, state }) => {
                    let cluster = state.allegiance.map(|allegiance| allegiance.cluster);
                    self.saved.council = Some(state);
                    let carrier = self.save();
                    self.told.orders.push_back((carrier, id));
                    if let (None, None, Some(cluster)) = (self.cluster, self.admitted, cluster) {
                        self.admitted = Some((carrier, cluster));
                    }
                }
                Some(Output::Event(event)) => self.on_council_event(now, event),
                None => {
                    let guard = council.valid_until().zip(council.token(now));
                    self.told.guard = guard.map(|(until, token)| Guard { token, until });
                    let deadline = council.deadline();
                    self.timers.set(Timer::Council, deadline);
                    return self.go_on_stopping(now);
                }
            }
        }
    }

    fn on_council_event(&mut self, now: Instant, event: master::Event) {
        match event {
            master::Event::Master(view) => {
                self.show_master(view);
                self.tell_clients(now, &Control::Master(view));
            }
            master::Event::Members(list) => {
                let Mastery::Council(council) = &self.mastery else { return };
                let generation = council.allegiance().map_or(0, |allegiance| allegiance.generation.number);
                let members = Members { generation, version: council.raft().commit(), list: Bounded::first(list) };
                // a server that was admitted nowhere knows of no members, which does not say that there are none
                if members.version > 0 {
                    self.tell_clients(now, &Control::Members(members.clone()));
                }
                self.show_members(members);
                self.witness(now);
            }
            master::Event::Out => {
                self.event(Event::Left);
                self.stop(now);
            }
            master::Event::Warning(warning) => {
                if let master::Warning::ForeignCluster { id, cluster } = warning {
                    self.met_foreigner(now, id, Some(cluster));
                    if let Some(token) = self.remotes.get(&id).and_then(|remote| remote.current) {
                        self.close(now, token, CloseCode::ForeignCluster);
                    }
                }
                self.event(Event::Warning(Warning::Master(warning)));
            }
        }
    }

    fn tell_clients(&mut self, now: Instant, message: &Control) {
        let RoleState::Server(tables) = &self.role else { return };
        let clients: Vec<Id> = tables.clients().map(|(id, _)| *id).collect();
        for id in clients {
            self.tell(now, id, message);
        }
    }

    fn show_master(&mut self, view: MasterView) {
        self.told.view = Some(view);
        self.event(Event::Master(view));
        self.master_changed(view);
    }

    fn show_members(&mut self, members: Members) {
        let is_news = self.told.members.list != members.list;
        self.told.members = members;
        if is_news {
            self.event(Event::Members(self.told.members.list.to_vec()));
        }
    }
}
