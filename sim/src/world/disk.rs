//! The disk of one node: what a crash leaves, and what is on the way there.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use p2pcore::{
    master::Durable,
    node::{Persist, PersistId},
};

use crate::{plan::DiskFate, rng::Stream};

/// A disk that carries out one order after another, each as a whole.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    pub(super) state: Option<Bytes>,
    /// What that holds of the council.
    pub(super) council: Option<Durable>,
    /// The incarnation's counter; the adapter writes it at each start.
    counter: u64,
    was_lost: bool,
    /// Under way, the oldest first.
    orders: VecDeque<Persist>,
    /// When the last one of them is done.
    idle_at: Duration,
    /// The next order does not survive its process.
    trap: Option<DiskFate>,
    /// What a crash leaves of orders under way.
    choices: Stream,
}

impl Disk {
    pub(super) fn new(seed: u64, number: usize) -> Self {
        Self {
            state: None,
            council: None,
            counter: 0,
            was_lost: false,
            orders: VecDeque::new(),
            idle_at: Duration::ZERO,
            trap: None,
            choices: Stream::new(seed, "disk", number as u64),
        }
    }

    /// The counter of another run.
    pub(super) fn next_counter(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// Whether it was ever lost: a founder comes back as one who joins.
    pub(super) fn was_lost(&self) -> bool {
        self.was_lost
    }

    /// The generation of the cluster that it knows of; 0 if it knows none.
    pub(super) fn generation(&self) -> u64 {
        let allegiance = self.council.as_ref().and_then(|durable| durable.allegiance);
        allegiance.map_or(0, |own| own.generation.number)
    }

    /// Takes an order that takes `time`; returns when it is done.
    pub(super) fn order(&mut self, now: Duration, time: Duration, order: Persist) -> Duration {
        self.idle_at = self.idle_at.max(now + time);
        self.orders.push_back(order);
        self.idle_at
    }

    /// The oldest order under way is done.
    pub(super) fn carry_out(&mut self) -> Option<PersistId> {
        let Persist { id, state } = self.orders.pop_front()?;
        self.state = Some(state);
        Some(id)
    }

    /// All orders under way are done.
    pub(super) fn finish(&mut self) {
        while self.carry_out().is_some() {}
        self.idle_at = Duration::ZERO;
    }

    /// Its process died: of the orders under way some were carried out, each as a whole, unless the disk is torn by one.
    pub(super) fn crash(&mut self, fate: DiskFate) {
        let under_way = self.orders.len();
        if under_way > 0 {
            let done = self.choices.between(0, under_way as u64) as usize;
            if fate == DiskFate::Torn {
                self.lose();
            } else {
                self.orders.truncate(done);
            }
        }
        self.finish();
    }

    /// Nothing is left.
    pub(super) fn lose(&mut self) {
        self.orders.clear();
        (self.state, self.council, self.counter, self.was_lost) = (None, None, 0, true);
    }

    /// Whether the next order shall not survive its process, and what becomes of the disk then.
    pub(super) fn set_trap(&mut self, fate: Option<DiskFate>) {
        self.trap = fate;
    }

    /// What becomes of the order that was given now.
    pub(super) fn take_trap(&mut self) -> Option<DiskFate> {
        self.trap.take()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn order(n: u8) -> Persist {
        Persist { id: PersistId(n.into()), state: Bytes::from(vec![n]) }
    }

    /// A disk that holds 1 while 2 and 3 are under way.
    fn busy(seed: u64) -> Disk {
        let mut disk = Disk::new(seed, 0);
        disk.order(MS, MS, order(1));
        disk.carry_out();
        disk.order(2 * MS, 9 * MS, order(2));
        disk.order(3 * MS, MS, order(3));
        disk
    }

    fn left(fate: DiskFate) -> BTreeSet<Option<Bytes>> {
        let crash = |seed| {
            let mut disk = busy(seed);
            disk.crash(fate);
            assert_eq!(disk.carry_out(), None);
            disk.state
        };
        (0..50).map(crash).collect()
    }

    #[test]
    fn orders_are_carried_out_one_after_the_other() {
        let mut disk = busy(0);
        assert_eq!(disk.order(4 * MS, MS, order(4)), 11 * MS, "not before the one of 9 ms");
        let done: Vec<u64> = std::iter::from_fn(|| disk.carry_out()).map(|id| id.0).collect();
        assert_eq!((done, disk.state), (vec![2, 3, 4], Some(Bytes::from(vec![4]))));
    }

    #[test]
    fn a_crash_leaves_the_old_state_or_a_newer_one_and_a_torn_disk_leaves_nothing() {
        assert_eq!(left(DiskFate::Kept), [1, 2, 3].map(|n| Some(Bytes::from(vec![n]))).into());
        assert_eq!(left(DiskFate::Torn), [None].into());
        let mut idle = Disk::new(0, 0);
        idle.order(MS, MS, order(1));
        idle.carry_out();
        idle.crash(DiskFate::Torn);
        assert!(idle.state.is_some() && !idle.was_lost(), "nothing was under way");
    }

    #[test]
    fn a_lost_disk_counts_anew_and_is_known_as_lost() {
        let mut disk = busy(0);
        assert_eq!((disk.next_counter(), disk.next_counter(), disk.was_lost()), (1, 2, false));
        disk.lose();
        assert_eq!((disk.next_counter(), disk.was_lost(), disk.carry_out()), (1, true, None));
    }
}
