//! The one event heap: what happens next, by (time, sequence).

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

/// Events in the order of their times; those of one time in the order in which they were scheduled.
#[derive(Debug)]
pub struct Schedule<E> {
    heap: BinaryHeap<Reverse<Entry<E>>>,
    sequence: u64,
}

#[derive(Debug)]
struct Entry<E> {
    key: (Duration, u64),
    event: E,
}

impl<E> Default for Schedule<E> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), sequence: 0 }
    }
}

impl<E> Schedule<E> {
    /// Adds an event at virtual time `at`.
    pub fn push(&mut self, at: Duration, event: E) {
        self.heap.push(Reverse(Entry { key: (at, self.sequence), event }));
        self.sequence += 1;
    }

    /// The time of the next event.
    pub fn next_at(&self) -> Option<Duration> {
        self.heap.peek().map(|Reverse(entry)| entry.key.0)
    }

    /// Takes the next event if it is not after `until`.
    pub fn pop_until(&mut self, until: Duration) -> Option<(Duration, E)> {
        if self.next_at()? > until {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| (entry.key.0, entry.event))
    }

    /// Moves the events that `which` names forward to `now`; they keep their order.
    pub fn hasten(&mut self, now: Duration, which: impl Fn(&E) -> bool) {
        let mut entries = std::mem::take(&mut self.heap).into_sorted_vec();
        entries.reverse();
        for Reverse(entry) in entries {
            let at = if which(&entry.event) { entry.key.0.min(now) } else { entry.key.0 };
            self.push(at, entry.event);
        }
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key.cmp(&other.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_comes_first_and_then_the_order_of_scheduling() {
        let mut schedule = Schedule::default();
        for (at, event) in [(2, 'c'), (1, 'a'), (2, 'd'), (1, 'b'), (3, 'e')] {
            schedule.push(Duration::from_secs(at), event);
        }
        let order: String =
            std::iter::from_fn(|| schedule.pop_until(Duration::from_secs(2))).map(|(_, event)| event).collect();
        assert_eq!(order, "abcd");
        assert_eq!(schedule.next_at(), Some(Duration::from_secs(3)));
    }

    #[test]
    fn hastened_events_come_now_and_in_their_order() {
        let mut schedule = Schedule::default();
        for (at, event) in [(9, 'c'), (7, 'B'), (8, 'C'), (6, 'a'), (1, 'A')] {
            schedule.push(Duration::from_secs(at), event);
        }
        schedule.hasten(Duration::from_secs(5), |event| event.is_uppercase());
        let order: Vec<(u64, char)> = std::iter::from_fn(|| schedule.pop_until(Duration::from_secs(9)))
            .map(|(at, event)| (at.as_secs(), event))
            .collect();
        assert_eq!(order, [(1, 'A'), (5, 'B'), (5, 'C'), (6, 'a'), (9, 'c')]);
    }
}
