//! What became of a message, one outcome for each destination.

use std::{
    collections::VecDeque,
    future::poll_fn,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use p2pcore::{Id, Reason, node::Outcome};

#[derive(Debug)]
struct State {
    first: Option<(Id, Outcome)>,
    /// Those behind the first; nothing is allocated for one destination.
    more: VecDeque<(Id, Outcome)>,
    /// Outcomes that were not taken yet, those to come included.
    left: usize,
    waker: Option<Waker>,
}

/// Where the driver puts the outcomes of one message.
#[derive(Clone, Debug)]
pub(crate) enum Waiter {
    Outcomes(Arc<Slot>),
    /// It is so many messages behind the first one of its batch.
    Batch(Arc<BatchSlot>, usize),
}

impl Waiter {
    /// Gives back whom to wake, if somebody waits.
    #[must_use]
    pub(crate) fn put(&self, to: Id, outcome: Outcome) -> Option<Waker> {
        match self {
            Self::Outcomes(slot) => slot.put(to, outcome),
            Self::Batch(slot, index) => slot.put(*index, outcome),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Slot(Mutex<State>);

impl Slot {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(self: &Arc<Self>, to: Id, outcome: Outcome) -> Option<Waker> {
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
    pub(crate) fn new(destinations: usize) -> (Self, Waiter) {
        let state = State { first: None, more: VecDeque::new(), left: destinations, waker: None };
        let slot = Arc::new(Slot(Mutex::new(state)));
        (Self(slot.clone()), Waiter::Outcomes(slot))
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

#[derive(Debug)]
struct BatchState {
    outcomes: Vec<Option<Outcome>>,
    /// How many are not there yet.
    left: usize,
    waker: Option<Waker>,
}

#[derive(Debug)]
pub(crate) struct BatchSlot(Mutex<BatchState>);

impl BatchSlot {
    fn lock(&self) -> MutexGuard<'_, BatchState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, index: usize, outcome: Outcome) -> Option<Waker> {
        self.put_all(&[(index..index + 1, outcome)])
    }

    /// Whoever waits does it for all of them. Gives back whom to wake, if this were the last.
    #[must_use]
    pub(crate) fn put_all(&self, outcomes: &[(Range<usize>, Outcome)]) -> Option<Waker> {
        let mut state = self.lock();
        for (indices, outcome) in outcomes {
            let places = state.outcomes.get_mut(indices.clone()).into_iter().flatten();
            let new = places.filter_map(|place| place.replace(*outcome).is_none().then_some(())).count();
            state.left -= new;
        }
        if state.left == 0 { state.waker.take() } else { None }
    }
}

/// The outcomes of the messages of one batch. Dropping it does not take the messages back.
#[derive(Debug)]
pub struct BatchOutcomes(Arc<BatchSlot>);

impl BatchOutcomes {
    pub(crate) fn new(messages: usize) -> (Self, Arc<BatchSlot>) {
        let state = BatchState { outcomes: vec![None; messages], left: messages, waker: None };
        let slot = Arc::new(BatchSlot(Mutex::new(state)));
        (Self(slot.clone()), slot)
    }

    /// Those from this one on were never handed over.
    pub(crate) fn fail_from(&self, first: usize, reason: Reason) {
        let count = self.0.lock().outcomes.len();
        // nobody can wait yet
        (first..count).for_each(|index| drop(self.0.put(index, Outcome::Failed(reason))));
    }

    /// Waits for all of them: one outcome for each message, in the order of the batch.
    pub async fn all(mut self) -> Vec<Outcome> {
        poll_fn(|cx| self.poll_all(cx)).await
    }

    /// As [`all`](Self::all), for hand-written futures; ready with nothing once they were taken.
    pub fn poll_all(&mut self, cx: &mut Context<'_>) -> Poll<Vec<Outcome>> {
        let mut state = self.0.lock();
        if state.left == 0 {
            return Poll::Ready(std::mem::take(&mut state.outcomes).into_iter().flatten().collect());
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}
