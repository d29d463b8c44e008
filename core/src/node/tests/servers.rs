//! Messages to servers that are down, or that only others reach.

use std::time::Duration;

use bytes::Bytes;

use super::{
    super::*,
    net::{Net, address, secs},
};
use crate::Reason;

/// How long the grace lasts by default.
const GRACE: Duration = Duration::from_secs(3);

/// Three servers and a peer (node 3), all linked.
fn linked() -> Net {
    let mut net = Net::cluster(3, 1);
    net.run(secs(5));
    net
}

fn say_goodbye(net: &mut Net, index: usize) {
    let now = net.now;
    net.node(index).stop(now);
    net.run(secs(1));
    net.kill(index);
}

fn send_for(net: &mut Net, from: usize, to: usize, ttl: Duration) {
    let (now, id) = (net.now, net.id(to));
    net.node(from).send(now, &[id], Bytes::from_static(b"x"), SendOptions::default().ttl(ttl)).unwrap();
}

#[test]
fn a_server_that_is_down_is_offline_at_once() {
    let mut net = linked();
    say_goodbye(&mut net, 2);
    net.run(GRACE);
    for from in [0, 3] {
        net.send(from, 2, "x");
        let (now, id) = (net.now, net.id(2));
        let request = net.node(from).request(now, id, Bytes::new(), None).unwrap();
        net.run(Duration::from_millis(1));
        let events = net.take_events(from);
        let failed = |event: &Event| matches!(event, Event::Outcome { outcome: Outcome::Failed(Reason::Offline), .. });
        assert!(events.iter().any(failed), "{from}: {events:?}");
        assert!(events.contains(&Event::Reply { request, from: id, result: Err(Reason::Offline) }));
    }
    net.restart(2, true);
    net.run(secs(5));
    net.send(3, 2, "again");
    net.run(secs(1));
    assert_eq!(net.messages(2), ["again"]);
}

#[test]
fn a_restart_within_the_grace_costs_no_message() {
    let mut net = linked();
    say_goodbye(&mut net, 2);
    for from in [0, 3] {
        net.send(from, 2, "bridged");
    }
    net.run(secs(1));
    net.restart(2, true);
    net.run(secs(4));
    assert_eq!(net.messages(2), ["bridged", "bridged"]);
    for from in [0, 3] {
        assert_eq!(net.outcomes(from), [Outcome::Delivered]);
    }
}

#[test]
fn what_was_never_written_fails_when_the_grace_is_over() {
    let mut net = linked();
    say_goodbye(&mut net, 2);
    for from in [0, 3] {
        send_for(&mut net, from, 2, secs(600));
    }
    net.run(GRACE);
    for from in [0, 3] {
        assert_eq!(net.outcomes(from), [Outcome::Failed(Reason::Offline)]);
    }
}

#[test]
fn what_may_have_been_handed_over_does_not_fail_for_certain() {
    let mut net = linked();
    net.nodes[2].takes = false;
    for from in [0, 3] {
        send_for(&mut net, from, 2, secs(600));
    }
    net.run(secs(1));
    say_goodbye(&mut net, 2);
    net.run(secs(60));
    for from in [0, 3] {
        assert_eq!(net.outcomes(from), []);
    }
    net.restart(2, true);
    net.run(secs(5));
    for from in [0, 3] {
        assert_eq!(net.outcomes(from), [Outcome::Failed(Reason::UnknownOutcome)]);
    }
}

#[test]
fn a_server_that_another_one_reaches_is_not_offline() {
    let mut net = linked();
    let ways = [(address(1), address(2))];
    net.cut.extend(ways);
    net.run(secs(45));
    send_for(&mut net, 1, 2, secs(600));
    net.run(secs(20));
    assert_eq!(net.outcomes(1), []);
    net.cut.clear();
    net.run(secs(10));
    assert_eq!(net.outcomes(1), [Outcome::Delivered]);
}
