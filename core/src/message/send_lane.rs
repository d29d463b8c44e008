//! The sending end of one lane: what waits, what was written, and where writing goes on.

use std::{collections::VecDeque, time::Instant};

use bytes::Bytes;

use super::{Kind, MAX_CHUNK, Outcome, Violation, expiry::Expiries, frame};
use crate::Reason;

/// Dead entries that are tolerated beside the live ones before they are swept out.
const MAX_DEAD: usize = 16;
/// Not numbered yet; sorts behind every number.
const NO_NUMBER: u64 = u64::MAX;

/// Messages of one lane in the order of sending.
///
/// Numbers are given when a message is wholly written, so one that never was can still go into any session.
#[derive(Debug, Default)]
pub(super) struct SendLane {
    entries: VecDeque<Entry>,
    dead: usize,
    next_order: u64,
    expiries: Expiries,

    /// How many entries at the front have a number.
    numbered: usize,
    /// The number of the next message to be written for the first time.
    next_number: u64,
    /// Every number below has its receipt.
    acknowledged: u64,

    /// The entry that is written next on this link.
    at: usize,
    /// The number that the other end gives to the next message of this link.
    write_number: u64,
    /// How much of the entry at `at` is written, once its parts have begun.
    partial: Option<usize>,
    /// The bytes of a part whose head is written.
    slice: Option<Bytes>,
    /// The parts that were begun are not to be finished.
    abort: bool,
}

#[derive(Debug)]
struct Entry {
    order: u64,
    number: u64,
    /// `None` once it has its outcome.
    message: Option<Queued>,
}

/// A message that has no outcome yet.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) tag: u64,
    pub(super) expires: Instant,
    pub(super) kind: Kind,
    pub(super) data: Bytes,
}

/// Where a lane reports what became of a message.
pub(super) trait Report {
    fn outcome(&mut self, message: Queued, outcome: Outcome);
}

impl SendLane {
    pub(super) fn push(&mut self, message: Queued) {
        let order = self.next_order;
        self.next_order += 1;
        if self.expiries.len() > 2 * self.entries.len() + MAX_DEAD {
            self.index_expiries();
        }
        self.expiries.insert(message.expires, order);
        self.entries.push_back(Entry { order, number: NO_NUMBER, message: Some(message) });
    }

    /// Anew, without the messages that are gone: the index stays in proportion to the live ones.
    fn index_expiries(&mut self) {
        self.expiries = Expiries::default();
        for Entry { order, message, .. } in &self.entries {
            if let Some(message) = message {
                self.expiries.insert(message.expires, *order);
            }
        }
    }

    /// Whether [`poll_chunk`](Self::poll_chunk) has something to write.
    pub(super) fn has_output(&self) -> bool {
        self.slice.is_some() || self.abort || self.at < self.entries.len()
    }

    /// The next bytes of this lane's stream, at most `MAX_CHUNK`.
    pub(super) fn poll_chunk(&mut self, now: Instant, report: &mut impl Report) -> Option<Bytes> {
        if let Some(slice) = self.slice.take() {
            return Some(slice);
        }
        let mut buf = Vec::with_capacity(self.chunk_estimate());
        loop {
            if std::mem::take(&mut self.abort) {
                frame::put_abort(&mut buf);
            }
            let Some(Entry { number, message: Some(message), .. }) = self.entries.get(self.at) else { break };
            if message.expires <= now {
                self.complete(self.at, Outcome::Expired, report);
                continue;
            }
            let number = if self.at < self.numbered { *number } else { self.next_number };
            let len = message.data.len();
            if let Some(offset) = self.partial {
                self.slice = Some(Self::put_part(&mut buf, &message.data, offset));
                let written = offset.saturating_add(self.slice.as_ref().map_or(0, Bytes::len));
                if written < len {
                    self.partial = Some(written);
                } else {
                    self.written(number);
                }
                break;
            }
            let in_parts = len > frame::MAX_WHOLE;
            let heads = frame::head_estimate(&message.kind) + 2 * frame::MAX_PLAIN_HEAD;
            let estimate = if in_parts { heads } else { len + heads };
            if !buf.is_empty() && buf.len() + estimate > MAX_CHUNK {
                break;
            }
            if number > self.write_number {
                frame::put_skip(&mut buf, number - self.write_number);
                self.write_number = number;
            }
            if in_parts {
                frame::put_in_parts(&mut buf, &message.kind, len);
                self.partial = Some(0);
            } else {
                frame::put_whole(&mut buf, &message.kind, &message.data);
                self.written(number);
            }
        }
        (!buf.is_empty()).then(|| buf.into())
    }

    fn put_part(buf: &mut Vec<u8>, data: &Bytes, offset: usize) -> Bytes {
        let slice = data.slice(offset..data.len().min(offset.saturating_add(MAX_CHUNK)));
        frame::put_part(buf, slice.len());
        slice
    }

    fn chunk_estimate(&self) -> usize {
        let mut sum = 0usize;
        for message in self.entries.range(self.at.min(self.entries.len())..).filter_map(|entry| entry.message.as_ref())
        {
            let len = message.data.len();
            sum = sum.saturating_add(frame::head_estimate(&message.kind));
            if len > frame::MAX_WHOLE {
                break;
            }
            sum = sum.saturating_add(len);
            if sum >= MAX_CHUNK {
                break;
            }
        }
        sum.saturating_add(frame::MAX_HEAD).min(MAX_CHUNK)
    }

    /// The entry at `at` is wholly written, as `number`.
    fn written(&mut self, number: u64) {
        self.partial = None;
        self.write_number = number.saturating_add(1);
        if self.at == self.numbered {
            self.next_number = self.write_number;
            if let Some(entry) = self.entries.get_mut(self.at) {
                entry.number = number;
            }
            self.numbered += 1;
        }
        self.at += 1;
        self.pass_dead();
    }

    /// Moves `at` on to the next live entry.
    fn pass_dead(&mut self) {
        while let Some(entry) = self.entries.get_mut(self.at)
            && entry.message.is_none()
        {
            if self.at == self.numbered {
                entry.number = self.next_number;
                self.numbered += 1;
            }
            self.at += 1;
        }
    }

    fn complete(&mut self, index: usize, outcome: Outcome, report: &mut impl Report) {
        let Some(message) = self.entries.get_mut(index).and_then(|entry| entry.message.take()) else { return };
        report.outcome(message, outcome);
        self.dead += 1;
        if index == self.at {
            self.abort |= self.partial.take().is_some();
            self.pass_dead();
        }
        self.drop_dead();
    }

    /// Drops the dead entries at the front, and all of them once they are too many.
    fn drop_dead(&mut self) {
        while self.entries.front().is_some_and(|entry| entry.message.is_none()) {
            self.entries.pop_front();
            self.dead = self.dead.saturating_sub(1);
            self.numbered = self.numbered.saturating_sub(1);
            self.at = self.at.saturating_sub(1);
        }
        if self.dead > self.entries.len() / 2 + MAX_DEAD {
            self.sweep();
        }
        self.expiries.forget_below(self.lowest_order());
    }

    fn sweep(&mut self) {
        let (mut index, mut at, mut numbered) = (0, 0, 0);
        self.entries.retain(|entry| {
            let live = entry.message.is_some();
            at += usize::from(live && index < self.at);
            numbered += usize::from(live && index < self.numbered);
            index += 1;
            live
        });
        (self.at, self.numbered, self.dead) = (at, numbered, 0);
    }

    fn lowest_order(&self) -> u64 {
        self.entries.front().map_or(self.next_order, |entry| entry.order)
    }

    /// Every number below `below`, and those in `also`, were handed over.
    pub(super) fn receipt(
        &mut self,
        below: u64,
        also: &[(u64, u64)],
        report: &mut impl Report,
    ) -> Result<(), Violation> {
        if below < self.acknowledged {
            return Err(Violation("a receipt that takes an earlier one back"));
        }
        let mut last = below;
        for (first, behind) in also {
            if *first < last || first >= behind {
                return Err(Violation("runs of a receipt out of order"));
            }
            last = *behind;
        }
        if last > self.write_number {
            return Err(Violation("a receipt for a message that was never sent"));
        }
        self.acknowledged = below;
        self.deliver(0, below, report);
        for (first, behind) in also {
            self.deliver(*first, *behind, report);
        }
        Ok(())
    }

    /// The live ones among the numbers `first..behind` are delivered.
    fn deliver(&mut self, first: u64, behind: u64, report: &mut impl Report) {
        let from = if first == 0 { 0 } else { self.entries.partition_point(|entry| entry.number < first) };
        let behind_numbered = self.numbered.min(self.entries.len());
        let mut delivered = 0;
        for entry in self.entries.range_mut(from.min(behind_numbered)..behind_numbered) {
            if entry.number >= behind {
                break;
            }
            if let Some(message) = entry.message.take() {
                report.outcome(message, Outcome::Delivered);
                delivered += 1;
            }
        }
        self.dead += delivered;
        self.drop_dead();
    }

    /// The next moment to call [`expire`](Self::expire).
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.expiries.next()
    }

    pub(super) fn expire(&mut self, now: Instant, report: &mut impl Report) {
        while let Some((first, last)) = self.expiries.pop_due(now) {
            let mut order = first;
            // complete() may sweep, so each step finds its place anew
            while let Some((index, found)) = self.next_expired(order, last, now) {
                self.complete(index, Outcome::Expired, report);
                order = found.saturating_add(1);
            }
        }
    }

    fn next_expired(&self, from: u64, last: u64, now: Instant) -> Option<(usize, u64)> {
        let start = self.entries.partition_point(|entry| entry.order < from);
        let expired = |entry: &Entry| entry.message.as_ref().is_some_and(|message| message.expires <= now);
        (start..)
            .zip(self.entries.range(start..))
            .take_while(|(_, entry)| entry.order <= last)
            .find(|(_, entry)| expired(entry))
            .map(|(index, entry)| (index, entry.order))
    }

    /// Gives every message an outcome: `reason` if no end of it was written, else unknown.
    pub(super) fn fail_all(&mut self, reason: Reason, report: &mut impl Report) {
        self.abort |= self.partial.take().is_some();
        let numbered = self.numbered;
        for (index, entry) in self.entries.drain(..).enumerate() {
            if let Some(message) = entry.message {
                let reason = if index < numbered { Reason::UnknownOutcome } else { reason };
                report.outcome(message, Outcome::Failed(reason));
            }
        }
        (self.dead, self.at, self.numbered) = (0, 0, 0);
        self.expiries = Expiries::default();
    }

    /// Gives the messages that were never wholly written the outcome `reason`.
    pub(super) fn fail_unwritten(&mut self, reason: Reason, report: &mut impl Report) {
        let unwritten = self.entries.split_off(self.numbered.min(self.entries.len()));
        if self.at >= self.entries.len() {
            self.at = self.entries.len();
            self.abort |= self.partial.take().is_some();
        }
        for entry in unwritten {
            match entry.message {
                Some(message) => report.outcome(message, Outcome::Failed(reason)),
                None => self.dead = self.dead.saturating_sub(1),
            }
        }
        if self.entries.is_empty() {
            self.expiries = Expiries::default();
        }
    }

    /// The link is gone, with all that was begun on it.
    pub(super) fn detach(&mut self) {
        (self.partial, self.slice, self.abort) = (None, None, false);
    }

    /// Whether the other end can expect `next`, having this session.
    pub(super) fn can_resume(&self, next: u64) -> bool {
        (self.acknowledged..=self.next_number).contains(&next)
    }

    /// Goes on at `next` in the same session.
    pub(super) fn resume(&mut self, next: u64) {
        self.write_number = next;
        self.at = self.entries.partition_point(|entry| entry.number < next);
        self.pass_dead();
    }

    /// Starts a new session after nothing of the last one arrived: everything is written again.
    pub(super) fn restart(&mut self) {
        for entry in self.entries.iter_mut().take(self.numbered) {
            entry.number = NO_NUMBER;
        }
        (self.numbered, self.next_number, self.acknowledged) = (0, 0, 0);
        (self.at, self.write_number) = (0, 0);
        self.pass_dead();
    }

    /// Starts a new session after nobody knows what of the last one arrived: what was written fails.
    pub(super) fn restart_after_loss(&mut self, report: &mut impl Report) {
        let numbered = self.numbered;
        for entry in self.entries.drain(..numbered.min(self.entries.len())) {
            match entry.message {
                Some(message) => report.outcome(message, Outcome::Failed(Reason::UnknownOutcome)),
                None => self.dead = self.dead.saturating_sub(1),
            }
        }
        self.numbered = 0;
        self.expiries.forget_below(self.lowest_order());
        self.restart();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::testing::epoch;

    impl Report for Vec<(u64, Outcome)> {
        fn outcome(&mut self, message: Queued, outcome: Outcome) {
            self.push((message.tag, outcome));
        }
    }

    #[test]
    fn what_is_remembered_follows_the_live_messages() {
        let (now, mut lane, mut outcomes) = (epoch(), SendLane::default(), Vec::new());
        lane.resume(0);
        for tag in 0..10_000 {
            let expires = now + Duration::from_secs(60 + tag);
            lane.push(Queued { tag, expires, kind: Kind::Message, data: Bytes::new() });
            assert!(lane.poll_chunk(now, &mut outcomes).is_some());
            if tag > 0 {
                lane.receipt(0, &[(tag, tag + 1)], &mut outcomes).unwrap();
            }
            assert!(lane.entries.len() < 50 && lane.expiries.len() < 150);
        }
        assert_eq!(outcomes.len(), 9_999);
        lane.expire(now + Duration::from_secs(70), &mut outcomes);
        assert_eq!(outcomes.last(), Some(&(0, Outcome::Expired)));
        assert!(lane.entries.is_empty() && lane.deadline().is_none());
    }
}
