//! How links end: broken rules, lost paths, goodbyes.

use std::{
    fmt::Debug,
    time::{Duration, Instant},
};

use bytes::Bytes;
use quinn_proto::{ConnectionError, TransportError, VarInt};

use super::{
    Link, MAX_CLOSE_REASON, Phase,
    events::{LostReason, close_code},
    lanes::Violation,
};
use crate::noise::HandshakeError;

/// How long a closed link goes on answering with its reason.
const LINGER: Duration = Duration::from_secs(2);

/// When the reason is sent again unless the remote has answered, after the first time.
const CLOSE_REPEATS: [Duration; 3] =
    [Duration::from_millis(30), Duration::from_millis(100), Duration::from_millis(300)];

/// A link that says goodbye.
#[derive(Debug)]
pub(super) struct Closing {
    since: Instant,
    datagram: Vec<u8>,
    repeated: usize,
    answered: bool,
}

impl<R: Copy + Ord + Debug> Link<R> {
    /// A broken rule ends the link.
    pub(super) fn check<T>(&mut self, result: Result<T, Violation>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(Violation(text)) => {
                self.fail(self.now, close_code::VIOLATION, LostReason::Violation(text));
                None
            }
        }
    }

    /// Gives the link up and tells both sides why.
    pub(super) fn fail(&mut self, now: Instant, code: u32, reason: LostReason) {
        if self.phase == Phase::Over {
            return;
        }
        let text = match &reason {
            LostReason::Violation(text) => text.clone(),
            reason => reason.to_string(),
        };
        self.begin_closing(now, code, &text);
        self.news.lost = Some(reason);
    }

    pub(super) fn begin_closing(&mut self, now: Instant, code: u32, reason: &str) {
        let reason = Bytes::copy_from_slice(cut(reason).as_bytes());
        self.conn.close(now, VarInt::from_u32(code), reason);
        self.closing = Some(Box::new(Closing { since: now, datagram: Vec::new(), repeated: 0, answered: false }));
        self.phase = Phase::Over;
        self.transmit_due = true;
    }

    pub(super) fn on_connection_lost(&mut self, now: Instant, reason: ConnectionError) {
        if self.phase == Phase::Over {
            return;
        }
        let handshaking = self.phase == Phase::Handshake;
        let reason = match reason {
            ConnectionError::ApplicationClosed(close) => LostReason::Closed {
                code: u32::try_from(close.error_code.into_inner()).unwrap_or(u32::MAX),
                reason: printable(&String::from_utf8_lossy(&close.reason)),
            },
            ConnectionError::ConnectionClosed(close) => {
                LostReason::Closed { code: close_code::TRANSPORT, reason: printable(&close.to_string()) }
            }
            ConnectionError::TransportError(error) if is_wrong_id(&error) => LostReason::WrongId,
            error if handshaking => LostReason::Handshake(printable(&error.to_string())),
            error => LostReason::Violation(printable(&error.to_string())),
        };
        let answered = matches!(reason, LostReason::Closed { .. });
        self.closing = Some(Box::new(Closing { since: now, datagram: Vec::new(), repeated: 0, answered }));
        self.phase = Phase::Over;
        self.news.lost = Some(reason);
    }

    /// A dialler says that it gives up; who was dialled by somebody that fell silent says nothing.
    pub(super) fn end_handshake(&mut self, now: Instant) {
        self.fail(now, close_code::HANDSHAKE_TIMEOUT, LostReason::HandshakeTimeout);
        if !self.is_dialler() {
            self.silent = true;
            self.closing = None;
            self.copies.routes.clear();
        }
    }

    pub(super) fn repeat_close(&mut self, route: R) {
        if let Some(closing) = &self.closing
            && !closing.datagram.is_empty()
        {
            self.copies.bytes.clone_from(&closing.datagram);
            self.copies.ecn = 0;
            self.copies.routes.clear();
            self.copies.routes.push_back(route);
        }
    }
}

impl Closing {
    /// Until then each packet of the remote is answered with the reason.
    pub(super) fn answers_until(&self) -> Instant {
        self.since + LINGER
    }

    /// The datagram that carries the reason.
    pub(super) fn remember(&mut self, datagram: &[u8]) {
        self.datagram = datagram.to_vec();
    }

    pub(super) fn note_answered(&mut self, answered: bool) {
        self.answered |= answered;
    }

    pub(super) fn next_repeat(&self) -> Option<Instant> {
        let after = CLOSE_REPEATS.get(self.repeated).filter(|_| !self.answered)?;
        Some(self.since + *after)
    }

    pub(super) fn repeat_due(&mut self, now: Instant) -> bool {
        let due = self.next_repeat().is_some_and(|at| at <= now);
        self.repeated += usize::from(due);
        due
    }
}

fn is_wrong_id(error: &TransportError) -> bool {
    HandshakeError::from_code(error.code) == Some(HandshakeError::WrongId)
}

/// At most [`MAX_CLOSE_REASON`] bytes that cannot move a reader's cursor.
fn printable(text: &str) -> String {
    cut(text).chars().filter(|char| !char.is_control()).collect()
}

fn cut(text: &str) -> &str {
    (0..=MAX_CLOSE_REASON).rev().find_map(|end| text.get(..end.min(text.len()))).unwrap_or_default()
}
