//! What the applications say to whoever is Master.

use std::time::Duration;

use p2pcore::{CommandError, Id, node::SendOptions};

use super::World;
use crate::payload::{self, Kind};

impl World {
    /// Sends a message of `len` bytes to whoever is Master; returns its number, and to whom it goes.
    pub(super) fn app_tells_master(&mut self, number: usize, len: usize, ttl: Option<Duration>) -> Option<(u64, Id)> {
        let (id, run) = (self.processes[number].id(), self.processes[number].run()?);
        let message = self.ledger.next_number();
        let data = payload::make(Kind::Message, message, len);
        let len = data.len();
        let due = self.due(number, ttl.unwrap_or(self.config.message_ttl));
        let mut options = SendOptions::default();
        options.ttl = ttl;
        self.trace.note(self.now, number, &("to master", message, len, options));
        let now = self.instant(number);
        let machine = self.processes[number].machine.as_deref_mut()?;
        let seen = machine.master().and_then(|view| view.token());
        let result = machine.send_to_master(now, data, options);
        self.trace.note(self.now, number, &result.as_ref().ok());
        let sent = match result {
            Ok((send, to)) => {
                let breach = self.ledger.sent_to_master(run, id, send, message, options.lane, len, to, due, seen);
                self.check(breach);
                Some((message, to))
            }
            Err(CommandError::Blocked { to, .. }) => {
                self.ledger.blocked(run, to);
                None
            }
            Err(error) => {
                self.refused(id, &error);
                None
            }
        };
        self.touched(number);
        sent
    }

    pub(super) fn app_asks_master(&mut self, number: usize, len: usize, timeout: Option<Duration>) -> Option<u64> {
        let (id, run) = (self.processes[number].id(), self.processes[number].run()?);
        let request = self.requests.next_number();
        let data = payload::make(Kind::Request, request, len);
        let due = self.due(number, timeout.unwrap_or(self.config.request_timeout));
        self.trace.note(self.now, number, &("ask master", request, len, timeout));
        let now = self.instant(number);
        let machine = self.processes[number].machine.as_deref_mut()?;
        let seen = machine.master().and_then(|view| view.token());
        let result = machine.request_to_master(now, data, timeout);
        self.trace.note(self.now, number, &result.as_ref().ok());
        let asked = match result {
            Ok((name, to)) => {
                self.requests.asked(run, id, name, request, to, due);
                let breach = self.requests.is_to_master(request, seen);
                self.check(breach);
                Some(request)
            }
            Err(CommandError::Blocked { to, .. }) => {
                self.ledger.blocked(run, to);
                None
            }
            Err(error) => {
                self.refused(id, &error);
                None
            }
        };
        self.touched(number);
        asked
    }
}
