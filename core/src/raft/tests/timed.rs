//! Raft with time: who may be sure to lead, on clocks that run apart, over restarts and transfers.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    time::{Duration, Instant},
};

use super::*;
use crate::testing::epoch;

/// A small random generator (SplitMix64).
#[derive(Clone, Debug)]
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }
}

impl Draw for Dice {
    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}

type Member = Timed<u8, u64, Dice>;

const TIMING: Timing = Timing {
    heartbeat: Duration::from_millis(100),
    election_min: Duration::from_millis(500),
    election_max: Duration::from_millis(1_000),
    drift_ppm: 20_000,
};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Wake(u8),
    Arrive(u64),
    Written { node: u8, life: u32, id: OrderId },
    Fault,
}

/// Nodes with clocks of different speed; real time in microseconds.
struct Sim {
    start: Instant,
    now: u64,
    dice: Dice,
    timing: Timing,
    flaw: Option<Flaw>,
    members: BTreeMap<u8, Member>,
    /// How fast each clock runs, in parts per million.
    speeds: BTreeMap<u8, u64>,
    lives: BTreeMap<u8, u32>,
    disks: BTreeMap<u8, Stored<u8, u64>>,
    orders: BTreeMap<u8, Vec<Persist<u8, u64>>>,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    messages: BTreeMap<u64, (u8, u8, Msg)>,
    count: u64,
    cut: BTreeSet<u8>,
    has_faults: bool,
    broken: Option<String>,
    leases: u64,
    elections: BTreeSet<u64>,
}

impl Sim {
    /// `voters` founding members of `all`; clocks run `spread_ppm` apart at most.
    fn new(seed: u64, voters: u8, all: u8, timing: Timing, spread_ppm: u64, flaw: Option<Flaw>) -> Self {
        let mut sim = Self {
            start: epoch(),
            now: 0,
            dice: Dice(seed),
            timing,
            flaw,
            members: BTreeMap::new(),
            speeds: BTreeMap::new(),
            lives: BTreeMap::new(),
            disks: BTreeMap::new(),
            orders: BTreeMap::new(),
            events: BinaryHeap::new(),
            messages: BTreeMap::new(),
            count: 0,
            cut: BTreeSet::new(),
            has_faults: true,
            broken: None,
            leases: 0,
            elections: BTreeSet::new(),
        };
        for id in 1..=all {
            let speed = 1_000_000 - spread_ppm / 2 + sim.dice.below(spread_ppm + 1);
            sim.speeds.insert(id, speed);
            sim.disks.insert(id, if id <= voters { Stored::founding(1..=voters) } else { Stored::default() });
            sim.begin(id);
        }
        sim.push(100_000, Event::Fault);
        sim
    }

    fn push(&mut self, after: u64, event: Event) {
        self.count += 1;
        self.events.push(Reverse((self.now + after, self.count, event)));
    }

    /// What the clock of `id` shows.
    fn clock(&self, id: u8) -> Instant {
        self.start + Duration::from_nanos(self.now * self.speeds[&id] / 1_000)
    }

    fn begin(&mut self, id: u8) {
        *self.lives.entry(id).or_default() += 1;
        self.orders.insert(id, Vec::new());
        let raft = Node::new(id, self.disks[&id].clone(), super::random::limits()).unwrap();
        let dice = Dice(self.dice.next());
        let mut member = Timed::new(raft, self.timing, dice, self.clock(id)).unwrap();
        if let Some(flaw) = self.flaw {
            member.plant(flaw);
        }
        self.members.insert(id, member);
        self.collect(id);
    }

    fn on<T>(&mut self, id: u8, act: impl FnOnce(&mut Member, Instant) -> T) -> T {
        let now = self.clock(id);
        let result = act(self.members.get_mut(&id).unwrap(), now);
        self.collect(id);
        result
    }

    fn collect(&mut self, id: u8) {
        while let Some(output) = self.members.get_mut(&id).and_then(Timed::poll) {
            match output {
                Output::Persist(order) => {
                    let delay = if self.dice.one_in(10) { self.dice.below(50_000) } else { 100 };
                    let event = Event::Written { node: id, life: self.lives[&id], id: order.id };
                    self.orders.get_mut(&id).unwrap().push(order);
                    self.push(delay, event);
                }
                Output::Send { to, message } => self.send(id, to, message),
                Output::Role(role) if role.role == Role::Leader => drop(self.elections.insert(role.term)),
                _ => (),
            }
        }
        if let Some(at) = self.members[&id].deadline() {
            let nanos = at.saturating_duration_since(self.start).as_nanos() as u64;
            let at = (nanos * 1_000).div_ceil(self.speeds[&id]);
            self.push(at.saturating_sub(self.now), Event::Wake(id));
        }
        self.check();
    }

    fn send(&mut self, from: u8, to: u8, message: Msg) {
        let copies = if self.has_faults && self.dice.one_in(30) { self.dice.below(3) } else { 1 };
        for _ in 0..copies {
            let slow = self.has_faults && self.dice.one_in(20);
            let delay = self.dice.below(if slow { 2_000_000 } else { 30_000 });
            self.messages.insert(self.count + 1, (from, to, message.clone()));
            self.push(delay, Event::Arrive(self.count + 1));
        }
    }

    /// Whoever has a lease is the only one who does, and the newest leader.
    fn check(&mut self) {
        let holds = |id: &u8, member: &Member| member.lease_until().is_some_and(|until| self.clock(*id) < until);
        let holders: Vec<u8> =
            self.members.iter().filter(|(id, member)| holds(id, member)).map(|(id, _)| *id).collect();
        self.leases += u64::from(!holders.is_empty());
        for holder in &holders {
            let term = self.members[holder].raft().term();
            let newer = self.members.values().map(Timed::raft).find(|node| node.is_leader() && node.term() > term);
            if let (None, Some(newer)) = (&self.broken, newer) {
                let newer = (newer.id(), newer.term());
                self.broken = Some(format!("{newer:?} was elected during the lease of {holder} in term {term}"));
            }
        }
        if self.broken.is_none() && holders.len() > 1 {
            self.broken = Some(format!("{holders:?} hold leases at once"));
        }
    }

    fn run(&mut self, until: u64) {
        while let Some(Reverse((at, _, event))) = self.events.pop() {
            if at > until || self.broken.is_some() {
                self.events.push(Reverse((at, 0, event)));
                break;
            }
            self.now = at;
            match event {
                Event::Wake(id) => {
                    let clock = self.clock(id);
                    if self.members[&id].deadline().is_some_and(|deadline| deadline <= clock) {
                        self.on(id, Timed::timeout);
                    }
                }
                Event::Arrive(number) => {
                    let Some((from, to, message)) = self.messages.remove(&number) else { continue };
                    if !self.cut.contains(&from) && !self.cut.contains(&to) {
                        self.on(to, |member, now| member.handle(now, from, message));
                    }
                }
                Event::Written { node, life, id } if self.lives[&node] == life => {
                    let orders = self.orders.get_mut(&node).unwrap();
                    let later = orders.iter().position(|order| order.id > id).unwrap_or(orders.len());
                    let written: Vec<_> = orders.drain(..later).collect();
                    written.iter().for_each(|order| self.disks.get_mut(&node).unwrap().write(order));
                    self.on(node, |member, now| member.persisted(now, id));
                }
                Event::Written { .. } => (),
                Event::Fault => self.fault(),
            }
        }
        self.now = self.now.max(until);
    }

    fn fault(&mut self) {
        if !self.has_faults {
            return;
        }
        let all = self.members.len() as u64;
        let id = 1 + self.dice.below(all) as u8;
        let other = 1 + self.dice.below(all) as u8;
        let leader = self.leader().unwrap_or(id);
        match self.dice.below(9) {
            0 => self.begin(id),
            1 => self.begin(leader),
            2 => drop(self.cut.insert(leader)),
            3 => drop(self.cut.insert(id)),
            4 | 5 => self.cut.clear(),
            6 => _ = self.on(leader, |member, now| member.transfer(now, other)),
            7 => {
                let ops = vec![if self.dice.one_in(2) { Op::Voter(other) } else { Op::Remove(other) }, Op::Voter(id)];
                _ = self.on(leader, |member, _| member.propose_change(&Change::Joint(ops)));
            }
            _ => _ = self.on(leader, |member, _| member.propose(7)),
        }
        let pause = 20_000 + self.dice.below(600_000);
        self.push(pause, Event::Fault);
    }

    fn leader(&self) -> Option<u8> {
        let leaders = self.members.values().map(Timed::raft).filter(|node| node.is_leader());
        leaders.max_by_key(|node| node.term()).map(Raft::id)
    }

    fn holder(&self) -> Option<u8> {
        let holds = |id: &&u8| self.members[*id].lease_until().is_some_and(|until| self.clock(**id) < until);
        self.members.keys().find(holds).copied()
    }
}

fn worlds(seeds: u64, timing: Timing, spread_ppm: u64, flaw: Option<Flaw>) -> impl Iterator<Item = Sim> {
    (0..seeds).map(move |seed| {
        let mut sim = Sim::new(seed, 1 + (seed % 5) as u8, 5, timing, spread_ppm, flaw);
        sim.run(20_000_000);
        sim
    })
}

#[test]
fn nobody_is_elected_during_a_lease() {
    let (mut leases, mut elections, mut leaders) = (0, 0, 0);
    for (seed, mut sim) in (0..).zip(worlds(150, TIMING, 20_000, None)) {
        assert_eq!(sim.broken, None, "seed {seed}");
        sim.has_faults = false;
        sim.cut.clear();
        sim.run(26_000_000);
        assert_eq!(sim.broken, None, "seed {seed}");
        let holder = sim.holder();
        assert!(holder.is_some() && holder == sim.leader(), "seed {seed}: nobody leads for sure");
        (leases, elections) = (leases + sim.leases, elections + sim.elections.len());
        leaders += 1;
    }
    assert!(leases > 10_000 && elections > 500 && leaders == 150, "{:?}", (leases, elections, leaders));
}

#[test]
fn a_vote_for_another_one_despite_a_leader_is_found() {
    let broken = worlds(300, TIMING, 20_000, Some(Flaw::VoteDespiteLeader)).find_map(|sim| sim.broken);
    assert!(broken.is_some_and(|broken| broken.contains("lease")));
}

#[test]
fn a_lease_that_outlives_a_transfer_is_found() {
    for flaw in [Flaw::LeaseInTransfer, Flaw::AbortInTerm] {
        let broken = worlds(1_000, TIMING, 20_000, Some(flaw)).find_map(|sim| sim.broken);
        assert!(broken.is_some_and(|broken| broken.contains("lease")), "{flaw:?}");
    }
}

#[test]
fn a_lease_without_the_drift_is_found() {
    let timing = Timing { election_max: ms(505), drift_ppm: 200_000, ..TIMING };
    let broken = |flaw| worlds(300, timing, 200_000, flaw).find_map(|sim| sim.broken);
    assert!(broken(Some(Flaw::LeaseWithoutDrift)).is_some_and(|broken| broken.contains("lease")));
    assert_eq!(broken(None), None);
}

#[test]
fn clocks_that_run_further_apart_than_allowed_are_found() {
    let timing = Timing { drift_ppm: 0, ..TIMING };
    assert!(worlds(300, timing, 600_000, None).any(|sim| sim.broken.is_some()));
}

/// One node with nobody else, and what its timers say.
fn member(id: u8, disk: Stored<u8, u64>, now: Instant) -> Member {
    Timed::new(Raft::new(id, disk, Limits::default()).unwrap(), TIMING, Dice(7), now).unwrap()
}

/// Lets the disk work at once, and returns what is sent.
fn sent(member: &mut Member, now: Instant) -> Vec<(u8, Msg)> {
    let mut sent = Vec::new();
    while let Some(output) = member.poll() {
        match output {
            Output::Persist(order) => member.persisted(now, order.id),
            Output::Send { to, message } => sent.push((to, message)),
            _ => (),
        }
    }
    sent
}

#[test]
fn who_decides_alone_leads_at_once() {
    let start = epoch();
    let mut alone = member(1, Stored::founding([1]), start);
    assert_eq!(alone.deadline(), Some(start));
    alone.timeout(start);
    sent(&mut alone, start);
    assert!(alone.raft().is_leader());
    assert_eq!(alone.lease_until(), Some(start + TIMING.lease()));
    alone.timeout(start + ms(100));
    assert_eq!(alone.lease_until(), Some(start + ms(100) + TIMING.lease()));
}

#[test]
fn who_followed_another_one_waits_even_if_it_decides_alone_now() {
    let start = epoch();
    let mut disk = Stored::founding([1]);
    disk.hard_state = HardState { term: 3, vote: Some(2), commit: 1 };
    let alone = member(1, disk, start);
    assert_eq!(alone.deadline(), Some(start + TIMING.election_min));
}

#[test]
fn who_is_no_voter_never_campaigns() {
    let start = epoch();
    let mut stranger = member(1, Stored::default(), start);
    assert_eq!(stranger.deadline(), Some(start + TIMING.election_min), "only until it would vote");
    stranger.timeout(start + ms(5_000));
    assert_eq!((stranger.deadline(), sent(&mut stranger, start)), (None, vec![]));
}

/// The leader of three at `start`, after both others voted for it.
fn leader(start: Instant) -> Member {
    let mut one = member(1, Stored::founding([1, 2, 3]), start);
    one.timeout(start);
    let at = start + TIMING.election_max;
    one.timeout(at);
    for body in [Body::PreVoteReply { granted: true }, Body::VoteReply { granted: true }] {
        sent(&mut one, at);
        one.handle(at, 2, Message { term: 1, join: 0, body });
    }
    assert!(one.raft().is_leader());
    sent(&mut one, at);
    one
}

fn acknowledge(leader: &mut Member, now: Instant, from: u8, round: u64) {
    leader.handle(now, from, Message { term: 1, join: 1, body: Body::HeartbeatReply { round } });
}

#[test]
fn a_lease_counts_from_the_sending_of_the_round_that_a_quorum_acknowledged() {
    let start = epoch();
    let elected = start + TIMING.election_max;
    let mut one = leader(start);
    assert_eq!(one.lease_until(), None);
    acknowledge(&mut one, elected + ms(90), 2, 1);
    assert_eq!(one.lease_until(), Some(elected + ms(490)));
    one.timeout(elected + ms(100));
    one.timeout(elected + ms(200));
    acknowledge(&mut one, elected + ms(210), 3, 2);
    assert_eq!(one.lease_until(), Some(elected + ms(100) + ms(490)));
    acknowledge(&mut one, elected + ms(220), 3, 99);
    assert_eq!(one.lease_until(), Some(elected + ms(100) + ms(490)), "a round that was never sent");
}

#[test]
fn a_planted_lease_counts_from_the_answer() {
    let start = epoch();
    let elected = start + TIMING.election_max;
    let mut one = leader(start);
    one.plant(Flaw::LeaseFromAnswer);
    acknowledge(&mut one, elected + ms(90), 2, 1);
    assert_eq!(one.lease_until(), Some(elected + ms(90) + ms(490)));
    one.timeout(elected + ms(100));
    acknowledge(&mut one, elected + ms(110), 3, 1);
    assert_eq!(one.lease_until(), Some(elected + ms(90) + ms(490)), "the same round again");
}

#[test]
fn a_leader_that_steps_down_is_no_leader_of_this_term_any_more() {
    let start = epoch();
    let elected = start + TIMING.election_max;
    let mut one = leader(start);
    acknowledge(&mut one, elected + ms(10), 2, 1);
    one.step_down(elected + ms(20));
    assert_eq!(one.raft().role(), RoleChange { term: 1, role: Role::Follower, leader: None });
    assert_eq!((one.lease_until(), one.raft().vote()), (None, Some(1)), "nobody else can lead in the term");
    let again = one.deadline().unwrap();
    assert!(again >= elected + ms(20) + TIMING.election_min);
    one.timeout(again);
    assert_eq!(one.raft().role().role, Role::PreCandidate);
    one.step_down(again);
    assert_eq!(one.raft().role().role, Role::PreCandidate, "only a leader can");
}

#[test]
fn a_suspend_drops_the_lease() {
    let start = epoch();
    let elected = start + TIMING.election_max;
    let mut one = leader(start);
    acknowledge(&mut one, elected + ms(10), 2, 1);
    one.resumed(elected + ms(20));
    assert_eq!(one.lease_until(), None);
    acknowledge(&mut one, elected + ms(30), 3, 1);
    assert_eq!(one.lease_until(), None, "an answer from before");
    acknowledge(&mut one, elected + ms(40), 3, 2);
    assert_eq!(one.lease_until(), Some(elected + ms(20) + ms(490)));
}

#[test]
fn a_transfer_drops_the_lease_and_is_aborted_in_time() {
    let start = epoch();
    let elected = start + TIMING.election_max;
    let mut one = leader(start);
    for from in [2, 3] {
        acknowledge(&mut one, elected + ms(10), from, 1);
        one.handle(elected + ms(10), from, Message { term: 1, join: 1, body: Body::Appended { index: 2 } });
    }
    assert!(one.lease_until().is_some());
    sent(&mut one, elected + ms(20));
    one.transfer(elected + ms(20), 2).unwrap();
    assert_eq!(one.lease_until(), None);
    assert!(
        sent(&mut one, elected + ms(20)).iter().any(|(to, message)| (*to, &message.body) == (2, &Body::TimeoutNow))
    );
    one.timeout(elected + ms(520));
    assert_eq!((one.raft().term(), one.raft().role().role), (2, Role::Candidate));
}

#[test]
fn a_leader_that_nobody_answers_steps_down_within_two_election_timeouts() {
    let start = epoch();
    let mut one = leader(start);
    let elected = start + TIMING.election_max;
    (0..=10).for_each(|beat| one.timeout(elected + ms(100 * beat)));
    assert!(!one.raft().is_leader() && one.lease_until().is_none());
}

#[test]
fn a_voter_that_heard_of_a_leader_is_silent_for_the_shortest_election_timeout() {
    let start = epoch();
    let mut three = member(3, Stored::founding([1, 2, 3]), start);
    let late = start + ms(450);
    three.handle(late, 1, Message { term: 1, join: 1, body: Body::Heartbeat { commit: 0, round: 1 } });
    sent(&mut three, late);
    let asked = |three: &mut Member, now: Instant| {
        for body in
            [Body::PreVote { last_index: 1, last_term: 0 }, Body::Vote { last_index: 1, last_term: 0, transfer: false }]
        {
            three.handle(now, 2, Message { term: 2, join: 0, body });
        }
        sent(three, now).len()
    };
    assert_eq!(asked(&mut three, late + ms(499)), 0);
    assert_eq!(asked(&mut three, late + ms(500)), 2);
}

#[test]
fn a_timing_without_a_lease_or_an_end_of_elections_is_refused() {
    assert_eq!(Timing::default().validate(), Ok(()));
    assert_eq!(TIMING.lease(), ms(490));
    let refused = |spoil: fn(&mut Timing)| {
        let mut timing = TIMING;
        spoil(&mut timing);
        timing.validate()
    };
    assert_eq!(refused(|timing| timing.heartbeat = ms(251)), Err(TimingError::Heartbeat));
    assert_eq!(refused(|timing| timing.heartbeat = ms(0)), Err(TimingError::Heartbeat));
    assert_eq!(refused(|timing| timing.election_max = ms(500)), Err(TimingError::Election));
    assert_eq!(refused(|timing| timing.drift_ppm = 1_000_000), Err(TimingError::Drift(1_000_000)));
}
