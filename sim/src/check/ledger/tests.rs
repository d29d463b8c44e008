use bytes::Bytes;

use super::*;
use crate::check::testing::id;

const FROM: Run = Run { process: 0, run: 1 };
const WIDE: QueueLimits = QueueLimits { messages: 100, bytes: 100_000 };
const LATE: Duration = Duration::from_secs(60);

/// A ledger with `count` messages from 1 to 2, and their payloads.
fn sent(count: u64) -> (Ledger, Vec<Bytes>) {
    let mut ledger = Ledger::default();
    let payloads = (1..=count).map(|n| {
        let number = ledger.next_number();
        ledger.sent(FROM, id(1), SendId(n), number, 0, 50, &[id(2)], LATE, WIDE).unwrap();
        payload::make(Kind::Message, number, 50)
    });
    let payloads = payloads.collect();
    (ledger, payloads)
}

fn checker<T: std::fmt::Debug>(result: Result<T, Breach>) -> &'static str {
    result.unwrap_err().checker
}

#[test]
fn the_good_way_is_silent() {
    let (mut ledger, data) = sent(2);
    for (n, data) in (1..).zip(&data) {
        let number = ledger.handed(id(2), id(1), 0, data).unwrap();
        ledger.taken(id(2), number, None);
        ledger.outcome(FROM, id(1), SendId(n), id(2), Outcome::Delivered).unwrap();
    }
    assert_eq!(ledger.open(), 0);
    assert!(ledger.overdue(LATE * 2, |_| false).is_empty());
    assert_eq!(ledger.counts(), Counts { sent: 2, delivered: 2, ..Counts::default() });
}

#[test]
fn two_outcomes_or_one_of_nothing_are_seen() {
    let (mut ledger, _) = sent(1);
    ledger.outcome(FROM, id(1), SendId(1), id(2), Outcome::Expired).unwrap();
    assert_eq!(checker(ledger.outcome(FROM, id(1), SendId(1), id(2), Outcome::Expired)), "one_outcome");
    assert_eq!(checker(ledger.outcome(FROM, id(1), SendId(9), id(2), Outcome::Expired)), "one_outcome");
    assert_eq!(checker(ledger.outcome(FROM, id(1), SendId(1), id(3), Outcome::Expired)), "one_outcome");
    assert_eq!(checker(ledger.sent(FROM, id(1), SendId(1), 9, 0, 50, &[id(2)], LATE, WIDE)), "one_outcome");
}

#[test]
fn a_missing_outcome_is_seen_once_and_excused_for_the_paused_and_the_dead() {
    let (mut ledger, _) = sent(1);
    assert!(ledger.overdue(LATE * 2, |_| true).is_empty());
    assert_eq!(ledger.overdue(LATE * 4, |_| false)[0].checker, "one_outcome");
    assert!(ledger.overdue(LATE * 5, |_| false).is_empty());
    let (mut ledger, _) = sent(1);
    ledger.slept(FROM, LATE);
    assert!(ledger.overdue(LATE * 2, |_| false).is_empty());
    assert_eq!(ledger.overdue(LATE * 3, |_| false).len(), 1);
    let (mut ledger, _) = sent(1);
    ledger.died(FROM);
    assert!(ledger.overdue(LATE * 2, |_| false).is_empty());
}

#[test]
fn delivered_before_the_application_took_it_is_a_lie() {
    let (mut ledger, data) = sent(1);
    ledger.handed(id(2), id(1), 0, &data[0]).unwrap();
    assert_eq!(checker(ledger.outcome(FROM, id(1), SendId(1), id(2), Outcome::Delivered)), "delivered_true");
}

#[test]
fn what_is_for_the_master_is_delivered_only_if_it_was_taken_in_that_office() {
    let token = |term| Some(Token { generation: 1, kind: p2pcore::master::Kind::Elected, term, id: id(2) });
    let to_master = |fence| {
        let mut ledger = Ledger::default();
        let number = ledger.next_number();
        let result = ledger.sent_to_master(FROM, id(1), SendId(1), number, 0, 50, id(2), LATE, fence);
        (ledger, payload::make(Kind::Message, number, 50), result)
    };
    for (held, is_right) in [(token(3), true), (token(4), false), (None, false)] {
        let (mut ledger, data, result) = to_master(token(3));
        assert_eq!(result, Ok(()));
        ledger.handed(id(2), id(1), 0, &data).unwrap();
        ledger.taken(id(2), 1, held);
        let mut failed = ledger.clone();
        let delivered = ledger.outcome(FROM, id(1), SendId(1), id(2), Outcome::Delivered);
        assert_eq!(delivered.map_err(|breach| breach.checker), if is_right { Ok(()) } else { Err("to_master") });
        let changed = Outcome::Failed(Reason::MasterChanged);
        assert_eq!(failed.outcome(FROM, id(1), SendId(1), id(2), changed), Ok(()), "though it arrived");
    }
    assert_eq!(checker(to_master(None).2), "to_master");
    let other = token(3).map(|token| Token { id: id(3), ..token });
    assert_eq!(checker(to_master(other).2), "to_master");
}

#[test]
fn a_certain_failure_excludes_handing_on_either_side_of_it() {
    let failed = Outcome::Failed(Reason::Offline);
    let (mut ledger, data) = sent(2);
    ledger.handed(id(2), id(1), 0, &data[0]).unwrap();
    assert_eq!(checker(ledger.outcome(FROM, id(1), SendId(1), id(2), failed)), "outcome_true");
    ledger.outcome(FROM, id(1), SendId(2), id(2), failed).unwrap();
    assert_eq!(checker(ledger.handed(id(2), id(1), 0, &data[1])), "outcome_true");
    let (mut ledger, data) = sent(1);
    ledger.outcome(FROM, id(1), SendId(1), id(2), Outcome::Failed(Reason::UnknownOutcome)).unwrap();
    ledger.handed(id(2), id(1), 0, &data[0]).unwrap();
}

#[test]
fn another_id_a_second_time_or_a_changed_bit_are_seen() {
    let (mut ledger, data) = sent(1);
    assert_eq!(checker(ledger.handed(id(3), id(1), 0, &data[0])), "right_id");
    assert_eq!(checker(ledger.handed(id(2), id(9), 0, &data[0])), "payload_intact");
    assert_eq!(checker(ledger.handed(id(2), id(1), 5, &data[0])), "payload_intact");
    assert_eq!(checker(ledger.handed(id(2), id(1), 0, &data[0][1..])), "payload_intact");
    ledger.handed(id(2), id(1), 0, &data[0]).unwrap();
    assert_eq!(checker(ledger.handed(id(2), id(1), 0, &data[0])), "at_most_once");
}

#[test]
fn order_is_kept_in_a_lane() {
    let (mut ledger, data) = sent(2);
    ledger.handed(id(2), id(1), 0, &data[1]).unwrap();
    assert_eq!(checker(ledger.handed(id(2), id(1), 0, &data[0])), "order");
}

#[test]
fn a_queue_over_its_limit_is_seen() {
    let (mut ledger, _) = sent(2);
    let narrow = QueueLimits { messages: 2, ..WIDE };
    assert_eq!(checker(ledger.sent(FROM, id(1), SendId(3), 3, 0, 50, &[id(2)], LATE, narrow)), "queue_bounds");
    let narrow = QueueLimits { bytes: 199, ..WIDE };
    assert_eq!(checker(ledger.sent(FROM, id(1), SendId(4), 4, 0, 50, &[id(2)], LATE, narrow)), "queue_bounds");
}

#[test]
fn unblocked_comes_once_after_blocked() {
    let (mut ledger, _) = sent(1);
    assert_eq!(checker(ledger.unblocked(FROM, id(1), id(2))), "one_unblocked");
    ledger.blocked(FROM, id(2));
    ledger.blocked(FROM, id(2));
    assert_eq!(ledger.still_blocked(), [(FROM, id(2))]);
    ledger.unblocked(FROM, id(1), id(2)).unwrap();
    assert_eq!(checker(ledger.unblocked(FROM, id(1), id(2))), "one_unblocked");
}
