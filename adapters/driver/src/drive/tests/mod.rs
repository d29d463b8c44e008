mod batches;
mod master;

use std::{
    pin::pin,
    sync::{Arc, Mutex, atomic::Ordering},
    task::{Context, Wake, Waker},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_lite::{FutureExt as _, future::block_on};
use p2pcore::{
    CommandError, Event, Id, Input, Name, Output, Reason,
    node::{Outcome, Persist, PersistId, Receipt, ReplyToken, RequestId, SendId, SendOptions, Sends, Watch},
};

use crate::{
    Deliveries, Delivery, NodeHandle, RequestError,
    testing::{Fake, TestRuntime, identity, run},
};

fn id(seed: u8) -> Id {
    identity(seed).id()
}

fn start() -> (Fake, NodeHandle) {
    let fake = Fake::new();
    let handle = fake.launch(&TestRuntime::new(), |_| {});
    (fake, handle)
}

/// Wakes the driver.
fn wake(handle: &NodeHandle) {
    block_on(handle.status()).unwrap();
}

/// Lets the driver work off what the test has put into the script.
fn work_off(fake: &Fake, handle: &NodeHandle) {
    wake(handle);
    fake.until("an empty script", |script| script.outputs.is_empty() && script.transmits.is_empty());
    wake(handle); // what was taken last has been dealt with before the next command
}

fn message(receipt: u64, data: &'static [u8]) -> Output {
    let (from, name, data) = (id(9), Name::default(), Bytes::from_static(data));
    Output::Event(Event::Messages { from, name, lane: 3, data: vec![data], receipt: receipt_of(receipt) })
}

fn receipt_of(seq: u64) -> Receipt {
    Receipt { from: id(9), conversation: 1, lane: 3, seq, count: 1 }
}

fn received(fake: &Fake) -> Vec<u8> {
    let script = fake.script();
    script
        .inputs
        .iter()
        .flat_map(|input| match input {
            Input::Datagram(datagram) => datagram.data.to_vec(),
            _ => Vec::new(),
        })
        .collect()
}

#[test]
fn a_run_of_datagrams_arrives_whole_and_cut_as_it_was() {
    let ((sender, from), (receiver, to)) = (start(), start());
    let bytes: Vec<u8> = (0..40 * 1_200 + 77).map(|at: usize| (at / 1_200) as u8).collect();
    sender.script().transmits.push_back(run(to.listen_addresses()[0], bytes.clone(), Some(1_200)));
    work_off(&sender, &from);
    receiver.until("all bytes", |script| {
        let len = |input: &Input| if let Input::Datagram(datagram) = input { datagram.data.len() } else { 0 };
        script.inputs.iter().map(len).sum::<usize>() == bytes.len()
    });
    assert_eq!(received(&receiver), bytes);
    for input in &receiver.script().inputs {
        let Input::Datagram(datagram) = input else { continue };
        assert_eq!(datagram.remote, from.listen_addresses()[0]);
        assert!(datagram.segment_size == 1_200 || datagram.data.len() == 77, "{}", datagram.segment_size);
    }
}

#[test]
fn a_run_larger_than_the_kernel_takes_at_once_is_split() {
    let ((sender, from), (receiver, to)) = (start(), start());
    let bytes: Vec<u8> = (0..70 * 1_000).map(|at: usize| (at / 1_000) as u8).collect();
    sender.script().transmits.push_back(run(to.listen_addresses()[0], bytes.clone(), Some(1_000)));
    work_off(&sender, &from);
    receiver.until("70 datagrams", |script| {
        let len = |input: &Input| if let Input::Datagram(datagram) = input { datagram.data.len() } else { 0 };
        script.inputs.iter().map(len).sum::<usize>() == bytes.len()
    });
    assert_eq!(received(&receiver), bytes);
}

#[test]
fn a_destination_that_the_kernel_refuses_harms_no_other() {
    let ((sender, from), (receiver, to)) = (start(), start());
    let refused = ["127.0.0.1:0", "[fe80::1]:9", "[::1]:9", "255.255.255.255:9"];
    {
        let mut script = sender.script();
        for address in refused {
            script.transmits.push_back(run(address.parse().unwrap(), vec![1; 2_400], Some(1_200)));
        }
        script.transmits.push_back(run(to.listen_addresses()[0], vec![7; 2_400], Some(1_200)));
    }
    work_off(&sender, &from);
    receiver.until("the last run", |script| !script.inputs.is_empty());
    assert!(received(&receiver).starts_with(&[7; 1_200]));
}

#[test]
fn a_blocked_socket_keeps_its_run_and_does_not_spin() {
    let runtime = TestRuntime::new();
    runtime.writes.store(2, Ordering::Relaxed);
    let sender = Fake::new();
    let (receiver, to) = start();
    let from = sender.launch(&runtime, |_| {});
    {
        let mut script = sender.script();
        for byte in 0..5 {
            script.transmits.push_back(run(to.listen_addresses()[0], vec![byte; 10], None));
        }
        script.deadline = Some(Instant::now());
    }
    wake(&from);
    receiver.until("two runs", |script| script.inputs.len() == 2);
    let before = sender.timeouts.load(Ordering::Relaxed);
    thread::sleep(Duration::from_millis(200));
    let spent = sender.timeouts.load(Ordering::Relaxed) - before;
    assert!(spent < 200, "the time was told {spent} times to a blocked node");
    assert_eq!(sender.script().transmits.len(), 2, "one run is kept, the others stay with the node");
    runtime.writes.store(isize::MAX, Ordering::Relaxed);
    wake(&from);
    receiver.until("all runs", |script| script.inputs.len() == 5);
    assert_eq!(received(&receiver), [[0; 10], [1; 10], [2; 10], [3; 10], [4; 10]].concat());
}

#[test]
fn a_deadline_that_is_always_due_does_not_spin() {
    let (fake, handle) = start();
    fake.script().deadline = Some(Instant::now());
    work_off(&fake, &handle);
    let before = fake.timeouts.load(Ordering::Relaxed);
    thread::sleep(Duration::from_millis(200));
    let spent = fake.timeouts.load(Ordering::Relaxed) - before;
    assert!((1..200).contains(&spent), "{spent}");
}

#[test]
fn the_time_is_told_when_the_deadline_passes() {
    let (fake, handle) = start();
    fake.script().deadline = Some(Instant::now() + Duration::from_millis(50));
    work_off(&fake, &handle);
    fake.until("a timeout", |_| fake.timeouts.load(Ordering::Relaxed) > 0);
    assert!(fake.script().deadline.unwrap() <= Instant::now());
}

#[test]
fn orders_to_persist_flow_while_nobody_reads() {
    let (fake, handle) = start();
    {
        let mut script = fake.script();
        script.outputs.extend((0..10_000).map(|receipt| message(receipt, b"unread")));
        script.outputs.push_back(Output::Persist(Persist { id: PersistId(5), state: Bytes::new() }));
    }
    work_off(&fake, &handle);
    let persisted = |input: &Input| matches!(input, Input::Persisted(PersistId(5)));
    fake.until("the answer", |script| script.inputs.iter().any(persisted));
}

#[test]
fn a_receipt_goes_out_when_a_message_is_taken_and_never_for_one_in_the_queue() {
    let (fake, handle) = start();
    fake.script().outputs.extend([message(1, b"a"), message(2, b"b"), message(3, b"c")]);
    work_off(&fake, &handle);
    let Some(Delivery::Message(first)) = block_on(handle.recv()) else { panic!("no message") };
    assert_eq!((first.lane, &first.data[..]), (3, &b"a"[..]));
    work_off(&fake, &handle);
    assert!(fake.script().handed.is_empty(), "not before the application is done with it");
    first.accept();
    drop(block_on(handle.recv()));
    block_on(handle.stop());
    drop(handle);
    assert_eq!(fake.script().handed, [1, 2].map(receipt_of));
}

#[test]
fn what_the_network_waits_for_leaves_before_anybody_is_woken() {
    /// Notes at each wake whether the node had nothing to send any more.
    struct Witness(Fake, Mutex<Vec<bool>>);
    impl Wake for Witness {
        fn wake(self: Arc<Self>) {
            let has_left = self.0.script().transmits.is_empty();
            self.1.lock().unwrap().push(has_left);
        }
    }
    let (fake, handle) = start();
    let witness = Arc::new(Witness(fake.clone(), Mutex::default()));
    let waker = Waker::from(witness.clone());
    let mut receiving = pin!(handle.recv());
    assert!(receiving.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    {
        let mut script = fake.script();
        script.outputs.push_back(message(1, b"x"));
        script.transmits.push_back(run(handle.listen_addresses()[0], vec![1; 10], None));
    }
    work_off(&fake, &handle);
    assert_eq!(*witness.1.lock().unwrap(), [true]);
    assert!(receiving.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
}

#[test]
fn a_request_is_answered_once_whatever_the_application_does() {
    let (fake, handle) = start();
    for token in 1..=3 {
        let (from, name, data) = (id(9), Name::default(), Bytes::from_static(b"?"));
        let (token, receipt) = (ReplyToken(token), receipt_of(token));
        fake.script().outputs.push_back(Output::Event(Event::Request { from, name, data, token, receipt }));
    }
    work_off(&fake, &handle);
    let next = || match block_on(handle.recv()) {
        Some(Delivery::Request(request)) => request,
        other => panic!("{other:?}"),
    };
    block_on(next().reply("yes")).unwrap();
    next().refuse();
    let later = next().accept();
    fake.until("two replies, three receipts", |script| script.replies.len() == 2 && script.handed.len() == 3);
    drop(later);
    fake.until("three replies", |script| script.replies.len() == 3);
    let script = fake.script();
    assert_eq!(script.replies[0], (ReplyToken(1), Ok(Bytes::from_static(b"yes"))));
    assert_eq!(script.replies[1..], [(ReplyToken(2), Err(Reason::Refused)), (ReplyToken(3), Err(Reason::Refused))]);
}

#[test]
fn each_destination_gets_its_outcome() {
    let (fake, handle) = start();
    let mut outcomes = block_on(handle.send(&[id(1), id(2)], "x", SendOptions::default())).unwrap();
    fake.until("the message", |script| script.sent.len() == 1);
    for (to, outcome) in [(id(2), Outcome::Expired), (id(1), Outcome::Delivered)] {
        fake.script().outputs.push_back(Output::Event(Event::Outcome { sends: Sends::one(SendId(1)), to, outcome }));
    }
    work_off(&fake, &handle);
    assert_eq!(block_on(outcomes.next()), Some((id(2), Outcome::Expired)));
    assert_eq!(block_on(outcomes.next()), Some((id(1), Outcome::Delivered)));
    assert_eq!(block_on(outcomes.next()), None);
}

#[test]
fn a_reply_reaches_who_asked() {
    let (fake, handle) = start();
    let asking = thread::spawn({
        let handle = handle.clone();
        move || block_on(handle.request(id(2), "?", None))
    });
    fake.until("the request", |script| script.sent.len() == 1);
    let result = Err(Reason::Offline);
    fake.script().outputs.push_back(Output::Event(Event::Reply { request: RequestId(1), from: id(2), result }));
    work_off(&fake, &handle);
    assert_eq!(asking.join().unwrap(), Err(RequestError::Failed(Reason::Offline)));
}

#[test]
fn what_waits_for_room_keeps_its_order_and_holds_up_nobody_else() {
    let (fake, handle) = start();
    let (a, b, c) = (id(1), id(2), id(3));
    fake.script().full = vec![a];
    let send = |to: &[Id], data: &'static str| block_on(handle.send(to, data, SendOptions::default())).unwrap();
    let _outcomes = [send(&[a], "1"), send(&[a, b], "2"), send(&[b], "3"), send(&[c], "4"), send(&[a], "5")];
    work_off(&fake, &handle);
    let sent = |fake: &Fake| -> Vec<_> { fake.script().sent.iter().map(|(_, data)| data.clone()).collect() };
    assert_eq!(sent(&fake), ["4"]);
    {
        let mut script = fake.script();
        script.full = vec![b];
        script.outputs.push_back(Output::Event(Event::Unblocked { to: a }));
    }
    work_off(&fake, &handle);
    assert_eq!(sent(&fake), ["4", "1"]);
    {
        let mut script = fake.script();
        script.full.clear();
        script.outputs.push_back(Output::Event(Event::Unblocked { to: b }));
    }
    work_off(&fake, &handle);
    assert_eq!(sent(&fake), ["4", "1", "2", "3", "5"]);
}

#[test]
fn a_full_destination_makes_senders_wait_and_tells_others_once() {
    let fake = Fake::new();
    let handle = fake.launch(&TestRuntime::new(), |options| options.config.max_queued_messages = 4);
    let events = handle.events();
    let options = SendOptions::default();
    let mut outcomes: Vec<_> = (0..4).map(|_| block_on(handle.send(&[id(1)], "x", options)).unwrap()).collect();
    let blocked = handle.try_send(&[id(1)], "y", options).unwrap_err();
    assert_eq!(blocked, CommandError::Blocked { to: id(1), data: Bytes::from_static(b"y") });
    let waiting = thread::spawn({
        let handle = handle.clone();
        move || block_on(handle.send(&[id(1)], "z", options)).map(drop)
    });
    fake.until("four messages", |script| script.sent.len() == 4);
    let outcome = Event::Outcome { sends: Sends::one(SendId(1)), to: id(1), outcome: Outcome::Delivered };
    fake.script().outputs.push_back(Output::Event(outcome));
    work_off(&fake, &handle);
    assert_eq!(block_on(outcomes[0].next()), Some((id(1), Outcome::Delivered)));
    assert_eq!(block_on(events.next()), Some(Event::Unblocked { to: id(1) }));
    waiting.join().unwrap().unwrap();
    fake.until("the fifth message", |script| script.sent.len() == 5);
    assert_eq!(events.try_next(), None);
}

#[test]
fn bad_sends_come_back_at_once() {
    let (_fake, handle) = start();
    let options = SendOptions::default();
    let send = |to: &[Id], data: Bytes, options| block_on(handle.send(to, data, options)).unwrap_err();
    let (one, big) = ([id(1)], Bytes::from(vec![0; 16 * 1024 * 1024 + 1]));
    assert!(matches!(send(&one, big, options), CommandError::TooLarge { .. }));
    assert!(matches!(send(&one, Bytes::new(), options.lane(8)), CommandError::NoSuchLane { lane: 8, max: 7 }));
    assert_eq!(send(&[], Bytes::new(), options), CommandError::BadDestinations);
    assert_eq!(send(&[id(1), id(2), id(1)], Bytes::new(), options), CommandError::BadDestinations);
}

#[test]
fn a_stream_carries_more_than_its_buffers_both_ways() {
    let (fake, handle) = start();
    let stream = block_on(handle.open_stream(id(2))).unwrap();
    assert_eq!(stream.remote(), id(2));
    let bytes: Vec<u8> = (0..5_000_000_u32).map(|at| (at / 999) as u8).collect();
    let mut echoed = Vec::new();
    let stream = std::cell::RefCell::new(stream);
    // one task writes and reads in turns, so that both directions fill up
    block_on(async {
        let mut rest = Bytes::from(bytes.clone());
        let mut finished = false;
        std::future::poll_fn(|cx| {
            let mut stream = stream.borrow_mut();
            while !rest.is_empty() && stream.poll_write_bytes(cx, &mut rest).is_ready() {}
            if rest.is_empty() && !finished {
                finished = Box::pin(stream.finish()).poll(cx).is_ready();
            }
            loop {
                match stream.poll_read_bytes(cx, 10_000) {
                    std::task::Poll::Ready(Ok(Some(piece))) => echoed.extend_from_slice(&piece),
                    std::task::Poll::Ready(end) => return std::task::Poll::Ready(end.unwrap()),
                    std::task::Poll::Pending => return std::task::Poll::Pending,
                }
            }
        })
        .await
    });
    assert!(echoed == bytes);
    drop(stream);
    work_off(&fake, &handle);
    assert!(fake.script().stream_resets.is_empty(), "both directions ended well");
}

#[test]
fn a_stream_dropped_in_the_middle_is_reset() {
    let (fake, handle) = start();
    let mut stream = block_on(handle.open_stream(id(2))).unwrap();
    block_on(stream.write("half a")).unwrap();
    drop(stream);
    fake.until("a reset", |script| script.stream_resets.len() == 1);
}

#[test]
fn datagrams_pass_and_the_oldest_go_when_nobody_reads() {
    let (fake, handle) = start();
    for number in 0..1_030_u32 {
        block_on(handle.datagram(id(4), number.to_be_bytes().to_vec())).unwrap();
    }
    work_off(&fake, &handle);
    let first = block_on(handle.recv_datagram()).unwrap();
    assert_eq!(first, (id(4), Bytes::copy_from_slice(&6_u32.to_be_bytes())));
}

#[test]
fn a_filtered_address_is_as_if_it_were_not_there() {
    let (sender, from) = start();
    let (receiver, to) = (Fake::new(), TestRuntime::new());
    let deaf_to = from.listen_addresses()[0];
    let to = receiver.launch(&to, |options| options.filter = Some(Arc::new(move |address| address != deaf_to)));
    let (other, third) = start();
    sender.script().transmits.push_back(run(to.listen_addresses()[0], vec![1], None));
    work_off(&sender, &from);
    other.script().transmits.push_back(run(to.listen_addresses()[0], vec![2], None));
    work_off(&other, &third);
    receiver.script().transmits.push_back(run(deaf_to, vec![3], None));
    work_off(&receiver, &to);
    receiver.until("one datagram", |script| !script.inputs.is_empty());
    assert_eq!(received(&receiver), [2]);
    wake(&from);
    assert!(sender.script().inputs.is_empty());
}

#[test]
fn at_the_end_everyone_who_waits_learns_it() {
    let (fake, handle) = start();
    fake.script().full = vec![id(2)];
    let events = handle.events();
    let options = SendOptions::default();
    let mut on_the_way = block_on(handle.send(&[id(1)], "x", options)).unwrap();
    let mut parked = block_on(handle.send(&[id(2)], "y", options)).unwrap();
    let mut stream = block_on(handle.open_stream(id(1))).unwrap();
    let asking = handle.clone();
    let asking = thread::spawn(move || block_on(asking.request(id(1), "?", None)));
    fake.until("both", |script| script.sent.len() == 2);
    block_on(handle.stop());
    block_on(handle.stop());
    assert_eq!(fake.script().stops, 1);
    assert_eq!(block_on(on_the_way.next()), Some((id(1), Outcome::Failed(Reason::UnknownOutcome))));
    assert_eq!(block_on(parked.next()), Some((id(2), Outcome::Failed(Reason::Reset))));
    assert_eq!(asking.join().unwrap(), Err(RequestError::Failed(Reason::Reset)));
    assert_eq!(block_on(stream.read(9)), Err(Reason::Reset));
    assert_eq!(block_on(events.next()), None);
    assert!(block_on(handle.recv()).is_none());
    assert!(block_on(handle.send(&[id(1)], "x", options)).is_err_and(|error| error == CommandError::Stopped));
    assert_eq!(block_on(handle.status()).unwrap_err(), CommandError::Stopped);
}

#[test]
fn a_node_that_does_not_say_goodbye_ends_all_the_same() {
    let (fake, handle) = start();
    fake.script().polite = false;
    block_on(handle.stop().or(async {
        async_io::Timer::after(Duration::from_secs(10)).await;
        panic!("it is still there");
    }));
}

#[test]
fn dropping_the_last_handle_stops_the_node() {
    let (fake, handle) = start();
    let clone = handle.clone();
    drop(handle);
    wake(&clone);
    assert_eq!(fake.script().stops, 0);
    drop(clone);
    fake.until("the goodbye", |script| script.stops == 1);
}

#[test]
fn watches_reach_the_node_and_what_is_found_the_events() {
    let (fake, handle) = start();
    let events = handle.events();
    let what = Watch::Id(id(2));
    block_on(handle.watch(what.clone())).unwrap();
    let found = Event::Found { what: what.clone(), ids: vec![id(2)] };
    block_on(async {
        while events.next().await != Some(found.clone()) {}
        handle.unwatch(what.clone()).await.unwrap();
    });
    wake(&handle);
    assert_eq!(fake.script().unwatched, [what]);
}
