//! One way that may lead to the other end, and what is known of it.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{FULL_SIZE, PathKind, heartbeat::Heartbeat};

/// How many bytes may go to an address that is not proven, for each byte that came from it.
const AMPLIFICATION: u64 = 3;
/// Pings of one path whose answer is still waited for.
const MAX_PINGS: usize = 16;
/// An answer counts as life at most this long after its question: what somebody held back for longer says nothing of now.
const MAX_ANSWER_AGE: Duration = Duration::from_secs(1);
/// A sample this much off the estimate (beyond a factor of two) is checked by another ping, so many times in a row at most.
const SURPRISE: Duration = Duration::from_millis(20);
const MAX_SURPRISES: u32 = 4;
/// The pauses between the probes of a candidate; the last one repeats.
const SCHEDULE_MS: [u64; 12] = [20, 30, 50, 100, 200, 400, 800, 1_000, 4_000, 16_000, 64_000, 300_000];
/// So many probes go out before the long pauses begin.
pub(super) const QUICK_PROBES: usize = 8;
/// How long a path that failed once is not preferred to a living one; it doubles with each further failure.
const FIRST_HOLD: Duration = Duration::from_secs(1);
const MAX_HOLD: Duration = Duration::from_secs(32);
/// Between the probes of a path whose time of rest is over, until one is answered.
const REST_RETRY: Duration = Duration::from_millis(500);
/// A path that lived for so long starts with a clean record.
const FORGIVEN_AFTER: Duration = Duration::from_secs(60);

/// Why a path may carry data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    None,
    /// The handshake came through.
    Handshake,
    /// A ping of full size was answered in full size.
    Probe,
}

/// The size of a ping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Size {
    /// Asks whether the path lives.
    Small,
    /// Asks whether it carries what QUIC needs.
    Full,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Ping {
    pub(super) counter: u64,
    pub(super) at: Instant,
    pub(super) size: usize,
}

/// A ping whose answer is due, unless traffic both ways says the same before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Awaited {
    pub(super) since: Instant,
    pub(super) until: Instant,
}

#[derive(Clone, Debug)]
pub(super) struct Candidate<R> {
    pub(super) route: R,
    pub(super) kind: PathKind,
    pub(super) id: u8,
    /// In order of arrival.
    pub(super) added: u64,
    /// Named by the caller, not only seen as the source of a packet.
    pub(super) listed: bool,
    /// Taken back by the caller while it was in use.
    pub(super) leaving: bool,
    pub(super) proof: Proof,
    proven_since: Option<Instant>,
    /// An answer came to what only the owner of that address can have read.
    validated: bool,
    received: u64,
    sent: u64,
    pub(super) rtt: Option<Duration>,
    pub(super) sampled: Option<Instant>,
    surprises: u32,
    /// Until when the sending direction is known to have worked.
    pub(super) confirmed: Option<Instant>,
    /// When the newest ping had been sent that arrived and whose answer did not.
    pub(super) reported: Option<Instant>,
    /// When the last fresh packet came.
    pub(super) heard: Option<Instant>,
    /// When the newest full-size ping that was answered had been sent.
    pub(super) answered: Option<Instant>,
    pub(super) pings: VecDeque<Ping>,
    pub(super) want: Option<Size>,
    pub(super) step: usize,
    pub(super) next_ping: Option<Instant>,
    pub(super) awaited: Option<Awaited>,
    pub(super) misses: u32,
    pub(super) failures: u32,
    pub(super) held_until: Option<Instant>,
    /// When it was given up while it was in use, if its round trip was known.
    pub(super) left: Option<Instant>,
    pub(super) heartbeat: Heartbeat,
}

impl<R: Copy> Candidate<R> {
    pub(super) fn new(route: R, kind: PathKind, id: u8, added: u64, listed: bool, heartbeat: Heartbeat) -> Self {
        Self {
            route,
            kind,
            id,
            added,
            listed,
            leaving: false,
            proof: Proof::None,
            proven_since: None,
            validated: false,
            received: 0,
            sent: 0,
            rtt: None,
            sampled: None,
            surprises: 0,
            confirmed: None,
            reported: None,
            heard: None,
            answered: None,
            pings: VecDeque::new(),
            want: None,
            step: 0,
            next_ping: None,
            awaited: None,
            misses: 0,
            failures: 0,
            held_until: None,
            left: None,
            heartbeat,
        }
    }

    /// May carry data.
    pub(super) fn is_proven(&self) -> bool {
        self.proof != Proof::None
    }

    /// May replace a living path: what failed a short while ago must first answer again after its time of rest.
    pub(super) fn is_eligible(&self) -> bool {
        self.is_proven() && self.misses == 0 && self.held_until.is_none()
    }

    /// All quick probes went unanswered.
    pub(super) fn is_tired(&self) -> bool {
        !self.is_proven() && self.step >= QUICK_PROBES
    }

    /// Not worth another probe: a source that never answered, or one that answered and has been silent for minutes.
    pub(super) fn is_forgotten(&self) -> bool {
        let last = if self.failures == 0 { QUICK_PROBES } else { SCHEDULE_MS.len() - 1 };
        !self.listed && !self.is_proven() && self.step > last
    }

    /// The order of preference, best first.
    pub(super) fn rank(&self) -> (PathKind, Duration, u8) {
        (self.kind, self.rtt.unwrap_or(Duration::MAX), self.id)
    }

    /// Whether a full-size ping sent at `since` or later was answered.
    pub(super) fn answered_since(&self, since: Instant) -> bool {
        self.answered.is_some_and(|at| at >= since)
    }

    /// Both directions are known to have worked until then.
    pub(super) fn alive_until(&self) -> Option<Instant> {
        self.confirmed.min(self.heard)
    }

    pub(super) fn may_send(&self, bytes: usize) -> bool {
        self.validated
            || self.listed
            || self.kind == PathKind::Relayed
            || self.sent.saturating_add(bytes as u64) <= self.received.saturating_mul(AMPLIFICATION)
    }

    pub(super) fn note_sent(&mut self, bytes: usize) {
        self.sent = self.sent.saturating_add(bytes as u64);
    }

    pub(super) fn note_received(&mut self, bytes: usize) {
        self.received = self.received.saturating_add(bytes as u64);
    }

    /// The sending direction worked at `sent`, as is known now.
    pub(super) fn confirm(&mut self, now: Instant, sent: Instant) {
        self.confirmed = self.confirmed.max(Some(now.min(sent + MAX_ANSWER_AGE)));
    }

    pub(super) fn want(&mut self, size: Size) {
        self.want = self.want.max(Some(size));
    }

    /// Begins the quick probes.
    pub(super) fn restart(&mut self, at: Instant) {
        self.step = 0;
        self.next_ping = Some(at);
    }

    /// Takes the step of the schedule that is due.
    pub(super) fn step(&mut self, now: Instant) {
        self.want(Size::Full);
        self.next_ping = None;
        if self.proof != Proof::Probe {
            let pause = SCHEDULE_MS.get(self.step).or(SCHEDULE_MS.last()).copied().unwrap_or(u64::MAX);
            self.next_ping = now.checked_add(Duration::from_millis(pause));
            self.step = (self.step + 1).min(SCHEDULE_MS.len());
        } else if self.held_until.is_some() {
            self.next_ping = Some(now + REST_RETRY);
        }
    }

    pub(super) fn pinged(&mut self, ping: Ping, patience: Duration) {
        if self.pings.len() >= MAX_PINGS {
            self.pings.pop_front();
        }
        self.pings.push_back(ping);
        if self.is_proven() && self.awaited.is_none() {
            self.awaited = Some(Awaited { since: ping.at, until: ping.at + patience });
        }
    }

    pub(super) fn take_ping(&mut self, counter: u64) -> Option<Ping> {
        let index = self.pings.iter().position(|ping| ping.counter == counter)?;
        let ping = self.pings.remove(index);
        // a path at rest keeps no room for pings
        if self.pings.is_empty() {
            self.pings = VecDeque::new();
        }
        ping
    }

    /// The answer to `ping` came back on this very path.
    pub(super) fn pong(&mut self, now: Instant, ping: Ping, full: bool) {
        self.sample(now, ping.at);
        self.validated = true;
        self.misses = 0;
        self.awaited = None;
        self.heartbeat.answered();
        self.confirm(now, ping.at);
        if full {
            self.answered = self.answered.max(Some(ping.at));
            self.prove(now);
        } else if self.proof == Proof::None {
            self.want(Size::Full);
        }
    }

    /// One answer that was held up somewhere must not make a path seem slow, and its death go unnoticed, for minutes.
    fn sample(&mut self, now: Instant, sent: Instant) {
        let sample = now.saturating_duration_since(sent).min(MAX_ANSWER_AGE);
        let old = self.rtt.unwrap_or(sample);
        let surprising = sample > old * 2 + SURPRISE || sample * 2 + SURPRISE < old;
        self.surprises = if surprising && self.surprises < MAX_SURPRISES { self.surprises + 1 } else { 0 };
        if self.surprises > 0 {
            self.want(Size::Small);
        }
        self.rtt = Some(if sample < old { (old + sample) / 2 } else { (old * 3 + sample) / 4 });
        self.sampled = Some(now);
    }

    fn prove(&mut self, now: Instant) {
        if self.proof == Proof::None {
            self.begin(now);
        }
        self.proof = Proof::Probe;
        self.step = 0;
        if self.held_until.is_some_and(|until| self.answered_since(until)) {
            self.held_until = None;
        }
        self.next_ping = self.held_until;
    }

    /// The handshake came through here.
    pub(super) fn established(&mut self, now: Instant) {
        self.begin(now);
        self.validated = true;
        self.proof = Proof::Handshake;
    }

    fn begin(&mut self, now: Instant) {
        self.proven_since = Some(now);
        self.confirmed = Some(now);
        self.heard = Some(now);
    }

    /// Others of its kind are preferred until then, and until it has answered after that.
    pub(super) fn rest(&mut self, until: Instant) {
        self.held_until = self.held_until.max(Some(until));
        self.next_ping = self.next_ping.or(self.held_until);
    }

    pub(super) fn is_resting(&self, now: Instant) -> bool {
        self.held_until.is_some_and(|until| until > now)
    }

    /// It is proven no more: the quick probes begin again, and it rests before it is preferred again.
    pub(super) fn fail(&mut self, now: Instant) {
        if self.proven_since.take().is_some_and(|since| now.saturating_duration_since(since) >= FORGIVEN_AFTER) {
            self.failures = 0;
        }
        let hold = FIRST_HOLD.saturating_mul(1 << self.failures.min(10)).min(MAX_HOLD);
        self.failures = self.failures.saturating_add(1);
        self.held_until = Some(now + hold);
        self.proof = Proof::None;
        self.awaited = None;
        self.misses = 0;
        self.heartbeat.failed();
        self.restart(now + Duration::from_millis(SCHEDULE_MS[3]));
    }

    /// The size of the ping that is wanted and allowed, the small one `small` bytes long; `None` if none may go out.
    pub(super) fn ping_size(&self, small: usize) -> Option<usize> {
        let size = match self.want? {
            Size::Full => FULL_SIZE,
            Size::Small => small,
        };
        [size, small].into_iter().find(|&size| self.may_send(size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::epoch;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn candidate() -> Candidate<u8> {
        Candidate::new(0u8, PathKind::Direct, 0, 0, true, Heartbeat::new(ms(15_000), ms(22_000)))
    }

    fn answer(candidate: &mut Candidate<u8>, sent: Instant, rtt: u64) {
        candidate.pong(sent + ms(rtt), Ping { counter: 1, at: sent, size: FULL_SIZE }, true);
    }

    #[test]
    fn what_failed_rests_and_must_answer_after_that() {
        let start = epoch();
        let mut candidate = candidate();
        candidate.established(start);
        assert!(candidate.is_eligible());
        candidate.fail(start);
        answer(&mut candidate, start + ms(100), 20);
        assert!(candidate.is_proven() && !candidate.is_eligible());
        assert_eq!(candidate.next_ping, Some(start + ms(1_000)));
        candidate.step(start + ms(1_000));
        assert_eq!(candidate.next_ping, Some(start + ms(1_500)), "that probe may be lost");
        answer(&mut candidate, start + ms(1_500), 20);
        assert!(candidate.is_eligible() && candidate.next_ping.is_none());
    }

    #[test]
    fn each_failure_doubles_the_rest_until_a_minute_of_life() {
        let mut now = epoch();
        let mut candidate = candidate();
        let mut rest = |candidate: &mut Candidate<u8>, life: u64| {
            answer(candidate, now, 20);
            now += ms(life);
            candidate.fail(now);
            candidate.held_until.map(|until| (until - now).as_secs())
        };
        let rests: Vec<_> = (0..8).filter_map(|_| rest(&mut candidate, 10_000)).collect();
        assert_eq!(rests, [1, 2, 4, 8, 16, 32, 32, 32]);
        assert_eq!(rest(&mut candidate, 61_000), Some(1));
    }

    #[test]
    fn what_is_held_back_counts_as_life_for_a_second_at_most() {
        let start = epoch();
        let mut candidate = candidate();
        candidate.confirm(start + ms(9_000), start);
        assert_eq!(candidate.confirmed, Some(start + ms(1_000)));
        candidate.confirm(start + ms(9_000), start + ms(8_900));
        assert_eq!(candidate.confirmed, Some(start + ms(9_000)));
    }

    #[test]
    fn an_odd_sample_is_checked_a_few_times() {
        let start = epoch();
        let mut candidate = candidate();
        let mut sample = |rtt: u64| {
            candidate.want = None;
            answer(&mut candidate, start, rtt);
            (candidate.want.is_some(), candidate.rtt.map(|rtt| rtt.as_millis()))
        };
        assert_eq!(sample(20), (false, Some(20)));
        assert_eq!(sample(30), (false, Some(22)));
        assert_eq!(sample(60_000), (true, Some(266)), "a second is the most that counts");
        assert_eq!([sample(20), sample(20), sample(20)].map(|(again, _)| again), [true, true, true]);
        assert!(!sample(900).0, "enough");
    }
}
