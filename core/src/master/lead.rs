//! What a leader does: it brings roster and configuration to where the rules want them, one thing at a time.

use std::time::Instant;

use super::{Body, Council, Flaw, Membership, Standing, Step, Wish, rules::next_step};
use crate::{
    id::Id,
    raft::{self, Role},
};

impl Council {
    /// Takes the next step if there is one. Returns whether something was done that may allow for another one.
    pub(super) fn lead(&mut self, now: Instant) -> bool {
        let role = self.raft.raft().role();
        if role.role != Role::Leader {
            return false;
        }
        self.admission.note(now, role.term, self.settings.timing.election_min, self.raft.raft().progress());
        if self.guard.is_given_up(role.term) && self.raft.raft().transfer_target().is_none() {
            self.raft.step_down(now);
            return false;
        }
        // one thing at a time, and nothing before all that earlier leaders began is committed
        let is_idle = self.raft.raft().commit() == self.raft.raft().last_index();
        if self.raft.raft().transfer_target().is_some() {
            return false;
        }
        if !self.guard.is_confirmed(role.term) || !is_idle {
            return self.has(Flaw::Raft(raft::Flaw::ChangeBeforeNoop)) && self.change_configuration(now);
        }
        self.write_roster(now) || self.change_configuration(now)
    }

    fn write_roster(&mut self, now: Instant) -> bool {
        let config = self.raft.raft().config();
        let mut next = self.roster.clone();
        next.clear(|id| config.contains(id));
        if self.is_valid(now)
            && let Some(dead) = self.admission.long_dead(now, self.id, &next, self.settings.remove_after)
        {
            next.end(&dead, false);
        }
        // who is granted a place shall be compared with the members' present age
        let present = next.clone().aged(self.aged_by(now));
        let granted = self.order_anew(self.admission.grant(present.clone(), self.settings.max_members));
        let is_new = granted != present || next != self.roster;
        let distance = self.raft.raft().last_index().saturating_sub(self.roster_index);
        let is_due = is_new || distance >= self.settings.roster_within();
        let is_done = !is_due || self.raft.propose(granted).is_ok();
        if is_done {
            self.admission.granted();
        }
        is_due && is_done
    }

    fn change_configuration(&mut self, now: Instant) -> bool {
        let raft = self.raft.raft();
        let sight = self.admission.sight(now, self.id, raft.commit(), &self.settings, raft.progress());
        match next_step(self.id, raft.config(), &self.roster, &sight, &self.settings.limits()) {
            Step::Wait => false,
            Step::Change(change) => self.raft.propose_change(&change).is_ok(),
            Step::HandOver(to) => self.raft.transfer(now, to).is_ok(),
        }
    }

    /// Does what somebody asked the leader for, or passes it on to it.
    pub(super) fn on_wish(&mut self, now: Instant, from: Id, wish: Wish, passed_on: bool) {
        if let Some(over) = self.is_over(&wish) {
            // it may not have heard of it: once it is out of the configuration nobody tells it any more
            self.send(over.id, Body::Ended(over));
            return;
        }
        if !self.raft.raft().is_leader() {
            let leader = self.raft.raft().role().leader;
            if let Some(leader) = leader.filter(|leader| !passed_on && *leader != from) {
                self.send(leader, Body::Ask { wish, passed_on: true });
            }
            return;
        }
        match wish {
            Wish::Join { membership, .. } | Wish::Leave(membership) => {
                if membership.id != self.id || self.standing == Standing::Leaving {
                    let rtt =
                        [from, membership.id].iter().filter_map(|id| self.links.get(id)).map(|link| link.rtt).max();
                    self.admission.wish(wish, rtt.unwrap_or_default());
                }
            }
            Wish::Remove(id) => {
                if let Some(member) = self.roster.member(&id) {
                    self.admission.remove(member.membership);
                }
            }
            // the asker sees from the view whether it worked
            Wish::HandOver(to) => _ = self.raft.transfer(now, to),
        }
    }

    /// The membership that asks, if that ended for good. Any server may know: what is committed is never taken back.
    fn is_over(&self, wish: &Wish) -> Option<Membership> {
        let (Wish::Join { membership, .. } | Wish::Leave(membership)) = *wish else { return None };
        let is_member = self.roster.member(&membership.id).is_some_and(|member| member.membership == membership);
        // only a leader with an entry of its term knows all that is committed, and so who was never admitted
        let knows_all = self.raft.raft().is_leader() && self.guard.is_confirmed(self.raft.raft().term());
        let has_left = !is_member && matches!(wish, Wish::Leave(_)) && knows_all;
        let is_over = self.roster.is_gone(&membership) || has_left;
        (is_over && !self.raft.raft().committed_config().contains(&membership.id)).then_some(membership)
    }
}
