//! What the application and the operator may do.

use std::time::Instant;

use super::{Allegiance, Council, Generation, Kind, Standing, Token, Wish};
use crate::{
    id::Id,
    raft::{self, Role},
};

/// Why a command is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum CommandError {
    /// This server belongs to no cluster.
    #[error("this server belongs to no cluster: it must be admitted, or found one, first")]
    NoCluster,
    /// That server is not a committed member.
    #[error("server {0} is no member: `members list` shows who is")]
    NotAMember(Id),
    /// It is the only member.
    #[error("server {0} is the only member: without it there is no cluster")]
    OnlyMember(Id),
    /// Nobody leads at present.
    #[error("no leader is known: this needs a quorum of the voters")]
    NoLeader,
    /// There were more forced clusters than can be counted.
    #[error("no generation is left")]
    NoGeneration,
}

/// Why the office of Master is not handed over.
pub type TransferError = raft::TransferError<Id>;

impl Council {
    /// Until when this server may act as Master: it is elected, knows all that was committed before, and nobody else can be
    /// elected until then. `None` if it may not. Ask each time: it may end before the time told earlier.
    pub fn valid_until(&self) -> Option<Instant> {
        let term = self.raft.raft().term();
        if let Some(until) = self.stale_lease().map(|(_, until)| until).or(self.provisional_lease()) {
            return Some(until);
        }
        // a leader that is on its way out of the voters leads to the end of that, but is no Master any more
        let is_voter = self.raft.raft().config().voters.contains(&self.id);
        self.guard.until(term, self.raft.lease_until()).filter(|_| is_voter && self.is_placed())
    }

    /// Whether this server may act as Master at `now`. False strictly before anybody else can be elected.
    pub fn is_valid(&self, now: Instant) -> bool {
        self.valid_until().is_some_and(|until| now < until)
    }

    /// The token under which this server may act at `now`: give it to each resource that fences.
    pub fn token(&self, now: Instant) -> Option<Token> {
        let stale = self.stale_lease().map(|(token, _)| token);
        self.is_valid(now).then(|| stale.or(self.own_token(Kind::Elected))).flatten()
    }

    /// Gives up the office of Master at once and, if there are other voters, hands it over to one of them. This server may
    /// be elected again, under a new token.
    pub fn resign(&mut self, now: Instant) {
        let role = self.raft.raft().role();
        if role.role != Role::Leader {
            return;
        }
        self.guard.give_up(role.term);
        let config = self.raft.raft().config();
        let sight =
            self.admission.sight(now, self.id, self.raft.raft().commit(), &self.settings, self.raft.raft().progress());
        let heirs = config.voters.iter().filter(|id| *id != self.id && sight.live.contains(id));
        if let Some(heir) = self.roster.by_age(heirs).first() {
            // if that fails this server steps down
            let _ = self.raft.transfer(now, *heir);
        }
        self.settle(now);
    }

    /// Hands the office over to the voter `to`. The own guard ends before the other one is told.
    ///
    /// # Errors
    /// When this server does not lead, or `to` cannot.
    pub fn transfer_to(&mut self, now: Instant, to: Id) -> Result<(), TransferError> {
        let result = self.raft.transfer(now, to);
        self.settle(now);
        result
    }

    /// Asks for the office to be handed over to `to`, from whichever server.
    ///
    /// # Errors
    /// When `to` is no member, or no leader is known.
    pub fn transfer(&mut self, now: Instant, to: Id) -> Result<(), CommandError> {
        self.ask_leader(now, to, Wish::HandOver(to))
    }

    /// Leaves the cluster. [`Event::Out`](super::Event::Out) follows when the others have agreed; it may be awaited for a
    /// while before the server is stopped.
    ///
    /// # Errors
    /// When it is the only member, or belongs to no cluster.
    pub fn leave(&mut self, now: Instant) -> Result<(), CommandError> {
        if self.allegiance.is_none() {
            return Err(CommandError::NoCluster);
        }
        if self.roster.ids().eq([self.id]) {
            return Err(CommandError::OnlyMember(self.id));
        }
        if self.standing == Standing::Active {
            self.standing = Standing::Leaving;
            self.ask_at = now;
            self.on_wish(now, self.id, Wish::Leave(self.membership()), false);
            self.timeout(now);
        }
        Ok(())
    }

    /// Removes a member. If it is alive it stays away until it is started again, and is then a new member.
    ///
    /// # Errors
    /// When `id` is no member or the only one, or no leader is known.
    pub fn remove(&mut self, now: Instant, id: Id) -> Result<(), CommandError> {
        if self.roster.ids().eq([id]) {
            return Err(CommandError::OnlyMember(id));
        }
        self.ask_leader(now, id, Wish::Remove(id))
    }

    /// The way out when the voters are lost for good: begins a new generation of which this server is the only member and
    /// the Elected Master. All others must join it anew; what they had agreed on without this server is void.
    ///
    /// # Errors
    /// When this server belongs to no cluster.
    pub fn force_new_cluster(&mut self, now: Instant) -> Result<(), CommandError> {
        let Allegiance { cluster, generation } = self.allegiance.ok_or(CommandError::NoCluster)?;
        let number = generation.number.checked_add(1).ok_or(CommandError::NoGeneration)?;
        self.found(now, Allegiance { cluster, generation: Generation { number, founder: self.id } });
        self.say_hello();
        self.timeout(now);
        Ok(())
    }

    /// The machine slept, and the clock may have stood still: the guard is void until a quorum answers anew.
    pub fn resumed(&mut self, now: Instant) {
        self.raft.resumed(now);
        self.settle(now);
    }

    fn ask_leader(&mut self, now: Instant, member: Id, wish: Wish) -> Result<(), CommandError> {
        if self.roster.member(&member).is_none() {
            return Err(CommandError::NotAMember(member));
        }
        if self.raft.raft().role().leader.is_none() {
            return Err(CommandError::NoLeader);
        }
        self.on_wish(now, self.id, wish, false);
        self.settle(now);
        Ok(())
    }
}
