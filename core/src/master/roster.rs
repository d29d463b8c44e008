//! Who belongs to the cluster, from the oldest on: what the servers agree on through Raft's log.

use std::{cmp::Reverse, time::Duration};

use serde::{Deserialize, Serialize};

use super::durable::millis;
use crate::{
    id::{Id, Incarnation},
    raft::Command,
};

/// Memberships that ended on purpose and are remembered, so that a late request does not revive them.
const MAX_GONE: usize = 32;

/// One membership. A server that lost its disk comes back as another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Membership {
    /// Whose.
    pub id: Id,
    /// The incarnation that asked to join; kept on its disk.
    pub join: Incarnation,
}

/// One member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Member {
    /// Who.
    pub membership: Membership,
    /// For how long it had been running when this was written, in milliseconds; all the time since it was admitted counts.
    pub age_ms: u64,
}

/// The committed members and those whose place in Raft's configuration must still be cleared.
///
/// A roster is a whole: each one in the log replaces the one before. It runs ahead of the configuration, which the
/// [rules](super::rules) move after it step by step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Roster {
    /// From the oldest to the youngest. The order of two members never changes.
    pub members: Vec<Member>,
    /// No members any more, but perhaps still in the configuration.
    pub leaving: Vec<Membership>,
    /// Left or were removed by command; the latest last.
    pub gone: Vec<Membership>,
}

impl Command for Roster {
    fn size(&self) -> usize {
        (self.members.len() + self.leaving.len() + self.gone.len()).saturating_mul(size_of::<Member>())
    }
}

impl Roster {
    /// The roster of a cluster that `first` founds.
    pub fn founding(first: Membership, age: Duration) -> Self {
        Self { members: vec![Member { membership: first, age_ms: millis(age) }], ..Self::default() }
    }

    /// The members' Ids, from the oldest on.
    pub fn ids(&self) -> impl Iterator<Item = Id> {
        self.members.iter().map(|member| member.membership.id)
    }

    /// The present membership of `id`.
    pub fn member(&self, id: &Id) -> Option<&Member> {
        self.members.iter().find(|member| member.membership.id == *id)
    }

    /// Whether `id` is an earlier membership's whose place must be cleared first.
    pub fn is_leaving(&self, id: &Id) -> bool {
        self.leaving.iter().any(|leaving| leaving.id == *id)
    }

    /// Whether this membership was ended on purpose.
    pub fn is_gone(&self, membership: &Membership) -> bool {
        self.gone.contains(membership)
    }

    /// Which membership has the place of `id` in the configuration.
    pub fn placed(&self, id: &Id) -> Option<Incarnation> {
        let leaving = self.leaving.iter().find(|leaving| leaving.id == *id);
        leaving.or(self.member(id).map(|member| &member.membership)).map(|membership| membership.join)
    }

    /// The same some time later.
    pub fn aged(mut self, by: Duration) -> Self {
        for member in &mut self.members {
            member.age_ms = member.age_ms.saturating_add(millis(by));
        }
        self
    }

    /// Admits a newcomer at the place that its age gives it, once and for ever. It goes before the first member that is
    /// younger by more than `band`, or not older by more than that and of a greater Id. Without `running` it is the
    /// youngest. An earlier membership of the same Id ends.
    pub fn admit(&mut self, newcomer: Membership, running: Option<Duration>, band: Duration) {
        let known = self.member(&newcomer.id).map(|member| member.membership);
        if known == Some(newcomer) {
            return;
        }
        let is_first = known.is_none() && !self.is_leaving(&newcomer.id);
        self.end(&newcomer.id, true);
        let running = running.filter(|_| is_first).map(millis);
        let precedes = |member: &Member, running: u64| {
            let is_tie = running.abs_diff(member.age_ms) <= millis(band);
            if is_tie { newcomer.id < member.membership.id } else { running > member.age_ms }
        };
        let place = running.and_then(|running| self.members.iter().position(|member| precedes(member, running)));
        let member = Member { membership: newcomer, age_ms: running.unwrap_or(0) };
        self.members.insert(place.unwrap_or(self.members.len()), member);
    }

    /// Ends the membership of `id`. With `for_good` this very membership is never admitted again.
    pub fn end(&mut self, id: &Id, for_good: bool) {
        let ended: Vec<_> = self.members.extract_if(.., |member| member.membership.id == *id).collect();
        for Member { membership, .. } in ended {
            self.leaving.push(membership);
            if for_good {
                self.gone.push(membership);
            }
        }
        let excess = self.gone.len().saturating_sub(MAX_GONE);
        self.gone.drain(..excess);
    }

    /// Forgets those whose place is cleared.
    pub fn clear(&mut self, is_placed: impl Fn(&Id) -> bool) {
        self.leaving.retain(|leaving| is_placed(&leaving.id));
    }

    /// `ids` from the oldest on; those that are no members come last.
    pub(super) fn by_age(&self, ids: impl IntoIterator<Item = Id>) -> Vec<Id> {
        let mut ids: Vec<Id> = ids.into_iter().collect();
        let place = |id: &Id| self.ids().position(|member| member == *id);
        ids.sort_by_key(|id| (Reverse(place(id).is_some()), place(id), *id));
        ids
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::master::tests::{membership, server};

    const BAND: Duration = Duration::from_millis(50);

    fn secs(secs: u64) -> Option<Duration> {
        Some(Duration::from_secs(secs))
    }

    /// Two Ids in order.
    fn ordered() -> (u8, u8) {
        if server(1) < server(2) { (1, 2) } else { (2, 1) }
    }

    fn founded(first: u8, age: u64) -> Roster {
        Roster::founding(membership(first), Duration::from_secs(age))
    }

    fn order(roster: &Roster, nodes: &[u8]) -> bool {
        roster.ids().eq(nodes.iter().map(|node| server(*node)))
    }

    #[test]
    fn the_one_running_longer_is_the_older() {
        let mut roster = founded(1, 10);
        roster.admit(membership(2), secs(100), BAND);
        roster.admit(membership(3), secs(50), BAND);
        roster.admit(membership(4), secs(1), BAND);
        assert!(order(&roster, &[2, 3, 1, 4]));
    }

    #[test]
    fn within_a_round_trip_the_smaller_id_is_the_older() {
        let (low, high) = ordered();
        for (first, second) in [(low, high), (high, low)] {
            let mut roster = founded(first, 10);
            roster.admit(membership(second), Some(Duration::from_millis(10_050)), BAND);
            assert!(order(&roster, &[low, high]));
            let mut roster = founded(first, 10);
            roster.admit(membership(second), Some(Duration::from_millis(10_051)), BAND);
            assert!(order(&roster, &[second, first]), "beyond it the age decides");
        }
    }

    #[test]
    fn age_is_compared_once_and_later_only_grows() {
        let mut roster = founded(1, 10);
        roster.admit(membership(2), secs(1), BAND);
        let mut later = roster.clone().aged(Duration::from_secs(1_000));
        later.admit(membership(2), secs(9_999), BAND);
        assert!(order(&later, &[1, 2]));
        assert_eq!(later.member(&server(2)).map(|member| member.age_ms), Some(1_001_000));
    }

    #[test]
    fn a_server_without_its_disk_is_the_youngest_and_its_old_place_is_cleared_first() {
        let mut roster = founded(1, 10);
        roster.admit(membership(2), secs(1), BAND);
        let again = Membership { join: Incarnation { counter: 9, random: [9; 16] }, ..membership(1) };
        roster.admit(again, secs(500), BAND);
        assert!(order(&roster, &[2, 1]));
        assert!(roster.is_leaving(&server(1)) && roster.is_gone(&membership(1)) && !roster.is_gone(&again));
        assert_eq!(roster.placed(&server(1)), Some(membership(1).join), "messages go to the old one until then");
        roster.clear(|_| false);
        assert_eq!(roster.placed(&server(1)), Some(again.join));
    }

    #[test]
    fn what_is_remembered_of_the_gone_is_bounded() {
        let mut roster = founded(1, 10);
        for counter in 0..100 {
            let join = Incarnation { counter, random: [0; 16] };
            roster.admit(Membership { join, ..membership(2) }, secs(1), BAND);
        }
        assert_eq!(roster.gone.len(), MAX_GONE);
    }
}
