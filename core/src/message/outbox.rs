//! The sending end of a conversation: queue limits, sessions, and the lanes.

use std::{collections::VecDeque, time::Instant};

use bytes::Bytes;

use super::{
    ConversationEvent, Full, Heard, Kind, MAX_LANES, Outcome, Outgoing, Receipt, SessionId, Violation,
    send_lane::{Queued, Report, SendLane},
};
use crate::{Config, Reason};

#[derive(Debug)]
pub(super) struct Outbox {
    session: SessionId,
    /// The other end's conversation to which the session was opened.
    opened_to: Option<[u8; 16]>,
    lanes: Vec<SendLane>,
    state: LinkState,
    ledger: Ledger,
    max_message: usize,
    max_messages: usize,
    max_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LinkState {
    /// Nothing may be written: there is no link, or the other end has not said yet what it knows.
    Waiting,
    /// `Open` is to be sent; the lanes may be written.
    Opening,
    Open,
}

/// What is queued, and what became of it.
#[derive(Debug, Default)]
struct Ledger {
    messages: usize,
    bytes: usize,
    /// The largest message that was given back since the last `Unblocked`.
    blocked: Option<usize>,
    events: VecDeque<ConversationEvent>,
}

impl Report for Ledger {
    fn outcome(&mut self, message: Queued, outcome: Outcome) {
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(message.data.len());
        self.tell(message.tag, outcome);
    }
}

impl Ledger {
    fn enter(&mut self, len: usize) {
        self.messages += 1;
        self.bytes = self.bytes.saturating_add(len);
    }

    /// Joins it to the outcome before, if it follows on that.
    fn tell(&mut self, new: u64, came: Outcome) {
        if let Some(ConversationEvent::Outcome { tag, count, outcome }) = self.events.back_mut()
            && *outcome == came
            && new.checked_sub(*tag) == Some(*count)
        {
            *count += 1;
        } else {
            self.events.push_back(ConversationEvent::Outcome { tag: new, count: 1, outcome: came });
        }
    }
}

impl Outbox {
    pub(super) fn new(config: &Config, seed: [u8; 16]) -> Self {
        let lanes = usize::from(config.lanes).min(MAX_LANES);
        Self {
            session: SessionId { seed, count: 0 },
            opened_to: None,
            lanes: (0..lanes).map(|_| SendLane::default()).collect(),
            state: LinkState::Waiting,
            ledger: Ledger::default(),
            max_message: config.max_message,
            max_messages: config.max_queued_messages,
            max_bytes: config.max_queued_bytes,
        }
    }

    pub(super) fn send(&mut self, now: Instant, message: Outgoing) -> Result<(), Full> {
        let Outgoing { lane, kind, mut data, expires, tag } = message;
        if matches!(kind, Kind::Reply { result: Err(_), .. }) {
            data = Bytes::new();
        }
        let refused = if data.len() > self.max_message {
            Some(Outcome::Failed(Reason::TooLarge))
        } else if usize::from(lane) >= self.lanes.len() {
            Some(Outcome::Failed(Reason::Refused))
        } else if expires <= now {
            Some(Outcome::Expired)
        } else {
            None
        };
        if let Some(outcome) = refused {
            self.ledger.tell(tag, outcome);
            return Ok(());
        }
        // who waits for an answer without data may be the one by whom the queue becomes empty
        let is_answer = data.is_empty() && matches!(kind, Kind::Reply { .. });
        let has_place = is_answer && self.ledger.messages < self.max_messages.saturating_mul(2);
        if !has_place && !self.has_room(data.len()) {
            return Err(Full);
        }
        let Some(lane) = self.lanes.get_mut(usize::from(lane)) else { return Ok(()) };
        self.ledger.enter(data.len());
        lane.push(Queued { tag, expires, kind, data });
        Ok(())
    }

    pub(super) fn send_batch(
        &mut self,
        now: Instant,
        lane: u8,
        messages: &mut VecDeque<Bytes>,
        expires: Instant,
        tag: u64,
    ) -> u64 {
        if expires <= now || usize::from(lane) >= self.lanes.len() {
            return 0;
        }
        let mut taken = 0;
        while messages.front().is_some_and(|data| data.len() <= self.max_message && self.has_room(data.len()))
            && let Some(data) = messages.pop_front()
            && let Some(lane) = self.lanes.get_mut(usize::from(lane))
        {
            self.ledger.enter(data.len());
            lane.push(Queued { tag: tag.wrapping_add(taken), expires, kind: Kind::Message, data });
            taken += 1;
        }
        taken
    }

    /// Whether a message of `len` bytes fits; if not, its want is noted for `Unblocked`.
    pub(super) fn has_room(&mut self, len: usize) -> bool {
        let Ledger { messages, bytes, .. } = self.ledger;
        let fits = messages == 0 || (messages < self.max_messages && bytes.saturating_add(len) <= self.max_bytes);
        if !fits {
            self.ledger.blocked = self.ledger.blocked.max(Some(len));
        }
        fits
    }

    pub(super) fn poll_event(&mut self) -> Option<ConversationEvent> {
        self.ledger.events.pop_front()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ledger.messages == 0
    }

    pub(super) fn lanes_ready(&self) -> u16 {
        if self.state == LinkState::Waiting {
            return 0;
        }
        let ready = |(index, lane): (usize, &SendLane)| u16::from(lane.has_output()) << index;
        self.lanes.iter().enumerate().map(ready).fold(0, |all, bit| all | bit)
    }

    pub(super) fn poll_chunk(&mut self, now: Instant, lane: u8) -> Option<Bytes> {
        if self.state == LinkState::Waiting {
            return None;
        }
        let chunk = self.lanes.get_mut(usize::from(lane))?.poll_chunk(now, &mut self.ledger);
        self.unblock();
        chunk
    }

    /// The session of this link, once, when it is settled.
    pub(super) fn poll_open(&mut self) -> Option<SessionId> {
        (self.state == LinkState::Opening).then(|| {
            self.state = LinkState::Open;
            self.session
        })
    }

    pub(super) fn detach(&mut self) {
        self.state = LinkState::Waiting;
        self.lanes.iter_mut().for_each(SendLane::detach);
    }

    /// The other end, which is the conversation `instance`, knows `heard`: settles the session of this link.
    pub(super) fn known(&mut self, instance: [u8; 16], heard: Option<Heard>) -> Result<(), Violation> {
        if self.state != LinkState::Waiting {
            return Err(Violation("it said twice what it knows"));
        }
        match heard.filter(|heard| heard.session == self.session && self.opened_to.is_some()) {
            Some(heard) => self.resume(&heard.next)?,
            None if self.opened_to.is_none() => self.lanes.iter_mut().for_each(|lane| lane.resume(0)),
            // the same conversation never heard of the session, so nothing of it can have been handed over
            None if self.opened_to == Some(instance) => {
                self.next_session();
                self.lanes.iter_mut().for_each(SendLane::restart);
            }
            None => {
                self.next_session();
                self.lanes.iter_mut().for_each(|lane| lane.restart_after_loss(&mut self.ledger));
                self.unblock();
            }
        }
        self.opened_to = Some(instance);
        self.state = LinkState::Opening;
        Ok(())
    }

    fn resume(&mut self, next: &[u64]) -> Result<(), Violation> {
        let next_of = |lane: usize| next.get(lane).copied().unwrap_or(0);
        let beyond = next.iter().skip(self.lanes.len()).any(|next| *next > 0);
        if beyond || self.lanes.iter().enumerate().any(|(index, lane)| !lane.can_resume(next_of(index))) {
            return Err(Violation("it expects a message that cannot be the next"));
        }
        for (index, lane) in self.lanes.iter_mut().enumerate() {
            lane.resume(next_of(index));
        }
        Ok(())
    }

    fn next_session(&mut self) {
        self.session.count = self.session.count.wrapping_add(1);
    }

    pub(super) fn receipt(&mut self, receipt: &Receipt) -> Result<(), Violation> {
        if self.state != LinkState::Open {
            return Err(Violation("a receipt before the session is open"));
        }
        let lane = self.lanes.get_mut(usize::from(receipt.lane)).ok_or(Violation("a receipt for no lane"))?;
        lane.receipt(receipt.below, &receipt.also, &mut self.ledger)?;
        self.unblock();
        Ok(())
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.lanes.iter().filter_map(SendLane::deadline).min()
    }

    pub(super) fn expire(&mut self, now: Instant) {
        self.lanes.iter_mut().for_each(|lane| lane.expire(now, &mut self.ledger));
        self.unblock();
    }

    pub(super) fn fail_all(&mut self, reason: Reason) {
        self.lanes.iter_mut().for_each(|lane| lane.fail_all(reason, &mut self.ledger));
        self.unblock();
    }

    pub(super) fn fail_unwritten(&mut self, reason: Reason) {
        self.lanes.iter_mut().for_each(|lane| lane.fail_unwritten(reason, &mut self.ledger));
        self.unblock();
    }

    /// Half empty before the sender is called back, so that it is not called for each message.
    fn unblock(&mut self) {
        let Some(wanted) = self.ledger.blocked else { return };
        let Ledger { messages, bytes, .. } = self.ledger;
        let room = messages <= self.max_messages / 2
            && bytes <= self.max_bytes / 2
            && bytes.saturating_add(wanted) <= self.max_bytes;
        if room || messages == 0 {
            self.ledger.blocked = None;
            self.ledger.events.push_back(ConversationEvent::Unblocked);
        }
    }
}
