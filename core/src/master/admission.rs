//! What a leader knows of the members and of those who want to be: who answers, who is stable, who asked for what.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{Membership, Roster, Settings, Sight, Wish};
use crate::{id::Id, raft::Progress};

/// Requests that wait for their turn; more are forgotten and asked again.
const MAX_WISHES: usize = 64;

/// How a member answers.
#[derive(Clone, Copy, Debug)]
struct Seen {
    round: u64,
    /// The last answer, or when this leader began.
    at: Instant,
    /// Answers have come without a long gap since then.
    live_since: Option<Instant>,
}

/// The leader's knowledge in one term; it begins anew with each.
#[derive(Clone, Debug, Default)]
pub(super) struct Admission {
    term: u64,
    seen: BTreeMap<Id, Seen>,
    wishes: BTreeMap<Id, (Wish, Duration)>,
}

impl Admission {
    /// Notes who answered; `progress` is Raft's.
    pub(super) fn note<'a>(
        &mut self,
        now: Instant,
        term: u64,
        gap: Duration,
        progress: impl Iterator<Item = (Id, &'a Progress)>,
    ) {
        if self.term != term {
            *self = Self { term, ..Self::default() };
        }
        let mut seen = BTreeMap::new();
        for (id, progress) in progress {
            let mut row = self.seen.get(&id).copied().unwrap_or(Seen { round: 0, at: now, live_since: None });
            if progress.acked_round > row.round {
                let is_live = now.saturating_duration_since(row.at) < gap;
                row = Seen {
                    round: progress.acked_round,
                    at: now,
                    live_since: row.live_since.filter(|_| is_live).or(Some(now)),
                };
            }
            seen.insert(id, row);
        }
        self.seen = seen;
    }

    /// Takes a request; `band` is how far two running times may differ by the way that one of them came.
    pub(super) fn wish(&mut self, wish: Wish, band: Duration) {
        let (Wish::Join { membership: Membership { id, .. }, .. } | Wish::Leave(Membership { id, .. })) = wish else {
            return;
        };
        if self.wishes.len() < MAX_WISHES || self.wishes.contains_key(&id) {
            self.wishes.insert(id, (wish, band));
        }
    }

    /// Removal at a command.
    pub(super) fn remove(&mut self, membership: Membership) {
        self.wish(Wish::Leave(membership), Duration::ZERO);
    }

    /// What was asked for is in a roster now, or came to nothing.
    pub(super) fn granted(&mut self) {
        self.wishes.clear();
    }

    /// `roster` with all that was asked for.
    pub(super) fn grant(&self, mut roster: Roster, max_members: usize) -> Roster {
        for (wish, band) in self.wishes.values() {
            match *wish {
                Wish::Leave(membership) => {
                    let is_member = roster.member(&membership.id).is_some_and(|member| member.membership == membership);
                    if is_member && roster.members.len() > 1 {
                        roster.end(&membership.id, true);
                    }
                }
                Wish::Join { membership, running_ms } => {
                    let is_known = roster.member(&membership.id).is_some();
                    if !roster.is_gone(&membership) && (is_known || roster.members.len() < max_members) {
                        roster.admit(membership, running_ms.map(Duration::from_millis), *band);
                    }
                }
                Wish::Remove(_) | Wish::HandOver(_) => (),
            }
        }
        roster
    }

    /// The member that has been silent the longest, and for so long that it is given up: one at a time, and three must
    /// remain.
    pub(super) fn long_dead(&self, now: Instant, own: Id, roster: &Roster, after: Option<Duration>) -> Option<Id> {
        let after = after.filter(|_| roster.members.len() > 3)?;
        let silent = |id: &Id| self.seen.get(id).map(|seen| now.saturating_duration_since(seen.at));
        // who asks for something is alive
        let is_candidate = |id: &Id| *id != own && !roster.is_leaving(id) && !self.wishes.contains_key(id);
        let members = roster.ids().filter(is_candidate);
        let longest = members.filter_map(|id| Some((silent(&id)?, id))).max()?;
        (longest.0 >= after).then_some(longest.1)
    }

    /// Who answers, and who is ready to vote.
    pub(super) fn sight<'a>(
        &self,
        now: Instant,
        own: Id,
        commit: u64,
        settings: &Settings,
        progress: impl Iterator<Item = (Id, &'a Progress)>,
    ) -> Sight {
        let mut sight = Sight { live: [own].into(), stable: [own].into() };
        for (id, progress) in progress {
            let Some(seen) = self.seen.get(&id) else { continue };
            let is_live = now.saturating_duration_since(seen.at) < settings.timing.election_min;
            let Some(since) = seen.live_since.filter(|_| is_live) else { continue };
            sight.live.insert(id);
            if progress.matched >= commit && now.saturating_duration_since(since) >= settings.stable_after {
                sight.stable.insert(id);
            }
        }
        sight
    }
}
