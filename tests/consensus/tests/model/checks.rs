//! What must hold in every state, and what is to be reached in some.

use p2pcore::{
    id::Id,
    raft::{Configuration, Entry, Raft},
};
use stateright::{Expectation, Property};

use crate::{
    server::{Command, Done, Server},
    world::{SERVERS, State, World, place},
};

pub(crate) type LogEntry = Entry<Id, Command>;

pub(crate) const ONE_LEADER: &str = "at most one leader in each term";
pub(crate) const ONE_VOTE: &str = "nobody votes twice in a term, restarts or not";
pub(crate) const SAME_COMMITS: &str = "committed entries never differ";
pub(crate) const LEGAL_STEPS: &str = "each committed configuration follows the one before in a legal step";
pub(crate) const SAVED: &str = "what is said is on disk";
pub(crate) const FORWARD: &str = "no term, vote or commit index goes back";
pub(crate) const LOGS_MATCH: &str = "logs that agree on an entry agree on all before it";
pub(crate) const COMPLETE: &str = "a leader has all that was committed in earlier terms";
pub(crate) const QUORUMS_MEET: &str = "no two servers could be elected by quorums that do not meet";

pub(crate) const SECOND_TERM: &str = "a leader in term 2";
pub(crate) const THREE_VOTERS: &str = "three voters are committed";
pub(crate) const RESTARTED: &str = "three voters are committed and term 2 has a leader, and a server has restarted";
pub(crate) const OTHER_SENIOR: &str = "the second server is committed as the only voter";

pub(crate) fn properties() -> Vec<Property<World>> {
    vec![
        Property::always(ONE_LEADER, |world: &World, state| !world.history(state).broken.two_leaders),
        Property::always(ONE_VOTE, |world: &World, state| !world.history(state).broken.two_votes),
        Property::always(SAME_COMMITS, |world: &World, state| !world.history(state).broken.commits_differ),
        Property::always(LEGAL_STEPS, |world: &World, state| !world.history(state).broken.illegal_step),
        Property::always(SAVED, |world: &World, state| !world.history(state).broken.said_unsaved),
        Property::always(FORWARD, |world: &World, state| !world.history(state).broken.went_back),
        Property::always(LOGS_MATCH, logs_match),
        Property::always(COMPLETE, leaders_are_complete),
        Property::always(QUORUMS_MEET, quorums_meet),
        Property::sometimes(SECOND_TERM, |world: &World, state| world.history(state).has_leader(2)),
        Property::sometimes(THREE_VOTERS, |world: &World, state| world.history(state).has_three_voters()),
        Property::sometimes(RESTARTED, |world: &World, state| {
            let history = world.history(state);
            history.has_three_voters() && history.has_leader(2) && world.has_restarted(state)
        }),
        Property::sometimes(OTHER_SENIOR, |world: &World, state| {
            let config = &world.history(state).config;
            config.as_ref().is_some_and(|config| config.is_sole_voter(&crate::world::id(1)))
        }),
    ]
}

/// The names of what must always hold.
pub(crate) fn rules() -> impl Iterator<Item = &'static str> {
    properties().into_iter().filter(|property| property.expectation == Expectation::Always).map(|rule| rule.name)
}

/// Greater than all terms.
const TERMS: usize = 4;

/// What was seen on the way, also of servers that forgot it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct History {
    leaders: [Option<usize>; TERMS],
    /// Whom each server gave its vote in each term.
    votes: [[Option<Id>; SERVERS]; TERMS],
    /// The committed entries from index 2 on, and in which term each was committed first.
    committed: Vec<(u64, u32)>,
    /// The last committed configuration; `None` for the first one.
    config: Option<Configuration<Id>>,
    broken: Broken,
}

/// What went wrong on the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Broken {
    two_leaders: bool,
    two_votes: bool,
    commits_differ: bool,
    illegal_step: bool,
    said_unsaved: bool,
    went_back: bool,
}

impl History {
    /// What was seen after the server at `place` did something.
    pub(crate) fn after(&self, place: usize, done: &Done, number: impl Fn(LogEntry) -> u32) -> Self {
        let mut next = self.clone();
        next.broken.said_unsaved |= done.said_unsaved;
        next.broken.went_back |= done.went_back;
        if let Some(term) = done.elected {
            let first = *next.leaders[term as usize].get_or_insert(place);
            next.broken.two_leaders |= first != place;
        }
        for (term, to) in &done.voted {
            let first = *next.votes[*term as usize][place].get_or_insert(*to);
            next.broken.two_votes |= first != *to;
        }
        if let Some((term, entries)) = &done.committed {
            entries.iter().for_each(|entry| next.commit(*term, entry, number(entry.clone())));
        }
        next
    }

    fn commit(&mut self, term: u64, entry: &LogEntry, number: u32) {
        let at = usize::try_from(entry.index).unwrap() - 2;
        if let Some((_, first)) = self.committed.get(at) {
            self.broken.commits_differ |= *first != number;
            return;
        }
        self.broken.commits_differ |= at > self.committed.len();
        self.committed.push((term, number));
        if let Some(config) = entry.config() {
            self.broken.illegal_step |= self.config.as_ref().is_some_and(|before| !before.is_step(config));
            self.config = Some(config.clone());
        }
    }

    fn has_leader(&self, term: usize) -> bool {
        self.leaders[term].is_some()
    }

    fn has_three_voters(&self) -> bool {
        self.config.as_ref().is_some_and(|config| !config.voters.is_joint() && config.voters.incoming.len() == 3)
    }
}

/// A set of servers, one bit each.
type Set = u8;
/// A set of such sets, one bit each.
type Sets = u8;

/// What is looked at of one server.
pub(crate) struct View {
    /// It leads this term.
    leads: Option<u64>,
    /// The index of its first entry.
    from: u64,
    /// Its entries, as their terms and numbers.
    log: Vec<(u64, u32)>,
    /// Term and index of its last entry.
    end: (u64, u64),
    /// Those who can elect it; none if it may not campaign.
    quorums: Sets,
}

impl View {
    pub(crate) fn of(server: &Server, number: impl Fn(LogEntry) -> u32) -> Self {
        let raft = &server.raft;
        let log: Vec<_> = raft.entries().map(|entry| (entry.term, number(entry.clone()))).collect();
        let end = log.last().map_or(raft.snapshot().term, |(term, _)| *term);
        Self {
            leads: raft.is_leader().then(|| raft.term()),
            from: raft.snapshot().index + 1,
            log,
            end: (end, raft.last_index()),
            quorums: sets().filter(|set| can_elect(raft, *set)).fold(0, |sets, set| sets | 1 << set),
        }
    }
}

fn can_elect(raft: &Raft<Id, Command>, set: Set) -> bool {
    let may_campaign = [raft.config(), raft.committed_config()].iter().any(|config| config.voters.contains(&raft.id()));
    may_campaign && raft.config().voters.has_quorum(|node| set >> place(*node) & 1 == 1)
}

fn sets() -> impl Iterator<Item = Set> {
    0..1 << SERVERS
}

fn logs_match(world: &World, state: &State) -> bool {
    let [a, b, c] = world.views(state);
    [(a, b), (a, c), (b, c)].into_iter().all(|(a, b)| {
        let from = a.from.max(b.from);
        let [a, b] = [a, b].map(|view| view.log.iter().skip((from - view.from) as usize));
        let mut pairs = a.zip(b).skip_while(|(a, b)| a == b);
        pairs.all(|((a, _), (b, _))| a != b)
    })
}

fn leaders_are_complete(world: &World, state: &State) -> bool {
    world.views(state).into_iter().all(|view| {
        let Some(leads) = view.leads else { return true };
        let committed = (2..).zip(&world.history(state).committed);
        let mut earlier = committed.filter(|(index, (term, _))| *term < leads && *index >= view.from);
        earlier.all(|(index, (_, number))| {
            let own = view.log.get((index - view.from) as usize);
            own.is_some_and(|(_, own)| own == number)
        })
    })
}

/// Of the servers that could win, as all logs are now, each two need the vote of one and the same server.
fn quorums_meet(world: &World, state: &State) -> bool {
    let views = world.views(state);
    let [a, b, c] = views.map(|view| {
        let against: Set = (0..SERVERS).filter(|place| views[*place].end > view.end).fold(0, |set, it| set | 1 << it);
        sets().filter(|set| view.quorums >> set & 1 == 1 && set & against == 0).fold(0, |sets: Sets, it| sets | 1 << it)
    });
    let meet = |a: Sets, b: Sets| {
        let of = |sets_: Sets| sets().filter(move |set| sets_ >> set & 1 == 1);
        of(a).all(|a| of(b).all(|b| a & b != 0))
    };
    meet(a, b) && meet(a, c) && meet(b, c)
}
