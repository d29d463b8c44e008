//! The rules of delivery, one test each.

mod owed;
mod runs;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::*;
use crate::{Config, testing::epoch};

const TTL: Duration = Duration::from_secs(60);

/// Two conversations and what their applications saw.
struct Pair {
    now: Instant,
    config: Config,
    a: Conversation,
    b: Conversation,
    /// Outcomes at `a`, by tag.
    outcomes: BTreeMap<u64, Outcome>,
    /// What `b`'s application was shown: lane, seq, payload.
    shown: Vec<(u8, u64, Bytes)>,
    unblocked: usize,
    /// `b`'s application takes everything at once.
    takes: bool,
}

fn config() -> Config {
    Config { max_message: 1 << 20, lanes: 4, ..Config::default() }
}

impl Pair {
    fn new(config: Config) -> Self {
        let (a, b) = (Conversation::new(&config, [1; 16]), Conversation::new(&config, [2; 16]));
        let (outcomes, shown) = Default::default();
        Self { now: epoch(), config, a, b, outcomes, shown, unblocked: 0, takes: true }
    }

    fn linked(config: Config) -> Self {
        let mut pair = Self::new(config);
        pair.relink();
        pair
    }

    fn relink(&mut self) {
        self.a.attach(self.now);
        self.b.attach(self.now);
        self.run();
    }

    fn unlink(&mut self) {
        self.a.detach(self.now);
        self.b.detach(self.now);
    }

    fn send(&mut self, lane: u8, tag: u64, data: impl Into<Bytes>) {
        let message = Outgoing { lane, kind: Kind::Message, data: data.into(), expires: self.now + TTL, tag };
        self.a.send(self.now, message).unwrap();
    }

    fn send_for(&mut self, ttl_ms: u64, tag: u64, len: usize) {
        let expires = self.now + Duration::from_millis(ttl_ms);
        let data = Bytes::from(vec![tag as u8; len]);
        self.a.send(self.now, Outgoing { lane: 0, kind: Kind::Message, data, expires, tag }).unwrap();
    }

    fn wait(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
        self.a.handle_timeout(self.now);
        self.b.handle_timeout(self.now);
    }

    /// Everything there is to carry, both ways, until nothing moves.
    fn run(&mut self) {
        loop {
            let mut moved = false;
            while let Some(message) = self.a.poll_control() {
                self.b.handle_control(self.now, message).unwrap();
                moved = true;
            }
            moved |= self.write();
            while let Some(message) = self.b.poll_control() {
                self.a.handle_control(self.now, message).unwrap();
                moved = true;
            }
            self.events();
            if !moved {
                return;
            }
        }
    }

    /// Carries what `a` has for the lanes, as far as `b` wants it.
    fn write(&mut self) -> bool {
        let mut moved = false;
        for lane in 0..self.config.lanes {
            while self.b.can_receive(lane) {
                let Some(chunk) = self.a.poll_chunk(self.now, lane) else { break };
                assert!(chunk.len() <= MAX_CHUNK);
                self.b.receive(self.now, lane, chunk).unwrap();
                self.events();
                moved = true;
            }
        }
        moved
    }

    /// Carries so many chunks of these lanes.
    fn write_lanes(&mut self, lanes: &[(u8, usize)]) {
        for (lane, chunks) in lanes {
            for _ in 0..*chunks {
                let chunk = self.a.poll_chunk(self.now, *lane).unwrap();
                self.b.receive(self.now, *lane, chunk).unwrap();
            }
        }
    }

    fn events(&mut self) {
        while let Some(event) = self.a.poll_event() {
            match event {
                ConversationEvent::Outcome { tag, count, outcome } => {
                    for tag in tag..tag + count {
                        assert_eq!(self.outcomes.insert(tag, outcome), None, "a second outcome for {tag}");
                    }
                }
                ConversationEvent::Unblocked => self.unblocked += 1,
                other => panic!("nothing is sent to a: {other:?}"),
            }
        }
        while let Some(event) = self.b.poll_event() {
            for (lane, seq, _, data) in event.arrived() {
                self.shown.push((lane, seq, data));
                if self.takes {
                    self.b.handed(self.now, lane, seq, 1);
                }
            }
        }
    }

    fn take(&mut self, index: usize) {
        let (lane, seq, _) = self.shown[index];
        self.b.handed(self.now, lane, seq, 1);
        self.run();
    }

    fn payloads(&self) -> Vec<&[u8]> {
        self.shown.iter().map(|(_, _, data)| &data[..]).collect()
    }

    fn all(&self, outcome: Outcome) -> bool {
        self.outcomes.values().all(|seen| *seen == outcome)
    }
}

#[test]
fn messages_arrive_in_order_and_are_delivered_when_taken() {
    let mut pair = Pair::linked(config());
    pair.takes = false;
    for tag in 0..3 {
        pair.send(0, tag, vec![tag as u8]);
    }
    pair.run();
    assert_eq!(pair.payloads(), [[0], [1], [2]]);
    assert!(pair.outcomes.is_empty(), "arrived is not handed over");
    pair.take(0);
    assert_eq!(pair.outcomes, BTreeMap::from([(0, Outcome::Delivered)]));
    pair.take(1);
    pair.take(2);
    assert!(pair.outcomes.len() == 3 && pair.all(Outcome::Delivered));
    assert!(pair.a.is_idle() && pair.b.is_idle() && pair.a.deadline().is_none());
}

#[test]
fn nothing_is_written_before_the_other_end_said_what_it_knows() {
    let mut pair = Pair::new(config());
    pair.send(0, 1, "x");
    assert_eq!((pair.a.lanes_ready(), pair.a.poll_control(), pair.a.poll_chunk(pair.now, 0)), (0, None, None));
    pair.a.attach(pair.now);
    assert!(matches!(pair.a.poll_control(), Some(SessionMessage::Known { heard: None, .. })));
    assert_eq!((pair.a.lanes_ready(), pair.a.poll_control(), pair.a.poll_chunk(pair.now, 0)), (0, None, None));
    pair.a.handle_control(pair.now, SessionMessage::Known { instance: [2; 16], heard: None }).unwrap();
    assert_eq!(pair.a.lanes_ready(), 1);
    assert!(matches!(pair.a.poll_control(), Some(SessionMessage::Open { .. })));
    assert!(pair.a.poll_chunk(pair.now, 0).is_some());
    assert_eq!((pair.a.lanes_ready(), pair.a.poll_chunk(pair.now, 0)), (0, None));
}

#[test]
fn lanes_do_not_wait_for_each_other() {
    let mut pair = Pair::linked(config());
    pair.send(0, 1, vec![1; 1 << 20]);
    pair.send(3, 2, "small");
    assert_eq!(pair.a.lanes_ready(), 0b1001);
    let big = pair.a.poll_chunk(pair.now, 0).unwrap();
    let small = pair.a.poll_chunk(pair.now, 3).unwrap();
    pair.b.receive(pair.now, 0, big).unwrap();
    pair.b.receive(pair.now, 3, small).unwrap();
    pair.events();
    assert_eq!(pair.payloads(), [b"small"]);
    pair.run();
    assert_eq!(pair.payloads(), [&b"small"[..], &[1; 1 << 20]]);
    assert!(pair.outcomes.len() == 2 && pair.all(Outcome::Delivered));
}

#[test]
fn small_messages_share_chunks_and_big_ones_are_not_copied() {
    let mut pair = Pair::linked(config());
    for tag in 0..1000 {
        pair.send(0, tag, vec![0; 64]);
    }
    assert_eq!(pair.a.poll_chunk(pair.now, 0).map(|chunk| chunk.len()), Some(992 * 66));
    let big = Bytes::from(vec![7; 200_000]);
    pair.send(1, 1000, big.clone());
    let head = pair.a.poll_chunk(pair.now, 1).unwrap();
    let part = pair.a.poll_chunk(pair.now, 1).unwrap();
    assert!(head.len() < 16 && part.len() == MAX_CHUNK);
    assert_eq!(part.as_ptr(), big.as_ptr());
}

#[test]
fn a_lost_receipt_is_told_on_the_next_link() {
    let mut pair = Pair::linked(config());
    pair.send(0, 1, "x");
    pair.write();
    assert!(pair.b.poll_control().is_some(), "the receipt, which is lost");
    pair.unlink();
    pair.relink();
    assert_eq!(pair.outcomes, BTreeMap::from([(1, Outcome::Delivered)]));
    assert_eq!(pair.payloads(), [b"x"]);
}

#[test]
fn a_message_taken_between_two_links_is_delivered() {
    let mut pair = Pair::linked(config());
    pair.takes = false;
    pair.send(0, 1, "x");
    pair.run();
    pair.unlink();
    pair.take(0);
    assert!(pair.outcomes.is_empty());
    pair.relink();
    assert_eq!(pair.outcomes, BTreeMap::from([(1, Outcome::Delivered)]));
    assert_eq!(pair.shown.len(), 1);
}

#[test]
fn what_was_lost_with_a_link_is_written_again_before_anything_newer() {
    let mut pair = Pair::linked(config());
    for tag in 0..4 {
        pair.send(0, tag, vec![tag as u8]);
        let chunk = pair.a.poll_chunk(pair.now, 0).unwrap();
        if tag < 2 {
            pair.b.receive(pair.now, 0, chunk).unwrap();
        }
    }
    pair.unlink();
    pair.send(0, 4, vec![4]);
    pair.relink();
    assert_eq!(pair.payloads(), [[0], [1], [2], [3], [4]]);
    assert!(pair.outcomes.len() == 5 && pair.all(Outcome::Delivered));
}

#[test]
fn a_big_message_cut_in_the_middle_starts_anew() {
    let mut pair = Pair::linked(config());
    let data: Vec<u8> = (0..1 << 20).map(|i| (i / 3) as u8).collect();
    pair.send(0, 1, data.clone());
    for _ in 0..7 {
        let chunk = pair.a.poll_chunk(pair.now, 0).unwrap();
        pair.b.receive(pair.now, 0, chunk).unwrap();
    }
    pair.unlink();
    pair.relink();
    assert_eq!(pair.payloads(), [&data[..]]);
    assert_eq!(pair.outcomes, BTreeMap::from([(1, Outcome::Delivered)]));
}

#[test]
fn a_receiver_that_restarted_leaves_the_outcome_of_what_was_written_unknown() {
    let mut pair = Pair::linked(config());
    pair.takes = false;
    pair.send(0, 1, "written");
    pair.write();
    pair.unlink();
    pair.send(0, 2, "not written");
    pair.b = Conversation::new(&pair.config, [3; 16]);
    pair.takes = true;
    pair.relink();
    assert_eq!(pair.outcomes[&1], Outcome::Failed(Reason::UnknownOutcome));
    assert_eq!(pair.outcomes[&2], Outcome::Delivered);
    assert_eq!(pair.payloads(), [&b"written"[..], b"not written"]);
    pair.send(0, 3, "later");
    pair.run();
    assert_eq!(pair.outcomes[&3], Outcome::Delivered);
}

#[test]
fn a_message_half_written_to_a_receiver_that_restarted_is_still_sent() {
    let mut pair = Pair::linked(config());
    pair.send(0, 1, vec![1; 300_000]);
    assert!(pair.a.poll_chunk(pair.now, 0).is_some());
    pair.unlink();
    pair.b = Conversation::new(&pair.config, [3; 16]);
    pair.relink();
    assert_eq!(pair.outcomes, BTreeMap::from([(1, Outcome::Delivered)]));
}

#[test]
fn a_session_that_the_same_receiver_never_heard_of_loses_nothing() {
    let mut pair = Pair::new(config());
    pair.a.attach(pair.now);
    pair.b.attach(pair.now);
    let known = pair.b.poll_control().unwrap();
    pair.a.handle_control(pair.now, known).unwrap();
    while pair.a.poll_control().is_some() {}
    pair.send(0, 1, "lost with its link");
    assert!(pair.a.poll_chunk(pair.now, 0).is_some());
    pair.unlink();
    pair.send(0, 2, "later");
    pair.relink();
    assert_eq!(pair.payloads(), [&b"lost with its link"[..], b"later"]);
    assert!(pair.outcomes.len() == 2 && pair.all(Outcome::Delivered));
}

#[test]
fn a_sender_that_restarted_is_received_anew() {
    let mut pair = Pair::linked(config());
    pair.takes = false;
    pair.send(0, 1, "old");
    pair.run();
    pair.a = Conversation::new(&pair.config, [9; 16]);
    pair.relink();
    pair.send(0, 2, "new");
    pair.run();
    assert_eq!(pair.payloads(), [b"old", b"new"]);
    assert_ne!(pair.shown[0].1, pair.shown[1].1, "no seq is used twice");
    pair.take(0);
    assert!(pair.outcomes.is_empty(), "a receipt for the old session says nothing of the new one");
    pair.take(1);
    assert_eq!(pair.outcomes, BTreeMap::from([(2, Outcome::Delivered)]));
}

#[test]
fn a_message_expires_before_it_is_written() {
    let mut pair = Pair::linked(config());
    pair.send_for(10, 1, 1);
    pair.send_for(1000, 2, 1);
    pair.wait(10);
    pair.run();
    assert_eq!(pair.outcomes, BTreeMap::from([(1, Outcome::Expired), (2, Outcome::Delivered)]));
    assert_eq!(pair.payloads(), [[2]]);
    pair.send_for(0, 3, 1);
    pair.events();
    assert_eq!(pair.outcomes[&3], Outcome::Expired);
}

#[test]
fn the_deadline_is_the_next_expiry_and_passes_with_the_message() {
    let mut pair = Pair::new(config());
    pair.send_for(100, 1, 1);
    pair.send_for(20, 2, 1);
    let due = pair.a.deadline().unwrap() - pair.now;
    assert!((20..=25).contains(&due.as_millis()), "{due:?}");
    pair.wait(25);
    pair.events();
    assert_eq!(pair.outcomes, BTreeMap::from([(2, Outcome::Expired)]));
    pair.relink();
    assert_eq!(pair.outcomes[&1], Outcome::Delivered);
    assert_eq!(pair.a.deadline(), None);
}

#[test]
fn a_message_that_expires_while_its_parts_go_out_is_given_up() {
    let mut pair = Pair::linked(config());
    pair.send_for(10, 1, 1 << 20);
    pair.send_for(1000, 2, 1);
    for _ in 0..5 {
        let chunk = pair.a.poll_chunk(pair.now, 0).unwrap();
        pair.b.receive(pair.now, 0, chunk).unwrap();
    }
    pair.wait(20);
    pair.run();
    assert_eq!(pair.outcomes, BTreeMap::from([(1, Outcome::Expired), (2, Outcome::Delivered)]));
    assert_eq!(pair.payloads(), [[2]]);
}

#[test]
fn a_message_that_expired_after_it_was_written_is_handed_over_at_most_once() {
    let mut pair = Pair::linked(config());
    pair.takes = false;
    pair.send_for(10, 1, 1);
    pair.send_for(1000, 2, 1);
    pair.run();
    pair.wait(20);
    pair.relink();
    pair.take(0);
    pair.take(1);
    assert_eq!(pair.payloads(), [[1], [2]]);
    assert_eq!(pair.outcomes, BTreeMap::from([(1, Outcome::Expired), (2, Outcome::Delivered)]));
}

#[test]
fn expired_numbers_are_skipped_on_the_next_link() {
    let mut pair = Pair::linked(config());
    for (tag, ttl) in [(1, 10), (2, 1000), (3, 10), (4, 1000), (5, 10)] {
        pair.send_for(ttl, tag, 1);
    }
    assert!(pair.a.poll_chunk(pair.now, 0).is_some());
    pair.unlink();
    pair.wait(20);
    pair.relink();
    assert_eq!(pair.payloads(), [[2], [4]]);
    pair.send(0, 6, vec![6]);
    pair.run();
    assert_eq!(pair.payloads(), [[2], [4], [6]]);
    let expired = |tag| if tag % 2 == 1 { Outcome::Expired } else { Outcome::Delivered };
    assert_eq!(pair.outcomes, (1..=6).map(|tag| (tag, expired(tag))).collect());
}

#[test]
fn receipts_need_not_come_in_order() {
    let mut pair = Pair::linked(config());
    pair.takes = false;
    for tag in 0..200 {
        pair.send(0, tag, vec![tag as u8]);
    }
    pair.run();
    for index in (1..200).rev().step_by(2) {
        let (lane, seq, _) = pair.shown[index];
        pair.b.handed(pair.now, lane, seq, 1);
        pair.b.handed(pair.now, lane, seq, 1);
    }
    pair.run();
    assert_eq!(pair.outcomes.keys().copied().collect::<Vec<_>>(), (1..200).step_by(2).collect::<Vec<_>>());
    pair.relink();
    for index in (0..200).step_by(2) {
        pair.take(index);
    }
    assert!(pair.outcomes.len() == 200 && pair.all(Outcome::Delivered));
}

#[test]
fn out_of_order_receipts_lost_with_a_link_are_told_again() {
    let mut pair = Pair::linked(config());
    pair.takes = false;
    for tag in 0..6 {
        pair.send(0, tag, vec![tag as u8]);
    }
    pair.run();
    for index in [1, 2, 5] {
        let (lane, seq, _) = pair.shown[index];
        pair.b.handed(pair.now, lane, seq, 1);
    }
    while pair.b.poll_control().is_some() {}
    pair.relink();
    assert_eq!(pair.outcomes.keys().copied().collect::<Vec<_>>(), [1, 2, 5]);
}

#[test]
fn an_application_that_does_not_take_is_not_read_for() {
    let mut pair = Pair::linked(Config { max_unhanded_messages: 8, ..config() });
    pair.takes = false;
    for tag in 0..100 {
        pair.send(0, tag, vec![0; 10_000]);
    }
    pair.run();
    let shown = pair.shown.len();
    assert!(!pair.b.can_receive(0) && (8..20).contains(&shown), "{shown}");
    let mut taken = 0;
    while taken < pair.shown.len() {
        pair.take(taken);
        taken += 1;
    }
    assert!(pair.outcomes.len() == 100 && pair.all(Outcome::Delivered));
}

#[test]
fn halves_of_messages_are_bounded_and_do_not_keep_each_other_waiting() {
    let mut pair = Pair::linked(Config { max_unhanded_bytes: 200_000, ..config() });
    pair.takes = false;
    for lane in 0..4 {
        pair.send(lane, lane.into(), vec![lane; 150_000]);
        pair.write_lanes(&[(lane, 2)]);
    }
    assert_eq!([0, 1, 2, 3].map(|lane| pair.b.can_receive(lane)), [true, false, false, false]);
    pair.run();
    assert_eq!(pair.shown.len(), 2);
    let mut taken = 0;
    while taken < pair.shown.len() {
        pair.take(taken);
        taken += 1;
    }
    assert!(pair.outcomes.len() == 4 && pair.all(Outcome::Delivered));
}

#[test]
fn one_message_over_the_byte_limit_still_gets_through() {
    let mut pair = Pair::linked(Config { max_unhanded_bytes: 10, max_queued_bytes: 10, ..config() });
    pair.send(0, 1, vec![1; 1000]);
    pair.run();
    assert_eq!(pair.outcomes, BTreeMap::from([(1, Outcome::Delivered)]));
}

#[test]
fn a_full_queue_gives_the_message_back_and_calls_once() {
    let mut pair = Pair::new(Config { max_queued_messages: 10, ..config() });
    for tag in 0..10 {
        pair.send(0, tag, "x");
    }
    let more = Outgoing { lane: 1, kind: Kind::Message, data: Bytes::new(), expires: pair.now + TTL, tag: 99 };
    assert_eq!(pair.a.send(pair.now, more.clone()), Err(Full));
    assert_eq!(pair.a.send(pair.now, more.clone()), Err(Full));
    pair.takes = false;
    pair.relink();
    for index in 0..4 {
        pair.take(index);
    }
    assert_eq!(pair.unblocked, 0);
    for index in 4..10 {
        pair.take(index);
    }
    assert_eq!((pair.unblocked, pair.outcomes.len()), (1, 10));
    assert_eq!(pair.a.send(pair.now, more), Ok(()));
}

#[test]
fn a_queue_is_unblocked_only_when_the_message_fits() {
    let mut pair = Pair::new(Config { max_queued_bytes: 100, ..config() });
    pair.send_for(10, 1, 60);
    pair.send_for(50, 2, 30);
    let big =
        Outgoing { lane: 0, kind: Kind::Message, data: Bytes::from(vec![0; 80]), expires: pair.now + TTL, tag: 3 };
    assert_eq!(pair.a.send(pair.now, big.clone()), Err(Full));
    pair.wait(20);
    pair.events();
    assert_eq!((pair.outcomes.len(), pair.unblocked), (1, 0));
    pair.wait(50);
    pair.events();
    assert_eq!(pair.unblocked, 1);
    assert_eq!(pair.a.send(pair.now, big), Ok(()));
    let over_the_limit =
        Outgoing { lane: 0, kind: Kind::Message, data: vec![0; 150].into(), expires: pair.now + TTL, tag: 4 };
    assert_eq!(pair.a.send(pair.now, over_the_limit.clone()), Err(Full));
    pair.a.fail_all(Reason::Offline);
    pair.events();
    assert_eq!(pair.unblocked, 2);
    assert_eq!(pair.a.send(pair.now, over_the_limit), Ok(()));
}

#[test]
fn messages_that_expired_in_the_middle_leave_room_in_the_queue() {
    let mut pair = Pair::new(Config { max_queued_messages: 1000, ..config() });
    pair.send(0, 0, "stays");
    for round in 0..50 {
        for tag in 1..1000 {
            pair.send_for(5, round * 1000 + tag, 0);
        }
        pair.wait(10);
        pair.events();
    }
    assert_eq!(pair.outcomes.len(), 50 * 999);
    pair.relink();
    assert_eq!(pair.payloads(), [b"stays"]);
}

#[test]
fn giving_up_says_what_may_have_arrived() {
    let mut pair = Pair::linked(config());
    pair.send(0, 1, "written");
    pair.send(1, 2, vec![0; 1 << 20]);
    pair.send(2, 3, "queued");
    pair.write_lanes(&[(0, 1), (1, 3)]);
    pair.a.fail_all(Reason::Offline);
    pair.events();
    let offline = Outcome::Failed(Reason::Offline);
    let unknown = Outcome::Failed(Reason::UnknownOutcome);
    assert_eq!(pair.outcomes, BTreeMap::from([(1, unknown), (2, offline), (3, offline)]));
    for lane in 0..3 {
        pair.send(lane, 10 + u64::from(lane), "afterwards");
    }
    pair.run();
    assert_eq!(pair.payloads(), [&b"written"[..], b"afterwards", b"afterwards", b"afterwards"]);
    assert!((10..13).all(|tag| pair.outcomes[&tag] == Outcome::Delivered));
}

#[test]
fn what_was_never_written_fails_for_certain_and_the_rest_waits_on() {
    let mut pair = Pair::linked(config());
    pair.send(0, 1, "written");
    pair.send(1, 2, vec![0; 1 << 20]);
    pair.send(2, 3, "queued");
    pair.write_lanes(&[(0, 1), (1, 3)]);
    pair.a.fail_unwritten(Reason::Offline);
    pair.events();
    let offline = Outcome::Failed(Reason::Offline);
    assert_eq!(pair.outcomes, BTreeMap::from([(2, offline), (3, offline)]));
    for lane in 0..3 {
        pair.send(lane, 10 + u64::from(lane), "afterwards");
    }
    pair.run();
    assert_eq!(pair.payloads(), [&b"written"[..], b"afterwards", b"afterwards", b"afterwards"]);
    assert!([1, 10, 11, 12].iter().all(|tag| pair.outcomes[tag] == Outcome::Delivered));
}

#[test]
fn a_message_too_large_or_in_no_lane_fails_at_once() {
    let mut pair = Pair::new(config());
    pair.send(0, 1, vec![0; (1 << 20) + 1]);
    pair.send(4, 2, "x");
    pair.events();
    assert_eq!(pair.outcomes[&1], Outcome::Failed(Reason::TooLarge));
    assert_eq!(pair.outcomes[&2], Outcome::Failed(Reason::Refused));
}

#[test]
fn requests_and_replies_keep_their_numbers_and_reasons() {
    let mut pair = Pair::linked(config());
    let refused = Kind::Reply { rid: 300, result: Err(Reason::Refused) };
    let kinds = [Kind::Request { rid: u64::MAX }, Kind::Reply { rid: 5, result: Ok(()) }, refused, Kind::Message];
    for (tag, kind) in (0..).zip(kinds) {
        for len in [3, 40_000] {
            let data = Bytes::from(vec![1; len]);
            pair.a.send(pair.now, Outgoing { lane: 0, kind, data, expires: pair.now + TTL, tag }).unwrap();
        }
    }
    let mut seen = Vec::new();
    while let Some(chunk) = pair.a.poll_chunk(pair.now, 0) {
        pair.b.receive(pair.now, 0, chunk).unwrap();
        while let Some(event) = pair.b.poll_event() {
            seen.extend(event.arrived().map(|(_, _, kind, data)| (kind, data.len())));
        }
    }
    let len_of = |kind: Kind, len| if kind == refused { 0 } else { len };
    let sent: Vec<_> =
        kinds.into_iter().flat_map(|kind| [(kind, len_of(kind, 3)), (kind, len_of(kind, 40_000))]).collect();
    assert_eq!(seen, sent);
}

#[test]
fn what_comes_without_a_link_is_ignored() {
    let mut pair = Pair::linked(config());
    pair.send(0, 1, "x");
    let chunk = pair.a.poll_chunk(pair.now, 0).unwrap();
    pair.unlink();
    pair.b.receive(pair.now, 0, chunk).unwrap();
    pair.b.handle_control(pair.now, SessionMessage::Known { instance: [1; 16], heard: None }).unwrap();
    pair.events();
    assert!(pair.shown.is_empty());
    pair.relink();
    assert_eq!(pair.payloads(), [b"x"]);
}

#[test]
fn expiry_in_the_middle_of_writing_again_keeps_the_place() {
    let mut pair = Pair::linked(config());
    for tag in 0..120 {
        pair.send_for(if (1..100).contains(&tag) { 10 } else { 1000 }, tag, 10_000);
    }
    while pair.a.poll_chunk(pair.now, 0).is_some() {}
    pair.a.attach(pair.now);
    pair.b.attach(pair.now);
    for _ in 0..2 {
        while let Some(message) = pair.a.poll_control() {
            pair.b.handle_control(pair.now, message).unwrap();
        }
        while let Some(message) = pair.b.poll_control() {
            pair.a.handle_control(pair.now, message).unwrap();
        }
    }
    pair.takes = false;
    pair.write_lanes(&[(0, 2)]);
    pair.events();
    let before = pair.shown.len();
    pair.wait(20);
    pair.takes = true;
    pair.run();
    assert_eq!(pair.shown.len(), before + 20);
    for index in 0..before {
        pair.take(index);
    }
    assert!((100..120).chain([0]).all(|tag| pair.outcomes[&tag] == Outcome::Delivered));
    assert_eq!(pair.outcomes.len(), 120);
}

/// What `a` says to a conversation that tries it with `messages`.
fn provoke(pair: &mut Pair, messages: impl IntoIterator<Item = SessionMessage>) -> Result<(), Violation> {
    messages.into_iter().try_for_each(|message| pair.a.handle_control(pair.now, message))
}

fn receipt(lane: u8, below: u64, also: &[(u64, u64)]) -> SessionMessage {
    SessionMessage::Receipt(Receipt { lane, below, also: also.to_vec() })
}

#[test]
fn receipts_that_cannot_be_are_violations() {
    let bad: [&[SessionMessage]; 8] = [
        &[receipt(0, 4, &[])],
        &[receipt(0, u64::MAX, &[])],
        &[receipt(0, 0, &[(1, 4)])],
        &[receipt(0, 2, &[(1, 3)])],
        &[receipt(0, 0, &[(2, 3), (1, 2)])],
        &[receipt(0, 0, &[(2, 2)])],
        &[receipt(0, 2, &[]), receipt(0, 1, &[])],
        &[receipt(4, 0, &[])],
    ];
    for messages in bad {
        let mut pair = Pair::linked(config());
        for tag in 0..3 {
            pair.send(0, tag, "x");
        }
        assert!(pair.a.poll_chunk(pair.now, 0).is_some());
        assert!(provoke(&mut pair, messages.iter().cloned()).is_err(), "{messages:?}");
    }
    let mut pair = Pair::linked(config());
    pair.send(0, 0, "not written");
    assert!(provoke(&mut pair, [receipt(0, 1, &[])]).is_err());
    let mut pair = Pair::new(config());
    pair.a.attach(pair.now);
    assert!(provoke(&mut pair, [receipt(0, 0, &[])]).is_err(), "before the session is open");
}

#[test]
fn a_second_opening_on_one_link_is_a_violation() {
    let session = SessionId { seed: [2; 16], count: 0 };
    let mut pair = Pair::linked(config());
    assert!(provoke(&mut pair, [SessionMessage::Known { instance: [2; 16], heard: None }]).is_err());
    assert!(provoke(&mut pair, [SessionMessage::Open { session }]).is_err());
}

#[test]
fn a_receiver_cannot_expect_what_was_never_sent_or_was_acknowledged() {
    for next in [vec![0], vec![1], vec![4], vec![u64::MAX], vec![2, 1], vec![2, 0, 0, 0, 1]] {
        let mut pair = Pair::linked(config());
        for tag in 0..3 {
            pair.send(0, tag, "x");
        }
        assert!(pair.a.poll_chunk(pair.now, 0).is_some());
        provoke(&mut pair, [receipt(0, 2, &[])]).unwrap();
        pair.a.attach(pair.now);
        let session = SessionId { seed: [1; 16], count: 0 };
        let heard = Some(Heard { session, next });
        assert!(provoke(&mut pair, [SessionMessage::Known { instance: [2; 16], heard }]).is_err());
    }
}

#[test]
fn bytes_before_the_session_or_on_no_lane_are_violations() {
    let mut pair = Pair::new(config());
    pair.b.attach(pair.now);
    assert!(!pair.b.can_receive(0));
    assert!(pair.b.receive(pair.now, 0, Bytes::from_static(&[1, 0])).is_err());
    let mut pair = Pair::linked(config());
    assert!(pair.b.receive(pair.now, 15, Bytes::from_static(&[1, 0])).is_ok());
    assert!(pair.b.receive(pair.now, 16, Bytes::from_static(&[1, 0])).is_err());
}

#[test]
fn numbers_are_never_used_up() {
    let mut pair = Pair::linked(config());
    let mut skip = Vec::new();
    frame::put_skip(&mut skip, frame::MAX_SKIP);
    pair.b.receive(pair.now, 0, skip.into()).unwrap();
    pair.b.receive(pair.now, 0, Bytes::from_static(&[1, 1, 7])).unwrap();
    pair.events();
    assert_eq!(pair.shown[0].1, frame::MAX_SKIP);
    let receipts: Vec<_> = std::iter::from_fn(|| pair.b.poll_control()).collect();
    assert_eq!(receipts, [receipt(0, frame::MAX_SKIP + 1, &[])]);
}
