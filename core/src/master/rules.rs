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
    if !wanted.is_empty() {
        return wanted;
    }
    // nobody is ready: all stay but those who wait for a new place
    let staying: BTreeSet<Id> = present.iter().filter(|id| roster.member(id).is_none()).copied().collect();
    if staying.is_empty() { present.clone() } else { staying }
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
    let mut wanted = wanted_voters(config, roster, sight, limits.max_voters);
    if !wanted.contains(&leader) {
        let heirs = roster.by_age(wanted.intersection(present).copied().filter(|id| sight.live.contains(id)));
        if let Some(heir) = heirs.first() {
            return Step::HandOver(*heir);
        }
        // nobody is there yet to hand over to: the leader stays for one step more
        let room = limits.max_voters.saturating_sub(1);
        wanted = roster.by_age(wanted).into_iter().take(room).chain([leader]).collect();
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::{collection, prelude::*};

    use super::*;
    use crate::master::{
        Membership,
        tests::{membership, server, steps_are_safe},
    };

    fn ids(nodes: &[u8]) -> BTreeSet<Id> {
        nodes.iter().map(|node| server(*node)).collect()
    }

    /// Members in this order.
    fn roster(nodes: &[u8]) -> Roster {
        let mut roster = Roster::default();
        for node in nodes {
            roster.admit(membership(*node), None, Duration::ZERO);
        }
        roster
    }

    fn config(voters: &[u8], learners: &[u8]) -> Configuration<Id> {
        Configuration::new(ids(voters), ids(learners), 1)
    }

    fn all(nodes: &[u8]) -> Sight {
        Sight { live: ids(nodes), stable: ids(nodes) }
    }

    /// The second membership of a server that lost its disk.
    fn again(node: u8) -> Membership {
        Membership { join: crate::id::Incarnation { counter: 2, random: [node; 16] }, ..membership(node) }
    }

    /// All are alive; those who lost their disks do not answer for their old places.
    fn with_disk(roster: &Roster) -> Sight {
        let live: BTreeSet<Id> =
            (1..=9).map(server).filter(|id| !roster.is_leaving(id) || roster.member(id).is_none()).collect();
        Sight { live: live.clone(), stable: live }
    }

    fn step(leader: u8, from: &Configuration<Id>, roster: &Roster, sight: &Sight) -> Step {
        next_step(server(leader), from, roster, sight, &Limits::default())
    }

    fn simple(ops: &[Op<Id>]) -> Step {
        Step::Change(Change::Simple(ops.to_vec()))
    }

    /// Does the steps until there is none, and tells all configurations on the way.
    fn walk(mut leader: Id, from: Configuration<Id>, roster: &Roster, sight: &Sight) -> (Id, Vec<Configuration<Id>>) {
        let mut way = vec![from];
        for index in 2..50 {
            let last = way.last().unwrap().clone();
            match next_step(leader, &last, roster, sight, &Limits::default()) {
                Step::Wait => break,
                Step::HandOver(to) => {
                    assert!(last.voters.contains(&to) && sight.live.contains(&to));
                    leader = to;
                }
                Step::Change(Change::Simple(ops)) => way.push(last.simple(&ops, index, &Limits::default()).unwrap()),
                Step::Change(Change::Joint(ops)) => {
                    let joint = last.enter_joint(&ops, index, &Limits::default()).unwrap();
                    way.push(joint.clone());
                    way.push(joint.leave_joint().unwrap());
                }
            }
        }
        (leader, way)
    }

    #[test]
    fn a_newcomer_learns_first_whoever_it_is() {
        for nodes in [&[1, 2][..], &[2, 1], &[1, 2, 3]] {
            let step = step(1, &config(&[1], &[]), &roster(nodes), &all(&[1, 2, 3]));
            let newcomers = ids(nodes).into_iter().filter(|id| *id != server(1));
            assert_eq!(step, simple(&newcomers.map(Op::Learner).collect::<Vec<_>>()));
        }
    }

    #[test]
    fn one_to_three_goes_at_once_and_only_with_two_stable_others() {
        let (from, roster) = (config(&[1], &[2, 3]), roster(&[1, 2, 3]));
        assert_eq!(step(1, &from, &roster, &all(&[1, 3])), Step::Wait);
        let Step::Change(Change::Joint(ops)) = step(1, &from, &roster, &all(&[1, 2, 3])) else { panic!("not joint") };
        assert_eq!(ops.len(), 2);
    }

    #[test]
    fn three_to_two_ends_with_the_older_alone_whoever_leaves() {
        for leaver in [1, 2, 3] {
            let mut roster = roster(&[1, 2, 3]);
            roster.end(&server(leaver), true);
            let older = if leaver == 1 { 2 } else { 1 };
            for leader in [1, 2, 3] {
                let (last, way) = walk(server(leader), config(&[1, 2, 3], &[]), &roster, &all(&[1, 2, 3]));
                let end = way.last().unwrap();
                assert_eq!((last, &end.voters.incoming), (server(older), &ids(&[older])));
                assert_eq!(end.members(), roster.ids().collect());
                steps_are_safe(way.iter()).unwrap();
            }
        }
    }

    #[test]
    fn an_exchange_at_two_goes_through_both() {
        let from = config(&[1], &[2]);
        let mut leaves = roster(&[1, 2]);
        leaves.end(&server(1), true);
        for roster in [roster(&[2, 1]), leaves] {
            let (leader, way) = walk(server(1), from.clone(), &roster, &all(&[1, 2]));
            let voters: Vec<_> = way.iter().map(|config| config.voters.incoming.clone()).collect();
            assert_eq!((leader, voters), (server(2), vec![ids(&[1]), ids(&[1, 2]), ids(&[2])]));
        }
    }

    #[test]
    fn no_step_leads_to_where_nobody_could_decide() {
        // 1 is dead: among 1 and 2 it would have to agree to everything
        let mut roster = roster(&[1, 2, 3]);
        roster.end(&server(3), true);
        assert_eq!(step(2, &config(&[1, 2, 3], &[]), &roster, &all(&[2, 3])), Step::Wait);
        // the only voter leaves, and the other one is dead
        roster.end(&server(1), true);
        roster.clear(|id| *id == server(1));
        assert_eq!(step(1, &config(&[1], &[2]), &roster, &all(&[1])), Step::Wait);
    }

    #[test]
    fn who_lost_its_disk_loses_its_place_before_it_gets_another_one() {
        let mut roster = roster(&[1, 2, 3]);
        roster.admit(again(3), None, Duration::ZERO);
        let sight = all(&[1, 2]);
        assert_eq!(step(1, &config(&[1, 2, 3], &[]), &roster, &sight), simple(&[Op::Remove(server(3))]));
        assert_eq!(
            step(1, &config(&[1, 2], &[]), &roster, &sight),
            Step::Wait,
            "until the roster says that it is cleared"
        );
        roster.clear(|_| false);
        assert_eq!(step(1, &config(&[1, 2], &[]), &roster, &sight), simple(&[Op::Learner(server(3))]));
        assert_eq!(step(1, &config(&[1, 2], &[3]), &roster, &all(&[1, 2, 3])), simple(&[Op::Voter(server(3))]));
    }

    #[test]
    fn a_joint_configuration_is_left_by_raft_itself() {
        let joint =
            config(&[1], &[]).enter_joint(&[Op::Voter(server(2)), Op::Remove(server(1))], 2, &Limits::default());
        assert_eq!(step(1, &joint.unwrap(), &roster(&[1]), &all(&[1, 2])), Step::Wait);
    }

    #[test]
    fn the_check_of_steps_notices_a_direct_one() {
        for (from, to) in [(&[1][..], &[1, 2, 3][..]), (&[1, 2, 3], &[1]), (&[1], &[2])] {
            assert!(steps_are_safe([config(from, &[]), config(to, &[])].iter()).is_err(), "{from:?} {to:?}");
        }
    }

    /// Voters, learners, the order of the members, some of whom ended and some of these lost their disks and came back; who
    /// is stable.
    fn situation() -> impl Strategy<Value = (Configuration<Id>, Roster, Vec<u8>)> {
        let order = Just((1..=9).collect::<Vec<u8>>()).prop_shuffle();
        let nodes = || collection::btree_set(1u8..=9, 0..9);
        (collection::btree_set(1u8..=9, 1..=7), nodes(), order, nodes(), nodes(), nodes(), nodes()).prop_map(
            |(voters, learners, order, out, ended, back, stable)| {
                let voters: Vec<u8> = voters.into_iter().collect();
                let learners: Vec<u8> = learners.into_iter().filter(|node| !voters.contains(node)).collect();
                let members: Vec<u8> = order.into_iter().filter(|node| !out.contains(node)).collect();
                let mut roster = roster(&members);
                for node in ended {
                    if roster.members.len() > 1 {
                        roster.end(&server(node), false);
                    }
                    if back.contains(&node) {
                        roster.admit(again(node), None, Duration::ZERO);
                    }
                }
                (config(&voters, &learners), roster, stable.into_iter().collect())
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, max_global_rejects: 1_000_000, failure_persistence: None, ..ProptestConfig::default() })]

        /// From any configuration, with all alive, the steps reach the one that the rule asks for, each safe.
        #[test]
        fn all_ways_lead_to_the_rule((from, mut roster, _) in situation(), leader in any::<prop::sample::Index>()) {
            let mut sight = with_disk(&roster);
            prop_assume!(from.voters.has_quorum(|id| sight.live.contains(id)));
            let voters: Vec<Id> = from.voters.iter().filter(|id| sight.live.contains(id)).collect();
            let mut leader = voters[leader.index(voters.len())];
            let mut way = vec![from];
            for _ in 0..4 {
                let (next, steps) = walk(leader, way.last().unwrap().clone(), &roster, &sight);
                way.extend(steps.into_iter().skip(1));
                leader = next;
                // those whose place is cleared may get another one now
                roster.clear(|id| way.last().is_some_and(|config| config.contains(id)));
                sight = with_disk(&roster);
            }
            prop_assert_eq!(steps_are_safe(way.iter()), Ok(()));
            for pair in way.windows(2) {
                prop_assert!(quorums_meet(&pair[0], &pair[1]), "{:?} {:?}", pair[0], pair[1]);
            }
            let end = way.last().unwrap();
            let members: BTreeSet<Id> = roster.ids().collect();
            if !members.is_empty() {
                let count = if members.len() < 3 { 1 } else { members.len().min(7) };
                prop_assert_eq!(end.members(), members);
                prop_assert_eq!(end.voters.incoming.len(), count);
                if count == 1 {
                    prop_assert_eq!(end.voters.iter().next(), roster.ids().next(), "the oldest one");
                }
            }
        }

        /// Whoever is alive, whoever is stable: each step is safe, brings in nobody who is not stable, and those who must
        /// decide after it can. The steps end.
        #[test]
        fn no_step_is_unsafe((from, roster, stable) in situation()) {
            let voters: Vec<Id> = from.voters.iter().collect();
            let sight = Sight { live: ids(&stable), stable: ids(&stable) };
            let (leader, way) = walk(voters[0], from, &roster, &sight);
            prop_assert_eq!(steps_are_safe(way.iter()), Ok(()));
            for pair in way.windows(2) {
                prop_assert!(quorums_meet(&pair[0], &pair[1]));
                prop_assert!(pair[1].voters.has_quorum(|id| sight.live.contains(id)));
                let newcomers = pair[1].voters.incoming.difference(&pair[0].voters.incoming);
                prop_assert!(newcomers.into_iter().all(|id| sight.stable.contains(id)));
            }
            prop_assert_eq!(next_step(leader, way.last().unwrap(), &roster, &sight, &Limits::default()), Step::Wait);
        }
    }

    /// Whether each quorum of the one shares a voter with each quorum of the other, by trying all.
    fn quorums_meet(a: &Configuration<Id>, b: &Configuration<Id>) -> bool {
        let voters: Vec<Id> = a.voters.iter().chain(b.voters.iter()).collect::<BTreeSet<_>>().into_iter().collect();
        (0..1u32 << voters.len()).all(|side| {
            let is_here =
                |id: &Id| voters.iter().position(|voter| voter == id).is_some_and(|place| side >> place & 1 == 1);
            !(a.voters.has_quorum(is_here) && b.voters.has_quorum(|id| !is_here(id)))
        })
    }
}
