//! What became of a message, one outcome for each destination.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use p2pcore::{Id, node::Outcome};

#[derive(Debug)]
struct State {
    first: Option<(Id, Outcome)>,
    /// Those behind the first; nothing is allocated for one destination.
    more: VecDeque<(Id, Outcome)>,
    /// Outcomes that were not taken yet, those to come included.
    left: usize,
    waker: Option<Waker>,
}

/// Where the driver puts the outcomes.
#[derive(Debug)]
pub(crate) struct Slot(Mutex<State>);

impl Slot {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives back whom to wake, if somebody waits.
    #[must_use]
    pub(crate) fn put(self: &Arc<Self>, to: Id, outcome: Outcome) -> Option<Waker> {
        if Arc::strong_count(self) == 1 {
            return None; // nobody waits any more
        }
        let mut state = self.lock();
        match state.first {
            None => state.first = Some((to, outcome)),
            Some(_) => state.more.push_back((to, outcome)),
        }
        state.waker.take()
    }
}

/// The outcomes of one message. Dropping it does not take the message back.
#[derive(Debug)]
pub struct Outcomes(Arc<Slot>);

impl Outcomes {
    pub(crate) fn new(destinations: usize) -> (Self, Arc<Slot>) {
        let state = State { first: None, more: VecDeque::new(), left: destinations, waker: None };
        let slot = Arc::new(Slot(Mutex::new(state)));
        (Self(slot.clone()), slot)
    }

    /// The next outcome, in the order of arrival; `None` after the last destination's.
    pub async fn next(&mut self) -> Option<(Id, Outcome)> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// As [`next`](Self::next), for hand-written futures.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<(Id, Outcome)>> {
        let mut state = self.0.lock();
        if state.left == 0 {
            return Poll::Ready(None);
        }
        if let Some(outcome) = state.first.take() {
            state.first = state.more.pop_front();
            state.left -= 1;
            return Poll::Ready(Some(outcome));
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Waits for all of them.
    pub async fn all(mut self) -> Vec<(Id, Outcome)> {
        let mut all = Vec::new();
        while let Some(outcome) = self.next().await {
            all.push(outcome);
        }
        all
    }
}
