//! Requests and their replies, and what becomes of those without one.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{
    Event, Node, Outcome, ReplyToken, RequestId, Timer,
    messages::{Asked, REPLY, REQUEST, after},
    to_master::Pending,
};
use crate::{
    CommandError, Id, Reason,
    message::{Fence, Kind, Outgoing, RequestsFull},
};

/// What is asked of whom.
pub(super) struct Question {
    pub(super) to: Id,
    pub(super) data: Bytes,
    pub(super) lane: u8,
    pub(super) ttl: Duration,
    /// It is asked of the Master.
    pub(super) pending: Option<Pending>,
}

impl Node {
    /// Asks `to` for a reply; one [`Event::Reply`] follows, after `timeout` (or `Config::request_timeout`) at the latest.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn request(
        &mut self,
        now: Instant,
        to: Id,
        data: Bytes,
        timeout: Option<Duration>,
    ) -> Result<RequestId, CommandError> {
        self.now = now;
        self.check_message(data.len(), 0)?;
        if to == self.id() {
            return Err(CommandError::BadDestinations);
        }
        let ttl = timeout.unwrap_or(self.config.request_timeout);
        self.ask(now, Question { to, data, lane: 0, ttl, pending: None }, |rid| Kind::Request { rid })
    }

    pub(super) fn ask(
        &mut self,
        now: Instant,
        question: Question,
        kind: impl FnOnce(u64) -> Kind,
    ) -> Result<RequestId, CommandError> {
        let Question { to, data, lane, ttl, pending } = question;
        let expires = after(now, ttl);
        let is_own = to == self.id();
        let reachable = self.reachable(now, &to);
        if reachable.is_ok() && !is_own && !self.conversation(now, to).has_room(data.len()) {
            return Err(CommandError::Blocked { to, data });
        }
        let rid = match self.messages.requests.insert(to, expires) {
            Ok(rid) => rid,
            Err(RequestsFull) => return Err(CommandError::Failed(Reason::Full)),
        };
        self.to_master.extend(pending.map(|pending| (rid, pending)));
        self.requests_changed();
        if let Err(reason) = reachable {
            self.request_failed(rid, reason);
        } else if is_own {
            self.arrived_from_self(now, lane, kind(rid), data);
        } else {
            let outgoing = Outgoing { lane, kind: kind(rid), data, expires, tag: REQUEST | rid };
            match self.conversation(now, to).send(now, outgoing) {
                Ok(()) => self.written_to(now, to),
                Err(_) => self.request_failed(rid, Reason::Full),
            }
        }
        Ok(RequestId(rid))
    }

    pub(super) fn requests_due(&mut self, now: Instant) {
        while let Some((rid, to)) = self.messages.requests.pop_due(now) {
            self.request_over(rid, to, Err(Reason::Timeout));
        }
        self.requests_changed();
    }

    /// No reply comes any more.
    pub(super) fn fail_requests(&mut self) {
        while let Some((rid, to)) = self.messages.requests.pop() {
            // a message to the Master may have arrived: only the answer that says so is missing
            let is_message = self.to_master.get(&rid).is_some_and(|pending| pending.send.is_some());
            self.request_over(rid, to, Err(if is_message { Reason::UnknownOutcome } else { Reason::Reset }));
        }
        self.requests_changed();
    }

    fn requests_changed(&mut self) {
        self.timers.set(Timer::Requests, self.messages.requests.deadline());
    }

    /// Answers a request; `Err` refuses it.
    ///
    /// # Errors
    /// `Gone` if it was answered before or its sender's link state is gone; `Blocked` gives the reply back.
    pub fn reply(
        &mut self,
        now: Instant,
        token: ReplyToken,
        result: Result<Bytes, Reason>,
    ) -> Result<(), CommandError> {
        self.now = now;
        self.check_message(result.as_ref().map_or(0, Bytes::len), 0)?;
        let Asked { by, rid, fence } = *self.messages.replies.get(&token).ok_or(CommandError::Gone)?;
        let held = fence.map_or(Ok(()), |fence| self.still_held(now, &fence));
        let blocked = result.clone().unwrap_or_default();
        let result = held.and(result);
        if by == self.id() {
            self.answered(by, rid, result);
        } else if !self.answer(now, by, rid, result) {
            return Err(CommandError::Blocked { to: by, data: blocked });
        }
        self.messages.replies.remove(&token);
        Ok(())
    }

    /// The answer to a request that was asked of the Master, if this node is no longer that one.
    pub(super) fn still_held(&self, now: Instant, fence: &Fence) -> Result<(), Reason> {
        if self.holds(now, fence) { Ok(()) } else { Err(Reason::MasterChanged) }
    }

    /// Sends the answer to a remote's request. Returns whether there was room for it.
    pub(super) fn answer(&mut self, now: Instant, to: Id, rid: u64, result: Result<Bytes, Reason>) -> bool {
        let expires = after(now, self.config.message_ttl);
        let data = result.clone().unwrap_or_default();
        let kind = Kind::Reply { rid, result: result.map(drop) };
        let is_sent =
            self.conversation(now, to).send(now, Outgoing { lane: 0, kind, data, expires, tag: REPLY }).is_ok();
        if is_sent {
            self.written_to(now, to);
        } else {
            self.count("replies refused: full");
        }
        is_sent
    }

    /// An answer came.
    pub(super) fn answered(&mut self, from: Id, rid: u64, result: Result<Bytes, Reason>) {
        if self.messages.requests.reply(from, rid) {
            self.requests_changed();
            self.request_over(rid, from, result);
        }
    }

    /// The request will not be answered.
    pub(super) fn request_failed(&mut self, rid: u64, reason: Reason) {
        if let Some(to) = self.messages.requests.remove(rid) {
            self.requests_changed();
            self.request_over(rid, to, Err(reason));
        }
    }

    /// Tells the application, once.
    fn request_over(&mut self, rid: u64, from: Id, result: Result<Bytes, Reason>) {
        let Some(send) = self.to_master.remove(&rid).and_then(|pending| pending.send) else {
            return self.event(Event::Reply { request: RequestId(rid), from, result });
        };
        let outcome = match result {
            Ok(_) => Outcome::Delivered,
            Err(Reason::Timeout) => Outcome::Expired,
            Err(reason) => Outcome::Failed(reason),
        };
        self.outcome(send, from, outcome);
    }
}
