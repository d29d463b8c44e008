//! Many messages at a time.

use super::*;
use crate::BatchOutcomes;

fn batch(handle: &NodeHandle, to: Id, texts: &[&'static str]) -> BatchOutcomes {
    let messages = texts.iter().map(|text| Bytes::from_static(text.as_bytes())).collect();
    block_on(handle.send_batch(to, messages, SendOptions::default())).unwrap()
}

fn put(fake: &Fake, send: u64, to: Id, outcome: Outcome) {
    fake.script().outputs.push_back(Output::Event(Event::Outcome { send: SendId(send), to, outcome }));
}

#[test]
fn each_message_of_a_batch_gets_its_own_outcome_in_whatever_order_they_come() {
    let (fake, handle) = start();
    let (a, b) = (batch(&handle, id(1), &["0", "1", "2"]), batch(&handle, id(2), &["3", "4"]));
    fake.until("all", |script| script.sent.len() == 5);
    for (send, to, outcome) in [
        (5, id(2), Outcome::Expired),
        (2, id(1), Outcome::Failed(Reason::Full)),
        // of somebody else, of nobody, and a second time
        (1, id(2), Outcome::Expired),
        (6, id(2), Outcome::Expired),
        (2, id(1), Outcome::Delivered),
        (3, id(1), Outcome::Delivered),
        (4, id(2), Outcome::Delivered),
        (1, id(1), Outcome::Expired),
    ] {
        put(&fake, send, to, outcome);
    }
    work_off(&fake, &handle);
    assert_eq!(block_on(a.all()), [Outcome::Expired, Outcome::Failed(Reason::Full), Outcome::Delivered]);
    assert_eq!(block_on(b.all()), [Outcome::Delivered, Outcome::Expired]);
}

#[test]
fn a_batch_is_in_order_around_what_is_refused_and_what_waits_for_room() {
    let (fake, handle) = start();
    fake.script().spurned = Some(Bytes::from_static(b"1"));
    let spurned = batch(&handle, id(1), &["0", "1", "2"]);
    fake.until("what is taken", |script| script.sent.len() == 2);
    put(&fake, 2, id(1), Outcome::Expired);
    put(&fake, 1, id(1), Outcome::Delivered);
    work_off(&fake, &handle);
    assert_eq!(block_on(spurned.all()), [Outcome::Delivered, Outcome::Failed(Reason::Refused), Outcome::Expired]);

    fake.script().full.push(id(2));
    let waiting = batch(&handle, id(2), &["3", "4"]);
    let free = batch(&handle, id(1), &["5"]);
    fake.until("the free one", |script| script.sent.len() == 3);
    fake.script().full.clear();
    put(&fake, 3, id(1), Outcome::Delivered);
    fake.script().outputs.push_back(Output::Event(Event::Unblocked { to: id(2) }));
    work_off(&fake, &handle);
    fake.until("the others", |script| script.sent.len() == 5);
    let texts: Vec<Bytes> = fake.script().sent.iter().map(|(_, text)| text.clone()).collect();
    assert_eq!(texts, ["0", "2", "5", "3", "4"]);
    put(&fake, 5, id(2), Outcome::Expired);
    put(&fake, 4, id(2), Outcome::Delivered);
    work_off(&fake, &handle);
    assert_eq!(block_on(waiting.all()), [Outcome::Delivered, Outcome::Expired]);
    assert_eq!(block_on(free.all()), [Outcome::Delivered]);
}

#[test]
fn a_batch_leaves_room_with_every_outcome() {
    let fake = Fake::new();
    let handle = fake.launch(&TestRuntime::new(), |options| options.config.max_queued_messages = 4);
    let first = batch(&handle, id(1), &["0", "1", "2", "3"]);
    let second = thread::spawn({
        let handle = handle.clone();
        move || batch(&handle, id(1), &["4"])
    });
    fake.until("the first", |script| script.sent.len() == 4);
    put(&fake, 2, id(1), Outcome::Delivered);
    work_off(&fake, &handle);
    fake.until("the second", |script| script.sent.len() == 5);
    for send in [1, 3, 4, 5] {
        put(&fake, send, id(1), Outcome::Delivered);
    }
    work_off(&fake, &handle);
    assert_eq!(block_on(first.all()), [Outcome::Delivered; 4]);
    assert_eq!(block_on(second.join().unwrap().all()), [Outcome::Delivered]);
}

#[test]
fn a_batch_that_is_open_at_the_end_has_unknown_outcomes_where_none_came() {
    let (fake, handle) = start();
    let open = batch(&handle, id(1), &["0", "1", "2"]);
    fake.until("all", |script| script.sent.len() == 3);
    put(&fake, 2, id(1), Outcome::Delivered);
    work_off(&fake, &handle);
    block_on(handle.stop());
    let unknown = Outcome::Failed(Reason::UnknownOutcome);
    assert_eq!(block_on(open.all()), [unknown, Outcome::Delivered, unknown]);
}

#[test]
fn the_last_open_messages_of_a_long_batch_stand_alone() {
    let (fake, handle) = start();
    let texts: Vec<&'static str> = vec!["x"; 100];
    let open = batch(&handle, id(1), &texts);
    fake.until("all", |script| script.sent.len() == 100);
    // all but the 4th and the last
    for send in (1..100).filter(|send| *send != 4) {
        put(&fake, send, id(1), Outcome::Delivered);
    }
    work_off(&fake, &handle);
    put(&fake, 4, id(1), Outcome::Expired);
    work_off(&fake, &handle);
    block_on(handle.stop());
    let mut expected = vec![Outcome::Delivered; 100];
    (expected[3], expected[99]) = (Outcome::Expired, Outcome::Failed(Reason::UnknownOutcome));
    assert_eq!(block_on(open.all()), expected);
}

#[test]
fn messages_of_a_batch_may_have_numbers_that_do_not_follow_on_each_other() {
    let (fake, handle) = start();
    fake.script().gap = 1;
    let open = batch(&handle, id(1), &["0", "1", "2"]);
    fake.until("all", |script| script.sent.len() == 3);
    // the odd ones are nobody's
    for (send, outcome) in
        [(6, Outcome::Expired), (3, Outcome::Expired), (2, Outcome::Delivered), (4, Outcome::Failed(Reason::Full))]
    {
        put(&fake, send, id(1), outcome);
    }
    work_off(&fake, &handle);
    assert_eq!(block_on(open.all()), [Outcome::Delivered, Outcome::Failed(Reason::Full), Outcome::Expired]);
}
