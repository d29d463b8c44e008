//! Messages: exactly one outcome per (message, destination), and what each outcome means.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use p2pcore::{
    Id, Reason,
    master::Token,
    node::{Outcome, SendId},
};

use super::{Breach, Run};
use crate::payload::{self, Kind};

/// All messages of a run of the simulator and what became of them.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    next: u64,
    messages: BTreeMap<u64, Message>,
    numbers: BTreeMap<(Run, SendId), u64>,
    last_handed: BTreeMap<(Run, Id, u8), u64>,
    queued: BTreeMap<(Run, Id), Queue>,
    due: BTreeSet<(Duration, u64)>,
    counts: Counts,
}

/// How many of what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// (message, destination) pairs accepted.
    pub sent: u64,
    /// Reported Delivered.
    pub delivered: u64,
    /// Reported Failed.
    pub failed: u64,
    /// Reported Expired.
    pub expired: u64,
    /// Given back because a queue was full.
    pub blocked: u64,
}

#[derive(Clone, Debug)]
struct Message {
    from: Run,
    from_id: Id,
    lane: u8,
    len: usize,
    to: Vec<Destination>,
    /// It is for whoever is Master under this token.
    fence: Option<Token>,
}

#[derive(Clone, Debug)]
struct Destination {
    id: Id,
    handed: bool,
    taken: bool,
    /// What the receiver held when its application took it.
    held: Option<Token>,
    outcome: Option<Outcome>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Queue {
    messages: usize,
    bytes: usize,
    unblocked_due: bool,
}

/// The limits of a node that can be seen from outside.
#[derive(Clone, Copy, Debug)]
pub struct QueueLimits {
    /// `Config::max_queued_messages`.
    pub messages: usize,
    /// `Config::max_queued_bytes`.
    pub bytes: usize,
}

impl Ledger {
    /// The number for the next payload; numbers grow in the order of sending.
    pub fn next_number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// How many of what so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The node accepted message `number`; each destination owes an outcome by `due`.
    ///
    /// # Errors
    /// The node used a [`SendId`] twice or its queue is over its limit.
    #[allow(clippy::too_many_arguments)] // a message has that many parts
    pub fn sent(
        &mut self,
        from: Run,
        from_id: Id,
        send: SendId,
        number: u64,
        lane: u8,
        len: usize,
        to: &[Id],
        due: Duration,
        limits: QueueLimits,
    ) -> Result<(), Breach> {
        if self.numbers.insert((from, send), number).is_some() {
            return Err(Breach::new("one_outcome", [from_id], format!("{send:?} names two messages")));
        }
        let destination = |id: &Id| Destination { id: *id, handed: false, taken: false, held: None, outcome: None };
        let to = to.iter().map(destination).collect::<Vec<_>>();
        self.counts.sent += to.len() as u64;
        let mut over = None;
        for Destination { id, .. } in &to {
            let queue = self.queued.entry((from, *id)).or_default();
            queue.messages += 1;
            queue.bytes += len;
            if queue.messages > limits.messages || queue.messages > 1 && queue.bytes > limits.bytes {
                over = Some((*id, *queue));
            }
        }
        self.messages.insert(number, Message { from, from_id, lane, len, to, fence: None });
        self.due.insert((due, number));
        over.map_or(Ok(()), |(id, queue)| {
            let what = format!("accepted {} messages, {} bytes for one destination", queue.messages, queue.bytes);
            Err(Breach::new("queue_bounds", [from_id, id], what))
        })
    }

    /// The node accepted message `number` for `to`, which it sees as the Master under the token `fence`.
    ///
    /// # Errors
    /// The node used a [`SendId`] twice, or sends to somebody else.
    #[allow(clippy::too_many_arguments)] // a message has that many parts
    pub fn sent_to_master(
        &mut self,
        from: Run,
        from_id: Id,
        send: SendId,
        number: u64,
        lane: u8,
        len: usize,
        to: Id,
        due: Duration,
        fence: Option<Token>,
    ) -> Result<(), Breach> {
        // it travels as a request does: the queue for messages has no place for it
        let limits = QueueLimits { messages: usize::MAX, bytes: usize::MAX };
        self.sent(from, from_id, send, number, lane, len, &[to], due, limits)?;
        if let Some(message) = self.messages.get_mut(&number) {
            message.fence = fence;
        }
        let queue = self.queued.entry((from, to)).or_default();
        queue.messages -= 1;
        queue.bytes -= len;
        let what = || format!("message {number} goes to {to}, the Master is {fence:?}");
        if fence.is_some_and(|fence| fence.id == to) {
            Ok(())
        } else {
            Err(Breach::new("to_master", [from_id, to], what()))
        }
    }

    /// The node gave a message back because the queue to `to` is full: it owes one `Unblocked`.
    pub fn blocked(&mut self, from: Run, to: Id) {
        self.counts.blocked += 1;
        self.queued.entry((from, to)).or_default().unblocked_due = true;
    }

    /// The node says that there is room again.
    ///
    /// # Errors
    /// Nothing was blocked since the last time.
    pub fn unblocked(&mut self, from: Run, from_id: Id, to: Id) -> Result<(), Breach> {
        let due = self.queued.get_mut(&(from, to)).map(|queue| std::mem::take(&mut queue.unblocked_due));
        if due == Some(true) {
            Ok(())
        } else {
            Err(Breach::new(
                "one_unblocked",
                [from_id, to],
                "unblocked, but nothing was given back since the last time",
            ))
        }
    }

    /// A node hands a message to its application; returns the number.
    ///
    /// # Errors
    /// Not what was sent, not to whom it was sent, twice, or out of order.
    pub fn handed(&mut self, to: Id, from: Id, lane: u8, data: &[u8]) -> Result<u64, Breach> {
        let breach = |checker, what: String| Err(Breach::new(checker, [from, to], what));
        let number = payload::check(Kind::Message, data);
        let Some((number, message)) = number.and_then(|number| Some((number, self.messages.get_mut(&number)?))) else {
            return breach("payload_intact", format!("handed {} bytes that nobody sent", data.len()));
        };
        if (message.from_id, message.lane, message.len) != (from, lane, data.len()) {
            return breach(
                "payload_intact",
                format!("message {number} was handed under another sender, lane or length"),
            );
        }
        let Some(destination) = message.to.iter_mut().find(|destination| destination.id == to) else {
            return breach("right_id", format!("message {number} was handed to an Id that it was not sent to"));
        };
        if std::mem::replace(&mut destination.handed, true) {
            return breach("at_most_once", format!("message {number} was handed twice"));
        }
        if let Some(outcome @ Outcome::Failed(reason)) = destination.outcome
            && !is_open(reason, message.fence)
        {
            return breach("outcome_true", format!("message {number} was handed after {outcome:?}"));
        }
        let last = self.last_handed.insert((message.from, to, lane), number).unwrap_or(0);
        if last > number {
            return breach("order", format!("message {number} was handed after {last} in lane {lane}"));
        }
        Ok(number)
    }

    /// The application has taken message `number`: from now on it may be reported as delivered. `held` is the token under
    /// which the receiver is Master at that moment.
    pub fn taken(&mut self, to: Id, number: u64, held: Option<Token>) {
        let message = self.messages.get_mut(&number);
        if let Some(destination) = message.and_then(|message| message.to.iter_mut().find(|d| d.id == to)) {
            (destination.taken, destination.held) = (true, held);
        }
    }

    /// A node reports an outcome.
    ///
    /// # Errors
    /// A second one, one of nothing, or one that is not true.
    pub fn outcome(&mut self, from: Run, from_id: Id, send: SendId, to: Id, outcome: Outcome) -> Result<(), Breach> {
        let breach = |checker, what: String| Err(Breach::new(checker, [from_id, to], what));
        let Some(number) = self.numbers.get(&(from, send)).copied() else {
            return breach("one_outcome", format!("{outcome:?} for {send:?}, which names no message"));
        };
        let message = self.messages.get_mut(&number);
        let (len, fence) = message.as_ref().map_or((0, None), |message| (message.len, message.fence));
        let Some(destination) = message.and_then(|message| message.to.iter_mut().find(|d| d.id == to)) else {
            return breach("one_outcome", format!("{outcome:?} of message {number} for an Id that it was not sent to"));
        };
        if let Some(first) = destination.outcome.replace(outcome) {
            return breach("one_outcome", format!("message {number} has two outcomes, {first:?} and {outcome:?}"));
        }
        let queue = self.queued.entry((from, to)).or_default();
        if fence.is_none() {
            queue.messages = queue.messages.saturating_sub(1);
            queue.bytes = queue.bytes.saturating_sub(len);
        }
        match outcome {
            Outcome::Delivered => {
                self.counts.delivered += 1;
                if !destination.taken {
                    return breach("delivered_true", format!("message {number} was never taken by the application"));
                }
                if fence.is_some() && destination.held != fence {
                    let what = format!("message {number} to {fence:?} was taken under {:?}", destination.held);
                    return breach("to_master", what);
                }
            }
            Outcome::Failed(reason) => {
                self.counts.failed += 1;
                if !is_open(reason, fence) && destination.handed {
                    return breach("outcome_true", format!("message {number} failed with {reason}, but was handed"));
                }
            }
            Outcome::Expired => self.counts.expired += 1,
        }
        Ok(())
    }

    /// A node died: its messages owe nothing any more.
    pub fn died(&mut self, run: Run) {
        self.due.retain(|(_, number)| self.messages.get(number).is_some_and(|message| message.from != run));
        self.queued.retain(|(from, _), _| *from != run);
    }

    /// A node's clock stood still for `time`: its outcomes are due so much later.
    pub fn slept(&mut self, run: Run, time: Duration) {
        let is_its = |number: &u64| self.messages.get(number).is_some_and(|message| message.from == run);
        let (its, others): (Vec<_>, Vec<_>) = self.due.iter().copied().partition(|(_, number)| is_its(number));
        self.due = its.into_iter().map(|(due, number)| (due + time, number)).chain(others).collect();
    }

    /// The outcomes that are overdue; each is told once. Nodes for which `excused` holds stood still and get more time.
    pub fn overdue(&mut self, now: Duration, excused: impl Fn(Run) -> bool) -> Vec<Breach> {
        let mut breaches = Vec::new();
        while let Some(&(due, number)) = self.due.first().filter(|(due, _)| *due < now) {
            self.due.remove(&(due, number));
            let Some(message) = self.messages.get(&number) else { continue };
            let owing: Vec<Id> = message.to.iter().filter(|to| to.outcome.is_none()).map(|to| to.id).collect();
            if owing.is_empty() {
                continue;
            }
            if excused(message.from) {
                self.due.insert((now + Duration::from_secs(5), number));
            } else {
                let nodes = [vec![message.from_id], owing].concat();
                breaches.push(Breach::new("one_outcome", nodes, format!("message {number} has no outcome in time")));
            }
        }
        breaches
    }

    /// How many pairs wait for their outcome.
    pub fn open(&mut self) -> usize {
        let open = |number: &u64| {
            let message = self.messages.get(number);
            message.map_or(0, |message| message.to.iter().filter(|to| to.outcome.is_none()).count())
        };
        self.due.iter().map(|(_, number)| open(number)).sum()
    }

    /// Who was told `Blocked` and never `Unblocked`.
    pub fn still_blocked(&self) -> Vec<(Run, Id)> {
        self.queued.iter().filter(|(_, queue)| queue.unblocked_due).map(|(key, _)| *key).collect()
    }

    /// The outcome of a message at one destination.
    pub fn outcome_of(&self, number: u64, to: Id) -> Option<Outcome> {
        self.messages.get(&number)?.to.iter().find(|destination| destination.id == to)?.outcome
    }

    /// Whether a message was handed to the application of `to`.
    pub fn was_handed(&self, number: u64, to: Id) -> bool {
        let message = self.messages.get(&number);
        message.is_some_and(|message| message.to.iter().any(|destination| destination.id == to && destination.handed))
    }
}

/// Whether a message that failed so may have been handed over all the same.
fn is_open(reason: Reason, fence: Option<Token>) -> bool {
    reason == Reason::UnknownOutcome || fence.is_some() && reason == Reason::MasterChanged
}

#[cfg(test)]
mod tests;
