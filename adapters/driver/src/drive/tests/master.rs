//! The Master, its guard, and what waits for it.

use std::sync::Mutex;

use futures_lite::future::poll_once;
use p2pcore::{
    Identity, Role, SecretKey,
    master::{Kind, MasterView, MemberInfo, Token},
    node::{Guard, MemberCommand},
};

use super::*;

fn token(term: u64, id: Id) -> Token {
    Token { generation: 1, kind: Kind::Elected, term, id }
}

fn guard(term: u64) -> Guard {
    Guard { token: token(term, id(1)), until: Instant::now() + Duration::from_secs(3_600) }
}

/// Gives the node a guard, or none, and waits until the handle shows that.
fn publish(fake: &Fake, handle: &NodeHandle, guard: Option<Guard>) {
    fake.script().guard = guard;
    let shown = || handle.guard().map(|held| held.token());
    for _ in 0..10_000 {
        if shown() == guard.map(|guard| guard.token) {
            return;
        }
        wake(handle);
        thread::sleep(Duration::from_millis(1));
    }
    panic!("{:?} is shown instead of {guard:?}", shown());
}

/// What `task` comes to; a task that hangs fails the test.
fn within<T>(task: impl Future<Output = T>) -> T {
    block_on(task.or(async {
        async_io::Timer::after(Duration::from_secs(20)).await;
        panic!("it hangs");
    }))
}

fn seat(fake: &Fake, handle: &NodeHandle, to: Id) {
    let view = MasterView::Master(token(1, to));
    fake.script().master = Some(view);
    fake.script().outputs.push_back(Output::Event(Event::Master(view)));
    work_off(fake, handle);
}

#[test]
fn a_message_to_the_master_has_one_outcome_that_names_it() {
    let (fake, handle) = start();
    let options = SendOptions::default();
    let refused = block_on(handle.send_to_master("x", options)).unwrap_err();
    assert_eq!(refused, CommandError::Failed(Reason::NoMaster));
    let refused = block_on(handle.request_to_master("x", None)).unwrap_err();
    assert_eq!(refused, RequestError::Rejected(CommandError::Failed(Reason::NoMaster)));

    seat(&fake, &handle, id(7));
    let outcomes = block_on(handle.send_to_master("x", options)).unwrap();
    assert_eq!(fake.script().sent, [(vec![id(7)], Bytes::from_static(b"x"))]);
    let outcome =
        Event::Outcome { sends: Sends::one(SendId(1)), to: id(7), outcome: Outcome::Failed(Reason::MasterChanged) };
    fake.script().outputs.push_back(Output::Event(outcome));
    work_off(&fake, &handle);
    assert_eq!(block_on(outcomes.all()), [(id(7), Outcome::Failed(Reason::MasterChanged))]);
}

#[test]
fn a_request_to_the_master_gets_its_reply() {
    let (fake, handle) = start();
    seat(&fake, &handle, id(7));
    let asking = handle.clone();
    let asking = thread::spawn(move || block_on(asking.request_to_master("?", None)));
    fake.until("the request", |script| script.sent.len() == 1);
    let result = Ok(Bytes::from_static(b"!"));
    fake.script().outputs.push_back(Output::Event(Event::Reply { request: RequestId(1), from: id(7), result }));
    work_off(&fake, &handle);
    assert_eq!(asking.join().unwrap(), Ok(Bytes::from_static(b"!")));
}

#[test]
fn what_waits_for_a_full_master_keeps_its_order_and_goes_to_the_next_one() {
    let (fake, handle) = start();
    let (old, new) = (id(7), id(8));
    fake.script().full = vec![old];
    seat(&fake, &handle, old);
    let options = SendOptions::default();
    let _to_old = block_on(handle.send(&[old], "0", options)).unwrap();
    let blocked = block_on(handle.try_send_to_master("given back", options)).unwrap_err();
    assert_eq!(blocked, CommandError::Blocked { to: old, data: Bytes::from_static(b"given back") });
    let mut waiting = ["1", "2"].map(|data| Box::pin(handle.send_to_master(data, options)));
    assert!(waiting.iter_mut().all(|sending| block_on(poll_once(sending)).is_none()));
    let _also_to_old = block_on(handle.send(&[old], "3", options)).unwrap();
    let blocked = block_on(handle.try_send_to_master("it goes behind", options)).unwrap_err();
    assert!(matches!(blocked, CommandError::Blocked { to, .. } if to == old), "{blocked}");
    assert!(fake.script().sent.is_empty());
    seat(&fake, &handle, new);
    for sending in waiting {
        within(sending).unwrap();
    }
    let to_new = ["1", "2"].map(|data| (vec![new], Bytes::from_static(data.as_bytes())));
    assert_eq!(fake.script().sent, to_new, "what is for the old one by name still waits");

    let events = handle.events();
    fake.script().full.clear();
    fake.script().outputs.push_back(Output::Event(Event::Unblocked { to: old }));
    work_off(&fake, &handle);
    let to_old = ["0", "3"].map(|data| (vec![old], Bytes::from_static(data.as_bytes())));
    assert_eq!(fake.script().sent[2..], to_old);
    let unblocked = std::iter::from_fn(|| events.try_next()).filter(|e| *e == Event::Unblocked { to: old }).count();
    assert_eq!(unblocked, 1, "owed for what was given back");
}

#[test]
fn the_outcome_of_a_message_to_the_master_frees_no_room_for_messages_by_name() {
    let fake = Fake::new();
    let handle = fake.launch(&TestRuntime::new(), |options| options.config.max_queued_messages = 4);
    let (to, options) = (id(7), SendOptions::default());
    seat(&fake, &handle, to);
    let outcomes = block_on(handle.send_to_master("x", options)).unwrap();
    let _by_name: Vec<_> = (0..4).map(|_| block_on(handle.send(&[to], "y", options)).unwrap()).collect();
    fake.script().outputs.push_back(Output::Event(Event::Outcome {
        sends: Sends::one(SendId(1)),
        to,
        outcome: Outcome::Delivered,
    }));
    work_off(&fake, &handle);
    assert_eq!(block_on(outcomes.all()), [(to, Outcome::Delivered)]);
    assert!(matches!(handle.try_send(&[to], "z", options), Err(CommandError::Blocked { .. })));
}

#[test]
fn at_the_end_who_waits_for_the_master_learns_it() {
    let (fake, handle) = start();
    seat(&fake, &handle, id(7));
    let on_the_way = block_on(handle.send_to_master("x", SendOptions::default())).unwrap();
    fake.script().full = vec![id(7)];
    let mut parked = Box::pin(handle.send_to_master("y", SendOptions::default()));
    assert!(block_on(poll_once(&mut parked)).is_none());
    work_off(&fake, &handle);
    block_on(handle.stop());
    assert_eq!(within(on_the_way.all()), [(id(7), Outcome::Failed(Reason::UnknownOutcome))]);
    assert_eq!(within(parked).unwrap_err(), CommandError::Stopped);
    let late = block_on(handle.send_to_master("z", SendOptions::default())).unwrap_err();
    assert_eq!(late, CommandError::Stopped);
}

#[test]
fn the_master_is_shown_before_the_event_of_it_is_read() {
    let (fake, handle) = start();
    let events = handle.events();
    assert_eq!(handle.master(), None);
    let view = MasterView::NoMaster(None);
    fake.script().outputs.push_back(Output::Event(Event::Master(view)));
    wake(&handle);
    assert_eq!(block_on(events.next()), Some(Event::Master(view)));
    assert_eq!(handle.master(), Some(view));
}

#[test]
fn members_are_listed_and_changed() {
    let mut fake = Fake::new();
    let own = Identity::new(Role::Server, SecretKey::from_bytes([1; 32])).id();
    fake.members = vec![MemberInfo { id: own, is_voter: true }];
    let handle = fake.launch(&TestRuntime::new(), |_| {});
    assert_eq!(block_on(handle.members()).unwrap(), fake.members);
    block_on(handle.change_members(MemberCommand::Remove(own))).unwrap();
    block_on(handle.transfer_to(own)).unwrap();
    block_on(handle.resign()).unwrap();
    let script = fake.script();
    assert_eq!(script.member_commands, [MemberCommand::Remove(own), MemberCommand::Transfer(own)]);
    assert_eq!(script.resigned, 1);
}

#[test]
fn a_guard_is_there_while_the_node_has_it_and_ends_with_its_token() {
    let (fake, handle) = start();
    assert!(handle.guard().is_none());
    publish(&fake, &handle, Some(guard(1)));
    let first = handle.guard().unwrap();
    assert!(first.is_valid() && first.clone().is_valid());
    assert_eq!(first.token(), token(1, id(1)));
    publish(&fake, &handle, Some(guard(2)));
    assert!(!first.is_valid(), "the office of a later term is another one");
    let second = handle.guard().unwrap();
    assert!(second.is_valid());
    publish(&fake, &handle, None);
    assert!(!first.is_valid() && !second.is_valid());
}

#[test]
fn a_guard_that_is_given_up_or_handed_over_is_void_when_that_returns() {
    let (fake, handle) = start();
    // often, since a guard that ends a little later is seldom seen
    for term in 1..=100 {
        publish(&fake, &handle, Some(guard(term)));
        let held = handle.guard().unwrap();
        let result = if term % 2 == 0 { block_on(held.transfer_to(id(2))) } else { block_on(held.resign()) };
        assert!(!held.is_valid());
        assert_eq!(result, Ok(()));
    }
    let script = fake.script();
    assert_eq!((script.resigned, script.member_commands.len()), (50, 50));
}

#[test]
fn an_old_guard_has_no_say_in_a_later_office() {
    let (fake, handle) = start();
    publish(&fake, &handle, Some(guard(1)));
    let old = handle.guard().unwrap();
    publish(&fake, &handle, Some(guard(2)));
    assert_eq!(block_on(old.resign()), Ok(()), "that office is over already");
    assert_eq!(block_on(old.transfer_to(id(2))), Err(CommandError::Failed(Reason::MasterChanged)));
    assert!(handle.guard().unwrap().is_valid());
    let script = fake.script();
    assert_eq!((script.resigned, script.member_commands.len()), (0, 0));
}

#[test]
fn a_guard_is_void_before_the_datagrams_leave_that_end_it() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let held: Arc<Mutex<Option<crate::MasterGuard>>> = Arc::default();
    let (fake, (receiver, to)) = (Fake::new(), start());
    let handle = fake.launch(&TestRuntime::new(), |options| {
        let (seen, held) = (seen.clone(), held.clone());
        // asked about each run of datagrams just before it goes
        options.filter = Some(Arc::new(move |_| {
            seen.lock().unwrap().extend(held.lock().unwrap().as_ref().map(crate::MasterGuard::is_valid));
            true
        }));
    });
    publish(&fake, &handle, Some(guard(1)));
    *held.lock().unwrap() = handle.guard();
    let address = to.listen_addresses()[0];
    fake.script().transmits.push_back(run(address, vec![1], None));
    work_off(&fake, &handle);
    {
        let mut script = fake.script();
        script.abdicates = true;
        script.transmits.push_back(run(address, vec![2], None));
    }
    work_off(&fake, &handle);
    receiver.until("both", |script| script.inputs.len() == 2);
    assert_eq!(*seen.lock().unwrap(), [true, false]);
}

#[test]
fn sleep_ends_a_guard_at_once_and_is_the_first_that_the_node_hears_of() {
    let (fake, handle) = start();
    publish(&fake, &handle, Some(guard(1)));
    let held = handle.guard().unwrap();
    assert!(held.is_valid());
    assert!(!fake.script().inputs.iter().any(|input| matches!(input, Input::Resumed)));
    fake.slept.store(5_000, Ordering::Relaxed);
    assert!(!held.is_valid(), "before the driver has woken");
    let (sender, from) = start();
    sender.script().transmits.push_back(run(handle.listen_addresses()[0], vec![1], None));
    work_off(&sender, &from);
    fake.until("the datagram", |script| script.inputs.iter().any(|input| matches!(input, Input::Datagram(_))));
    assert!(matches!(fake.script().inputs[..], [Input::Resumed, Input::Datagram(_)]), "{:?}", fake.script().inputs);
    // the node has been elected again since
    publish(&fake, &handle, Some(guard(2)));
    assert!(!held.is_valid());
}

/// A voter gives no vote for a while after it heard of a Master, whose guard lasts for that while: it must not begin before.
#[test]
fn what_comes_in_late_in_a_turn_is_told_with_a_time_that_is_not_before_it_came() {
    let (fake, handle) = start();
    let (sender, from) = start();
    fake.script().nap = Some(Duration::from_millis(50));
    for byte in 0..20 {
        sender.script().transmits.push_back(run(handle.listen_addresses()[0], vec![byte], None));
        work_off(&sender, &from);
    }
    fake.until("all datagrams", |script| script.inputs.len() == 20);
    assert!(fake.script().naps > 0);
    assert_eq!(fake.script().backdated, 0, "the node was told that they came before the nap of the same turn");
}

#[test]
fn a_guard_keeps_no_node_running_and_is_void_after_it() {
    let (fake, handle) = start();
    publish(&fake, &handle, Some(guard(1)));
    let held = handle.guard().unwrap();
    let events = handle.events();
    drop(handle);
    while block_on(events.next()).is_some() {}
    assert!(!held.is_valid());
    assert_eq!(block_on(held.resign()), Err(CommandError::Stopped));
    assert_eq!(fake.script().stops, 1);
}
