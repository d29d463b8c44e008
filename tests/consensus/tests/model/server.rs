//! One server: the real Raft, its disk, and the orders that are not on it yet.

use std::{
    collections::{BTreeSet, VecDeque},
    hash::{Hash, Hasher},
};

use p2pcore::{
    id::Id,
    master::{Roster, Sight, Step, rules::next_step},
    raft::{self, Body, Entry, Flaw, HardState, Limits, Output, Persist, Raft, Stored},
};

pub(crate) type Command = u64;
pub(crate) type Disk = Stored<Id, Command>;
pub(crate) type Message = raft::Message<Id, Command>;

/// What holds for all servers of a world.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Nature {
    pub(crate) flaw: Option<Flaw>,
    /// Nobody campaigns beyond this term.
    pub(crate) terms: u64,
    /// No leader is asked for more when its log ends here.
    pub(crate) entries: u64,
}

impl Nature {
    fn limits() -> Limits {
        // so few that all limits are met
        Limits { max_inflight: 1, max_held: 3, ..Limits::default() }
    }
}

/// What one server is in one state of the world. Servers are never deaf here: a request for a vote that comes to a deaf
/// one is as good as lost, and messages may be lost anyway.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Server {
    pub(crate) raft: Raft<Id, Command>,
    pub(crate) disk: Disk,
    orders: VecDeque<Order>,
}

/// What may happen to a server.
pub(crate) enum Input<'a> {
    Message(Id, &'a Message),
    /// Its oldest order is carried out.
    Written,
    /// It ends, with what is not on its disk, and starts again.
    Restart,
    /// Its election timeout passes.
    Timeout,
    /// As a leader it goes one step towards this roster.
    Step(&'a Roster),
    /// As a leader it is handed a command.
    Propose(Command),
    /// As a leader it sends heartbeats.
    Beat,
}

/// What a server does at an input, besides changing.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Done {
    pub(crate) sent: Vec<(Id, Message)>,
    /// Committed entries, and in which term it was so.
    pub(crate) committed: Option<(u64, Vec<Entry<Id, Command>>)>,
    /// In which terms it gave its vote to whom.
    pub(crate) voted: BTreeSet<(u64, Id)>,
    /// It leads this term now.
    pub(crate) elected: Option<u64>,
    /// It said what its disk does not have.
    pub(crate) said_unsaved: bool,
    /// Its term, vote or commit index went back, in memory or on disk.
    pub(crate) went_back: bool,
}

impl Server {
    pub(crate) fn new(id: Id, disk: Disk, nature: Nature) -> Self {
        let mut raft = Raft::new(id, disk.clone(), Nature::limits()).expect("what was written can be read");
        if let Some(flaw) = nature.flaw {
            raft.plant(flaw);
        }
        raft.leader_silent();
        // what was known as committed before the end is committed again
        while raft.poll().is_some() {}
        Self { raft, disk, orders: VecDeque::new() }
    }

    /// What becomes of the server; `None` if the input may not come now, or changes nothing.
    pub(crate) fn after(&self, input: &Input, nature: Nature) -> Option<(Self, Done)> {
        let may_begin_term = self.raft.term() < nature.terms;
        let may_append = self.raft.last_index() < nature.entries;
        let (mut next, mut done) = (self.clone(), Done::default());
        match input {
            Input::Message(_, Message { body: Body::TimeoutNow, .. }) if !may_begin_term => return None,
            Input::Message(from, message) => _ = next.raft.step(*from, (*message).clone()),
            Input::Written => next.write(&mut done).then_some(())?,
            Input::Restart => next = Self::new(self.raft.id(), self.disk.clone(), nature),
            Input::Timeout => may_begin_term.then(|| next.raft.campaign())?,
            Input::Step(roster) => may_append.then(|| next.step(roster))??,
            Input::Propose(command) => _ = may_append.then(|| next.raft.propose(*command).ok())??,
            Input::Beat => _ = next.raft.beat()?,
        }
        next.collect(&mut done);
        // only a leader says anything before its disk has it: for others to lose an order is to lose the input
        while !next.raft.is_leader() && next.write(&mut done) {
            next.collect(&mut done);
        }
        next.raft.leader_silent();
        let leads = |server: &Self| server.raft.is_leader().then(|| server.raft.term());
        done.elected = leads(&next).filter(|term| leads(self) != Some(*term));
        if !matches!(input, Input::Restart) {
            let state = |raft: &Raft<_, _>| HardState { term: raft.term(), vote: raft.vote(), commit: raft.commit() };
            done.went_back |= goes_back(state(&self.raft), state(&next.raft));
        }
        (next != *self || done != Done::default()).then_some((next, done))
    }

    /// What the Council of a leader does; all others are alive and stable.
    fn step(&mut self, roster: &Roster) -> Option<()> {
        if !self.raft.is_leader() || self.raft.transfer_target().is_some() {
            return None;
        }
        let all: BTreeSet<Id> = roster.ids().chain(self.raft.config().members()).collect();
        let sight = Sight { live: all.clone(), stable: all };
        match next_step(self.raft.id(), self.raft.config(), roster, &sight, &Nature::limits()) {
            Step::Wait => None,
            Step::Change(change) => self.raft.propose_change(&change).ok().map(drop),
            Step::HandOver(to) => self.raft.transfer(to).ok(),
        }
    }

    /// Carries out the oldest order; `false` if there is none.
    fn write(&mut self, done: &mut Done) -> bool {
        let Some(Order(order)) = self.orders.pop_front() else { return false };
        done.went_back |= goes_back(self.disk.hard_state, order.hard_state);
        self.disk.write(&order);
        self.raft.persisted(order.id);
        true
    }

    fn collect(&mut self, done: &mut Done) {
        while let Some(output) = self.raft.poll() {
            match output {
                Output::Persist(order) => self.orders.push_back(Order(order)),
                Output::Send { to, message } => {
                    done.said_unsaved |= !is_saved(self.raft.id(), to, &message, &self.disk);
                    let vote = vote_in(self.raft.id(), to, &message);
                    done.voted.extend(vote.map(|vote| (message.term, vote)));
                    done.sent.push((to, message));
                }
                Output::Committed(entries) => {
                    let committed = done.committed.get_or_insert((self.raft.term(), Vec::new()));
                    committed.1.extend(entries);
                }
                Output::Installed(_) | Output::Role(_) => (),
            }
        }
    }
}

/// Whom `message` says that its sender votes for.
fn vote_in(own: Id, to: Id, message: &Message) -> Option<Id> {
    match message.body {
        Body::Vote { .. } => Some(own),
        Body::VoteReply { granted: true } => Some(to),
        _ => None,
    }
}

/// Whether the disk has what `message` says of it. What was so in an earlier term is no more to be seen.
fn is_saved(own: Id, to: Id, message: &Message, disk: &Disk) -> bool {
    let HardState { term, vote, .. } = disk.hard_state;
    let last_index = disk.entries.last().map_or(disk.snapshot.index, |entry| entry.index);
    let is_there = vote_in(own, to, message).is_none_or(|to| vote == Some(to))
        && !matches!(message.body, Body::Appended { index } if index > last_index);
    // a pre-vote and the consent to one are about a term that may never come
    let is_thought = matches!(message.body, Body::PreVote { .. } | Body::PreVoteReply { granted: true });
    is_thought || term > message.term || (term == message.term && is_there)
}

/// Whether the term falls, or in the same term the vote changes, or the commit index falls.
fn goes_back(from: HardState<Id>, to: HardState<Id>) -> bool {
    let vote_moves = to.term == from.term && from.vote.is_some() && to.vote != from.vote;
    to.term < from.term || vote_moves || to.commit < from.commit
}

/// An order to the disk; its number makes no difference.
#[derive(Clone)]
struct Order(Persist<Id, Command>);

impl PartialEq for Order {
    fn eq(&self, other: &Self) -> bool {
        let (own, other) = (&self.0, &other.0);
        (&own.hard_state, &own.snapshot, &own.entries) == (&other.hard_state, &other.snapshot, &other.entries)
    }
}

impl Eq for Order {}

impl Hash for Order {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.0.hard_state, &self.0.snapshot, &self.0.entries).hash(state);
    }
}
