//! Both directions of the message traffic with one remote Id.

use std::{collections::VecDeque, time::Instant};

use bytes::Bytes;

use super::{ConversationEvent, Full, Outgoing, SessionMessage, Violation, inbox::Inbox, outbox::Outbox};
use crate::{Config, Reason};

/// The delivery state shared with one remote Id; it outlives the links.
///
/// The caller says when a link came and went, carries control messages and the bytes of one stream per lane over it, and
/// brings the application's answers. Nothing that was sent over one link may be brought in under another.
///
/// Dropping it forgets the session: what the other end has written and has no receipt for fails there with
/// `unknown_outcome`.
#[derive(Debug)]
pub struct Conversation {
    seed: [u8; 16],
    attached: bool,
    known_due: bool,
    inbox: Inbox,
    outbox: Outbox,
}

impl Conversation {
    /// `seed` names this conversation to the other end: a fresh random one each time, after a restart too.
    pub fn new(config: &Config, seed: [u8; 16]) -> Self {
        Self { seed, attached: false, known_due: false, inbox: Inbox::new(config), outbox: Outbox::new(config, seed) }
    }

    /// Queues a message; exactly one [`ConversationEvent::Outcome`] with its tag follows. One that is too large, in no
    /// lane or late already gets it at once.
    ///
    /// # Errors
    /// [`Full`] over `Config::max_queued_messages` or `Config::max_queued_bytes`: nothing was queued, and one
    /// [`ConversationEvent::Unblocked`] follows when there is room.
    pub fn send(&mut self, now: Instant, message: Outgoing) -> Result<(), Full> {
        self.outbox.send(now, message)
    }

    /// Whether a message of `len` bytes would be taken now. If not, [`ConversationEvent::Unblocked`] follows when there is
    /// room.
    pub fn has_room(&mut self, len: usize) -> bool {
        self.outbox.has_room(len)
    }

    /// A link came. Its streams are fresh; what was left of another one is void.
    pub fn attach(&mut self, now: Instant) {
        self.detach(now);
        self.attached = true;
        self.known_due = true;
    }

    /// The link went, with whatever was still on it.
    pub fn detach(&mut self, _now: Instant) {
        self.attached = false;
        self.known_due = false;
        self.inbox.detach();
        self.outbox.detach();
    }

    /// The next message for the link's control stream.
    pub fn poll_control(&mut self) -> Option<SessionMessage> {
        if !self.attached {
            return None;
        }
        if std::mem::take(&mut self.known_due) {
            return Some(SessionMessage::Known { instance: self.seed, heard: self.inbox.heard() });
        }
        if let Some(session) = self.outbox.poll_open() {
            return Some(SessionMessage::Open { session });
        }
        self.inbox.poll_receipt(self.outbox.lanes_ready() != 0).map(SessionMessage::Receipt)
    }

    /// Takes a message from the link's control stream; without a link it is ignored. Look at
    /// [`lanes_ready`](Self::lanes_ready) and [`can_receive`](Self::can_receive) afterwards.
    ///
    /// # Errors
    /// The link is to be closed.
    pub fn handle_control(&mut self, _now: Instant, message: SessionMessage) -> Result<(), Violation> {
        if !self.attached {
            return Ok(());
        }
        match message {
            SessionMessage::Known { instance, heard } => self.outbox.known(instance, heard),
            SessionMessage::Open { session } => self.inbox.opened(session),
            SessionMessage::Receipt(receipt) => self.outbox.receipt(&receipt),
        }
    }

    /// A bit for each lane (lane 0 the lowest) for which [`poll_chunk`](Self::poll_chunk) has bytes.
    pub fn lanes_ready(&self) -> u16 {
        self.outbox.lanes_ready()
    }

    /// The next bytes for the stream of `lane`, at most [`MAX_CHUNK`](super::MAX_CHUNK). A message is expected to leave
    /// soon once it was returned here: ask only while the stream takes bytes.
    pub fn poll_chunk(&mut self, now: Instant, lane: u8) -> Option<Bytes> {
        self.outbox.poll_chunk(now, lane)
    }

    /// Whether bytes of `lane` are wanted now: the session of this link is settled, and neither what the application has
    /// not taken is over `Config::max_unhanded_messages` or `Config::max_unhanded_bytes`, nor that together with the
    /// halves of messages (then one lane goes on). Changes by [`handle_control`](Self::handle_control),
    /// [`receive`](Self::receive) on another lane, and [`handed`](Self::handed).
    pub fn can_receive(&self, lane: u8) -> bool {
        self.inbox.can_receive(lane)
    }

    /// Takes the next bytes of the stream of `lane`, at most [`MAX_CHUNK`](super::MAX_CHUNK) and only while
    /// [`can_receive`](Self::can_receive); without a link they are ignored.
    ///
    /// # Errors
    /// The link is to be closed.
    pub fn receive(&mut self, _now: Instant, lane: u8, bytes: Bytes) -> Result<(), Violation> {
        if !self.attached {
            return Ok(());
        }
        self.inbox.receive(lane, bytes)
    }

    /// Queues plain messages from the front of `messages`, as many as there is room for, as [`send`](Self::send) would: their
    /// tags follow on each other from `tag` on. Returns how many; zero also where `send` would refuse the first one.
    pub fn send_batch(
        &mut self,
        now: Instant,
        lane: u8,
        messages: &mut VecDeque<Bytes>,
        expires: Instant,
        tag: u64,
    ) -> u64 {
        self.outbox.send_batch(now, lane, messages, expires, tag)
    }

    /// The application has taken `count` messages that arrived in this conversation, from `seq` on: a receipt goes out; at once
    /// if the sender's application waits for it, else with what goes out next, after 20 ms at the latest. In any order; what
    /// is unknown or was given before is ignored.
    pub fn handed(&mut self, now: Instant, lane: u8, seq: u64, count: u64) {
        self.inbox.handed(now, lane, seq, count);
    }

    /// Receipts that wait for something to go with go now. Says whether there are any.
    pub fn flush_receipts(&mut self) -> bool {
        self.inbox.tell_owed()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<ConversationEvent> {
        self.outbox.poll_event().or_else(|| self.inbox.poll_event())
    }

    /// When to call [`handle_timeout`](Self::handle_timeout): a message may expire, at most 5 ms ago, or a receipt has waited
    /// long enough for something to go with.
    pub fn deadline(&self) -> Option<Instant> {
        [self.outbox.deadline(), self.inbox.deadline()].into_iter().flatten().min()
    }

    /// Gives the messages that have expired their outcome, and [`poll_control`](Self::poll_control) the receipts that are due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.outbox.expire(now);
        self.inbox.handle_timeout(now);
    }

    /// Gives every message of ours an outcome: `reason`, or `unknown_outcome` if it was written to a link.
    pub fn fail_all(&mut self, reason: Reason) {
        self.outbox.fail_all(reason);
    }

    /// Gives the messages of ours of which no whole was ever written the outcome `reason`; the others wait on.
    pub fn fail_unwritten(&mut self, reason: Reason) {
        self.outbox.fail_unwritten(reason);
    }

    /// Bytes of messages that the application has not taken.
    pub fn held(&self) -> usize {
        self.inbox.unhanded_bytes()
    }

    /// Bytes of messages that have not come to their ends.
    pub fn halves(&self) -> usize {
        self.inbox.halves()
    }

    /// A message of ours waits for its outcome: a link is wanted.
    pub fn wants_link(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Nothing of ours waits for an outcome and nothing of theirs for the application: the best one to forget.
    pub fn is_idle(&self) -> bool {
        self.outbox.is_empty() && self.inbox.is_empty()
    }
}
