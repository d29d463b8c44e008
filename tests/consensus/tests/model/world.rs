//! Three servers and what is under way between them, as a model: each step is one of the real Raft.
//!
//! A state names its parts by numbers. What a server does at an input is found out once, by the real code, and kept: a
//! server that is the same in another state of the world is not asked again.

use std::hash::{Hash, Hasher};

use p2pcore::{
    id::{Id, PublicKey, Role},
    master::Roster,
};
use stateright::{Model, Property};

use crate::{
    checks::{self, History, LogEntry, View},
    intern::{Interner, Memo},
    server::{Disk, Done, Input, Message, Nature, Server},
};

pub(crate) const SERVERS: usize = 3;

pub(crate) fn id(place: usize) -> Id {
    Id::from_key(Role::Server, &PublicKey([u8::try_from(place).unwrap() + 1; 32]))
}

pub(crate) fn place(of: Id) -> usize {
    (0..SERVERS).find(|place| id(*place) == of).expect("there are no others")
}

/// Where it begins and what may happen.
pub(crate) struct Setting {
    pub(crate) nature: Nature,
    pub(crate) disks: [Disk; SERVERS],
    /// What the servers agree on one after the other.
    pub(crate) rosters: Vec<Roster>,
    /// Each way from one server to another holds so many messages, the newest ones. Any of them may come at any time, again
    /// and again, or never.
    pub(crate) under_way: usize,
    pub(crate) budget: Budget,
}

/// How often something may happen, at each server or in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Budget {
    pub(crate) timeouts: [u8; SERVERS],
    pub(crate) restarts: [u8; SERVERS],
    pub(crate) commands: u8,
    pub(crate) beats: u8,
}

pub(crate) struct World {
    nature: Nature,
    rosters: Vec<Roster>,
    under_way: usize,
    budget: Budget,
    first: [u32; SERVERS],
    servers: Interner<Known>,
    letters: Interner<Letter>,
    bags: Interner<Vec<u32>>,
    outcomes: Interner<Outcome>,
    entries: Interner<LogEntry>,
    histories: Interner<History>,
    /// The outcome for a server and what happens to it.
    outcome_of: Memo,
    /// The bag after one and an outcome.
    bag_after: Memo,
    /// The bag after one and a term that its receiver begins.
    bag_in: Memo,
    /// The history after one and an outcome.
    history_after: Memo,
}

/// A server, and what the checks look at.
struct Known {
    server: Server,
    view: View,
}

impl PartialEq for Known {
    fn eq(&self, other: &Self) -> bool {
        self.server == other.server
    }
}

impl Eq for Known {}

impl Hash for Known {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.server.hash(state);
    }
}

/// A message on its way.
#[derive(PartialEq, Eq, Hash)]
struct Letter {
    from: usize,
    to: usize,
    message: Message,
}

/// What follows when something happens to a server.
#[derive(PartialEq, Eq, Hash)]
struct Outcome {
    place: usize,
    server: u32,
    letters: Vec<u32>,
    done: Done,
}

/// No outcome: nothing follows.
const NOTHING: u32 = u32::MAX;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    servers: [u32; SERVERS],
    /// The letters of each server that are under way, from the oldest to the newest.
    bags: [u32; SERVERS],
    history: u32,
    /// The roster that is agreed on.
    roster: u8,
    left: Budget,
}

/// Something that happens, and what follows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Action {
    what: What,
    outcome: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum What {
    Letter(u32),
    Written(usize),
    Restart(usize),
    Timeout(usize),
    Step(usize),
    Command(usize),
    Beat(usize),
    /// The next roster is agreed on.
    Roster,
}

impl World {
    pub(crate) fn new(setting: Setting) -> Self {
        let Setting { nature, disks, rosters, under_way, budget } = setting;
        let mut world = Self {
            nature,
            rosters,
            under_way,
            budget,
            first: [NOTHING; SERVERS],
            servers: Interner::default(),
            letters: Interner::default(),
            bags: Interner::default(),
            outcomes: Interner::default(),
            entries: Interner::default(),
            histories: Interner::default(),
            outcome_of: Memo::default(),
            bag_after: Memo::default(),
            bag_in: Memo::default(),
            history_after: Memo::default(),
        };
        for (place, disk) in disks.into_iter().enumerate() {
            world.first[place] = world.known(Server::new(id(place), disk, nature));
        }
        world
    }

    pub(crate) fn history(&self, state: &State) -> &History {
        self.histories.get(state.history)
    }

    pub(crate) fn views(&self, state: &State) -> [&View; SERVERS] {
        state.servers.map(|server| &self.servers.get(server).view)
    }

    pub(crate) fn has_restarted(&self, state: &State) -> bool {
        state.left.restarts != self.budget.restarts
    }

    /// How many different parts the states are made of.
    pub(crate) fn parts(&self) -> String {
        let [servers, letters, outcomes] = [self.servers.len(), self.letters.len(), self.outcomes.len()];
        format!("{servers} servers, {letters} messages, {outcomes} steps of a server")
    }

    pub(crate) fn tell(&self, action: &Action) -> String {
        match action.what {
            What::Letter(letter) => {
                let Letter { from, to, message } = self.letters.get(letter);
                format!("{from} -> {to}: {message:?}")
            }
            What::Roster => "the next roster is agreed on".into(),
            what => format!("{what:?}"),
        }
    }

    fn known(&self, server: Server) -> u32 {
        let view = View::of(&server, |entry| self.entries.number(entry));
        self.servers.number(Known { server, view })
    }

    fn outcome(&self, state: &State, what: What) -> u32 {
        // letters are numbered from below, all else from above
        let (place, code) = match what {
            What::Letter(letter) => (self.letters.get(letter).to, letter),
            What::Written(place) => (place, NOTHING - 1),
            What::Restart(place) => (place, NOTHING - 2),
            What::Timeout(place) => (place, NOTHING - 3),
            What::Command(place) => (place, NOTHING - 4),
            What::Beat(place) => (place, NOTHING - 5),
            What::Step(place) => (place, NOTHING - 6 - u32::from(state.roster)),
            What::Roster => return NOTHING,
        };
        self.outcome_of.get((state.servers[place], code), || {
            let input = match what {
                What::Letter(letter) => {
                    let Letter { from, message, .. } = self.letters.get(letter);
                    Input::Message(id(*from), message)
                }
                What::Written(_) | What::Roster => Input::Written,
                What::Restart(_) => Input::Restart,
                What::Timeout(_) => Input::Timeout,
                What::Step(_) => Input::Step(&self.rosters[usize::from(state.roster)]),
                What::Command(_) => Input::Propose(7),
                What::Beat(_) => Input::Beat,
            };
            let after = self.servers.get(state.servers[place]).server.after(&input, self.nature);
            let Some((server, mut done)) = after else { return NOTHING };
            let sent = std::mem::take(&mut done.sent).into_iter();
            let letters = sent.map(|(to, message)| {
                let letter = Letter { from: place, to: crate::world::place(to), message };
                self.letters.number(letter)
            });
            let letters = letters.collect();
            self.outcomes.number(Outcome { place, server: self.known(server), letters, done })
        })
    }

    /// A bag with the letters of an outcome; the oldest ones for the same receiver make room.
    fn bag_with(&self, bag: u32, outcome: u32) -> u32 {
        let new = &self.outcomes.get(outcome).letters;
        if new.is_empty() {
            return bag;
        }
        self.bag_after.get((bag, outcome), || {
            let old = self.bags.get(bag).iter().filter(|letter| !new.contains(letter));
            let mut room = [self.under_way; SERVERS];
            let mut kept: Vec<u32> = old.chain(new).rev().copied().collect();
            kept.retain(|letter| {
                let room = &mut room[self.letters.get(*letter).to];
                let has_room = *room > 0;
                *room = room.saturating_sub(1);
                has_room
            });
            kept.reverse();
            self.bags.number(kept)
        })
    }

    /// A bag without the answers that the server at `place` will never look at, now that it has begun `term`.
    fn bag_for(&self, bag: u32, place: usize, term: u64) -> u32 {
        let begun = u32::try_from(place).unwrap() << 16 | u32::try_from(term).unwrap();
        self.bag_in.get((bag, begun), || {
            let is_alive = |letter: &&u32| {
                let Letter { to, message, .. } = self.letters.get(**letter);
                *to != place || !message.body.is_reply() || message.term >= term
            };
            self.bags.number(self.bags.get(bag).iter().filter(is_alive).copied().collect())
        })
    }

    fn saved_term(&self, server: u32) -> u64 {
        self.servers.get(server).server.disk.hard_state.term
    }
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let empty = self.bags.number(Vec::new());
        let history = self.histories.number(History::default());
        vec![State { servers: self.first, bags: [empty; SERVERS], history, roster: 0, left: self.budget }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let mut offer = |what| {
            let outcome = self.outcome(state, what);
            if outcome != NOTHING {
                actions.push(Action { what, outcome });
            }
        };
        for bag in state.bags {
            self.bags.get(bag).iter().for_each(|letter| offer(What::Letter(*letter)));
        }
        for place in 0..SERVERS {
            offer(What::Written(place));
            offer(What::Step(place));
            let left = &state.left;
            let more = [
                (left.timeouts[place], What::Timeout(place)),
                (left.restarts[place], What::Restart(place)),
                (left.commands, What::Command(place)),
                (left.beats, What::Beat(place)),
            ];
            more.into_iter().filter(|(left, _)| *left > 0).for_each(|(_, what)| offer(what));
        }
        if usize::from(state.roster) + 1 < self.rosters.len() {
            actions.push(Action { what: What::Roster, outcome: NOTHING });
        }
    }

    fn next_state(&self, state: &State, Action { what, outcome: number }: Action) -> Option<State> {
        let mut next = state.clone();
        match what {
            What::Letter(_) | What::Written(_) | What::Step(_) => (),
            What::Restart(place) => next.left.restarts[place] -= 1,
            What::Timeout(place) => next.left.timeouts[place] -= 1,
            What::Command(_) => next.left.commands -= 1,
            What::Beat(_) => next.left.beats -= 1,
            What::Roster => {
                next.roster += 1;
                return Some(next);
            }
        }
        let outcome = self.outcomes.get(number);
        let place = outcome.place;
        next.servers[place] = outcome.server;
        next.bags[place] = self.bag_with(state.bags[place], number);
        let term = self.saved_term(outcome.server);
        if term > self.saved_term(state.servers[place]) {
            next.bags = next.bags.map(|bag| self.bag_for(bag, place, term));
        }
        if outcome.done != Done::default() {
            next.history = self.history_after.get((state.history, number), || {
                let after = self.history(state).after(place, &outcome.done, |entry| self.entries.number(entry));
                self.histories.number(after)
            });
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        checks::properties()
    }
}
