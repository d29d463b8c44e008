//! Many messages at a time.

use super::*;
use crate::{
    BatchOutcomes,
    command::{Command, Notice, Sought},
};

fn batch(handle: &NodeHandle, to: Id, texts: &[&'static str]) -> BatchOutcomes {
    let messages = texts.iter().map(|text| Bytes::from_static(text.as_bytes())).collect();
    block_on(handle.send_batch(to, messages, SendOptions::default())).unwrap()
}

fn put(fake: &Fake, send: u64, to: Id, outcome: Outcome) {
    put_all(fake, Sends::one(SendId(send)), to, outcome);
}

fn put_all(fake: &Fake, sends: Sends, to: Id, outcome: Outcome) {
    fake.script().outputs.push_back(Output::Event(Event::Outcome { sends, to, outcome }));
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
fn an_outcome_of_many_messages_reaches_all_that_wait_for_them_and_nobody_else() {
    let (fake, handle) = start();
    let a = batch(&handle, id(1), &["0", "1", "2"]);
    let mut alone = block_on(handle.send(&[id(1)], "3", SendOptions::default())).unwrap();
    let other = batch(&handle, id(2), &["4"]);
    let b = batch(&handle, id(1), &["5", "6"]);
    fake.until("all", |script| script.sent.len() == 7);
    // the second to the one behind the last
    put_all(&fake, Sends { first: SendId(2), count: 7 }, id(1), Outcome::Delivered);
    put_all(&fake, Sends { first: SendId(1), count: 7 }, id(1), Outcome::Expired);
    work_off(&fake, &handle);
    block_on(handle.stop());
    assert_eq!(block_on(a.all()), [Outcome::Expired, Outcome::Delivered, Outcome::Delivered]);
    assert_eq!(block_on(alone.next()), Some((id(1), Outcome::Delivered)));
    assert_eq!(block_on(b.all()), [Outcome::Delivered; 2]);
    assert_eq!(block_on(other.all()), [Outcome::Failed(Reason::UnknownOutcome)]);
}

fn arrive(fake: &Fake, seq: u64, texts: &[&'static str]) {
    let data = texts.iter().map(|text| Bytes::from_static(text.as_bytes())).collect::<Vec<_>>();
    let receipt = Receipt { count: data.len() as u64, ..receipt_of(seq) };
    let event = Event::Messages { from: id(9), name: Name::default(), lane: 3, data, receipt };
    fake.script().outputs.push_back(Output::Event(event));
}

#[test]
fn what_arrives_together_is_taken_one_by_one_or_all_at_once() {
    let (fake, handle) = start();
    arrive(&fake, 5, &["5", "6", "7", "8"]);
    arrive(&fake, 20, &["20"]);
    let Some(Delivery::Message(first)) = block_on(handle.recv()) else { panic!() };
    let Some(Delivery::Message(second)) = block_on(handle.recv()) else { panic!() };
    let Some(Deliveries::Messages(rest)) = block_on(handle.recv_batch()) else { panic!() };
    let Some(Delivery::Message(last)) = block_on(handle.recv()) else { panic!() };
    assert_eq!((&first.data, &second.data, &last.data), (&"5".into(), &"6".into(), &"20".into()));
    assert_eq!((rest.from, rest.lane, &rest.data), (id(9), 3, &vec!["7".into(), Bytes::from("8")]));
    assert_eq!(fake.script().handed, [], "nothing is accepted yet");
    second.accept();
    rest.accept();
    drop((last, first));
    let handed = [(6, 1), (7, 2), (20, 1), (5, 1)].map(|(seq, count)| Receipt { count, ..receipt_of(seq) });
    fake.until("the receipts", |script| script.handed.len() == 4);
    assert_eq!(fake.script().handed, handed);
    assert!(handle.try_recv().is_none());
}

#[test]
fn all_who_wait_are_woken_for_what_arrives_together() {
    let (fake, handle) = start();
    let woken = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    struct Count(Arc<std::sync::atomic::AtomicUsize>);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let waker = Waker::from(Arc::new(Count(woken.clone())));
    let mut takers: Vec<_> = (0..5).map(|_| Box::pin(handle.recv())).collect();
    takers.iter_mut().for_each(|taker| assert!(taker.as_mut().poll(&mut Context::from_waker(&waker)).is_pending()));
    arrive(&fake, 1, &["1", "2", "3"]);
    work_off(&fake, &handle);
    arrive(&fake, 4, &["4"]);
    work_off(&fake, &handle);
    assert_eq!(woken.load(Ordering::Relaxed), 4, "one for each message, though nobody has taken one yet");
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

/// So many wait for a full destination that no more commands are taken; the event that makes room is the last that happens.
#[test]
fn commands_go_on_when_the_parked_messages_find_room() {
    let (fake, handle) = start();
    fake.script().full.push(id(1));
    for _ in 0..65_536 {
        let (reply, _) = crate::oneshot::channel();
        let (to, data) = (Sought::Node(id(1)), Bytes::new());
        assert!(block_on(handle.0.commands.put(Command::Request { to, data, timeout: None, reply })).is_ok());
    }
    let (said, heard) = std::sync::mpsc::channel();
    let asking = handle.clone();
    thread::spawn(move || said.send(block_on(asking.unwatch(Watch::Id(id(2)))).is_ok()));
    assert!(heard.recv_timeout(Duration::from_millis(200)).is_err(), "there is no room yet");
    {
        let mut script = fake.script();
        script.full.clear();
        script.outputs.push_back(Output::Event(Event::Unblocked { to: id(1) }));
    }
    // a receipt wakes the task and brings nothing else
    assert!(handle.0.notices.try_put(Notice::Handed(receipt_of(1))).is_ok());
    assert_eq!(heard.recv_timeout(Duration::from_secs(20)), Ok(true));
    assert_eq!(fake.script().sent.len(), 65_536);
}
