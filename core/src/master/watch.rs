//! What this server shows of the Master, and what it says of itself as one.

use std::{collections::BTreeSet, time::Instant};

use super::{Body, Council, Event, Flaw, Kind, MasterView, NoQuorum, Saying, Token, provisional::Case};
use crate::id::Id;

impl Council {
    /// Who is the Master, as last told by [`Event::Master`].
    pub fn view(&self) -> MasterView {
        self.told_view
    }

    /// Whether [`witnessed`](Self::witnessed) matters: this is the last one of two members, out of touch with the other.
    pub fn wants_witnesses(&self) -> bool {
        self.is_heir() && self.roster.ids().any(|id| id != self.id && !self.links.contains_key(&id))
    }

    /// Compares what is to be shown with what was told, and says that this server is the Master if it is.
    pub(super) fn watch(&mut self, now: Instant) {
        self.remember_lease();
        let is_master = self.is_valid(now);
        let is_heir = self.weigh_heir(now, is_master);
        let kind = if is_master { Some(Kind::Elected) } else { is_heir.then_some(Kind::Provisional) };
        let own = kind.and_then(|kind| self.own_token(kind));
        self.say(now, own);
        let lease = self.settings.timing.election_min;
        self.horizon.forget_silent(now, lease);
        // what this server said itself counts as heard, but not beyond its guard
        let heard = self.horizon.token(now, lease).filter(|token| token.id != self.id);
        let view = match own.into_iter().chain(heard).max() {
            Some(token) => MasterView::Master(token),
            None => MasterView::NoMaster(self.no_quorum()),
        };
        if view != self.told_view {
            self.told_view = view;
            self.event(Event::Master(view));
        }
    }

    /// When [`watch`](Self::watch) must look again without any input.
    pub(super) fn view_deadline(&self) -> Option<Instant> {
        let is_shown = self.told_view.master() == Some(self.id);
        let end = self.valid_until().filter(|_| is_shown);
        let say = Some(self.say_at).filter(|_| is_shown);
        let lost = self.horizon.deadline(self.settings.timing.election_min);
        let heir = self.heir.deadline(self.settings.provisional_after).filter(|_| self.is_heir());
        [end, say, lost, heir].into_iter().flatten().min()
    }

    /// Takes what a Master says, and passes it on if it is new.
    pub(super) fn on_saying(&mut self, now: Instant, from: Id, saying: Saying) {
        if self.has(Flaw::LastWordCounts) {
            self.horizon.overrule(now, saying);
            return;
        }
        if saying.token.id == self.id || !self.horizon.hear(now, saying, self.settings.timing.election_min) {
            return;
        }
        let others: Vec<Id> = self.links.keys().copied().filter(|id| *id != from && *id != saying.token.id).collect();
        for to in others {
            self.send(to, Body::Saying(saying));
        }
    }

    /// The token that this server has, or would have.
    pub(super) fn own_token(&self, kind: Kind) -> Option<Token> {
        let generation = self.allegiance?.generation.number;
        Some(Token { generation, kind, term: self.raft.raft().term(), id: self.id })
    }

    fn say(&mut self, now: Instant, own: Option<Token>) {
        let Some(token) = own else { return };
        let is_new = self.told_view.token() != Some(token);
        if !is_new && now < self.say_at {
            return;
        }
        self.say_at = now.checked_add(self.settings.say_every()).unwrap_or(now);
        self.round = self.round.saturating_add(1);
        let saying = Saying { token, round: self.round };
        self.horizon.hear(now, saying, self.settings.timing.election_min);
        self.send_to_all(&Body::Saying(saying));
    }

    /// Whether this server shows itself as Provisional Master.
    fn weigh_heir(&mut self, now: Instant, is_master: bool) -> bool {
        let older = self.roster.ids().find(|id| *id != self.id);
        let heard = self.horizon.token(now, self.settings.timing.election_min);
        let case = Case {
            is_heir: self.is_heir(),
            is_heard: is_master
                || older.is_some_and(|older| self.links.contains_key(&older))
                || heard.is_some_and(|token| token.kind == Kind::Elected),
            is_vetoed: older.is_some_and(|older| self.witnessed.contains(&older)) && !self.has(Flaw::IgnoreVeto),
        };
        self.heir.weigh(now, case, self.settings.provisional_after)
    }

    /// Of two members, the one without a vote.
    fn is_heir(&self) -> bool {
        let config = self.raft.raft().committed_config();
        let members: BTreeSet<Id> = self.roster.ids().collect();
        self.is_placed() && members.len() == 2 && members == config.members() && config.learners.contains(&self.id)
    }

    fn no_quorum(&self) -> Option<NoQuorum> {
        let voters = &self.raft.raft().config().voters;
        NoQuorum::of(voters, |id| *id == self.id || self.links.contains_key(id))
    }
}
