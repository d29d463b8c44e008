//! Messages that follow on each other are news together.

use std::collections::VecDeque;

use super::*;

fn texts(texts: &[&'static str]) -> Vec<Bytes> {
    texts.iter().map(|text| Bytes::from_static(text.as_bytes())).collect()
}

/// Carries all that `a` has for the lanes without a look at `b`'s events.
fn carry(pair: &mut Pair) {
    for lane in 0..pair.config.lanes {
        while let Some(chunk) = pair.a.poll_chunk(pair.now, lane) {
            pair.b.receive(pair.now, lane, chunk).unwrap();
        }
    }
}

fn news(conversation: &mut Conversation) -> Vec<ConversationEvent> {
    std::iter::from_fn(|| conversation.poll_event()).collect()
}

#[test]
fn what_arrives_together_is_one_event_until_something_comes_between() {
    let mut pair = Pair::linked(config());
    for (tag, text) in [(0, "a"), (1, "b"), (2, "c")] {
        pair.send(0, tag, text);
    }
    let kind = Kind::Request { rid: 7 };
    let request = Outgoing { lane: 0, kind, data: Bytes::new(), expires: pair.now + TTL, tag: 3 };
    pair.a.send(pair.now, request).unwrap();
    pair.send(0, 4, "d");
    pair.send(1, 5, "e");
    carry(&mut pair);
    let messages = |lane, seq, data: &[&'static str]| ConversationEvent::Messages { lane, seq, data: texts(data) };
    let arrived = [
        messages(0, 0, &["a", "b", "c"]),
        ConversationEvent::Arrived { lane: 0, seq: 3, kind, data: Bytes::new() },
        messages(0, 4, &["d"]),
        messages(1, 0, &["e"]),
    ];
    assert_eq!(news(&mut pair.b), arrived);
    let each: Vec<_> =
        arrived.into_iter().flat_map(ConversationEvent::arrived).map(|(lane, seq, ..)| (lane, seq)).collect();
    assert_eq!(each, [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (1, 0)]);
}

#[test]
fn a_number_that_was_left_out_ends_a_run() {
    let mut pair = Pair::linked(config());
    for tag in 0..4 {
        pair.send_for(if tag == 2 { 10 } else { 1_000 }, tag, 1);
    }
    // numbered, and lost with the link
    while pair.a.poll_chunk(pair.now, 0).is_some() {}
    pair.unlink();
    pair.wait(20);
    pair.a.attach(pair.now);
    pair.b.attach(pair.now);
    while let Some(message) = pair.a.poll_control().or_else(|| {
        let message = pair.b.poll_control()?;
        pair.a.handle_control(pair.now, message).unwrap();
        pair.a.poll_control()
    }) {
        pair.b.handle_control(pair.now, message).unwrap();
    }
    carry(&mut pair);
    let seqs: Vec<_> = news(&mut pair.b)
        .into_iter()
        .map(|event| if let ConversationEvent::Messages { seq, data, .. } = event { (seq, data.len()) } else { (9, 9) })
        .collect();
    assert_eq!(seqs, [(0, 2), (3, 1)]);
}

#[test]
fn the_application_holds_no_more_than_it_may_however_many_came_in_one_piece() {
    let mut pair = Pair::linked(Config { max_unhanded_messages: 3, ..config() });
    for tag in 0..8 {
        pair.send(0, tag, vec![tag as u8]);
    }
    carry(&mut pair);
    let lens = |events: Vec<ConversationEvent>| -> Vec<_> {
        events.into_iter().flat_map(ConversationEvent::arrived).map(|(_, seq, _, data)| (seq, data[0])).collect()
    };
    assert_eq!(lens(news(&mut pair.b)), [(0, 0), (1, 1), (2, 2)]);
    pair.b.handed(pair.now, 0, 1, 2);
    assert_eq!(lens(news(&mut pair.b)), [(3, 3), (4, 4)]);
    assert!(!pair.b.can_receive(0));
    // more than were shown: no more than those are accepted
    pair.b.handed(pair.now, 0, 0, 100);
    assert_eq!(pair.b.poll_control(), Some(receipt(0, 5, &[])));
    assert_eq!(lens(news(&mut pair.b)), [(5, 5), (6, 6), (7, 7)]);
    assert_eq!(pair.b.held(), 3);
}

#[test]
fn an_event_has_no_more_than_256_messages() {
    let mut pair = Pair::linked(config());
    for tag in 0..600 {
        pair.send(0, tag, "");
    }
    carry(&mut pair);
    let lens: Vec<usize> = news(&mut pair.b).into_iter().map(|event| event.arrived().count()).collect();
    assert_eq!(lens, [256, 256, 88]);
}

#[test]
fn a_run_is_accepted_in_parts_and_in_any_order() {
    let mut pair = Pair::linked(config());
    for tag in 10..16 {
        pair.send(0, tag, "x");
    }
    carry(&mut pair);
    news(&mut pair.b);
    pair.b.handed(pair.now, 0, 2, 2);
    assert_eq!(pair.b.poll_control(), Some(receipt(0, 0, &[(2, 4)])));
    pair.b.handed(pair.now, 0, 5, u64::MAX);
    assert_eq!(pair.b.poll_control(), Some(receipt(0, 0, &[(5, 6)])));
    // 2 and 3 a second time
    pair.b.handed(pair.now, 0, 0, 4);
    let last = pair.b.poll_control();
    assert_eq!(last, Some(receipt(0, 4, &[])));
    pair.b.handed(pair.now, 0, 4, 0);
    pair.b.handed(pair.now, 0, u64::MAX, u64::MAX);
    assert_eq!((pair.b.poll_control(), pair.b.held()), (None, 1));
    pair.a.handle_control(pair.now, last.unwrap()).unwrap();
    let delivered = ConversationEvent::Outcome { tag: 10, count: 4, outcome: Outcome::Delivered };
    assert_eq!(news(&mut pair.a), [delivered]);
}

#[test]
fn outcomes_that_follow_on_each_other_are_one_event() {
    let mut pair = Pair::linked(config());
    for (tag, ttl) in [(1, 10), (2, 10), (3, 1_000), (7, 10), (8, 10)] {
        pair.send_for(ttl, tag, 1);
    }
    pair.wait(20);
    let outcome = |tag, count, outcome| ConversationEvent::Outcome { tag, count, outcome };
    assert_eq!(news(&mut pair.a), [outcome(1, 2, Outcome::Expired), outcome(7, 2, Outcome::Expired)]);
    pair.a.fail_all(Reason::Reset);
    assert_eq!(news(&mut pair.a), [outcome(3, 1, Outcome::Failed(Reason::Reset))]);
}

#[test]
fn of_a_batch_as_many_are_queued_as_there_is_room_for() {
    let mut pair = Pair::linked(Config { max_queued_messages: 4, max_queued_bytes: 10, max_message: 8, ..config() });
    let expires = pair.now + TTL;
    let mut batch: VecDeque<Bytes> = [3, 3, 3, 3].map(|len| vec![1; len].into()).into();
    assert_eq!(pair.a.send_batch(pair.now, 0, &mut batch, expires, 5), 3);
    assert_eq!(pair.a.send_batch(pair.now, 0, &mut batch, expires, 8), 0);
    assert_eq!(batch.len(), 1);
    pair.run();
    assert_eq!((pair.shown.len(), pair.unblocked), (3, 1));
    assert_eq!(pair.outcomes.keys().copied().collect::<Vec<_>>(), [5, 6, 7]);
    batch.push_back(vec![1; 9].into());
    assert_eq!(pair.a.send_batch(pair.now, 0, &mut batch, expires, 8), 1, "the next one is too large");
    assert_eq!(pair.a.send_batch(pair.now, 0, &mut batch, expires, 9), 0);
    batch[0] = Bytes::new();
    assert_eq!(pair.a.send_batch(pair.now, 4, &mut batch, expires, 9), 0, "no such lane");
    assert_eq!(pair.a.send_batch(pair.now, 0, &mut batch, pair.now, 9), 0, "it is over");
    assert_eq!(batch.len(), 1);
}
