//! The accounts of the demonstration: what was sent, what became of it, what arrived.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use p2pcore::node::Outcome;
use serde::Serialize;

/// The last line. It is good only if all was delivered, once, in order, and without a stall over a second.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Verdict {
    /// (message, destination) pairs accepted.
    pub(super) sent: u64,
    /// Reported as delivered.
    pub(super) delivered: u64,
    /// Reported as failed or expired.
    pub(super) failed: u64,
    /// Without an outcome, or delivered but never handed over.
    pub(super) lost: u64,
    /// Handed over again.
    pub(super) duplicated: u64,
    /// Handed over after a later one.
    pub(super) reordered: u64,
    /// The longest time that a pair with a message outstanding received nothing.
    pub(super) longest_stall_ms: u64,
}

impl Verdict {
    pub(super) fn is_good(&self) -> bool {
        let Self { sent, delivered, failed, lost, duplicated, reordered, longest_stall_ms } = *self;
        sent > 0 && delivered == sent && [failed, lost, duplicated, reordered] == [0; 4] && longest_stall_ms <= 1_000
    }
}

/// A sender and a receiver, by their indexes.
type PairKey = (usize, usize);

/// All pairs together.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pairs: BTreeMap<PairKey, Pair>,
}

#[derive(Debug, Default)]
struct Pair {
    messages: BTreeMap<u64, Fate>,
    highest: Option<u64>,
    duplicated: u64,
    reordered: u64,
    outstanding: u64,
    /// Since when something is outstanding and nothing has come.
    silent_since: Option<Instant>,
    longest_silence: Duration,
}

#[derive(Debug, Default)]
struct Fate {
    outcome: Option<Outcome>,
    handed: bool,
}

impl Ledger {
    /// Is noted before the message is sent, since it may arrive before the sender goes on.
    pub(super) fn sent(&mut self, now: Instant, pair: PairKey, seq: u64) {
        let pair = self.pairs.entry(pair).or_default();
        pair.messages.insert(seq, Fate::default());
        pair.outstanding += 1;
        pair.silent_since.get_or_insert(now);
    }

    /// It was not accepted after all.
    pub(super) fn retracted(&mut self, now: Instant, pair: PairKey, seq: u64) {
        if let Some(pair) = self.pairs.get_mut(&pair)
            && pair.messages.remove(&seq).is_some()
        {
            pair.settled(now);
        }
    }

    pub(super) fn handed(&mut self, now: Instant, pair: PairKey, seq: u64) {
        let pair = self.pairs.entry(pair).or_default();
        let fate = pair.messages.entry(seq).or_default();
        let (again, failed) = (std::mem::replace(&mut fate.handed, true), fate.is_failed());
        pair.duplicated += u64::from(again);
        if !again {
            pair.reordered += u64::from(pair.highest.is_some_and(|highest| highest > seq));
            pair.highest = pair.highest.max(Some(seq));
            if !failed {
                pair.settled(now);
            }
        }
        pair.heard(now);
    }

    pub(super) fn outcome(&mut self, now: Instant, pair: PairKey, seq: u64, outcome: Outcome) {
        let Some(pair) = self.pairs.get_mut(&pair) else { return };
        let Some(fate) = pair.messages.get_mut(&seq) else { return };
        fate.outcome = Some(outcome);
        if fate.is_failed() && !fate.handed {
            pair.settled(now);
        }
    }

    /// How many messages of this sender were reported as delivered.
    pub(super) fn delivered_from(&self, sender: usize) -> usize {
        let pairs = self.pairs.iter().filter(|((from, _), _)| *from == sender);
        pairs.flat_map(|(_, pair)| pair.messages.values()).filter(|fate| fate.is_delivered()).count()
    }

    /// Whether each message has an outcome.
    pub(super) fn is_settled(&self) -> bool {
        self.pairs.values().flat_map(|pair| pair.messages.values()).all(|fate| fate.outcome.is_some())
    }

    pub(super) fn verdict(&self, now: Instant) -> Verdict {
        let mut verdict = Verdict::default();
        let mut longest = Duration::ZERO;
        for pair in self.pairs.values() {
            for fate in pair.messages.values() {
                verdict.sent += 1;
                verdict.delivered += u64::from(fate.is_delivered());
                verdict.failed += u64::from(fate.is_failed());
                verdict.lost += u64::from(fate.outcome.is_none() || fate.is_delivered() && !fate.handed);
            }
            verdict.duplicated += pair.duplicated;
            verdict.reordered += pair.reordered;
            let silence = pair.silent_since.map(|since| now.saturating_duration_since(since));
            longest = longest.max(pair.longest_silence).max(silence.unwrap_or_default());
        }
        verdict.longest_stall_ms = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
        verdict
    }
}

impl Fate {
    fn is_delivered(&self) -> bool {
        self.outcome == Some(Outcome::Delivered)
    }

    fn is_failed(&self) -> bool {
        matches!(self.outcome, Some(Outcome::Failed(_) | Outcome::Expired))
    }
}

impl Pair {
    /// One message is no longer outstanding.
    fn settled(&mut self, now: Instant) {
        self.outstanding = self.outstanding.saturating_sub(1);
        if self.outstanding == 0 {
            self.heard(now);
        }
    }

    /// The silence ends here; a new one begins if something is still outstanding.
    fn heard(&mut self, now: Instant) {
        if let Some(since) = self.silent_since {
            self.longest_silence = self.longest_silence.max(now.saturating_duration_since(since));
        }
        self.silent_since = (self.outstanding > 0).then_some(now);
    }
}

#[cfg(test)]
mod tests {
    use p2pcore::Reason;

    use super::*;

    const PAIR: PairKey = (0, 1);

    struct Clock(Instant);

    impl Clock {
        fn at(&self, ms: u64) -> Instant {
            self.0 + Duration::from_millis(ms)
        }
    }

    fn start() -> (Ledger, Clock) {
        (Ledger::default(), Clock(Instant::now()))
    }

    #[test]
    fn all_delivered_in_order_is_good() {
        let (mut ledger, clock) = start();
        for seq in 0..3 {
            ledger.sent(clock.at(seq), PAIR, seq);
            ledger.handed(clock.at(seq + 5), PAIR, seq);
            ledger.outcome(clock.at(seq + 6), PAIR, seq, Outcome::Delivered);
        }
        let verdict = ledger.verdict(clock.at(10_000));
        assert_eq!(verdict, Verdict { sent: 3, delivered: 3, longest_stall_ms: 5, ..Verdict::default() });
        assert!(verdict.is_good() && ledger.is_settled());
        assert_eq!((ledger.delivered_from(0), ledger.delivered_from(1)), (3, 0));
    }

    #[test]
    fn each_fault_is_counted_and_spoils_the_verdict() {
        type Fault = fn(&mut Ledger, Instant);
        let faults: [(Fault, Verdict); 6] = [
            (
                |ledger, now| ledger.outcome(now, PAIR, 1, Outcome::Failed(Reason::Offline)),
                Verdict { failed: 1, ..Verdict::default() },
            ),
            (|ledger, now| ledger.outcome(now, PAIR, 1, Outcome::Expired), Verdict { failed: 1, ..Verdict::default() }),
            (|_, _| (), Verdict { lost: 1, ..Verdict::default() }),
            (
                |ledger, now| ledger.outcome(now, PAIR, 1, Outcome::Delivered),
                Verdict { delivered: 1, lost: 1, ..Verdict::default() },
            ),
            (
                |ledger, now| {
                    ledger.outcome(now, PAIR, 1, Outcome::Delivered);
                    ledger.handed(now, PAIR, 1);
                    ledger.handed(now, PAIR, 1);
                },
                Verdict { delivered: 1, duplicated: 1, ..Verdict::default() },
            ),
            (
                |ledger, now| {
                    ledger.sent(now, PAIR, 2);
                    for seq in [2, 1] {
                        ledger.handed(now, PAIR, seq);
                        ledger.outcome(now, PAIR, seq, Outcome::Delivered);
                    }
                },
                Verdict { sent: 1, delivered: 2, reordered: 1, ..Verdict::default() },
            ),
        ];
        for (fault, expected) in faults {
            let (mut ledger, clock) = start();
            ledger.sent(clock.at(0), PAIR, 0);
            ledger.handed(clock.at(0), PAIR, 0);
            ledger.outcome(clock.at(0), PAIR, 0, Outcome::Delivered);
            ledger.sent(clock.at(0), PAIR, 1);
            fault(&mut ledger, clock.at(0));
            let verdict = ledger.verdict(clock.at(0));
            let expected = Verdict { sent: expected.sent + 2, delivered: expected.delivered + 1, ..expected };
            assert_eq!(verdict, expected);
            assert!(!verdict.is_good());
        }
        assert!(!Verdict::default().is_good(), "nothing sent is nothing shown");
    }

    #[test]
    fn a_stall_is_silence_with_something_outstanding() {
        let (mut ledger, clock) = start();
        ledger.sent(clock.at(0), PAIR, 0);
        ledger.handed(clock.at(10), PAIR, 0);
        ledger.sent(clock.at(5_000), PAIR, 1);
        ledger.sent(clock.at(5_050), PAIR, 2);
        ledger.handed(clock.at(5_100), PAIR, 1);
        ledger.handed(clock.at(5_300), PAIR, 2);
        assert_eq!(ledger.verdict(clock.at(60_000)).longest_stall_ms, 200);
        ledger.sent(clock.at(60_000), PAIR, 3);
        assert_eq!(ledger.verdict(clock.at(60_700)).longest_stall_ms, 700, "an open one counts too");
        ledger.retracted(clock.at(60_800), PAIR, 3);
        assert_eq!(ledger.verdict(clock.at(90_000)).longest_stall_ms, 800);
    }
}
