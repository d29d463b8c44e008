//! What becomes of links and messages.

use std::time::{Duration, Instant};

use super::{
    Allegiance, Body, Council, Event, Flaw, MasterMessage, Membership, Roster, Standing, Warning,
    limits::{MAX_LINKS, MAX_WITNESSED},
    machine::Link,
};
use crate::{
    id::{Id, Incarnation},
    raft,
};

impl Council {
    /// Another server is linked, or was linked anew; `rtt` is the round trip to it.
    pub fn linked(&mut self, now: Instant, id: Id, rtt: Duration) {
        if id == self.id || (self.links.len() >= MAX_LINKS && !self.links.contains_key(&id)) {
            return;
        }
        self.links.insert(id, Link { rtt, join: None, is_warned: false });
        if let Some((expecting, _)) = &mut self.expecting {
            // it may be another run
            expecting.unlinked(&id);
        }
        self.send(id, Body::Hello);
        (self.ask_at, self.say_at) = (now, now);
        self.timeout(now);
    }

    /// Tells all linked servers where this one belongs.
    pub(super) fn say_hello(&mut self) {
        self.send_to_all(&Body::Hello);
    }

    /// The link to another server is lost.
    pub fn unlinked(&mut self, now: Instant, id: Id) {
        self.links.remove(&id);
        if let Some((expecting, _)) = &mut self.expecting {
            expecting.unlinked(&id);
        }
        self.settle(now);
    }

    /// These are the servers to which peers that are linked here report links.
    pub fn witnessed(&mut self, now: Instant, servers: impl IntoIterator<Item = Id>) {
        self.witnessed = servers.into_iter().take(MAX_WITNESSED).collect();
        self.settle(now);
    }

    /// A message of a linked server came in.
    pub fn handle(&mut self, now: Instant, from: Id, message: MasterMessage) {
        if self.standing == Standing::Out || !self.links.contains_key(&from) {
            return;
        }
        let MasterMessage { allegiance, body } = message;
        if self.is_kin(now, from, allegiance) {
            self.on_body(now, from, allegiance, body);
        }
        self.settle(now);
    }

    /// Whether the sender belongs to the same generation of the same cluster, or to none.
    fn is_kin(&mut self, now: Instant, from: Id, theirs: Option<Allegiance>) -> bool {
        let (Some(own), Some(theirs)) = (self.allegiance, theirs) else { return true };
        if own.cluster != theirs.cluster {
            self.warn(from, Warning::ForeignCluster { id: from, cluster: theirs.cluster });
            return false;
        }
        if own.generation.number < theirs.generation.number {
            self.supersede(now, theirs);
            return true;
        }
        if own.generation.number > theirs.generation.number {
            // it learns from this that its state is void
            self.send(from, Body::Hello);
            return false;
        }
        if own.generation.founder != theirs.generation.founder {
            self.warn(from, Warning::Fork { id: from });
            return false;
        }
        true
    }

    /// A new cluster was forced elsewhere: whatever this server held is void.
    fn supersede(&mut self, now: Instant, allegiance: Allegiance) {
        self.is_youngest = true;
        self.running_since = now;
        let blank = self.blank(Some(allegiance));
        self.restart(now, blank);
        self.event(Event::Warning(Warning::Superseded(allegiance.generation.number)));
    }

    fn warn(&mut self, from: Id, warning: Warning) {
        if let Some(link) = self.links.get_mut(&from).filter(|link| !link.is_warned) {
            link.is_warned = true;
            self.event(Event::Warning(warning));
        }
    }

    fn on_body(&mut self, now: Instant, from: Id, theirs: Option<Allegiance>, body: Body) {
        if matches!(body, Body::Raft { .. } | Body::Saying(_)) {
            // there is a cluster to join, and its founder has it on disk: it was elected
            self.expecting = None;
        }
        match (body, theirs) {
            (Body::Hello, _) => (),
            (Body::Raft { from: join, to, message }, Some(theirs)) => {
                self.on_raft(now, (from, join), to, theirs, message);
            }
            (Body::Ask { wish, passed_on }, _) => self.on_wish(now, from, wish, passed_on),
            (Body::Ended(membership), Some(_)) => self.on_ended(now, membership),
            (Body::Saying(saying), Some(theirs)) => {
                if saying.token.generation == theirs.generation.number {
                    self.on_saying(now, from, saying);
                }
            }
            (Body::Expecting { running_ms, yields }, None) => {
                if let Some((expecting, _)) = &mut self.expecting {
                    expecting.heard(now, from, running_ms, yields);
                }
            }
            (Body::Raft { .. } | Body::Ended(_) | Body::Saying(_), None) | (Body::Expecting { .. }, Some(_)) => (),
        }
    }

    /// A message of Raft. What is for another membership of this server is for a disk that is lost: to answer would be to
    /// vote twice. What another membership of the sender answers is not counted.
    fn on_raft(
        &mut self,
        now: Instant,
        (from, join): (Id, Incarnation),
        to: Incarnation,
        theirs: Allegiance,
        message: raft::Message<Id, Roster>,
    ) {
        if !self.is_for_me(to) {
            return;
        }
        if message.body.is_reply() {
            if !self.is_from(&from, join) {
                return;
            }
        } else if let Some(link) = self.links.get_mut(&from) {
            link.join = Some(join);
        }
        // who is addressed by the name under which it asked has been admitted
        self.allegiance.get_or_insert(theirs);
        let speaks_as_leader =
            matches!(message.body, raft::Body::Append { .. } | raft::Body::Heartbeat { .. } | raft::Body::Snapshot(_));
        self.raft.handle(now, from, message);
        if speaks_as_leader && self.raft.raft().role().leader == Some(from) {
            self.leader_heard = Some(now);
        }
    }

    fn is_from(&self, from: &Id, join: Incarnation) -> bool {
        let is_lax = self.has(Flaw::AnswerForLostDisk) || self.has(Flaw::Raft(raft::Flaw::StaleJoin));
        is_lax || self.roster.placed(from) == Some(join)
    }

    fn is_for_me(&self, to: Incarnation) -> bool {
        to == self.join || self.has(Flaw::AnswerForLostDisk)
    }

    fn on_ended(&mut self, now: Instant, membership: Membership) {
        if membership == self.membership() {
            self.end(now);
        }
    }

    /// The roster may say that this membership ended for good.
    pub(super) fn leave_if_ended(&mut self, now: Instant) {
        if self.roster.is_gone(&self.membership()) && !self.raft.raft().committed_config().contains(&self.id) {
            self.end(now);
        }
    }

    pub(super) fn end(&mut self, now: Instant) {
        if self.standing == Standing::Out {
            return;
        }
        self.standing = Standing::Out;
        let id = self.archive.next();
        self.persist(now, id);
        self.event(Event::Out);
    }
}
