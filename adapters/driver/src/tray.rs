//! What goes between the application's tasks and the driver's, in batches: one lock and at most one wake for each batch.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use event_listener::Event;

/// From many tasks to one that takes all that is there at once.
pub(crate) struct Tray<T> {
    state: Mutex<Filled<T>>,
    room: Event,
    capacity: usize,
}

struct Filled<T> {
    items: VecDeque<T>,
    taker: Option<Waker>,
    is_closed: bool,
}

/// Why an item was given back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused<T> {
    Full(T),
    Closed(T),
}

impl<T> Tray<T> {
    /// It holds up to `capacity` items; zero is taken for one.
    pub(crate) fn new(capacity: usize) -> Self {
        let state = Filled { items: VecDeque::new(), taker: None, is_closed: false };
        Self { state: Mutex::new(state), room: Event::new(), capacity: capacity.max(1) }
    }

    fn lock(&self) -> MutexGuard<'_, Filled<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn try_put(&self, item: T) -> Result<(), Refused<T>> {
        let taker = {
            let mut state = self.lock();
            if state.is_closed {
                return Err(Refused::Closed(item));
            }
            if state.items.len() >= self.capacity {
                return Err(Refused::Full(item));
            }
            state.items.push_back(item);
            state.taker.take()
        };
        if let Some(taker) = taker {
            taker.wake();
        }
        Ok(())
    }

    /// Waits while it is full; gives the item back once it is closed.
    pub(crate) async fn put(&self, mut item: T) -> Result<(), T> {
        let mut listener = None;
        loop {
            item = match self.try_put(item) {
                Ok(()) => return Ok(()),
                Err(Refused::Closed(item)) => return Err(item),
                Err(Refused::Full(item)) => item,
            };
            // what is taken between the attempt and the listening would be missed: try once more before waiting
            match listener.take() {
                None => listener = Some(self.room.listen()),
                Some(listener) => listener.await,
            }
        }
    }

    /// Moves all that is there to the end of `taken`: ready with whether more may come.
    pub(crate) fn poll_take(&self, cx: &mut Context<'_>, taken: &mut VecDeque<T>) -> Poll<bool> {
        let mut state = self.lock();
        if state.items.is_empty() {
            if state.is_closed {
                return Poll::Ready(false);
            }
            if !state.taker.as_ref().is_some_and(|taker| taker.will_wake(cx.waker())) {
                state.taker = Some(cx.waker().clone());
            }
            return Poll::Pending;
        }
        let was_full = state.items.len() >= self.capacity;
        if taken.is_empty() {
            std::mem::swap(&mut state.items, taken);
        } else {
            taken.append(&mut state.items);
        }
        drop(state);
        if was_full {
            self.room.notify(usize::MAX);
        }
        Poll::Ready(true)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.lock().items.len() >= self.capacity
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// Nothing is put any more; what is there can still be taken.
    pub(crate) fn close(&self) {
        let taker = {
            let mut state = self.lock();
            state.is_closed = true;
            state.taker.take()
        };
        if let Some(taker) = taker {
            taker.wake();
        }
        self.room.notify(usize::MAX);
    }
}

impl<T> fmt::Debug for Tray<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tray").field("capacity", &self.capacity).finish_non_exhaustive()
    }
}

/// From one task, in batches, to many that take from it in turn.
pub(crate) struct Shelf<T> {
    state: Mutex<Offered<T>>,
    arrived: Event,
}

struct Offered<T> {
    items: VecDeque<T>,
    is_closed: bool,
}

impl<T> Shelf<T> {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::new(Offered { items: VecDeque::new(), is_closed: false }), arrived: Event::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Offered<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Offers all of `items`, which is empty then, to as many takers as `takers`. Once it is closed, they are dropped.
    pub(crate) fn offer(&self, items: &mut VecDeque<T>, takers: usize) {
        if items.is_empty() {
            return;
        }
        {
            let mut state = self.lock();
            if !state.is_closed {
                if state.items.is_empty() {
                    std::mem::swap(&mut state.items, items);
                } else {
                    state.items.append(items);
                }
            }
        }
        items.clear();
        // beside those who were woken for what was offered before
        self.arrived.notify_additional(takers);
    }

    /// Offers one more; if there are more than `most` then, the oldest goes.
    pub(crate) fn offer_newest(&self, item: T, most: usize) {
        let oldest = {
            let mut state = self.lock();
            if !state.is_closed {
                state.items.push_back(item);
            }
            if state.items.len() > most { state.items.pop_front() } else { None }
        };
        drop(oldest);
        self.arrived.notify_additional(1);
    }

    /// What `take` takes off the front, if there is something already.
    pub(crate) fn try_take_by<U>(&self, take: impl FnOnce(&mut VecDeque<T>) -> Option<U>) -> Option<U> {
        take(&mut self.lock().items)
    }

    /// The next one; `None` when it is closed and empty.
    pub(crate) async fn take(&self) -> Option<T> {
        self.take_by(VecDeque::pop_front).await
    }

    /// What `take` takes off the front, as soon as there is something; `None` when it is closed and empty.
    pub(crate) async fn take_by<U>(&self, take: impl Fn(&mut VecDeque<T>) -> Option<U>) -> Option<U> {
        let mut listener = None;
        loop {
            {
                let mut state = self.lock();
                if let Some(taken) = take(&mut state.items) {
                    return Some(taken);
                }
                if state.is_closed {
                    return None;
                }
            }
            match listener.take() {
                None => listener = Some(self.arrived.listen()),
                Some(listener) => listener.await,
            }
        }
    }

    /// What is there can still be taken.
    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
        self.arrived.notify(usize::MAX);
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread};

    use futures_lite::future::{block_on, poll_fn, poll_once};

    use super::*;

    fn take<T>(tray: &Tray<T>) -> Vec<T> {
        let mut taken = VecDeque::new();
        block_on(poll_fn(|cx| tray.poll_take(cx, &mut taken)));
        taken.into()
    }

    #[test]
    fn a_tray_is_bounded_and_keeps_the_order() {
        let tray = Tray::new(2);
        assert_eq!([tray.try_put(1), tray.try_put(2), tray.try_put(3)], [Ok(()), Ok(()), Err(Refused::Full(3))]);
        assert_eq!(take(&tray), [1, 2]);
        assert_eq!(tray.try_put(4), Ok(()));
        tray.close();
        assert_eq!(tray.try_put(5), Err(Refused::Closed(5)));
        assert_eq!(take(&tray), [4]);
        let mut none = VecDeque::new();
        assert!(!block_on(poll_fn(|cx| tray.poll_take(cx, &mut none))));
    }

    #[test]
    fn who_waits_for_room_gets_it_or_learns_of_the_end() {
        let tray = Arc::new(Tray::new(1));
        let mut sum = 0;
        let givers: Vec<_> = (1..=4)
            .map(|number: u32| {
                let tray = tray.clone();
                thread::spawn(move || (0..1_000).for_each(|_| block_on(tray.put(number)).unwrap()))
            })
            .collect();
        while sum < 10_000 {
            sum += take(&tray).into_iter().sum::<u32>();
        }
        givers.into_iter().for_each(|giver| giver.join().unwrap());
        assert_eq!((sum, tray.try_put(1)), (10_000, Ok(())));
        let waiting = {
            let tray = tray.clone();
            thread::spawn(move || block_on(tray.put(9)))
        };
        thread::yield_now();
        tray.close();
        assert_eq!(waiting.join().unwrap(), Err(9));
    }

    #[test]
    fn who_waits_at_a_shelf_gets_one_each() {
        let shelf = Arc::new(Shelf::new());
        let takers: Vec<_> = (0..3)
            .map(|_| {
                let shelf = shelf.clone();
                thread::spawn(move || std::iter::from_fn(|| block_on(shelf.take())).count())
            })
            .collect();
        for batch in 0..500 {
            shelf.offer(&mut (0..batch % 5).collect(), batch % 5);
        }
        shelf.close();
        assert_eq!(takers.into_iter().map(|taker| taker.join().unwrap()).sum::<usize>(), 1_000);
        shelf.offer(&mut VecDeque::from([1]), 1);
        assert_eq!((block_on(shelf.take()), shelf.try_take_by(VecDeque::pop_front)), (None, None));
    }

    #[test]
    fn of_too_many_the_newest_stay() {
        let shelf = Shelf::new();
        (1..=5).for_each(|item| shelf.offer_newest(item, 3));
        shelf.close();
        shelf.offer_newest(6, 3);
        assert_eq!(std::iter::from_fn(|| block_on(shelf.take())).collect::<Vec<_>>(), [3, 4, 5]);
    }

    #[test]
    fn a_taker_that_gives_up_takes_no_wake_with_it() {
        let shelf = Shelf::new();
        let (mut first, mut second) = (Box::pin(shelf.take()), Box::pin(shelf.take()));
        assert!(block_on(poll_once(&mut first)).is_none() && block_on(poll_once(&mut second)).is_none());
        shelf.offer(&mut VecDeque::from([7]), 1);
        drop(first);
        assert_eq!(block_on(second), Some(7));
    }
}
