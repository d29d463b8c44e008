//! Messages on their way: who waits for the outcome of each.

use std::{
    collections::{BTreeMap, hash_map::Entry},
    iter::repeat_n,
    sync::Arc,
    task::Waker,
};

use p2pcore::{
    Id, Reason,
    node::{Outcome, SendId},
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
    /// The number of its first message, and where that stands in the batch.
    begin: (SendId, usize),
    /// The lengths of its messages, until they have their outcomes.
    lens: Vec<Option<usize>>,
    /// How many have none.
    open: usize,
    /// Outcomes that the slot does not have yet, by place in the batch.
    news: Vec<(usize, Outcome)>,
}

impl Run {
    /// Of one message so far.
    pub(super) fn new(to: Id, slot: Arc<BatchSlot>, begin: (SendId, usize), len: usize) -> Self {
        Self { to, slot, begin, lens: vec![Some(len)], open: 1, news: Vec::new() }
    }

    /// Takes one more message, if it follows on the last: in its number, and in the batch.
    pub(super) fn takes(&mut self, (id, index): (SendId, usize), len: usize) -> bool {
        let (SendId(first), first_index) = self.begin;
        let follows = id.0.checked_sub(first) == Some(self.lens.len() as u64) && index - first_index == self.lens.len();
        if follows {
            self.lens.push(Some(len));
            self.open += 1;
        }
        follows
    }

    /// The messages without an outcome, each on its own.
    fn scatter(self) -> impl Iterator<Item = (SendId, Sent)> {
        let Self { to, slot, begin: (SendId(first), first_index), lens, .. } = self;
        (first..).zip(first_index..).zip(lens).filter_map(move |((id, index), len)| {
            let waiter = Waiter::Batch(slot.clone(), index);
            Some((SendId(id), Sent { to: To::One(to), open: Vec::new(), len: len?, waiter, is_entered: true }))
        })
    }
}

/// A message whose way to one destination is over.
pub(super) struct Ended {
    pub(super) len: usize,
    pub(super) is_entered: bool,
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

    pub(super) fn insert_run(&mut self, run: Run) {
        self.runs.insert(run.begin.0, run);
    }

    /// Takes what became of message `id` at `to`: whom to wake, and what left with it. `None` if nobody waits for that.
    pub(super) fn outcome(&mut self, id: SendId, to: Id, outcome: Outcome) -> Option<(Option<Waker>, Ended)> {
        if let Some(left) = self.outcome_in_run(id, to, outcome) {
            return Some((None, left));
        }
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
        let waker = sent.waiter.put(to, outcome);
        let left = Ended { len: sent.len, is_entered: sent.is_entered };
        if over {
            entry.remove();
        }
        Some((waker, left))
    }

    fn outcome_in_run(&mut self, id: SendId, to: Id, outcome: Outcome) -> Option<Ended> {
        let (first, run) = self.runs.range_mut(..=id).next_back().filter(|(_, run)| run.to == to)?;
        let index = usize::try_from(id.0 - first.0).ok()?;
        let len = run.lens.get_mut(index)?.take()?;
        run.open -= 1;
        if run.news.is_empty() {
            self.touched.push(*first);
        }
        run.news.push((run.begin.1 + index, outcome));
        Some(Ended { len, is_entered: true })
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
                self.singles.extend(run.scatter());
            }
        }
    }

    /// Whatever has no outcome will have none.
    pub(super) fn close(&mut self, reason: Reason, waiting: &mut Vec<Waker>, mut leave: impl FnMut(Id, usize)) {
        let outcome = Outcome::Failed(reason);
        for (_, sent) in self.singles.drain() {
            let open = match &sent.to {
                To::One(one) => std::slice::from_ref(one),
                To::Many(_) => &sent.open[..],
            };
            for to in open {
                waiting.extend(sent.waiter.put(*to, outcome));
                if sent.is_entered {
                    leave(*to, sent.len);
                }
            }
        }
        let open: Vec<(SendId, Id)> = self
            .runs
            .iter()
            .flat_map(|(first, run)| (first.0..).map(SendId).zip(repeat_n(run.to, run.lens.len())))
            .collect();
        for (id, to) in open {
            if let Some(left) = self.outcome_in_run(id, to, outcome) {
                leave(to, left.len);
            }
        }
        self.flush(waiting);
    }
}
