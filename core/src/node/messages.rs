//! The application's side of messages: sending, datagrams, receipts, and what arrives.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{Event, Node, Outcome, Receipt, ReplyToken, SendId, SendOptions, Sends, roles::RoleState};
use crate::{
    CommandError, Config, Id, Name, Reason,
    link::LinkToken,
    message::{ConversationEvent, Fence, Kind, Outgoing, Requests},
};

/// Marks the tags of requests among those of messages.
pub(super) const REQUEST: u64 = 1 << 63;
/// The tag of replies: nobody asks what became of them.
pub(super) const REPLY: u64 = u64::MAX;

/// `now + time`; a year from now if that is beyond what an instant can be.
pub(super) fn after(now: Instant, time: Duration) -> Instant {
    const YEAR: Duration = Duration::from_secs(365 * 86_400);
    now.checked_add(time).unwrap_or(now + YEAR)
}

/// What becomes of a message once the application has taken it, beside the receipt in its conversation.
#[derive(Clone, Copy, Debug)]
enum Handed {
    /// The node sent it to itself.
    Own(SendId),
    /// It was for the Master, and is answered if this node still is that one.
    ToMaster { rid: u64, fence: Fence },
}

/// With whom a conversation is.
pub(super) struct Correspondent {
    pub(super) id: Id,
    pub(super) name: Name,
    /// Which one with that Id.
    pub(super) conversation: u64,
}

impl Correspondent {
    /// The application gets messages and their outcomes as they are; the rest is given back: the node has a say in it.
    pub(super) fn news(&self, event: ConversationEvent) -> Result<Event, ConversationEvent> {
        match event {
            ConversationEvent::Messages { lane, seq, data } => {
                let receipt = Receipt { count: data.len() as u64, ..self.receipt(lane, seq) };
                Ok(Event::Messages { from: self.id, name: self.name.clone(), lane, data, receipt })
            }
            ConversationEvent::Outcome { tag, count, outcome } if tag & REQUEST == 0 => {
                let sends = Sends { first: SendId(tag), count };
                Ok(Event::Outcome { sends, to: self.id, outcome })
            }
            ConversationEvent::Unblocked => Ok(Event::Unblocked { to: self.id }),
            rest => Err(rest),
        }
    }

    fn receipt(&self, lane: u8, seq: u64) -> Receipt {
        Receipt { from: self.id, conversation: self.conversation, lane, seq, count: 1 }
    }
}

/// Who waits for a reply.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) by: Id,
    pub(super) rid: u64,
    /// It is the Master under this token that was asked.
    pub(super) fence: Option<Fence>,
}

/// Numbers given to the application and what they stand for.
pub(super) struct Messages {
    next: u64,
    /// Those that are more than their conversation's business.
    handed: BTreeMap<Receipt, Handed>,
    pub(super) replies: BTreeMap<ReplyToken, Asked>,
    pub(super) requests: Requests,
    max_replies: usize,
}

impl Messages {
    pub(super) fn new(config: &Config, first_request: u64) -> Self {
        Self {
            next: 0,
            handed: BTreeMap::new(),
            replies: BTreeMap::new(),
            requests: Requests::new(config, first_request >> 2),
            max_replies: config.max_requests,
        }
    }

    pub(super) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Whether a request between this node and `id` has no answer yet: a look at all of them.
    pub(super) fn is_pending(&self, id: &Id) -> bool {
        self.requests.waits_for(id) || self.replies.values().any(|asked| asked.by == *id)
    }

    /// For what the node sends to itself.
    fn own_receipt(&mut self, own: Id, lane: u8) -> Receipt {
        Receipt { from: own, conversation: 0, lane, seq: self.number(), count: 1 }
    }

    fn reply_token(&mut self, asked: Asked) -> ReplyToken {
        let token = ReplyToken(self.number());
        self.replies.insert(token, asked);
        if self.replies.len() > self.max_replies {
            self.replies.pop_first();
        }
        token
    }
}

impl Node {
    /// Sends `data` to each of `to`; an [`Event::Outcome`] follows for each, exactly one. Before the first
    /// [`Event::ServerUp`] and while suspended it fails as `suspended`.
    ///
    /// # Errors
    /// Nothing was sent to anyone; `Blocked` gives the message back.
    pub fn send(&mut self, now: Instant, to: &[Id], data: Bytes, options: SendOptions) -> Result<SendId, CommandError> {
        self.now = now;
        self.check_message(data.len(), options.lane)?;
        Config::check_destinations(to)?;
        for id in to {
            let conversation = self.remotes.get_mut(id).and_then(|remote| remote.conversation.as_mut());
            if conversation.is_some_and(|conversation| !conversation.has_room(data.len())) {
                return Err(CommandError::Blocked { to: *id, data });
            }
        }
        let send = SendId(self.messages.number());
        let expires = after(now, options.ttl.unwrap_or(self.config.message_ttl));
        if let Some((last, others)) = to.split_last() {
            for id in others {
                self.send_one(now, *id, send, data.clone(), options.lane, expires);
            }
            self.send_one(now, *last, send, data, options.lane, expires);
        }
        Ok(send)
    }

    /// Takes messages from the front of `messages` and sends them to `to`, as [`send`](Self::send) would, for less: as many as
    /// there is room for. What is left wants another call; if its first one is refused then for want of room, an
    /// [`Event::Unblocked`] follows.
    ///
    /// # Errors
    /// What `send` says of the first one. Nothing was taken.
    pub fn send_batch(
        &mut self,
        now: Instant,
        to: Id,
        messages: &mut VecDeque<Bytes>,
        options: SendOptions,
    ) -> Result<Sends, CommandError> {
        self.now = now;
        let first = SendId(self.messages.next + 1);
        let Some(front) = messages.front().cloned() else { return Ok(Sends { first, count: 0 }) };
        self.check_message(front.len(), options.lane)?;
        if !self.is_suspended()
            && let Some(remote) = self.remotes.get_mut(&to).filter(|remote| remote.current.is_some())
            && let Some(conversation) = &mut remote.conversation
        {
            let expires = after(now, options.ttl.unwrap_or(self.config.message_ttl));
            let count = conversation.send_batch(now, options.lane, messages, expires, first.0);
            if count > 0 {
                self.messages.next += count;
                remote.note_unwritten(to, &mut self.unwritten);
                return Ok(Sends { first, count });
            }
        }
        let send = self.send(now, &[to], front, options)?;
        messages.pop_front();
        Ok(Sends::one(send))
    }

    fn send_one(&mut self, now: Instant, id: Id, send: SendId, data: Bytes, lane: u8, expires: Instant) {
        if id == self.id() {
            let receipt = self.messages.own_receipt(id, lane);
            self.messages.handed.insert(receipt, Handed::Own(send));
            return self.message(&self.name.clone(), data, receipt);
        }
        let outgoing = Outgoing { lane, kind: Kind::Message, data, expires, tag: send.0 };
        if !self.is_suspended()
            && let Some(remote) = self.remotes.get_mut(&id).filter(|remote| remote.current.is_some())
            && let Some(conversation) = &mut remote.conversation
        {
            // linked: no table is asked, and no link is wanted
            match conversation.send(now, outgoing) {
                Ok(()) => remote.note_unwritten(id, &mut self.unwritten),
                Err(_) => self.outcome(send, id, Outcome::Failed(Reason::Full)),
            }
            return;
        }
        let failure = match self.reachable(now, &id) {
            Ok(()) => self.conversation(now, id).send(now, outgoing).err().map(|_| Reason::Full),
            Err(reason) => Some(reason),
        };
        match failure {
            Some(reason) => self.outcome(send, id, Outcome::Failed(reason)),
            None => self.written_to(now, id),
        }
    }

    pub(super) fn outcome(&mut self, send: SendId, to: Id, outcome: Outcome) {
        self.event(Event::Outcome { sends: Sends::one(send), to, outcome });
    }

    pub(super) fn check_message(&self, len: usize, lane: u8) -> Result<(), CommandError> {
        if self.stopping.is_some() {
            return Err(CommandError::Stopped);
        }
        self.config.check_message(len, lane)
    }

    /// Whether a message to `id` has any hope, by the tables.
    pub(super) fn reachable(&self, now: Instant, id: &Id) -> Result<(), Reason> {
        if *id == self.id() {
            return Ok(());
        }
        if self.is_suspended() {
            return Err(if self.is_duplicate { Reason::DuplicateIdentity } else { Reason::Suspended });
        }
        if self.is_linked(id) {
            return Ok(());
        }
        match &self.role {
            _ if id.is_server() && self.saved.servers.contains_key(id) => match self.is_down(now, id) {
                true => Err(Reason::Offline),
                false => Ok(()),
            },
            RoleState::Peer(tables) if tables.online().contains_key(id) => Ok(()),
            // offline is only whom each linked server says that it has not
            RoleState::Peer(tables) if !id.is_server() && tables.is_on_demand() && self.may_be_told(id) => Ok(()),
            RoleState::Peer(tables) if tables.was_seen(now, id) => Err(Reason::Offline),
            RoleState::Server(_) if self.remotes.contains_key(id) => Err(Reason::Offline),
            RoleState::Peer(_) if !id.is_server() && self.may_be_told(id) => Ok(()),
            _ => Err(Reason::UnknownId),
        }
    }

    /// Whether a directory that is on its way may name `id`, or a server that is asked may know it.
    fn may_be_told(&self, id: &Id) -> bool {
        let RoleState::Peer(tables) = &self.role else { return false };
        let room = self.awaited.len() < self.config.max_sessions || self.awaited.contains(id);
        room && tables.awaits(id) && (tables.is_asked(id) || tables.may_ask())
    }

    /// The conversation with `id` has something to say.
    pub(super) fn written_to(&mut self, now: Instant, id: Id) {
        self.unwritten.insert(id);
        self.want_link(now, id);
    }

    /// Something waits for a link to `id`, or for the servers that may know it.
    pub(super) fn want_link(&mut self, now: Instant, id: Id) {
        if let RoleState::Peer(tables) = &self.role
            && !id.is_server()
            && !tables.online().contains_key(&id)
            && tables.awaits(&id)
        {
            let is_new = self.awaited.insert(id);
            self.watching.touch(id);
            if is_new {
                return self.dial_unknown(now, id);
            }
        }
        self.hurry(now, id);
    }

    /// Whom all linked servers have answered for is not waited for any longer.
    pub(super) fn settle_awaited(&mut self, now: Instant) {
        self.tell_found();
        let RoleState::Peer(tables) = &self.role else { return };
        // a server whose link is being replaced will tell its directory on the next one
        if self.awaited.is_empty() || self.replacing.is_some() {
            return;
        }
        let settled: Vec<Id> = self.awaited.iter().filter(|id| !tables.awaits(id)).copied().collect();
        for id in settled {
            self.awaited.remove(&id);
            self.watching.touch(id);
            let Err(reason) = self.reachable(now, &id) else { continue };
            self.end_unknown(now, id);
            if let Some(conversation) = self.remotes.get_mut(&id).and_then(|remote| remote.conversation.as_mut()) {
                conversation.fail_unwritten(reason);
            }
            self.conversation_events(now, id);
            self.fail_waiting_streams(id, reason);
        }
    }

    /// The application has taken the messages: their sender gets the receipt. Without this the sender gets `Expired`, and after
    /// [`Config::max_unhanded_messages`] nothing more is read from it.
    pub fn handed(&mut self, now: Instant, receipt: Receipt) {
        self.now = now;
        let Receipt { from, conversation, lane, seq, count } = receipt;
        match self.messages.handed.remove(&receipt) {
            Some(Handed::Own(send)) => self.outcome(send, from, Outcome::Delivered),
            Some(Handed::ToMaster { rid, fence }) => {
                let result = self.still_held(now, &fence).map(|()| Bytes::new());
                if from == self.id() {
                    self.answered(from, rid, result);
                } else {
                    self.answer(now, from, rid, result);
                }
            }
            None => {}
        }
        let remote = self.remotes.get_mut(&from).filter(|remote| remote.conversation_number == conversation);
        let Some(remote) = remote else { return };
        if let Some(conversation) = &mut remote.conversation {
            conversation.handed(now, lane, seq, count);
            remote.note_unwritten(from, &mut self.unwritten);
            if !remote.unread.is_empty() {
                self.read_on(now, from);
            }
        }
    }

    /// Sends one best-effort datagram; it may be lost on the way, which nobody is told.
    ///
    /// # Errors
    /// `TooLarge` over the path's datagram size; `Failed` without a link, which is then made for those that follow.
    pub fn datagram(&mut self, now: Instant, to: Id, data: Bytes) -> Result<(), CommandError> {
        self.now = now;
        if self.stopping.is_some() {
            return Err(CommandError::Stopped);
        }
        self.reachable(now, &to).map_err(CommandError::Failed)?;
        let usable = self.remotes.get(&to).filter(|remote| !remote.resting).and_then(|remote| remote.current);
        let Some(token) = usable else {
            self.want_until(now + self.config.link_interest, to);
            self.want_link(now, to);
            return Err(CommandError::Failed(Reason::Offline));
        };
        let Some(entry) = self.links.get_mut(token) else { return Err(CommandError::Failed(Reason::Offline)) };
        let max = entry.link.max_datagram_size();
        if data.len() > max {
            return Err(CommandError::TooLarge { len: data.len(), max });
        }
        let sent = entry.link.datagram(now, data);
        self.dirty.insert(token);
        self.note_use(now, &to);
        if sent.is_err() {
            self.count("datagrams dropped");
        }
        Ok(())
    }

    pub(super) fn on_datagram(&mut self, token: LinkToken, data: Bytes) {
        let Some(entry) = self.links.get(token).filter(|_| self.stopping.is_none()) else { return };
        if let (Some(from), super::links::Phase::Admitted) = (entry.remote, entry.phase) {
            self.note_use(self.now, &from);
            if self.outputs.len() < self.config.max_queued_messages {
                self.event(Event::Datagram { from, data });
            } else {
                self.count("datagrams dropped");
            }
        }
    }

    pub(super) fn on_conversation_event(&mut self, now: Instant, from: &Correspondent, event: ConversationEvent) {
        match event {
            ConversationEvent::Arrived { lane, seq, kind, data } => {
                self.on_arrived(now, &from.name, from.receipt(lane, seq), kind, data);
            }
            ConversationEvent::Outcome { tag: REPLY, .. } => {}
            ConversationEvent::Outcome { tag, count, outcome } => {
                (tag..tag.saturating_add(count)).for_each(|tag| self.on_request_outcome(tag, outcome));
            }
            // the application has these as they are
            ConversationEvent::Messages { .. } | ConversationEvent::Unblocked => {}
        }
    }

    fn on_arrived(&mut self, now: Instant, name: &Name, receipt: Receipt, kind: Kind, data: Bytes) {
        let from = receipt.from;
        match kind {
            Kind::MasterMessage { rid, fence } | Kind::MasterRequest { rid, fence } if !self.holds(now, &fence) => {
                self.handed(now, receipt);
                self.answer(now, from, rid, Err(Reason::MasterChanged));
            }
            Kind::Message => self.message(name, data, receipt),
            Kind::MasterMessage { rid, fence } => {
                self.messages.handed.insert(receipt, Handed::ToMaster { rid, fence });
                self.message(name, data, receipt);
            }
            Kind::Request { rid } => self.asked(name, Asked { by: from, rid, fence: None }, data, receipt),
            Kind::MasterRequest { rid, fence } => {
                self.asked(name, Asked { by: from, rid, fence: Some(fence) }, data, receipt);
            }
            Kind::Reply { rid, result } => {
                self.handed(now, receipt);
                self.answered(from, rid, result.map(|()| data));
            }
        }
    }

    /// What this node sends to the Master, which is itself.
    pub(super) fn arrived_from_self(&mut self, now: Instant, lane: u8, kind: Kind, data: Bytes) {
        let by = self.id();
        match kind {
            Kind::MasterMessage { rid, fence } | Kind::MasterRequest { rid, fence } if !self.holds(now, &fence) => {
                self.request_failed(rid, Reason::MasterChanged);
            }
            Kind::MasterMessage { rid, fence } => {
                let receipt = self.messages.own_receipt(by, lane);
                self.messages.handed.insert(receipt, Handed::ToMaster { rid, fence });
                self.message(&self.name.clone(), data, receipt);
            }
            Kind::MasterRequest { rid, fence } => {
                let receipt = self.messages.own_receipt(by, lane);
                self.asked(&self.name.clone(), Asked { by, rid, fence: Some(fence) }, data, receipt);
            }
            Kind::Message | Kind::Request { .. } | Kind::Reply { .. } => {}
        }
    }

    fn message(&mut self, name: &Name, data: Bytes, receipt: Receipt) {
        let Receipt { from, lane, .. } = receipt;
        self.event(Event::Messages { from, name: name.clone(), lane, data: vec![data], receipt });
    }

    fn asked(&mut self, name: &Name, asked: Asked, data: Bytes, receipt: Receipt) {
        let (from, token) = (asked.by, self.messages.reply_token(asked));
        self.event(Event::Request { from, name: name.clone(), data, token, receipt });
    }

    fn on_request_outcome(&mut self, tag: u64, outcome: Outcome) {
        match outcome {
            // the reply says what became of it
            Outcome::Delivered => {}
            Outcome::Failed(reason) => self.request_failed(tag & !REQUEST, reason),
            Outcome::Expired => self.request_failed(tag & !REQUEST, Reason::Timeout),
        }
    }
}
