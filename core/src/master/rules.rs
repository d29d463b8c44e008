//! How many members make which voters, and the next safe step there.
//!
//! | committed members | voters |
//! |---|---|
//! | 1 | that one |
//! | 2 | the older one; the younger one is a learner |
//! | 3 and more | all, as many as the limit allows; the rest are learners |
//!
//! Only committed members count, never who can be reached: else a partition of five makes two Masters. Reachability
//! decides only whether a step is taken *now*: no newcomer votes before it is stable, and no step leads to where nobody
//! could decide.

use std::collections::BTreeSet;

use super::Roster;
use crate::{
    id::Id,
    raft::{Change, Configuration, Limits, Op},
};

/// What the leader can see of the others.
#[derive(Clone, Debug, Default)]
pub struct Sight {
    /// Who answers, the leader included.
    pub live: BTreeSet<Id>,
    /// Who has been answering for a while and has the whole log.
    pub stable: BTreeSet<Id>,
}

/// What the leader does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing: all is as it should be, or something must happen first.
    Wait,
    /// Change the configuration.
    Change(Change<Id>),
    /// Hand over the leadership: this node will not be a voter.
    HandOver(Id),
}

/// The voters that `roster` asks for, as far as the members are ready for it.
pub fn wanted_voters(config: &Configuration<Id>, roster: &Roster, sight: &Sight, max_voters: usize) -> BTreeSet<Id> {
    let present = &config.voters.incoming;
    // who has lost its disk first loses its place
    let placeable: Vec<Id> = roster.ids().filter(|id| !roster.is_leaving(id)).collect();
    let kept: BTreeSet<Id> = placeable.iter().filter(|id| present.contains(id)).copied().collect();
    let ready = |id: &&Id| kept.contains(id) || sight.stable.contains(id);
    let wanted = if roster.members.len() <= 2 {
        let oldest = roster.ids().next();
        let oldest = placeable.iter().find(|id| oldest == Some(**id)).filter(ready);
        oldest.map_or(kept, |oldest| [*oldest].into())
    } else {
        let room = max_voters.saturating_sub(kept.len());
        let coming = placeable.iter().filter(|id| !kept.contains(id) && sight.stable.contains(id)).take(room);
        let grown: BTreeSet<Id> = kept.iter().chain(coming).copied().collect();
        // two voters fail when either fails: one waits for two others
        match (grown.len(), kept.len()) {
            (2, 0) => grown.into_iter().take(1).collect(),
            (2, 1) if present.len() == 1 => kept,
            _ => grown,
        }
    };
    if wanted.is_empty() { present.clone() } else { wanted }
}

/// The next step of `leader` from the configuration in force towards what `roster` asks for.
pub fn next_step(leader: Id, config: &Configuration<Id>, roster: &Roster, sight: &Sight, limits: &Limits) -> Step {
    if config.voters.is_joint() {
        return Step::Wait;
    }
    let learners = learner_ops(config, roster);
    if !learners.is_empty() {
        return checked(config, Change::Simple(learners), sight, limits);
    }
    let present = &config.voters.incoming;
    let wanted = wanted_voters(config, roster, sight, limits.max_voters);
    if !wanted.contains(&leader) {
        let heirs = roster.by_age(wanted.intersection(present).copied().filter(|id| sight.live.contains(id)));
        if let Some(heir) = heirs.first() {
            return Step::HandOver(*heir);
        }
        let newcomers = roster.by_age(wanted.difference(present).copied());
        return newcomers
            .first()
            .map_or(Step::Wait, |newcomer| checked(config, Change::Simple(vec![Op::Voter(*newcomer)]), sight, limits));
    }
    let coming = wanted.difference(present).map(|id| Op::Voter(*id));
    let is_member = |id: &Id| roster.member(id).is_some() && !roster.is_leaving(id);
    let going = present.difference(&wanted).map(|id| if is_member(id) { Op::Learner(*id) } else { Op::Remove(*id) });
    let ops: Vec<_> = coming.chain(going).collect();
    match ops.len() {
        0 => Step::Wait,
        1 => checked(config, Change::Simple(ops), sight, limits),
        _ => checked(config, Change::Joint(ops), sight, limits),
    }
}

/// Newcomers become learners; learners that are no members any more go. Neither touches a quorum.
fn learner_ops(config: &Configuration<Id>, roster: &Roster) -> Vec<Op<Id>> {
    let placeable: BTreeSet<Id> = roster.ids().filter(|id| !roster.is_leaving(id)).collect();
    let gone = config.learners.difference(&placeable).map(|id| Op::Remove(*id));
    let room = placeable.iter().filter(|id| !config.contains(id)).map(|id| Op::Learner(*id));
    gone.chain(room).collect()
}

/// `change`, if it is legal and those who must decide after it can.
fn checked(config: &Configuration<Id>, change: Change<Id>, sight: &Sight, limits: &Limits) -> Step {
    let next = match &change {
        Change::Simple(ops) => config.simple(ops, 0, limits),
        Change::Joint(ops) => config.enter_joint(ops, 0, limits),
    };
    match next {
        Ok(next) if next.voters.has_quorum(|id| sight.live.contains(id)) => Step::Change(change),
        _ => Step::Wait,
    }
}
