//! A few servers in virtual time: links come and go, messages are late or lost, disks are slow, clocks drift.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use super::{checks::Checks, *};
use crate::{id::ClusterId, rng::Rng, testing::epoch};

/// Real time since the beginning, in nanoseconds.
pub(super) type Nanos = u64;

pub(super) const MS: Nanos = 1_000_000;

/// How the world treats its servers.
#[derive(Clone, Debug)]
pub(super) struct Nature {
    /// Messages take between these times.
    pub(super) delay: (Nanos, Nanos),
    /// So many in a thousand are lost.
    pub(super) loss: u64,
    /// A write takes so long at most.
    pub(super) disk: Nanos,
    /// How long it takes until a dead link is noticed.
    pub(super) notice: Nanos,
    /// Clocks run wrong by so many parts per million at most, either way.
    pub(super) drift_ppm: u64,
}

impl Default for Nature {
    fn default() -> Self {
        Self { delay: (MS / 2, 2 * MS), loss: 0, disk: 2 * MS, notice: 500 * MS, drift_ppm: 5_000 }
    }
}

/// One server, running or not.
pub(super) struct Host {
    pub(super) council: Option<Council>,
    pub(super) disk: Option<Durable>,
    orders: VecDeque<(PersistId, Durable)>,
    /// Counts its starts; what was sent to an earlier one is lost.
    pub(super) life: u64,
    clock: (Nanos, i64),
    pub(super) witnessed: BTreeSet<u8>,
    pub(super) events: Vec<Event>,
    asleep_until: Nanos,
}

enum Happening {
    Message { from: u8, to: u8, lives: (u64, u64), message: Box<MasterMessage> },
    Written { node: u8, life: u64 },
    Link(u8, u8),
}

pub(super) struct World {
    start: Instant,
    pub(super) now: Nanos,
    pub(super) nature: Nature,
    pub(super) settings: Settings,
    pub(super) hosts: BTreeMap<u8, Host>,
    agenda: BTreeMap<(Nanos, u64), Happening>,
    count: u64,
    links: BTreeMap<(u8, u8), (u64, u64)>,
    pub(super) cut: BTreeSet<(u8, u8)>,
    pub(super) rng: Rng,
    pub(super) flaw: Option<Flaw>,
    /// A resource does not look at tokens.
    pub(super) is_unfenced: bool,
    pub(super) checks: Checks,
    pub(super) broken: Option<String>,
    pub(super) messages: u64,
    steps_at_once: u64,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        Self::with(seed, Nature::default(), Settings::default())
    }

    pub(super) fn with(seed: u64, nature: Nature, settings: Settings) -> Self {
        Self {
            start: epoch(),
            now: 0,
            nature,
            settings,
            hosts: BTreeMap::new(),
            agenda: BTreeMap::new(),
            count: 0,
            links: BTreeMap::new(),
            cut: BTreeSet::new(),
            rng: Rng::from_seed([7; 32]).fork("world", seed),
            flaw: None,
            is_unfenced: false,
            checks: Checks::default(),
            broken: None,
            messages: 0,
            steps_at_once: 0,
        }
    }

    /// Servers 1 to `count`: the first one founds, the others join one after the other.
    pub(super) fn of(count: u8, seed: u64) -> Self {
        let mut world = Self::new(seed);
        world.grow(count);
        world
    }

    pub(super) fn grow(&mut self, count: u8) {
        for node in 1..=count {
            let start = if node == 1 { Start::Found(ClusterId([9; 16])) } else { Start::Join };
            self.boot(node, start);
            self.run(1_000);
        }
        self.until(20_000, "all are members in their roles", |world| world.is_grown(count));
    }

    fn is_grown(&self, count: u8) -> bool {
        let voters = if count < 3 { 1 } else { usize::from(count).min(self.settings.max_voters) };
        self.hosts.keys().all(|node| {
            self.council(*node).is_some_and(|council| {
                let members = council.members();
                let is_joint = council.raft().committed_config().voters.is_joint();
                !is_joint
                    && members.len() == usize::from(count)
                    && members.iter().filter(|member| member.is_voter).count() == voters
            })
        })
    }

    /// Starts `node` with what is on its disk, else with `start`.
    pub(super) fn boot(&mut self, node: u8, start: Start) {
        let drift = i64::try_from(self.rng.below(2 * self.nature.drift_ppm + 1)).unwrap();
        let clock = (self.rng.below(1_000_000) * MS, drift - i64::try_from(self.nature.drift_ppm).unwrap());
        let host = self.hosts.entry(node).or_insert_with(|| Host {
            council: None,
            disk: None,
            orders: VecDeque::new(),
            life: 0,
            clock,
            witnessed: BTreeSet::new(),
            events: Vec::new(),
            asleep_until: 0,
        });
        host.life += 1;
        host.orders.clear();
        host.events.clear();
        let incarnation = Incarnation { counter: host.life, random: [node; 16] };
        let start = host.disk.clone().map_or(start, |disk| Start::Saved(Box::new(disk)));
        let life = host.life;
        let now = self.local(node);
        let rng = self.rng.fork("council", u64::from(node) << 32 | life);
        let mut council = Council::new(now, server(node), incarnation, start, self.settings, rng).unwrap();
        if let Some(flaw) = self.flaw {
            council.plant(flaw);
        }
        self.hosts.get_mut(&node).unwrap().council = Some(council);
        self.relink(node, 20 * MS);
        self.collect(node);
        let witnessed: Vec<u8> =
            self.hosts.get(&node).map(|host| host.witnessed.iter().copied().collect()).unwrap_or_default();
        self.witness(node, &witnessed);
    }

    /// Ends `node` at once; its disk has what was written.
    pub(super) fn crash(&mut self, node: u8) {
        let host = self.hosts.get_mut(&node).unwrap();
        host.council = None;
        host.orders.clear();
        self.checks.restarted(node);
        self.relink(node, self.nature.notice);
    }

    pub(super) fn wipe(&mut self, node: u8) {
        self.crash(node);
        self.hosts.get_mut(&node).unwrap().disk = None;
    }

    pub(super) fn restart(&mut self, node: u8) {
        self.boot(node, Start::Join);
    }

    /// Its process gets no time for so long; its clock goes on.
    pub(super) fn pause(&mut self, node: u8, ms: u64) {
        let until = self.now + ms * MS;
        self.hosts.get_mut(&node).unwrap().asleep_until = until;
    }

    pub(super) fn cut(&mut self, a: u8, b: u8) {
        self.cut.insert(pair(a, b));
        self.plan(self.nature.notice, Happening::Link(a, b));
    }

    /// Nothing goes between the two groups.
    pub(super) fn part(&mut self, left: &[u8], right: &[u8]) {
        for a in left {
            for b in right {
                self.cut(*a, *b);
            }
        }
    }

    pub(super) fn heal(&mut self) {
        for (a, b) in std::mem::take(&mut self.cut) {
            self.plan(20 * MS, Happening::Link(a, b));
        }
    }

    /// The peers that are linked to `node` report links to these servers.
    pub(super) fn witness(&mut self, node: u8, servers: &[u8]) {
        self.hosts.get_mut(&node).unwrap().witnessed = servers.iter().copied().collect();
        let servers: Vec<Id> = servers.iter().map(|node| server(*node)).collect();
        self.on(node, |council, now| council.witnessed(now, servers));
    }

    /// Calls `node` if it runs.
    pub(super) fn on<T>(&mut self, node: u8, call: impl FnOnce(&mut Council, Instant) -> T) -> Option<T> {
        let now = self.local(node);
        let result = self.hosts.get_mut(&node)?.council.as_mut().map(|council| call(council, now));
        self.collect(node);
        result
    }

    pub(super) fn run(&mut self, ms: u64) {
        let end = self.now + ms * MS;
        while self.broken.is_none() && self.step(end) {}
        self.now = end;
        self.check();
    }

    pub(super) fn until(&mut self, ms: u64, what: &str, holds: impl Fn(&Self) -> bool) {
        let end = self.now + ms * MS;
        while self.broken.is_none() && !holds(self) {
            assert!(self.step(end), "after {ms} ms not yet: {what}\n{}", self.picture());
        }
        self.assert_sound();
    }

    pub(super) fn assert_sound(&self) {
        assert_eq!(self.broken, None, "{}", self.picture());
    }

    /// Does the next thing, if it is due by `end`.
    fn step(&mut self, end: Nanos) -> bool {
        let timer = self.hosts.keys().filter_map(|node| Some((self.due(*node)?, *node))).min();
        let happening = self.agenda.first_key_value().map(|(key, _)| *key);
        let at = match (timer, happening) {
            (Some((due, _)), Some((at, _))) => due.min(at),
            (Some((due, _)), None) => due,
            (None, Some((at, _))) => at,
            (None, None) => return false,
        };
        if at > end {
            return false;
        }
        self.steps_at_once = if at > self.now { 0 } else { self.steps_at_once + 1 };
        if self.steps_at_once > 10_000 {
            self.note(Err("the time stands still: a timer spins".into()));
        }
        self.now = self.now.max(at);
        match (timer, happening) {
            (_, Some(key)) if key.0 == at => {
                if let Some(happening) = self.agenda.remove(&key) {
                    self.happen(happening);
                }
            }
            (Some((_, node)), _) => _ = self.on(node, |council, now| council.timeout(now)),
            _ => (),
        }
        self.check();
        true
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Message { from, to, lives, message } => {
                if let Some(at) = self.asleep(to) {
                    let happening = Happening::Message { from, to, lives, message };
                    return self.plan(at - self.now, happening);
                }
                let is_linked = self.links.get(&pair(from, to)) == Some(&ordered(from, to, lives));
                if is_linked && !self.cut.contains(&pair(from, to)) {
                    self.messages += 1;
                    self.on(to, |council, now| council.handle(now, server(from), *message));
                }
            }
            Happening::Written { node, life } => {
                let Some(host) = self.hosts.get_mut(&node).filter(|host| host.life == life) else { return };
                if let (Some(_), Some((id, state))) = (&host.council, host.orders.pop_front()) {
                    host.disk = Some(state);
                    self.on(node, |council, now| council.persisted(now, id));
                }
            }
            Happening::Link(a, b) => self.reconcile(a, b),
        }
    }

    fn reconcile(&mut self, a: u8, b: u8) {
        let (a, b) = pair(a, b);
        let life = |node: u8| self.hosts.get(&node).filter(|host| host.council.is_some()).map(|host| host.life);
        let wanted = life(a).zip(life(b)).filter(|_| !self.cut.contains(&(a, b)));
        if self.links.get(&(a, b)).copied() == wanted {
            return;
        }
        if let Some(lives) = self.links.remove(&(a, b)) {
            for (node, other, life) in [(a, b, lives.0), (b, a, lives.1)] {
                if self.hosts.get(&node).is_some_and(|host| host.life == life) {
                    self.on(node, |council, now| council.unlinked(now, server(other)));
                }
            }
        }
        if let Some(lives) = wanted {
            self.links.insert((a, b), lives);
            let rtt = Duration::from_nanos(2 * self.nature.delay.1);
            for (node, other) in [(a, b), (b, a)] {
                self.on(node, |council, now| council.linked(now, server(other), rtt));
            }
        }
    }

    fn relink(&mut self, node: u8, after: Nanos) {
        let others: Vec<u8> = self.hosts.keys().copied().filter(|other| *other != node).collect();
        for other in others {
            self.plan(after, Happening::Link(node, other));
        }
    }

    fn plan(&mut self, after: Nanos, happening: Happening) {
        self.count += 1;
        self.agenda.insert((self.now + after, self.count), happening);
    }

    fn collect(&mut self, node: u8) {
        let Some(host) = self.hosts.get_mut(&node) else { return };
        let life = host.life;
        let Some(council) = host.council.as_mut() else { return };
        let outputs: Vec<Output> = std::iter::from_fn(|| council.poll()).collect();
        for output in outputs {
            match output {
                Output::Send { to, message } => {
                    let Some(to) = (1..=20).find(|other| server(*other) == to) else { continue };
                    let result = self.checks.send(node, to, &message);
                    self.note(result);
                    if self.rng.below(1_000) < self.nature.loss {
                        continue;
                    }
                    let lives = (life, self.hosts.get(&to).map_or(0, |host| host.life));
                    let (least, most) = self.nature.delay;
                    let after = least + self.rng.below(most - least + 1);
                    self.plan(after, Happening::Message { from: node, to, lives, message });
                }
                Output::Persist { id, state } => {
                    let bytes = postcard::to_allocvec(&*state).unwrap();
                    let state = postcard::from_bytes(&bytes).unwrap();
                    self.hosts.get_mut(&node).unwrap().orders.push_back((id, state));
                    let after = self.rng.below(self.nature.disk + 1);
                    self.plan(after, Happening::Written { node, life });
                }
                Output::Event(event) => self.hosts.get_mut(&node).unwrap().events.push(event),
            }
        }
    }

    pub(super) fn check(&mut self) {
        let mut checks = std::mem::take(&mut self.checks);
        let result = checks.all(self);
        self.checks = checks;
        self.note(result);
    }

    fn note(&mut self, result: Result<(), String>) {
        if let (None, Err(broken)) = (&self.broken, result) {
            self.broken = Some(format!("at {} ms: {broken}", self.now / MS));
        }
    }

    /// What the clock of `node` shows.
    pub(super) fn local(&self, node: u8) -> Instant {
        let (offset, drift) = self.hosts.get(&node).map_or((0, 0), |host| host.clock);
        let rate = u128::try_from(1_000_000 + drift).unwrap();
        let nanos = u128::from(self.now) * rate / 1_000_000;
        self.start + Duration::from_secs(100) + Duration::from_nanos(offset + u64::try_from(nanos).unwrap())
    }

    /// When the timer of `node` rings, in real time.
    fn due(&self, node: u8) -> Option<Nanos> {
        let host = self.hosts.get(&node)?;
        let at = host.council.as_ref()?.deadline()?;
        let local = at.saturating_duration_since(self.start + Duration::from_secs(100)).as_nanos();
        let elapsed = local.saturating_sub(u128::from(host.clock.0));
        let rate = u128::try_from(1_000_000 + host.clock.1).unwrap();
        let real = u64::try_from((elapsed * 1_000_000).div_ceil(rate)).unwrap();
        Some(real.max(self.now).max(host.asleep_until))
    }

    fn asleep(&self, node: u8) -> Option<Nanos> {
        self.hosts.get(&node).map(|host| host.asleep_until).filter(|until| *until > self.now)
    }

    pub(super) fn council(&self, node: u8) -> Option<&Council> {
        self.hosts.get(&node)?.council.as_ref()
    }

    pub(super) fn view(&self, node: u8) -> MasterView {
        self.council(node).map_or(MasterView::NoMaster(None), Council::view)
    }

    /// Who holds a valid guard.
    pub(super) fn masters(&self) -> Vec<u8> {
        let is_valid = |node: &u8| self.council(*node).is_some_and(|council| council.is_valid(self.local(*node)));
        self.hosts.keys().copied().filter(is_valid).collect()
    }

    pub(super) fn master(&self) -> Option<u8> {
        self.masters().first().copied()
    }

    pub(super) fn voters(&self, node: u8) -> Vec<u8> {
        let voters =
            self.council(node).map(|council| council.raft().committed_config().voters.clone()).unwrap_or_default();
        (1..=20).filter(|node| voters.contains(&server(*node))).collect()
    }

    /// The committed members as `node` knows them, from the oldest on.
    pub(super) fn order(&self, node: u8) -> Vec<u8> {
        let ids: Vec<Id> = self.council(node).map(|council| council.roster().ids().collect()).unwrap_or_default();
        ids.iter().filter_map(|id| (1..=20).find(|node| server(*node) == *id)).collect()
    }

    pub(super) fn picture(&self) -> String {
        let line = |(node, host): (&u8, &Host)| match &host.council {
            None => format!("{node} is down\n"),
            Some(council) => format!(
                "{node} {} {:?} {:?} order {:?} voters {:?} view {:?} commit {}/{} links {:?}\n",
                server(*node),
                council.standing(),
                council.raft().role().role,
                self.order(*node),
                self.voters(*node),
                council.view(),
                council.raft().commit(),
                council.raft().last_index(),
                council.links.len(),
            ),
        };
        self.hosts.iter().map(line).collect()
    }
}

fn pair(a: u8, b: u8) -> (u8, u8) {
    (a.min(b), a.max(b))
}

fn ordered(a: u8, b: u8, lives: (u64, u64)) -> (u64, u64) {
    if a < b { lives } else { (lives.1, lives.0) }
}
