//! What is sent to whoever is Master: it fails when that changes on the way, even if the bytes arrived.
//!
//! Each such message names the token that its sender saw. The receiver hands it over only while it is the Master under that
//! very token, and says so in a reply only if that is still so once the application has taken it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{Node, RequestId, SendId, SendOptions, council::Mastery, requests::Question};
use crate::{
    CommandError, Id, Reason,
    master::{Kind as MasterKind, MasterView, Token},
    message::{FENCE_LEN, Fence, Kind},
};

const _: () = assert!(FENCE_LEN == Token::LEN);

/// Own messages and requests to a Master that have no outcome yet, by the number of the request that carries them.
pub(super) type ToMaster = BTreeMap<u64, Pending>;

/// A message or a request to the Master under a token.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    token: Token,
    /// The message; `None` for a request.
    pub(super) send: Option<SendId>,
}

impl Node {
    /// Sends `data` to the Master that this node sees, and returns who that is; one [`Event::Outcome`](super::Event::Outcome)
    /// follows. Delivered means that the Master's application has taken it while the office was held under the token that
    /// is seen here now.
    ///
    /// # Errors
    /// As [`send`](Self::send); `Failed` with `no_master` when none is seen.
    pub fn send_to_master(
        &mut self,
        now: Instant,
        data: Bytes,
        options: SendOptions,
    ) -> Result<(SendId, Id), CommandError> {
        self.now = now;
        self.check_message(data.len(), options.lane)?;
        let token = self.seen_master()?;
        let send = SendId(self.messages.number());
        let ttl = options.ttl.unwrap_or(self.config.message_ttl);
        self.ask_master(now, data, options.lane, ttl, Pending { token, send: Some(send) })?;
        Ok((send, token.id))
    }

    /// Asks the Master that this node sees, and returns who that is; one [`Event::Reply`](super::Event::Reply) follows, with
    /// the reason `master_changed` if the office is not held under the token that is seen here now when the reply is given.
    ///
    /// # Errors
    /// As [`send_to_master`](Self::send_to_master).
    pub fn request_to_master(
        &mut self,
        now: Instant,
        data: Bytes,
        timeout: Option<Duration>,
    ) -> Result<(RequestId, Id), CommandError> {
        self.now = now;
        self.check_message(data.len(), 0)?;
        let token = self.seen_master()?;
        let timeout = timeout.unwrap_or(self.config.request_timeout);
        let request = self.ask_master(now, data, 0, timeout, Pending { token, send: None })?;
        Ok((request, token.id))
    }

    fn seen_master(&self) -> Result<Token, CommandError> {
        let reason = if self.is_suspended() { Reason::Suspended } else { Reason::NoMaster };
        self.master().and_then(|view| view.token()).ok_or(CommandError::Failed(reason))
    }

    fn ask_master(
        &mut self,
        now: Instant,
        data: Bytes,
        lane: u8,
        ttl: Duration,
        pending: Pending,
    ) -> Result<RequestId, CommandError> {
        let (to, fence) = (pending.token.id, pending.token.to_bytes());
        let kind = move |rid| match pending.send {
            Some(_) => Kind::MasterMessage { rid, fence },
            None => Kind::MasterRequest { rid, fence },
        };
        let request = self.ask(now, Question { to, data, lane, ttl, pending: Some(pending) }, kind)?;
        Ok(request)
    }

    /// Whether this node is the Master under the token `fence` at `now`.
    pub(super) fn holds(&self, now: Instant, fence: &Fence) -> bool {
        let Mastery::Council(council) = &self.mastery else { return false };
        // a Provisional one has no guard: what it shows is all there is
        let is_own = |token: &Token| token.id == self.id() && token.kind == MasterKind::Provisional;
        let held = council.token(now).or(council.view().token().filter(is_own));
        held.is_some_and(|token| token.to_bytes() == *fence)
    }

    /// Another Master is seen: what is on its way to an earlier one has failed.
    pub(super) fn master_changed(&mut self, view: MasterView) {
        let Some(token) = view.token() else { return };
        let void: Vec<u64> =
            self.to_master.iter().filter(|(_, pending)| pending.token != token).map(|(rid, _)| *rid).collect();
        for rid in void {
            self.request_failed(rid, Reason::MasterChanged);
        }
    }
}
