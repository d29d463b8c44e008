//! Both worlds under the same schedule.

use std::collections::{BTreeMap, BTreeSet};

use p2pcore::raft::{Flaw, Role};

use crate::{
    common::{Act, Follower, Id, Said, Saying, View, World},
    coverage::Coverage,
    ours::Ours,
    schedule::{Schedule, Step},
    theirs::Theirs,
};

/// A difference between both worlds that nobody decided.
#[derive(Debug)]
pub(crate) struct Divergence {
    /// At which step of the schedule; its length for the end, when all is healed.
    pub(crate) step: usize,
    pub(crate) what: String,
}

/// Runs a schedule to its end, and then until both worlds are at rest.
pub(crate) fn run(schedule: &Schedule, flaw: Option<Flaw>) -> Result<Coverage, Divergence> {
    let mut worlds = Lockstep::new(schedule, flaw);
    for (step, what) in schedule.steps.iter().enumerate() {
        worlds.coverage.count("steps");
        worlds.perform(what).map_err(|what| Divergence { step, what })?;
    }
    worlds.converge().map_err(|what| Divergence { step: schedule.steps.len(), what })?;
    Ok(worlds.coverage)
}

type Outcome = Result<(), String>;

struct Lockstep {
    ours: Ours,
    theirs: Theirs,
    ids: Vec<Id>,
    /// What both sent and is on the way.
    wire: Vec<Pair>,
    cut: BTreeSet<(Id, Id)>,
    views: BTreeMap<Id, View>,
    coverage: Coverage,
}

/// The same message of both.
#[derive(Clone)]
struct Pair {
    said: Said,
    ours: <Ours as World>::Message,
    theirs: <Theirs as World>::Message,
}

impl Lockstep {
    fn new(schedule: &Schedule, flaw: Option<Flaw>) -> Self {
        let ids: Vec<Id> = schedule.setting.ids().collect();
        let (mut ours, mut theirs) = (Ours::new(&schedule.setting, flaw), Theirs::new(&schedule.setting));
        let views: BTreeMap<Id, View> = ids.iter().map(|id| (*id, ours.view(*id))).collect();
        views.iter().for_each(|(id, view)| assert_eq!(*view, theirs.view(*id)));
        Self { ours, theirs, ids, wire: Vec::new(), views, cut: BTreeSet::new(), coverage: Coverage::default() }
    }

    fn perform(&mut self, step: &Step) -> Outcome {
        let on_wire = self.wire.len();
        match step {
            Step::Deliver(place) if on_wire > 0 => self.deliver(place % on_wire),
            Step::Run(count) => (0..on_wire.min(*count)).try_for_each(|_| self.deliver(0)),
            Step::Lose(place) if on_wire > 0 => {
                self.wire.remove(place % on_wire);
                self.coverage.count("lost");
                Ok(())
            }
            Step::Repeat(place) if on_wire > 0 => {
                self.wire.push(self.wire[place % on_wire].clone());
                self.coverage.count("repeated");
                Ok(())
            }
            Step::Deliver(_) | Step::Lose(_) | Step::Repeat(_) => Ok(()),
            Step::Elect(id) => self.elect(*id),
            Step::At(id, act) => self.act(*id, act),
            Step::AtLeader(id, act) => self.act(self.leader().unwrap_or(*id), act),
            Step::Cut(from, to) => {
                self.cut.insert((*from, *to));
                Ok(())
            }
            Step::Split(side) => {
                for (from, to) in self.ids.iter().flat_map(|from| self.ids.iter().map(move |to| (*from, *to))) {
                    if side.contains(&from) != side.contains(&to) {
                        self.cut.insert((from, to));
                    }
                }
                Ok(())
            }
            Step::Heal => {
                self.cut.clear();
                Ok(())
            }
            Step::Settle => self.settle(),
        }
    }

    fn act(&mut self, id: Id, act: &Act) -> Outcome {
        if matches!(act, Act::Restart) {
            self.theirs.set_stored_commit(id, self.ours.stored_commit(id));
        }
        let accepted = (self.ours.act(id, act), self.theirs.act(id, act));
        if accepted.0 != accepted.1 {
            return Err(format!("{act:?} at {id} is accepted by ours: {}, by theirs: {}", accepted.0, accepted.1));
        }
        self.coverage.acted(act, accepted.0);
        self.compare(id)
    }

    fn elect(&mut self, id: Id) -> Outcome {
        self.ids.clone().into_iter().try_for_each(|other| self.act(other, &Act::Silent))?;
        self.act(id, &Act::Campaign)
    }

    /// Takes a message off the wire and delivers it, unless the way is cut.
    fn deliver(&mut self, place: usize) -> Outcome {
        let Pair { said: Said { from, to, .. }, ours, theirs } = self.wire.remove(place);
        // raft-rs takes an answer of an earlier membership for one of the present one (its issue 571)
        if self.cut.contains(&(from, to)) || self.ours.is_of_earlier_membership(to, &ours) {
            self.coverage.count("lost");
            return Ok(());
        }
        self.coverage.count("delivered");
        self.ours.step(to, ours);
        self.theirs.step(to, theirs);
        self.compare(to)
    }

    /// Leaders beat and everything arrives in order, again and again.
    fn settle(&mut self) -> Outcome {
        for _ in 0..4 {
            for _ in 0..10_000 {
                if self.wire.is_empty() {
                    break;
                }
                self.deliver(0)?;
            }
            if let Some(pair) = self.wire.first() {
                return Err(format!("messages without an end: {:?}", pair.said));
            }
            self.ids.clone().into_iter().try_for_each(|id| self.act(id, &Act::Beat))?;
        }
        self.coverage.count("rests");
        Ok(())
    }

    /// Everything works again: both must get a leader that commits, and end up the same.
    fn converge(&mut self) -> Outcome {
        self.cut.clear();
        for round in 0..40 {
            self.settle()?;
            if let Some(leader) = self.leader() {
                self.act(leader, &Act::Abort)?;
                self.settle()?;
                self.act(leader, &Act::Propose(1_000_000 + round))?;
                self.settle()?;
                if self.is_at_rest(leader) {
                    return Ok(());
                }
            }
            for id in self.ids.clone() {
                self.act(id, &Act::CheckQuorum)?;
            }
            self.elect(self.ids[round as usize % self.ids.len()])?;
        }
        Err(format!("no leader that commits: {:?}", self.views))
    }

    /// Whether the leader has committed all that it has, and every member knows.
    fn is_at_rest(&self, leader: Id) -> bool {
        let view = &self.views[&leader];
        let members = view.configs.last().map(|(_, members)| members.clone()).unwrap_or_default();
        view.role == Some(Role::Leader)
            && view.commit == view.last_index()
            && view.commit > 1
            && self.ids.iter().filter(|id| members.contains(**id)).all(|id| self.views[id].commit == view.commit)
    }

    fn leader(&self) -> Option<Id> {
        let leaders = self.views.iter().filter(|(_, view)| view.role == Some(Role::Leader));
        leaders.max_by_key(|(_, view)| view.term).map(|(id, _)| *id)
    }

    /// Compares a node in both worlds, after it did something, and what it sent.
    fn compare(&mut self, id: Id) -> Outcome {
        let ours = self.ours.view(id);
        self.theirs.compact(id, ours.snapshot.0);
        let theirs = self.theirs.view(id);
        if ours != theirs {
            return Err(format!("node {id}: ours is\n{ours:?}\ntheirs is\n{theirs:?}"));
        }
        let before = self.views.insert(id, ours).unwrap_or_default();
        self.coverage.seen(id, &before, &self.views[&id]);
        self.pair(id, &before)
    }

    /// Puts what both sent on the wire. What only one of them sent is lost, if it may be.
    fn pair(&mut self, id: Id, before: &View) -> Outcome {
        let mut theirs = self.theirs.take_sent();
        for (said, ours) in self.ours.take_sent() {
            match theirs.iter().position(|(other, _)| *other == said) {
                Some(place) => {
                    let (said, theirs) = theirs.remove(place);
                    self.wire.push(Pair { said, ours, theirs });
                }
                None if may_be_ours_alone(&said, before) => self.coverage.count("said by ours alone"),
                None => return Err(format!("only ours says {said:?}")),
            }
        }
        for (said, _) in theirs {
            if !may_be_theirs_alone(&said, before, &self.views[&id]) {
                return Err(format!("only theirs says {said:?}"));
            }
            self.coverage.count("said by theirs alone");
        }
        Ok(())
    }
}

/// Ours refuses its vote in an older term too, and orders another node to campaign again when that one still answers.
fn may_be_ours_alone(said: &Said, before: &View) -> bool {
    let has_all = |follower: &Follower| follower.matched == before.last_index();
    let is_ordered = before.transfer == Some(said.to) && before.followers.get(&said.to).is_some_and(has_all);
    match said.body {
        Saying::VoteReply { granted } => !granted,
        Saying::TimeoutNow => is_ordered,
        _ => false,
    }
}

/// When a smaller quorum comes in force, raft-rs counts before the entry that brings it is on disk, and afterwards again.
fn may_be_theirs_alone(said: &Said, before: &View, after: &View) -> bool {
    let is_empty = matches!(&said.body, Saying::Append { entries, .. } if entries.is_empty());
    is_empty && before.configs.last() != after.configs.last()
}
