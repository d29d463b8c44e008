//! Before the link is up.

use std::time::Duration;

use super::world::{keys, ms};
use crate::{
    Config,
    path::{
        PathKind::{Direct, Punched, Relayed},
        PathSet,
    },
    testing::epoch,
};

#[test]
fn a_handshake_is_raced_and_then_follows_who_answered() {
    let start = epoch();
    let mut set = PathSet::new(&Config::default(), start);
    for (route, kind) in [(1, Relayed), (2, Direct), (3, Punched)] {
        set.add_candidate(start, route, kind);
    }
    assert_eq!(set.handshake_routes(start), [2, 3, 1]);
    set.note_received(start, 2, 1_200, false);
    assert_eq!(set.handshake_routes(start).len(), 3, "a forgery decides nothing");
    set.note_received(start, 1, 1_200, true);
    assert_eq!(set.handshake_routes(start + ms(300)), [1]);
    assert_eq!(set.handshake_routes(start + ms(301)).first(), Some(&1));
    assert_eq!(set.handshake_routes(start + ms(301)).len(), 3, "it fell silent");
    assert_eq!((set.routes(start), set.deadline(), set.kind()), (None, None, None));
}

#[test]
fn at_most_eight_are_raced_and_relays_are_among_them() {
    let start = epoch();
    let mut set = PathSet::new(&Config::default(), start);
    for route in 0..12 {
        set.add_candidate(start, route, Direct);
    }
    assert_eq!(set.handshake_routes(start).len(), 8);
    for route in 12..16 {
        set.add_candidate(start, route, Relayed);
    }
    assert_eq!(set.handshake_routes(start), [0, 1, 2, 3, 4, 5, 12, 13]);
}

#[test]
fn an_accepted_route_gets_three_times_what_it_gave() {
    let start = epoch();
    let mut set = PathSet::new(&Config::default(), start);
    set.learn(start, 1, Direct);
    set.note_received(start, 1, 1_200, true);
    assert!(set.may_send(1, 3_600) && !set.may_send(1, 3_601));
    set.note_sent(start, 1, 3_000);
    assert!(set.may_send(1, 600) && !set.may_send(1, 601));
    set.note_received(start, 1, 100, false);
    assert!(set.may_send(1, 900) && !set.may_send(1, 901));
    assert!(!set.may_send(2, 1), "nobody sent from there");
    set.learn(start, 3, Relayed);
    assert!(set.may_send(3, 9_000), "a server vouches for it");
    set.establish(start, keys()[0].clone(), 1);
    assert!(set.may_send(1, 1_000_000));
}

#[test]
fn made_up_sources_push_nothing_out() {
    let start = epoch();
    let config = Config { max_candidates: 10, ..Config::default() };
    let mut set = PathSet::new(&config, start);
    for route in 0..4 {
        set.add_candidate(start, route, Direct);
    }
    for route in 100..200 {
        set.learn(start, route, Direct);
    }
    assert_eq!(set.candidates().count(), 10);
    assert!((0..4).all(|route| set.candidate(&route).is_some()));
    for route in 4..10 {
        assert!(set.add_candidate(start, route, Punched), "a made-up source goes first");
    }
    assert!(set.candidates().all(|candidate| candidate.route < 10));
}

#[test]
fn too_many_candidates_leave_the_best_and_a_relay() {
    let start = epoch();
    let config = Config { max_candidates: 4, ..Config::default() };
    let mut set = PathSet::new(&config, start);
    for route in 0..4 {
        assert!(set.add_candidate(start, route, Punched));
    }
    assert!(!set.add_candidate(start, 4, Punched), "not better than any");
    assert!(set.add_candidate(start, 5, Direct));
    assert!(set.add_candidate(start, 6, Relayed) && set.add_candidate(start, 7, Relayed));
    assert!(!set.add_candidate(start, 8, Relayed), "two relays are enough");
    assert!(set.add_candidate(start, 9, Direct));
    let kept: Vec<_> = set.candidates().map(|candidate| candidate.route).collect();
    assert_eq!(kept, [5, 6, 7, 9]);
}

#[test]
fn limits_of_zero_do_no_harm() {
    let start = epoch();
    let mut config = Config { max_candidates: 0, heartbeat_attempts: 0, ..Config::default() };
    config.heartbeat = ms(0);
    config.heartbeat_retry = ms(0);
    config.doubt = (ms(0), ms(0));
    let mut set = PathSet::new(&config, start);
    assert!(set.add_candidate(start, 1, Direct));
    set.establish(start, keys()[0].clone(), 1);
    set.set_in_flight(start, true);
    let mut now = start;
    for _ in 0..1_000 {
        while set.poll_transmit(now, &mut Vec::new()).is_some() {}
        set.poll_event();
        let Some(next) = set.deadline() else { return };
        assert!(next > now);
        now = next;
        set.handle_timeout(now);
    }
    unreachable!("it never died");
}

#[test]
fn limits_without_end_do_no_harm() {
    let start = epoch();
    let mut config = Config { max_candidates: usize::MAX, heartbeat_attempts: u32::MAX, ..Config::default() };
    config.heartbeat = Duration::MAX;
    config.heartbeat_retry = Duration::MAX;
    config.doubt = (Duration::MAX, Duration::MAX);
    let mut set = PathSet::new(&config, start);
    for route in 0..200 {
        set.add_candidate(start, route, Direct);
    }
    assert_eq!(set.candidates().count(), 64);
    set.establish(start, keys()[0].clone(), 1);
    set.set_in_flight(start, true);
    set.challenge(start);
    while set.poll_transmit(start, &mut Vec::new()).is_some() {}
    assert!(set.deadline() > Some(start));
}
