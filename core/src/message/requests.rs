//! Own requests that wait for a reply.

use std::{collections::BTreeMap, time::Instant};

use crate::{Config, Id, deadline::Deadlines};

/// The requests of this node that have no answer yet, by number.
#[derive(Debug)]
pub struct Requests {
    waiting: BTreeMap<u64, Id>,
    deadlines: Deadlines<u64>,
    next: u64,
    max: usize,
}

/// `Config::max_requests` requests are waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many requests are waiting for a reply: wait for one to end")]
pub struct RequestsFull;

impl Requests {
    /// None yet. Numbers go up from `first`: draw it at random, so that a late reply to an earlier run fits nothing.
    pub fn new(config: &Config, first: u64) -> Self {
        Self { waiting: BTreeMap::new(), deadlines: Deadlines::default(), next: first, max: config.max_requests }
    }

    /// Notes a request to `to` and returns its number, which is never used again.
    ///
    /// # Errors
    /// [`RequestsFull`] at `Config::max_requests`.
    pub fn insert(&mut self, to: Id, deadline: Instant) -> Result<u64, RequestsFull> {
        if self.waiting.len() >= self.max {
            return Err(RequestsFull);
        }
        let rid = self.next;
        self.next = self.next.wrapping_add(1);
        self.waiting.insert(rid, to);
        self.deadlines.set(rid, Some(deadline));
        Ok(rid)
    }

    /// A reply of `from` came: whether it ends a request. False for one that is over, or was not asked of `from`.
    pub fn reply(&mut self, from: Id, rid: u64) -> bool {
        self.waiting.get(&rid) == Some(&from) && self.remove(rid).is_some()
    }

    /// The request is over for another reason; who was asked, if it was waiting.
    pub fn remove(&mut self, rid: u64) -> Option<Id> {
        self.deadlines.set(rid, None);
        self.waiting.remove(&rid)
    }

    /// Any request that waits, and who was asked.
    pub fn pop(&mut self) -> Option<(u64, Id)> {
        let (rid, to) = self.waiting.iter().next().map(|(rid, to)| (*rid, *to))?;
        self.remove(rid);
        Some((rid, to))
    }

    /// The next request that waited too long, and who was asked.
    pub fn pop_due(&mut self, now: Instant) -> Option<(u64, Id)> {
        let rid = self.deadlines.pop_due(now)?;
        self.waiting.remove(&rid).map(|to| (rid, to))
    }

    /// When to call [`pop_due`](Self::pop_due).
    pub fn deadline(&self) -> Option<Instant> {
        self.deadlines.next().map(|(at, _)| at)
    }

    /// Whether one to `id` is waiting: a look at all of them.
    pub fn waits_for(&self, id: &Id) -> bool {
        self.waiting.values().any(|to| to == id)
    }

    /// How many are waiting.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none is waiting.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{PublicKey, Role, testing::epoch};

    fn id(byte: u8) -> Id {
        Id::from_key(Role::Peer, &PublicKey([byte; 32]))
    }

    fn table(max: usize) -> Requests {
        Requests::new(&Config { max_requests: max, ..Config::default() }, 1)
    }

    #[test]
    fn a_reply_ends_a_request_once_and_only_from_whom_it_was_asked() {
        let mut requests = table(9);
        let rid = requests.insert(id(1), epoch()).unwrap();
        assert!(!requests.reply(id(2), rid) && !requests.reply(id(1), rid + 1));
        assert!(requests.reply(id(1), rid));
        assert!(!requests.reply(id(1), rid));
        assert_eq!((requests.deadline(), requests.is_empty()), (None, true));
    }

    #[test]
    fn requests_time_out_in_the_order_of_their_deadlines() {
        let start = epoch();
        let at = |ms| start + Duration::from_millis(ms);
        let mut requests = table(9);
        let late = requests.insert(id(1), at(20)).unwrap();
        let soon = requests.insert(id(2), at(10)).unwrap();
        let never = requests.insert(id(3), at(30)).unwrap();
        assert_eq!(requests.remove(never), Some(id(3)));
        assert_eq!(requests.deadline(), Some(at(10)));
        assert_eq!(requests.pop_due(at(9)), None);
        assert_eq!(requests.pop_due(at(99)), Some((soon, id(2))));
        assert_eq!(requests.pop_due(at(99)), Some((late, id(1))));
        assert_eq!(requests.pop_due(at(99)), None);
        assert!(!requests.reply(id(1), late));
    }

    #[test]
    fn the_table_is_bounded_and_numbers_are_not_used_again() {
        let mut requests = table(1);
        let first = requests.insert(id(1), epoch()).unwrap();
        assert_eq!(requests.insert(id(1), epoch()), Err(RequestsFull));
        assert!(requests.reply(id(1), first));
        assert_ne!(requests.insert(id(1), epoch()).unwrap(), first);
        assert_eq!(requests.len(), 1);
    }
}
