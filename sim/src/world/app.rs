//! The applications: what they do with what their nodes tell them.

use std::time::Duration;

use bytes::Bytes;
use p2pcore::{
    CommandError, Event, Id, Reason,
    node::{Receipt, ReplyToken, SendOptions},
};

use super::{Happening, World};
use crate::{
    check::{Breach, ledger::QueueLimits, requests::Requests},
    payload::{self, Kind},
};

/// How much later than its time an outcome may be seen: drivers may be lazy.
const LATE: Duration = Duration::from_secs(3);

impl World {
    pub(super) fn event(&mut self, number: usize, event: Event) {
        let process = &self.processes[number];
        let (id, Some(run)) = (process.id(), process.run()) else { return };
        match &event {
            // bulk would hide everything else
            Event::StreamReadable(_) | Event::StreamWritable(_) => {
                tracing::trace!(target: "sim", "{} {}", process.plan.name, brief(&event));
            }
            _ => tracing::debug!(target: "sim", "{} {}", process.plan.name, brief(&event)),
        }
        let breach = self.bounds.event(run, self.now, &event);
        self.check(breach);
        match event {
            Event::Messages { from, lane, data, receipt, .. } => {
                for (data, receipt) in data.into_iter().zip(receipt.each()) {
                    let handed = self.ledger.handed(id, from, lane, &data);
                    self.arrived(number, from, receipt, handed);
                }
            }
            Event::Request { from, data, token, receipt, .. } => {
                let handed = self.requests.handed(id, from, &data);
                let asked = handed.as_ref().ok().copied();
                self.arrived(number, from, receipt, handed);
                if let Some(number) = asked {
                    let at = self.processes[run.process].reads_until.max(self.now);
                    self.schedule.push(at, Happening::Answer { run, token, number });
                }
            }
            Event::Outcome { sends, to, outcome } => {
                for send in sends {
                    let breach = self.ledger.outcome(run, id, send, to, outcome);
                    self.check(breach);
                }
            }
            Event::Reply { request, from, result } => {
                let breach = self.requests.replied(run, id, request, from, &result);
                self.check(breach);
            }
            Event::Unblocked { to } => {
                let breach = self.ledger.unblocked(run, id, to);
                self.check(breach);
            }
            Event::Datagram { from, data } => self.datagram_arrived(id, from, &data),
            Event::StreamOpened { from, stream } => self.streams.opened(run, from, stream),
            Event::StreamReadable(stream) => self.read_stream(number, stream),
            Event::StreamWritable(stream) => self.write_stream(number, stream),
            Event::StreamReset { stream, .. } => self.streams.reset(run, stream),
            Event::Left => {
                self.processes[number].note(self.now, Event::Left);
                self.is_going(number);
            }
            Event::Master(view) => {
                let breach = self.consensus.shown(run, id, view);
                self.check(breach);
                self.processes[number].note(self.now, Event::Master(view));
            }
            Event::Stopped => {
                self.processes[number].note(self.now, Event::Stopped);
                self.end(number, true);
            }
            other => self.processes[number].note(self.now, other),
        }
    }

    /// A message or request is in the application's hands; it takes its time, one after another.
    fn arrived(&mut self, number: usize, from: Id, receipt: Receipt, handed: Result<u64, Breach>) {
        let message = match handed {
            Ok(message) => message,
            Err(breach) => {
                self.report(breach);
                0
            }
        };
        let most = self.config.max_unhanded_messages;
        let process = &mut self.processes[number];
        let waiting = process.unhanded.entry(from).or_default();
        *waiting += 1;
        let over = (*waiting > most).then(|| format!("{waiting} messages of one remote wait for the application"));
        let reading = Duration::from_micros(process.plan.reading_us);
        process.reads_until = process.reads_until.max(self.now) + reading;
        if let Some(run) = process.run() {
            self.schedule.push(process.reads_until, Happening::Taken { run, from, receipt, number: message });
        }
        if let Some(what) = over {
            self.report(Breach::new("queue_bounds", [self.processes[number].id(), from], what));
        }
    }

    pub(super) fn taken(&mut self, number: usize, from: Id, receipt: Receipt, message: u64) {
        let process = &mut self.processes[number];
        if let Some(waiting) = process.unhanded.get_mut(&from) {
            *waiting = waiting.saturating_sub(1);
        }
        let id = process.id();
        let held = self.office(number);
        self.ledger.taken(id, message, held);
        self.trace.note(self.now, number, &receipt);
        self.command(number, |machine, now| machine.handed(now, receipt));
    }

    pub(super) fn answer(&mut self, number: usize, token: ReplyToken, request: u64) {
        const AGAIN: Duration = Duration::from_millis(50);
        let answer = Requests::answer(request);
        let held = self.office(number);
        self.requests.answers(request, held);
        self.trace.note(self.now, number, &(token, request));
        let result = self.command(number, |machine, now| machine.reply(now, token, answer));
        self.trace.note(self.now, number, &result);
        if let (Some(Err(CommandError::Blocked { .. })), Some(run)) = (result, self.processes[number].run()) {
            self.schedule.push(self.now + AGAIN, Happening::Answer { run, token, number: request });
        }
    }

    /// When an outcome must be there that a node owes after `time` by its own clock.
    pub(super) fn due(&self, number: usize, time: Duration) -> Duration {
        let clock = &self.processes[number].clock;
        clock.world(clock.shows(self.now) + time) + LATE
    }

    /// Sends a message of `len` bytes; returns its number if the node accepted it.
    pub(super) fn app_sends(
        &mut self,
        number: usize,
        to: &[Id],
        len: usize,
        lane: u8,
        ttl: Option<Duration>,
    ) -> Option<u64> {
        let (id, run) = (self.processes[number].id(), self.processes[number].run()?);
        let message = self.ledger.next_number();
        let data = payload::make(Kind::Message, message, len);
        let len = data.len();
        let due = self.due(number, ttl.unwrap_or(self.config.message_ttl));
        let mut options = SendOptions::default().lane(lane);
        options.ttl = ttl;
        self.trace.note(self.now, number, &(message, to, len, options));
        // the outcome may come out of the drain that follows the command: the ledger has to know before
        let now = self.instant(number);
        let result = self.processes[number].machine.as_deref_mut()?.send(now, to, data.clone(), options);
        self.trace.note(self.now, number, &result.as_ref().ok());
        let sent = match result {
            Ok(send) => {
                let limits =
                    QueueLimits { messages: self.config.max_queued_messages, bytes: self.config.max_queued_bytes };
                let breach = self.ledger.sent(run, id, send, message, lane, len, to, due, limits);
                self.check(breach);
                Some(message)
            }
            Err(CommandError::Blocked { to, data: back }) => {
                self.ledger.blocked(run, to);
                if back != data {
                    self.report(Breach::new("payload_intact", [id], "another message was given back"));
                }
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

    pub(super) fn app_asks(&mut self, number: usize, to: Id, len: usize, timeout: Option<Duration>) -> Option<u64> {
        let (id, run) = (self.processes[number].id(), self.processes[number].run()?);
        let request = self.requests.next_number();
        let data = payload::make(Kind::Request, request, len);
        let due = self.due(number, timeout.unwrap_or(self.config.request_timeout));
        self.trace.note(self.now, number, &(request, to, len, timeout));
        let now = self.instant(number);
        let result = self.processes[number].machine.as_deref_mut()?.request(now, to, data, timeout);
        self.trace.note(self.now, number, &result.as_ref().ok());
        let asked = match result {
            Ok(name) => {
                self.requests.asked(run, id, name, request, to, due);
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

    pub(super) fn app_datagram(&mut self, number: usize, to: Id, len: usize) {
        let mut data = to.to_bytes().to_vec();
        data.extend_from_slice(&payload::make(Kind::Datagram, len as u64, len));
        self.trace.note(self.now, number, &("datagram", to, len));
        let result = self.command(number, |machine, now| machine.datagram(now, to, Bytes::from(data)));
        self.trace.note(self.now, number, &result);
    }

    fn datagram_arrived(&mut self, me: Id, from: Id, data: &[u8]) {
        let (to, body) = data.split_at(Id::LEN.min(data.len()));
        let checker = if payload::check(Kind::Datagram, body).is_none() {
            "payload_intact"
        } else if to != me.to_bytes() {
            "right_id"
        } else {
            return;
        };
        self.report(Breach::new(checker, [from, me], format!("a datagram of {} bytes", data.len())));
    }

    /// Commands that are in order may fail because of the state of the world, never because of themselves.
    pub(super) fn refused(&mut self, id: Id, error: &CommandError) {
        let usual = matches!(
            error,
            CommandError::Stopped
                | CommandError::Failed(
                    Reason::Suspended
                        | Reason::Offline
                        | Reason::UnknownId
                        | Reason::DuplicateIdentity
                        | Reason::NoMaster
                )
        );
        if !usual {
            self.report(Breach::new("commands", [id], format!("a command that is in order: {error}")));
        }
    }
}

/// An event without its bytes.
fn brief(event: &Event) -> String {
    match event {
        Event::Messages { from, lane, data, .. } => {
            let lens: Vec<usize> = data.iter().map(Bytes::len).collect();
            format!("messages of {lens:?} bytes from {from} in lane {lane}")
        }
        Event::Request { from, data, .. } => format!("request of {} bytes from {from}", data.len()),
        Event::Reply { from, result, .. } => format!("reply from {from}: {:?}", result.as_ref().map(Bytes::len)),
        Event::Datagram { from, data } => format!("datagram of {} bytes from {from}", data.len()),
        other => format!("{other:?}"),
    }
}
