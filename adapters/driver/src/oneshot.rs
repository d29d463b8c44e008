//! One value, once, from the driver to a waiting task.

use std::{
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
};

struct State<T> {
    value: Option<T>,
    waker: Option<Waker>,
    sender_gone: bool,
}

struct Cell<T>(Mutex<State<T>>);

impl<T> Cell<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives the value.
pub(crate) struct Sender<T>(Arc<Cell<T>>);

/// Waits for the value.
pub(crate) struct Receiver<T>(Arc<Cell<T>>);

pub(crate) fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let cell = Arc::new(Cell(Mutex::new(State { value: None, waker: None, sender_gone: false })));
    (Sender(cell.clone()), Receiver(cell))
}

impl<T> Sender<T> {
    pub(crate) fn send(self, value: T) {
        self.0.lock().value = Some(value);
    }

    /// As [`send`](Self::send), but leaves it to the caller to wake whoever waits.
    #[must_use]
    pub(crate) fn put(self, value: T) -> Option<Waker> {
        let mut state = self.0.lock();
        state.value = Some(value);
        state.waker.take()
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let waker = {
            let mut state = self.0.lock();
            state.sender_gone = true;
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Receiver<T> {
    /// The value; `None` if the sender is gone without one.
    pub(crate) async fn recv(self) -> Option<T> {
        poll_fn(|cx| {
            let mut state = self.0.lock();
            if let Some(value) = state.value.take() {
                return Poll::Ready(Some(value));
            }
            if state.sender_gone {
                return Poll::Ready(None);
            }
            state.waker = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::block_on;

    use super::*;

    #[test]
    fn gives_the_value_or_says_that_there_is_none() {
        let (sender, receiver) = channel();
        let waiting = std::thread::spawn(move || block_on(receiver.recv()));
        sender.send(7);
        assert_eq!(waiting.join().unwrap(), Some(7));
        let (sender, receiver) = channel::<u8>();
        drop(sender);
        assert_eq!(block_on(receiver.recv()), None);
    }
}
