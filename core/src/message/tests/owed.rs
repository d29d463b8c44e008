//! Receipts that nobody waits for.

use std::ops::Range;

use super::*;

/// `b` answers nobody yet: the receipts of what `a` asks can wait.
fn ask(pair: &mut Pair, tags: Range<u64>, len: usize) {
    for tag in tags {
        let message = Outgoing {
            lane: 0,
            kind: Kind::Request { rid: tag },
            data: Bytes::from(vec![0; len]),
            expires: pair.now + TTL,
            tag,
        };
        pair.a.send(pair.now, message).unwrap();
    }
    pair.run();
}

#[test]
fn a_receipt_that_nobody_waits_for_waits_for_something_to_go_with() {
    let mut pair = Pair::linked(config());
    ask(&mut pair, 0..1, 10);
    assert_eq!((pair.b.poll_control(), pair.b.deadline()), (None, Some(pair.now + Duration::from_millis(20))));
    // bytes of a lane
    let reply = Kind::Reply { rid: 0, result: Ok(()) };
    let expires = pair.now + TTL;
    pair.b.send(pair.now, Outgoing { lane: 0, kind: reply, data: Bytes::new(), expires, tag: 0 }).unwrap();
    assert_eq!(pair.b.poll_control(), Some(receipt(0, 1, &[])));
    assert!(pair.b.poll_chunk(pair.now, 0).is_some());
    // a receipt that somebody waits for
    ask(&mut pair, 1..2, 10);
    assert!(pair.outcomes.is_empty());
    pair.send(0, 2, vec![0]);
    pair.run();
    assert_eq!(pair.outcomes, [0, 1, 2].map(|tag| (tag, Outcome::Delivered)).into());
    assert_eq!(pair.b.poll_control(), None);
}

#[test]
fn a_receipt_waits_20_ms_for_company_and_not_over_32_messages_or_64_kib() {
    let mut pair = Pair::linked(config());
    ask(&mut pair, 0..31, 10);
    pair.wait(19);
    pair.run();
    assert!(pair.outcomes.is_empty());
    pair.wait(1);
    pair.run();
    assert_eq!(pair.outcomes.len(), 31);
    assert!(pair.b.deadline().is_none());
    ask(&mut pair, 31..63, 10);
    assert_eq!(pair.outcomes.len(), 63);
    ask(&mut pair, 63..64, 64 * 1024);
    assert_eq!(pair.outcomes.len(), 64);
}

#[test]
fn a_receipt_that_waits_when_the_link_goes_is_told_on_the_next() {
    let mut pair = Pair::linked(config());
    ask(&mut pair, 0..3, 10);
    pair.unlink();
    assert!(pair.b.deadline().is_none());
    pair.relink();
    assert_eq!(pair.outcomes.len(), 3);
    assert!(pair.all(Outcome::Delivered) && pair.b.deadline().is_none());
}
