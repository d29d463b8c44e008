//! News for the application, to any number of readers.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use async_channel::{Receiver, Sender};
use p2pcore::Event;

/// How many events wait for one reader; past it, new ones are counted as missed.
const MAX_EVENTS: usize = 65_536;

/// A reader of events. It sees what happens after it was made; the first one sees everything since the start.
#[derive(Debug)]
pub struct Events {
    receiver: Receiver<Event>,
    missed: Arc<AtomicU64>,
}

impl Events {
    /// The next event; `None` when the node has ended.
    pub async fn next(&self) -> Option<Event> {
        self.receiver.recv().await.ok()
    }

    /// The next event, if there is one already.
    pub fn try_next(&self) -> Option<Event> {
        self.receiver.try_recv().ok()
    }

    /// How many events were dropped since the last call because this reader was too slow (over 65,536 behind).
    pub fn take_missed(&self) -> u64 {
        self.missed.swap(0, Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct Subscriber {
    sender: Sender<Event>,
    missed: Arc<AtomicU64>,
}

impl Subscriber {
    fn put(&self, event: Event) {
        if self.sender.len() >= MAX_EVENTS || self.sender.try_send(event).is_err() {
            self.missed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[derive(Debug)]
struct State {
    subscribers: Vec<Subscriber>,
    /// What happened before the first reader came.
    backlog: Option<VecDeque<Event>>,
    closed: bool,
}

/// Copies events to the readers.
#[derive(Debug)]
pub(crate) struct Hub(Mutex<State>);

impl Default for Hub {
    fn default() -> Self {
        Self(Mutex::new(State { subscribers: Vec::new(), backlog: Some(VecDeque::new()), closed: false }))
    }
}

impl Hub {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn subscribe(&self) -> Events {
        let (sender, receiver) = async_channel::unbounded();
        let missed = Arc::new(AtomicU64::new(0));
        let subscriber = Subscriber { sender, missed: missed.clone() };
        let mut state = self.lock();
        for event in state.backlog.take().into_iter().flatten() {
            subscriber.put(event);
        }
        if !state.closed {
            state.subscribers.push(subscriber);
        }
        Events { receiver, missed }
    }

    pub(crate) fn put(&self, event: Event) {
        let mut state = self.lock();
        if let Some(backlog) = &mut state.backlog {
            if backlog.len() < MAX_EVENTS {
                backlog.push_back(event);
            }
            return;
        }
        state.subscribers.retain(|subscriber| !subscriber.sender.is_closed());
        if let Some((last, others)) = state.subscribers.split_last() {
            others.iter().for_each(|subscriber| subscriber.put(event.clone()));
            last.put(event);
        }
    }

    /// No more events: the readers get `None` after what they have.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.subscribers.clear();
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::block_on;

    use super::*;

    #[test]
    fn the_first_reader_sees_what_happened_before_it() {
        let hub = Hub::default();
        hub.put(Event::Suspended);
        let first = hub.subscribe();
        let second = hub.subscribe();
        hub.put(Event::Resumed);
        hub.close();
        assert_eq!(block_on(first.next()), Some(Event::Suspended));
        assert_eq!(block_on(first.next()), Some(Event::Resumed));
        assert_eq!(block_on(first.next()), None);
        assert_eq!(block_on(second.next()), Some(Event::Resumed));
        assert_eq!(block_on(hub.subscribe().next()), None);
    }

    #[test]
    fn a_slow_reader_learns_how_many_it_missed() {
        let hub = Hub::default();
        let events = hub.subscribe();
        for _ in 0..MAX_EVENTS + 3 {
            hub.put(Event::Resumed);
        }
        assert_eq!((events.take_missed(), events.take_missed()), (3, 0));
    }
}
