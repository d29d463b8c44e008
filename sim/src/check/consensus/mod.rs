//! One Master among the servers: what must hold at every instant, whatever happens.
//!
//! After each touch of a server a look is taken at it, and each order that its disk has carried out is noted. What is
//! said of Raft holds within one [`Line`] of succession.

pub mod disks;
pub mod elections;
pub mod fence;
pub mod guards;
pub mod history;
pub mod roster;
pub mod steps;
pub mod views;

use std::{collections::BTreeMap, time::Duration};

use p2pcore::{
    ClusterId, Id,
    master::{Council, Durable, Kind, MasterView, Roster, Token},
    raft::Raft,
};

use self::{
    disks::Disks, elections::Elections, guards::Guards, history::History, roster::Ages, steps::Steps, views::Views,
};
use super::{Breach, Run};

/// One line of succession: a cluster in one generation of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Line {
    /// The cluster.
    pub cluster: ClusterId,
    /// The generation.
    pub generation: u64,
    /// Who founded or forced it.
    pub founder: Id,
}

impl Line {
    /// That of a server, if it has one.
    pub fn of(council: &Council) -> Option<Self> {
        council.allegiance().map(Self::from)
    }
}

impl From<p2pcore::master::Allegiance> for Line {
    fn from(allegiance: p2pcore::master::Allegiance) -> Self {
        let generation = allegiance.generation;
        Self { cluster: allegiance.cluster, generation: generation.number, founder: generation.founder }
    }
}

/// The right of a server to act as Master, in the time of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Under this token.
    pub token: Token,
    /// Until then.
    pub until: Duration,
}

/// What a run came by: a run that reached nothing has judged nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// Those who became Master, one for each time.
    pub masters: usize,
    /// The newest generation.
    pub generation: u64,
    /// Committed rosters.
    pub rosters: usize,
    /// Joint configurations in the logs.
    pub joint: usize,
    /// Views of a Provisional Master.
    pub provisional: usize,
    /// Writes of deposed Masters that a resource refused.
    pub refused: u64,
    /// Writes that it would have accepted without its fence, though a later Master had written before.
    pub strays: u64,
}

/// The judges of the consensus.
#[derive(Clone, Debug, Default)]
pub struct Consensus {
    guards: Guards,
    elections: Elections,
    history: History,
    ages: Ages,
    disks: Disks,
    steps: Steps,
    views: Views,
    /// What each server looked like last: most touches change nothing here.
    seen: BTreeMap<Run, Fingerprint>,
    reached: Reached,
}

/// What all that is judged depends on, but for the guard.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fingerprint {
    line: Line,
    term: u64,
    vote: Option<Id>,
    leader: Option<Id>,
    commit: u64,
    last: u64,
    snapshot: u64,
    matched: u64,
    roster: usize,
}

impl Fingerprint {
    fn of(line: Line, council: &Council) -> Self {
        let raft = council.raft();
        Self {
            line,
            term: raft.term(),
            vote: raft.vote(),
            leader: raft.role().leader,
            commit: raft.commit(),
            last: raft.last_index(),
            snapshot: raft.snapshot().index,
            matched: raft.progress().fold(0, |sum, (_, progress)| sum.wrapping_add(progress.matched)),
            roster: council.roster().members.len(),
        }
    }
}

impl Consensus {
    /// A server was touched; returns the promises that it broke.
    pub fn look(
        &mut self,
        now: Duration,
        run: Run,
        id: Id,
        council: Option<&Council>,
        held: Option<Held>,
    ) -> Vec<Breach> {
        let mut results = vec![self.guards.holds(now, run, id, held)];
        if let Some(held) = held {
            results.push(self.elections.elected(held.token));
            results.push(self.steps.acts(run, held.token));
            self.reached.generation = self.reached.generation.max(held.token.generation);
        }
        if let Some((council, line)) = council.and_then(|council| Some((council, Line::of(council)?))) {
            if let Some(held) = held {
                let voters = &council.raft().config().voters;
                results.push(guards::votes(held.token, voters.contains(&held.token.id)));
            }
            let fingerprint = Fingerprint::of(line, council);
            if self.seen.get(&run) != Some(&fingerprint) {
                results.extend(self.judge(run, id, line, council));
                self.seen.insert(run, fingerprint);
            }
        }
        results.into_iter().filter_map(Result::err).collect()
    }

    fn judge(&mut self, run: Run, id: Id, line: Line, council: &Council) -> Vec<Result<(), Breach>> {
        self.reached.generation = self.reached.generation.max(line.generation);
        let raft: &Raft<Id, Roster> = council.raft();
        let mut results =
            vec![self.steps.at(run, id, line, raft.term(), raft.commit()), self.history.log(line, id, raft)];
        for (index, roster) in self.history.take_rosters() {
            self.reached.rosters += 1;
            results.push(self.ages.committed(line, id, index, &roster));
        }
        if raft.is_leader() {
            results.push(self.elections.leads(line, raft.term(), id));
            results.push(self.history.leads(line, id, raft));
            results.push(self.disks.leads(line, id, raft, |node| council.roster().placed(node)));
        }
        results
    }

    /// The disk of a server holds `durable` now; `council` is what the server knows, if it runs.
    ///
    /// # Errors
    /// It gave its vote twice.
    pub fn written(&mut self, id: Id, durable: &Durable, council: Option<&Council>) -> Result<(), Breach> {
        let Some(line) = durable.allegiance.map(Line::from) else { return Ok(()) };
        let membership = p2pcore::master::Membership { id, join: durable.join };
        self.disks.written(line, membership, &durable.raft);
        let state = durable.raft.hard_state;
        let Some(vote) = state.vote else { return Ok(()) };
        // no leader is known yet: the vote was asked for, and the answer leaves now
        let is_grant = council.is_some_and(|council| {
            let role = council.raft().role();
            (role.term, role.leader) == (state.term, None)
        });
        self.elections.votes(line, membership, state.term, vote, is_grant)
    }

    /// A node shows its application who is the Master.
    ///
    /// # Errors
    /// It showed a later one before, or two are Elected in one term.
    pub fn shown(&mut self, run: Run, id: Id, view: MasterView) -> Result<(), Breach> {
        match view.token() {
            Some(token) if token.kind == Kind::Elected => self.elections.elected(token)?,
            Some(_) => self.reached.provisional += 1,
            None => {}
        }
        self.views.shown(run, id, view)
    }

    /// A run is over, or its machine sleeps: what it held is void.
    pub fn stands_still(&mut self, run: Run) {
        self.guards.void(run);
    }

    /// A clock jumped: no lease that was given within `span` before can be relied on.
    pub fn clock_jumped(&mut self, now: Duration, span: Duration) {
        self.guards.excuse(now + span);
    }

    /// What was reached so far.
    pub fn reached(&self) -> Reached {
        Reached { masters: self.guards.tenures().len(), joint: self.history.joint(), ..self.reached }
    }

    /// The tokens of those who were Master, in the order in which they became it.
    pub fn tenures(&self) -> &[Token] {
        self.guards.tenures()
    }
}

#[cfg(test)]
mod testing {
    use p2pcore::{
        ClusterId, Id, Incarnation, PublicKey, Role,
        master::{Kind, Membership, Token},
    };

    use super::Line;

    pub(super) fn server(n: u8) -> Id {
        Id::from_key(Role::Server, &PublicKey([n; 32]))
    }

    pub(super) fn line() -> Line {
        Line { cluster: ClusterId([1; 16]), generation: 1, founder: server(1) }
    }

    pub(super) fn membership(n: u8, counter: u64) -> Membership {
        Membership { id: server(n), join: Incarnation { counter, random: [n; 16] } }
    }

    pub(super) fn token(term: u64, n: u8) -> Token {
        Token { generation: 1, kind: Kind::Elected, term, id: server(n) }
    }
}
