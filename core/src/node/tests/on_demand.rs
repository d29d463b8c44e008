//! Networks of more peers than are linked to each other by themselves: rows only for whom they are asked for.

use std::time::Duration;

use bytes::Bytes;

use super::{
    super::*,
    net::{Net, address, secs},
};
use crate::{CommandError, Reason, Role, wire::Control};

/// On demand with more than four peers, and until there are fewer than three.
fn small() -> Config {
    Config { full_mesh_peers: 4, full_mesh_again: 3, ..Config::default() }
}

fn always() -> Config {
    Config { full_mesh_peers: 0, ..Config::default() }
}

fn add_peer(net: &mut Net) -> usize {
    net.add(Role::Peer, |start| start.introducers = vec![address(0)])
}

fn stop(net: &mut Net, index: usize) {
    let now = net.now;
    net.node(index).stop(now);
    net.run(secs(2));
    net.kill(index);
}

fn watch(net: &mut Net, index: usize, what: Watch) {
    let now = net.now;
    net.node(index).watch(now, what).unwrap();
}

fn known(net: &mut Net, index: usize) -> Vec<Id> {
    net.node(index).status().peers.iter().map(|peer| peer.info.id).collect()
}

fn linked(net: &mut Net, from: usize, to: usize) -> bool {
    let id = net.id(to);
    net.node(from).is_linked(&id)
}

/// What the application was told of who is there.
fn presence(net: &mut Net, index: usize) -> Vec<Event> {
    let is_presence =
        |event: &Event| matches!(event, Event::PeerUp { .. } | Event::PeerDown { .. } | Event::Found { .. });
    net.take_events(index).into_iter().filter(is_presence).collect()
}

fn up(net: &Net, index: usize) -> Event {
    Event::PeerUp { id: net.id(index), name: net.nodes[index].start.name.clone() }
}

fn down(net: &Net, index: usize) -> Event {
    Event::PeerDown { id: net.id(index), name: net.nodes[index].start.name.clone() }
}

fn outcomes_to(net: &mut Net, index: usize, to: Id) -> Vec<Outcome> {
    let outcome = |event| match event {
        Event::Outcome { to: id, outcome, .. } if id == to => Some(outcome),
        _ => None,
    };
    net.take_events(index).into_iter().filter_map(outcome).collect()
}

#[test]
fn a_network_goes_on_demand_and_back_without_telling_tales() {
    let mut net = Net::cluster_with(small(), 1, 4);
    net.run(secs(4));
    assert!(linked(&mut net, 1, 4) && !net.node(0).status().on_demand);
    for index in 1..=4 {
        net.take_events(index);
    }
    let newcomer = add_peer(&mut net);
    net.run(secs(4));
    for index in 1..=4 {
        assert!(net.node(index).status().on_demand, "node {index}");
        assert_eq!(known(&mut net, index).len(), 3, "links that exist are kept, and their rows");
        assert!((1..=4).all(|other| other == index || linked(&mut net, index, other)));
        assert_eq!(presence(&mut net, index), []);
    }
    assert_eq!(known(&mut net, newcomer), []);
    net.send(newcomer, 1, "hello");
    net.run(secs(1));
    assert_eq!(net.messages(1), ["hello"]);
    assert_eq!(known(&mut net, newcomer), [net.id(1)]);
    for index in [2, 3] {
        stop(&mut net, index);
    }
    assert!(net.node(newcomer).status().on_demand);
    stop(&mut net, 4);
    net.run(secs(4));
    for index in [1, newcomer] {
        assert!(!net.node(index).status().on_demand, "node {index}");
        assert_eq!(known(&mut net, index).len(), 1);
    }
    let another = add_peer(&mut net);
    net.run(secs(4));
    assert!(linked(&mut net, another, 1) && linked(&mut net, another, newcomer));
}

#[test]
fn offline_is_whom_each_server_says_that_it_has_not() {
    let mut net = Net::cluster_with(always(), 2, 2);
    net.run(secs(2));
    let nobody = Id::from_key(Role::Peer, &crate::PublicKey([9; 32]));
    let now = net.now;
    net.node(2).send(now, &[nobody], Bytes::from_static(b"?"), SendOptions::default()).unwrap();
    net.run(Duration::from_millis(100));
    assert_eq!(outcomes_to(&mut net, 2, nobody), [Outcome::Failed(Reason::UnknownId)]);
    net.send(2, 3, "once");
    net.run(secs(1));
    net.take_events(2);
    stop(&mut net, 3);
    let gone = net.id(3);
    net.send(2, 3, "too late");
    net.run(Duration::from_millis(100));
    assert_eq!(outcomes_to(&mut net, 2, gone), [Outcome::Failed(Reason::Offline)]);
    net.run(secs(60));
    let RoleState::Peer(tables) = &net.node(2).role else { panic!("a peer") };
    assert!(!tables.is_asked(&gone) && !tables.is_asked(&nobody), "nothing is watched that nobody wants");
}

#[test]
fn a_message_waits_for_the_server_that_has_not_answered() {
    let mut net = Net::cluster_with(always(), 2, 1);
    net.run(secs(2));
    // linked to the second server only
    let late = net.add(Role::Peer, |start| start.introducers = vec![address(1)]);
    net.cut.insert((address(late), address(0)));
    net.run(secs(2));
    net.send(2, late, "through the second");
    net.run(secs(1));
    assert_eq!(net.messages(late), ["through the second"]);
    let nobody = Id::from_key(Role::Peer, &crate::PublicKey([9; 32]));
    // the first server is silent: its answer is missing until its link is dead
    net.cut.extend([(address(2), address(0)), (address(1), address(0))]);
    let now = net.now;
    net.node(2).send(now, &[nobody], Bytes::from_static(b"?"), SendOptions::default()).unwrap();
    net.run(Duration::from_millis(500));
    assert_eq!(outcomes_to(&mut net, 2, nobody), []);
    net.run(secs(40));
    assert_eq!(outcomes_to(&mut net, 2, nobody), [Outcome::Failed(Reason::UnknownId)]);
}

#[test]
fn watches_tell_who_is_there_who_comes_and_who_goes() {
    let mut net = Net::cluster_with(always(), 2, 2);
    net.run(secs(2));
    let (there, own) = (net.id(3), net.id(2));
    let later = Identity::new(Role::Peer, crate::SecretKey::from_bytes([5; 32])).id();
    watch(&mut net, 2, Watch::Id(there));
    watch(&mut net, 2, Watch::Id(later));
    let name = Name::new("ant").unwrap();
    watch(&mut net, 2, Watch::Name(name.clone()));
    net.run(secs(1));
    let found = |what, ids: &[Id]| Event::Found { what, ids: ids.to_vec() };
    let events = presence(&mut net, 2);
    for event in [
        up(&net, 3),
        found(Watch::Id(there), &[there]),
        found(Watch::Id(later), &[]),
        found(Watch::Name(name.clone()), &[]),
    ] {
        assert_eq!(events.iter().filter(|told| **told == event).count(), 1, "{event:?} in {events:?}");
    }
    assert_eq!(events.len(), 4);
    let watched = net.add(Role::Peer, |start| start.introducers = vec![address(0)]);
    assert_eq!(net.id(watched), later);
    let named = net.add(Role::Peer, |start| {
        start.introducers = vec![address(0)];
        start.name = name.clone();
    });
    add_peer(&mut net);
    net.run(secs(2));
    let mut want = [up(&net, watched), up(&net, named)];
    let mut told = presence(&mut net, 2);
    told.sort_by_key(|event| format!("{event:?}"));
    want.sort_by_key(|event| format!("{event:?}"));
    assert_eq!(told, want);
    assert_eq!(net.node(2).status().watches.len(), 3);
    stop(&mut net, named);
    assert_eq!(presence(&mut net, 2), [down(&net, named)]);
    let now = net.now;
    net.node(2).unwatch(now, &Watch::Id(later));
    net.run(secs(1));
    stop(&mut net, watched);
    assert_eq!(presence(&mut net, 2), []);
    assert_eq!(net.node(2).watch(now, Watch::Id(own)), Err(CommandError::BadDestinations));
}

#[test]
fn watches_are_made_anew_at_a_server_that_comes_back() {
    let mut net = Net::cluster_with(always(), 1, 2);
    net.run(secs(2));
    let id = net.id(2);
    watch(&mut net, 1, Watch::Id(id));
    net.run(secs(1));
    assert_eq!(presence(&mut net, 1).len(), 2);
    net.kill(0);
    net.run(secs(1));
    net.restart(0, true);
    net.run(secs(40));
    assert_eq!(presence(&mut net, 1), [], "both were back in time");
    stop(&mut net, 2);
    assert_eq!(presence(&mut net, 1), [down(&net, 2)]);
}

#[test]
fn an_idle_link_is_ended_and_the_next_message_goes_on_in_the_same_session() {
    let mut net = Net::cluster_with(Config { idle_link: secs(5), ..always() }, 1, 2);
    net.run(secs(2));
    net.send(1, 2, "first");
    net.run(secs(4));
    assert!(linked(&mut net, 1, 2));
    net.send(1, 2, "second");
    net.run(secs(4));
    assert!(linked(&mut net, 1, 2), "a message is use");
    net.run(secs(3));
    assert!(!linked(&mut net, 1, 2) && !linked(&mut net, 2, 1));
    assert_eq!((known(&mut net, 1), known(&mut net, 2)), (vec![], vec![]));
    net.run(secs(20));
    assert!(!linked(&mut net, 1, 2), "nobody makes it again");
    let violations = |net: &mut Net| net.node(1).counters().get("violations").copied();
    net.send(2, 1, "back");
    net.send(1, 2, "third");
    net.run(secs(1));
    assert_eq!(net.messages(2), ["first", "second", "third"]);
    assert_eq!(net.messages(1), ["back"]);
    assert_eq!(violations(&mut net), None);
    assert_eq!(presence(&mut net, 1), []);
}

#[test]
fn what_is_said_while_a_link_is_being_ended_is_not_lost() {
    for ms in 0..40 {
        let mut net = Net::cluster_with(Config { idle_link: secs(3), ..always() }, 1, 2);
        net.run(secs(2));
        net.send(1, 2, "first");
        net.run(secs(1));
        let used = net.node(1).remotes.values().filter_map(|remote| remote.last_used).max().unwrap();
        net.now = net.now.max(used);
        let until = (used + secs(3)).saturating_duration_since(net.now) + Duration::from_millis(ms);
        net.run(until.saturating_sub(Duration::from_millis(12)));
        net.take_events(1);
        net.send(1, 2, "second");
        net.send(2, 1, "back");
        let stream = {
            let (now, id) = (net.now, net.id(1));
            net.node(2).open_stream(now, id).unwrap()
        };
        net.run(secs(1));
        assert_eq!(net.messages(2), ["first", "second"], "{ms}");
        let events = net.take_events(1);
        assert!(events.iter().any(|event| matches!(event, Event::Messages { .. })), "{ms}");
        assert!(events.iter().any(|event| matches!(event, Event::StreamOpened { .. })), "{ms}");
        let now = net.now;
        assert_eq!(net.node(2).stream_write(now, stream, b"x"), Ok(1), "{ms}");
    }
}

#[test]
fn a_stream_or_an_unanswered_request_keeps_a_link() {
    let mut net = Net::cluster_with(Config { idle_link: secs(3), ..always() }, 1, 3);
    net.run(secs(2));
    let (now, two, three) = (net.now, net.id(2), net.id(3));
    net.node(1).open_stream(now, two).unwrap();
    net.node(1).request(now, three, Bytes::from_static(b"?"), Some(secs(15))).unwrap();
    net.run(secs(13));
    assert!(linked(&mut net, 1, 2) && linked(&mut net, 1, 3));
    net.run(secs(15));
    assert!(linked(&mut net, 1, 2));
    assert!(linked(&mut net, 3, 1), "its application owes an answer");
}

#[test]
fn who_is_not_on_demand_keeps_its_links() {
    let mut net = Net::cluster_with(Config { idle_link: secs(3), ..Config::default() }, 1, 2);
    net.run(secs(20));
    assert!(linked(&mut net, 1, 2));
    let (now, id) = (net.now, net.id(2));
    net.node(1).remotes.get_mut(&id).unwrap().resting = true;
    net.node(1).tell(now, id, &Control::Idle);
    net.send(1, 2, "after that");
    net.run(secs(1));
    assert!(linked(&mut net, 1, 2));
    assert_eq!(net.messages(2), ["after that"]);
}

#[test]
fn who_watches_too_much_loses_its_link() {
    let mut net = Net::cluster_with(Config { max_watches: 3, ..always() }, 1, 1);
    net.run(secs(2));
    let id = |n| Id::from_key(Role::Peer, &crate::PublicKey([n; 32]));
    for n in 0..3 {
        watch(&mut net, 1, Watch::Id(id(n)));
    }
    let now = net.now;
    assert_eq!(net.node(1).watch(now, Watch::Id(id(3))), Err(CommandError::Failed(Reason::Full)));
    net.run(secs(1));
    let server = net.id(0);
    assert!(net.node(1).is_linked(&server));
    let wanted = crate::wire::Wanted { ids: crate::table::Bounded::first((0..9).map(id)), ..Default::default() };
    net.node(1).tell(now, server, &Control::Watch(wanted));
    net.run(Duration::from_millis(100));
    assert_eq!(net.node(0).counters().get("violations"), Some(&1));
}

/// Two peers that reach each other through the server alone, and how long a first message takes.
fn first_message(watched: bool) -> (Net, Duration) {
    let mut net = Net::cluster_with(always(), 1, 2);
    net.cut.insert((address(1), address(2)));
    net.run(secs(2));
    if watched {
        let id = net.id(2);
        watch(&mut net, 1, Watch::Id(id));
        net.run(secs(1));
    }
    let begin = net.now;
    net.send(1, 2, "hello");
    while !net.nodes[2].events.iter().any(|event| matches!(event, Event::Messages { .. })) {
        net.run(Duration::from_millis(1));
        assert!(net.now < begin + secs(5));
    }
    let time = net.now - begin;
    (net, time)
}

#[test]
fn the_first_message_travels_with_the_lookup() {
    let (_, known) = first_message(true);
    let (mut net, unknown) = first_message(false);
    assert_eq!(unknown, known, "the answer costs no round trip of its own");
    assert_eq!(net.node(0).counters().get("first packets passed on"), Some(&1));
    let (now, server) = (net.now, net.id(0));
    let (from, to) = (net.id(1), net.id(2));
    let nothing = [Bytes::new(), Bytes::from_static(&[7; 1_200]), Bytes::from_static(&[0xc0; 1_200])];
    for packet in nothing {
        net.node(1).tell(now, server, &Control::FirstPacket { to, packet });
    }
    net.run(secs(1));
    assert_eq!(net.node(0).counters().get("dropped: no first packet"), Some(&3));
    assert_eq!(net.node(0).counters().get("first packets passed on"), Some(&1));
    assert!(net.node(2).is_linked(&from));
}

#[test]
fn a_first_packet_at_the_wrong_server_is_no_loss() {
    let mut net = Net::cluster_with(always(), 2, 1);
    net.run(secs(2));
    // linked to the second server only, and the first one is asked first or second
    let late = net.add(Role::Peer, |start| start.introducers = vec![address(1)]);
    net.cut.extend([(address(late), address(0)), (address(late), address(2))]);
    net.run(secs(2));
    let nobody = Id::from_key(Role::Peer, &crate::PublicKey([9; 32]));
    let now = net.now;
    let to = net.id(late);
    net.node(2).send(now, &[to, nobody], Bytes::from_static(b"?"), SendOptions::default()).unwrap();
    net.run(Duration::from_millis(300));
    assert_eq!(net.messages(late), ["?"]);
    assert_eq!(outcomes_to(&mut net, 2, nobody), [Outcome::Failed(Reason::UnknownId)]);
    net.run(secs(5));
    assert_eq!(net.node(2).links.len(), 3, "to two servers and one peer");
}
