//! The application's side of messages: sending, requests, replies, datagrams, receipts.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{Event, Node, Outcome, Receipt, ReplyToken, RequestId, SendId, SendOptions, Timer, roles::RoleState};
use crate::{
    CommandError, Config, Id, Reason,
    link::LinkToken,
    message::{ConversationEvent, Kind, Outgoing, Requests, RequestsFull},
};

/// Marks the tags of requests among those of messages.
const REQUEST: u64 = 1 << 63;
/// The tag of replies: nobody asks what became of them.
const REPLY: u64 = u64::MAX;

/// `now + time`; a year from now if that is beyond what an instant can be.
fn after(now: Instant, time: Duration) -> Instant {
    const YEAR: Duration = Duration::from_secs(365 * 86_400);
    now.checked_add(time).unwrap_or(now + YEAR)
}

/// What a receipt is for.
#[derive(Clone, Copy, Debug)]
enum Handed {
    Remote { from: Id, conversation: u64, lane: u8, seq: u64 },
    Own { send: SendId },
}

/// Numbers given to the application and what they stand for.
pub(super) struct Messages {
    next: u64,
    receipts: BTreeMap<Receipt, Handed>,
    replies: BTreeMap<ReplyToken, (Id, u64)>,
    requests: Requests,
    max_replies: usize,
}

impl Messages {
    pub(super) fn new(config: &Config, first_request: u64) -> Self {
        Self {
            next: 0,
            receipts: BTreeMap::new(),
            replies: BTreeMap::new(),
            requests: Requests::new(config, first_request >> 2),
            max_replies: config.max_requests,
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

impl Node {
    /// Sends `data` to each of `to`; an [`Event::Outcome`] follows for each, exactly one.
    ///
    /// # Errors
    /// Nothing was sent to anyone; `Blocked` gives the message back.
    pub fn send(&mut self, now: Instant, to: &[Id], data: Bytes, options: SendOptions) -> Result<SendId, CommandError> {
        self.now = now;
        self.check_message(data.len(), options.lane)?;
        let mut distinct = to.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        if to.is_empty() || distinct.len() != to.len() {
            return Err(CommandError::BadDestinations);
        }
        for id in to {
            let conversation = self.remotes.get_mut(id).and_then(|remote| remote.conversation.as_mut());
            if conversation.is_some_and(|conversation| !conversation.has_room(data.len())) {
                return Err(CommandError::Blocked { to: *id, data });
            }
        }
        let send = SendId(self.messages.number());
        let expires = after(now, options.ttl.unwrap_or(self.config.message_ttl));
        for id in to {
            self.send_one(now, *id, send, &data, options.lane, expires);
        }
        Ok(send)
    }

    fn send_one(&mut self, now: Instant, id: Id, send: SendId, data: &Bytes, lane: u8, expires: Instant) {
        if id == self.id() {
            let receipt = Receipt(self.messages.number());
            self.messages.receipts.insert(receipt, Handed::Own { send });
            let name = self.name.clone();
            return self.event(Event::Message { from: id, name, lane, data: data.clone(), receipt });
        }
        let outgoing = Outgoing { lane, kind: Kind::Message, data: data.clone(), expires, tag: send.0 };
        let failure = match self.reachable(now, &id) {
            Ok(()) => self.conversation(now, id).send(now, outgoing).err().map(|_| Reason::Full),
            Err(reason) => Some(reason),
        };
        match failure {
            Some(reason) => self.event(Event::Outcome { send, to: id, outcome: Outcome::Failed(reason) }),
            None => self.written_to(now, id),
        }
    }

    fn check_message(&self, len: usize, lane: u8) -> Result<(), CommandError> {
        if self.stopping.is_some() {
            return Err(CommandError::Stopped);
        }
        let max = self.config.max_message;
        if len > max {
            return Err(CommandError::TooLarge { len, max });
        }
        if lane >= self.config.lanes {
            return Err(CommandError::NoSuchLane { lane, max: self.config.lanes.saturating_sub(1) });
        }
        Ok(())
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
            RoleState::Peer(tables) if tables.was_seen(now, id) => Err(Reason::Offline),
            RoleState::Server(_) if self.remotes.contains_key(id) => Err(Reason::Offline),
            RoleState::Peer(_) if !id.is_server() && self.may_be_told(id) => Ok(()),
            _ => Err(Reason::UnknownId),
        }
    }

    /// Whether a directory that is on its way may name `id`.
    fn may_be_told(&self, id: &Id) -> bool {
        let room = self.awaited.len() < self.config.max_sessions || self.awaited.contains(id);
        room && self.awaits_directory()
    }

    fn awaits_directory(&self) -> bool {
        matches!(&self.role, RoleState::Peer(tables) if tables.awaits_directory())
    }

    /// The conversation with `id` has something to say.
    fn written_to(&mut self, now: Instant, id: Id) {
        self.unwritten.insert(id);
        self.want_link(now, id);
    }

    /// Something waits for a link to `id`, or for the directory that may name it.
    pub(super) fn want_link(&mut self, now: Instant, id: Id) {
        if let RoleState::Peer(tables) = &self.role
            && !id.is_server()
            && !tables.online().contains_key(&id)
            && self.awaits_directory()
        {
            self.awaited.insert(id);
        }
        self.hurry(now, id);
    }

    /// All linked servers have told their directories: who is in none of them is not waited for any longer.
    pub(super) fn settle_awaited(&mut self, now: Instant) {
        // a server whose link is being replaced will tell its directory on the next one
        if self.awaits_directory() || self.replacing.is_some() {
            return;
        }
        for id in std::mem::take(&mut self.awaited) {
            let Err(reason) = self.reachable(now, &id) else { continue };
            if let Some(conversation) = self.remotes.get_mut(&id).and_then(|remote| remote.conversation.as_mut()) {
                conversation.fail_all(reason);
            }
            self.conversation_events(now, id);
            self.fail_waiting_streams(id, reason);
        }
    }

    /// The application has taken the message: its sender gets the receipt.
    pub fn handed(&mut self, now: Instant, receipt: Receipt) {
        self.now = now;
        match self.messages.receipts.remove(&receipt) {
            Some(Handed::Remote { from, conversation, lane, seq }) => {
                let remote = self.remotes.get_mut(&from).filter(|r| r.conversation_number == conversation);
                let Some(conversation) = remote.and_then(|remote| remote.conversation.as_mut()) else { return };
                conversation.handed(now, lane, seq);
                self.unwritten.insert(from);
                self.read_on(now, from);
            }
            Some(Handed::Own { send }) => {
                let to = self.id();
                self.event(Event::Outcome { send, to, outcome: Outcome::Delivered });
            }
            None => {}
        }
    }

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
        let expires = after(now, timeout.unwrap_or(self.config.request_timeout));
        let reachable = self.reachable(now, &to);
        if reachable.is_ok() && !self.conversation(now, to).has_room(data.len()) {
            return Err(CommandError::Blocked { to, data });
        }
        let rid = match self.messages.requests.insert(to, expires) {
            Ok(rid) => rid,
            Err(RequestsFull) => return Err(CommandError::Failed(Reason::Full)),
        };
        let request = RequestId(rid);
        if let Err(reason) = reachable {
            self.messages.requests.remove(rid);
            self.event(Event::Reply { request, from: to, result: Err(reason) });
            return Ok(request);
        }
        let outgoing = Outgoing { lane: 0, kind: Kind::Request { rid }, data, expires, tag: REQUEST | rid };
        if self.conversation(now, to).send(now, outgoing).is_err() {
            self.messages.requests.remove(rid);
            return Err(CommandError::Failed(Reason::Full));
        }
        self.timers.set(Timer::Requests, self.messages.requests.deadline());
        self.written_to(now, to);
        Ok(request)
    }

    pub(super) fn requests_due(&mut self, now: Instant) {
        while let Some((rid, to)) = self.messages.requests.pop_due(now) {
            self.event(Event::Reply { request: RequestId(rid), from: to, result: Err(Reason::Timeout) });
        }
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
        let data = result.clone().unwrap_or_default();
        self.check_message(data.len(), 0)?;
        let (to, rid) = *self.messages.replies.get(&token).ok_or(CommandError::Gone)?;
        let expires = now + self.config.message_ttl;
        let kind = Kind::Reply { rid, result: result.map(drop) };
        let outgoing = Outgoing { lane: 0, kind, data: data.clone(), expires, tag: REPLY };
        if self.conversation(now, to).send(now, outgoing).is_err() {
            return Err(CommandError::Blocked { to, data });
        }
        self.messages.replies.remove(&token);
        self.unwritten.insert(to);
        self.hurry(now, to);
        Ok(())
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
        let Some(token) = self.remotes.get(&to).and_then(|remote| remote.current) else {
            self.remote(to).wanted_until = Some(now + self.config.link_interest);
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
        if sent.is_err() {
            self.count("datagrams dropped");
        }
        Ok(())
    }

    pub(super) fn on_datagram(&mut self, token: LinkToken, data: Bytes) {
        let Some(entry) = self.links.get(token).filter(|_| self.stopping.is_none()) else { return };
        if let (Some(from), super::links::Phase::Admitted) = (entry.remote, entry.phase) {
            if self.outputs.len() < self.config.max_queued_messages {
                self.event(Event::Datagram { from, data });
            } else {
                self.count("datagrams dropped");
            }
        }
    }

    pub(super) fn on_conversation_event(&mut self, now: Instant, id: Id, event: ConversationEvent) {
        match event {
            ConversationEvent::Arrived { lane, seq, kind, data } => self.on_arrived(now, id, lane, seq, kind, data),
            ConversationEvent::Outcome { tag, outcome } => self.on_outcome(id, tag, outcome),
            ConversationEvent::Unblocked => self.event(Event::Unblocked { to: id }),
        }
    }

    fn on_arrived(&mut self, now: Instant, from: Id, lane: u8, seq: u64, kind: Kind, data: Bytes) {
        let remote = self.remotes.get(&from);
        let (name, conversation) = remote.map(|r| (r.name.clone(), r.conversation_number)).unwrap_or_default();
        let receipt = Receipt(self.messages.number());
        self.messages.receipts.insert(receipt, Handed::Remote { from, conversation, lane, seq });
        match kind {
            Kind::Message => self.event(Event::Message { from, name, lane, data, receipt }),
            Kind::Request { rid } => {
                let token = ReplyToken(self.messages.number());
                self.messages.replies.insert(token, (from, rid));
                if self.messages.replies.len() > self.messages.max_replies {
                    self.messages.replies.pop_first();
                }
                self.event(Event::Request { from, name, data, token, receipt });
            }
            Kind::Reply { rid, result } => {
                self.handed(now, receipt);
                if self.messages.requests.reply(from, rid) {
                    self.timers.set(Timer::Requests, self.messages.requests.deadline());
                    let result = result.map(|()| data);
                    self.event(Event::Reply { request: RequestId(rid), from, result });
                }
            }
        }
    }

    fn on_outcome(&mut self, to: Id, tag: u64, outcome: Outcome) {
        if tag == REPLY {
            return;
        }
        if tag & REQUEST == 0 {
            return self.event(Event::Outcome { send: SendId(tag), to, outcome });
        }
        let rid = tag & !REQUEST;
        let reason = match outcome {
            Outcome::Delivered => return,
            Outcome::Failed(reason) => reason,
            Outcome::Expired => Reason::Timeout,
        };
        if self.messages.requests.remove(rid).is_some() {
            self.timers.set(Timer::Requests, self.messages.requests.deadline());
            self.event(Event::Reply { request: RequestId(rid), from: to, result: Err(reason) });
        }
    }
}
