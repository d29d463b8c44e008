//! The receiving end of a conversation: what has arrived, what was handed over, and what to tell the sender of it.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    ConversationEvent, Heard, Kind, MAX_LANES, MAX_RUNS, Receipt, SessionId, Violation,
    frame::{Assembler, Item},
};
use crate::Config;

/// How long a receipt that nobody waits for may wait for something to go with; less than QUIC's acknowledgements may, which is
/// 25 ms (RFC 9000, section 18.2), so that one that goes alone takes that of its message along.
const OWED_FOR: Duration = Duration::from_millis(20);
/// The most messages in one event.
const MAX_TOGETHER: usize = 256;
/// What the sender keeps for want of such receipts, at most.
const MAX_OWED_MESSAGES: usize = 32;
const MAX_OWED_BYTES: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct Inbox {
    /// The last session that the other end opened.
    session: Option<SessionId>,
    /// It was opened on this link too.
    open: bool,
    lanes: Vec<ReceiveLane>,
    unhanded_messages: usize,
    unhanded_bytes: usize,
    owed: Option<Owed>,
    events: VecDeque<ConversationEvent>,
    /// How many messages are in those.
    queued: usize,
    max_message: usize,
    max_messages: usize,
    max_bytes: usize,
}

#[derive(Debug, Default)]
struct ReceiveLane {
    assembler: Assembler,
    /// The `seq` of the session's number 0: a `seq` is never used for two messages.
    base: u64,
    /// The number expected next in this session.
    next: u64,
    /// Every `seq` below was shown to the application, or left out.
    shown: u64,
    /// Arrived but not handed over, ascending; may begin with some of earlier sessions.
    unhanded: VecDeque<Unhanded>,
    /// Runs of numbers handed over past one that is not, to be told once.
    also: VecDeque<(u64, u64)>,
    receipt_due: bool,
    /// As above, but it can wait.
    receipt_owed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Unhanded {
    seq: u64,
    bytes: usize,
    /// The sender's application waits for the receipt, and not for a reply or nothing.
    is_awaited: bool,
}

/// What the application has taken.
#[derive(Clone, Copy, Debug, Default)]
struct Taken {
    messages: usize,
    bytes: usize,
    /// How many of them nobody waits for, and their bytes.
    owed: Option<(usize, usize)>,
}

/// Receipts that wait for something to go with.
#[derive(Clone, Copy, Debug)]
struct Owed {
    until: Instant,
    messages: usize,
    bytes: usize,
}

impl Inbox {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            session: None,
            open: false,
            lanes: Vec::new(),
            unhanded_messages: 0,
            unhanded_bytes: 0,
            owed: None,
            events: VecDeque::new(),
            queued: 0,
            max_message: config.max_message,
            max_messages: config.max_unhanded_messages,
            max_bytes: config.max_unhanded_bytes,
        }
    }

    pub(super) fn can_receive(&self, lane: u8) -> bool {
        let room = self.unhanded_messages < self.max_messages.max(1) && self.unhanded_bytes < self.max_bytes.max(1);
        if !self.open || !room {
            return false;
        }
        let halves = || self.lanes.iter().map(|lane| lane.assembler.held()).enumerate();
        let held: usize = halves().map(|(_, held)| held).sum();
        // one lane always goes on, so that half messages cannot keep each other from their ends
        held.saturating_add(self.unhanded_bytes) < self.max_bytes
            || halves().find(|(_, held)| *held > 0).is_none_or(|(index, _)| index == usize::from(lane))
    }

    pub(super) fn receive(&mut self, lane: u8, mut bytes: Bytes) -> Result<(), Violation> {
        if !self.open {
            return Err(Violation("messages before the session is open"));
        }
        let index = usize::from(lane);
        if index >= MAX_LANES {
            return Err(Violation("a lane that does not exist"));
        }
        if index >= self.lanes.len() {
            self.lanes.resize_with(index + 1, ReceiveLane::default);
        }
        let Some(receiver) = self.lanes.get_mut(index) else { return Ok(()) };
        while let Some(item) = receiver.assembler.next(&mut bytes, self.max_message)? {
            match item {
                Item::Skip(count) => receiver.advance(count)?,
                Item::Message(kind, data) => {
                    let seq = receiver.base.saturating_add(receiver.next);
                    receiver.advance(1)?;
                    receiver.unhanded.push_back(Unhanded { seq, bytes: data.len(), is_awaited: kind == Kind::Message });
                    self.unhanded_messages += 1;
                    self.unhanded_bytes = self.unhanded_bytes.saturating_add(data.len());
                    self.queued += 1;
                    push(&mut self.events, lane, seq, kind, data);
                }
            }
        }
        Ok(())
    }

    pub(super) fn handed(&mut self, now: Instant, lane: u8, seq: u64, count: u64) {
        let Some(receiver) = self.lanes.get_mut(usize::from(lane)) else { return };
        // what was not shown yet cannot have been taken
        let behind = seq.saturating_add(count).min(receiver.shown);
        let Taken { messages, bytes, owed } = receiver.handed(seq, behind);
        self.unhanded_messages = self.unhanded_messages.saturating_sub(messages);
        self.unhanded_bytes = self.unhanded_bytes.saturating_sub(bytes);
        if let Some((messages, bytes)) = owed {
            self.owe(now, messages, bytes);
        }
    }

    fn owe(&mut self, now: Instant, messages: usize, bytes: usize) {
        let owed = self.owed.get_or_insert(Owed { until: now + OWED_FOR, messages: 0, bytes: 0 });
        owed.messages = owed.messages.saturating_add(messages);
        owed.bytes = owed.bytes.saturating_add(bytes);
        if owed.messages >= MAX_OWED_MESSAGES || owed.bytes >= MAX_OWED_BYTES {
            self.tell_owed();
        }
    }

    /// The receipts that wait go now. Says whether there are any.
    pub(super) fn tell_owed(&mut self) -> bool {
        let are_owed = self.owed.take().is_some();
        for lane in &mut self.lanes {
            lane.receipt_due |= std::mem::take(&mut lane.receipt_owed);
        }
        are_owed
    }

    /// When receipts have waited long enough.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.owed.filter(|_| self.open).map(|owed| owed.until)
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.owed.is_some_and(|owed| owed.until <= now) {
            self.tell_owed();
        }
    }

    pub(super) const fn unhanded_bytes(&self) -> usize {
        self.unhanded_bytes
    }

    pub(super) fn halves(&self) -> usize {
        self.lanes.iter().map(|lane| lane.assembler.held()).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.unhanded_messages == 0
    }

    /// What was read in one piece with the last message that the application may hold waits here.
    pub(super) fn poll_event(&mut self) -> Option<ConversationEvent> {
        let held = self.unhanded_messages.saturating_sub(self.queued);
        let room = self.max_messages.max(1).saturating_sub(held);
        let event = match self.events.front_mut()? {
            ConversationEvent::Messages { lane, seq, data } if room > 0 && data.len() > room => {
                let rest = data.split_off(room);
                let (lane, first) = (*lane, *seq);
                *seq = first.saturating_add(room as u64);
                ConversationEvent::Messages { lane, seq: first, data: std::mem::replace(data, rest) }
            }
            _ if room > 0 => self.events.pop_front()?,
            _ => return None,
        };
        let (lane, seq, count) = match &event {
            ConversationEvent::Messages { lane, seq, data } => (*lane, *seq, data.len()),
            ConversationEvent::Arrived { lane, seq, .. } => (*lane, *seq, 1),
            ConversationEvent::Outcome { .. } | ConversationEvent::Unblocked => return Some(event),
        };
        self.queued = self.queued.saturating_sub(count);
        if let Some(receiver) = self.lanes.get_mut(usize::from(lane)) {
            receiver.shown = seq.saturating_add(count as u64);
        }
        Some(event)
    }

    pub(super) fn heard(&self) -> Option<Heard> {
        let next = self.lanes.iter().map(|lane| lane.next).collect();
        self.session.map(|session| Heard { session, next })
    }

    /// The other end goes on in `session`, or begins it.
    pub(super) fn opened(&mut self, session: SessionId) -> Result<(), Violation> {
        if self.open {
            return Err(Violation("a second session on one link"));
        }
        if self.session != Some(session) {
            for lane in &mut self.lanes {
                lane.new_session()?;
            }
            self.session = Some(session);
        }
        self.open = true;
        self.lanes.iter_mut().for_each(ReceiveLane::tell_all);
        Ok(())
    }

    pub(super) fn detach(&mut self) {
        self.open = false;
        self.owed = None;
        for lane in &mut self.lanes {
            lane.assembler = Assembler::default();
        }
    }

    /// `is_joined` says that something else goes out now.
    pub(super) fn poll_receipt(&mut self, is_joined: bool) -> Option<Receipt> {
        if !self.open {
            return None;
        }
        if self.owed.is_some() && (is_joined || self.lanes.iter().any(|lane| lane.receipt_due)) {
            self.tell_owed();
        }
        let (index, lane) = self.lanes.iter_mut().enumerate().find(|(_, lane)| lane.receipt_due)?;
        Some(lane.receipt(u8::try_from(index).ok()?))
    }
}

/// A message joins the ones before, if it follows on them.
fn push(events: &mut VecDeque<ConversationEvent>, lane: u8, seq: u64, kind: Kind, data: Bytes) {
    if kind != Kind::Message {
        return events.push_back(ConversationEvent::Arrived { lane, seq, kind, data });
    }
    if let Some(ConversationEvent::Messages { lane: last, seq: first, data: all }) = events.back_mut()
        && *last == lane
        && all.len() < MAX_TOGETHER
        && seq.checked_sub(*first) == Some(all.len() as u64)
    {
        return all.push(data);
    }
    events.push_back(ConversationEvent::Messages { lane, seq, data: vec![data] });
}

impl ReceiveLane {
    fn advance(&mut self, count: u64) -> Result<(), Violation> {
        self.next = self.next.saturating_add(count);
        match self.base.checked_add(self.next) {
            Some(_) => Ok(()),
            None => Err(Violation("more messages than can be counted")),
        }
    }

    /// Those of `first..behind` that were not handed over before are now.
    fn handed(&mut self, first: u64, behind: u64) -> Taken {
        let from = match self.unhanded.front() {
            Some(front) if front.seq < first => self.unhanded.partition_point(|unhanded| unhanded.seq < first),
            _ => 0,
        };
        let mut taken = Taken::default();
        for Unhanded { seq, bytes, is_awaited } in self.unhanded.range(from..).take_while(|next| next.seq < behind) {
            taken.messages += 1;
            taken.bytes = taken.bytes.saturating_add(*bytes);
            if !is_awaited {
                let (messages, sum) = taken.owed.unwrap_or_default();
                taken.owed = Some((messages + 1, bytes.saturating_add(sum)));
            }
            if *seq >= self.base {
                self.receipt_due |= is_awaited;
                self.receipt_owed |= !is_awaited;
            }
        }
        if from == 0 {
            self.unhanded.drain(..taken.messages);
            return taken;
        }
        let behind_them = from + taken.messages;
        let numbers: Vec<u64> =
            self.unhanded.drain(from..behind_them).filter_map(|gone| gone.seq.checked_sub(self.base)).collect();
        let below = self.below();
        numbers.into_iter().filter(|number| *number > below).for_each(|number| self.note_also(number));
        taken
    }

    fn note_also(&mut self, number: u64) {
        match self.also.back_mut() {
            Some((_, behind)) if *behind == number => *behind = number.saturating_add(1),
            _ => self.also.push_back((number, number.saturating_add(1))),
        }
    }

    /// Every number below is done with.
    fn below(&self) -> u64 {
        let of_session = match self.unhanded.front() {
            Some(front) if front.seq < self.base => {
                let first = self.unhanded.partition_point(|unhanded| unhanded.seq < self.base);
                self.unhanded.get(first)
            }
            front => front,
        };
        of_session.map_or(self.next, |unhanded| unhanded.seq.saturating_sub(self.base))
    }

    fn receipt(&mut self, lane: u8) -> Receipt {
        let below = self.below();
        self.also.retain(|(_, behind)| *behind > below);
        let count = self.also.len().min(MAX_RUNS);
        let mut also: Vec<_> = self.also.drain(..count).collect();
        also.sort_unstable();
        self.receipt_due = !self.also.is_empty();
        self.receipt_owed = false;
        Receipt { lane, below, also }
    }

    /// A new link: receipts may have been lost with the old one.
    fn tell_all(&mut self) {
        self.also.clear();
        self.receipt_due = self.next > 0;
        self.receipt_owed = false;
        let mut last = None;
        for unhanded in &self.unhanded {
            let Some(number) = unhanded.seq.checked_sub(self.base) else { continue };
            if let Some(last) = last
                && last < number
            {
                self.also.push_back((last, number));
            }
            last = Some(number.saturating_add(1));
        }
        if let Some(last) = last
            && last < self.next
        {
            self.also.push_back((last, self.next));
        }
    }

    fn new_session(&mut self) -> Result<(), Violation> {
        self.base = self.base.checked_add(self.next).ok_or(Violation("more sessions than can be counted"))?;
        self.next = 0;
        Ok(())
    }
}
