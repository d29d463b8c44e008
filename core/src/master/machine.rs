//! The machine: its state, its beginning, and what every input is followed by.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Allegiance, Body, Durable, Event, Flaw, Generation, MasterMessage, MasterView, MemberInfo, Membership, Output,
    PersistId, Roster, Settings, Standing, Start, StartError, Token, Wish,
    admission::Admission,
    durable::{Archive, millis},
    founding::Expecting,
    guard::Guard,
    limits,
    provisional::Heir,
    view::Horizon,
};
use crate::{
    id::{ClusterId, Id, Incarnation},
    planted::Planted,
    raft::{self, Draw, Payload, Raft, Snapshot, Stored, Timed},
    rng::Rng,
};

/// What is known of a linked server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) rtt: Duration,
    /// Its membership, as it said last.
    pub(super) join: Option<Incarnation>,
    /// It was warned of already.
    pub(super) is_warned: bool,
}

/// Raft's random numbers.
#[derive(Clone, Debug)]
pub(super) struct Dice(Rng);

impl Draw for Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0.below(bound)
    }
}

/// One server's part in having one Master.
///
/// Inputs may come in any order and number; look at [`poll`](Self::poll) and [`deadline`](Self::deadline) after each.
/// `now` must never go back.
#[derive(Clone, Debug)]
pub struct Council {
    pub(super) id: Id,
    pub(super) incarnation: Incarnation,
    pub(super) settings: Settings,
    pub(super) allegiance: Option<Allegiance>,
    /// The first order to the disk that names an allegiance.
    pledge: Option<PersistId>,
    /// It is carried out: others may hear where this server belongs.
    is_pledged: bool,
    pub(super) join: Incarnation,
    pub(super) standing: Standing,
    pub(super) raft: Timed<Id, Roster, Dice>,
    pub(super) archive: Archive,
    pub(super) roster: Roster,
    pub(super) roster_index: u64,
    /// The roster's ages were true so long before this instant.
    pub(super) aged: (Duration, Instant),
    /// Since when it has been running; what came before it had to join anew does not count.
    pub(super) running_since: Instant,
    /// It had a place in an earlier generation: whatever its age, it comes back as the youngest.
    pub(super) is_youngest: bool,
    pub(super) links: BTreeMap<Id, Link>,
    /// Servers to which linked peers report links.
    pub(super) witnessed: BTreeSet<Id>,
    pub(super) expecting: Option<(Expecting, ClusterId)>,
    pub(super) admission: Admission,
    pub(super) guard: Guard,
    pub(super) heir: Heir,
    pub(super) horizon: Horizon,
    /// When Raft's leader was last heard.
    pub(super) leader_heard: Option<Instant>,
    pub(super) ask_at: Instant,
    pub(super) say_at: Instant,
    pub(super) round: u64,
    pub(super) age_saved: Duration,
    pub(super) told_view: MasterView,
    told_members: Vec<MemberInfo>,
    rng: Rng,
    raft_count: u64,
    pub(super) outputs: VecDeque<Output>,
    pub(super) planted: Planted<Flaw>,
    pub(super) stale_lease: Planted<(Token, Instant)>,
}

impl Council {
    /// Begins. `incarnation` is that of this start; `rng` must be another one at each server.
    ///
    /// # Errors
    /// When the saved state is damaged or the settings contradict each other.
    pub fn new(
        now: Instant,
        id: Id,
        incarnation: Incarnation,
        start: Start,
        settings: Settings,
        rng: Rng,
    ) -> Result<Self, StartError> {
        if settings.ask_every.is_zero() || settings.provisional_after.is_some_and(|after| after.is_zero()) {
            return Err(StartError::Pace);
        }
        let blank = Durable {
            allegiance: None,
            join: incarnation,
            is_out: false,
            raft: Stored::default(),
            roster: Roster::default(),
            roster_index: 0,
            aged_ms: 0,
        };
        let is_pledged = matches!(&start, Start::Saved(durable) if durable.allegiance.is_some());
        let mut expecting = None;
        let durable = match start {
            Start::Saved(durable) if durable.is_out => Durable { join: incarnation, is_out: false, ..*durable },
            Start::Saved(durable) => *durable,
            Start::Found(cluster) => {
                let generation = Generation { number: 1, founder: id };
                founding(blank, Allegiance { cluster, generation }, id, Duration::ZERO)
            }
            Start::Join => blank,
            Start::Expect { servers, cluster } => {
                expecting = Some((Expecting::new(servers), cluster));
                blank
            }
        };
        let raft = timed(now, id, durable.raft.clone(), &settings, &rng, 0)?;
        // a leader would write its roster again and again until one stands behind that entry
        if durable.roster_index > raft.raft().last_index() {
            return Err(StartError::RosterBeyondLog(durable.roster_index));
        }
        let mut council = Self {
            id,
            incarnation,
            settings,
            allegiance: durable.allegiance,
            pledge: None,
            is_pledged,
            join: durable.join,
            standing: Standing::Active,
            raft,
            archive: Archive::new(durable.raft),
            roster: durable.roster,
            roster_index: durable.roster_index,
            aged: (Duration::from_millis(durable.aged_ms), now),
            running_since: now,
            is_youngest: false,
            links: BTreeMap::new(),
            witnessed: BTreeSet::new(),
            expecting,
            admission: Admission::default(),
            guard: Guard::default(),
            heir: Heir::new(now),
            horizon: Horizon::default(),
            leader_heard: None,
            ask_at: now,
            say_at: now,
            round: 0,
            age_saved: limits::AGE_SAVED_AFTER,
            told_view: MasterView::NoMaster(None),
            told_members: Vec::new(),
            rng,
            raft_count: 0,
            outputs: VecDeque::new(),
            planted: Planted::default(),
            stale_lease: Planted::default(),
        };
        council.settle(now);
        Ok(council)
    }

    /// Does what is due.
    pub fn timeout(&mut self, now: Instant) {
        if self.is_placed() {
            self.raft.timeout(now);
        }
        self.decide_founding(now);
        self.ask(now);
        self.save_age(now);
        self.settle(now);
    }

    /// When [`timeout`](Self::timeout) has something to do. Queued outputs are apart from that.
    pub fn deadline(&self) -> Option<Instant> {
        let is_out = self.standing == Standing::Out;
        let raft = self.raft.deadline().filter(|_| self.is_placed());
        let ask = Some(self.ask_at).filter(|_| !is_out && !self.raft.raft().is_leader());
        let age = self.aged.1.checked_add(self.age_saved.saturating_sub(self.aged.0)).filter(|_| self.is_eldest());
        [raft, ask, age, self.view_deadline()].into_iter().flatten().min()
    }

    /// The state of order `id`, and of all before it, is on disk.
    pub fn persisted(&mut self, now: Instant, id: PersistId) {
        if !self.is_pledged && self.pledge.is_some_and(|pledge| pledge <= id) {
            self.is_pledged = true;
            self.say_hello();
        }
        if let Some(order) = self.archive.persisted(id) {
            self.raft.persisted(now, order);
        }
        self.settle(now);
    }

    /// The next thing to do outside.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// This server.
    pub fn id(&self) -> Id {
        self.id
    }

    /// Where this server stands.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// The cluster and generation that it belongs to; `None` while it waits to be admitted.
    pub fn allegiance(&self) -> Option<Allegiance> {
        self.allegiance
    }

    /// The membership under which it takes part, or asks to be admitted.
    pub fn membership(&self) -> Membership {
        Membership { id: self.id, join: self.join }
    }

    /// Raft's machine, to look at.
    pub fn raft(&self) -> &Raft<Id, Roster> {
        self.raft.raft()
    }

    /// The committed roster.
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// The committed members, from the oldest on.
    pub fn members(&self) -> Vec<MemberInfo> {
        let config = self.raft.raft().committed_config();
        let is_voter = |id: &Id| config.voters.contains(id) && !self.roster.is_leaving(id);
        self.roster.ids().map(|id| MemberInfo { id, is_voter: is_voter(&id) }).collect()
    }

    /// What follows every input: Raft's outputs are carried out, a leader leads, views are compared with what was told.
    pub(super) fn settle(&mut self, now: Instant) {
        for _ in 0..limits::MAX_STEPS {
            while let Some(output) = self.raft.poll() {
                self.carry_out(now, output);
            }
            if !self.lead(now) {
                break;
            }
        }
        self.watch(now);
        let members = self.members();
        if members != self.told_members {
            self.told_members.clone_from(&members);
            self.event(Event::Members(members));
        }
    }

    fn carry_out(&mut self, now: Instant, output: raft::Output<Id, Roster>) {
        match output {
            raft::Output::Persist(order) => {
                let id = self.archive.order(&order);
                self.persist(now, id);
            }
            raft::Output::Send { to, message } => {
                // an answer goes to whoever asked; all else to the membership that the roster names
                let heard = self.links.get(&to).and_then(|link| link.join).filter(|_| message.body.is_reply());
                if let Some(join) = heard.or_else(|| self.roster.placed(&to)) {
                    self.send(to, Body::Raft { from: self.join, to: join, message });
                }
            }
            raft::Output::Committed(entries) => {
                for entry in entries {
                    if self.raft.raft().is_leader() && entry.term == self.raft.raft().term() {
                        self.guard.confirm(entry.term);
                    }
                    if let Payload::Command(roster) = entry.payload
                        && entry.index > self.roster_index
                    {
                        (self.roster, self.roster_index) = (Arc::unwrap_or_clone(roster), entry.index);
                        self.aged = (Duration::ZERO, now);
                        self.age_saved = limits::AGE_SAVED_AFTER;
                    }
                }
                self.leave_if_ended(now);
            }
            // the roster follows in an entry: the newest committed one stays in a leader's log
            raft::Output::Installed(Snapshot { .. }) | raft::Output::Role(_) => (),
        }
    }

    /// Begins Raft anew, as a member of nothing or as the founder of a generation.
    pub(super) fn restart(&mut self, now: Instant, durable: Durable) {
        self.raft_count = self.raft_count.saturating_add(1);
        // the settings were accepted at the start, and both states that are written here are sound
        let Ok(raft) = timed(now, self.id, durable.raft.clone(), &self.settings, &self.rng, self.raft_count) else {
            return;
        };
        self.raft = raft;
        self.plant_in_raft();
        self.archive.restart(durable.raft);
        self.allegiance = durable.allegiance;
        self.join = durable.join;
        (self.roster, self.roster_index) = (durable.roster, durable.roster_index);
        self.aged = (Duration::ZERO, now);
        self.admission = Admission::default();
        self.guard = Guard::default();
        self.heir = Heir::new(now);
        self.horizon.lose();
        self.leader_heard = None;
        self.ask_at = now;
        let id = self.archive.next();
        self.persist(now, id);
    }

    /// A state without any membership.
    pub(super) fn blank(&self, allegiance: Option<Allegiance>) -> Durable {
        Durable {
            allegiance,
            join: self.incarnation,
            is_out: false,
            raft: Stored::default(),
            roster: Roster::default(),
            roster_index: 0,
            aged_ms: 0,
        }
    }

    /// Begins a generation of which this server is the only member.
    pub(super) fn found(&mut self, now: Instant, allegiance: Allegiance) {
        let running = self.running(now);
        let founding = founding(self.blank(Some(allegiance)), allegiance, self.id, running);
        self.standing = Standing::Active;
        self.expecting = None;
        self.restart(now, founding);
    }

    pub(super) fn persist(&mut self, now: Instant, id: PersistId) {
        self.pledge = self.pledge.or(self.allegiance.map(|_| id));
        let state = Box::new(Durable {
            allegiance: self.allegiance,
            join: self.join,
            is_out: self.standing == Standing::Out,
            raft: self.archive.raft.clone(),
            roster: self.roster.clone(),
            roster_index: self.roster_index,
            aged_ms: millis(self.aged_by(now)),
        });
        self.outputs.push_back(Output::Persist { id, state });
    }

    pub(super) fn send(&mut self, to: Id, body: Body) {
        if self.links.contains_key(&to) && self.standing != Standing::Out {
            let is_pledged = self.is_pledged || self.has(Flaw::AnswerForLostDisk);
            let allegiance = self.allegiance.filter(|_| is_pledged);
            let message = Box::new(MasterMessage { allegiance, body });
            self.outputs.push_back(Output::Send { to, message });
        }
    }

    pub(super) fn send_to_all(&mut self, body: &Body) {
        let all: Vec<Id> = self.links.keys().copied().collect();
        for to in all {
            self.send(to, body.clone());
        }
    }

    pub(super) fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    /// Whether the roster gives a place to this very membership. Before that no election may be held: a newcomer that lost
    /// its disk reads in the beginning of the log that it votes, or decides alone, and that was its old membership.
    pub(super) fn is_placed(&self) -> bool {
        let is_placed = self.standing != Standing::Out && self.roster.placed(&self.id) == Some(self.join);
        is_placed || self.has(Flaw::ElectUnplaced)
    }

    pub(super) fn running(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.running_since)
    }

    /// How much older the members are than the roster says.
    pub(super) fn aged_by(&self, now: Instant) -> Duration {
        self.aged.0.saturating_add(now.saturating_duration_since(self.aged.1))
    }

    /// Asks for what this server needs: to be admitted if no leader is heard, or to leave.
    fn ask(&mut self, now: Instant) {
        if now < self.ask_at {
            return;
        }
        self.ask_at = now.checked_add(self.settings.ask_every).unwrap_or(now);
        let is_lost = |heard| now.saturating_duration_since(heard) > self.settings.timing.election_max;
        let wish = match self.standing {
            Standing::Leaving => Wish::Leave(self.membership()),
            Standing::Active if !self.raft.raft().is_leader() && self.leader_heard.is_none_or(is_lost) => {
                let running_ms = (!self.is_youngest).then(|| millis(self.running(now)));
                Wish::Join { membership: self.membership(), running_ms }
            }
            Standing::Active | Standing::Out => return,
        };
        self.send_to_all(&Body::Ask { wish, passed_on: false });
        let running_ms = millis(self.running(now));
        if let Some((expecting, _)) = &mut self.expecting {
            let (yields, too_few) = (expecting.yields(), expecting.too_few(now));
            self.send_to_all(&Body::Expecting { running_ms, yields });
            if let Some(warning) = too_few {
                self.event(Event::Warning(warning));
            }
        }
    }

    fn decide_founding(&mut self, now: Instant) {
        let running = self.running(now);
        let band = self.links.values().map(|link| link.rtt).max().unwrap_or_default();
        let Some((expecting, cluster)) = &mut self.expecting else { return };
        if expecting.decide(now, self.id, running, band) {
            let generation = Generation { number: 1, founder: self.id };
            let allegiance = Allegiance { cluster: *cluster, generation };
            self.found(now, allegiance);
        }
    }

    /// The only voter's age is on no other disk: it is written now and then, so that a restart loses half of it at most.
    fn save_age(&mut self, now: Instant) {
        let aged = self.aged_by(now);
        if self.is_eldest() && aged >= self.age_saved {
            self.age_saved = aged.saturating_mul(2);
            let id = self.archive.next();
            self.persist(now, id);
        }
    }

    fn is_eldest(&self) -> bool {
        self.roster.ids().next() == Some(self.id)
    }
}

/// The state of a generation whose only member is `id`.
fn founding(blank: Durable, allegiance: Allegiance, id: Id, age: Duration) -> Durable {
    let membership = Membership { id, join: blank.join };
    let raft: Stored<Id, Roster> = Stored::founding([id]);
    Durable {
        allegiance: Some(allegiance),
        roster_index: raft.snapshot.index,
        raft,
        roster: Roster::founding(membership, age),
        ..blank
    }
}

fn timed(
    now: Instant,
    id: Id,
    stored: Stored<Id, Roster>,
    settings: &Settings,
    rng: &Rng,
    count: u64,
) -> Result<Timed<Id, Roster, Dice>, StartError> {
    let raft = Raft::new(id, stored, settings.limits())?;
    Ok(Timed::new(raft, settings.timing, Dice(rng.fork("raft", count)), now)?)
}
