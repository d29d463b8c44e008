//! Messages on their way: who waits for the outcome of each.

use std::{collections::BTreeMap, ops::Range, sync::Arc, task::Waker, vec::IntoIter};

use p2pcore::{
    Id, Reason,
    node::{Outcome, SendId, Sends},
};

use crate::{
    command::To,
    outcomes::{BatchSlot, Waiter},
};

/// When no more than one in so many messages of a run or row is open, they stand alone from then on: the other end says which
/// stay open, and few must not keep the memory of all.
const FEW: usize = 16;

/// The most messages in one [`Row`].
const MAX_ROW: usize = 16;

/// A message on its way.
pub(super) struct Sent {
    to: To,
    /// Destinations without an outcome.
    open: usize,
    /// A bit for each that has its outcome, if there are several.
    over: Vec<u64>,
    len: usize,
    waiter: Waiter,
    /// It stands in the accounts of the flow.
    is_entered: bool,
}

impl Sent {
    pub(super) fn new(to: To, len: usize, waiter: Waiter, is_entered: bool) -> Self {
        let open = to.as_slice().len();
        let words = if open == 1 { 0 } else { open.div_ceil(64) };
        Self { to, open, over: vec![0; words], len, waiter, is_entered }
    }

    fn is_over(&self, at: usize) -> bool {
        self.over.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    /// Notes the outcome of destination number `at`; `false` if there was one.
    fn end(&mut self, at: usize) -> bool {
        let is_new = !self.is_over(at);
        if let Some(word) = self.over.get_mut(at / 64) {
            *word |= 1 << (at % 64);
        }
        self.open -= usize::from(is_new);
        is_new
    }
}

/// Messages whose numbers follow on each other, by place.
#[derive(Default)]
struct Row {
    messages: Vec<Option<Sent>>,
    /// How many have a destination without an outcome.
    open: usize,
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
            Some((SendId(id), Sent::new(To::One(to), len?, waiter, true)))
        })
    }
}

/// All messages on their way.
#[derive(Default)]
pub(super) struct SentTable {
    /// By the numbers of their first messages, as the next.
    rows: BTreeMap<SendId, Row>,
    runs: BTreeMap<SendId, Run>,
    /// Runs that have news.
    touched: Vec<SendId>,
    /// Rows of which few messages are open.
    thin: Vec<SendId>,
    /// Where the destination stood that had the last outcome: the next message is often for the same ones.
    last_place: usize,
}

impl SentTable {
    pub(super) fn insert(&mut self, id: SendId, sent: Sent) {
        let before = self.rows.range_mut(..=id).next_back();
        let row = match before
            .filter(|(first, row)| row.messages.len() < MAX_ROW && id.0 - first.0 == row.messages.len() as u64)
        {
            Some((_, row)) => row,
            None => self.rows.entry(id).or_default(),
        };
        row.messages.push(Some(sent));
        row.open += 1;
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
        let (first, row) = self.rows.range_mut(..=id).next_back()?;
        let (first, place) = (*first, row.messages.get_mut(usize::try_from(id.0 - first.0).ok()?)?);
        let sent = place.as_mut()?;
        let all = sent.to.as_slice();
        let at = match all.get(self.last_place) {
            Some(last) if *last == to => self.last_place,
            _ => all.iter().position(|one| *one == to)?,
        };
        self.last_place = at;
        if !sent.end(at) {
            return None;
        }
        waiting.extend(sent.waiter.put(to, outcome));
        let left = sent.is_entered.then_some(sent.len);
        if sent.open == 0 {
            *place = None;
            row.open -= 1;
            if row.open == 0 {
                self.rows.remove(&first);
            } else if row.open * FEW == row.messages.len() {
                self.thin.push(first);
            }
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
        for first in std::mem::take(&mut self.thin) {
            for (id, sent) in self.rows.remove(&first).into_iter().flat_map(|row| (first.0..).zip(row.messages)) {
                let Some(sent) = sent else { continue };
                self.rows.insert(SendId(id), Row { messages: vec![Some(sent)], open: 1 });
            }
        }
        let mut touched = std::mem::take(&mut self.touched);
        for first in touched.drain(..) {
            let Some(run) = self.runs.get_mut(&first) else { continue };
            waiting.extend(run.slot.put_all(&run.news));
            run.news.clear();
            if run.open * FEW <= run.lens.len()
                && let Some(run) = self.runs.remove(&first)
            {
                run.scatter(first).for_each(|(id, sent)| self.insert(id, sent));
            }
        }
        self.touched = touched;
    }

    /// Whatever has no outcome will have none.
    pub(super) fn close(&mut self, reason: Reason, waiting: &mut Vec<Waker>, mut leave: impl FnMut(Id, usize, usize)) {
        let outcome = Outcome::Failed(reason);
        for sent in std::mem::take(&mut self.rows).into_values().flat_map(|row| row.messages).flatten() {
            for (_, to) in sent.to.as_slice().iter().enumerate().filter(|(at, _)| !sent.is_over(*at)) {
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

#[cfg(test)]
mod tests {
    use p2pcore::{Identity, Role, SecretKey};

    use super::*;
    use crate::Outcomes;

    fn id(seed: u8) -> Id {
        Identity::new(Role::Peer, SecretKey::from_bytes([seed; 32])).id()
    }

    #[test]
    fn each_destination_of_many_has_one_outcome_and_what_is_over_is_forgotten() {
        let all: Vec<Id> = (0..130).map(id).collect();
        let (mut table, mut waiting, mut kept) = (SentTable::default(), Vec::new(), Vec::new());
        for number in 1..=40 {
            let (outcomes, waiter) = Outcomes::new(all.len());
            table.insert(SendId(number), Sent::new(To::checked(&all).unwrap(), 10, waiter, true));
            kept.push(outcomes);
        }
        let sends = Sends { first: SendId(1), count: 50 };
        for (number, to) in all.iter().enumerate() {
            assert_eq!(table.outcome(sends, *to, Outcome::Delivered, &mut waiting), (40, 400), "{number}");
            assert_eq!(table.outcome(sends, *to, Outcome::Expired, &mut waiting), (0, 0), "{number}");
            assert_eq!(table.outcome(sends, id(200), Outcome::Delivered, &mut waiting), (0, 0), "{number}");
        }
        assert!(table.rows.is_empty());
    }

    #[test]
    fn a_message_that_stays_open_keeps_no_other_in_memory() {
        let (mut table, mut waiting) = (SentTable::default(), Vec::new());
        let (kept, waiters): (Vec<_>, Vec<_>) = (0..100).map(|_| Outcomes::new(1)).unzip();
        for (number, waiter) in (1..).zip(waiters) {
            table.insert(SendId(number), Sent::new(To::One(id(1)), 7, waiter, number != 50));
        }
        assert_eq!(table.rows.len(), 7);
        let mut over = |first, count| {
            table.outcome(Sends { first: SendId(first), count }, id(1), Outcome::Delivered, &mut waiting)
        };
        assert_eq!((over(1, 39), over(41, 60)), ((39, 273), (59, 413)));
        table.flush(&mut Vec::new());
        assert_eq!(table.rows.values().map(|row| row.messages.len()).collect::<Vec<_>>(), [1]);
        let (_, waiter) = Outcomes::new(1);
        table.insert(SendId(51), Sent::new(To::One(id(1)), 8, waiter, false));
        let late = Sends { first: SendId(51), count: 1 };
        assert_eq!(table.outcome(late, id(1), Outcome::Delivered, &mut Vec::new()), (0, 0));
        let mut left = Vec::new();
        table.close(Reason::Reset, &mut waiting, |to, messages, bytes| left.push((to, messages, bytes)));
        assert_eq!(left, [(id(1), 1, 7)]);
        drop(kept);
    }
}
