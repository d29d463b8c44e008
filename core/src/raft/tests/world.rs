//! Nodes, their disks, and what is on the way between them.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
};

use super::{checks::Checks, *};

#[derive(Clone)]
pub(super) struct World {
    pub(super) nodes: BTreeMap<u8, Node>,
    pub(super) disks: BTreeMap<u8, Stored<u8, u64>>,
    /// Orders that are not executed yet.
    orders: BTreeMap<u8, VecDeque<Persist<u8, u64>>>,
    pub(super) wire: Vec<(u8, u8, Msg)>,
    /// What is on its way for longer.
    delayed: Vec<(u8, u8, Msg)>,
    /// Nodes that lost their disk belong to memberships that began after this index.
    reborn: BTreeMap<u8, u64>,
    pub(super) cut: BTreeSet<(u8, u8)>,
    pub(super) checks: Checks,
    /// The first check that failed.
    pub(super) broken: Option<String>,
    /// Disks work at once.
    pub(super) is_fast: bool,
    limits: Limits,
    flaw: Option<Flaw>,
    pub(super) transcript: Vec<String>,
}

impl World {
    /// Founding members `1..=voters`, and others up to `all` that nobody knows yet.
    pub(super) fn new(voters: u8, all: u8, limits: Limits, flaw: Option<Flaw>) -> Self {
        let mut world = Self {
            nodes: BTreeMap::new(),
            disks: BTreeMap::new(),
            orders: BTreeMap::new(),
            wire: Vec::new(),
            delayed: Vec::new(),
            reborn: BTreeMap::new(),
            cut: BTreeSet::new(),
            checks: Checks::default(),
            broken: None,
            is_fast: true,
            limits,
            flaw,
            transcript: Vec::new(),
        };
        world.checks.founded(Configuration::new(1..=voters, [], 1));
        for id in 1..=all {
            let disk = if id <= voters { Stored::founding(1..=voters) } else { Stored::default() };
            world.disks.insert(id, disk);
            world.restart(id);
            world.on(id, Node::leader_silent);
        }
        world
    }

    pub(super) fn of(voters: u8) -> Self {
        Self::new(voters, voters, Limits::default(), None)
    }

    /// Does something at a node and collects what comes of it.
    pub(super) fn on<T>(&mut self, id: u8, act: impl FnOnce(&mut Node) -> T) -> T {
        let result = act(self.nodes.get_mut(&id).unwrap());
        self.collect(id);
        while self.is_fast && self.write(id) {}
        result
    }

    /// Whether an order of a node is not executed yet.
    pub(super) fn is_writing(&self, id: u8) -> bool {
        self.orders.get(&id).is_some_and(|orders| !orders.is_empty())
    }

    /// The same for two worlds from which the same may come; what is on the way has no order.
    pub(super) fn fingerprint(&self) -> u64 {
        let hash = |value: &dyn Fn(&mut DefaultHasher)| {
            let mut hasher = DefaultHasher::new();
            value(&mut hasher);
            hasher.finish()
        };
        let mut wire: Vec<u64> = self.wire.iter().map(|message| hash(&|hasher| message.hash(hasher))).collect();
        wire.sort_unstable();
        hash(&|hasher| (&self.nodes, &self.disks, &self.orders, &wire, &self.checks).hash(hasher))
    }

    /// Executes the next order of a node.
    pub(super) fn write(&mut self, id: u8) -> bool {
        let Some(order) = self.orders.get_mut(&id).and_then(VecDeque::pop_front) else { return false };
        self.disks.entry(id).or_default().write(&order);
        self.nodes.get_mut(&id).unwrap().persisted(order.id);
        self.collect(id);
        true
    }

    /// The node dies, with what is not on its disk, and starts again.
    pub(super) fn restart(&mut self, id: u8) {
        self.orders.remove(&id);
        let mut node = Node::new(id, self.disks[&id].clone(), self.limits).unwrap();
        if let Some(flaw) = self.flaw {
            node.plant(flaw);
        }
        self.checks.restarted(id, &self.disks[&id]);
        self.nodes.insert(id, node);
        self.collect(id);
    }

    /// Takes the message at `place` off the wire and delivers it, unless the way is cut.
    pub(super) fn deliver(&mut self, place: usize) {
        let (from, to, message) = self.wire.remove(place);
        if !self.cut.contains(&(from, to)) {
            self.on(to, |node| node.step(from, message));
        }
    }

    pub(super) fn delay(&mut self, place: usize) {
        let message = self.wire.remove(place);
        self.delayed.push(message);
    }

    /// One of those that were delayed is the next to arrive.
    pub(super) fn arrive(&mut self, place: usize) {
        if !self.delayed.is_empty() {
            let message = self.delayed.remove(place % self.delayed.len());
            self.wire.insert(0, message);
        }
    }

    /// One that is no member any more, by what is committed at `leader`, comes back without its disk, as another one: what
    /// it was asked goes to the member that it was.
    pub(super) fn reborn(&mut self, id: u8, leader: u8) {
        let stays = |(_, to, message): &(u8, u8, Msg)| *to != id || message.body.is_reply();
        self.wire.retain(stays);
        self.delayed.retain(stays);
        self.reborn.insert(id, self.node(leader).commit());
        self.checks.reborn(id);
        self.wipe(id);
    }

    /// As the room `master` has it: nobody campaigns by a configuration from before its present membership.
    pub(super) fn campaign(&mut self, id: u8) {
        if is_present(&self.reborn, self.node(id), id) {
            self.on(id, Node::campaign);
        }
    }

    /// Delivers in order until nothing is on the way.
    pub(super) fn settle(&mut self) {
        for _ in 0..10_000 {
            if self.wire.is_empty() {
                return;
            }
            self.deliver(0);
        }
        panic!("messages without an end: {:?}", self.wire.first());
    }

    /// Delivers in order until `done`.
    pub(super) fn settle_until(&mut self, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            self.deliver(0);
        }
    }

    /// Nobody was heard for long, and the timeout of `id` ends first.
    pub(super) fn elect(&mut self, id: u8) {
        let ids: Vec<u8> = self.nodes.keys().copied().collect();
        for other in ids {
            self.on(other, Node::leader_silent);
        }
        self.on(id, Node::campaign);
        self.settle();
    }

    pub(super) fn beat(&mut self, id: u8) {
        self.on(id, Node::beat);
        self.settle();
    }

    pub(super) fn propose(&mut self, id: u8, command: u64) {
        self.on(id, |node| node.propose(command)).unwrap();
        self.settle();
    }

    pub(super) fn change(&mut self, id: u8, change: Change<u8>) {
        self.on(id, |node| node.propose_change(&change)).unwrap();
        self.settle();
    }

    /// Cuts all ways but those among `ids`.
    pub(super) fn connect_only(&mut self, ids: &[u8]) {
        let all: Vec<u8> = self.nodes.keys().copied().collect();
        let ways = all.iter().flat_map(|from| all.iter().map(|to| (*from, *to)));
        self.cut = ways.filter(|(from, to)| !ids.contains(from) || !ids.contains(to)).collect();
    }

    /// An old leader notices that nobody answers.
    pub(super) fn give_up(&mut self, id: u8) {
        self.on(id, Node::check_quorum);
        self.on(id, Node::check_quorum);
    }

    /// The node loses its disk and starts as one that nobody knows.
    pub(super) fn wipe(&mut self, id: u8) {
        self.disks.insert(id, Stored::default());
        self.restart(id);
        self.on(id, Node::leader_silent);
    }

    /// Cuts `id` off, both ways.
    pub(super) fn isolate(&mut self, id: u8) {
        for other in self.nodes.keys().filter(|other| **other != id) {
            self.cut.extend([(id, *other), (*other, id)]);
        }
    }

    pub(super) fn heal(&mut self) {
        self.cut.clear();
    }

    pub(super) fn leader(&self) -> Option<u8> {
        let newest = self.nodes.values().filter(|node| node.is_leader()).max_by_key(|node| node.term());
        newest.map(Raft::id)
    }

    pub(super) fn node(&self, id: u8) -> &Node {
        &self.nodes[&id]
    }

    /// The first failed check is an error of the test.
    pub(super) fn assert_sound(&self) {
        assert_eq!(self.broken, None);
    }

    fn collect(&mut self, id: u8) {
        let mut result = Ok(());
        let Some(node) = self.nodes.get_mut(&id) else { return };
        while let Some(output) = node.poll() {
            self.transcript.push(format!("{id} {}", line(&output)));
            match output {
                Output::Persist(order) => self.orders.entry(id).or_default().push_back(order),
                Output::Send { to, message } => {
                    if !message.body.is_reply() && !is_present(&self.reborn, node, to) {
                        continue;
                    }
                    result = result.and_then(|()| self.checks.send(id, to, &message, &self.disks[&id]));
                    self.wire.push((id, to, message));
                }
                Output::Committed(entries) => {
                    result = result.and_then(|()| self.checks.commit(node, &entries, &self.disks));
                }
                Output::Installed(_) | Output::Role(_) => (),
            }
        }
        result = result.and_then(|()| self.checks.state(node));
        if let (None, Err(broken)) = (&self.broken, result) {
            self.broken = Some(broken);
        }
    }
}

/// Whether `other` is to `node` a member as which it lives now.
fn is_present(reborn: &BTreeMap<u8, u64>, node: &Node, other: u8) -> bool {
    reborn.get(&other).is_none_or(|born| node.config().join_of(&other) > Some(*born))
}

/// An output in one line.
fn line(output: &Output<u8, u64>) -> String {
    match output {
        Output::Persist(order) => {
            let HardState { term, vote, commit } = order.hard_state;
            let vote = vote.map_or("-".into(), |vote| vote.to_string());
            let snapshot = order.snapshot.as_ref().map(|it| format!(" snapshot {}@{}", it.index, it.term));
            let log = order.entries.as_ref().map(|tail| format!(" log {}.. {}", tail.from, entries(&tail.entries)));
            let [snapshot, log] = [snapshot, log].map(Option::unwrap_or_default);
            format!("writes term {term} vote {vote} commit {commit}{snapshot}{log}")
        }
        Output::Send { to, message } => format!("-> {to} {}", say(message)),
        Output::Committed(committed) => format!("commits {}", entries(committed)),
        Output::Installed(snapshot) => format!("installs {}@{}", snapshot.index, snapshot.term),
        Output::Role(RoleChange { term, role, leader }) => {
            let leader = leader.map_or("-".into(), |leader| leader.to_string());
            format!("is {role:?} in term {term}, leader {leader}")
        }
    }
}

fn say(message: &Msg) -> String {
    let Message { term, join, body } = message;
    let join = if *join > 0 { format!(" join {join}") } else { String::new() };
    let body = match body {
        Body::PreVote { last_index, last_term } => format!("PreVote last {last_index}@{last_term}"),
        Body::PreVoteReply { granted } => format!("PreVoteReply {}", yes(*granted)),
        Body::Vote { last_index, last_term, transfer } => {
            format!("Vote last {last_index}@{last_term}{}", if *transfer { " transfer" } else { "" })
        }
        Body::VoteReply { granted } => format!("VoteReply {}", yes(*granted)),
        Body::Append { prev_index, prev_term, entries: new, commit } => {
            format!("Append after {prev_index}@{prev_term} {} commit {commit}", entries(new))
        }
        Body::Appended { index } => format!("Appended {index}"),
        Body::Rejected { prev_index, hint_index, hint_term } => {
            format!("Rejected {prev_index} hint {hint_index}@{hint_term}")
        }
        Body::Heartbeat { commit, round } => format!("Heartbeat commit {commit} round {round}"),
        Body::HeartbeatReply { round } => format!("HeartbeatReply round {round}"),
        Body::Snapshot(snapshot) => {
            format!("Snapshot {}@{} {}", snapshot.index, snapshot.term, members(&snapshot.config))
        }
        Body::TimeoutNow => "TimeoutNow".into(),
    };
    format!("term {term}{join}: {body}")
}

fn yes(granted: bool) -> &'static str {
    if granted { "yes" } else { "no" }
}

fn entries(entries: &[Entry<u8, u64>]) -> String {
    let entry = |entry: &Entry<u8, u64>| {
        let payload = match &entry.payload {
            Payload::Noop => "noop".into(),
            Payload::Command(command) => command.to_string(),
            Payload::Config(config) => members(config),
        };
        format!("{}@{} {payload}", entry.index, entry.term)
    };
    format!("[{}]", entries.iter().map(entry).collect::<Vec<_>>().join(", "))
}

/// etcd's way: (incoming)&&(outgoing) learners(..) learners_next(..).
pub(super) fn members(config: &Configuration<u8>) -> String {
    let set = |set: &BTreeSet<u8>| set.iter().map(u8::to_string).collect::<Vec<_>>().join(" ");
    let optional = |name: &str, nodes: &BTreeSet<u8>| match nodes.is_empty() {
        true => String::new(),
        false => format!("{name}({})", set(nodes)),
    };
    let learners = [optional(" learners", &config.learners), optional(" learners_next", &config.learners_next)];
    format!("({}){}{}", set(&config.voters.incoming), optional("&&", &config.voters.outgoing), learners.concat())
}
