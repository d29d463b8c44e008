//! What arrives: messages and requests, whose senders learn when the application has taken them.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use p2pcore::{
    CommandError, Id, Name, Reason,
    node::{Receipt, ReplyToken},
};

use crate::{command::Notice, oneshot, tray::Tray};

/// In the driver's queue: dropping it there sends no receipt.
pub(crate) enum Inbound {
    Messages { from: Id, name: Name, lane: u8, data: VecDeque<Bytes>, receipt: Receipt },
    Request { from: Id, name: Name, data: Bytes, token: ReplyToken, receipt: Receipt },
}

impl Inbound {
    /// How many deliveries it is.
    pub(crate) fn count(&self) -> usize {
        match self {
            Self::Messages { data, .. } => data.len(),
            Self::Request { .. } => 1,
        }
    }

    /// Takes the first one off the queue.
    pub(crate) fn take_one(queue: &mut VecDeque<Self>, notices: &Arc<Tray<Notice>>) -> Option<Delivery> {
        let Some(Self::Messages { from, name, lane, data, receipt }) = queue.front_mut() else {
            return match queue.pop_front()?.hand_over(notices) {
                Deliveries::Request(request) => Some(Delivery::Request(request)),
                Deliveries::Messages(_) => None,
            };
        };
        let first = data.pop_front()?;
        let ticket = Ticket { receipt: Receipt { count: 1, ..*receipt }, notices: notices.clone() };
        let message = Message { from: *from, name: name.clone(), lane: *lane, data: first, ticket };
        (receipt.seq, receipt.count) = (receipt.seq + 1, receipt.count - 1);
        if data.is_empty() {
            queue.pop_front();
        }
        Some(Delivery::Message(message))
    }

    /// All that it is.
    pub(crate) fn hand_over(self, notices: &Arc<Tray<Notice>>) -> Deliveries {
        let ticket = |receipt| Ticket { receipt, notices: notices.clone() };
        match self {
            Self::Messages { from, name, lane, data, receipt } => {
                Deliveries::Messages(Messages { from, name, lane, data: data.into(), ticket: ticket(receipt) })
            }
            Self::Request { from, name, data, token, receipt } => {
                let responder = Responder { token: Some(token), notices: notices.clone() };
                Deliveries::Request(Request { from, name, data, responder, ticket: ticket(receipt) })
            }
        }
    }
}

/// Sends the receipt when it goes.
#[derive(Debug)]
struct Ticket {
    receipt: Receipt,
    notices: Arc<Tray<Notice>>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let _ = self.notices.try_put(Notice::Handed(self.receipt));
    }
}

/// A message or a request. Its sender gets `Delivered` when it is accepted, answered or dropped.
#[derive(Debug)]
pub enum Delivery {
    /// Wants nothing back but the receipt.
    Message(Message),
    /// Wants a reply.
    Request(Request),
}

/// What arrived together. Its sender gets `Delivered` for all of it when it is accepted, answered or dropped.
#[derive(Debug)]
pub enum Deliveries {
    /// Want nothing back but the receipt.
    Messages(Messages),
    /// Wants a reply.
    Request(Request),
}

/// Messages that arrived, one after another from one sender in one lane.
#[derive(Debug)]
#[non_exhaustive]
pub struct Messages {
    /// The sender.
    pub from: Id,
    /// The sender's name.
    pub name: Name,
    /// The lane they were sent in.
    pub lane: u8,
    /// The payloads in their order; at least one.
    pub data: Vec<Bytes>,
    ticket: Ticket,
}

impl Messages {
    /// Lets the sender know; dropping does the same.
    pub fn accept(self) {
        drop(self.ticket);
    }
}

/// A message that arrived.
#[derive(Debug)]
#[non_exhaustive]
pub struct Message {
    /// The sender.
    pub from: Id,
    /// The sender's name.
    pub name: Name,
    /// The lane it was sent in.
    pub lane: u8,
    /// The payload.
    pub data: Bytes,
    ticket: Ticket,
}

impl Message {
    /// Lets the sender know; dropping does the same.
    pub fn accept(self) {
        drop(self.ticket);
    }
}

/// A request that arrived.
#[derive(Debug)]
#[non_exhaustive]
pub struct Request {
    /// The sender.
    pub from: Id,
    /// The sender's name.
    pub name: Name,
    /// The payload.
    pub data: Bytes,
    responder: Responder,
    ticket: Ticket,
}

impl Request {
    /// Takes the request now, to be answered later.
    pub fn accept(self) -> Responder {
        drop(self.ticket);
        self.responder
    }

    /// Answers.
    ///
    /// # Errors
    /// As [`Responder::reply`].
    pub async fn reply(self, data: impl Into<Bytes>) -> Result<(), CommandError> {
        self.accept().reply(data).await
    }

    /// Answers that it will not be done; dropping does the same.
    pub fn refuse(self) {
        drop(self.accept());
    }
}

/// Answers one request, once; dropping it refuses the request.
#[derive(Debug)]
pub struct Responder {
    token: Option<ReplyToken>,
    notices: Arc<Tray<Notice>>,
}

impl Responder {
    /// Answers. Waits while the queue to the asking node is full.
    ///
    /// # Errors
    /// `TooLarge`, `Gone` when nobody waits for it any more, `Stopped`.
    pub async fn reply(mut self, data: impl Into<Bytes>) -> Result<(), CommandError> {
        let (sender, receiver) = oneshot::channel();
        self.answer(Ok(data.into()), Some(sender));
        receiver.recv().await.unwrap_or(Err(CommandError::Stopped))
    }

    /// Answers that it will not be done; dropping does the same.
    pub fn refuse(self) {}

    fn answer(&mut self, result: Result<Bytes, Reason>, reply: Option<oneshot::Sender<Result<(), CommandError>>>) {
        if let Some(token) = self.token.take() {
            let _ = self.notices.try_put(Notice::Reply { token, result, reply });
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.answer(Err(Reason::Refused), None);
    }
}
