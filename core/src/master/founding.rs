//! Several servers that are started at once and found one cluster together.
//!
//! Each one tells all others whether it yields; whoever yields once never founds by itself. The founder is who has not
//! yielded while all others have: of two such, each would need the other to have yielded. If all yielded, because each
//! took another one for the oldest, nobody can have founded, and the smallest Id does.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::Warning;
use crate::id::Id;

/// What another server said of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Other {
    /// Since when it has been running, at the latest.
    since: Option<Instant>,
    before: Duration,
    yields: bool,
}

/// The wait for `servers` servers, this one included.
#[derive(Clone, Debug)]
pub(super) struct Expecting {
    servers: usize,
    others: BTreeMap<Id, Other>,
    yields: bool,
    /// Since when all have been there and nothing was decided.
    complete_since: Option<Instant>,
    /// Since when so many are there, and whether somebody was warned that they are too few.
    short: Option<(Instant, usize, bool)>,
}

/// Two servers that both take themselves for the oldest are told apart by their Ids after so long.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long too few servers are there before somebody is warned.
const SHORT: Duration = Duration::from_secs(10);

impl Expecting {
    pub(super) fn new(servers: usize) -> Self {
        Self { servers, others: BTreeMap::new(), yields: false, complete_since: None, short: None }
    }

    pub(super) fn yields(&self) -> bool {
        self.yields
    }

    pub(super) fn heard(&mut self, now: Instant, from: Id, running_ms: u64, yields: bool) {
        let before = Duration::from_millis(running_ms);
        self.others.insert(from, Other { since: Some(now), before, yields });
    }

    pub(super) fn unlinked(&mut self, id: &Id) {
        // others come and go: they wait for no founder
        if self.others.remove(id).is_some() {
            self.complete_since = None;
        }
    }

    /// How many servers are there, if they have been too few for long; once for each number.
    pub(super) fn too_few(&mut self, now: Instant) -> Option<Warning> {
        let have = self.others.len().saturating_add(1);
        let (since, _, is_told) = self.short.filter(|(_, before, _)| *before == have).unwrap_or((now, have, false));
        let is_due = have < self.servers && !is_told && now.saturating_duration_since(since) >= SHORT;
        self.short = Some((since, have, is_told || is_due));
        is_due.then_some(Warning::TooFew { need: self.servers, have })
    }

    /// Decides what can be decided. Returns whether this server founds the cluster, now.
    pub(super) fn decide(&mut self, now: Instant, own: Id, running: Duration, band: Duration) -> bool {
        if self.others.len().saturating_add(1) < self.servers {
            self.complete_since = None;
            return false;
        }
        let since = *self.complete_since.get_or_insert(now);
        let ages = self.others.iter().map(|(id, other)| (*id, other.age(now))).chain([(own, running)]);
        let ages: Vec<(Id, Duration)> = ages.collect();
        let longest = ages.iter().map(|(_, age)| *age).max().unwrap_or(running);
        let oldest = ages.iter().filter(|(_, age)| age.saturating_add(band) >= longest).map(|(id, _)| *id).min();
        let is_patient = now.saturating_duration_since(since) < PATIENCE;
        let rival = self.others.iter().find(|(id, other)| !other.yields && **id < own);
        if oldest != Some(own) || (!is_patient && rival.is_some()) {
            self.yields = true;
        }
        let all_others_yield = self.others.values().all(|other| other.yields);
        let is_smallest = self.others.keys().all(|other| own < *other);
        all_others_yield && (!self.yields || is_smallest)
    }
}

impl Other {
    fn age(&self, now: Instant) -> Duration {
        let heard = self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        self.before.saturating_add(heard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{master::tests::server, testing::epoch};

    const BAND: Duration = Duration::from_millis(10);

    /// All hear all, again and again; returns who founds.
    fn found(ages_ms: &[u64], skew_ms: &[u64]) -> Vec<usize> {
        let start = epoch();
        let mut all: Vec<_> = ages_ms.iter().map(|_| Expecting::new(ages_ms.len())).collect();
        let mut founders = Vec::new();
        for round in 0..40 {
            let now = start + Duration::from_millis(100 * round);
            let running = |node: usize| Duration::from_millis(ages_ms[node] + 100 * round);
            let yields: Vec<bool> = all.iter().map(Expecting::yields).collect();
            for (node, own) in all.iter_mut().enumerate() {
                for from in (0..ages_ms.len()).filter(|from| *from != node && !founders.contains(from)) {
                    let error = skew_ms[(node * 7 + from * 3) % skew_ms.len()];
                    let running_ms = u64::try_from(running(from).as_millis()).unwrap() + error;
                    own.heard(now, server(from as u8), running_ms, yields[from]);
                }
                if !founders.contains(&node) && own.decide(now, server(node as u8), running(node), BAND) {
                    founders.push(node);
                }
            }
        }
        founders
    }

    #[test]
    fn the_one_running_longest_founds() {
        assert_eq!(found(&[100, 5_000, 300], &[0]), [1]);
        assert_eq!(found(&[9_000], &[0]), [0]);
    }

    #[test]
    fn exactly_one_founds_however_wrong_they_judge_each_others_age() {
        for ages in [[100, 105, 109, 104], [100, 100, 100, 100], [1_000, 1_012, 1_024, 1_036]] {
            for skew in [[0, 5, 40], [30, 0, 15], [50, 50, 0]] {
                assert_eq!(found(&ages, &skew).len(), 1, "{ages:?} {skew:?}");
            }
        }
    }

    #[test]
    fn a_server_that_only_wants_to_join_does_not_keep_two_from_being_told_apart() {
        let (start, mut one) = (epoch(), Expecting::new(2));
        let [low, high] = if server(1) < server(2) { [1, 2] } else { [2, 1] }.map(server);
        for round in 0..20 {
            let now = start + Duration::from_millis(100 * round);
            one.heard(now, low, 100 * round, false);
            assert!(!one.decide(now, high, Duration::from_secs(9), BAND));
            one.unlinked(&server(3));
        }
        assert!(one.yields(), "to the smaller Id, when its time is over");
    }

    #[test]
    fn too_few_servers_are_told_once_for_each_number() {
        let (start, mut one) = (epoch(), Expecting::new(3));
        let told = |one: &mut Expecting, secs| one.too_few(start + Duration::from_secs(secs));
        assert_eq!([told(&mut one, 0), told(&mut one, 9)], [None, None]);
        assert_eq!(told(&mut one, 10), Some(Warning::TooFew { need: 3, have: 1 }));
        assert_eq!(told(&mut one, 30), None);
        one.heard(start, server(2), 1, true);
        assert_eq!([told(&mut one, 40), told(&mut one, 50)], [None, Some(Warning::TooFew { need: 3, have: 2 })]);
        one.heard(start, server(3), 1, true);
        assert_eq!([told(&mut one, 60), told(&mut one, 90)], [None, None]);
    }

    #[test]
    fn nobody_founds_before_all_are_there() {
        let (start, mut one) = (epoch(), Expecting::new(3));
        one.heard(start, server(2), 1, true);
        assert!(!one.decide(start, server(1), Duration::from_secs(9), BAND));
        one.heard(start, server(3), 1, true);
        assert!(one.decide(start, server(1), Duration::from_secs(9), BAND));
    }
}
