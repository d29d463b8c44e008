//! Whether this server may act as Master right now.

use std::time::Instant;

/// What ends the office of an Elected Master before its lease does.
#[derive(Clone, Debug, Default)]
pub(super) struct Guard {
    /// The latest term in which this server, as its leader, has committed an entry: it knows all that was committed before.
    confirmed: Option<u64>,
    /// The office of this term was given up.
    given_up: Option<u64>,
}

impl Guard {
    pub(super) fn confirm(&mut self, term: u64) {
        self.confirmed = Some(term);
    }

    pub(super) fn is_confirmed(&self, term: u64) -> bool {
        self.confirmed == Some(term)
    }

    pub(super) fn give_up(&mut self, term: u64) {
        self.given_up = Some(term);
    }

    pub(super) fn is_given_up(&self, term: u64) -> bool {
        self.given_up == Some(term)
    }

    /// Until when it holds in `term` under this lease.
    pub(super) fn until(&self, term: u64, lease: Option<Instant>) -> Option<Instant> {
        lease.filter(|_| self.is_confirmed(term) && !self.is_given_up(term))
    }
}
