//! Messages on their way: who waits for the outcome of each.

use std::{
    collections::{BTreeMap, hash_map::Entry},
    ops::Range,
    sync::Arc,
    task::Waker,
    vec::IntoIter,
};

use p2pcore::{
    Id, Reason,
    node::{Outcome, SendId, Sends},
};
use rustc_hash::FxHashMap;

use crate::{
    command::To,
    outcomes::{BatchSlot, Waiter},
};

/// Less than one in so many messages of a run is open: they stand alone from then on.
const FEW: usize = 16;

/// A message on its way.
pub(super) struct Sent {
    pub(super) to: To,
    /// Destinations without an outcome; empty if there is only one destination.
    pub(super) open: Vec<Id>,
    pub(super) len: usize,
    pub(super) waiter: Waiter,
    /// It stands in the accounts of the flow.
    pub(super) is_entered: bool,
}

/// Messages of one batch that the node took in a row: their numbers follow on each other.
pub(super) struct Run {
    to: Id,
    slot: Arc<BatchSlot>,
    /// Where its first message stands in the batch.
    place: usize,
    /// The lengths of its messages, until they have their outcomes.
    lens: Vec<Option<usize>>,
    /// How many have none.
    open: usize,
    /// Outcomes that the slot does not have yet, by place in the batch.
    news: Vec<(Range<usize>, Outcome)>,
}

impl Run {
    /// `sends` begin at `place` of their batch; takes their lengths.
    pub(super) fn new(to: Id, slot: Arc<BatchSlot>, sends: Sends, place: usize, lens: &mut IntoIter<usize>) -> Self {
        let lens: Vec<_> = sends.into_iter().zip(lens).map(|(_, len)| Some(len)).collect();
        Self { to, slot, place, open: lens.len(), lens, news: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.lens.len()
    }

    /// Notes what became of those of `range` that had no outcome: how many, and their bytes.
    fn outcome(&mut self, range: Range<usize>, outcome: Outcome) -> (usize, usize) {
        let (mut messages, mut bytes) = (0, 0);
        for (index, len) in range.clone().zip(self.lens.get_mut(range).into_iter().flatten()) {
            let Some(len) = len.take() else { continue };
            (messages, bytes) = (messages + 1, bytes + len);
            let place = self.place + index;
            match self.news.last_mut() {
                Some((places, same)) if *same == outcome && places.end == place => places.end += 1,
                _ => self.news.push((place..place + 1, outcome)),
            }
        }
        self.open -= messages;
        (messages, bytes)
    }

    /// The messages without an outcome, each on its own.
    fn scatter(self, first: SendId) -> impl Iterator<Item = (SendId, Sent)> {
        let Self { to, slot, place, lens, .. } = self;
        (first.0..).zip(place..).zip(lens).filter_map(move |((id, index), len)| {
            let waiter = Waiter::Batch(slot.clone(), index);
            Some((SendId(id), Sent { to: To::One(to), open: Vec::new(), len: len?, waiter, is_entered: true }))
        })
    }
}

/// All messages on their way.
#[derive(Default)]
pub(super) struct SentTable {
    singles: FxHashMap<SendId, Sent>,
    /// By the numbers of their first messages.
    runs: BTreeMap<SendId, Run>,
    /// Those that have news.
    touched: Vec<SendId>,
}

impl SentTable {
    pub(super) fn insert(&mut self, id: SendId, sent: Sent) {
        self.singles.insert(id, sent);
    }

    pub(super) fn insert_run(&mut self, first: SendId, run: Run) {
        self.runs.insert(first, run);
    }

    /// Takes what became of messages at `to`, and says how many of them stood in the accounts of the flow, with their bytes.
    pub(super) fn outcome(
        &mut self,
        sends: Sends,
        to: Id,
        outcome: Outcome,
        waiting: &mut Vec<Waker>,
    ) -> (usize, usize) {
        let (mut messages, mut bytes) = (0, 0);
        let (mut next, behind) = (sends.first, sends.behind());
        while next < behind {
            let (until, left) = match self.outcome_in_run(next, behind, to, outcome) {
                Some(of_run) => of_run,
                None => {
                    let left = self.outcome_alone(next, to, outcome, waiting);
                    (SendId(next.0 + 1), left.map_or((0, 0), |len| (1, len)))
                }
            };
            (messages, bytes) = (messages + left.0, bytes + left.1);
            next = until;
        }
        (messages, bytes)
    }

    /// The length of a message that stood in the accounts.
    fn outcome_alone(&mut self, id: SendId, to: Id, outcome: Outcome, waiting: &mut Vec<Waker>) -> Option<usize> {
        let Entry::Occupied(mut entry) = self.singles.entry(id) else { return None };
        let sent = entry.get_mut();
        let over = match &sent.to {
            To::One(one) if *one != to => return None,
            To::One(_) => true,
            To::Many(_) => {
                let at = sent.open.iter().position(|open| *open == to)?;
                sent.open.swap_remove(at);
                sent.open.is_empty()
            }
        };
        waiting.extend(sent.waiter.put(to, outcome));
        let left = sent.is_entered.then_some(sent.len);
        if over {
            entry.remove();
        }
        left
    }

    /// The first message from `next` to `behind` that the run of `next` does not have, and what left with the others. `None` if
    /// `next` is in no run.
    fn outcome_in_run(
        &mut self,
        next: SendId,
        behind: SendId,
        to: Id,
        outcome: Outcome,
    ) -> Option<(SendId, (usize, usize))> {
        let (first, run) = self.runs.range_mut(..=next).next_back().filter(|(_, run)| run.to == to)?;
        let place = |id: SendId| usize::try_from(id.0 - first.0).ok();
        let (from, until) = (place(next)?, place(behind)?.min(run.lens.len()));
        if from >= until {
            return None;
        }
        let is_touched = !run.news.is_empty();
        let left = run.outcome(from..until, outcome);
        if !is_touched && !run.news.is_empty() {
            self.touched.push(*first);
        }
        Some((SendId(first.0 + until as u64), left))
    }

    /// Hands the outcomes of this round to those who wait for batches.
    pub(super) fn flush(&mut self, waiting: &mut Vec<Waker>) {
        for first in self.touched.drain(..) {
            let Some(run) = self.runs.get_mut(&first) else { continue };
            waiting.extend(run.slot.put_all(&run.news));
            run.news.clear();
            // the other end says which messages stay open: few must not keep the memory of all
            if run.open * FEW < run.lens.len()
                && let Some(run) = self.runs.remove(&first)
            {
                self.singles.extend(run.scatter(first));
            }
        }
    }

    /// Whatever has no outcome will have none.
    pub(super) fn close(&mut self, reason: Reason, waiting: &mut Vec<Waker>, mut leave: impl FnMut(Id, usize, usize)) {
        let outcome = Outcome::Failed(reason);
        for (_, sent) in self.singles.drain() {
            let open = match &sent.to {
                To::One(one) => std::slice::from_ref(one),
                To::Many(_) => &sent.open[..],
            };
            for to in open {
                waiting.extend(sent.waiter.put(*to, outcome));
                if sent.is_entered {
                    leave(*to, 1, sent.len);
                }
            }
        }
        for (_, mut run) in std::mem::take(&mut self.runs) {
            let (messages, bytes) = run.outcome(0..run.len(), outcome);
            leave(run.to, messages, bytes);
            waiting.extend(run.slot.put_all(&run.news));
        }
    }
}
