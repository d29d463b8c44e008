//! Links that take the place of others, and what happens to what waits meanwhile.

use std::time::Duration;

use super::{
    super::*,
    net::{Net, secs},
};
use crate::wire::Control;

/// Delivers one datagram after the other, with all outputs in between, until `done`.
fn step_until(net: &mut Net, done: impl Fn(&Net) -> bool) {
    while !done(net) {
        net.run(Duration::ZERO);
        let deadlines = net.nodes.iter().filter_map(|host| host.node.as_ref()?.deadline()).map(|due| due.at);
        let timeout = deadlines.min().unwrap();
        match net.flying.pop_front_if(|(at, ..)| *at <= timeout) {
            Some((at, from, to, data)) => {
                net.now = net.now.max(at);
                net.deliver(from, to, &data);
            }
            None => net.run((timeout - net.now).max(Duration::from_nanos(1))),
        }
    }
    net.exchange();
}

fn events(net: &Net, index: usize, which: impl Fn(&Event) -> bool) -> usize {
    net.nodes[index].events.iter().filter(|event| which(event)).count()
}

/// A peer that returns dials the server that it knows and its introducer, which are one: the second link replaces the first.
#[test]
fn a_message_waits_on_for_the_directory_while_the_link_to_the_only_server_is_replaced() {
    let mut net = Net::cluster(1, 2);
    net.run(secs(2));
    let (now, server) = (net.now, net.id(0));
    net.node(2).stop(now);
    net.run(secs(1));
    net.restart(2, true);
    net.take_events(2);
    let now = net.now;
    net.node(2).handle(now, Input::Timeout);
    net.exchange();
    let tokens: Vec<LinkToken> = net.node(2).links.iter().map(|(token, _)| *token).collect();
    let known = net.node(2).remotes[&server].dialling.unwrap();
    assert_eq!(tokens.len(), 2);
    net.node(2).links.get_mut(known).unwrap().dial = 9;
    net.flying.rotate_left(1);
    step_until(&mut net, |net| events(net, 2, |event| matches!(event, Event::ServerUp { .. })) > 0);
    assert_ne!(net.node(2).remotes[&server].current, Some(known));
    net.send(2, 1, "early");
    net.run(secs(1));
    assert_eq!(net.node(2).remotes[&server].current, Some(known), "nothing was replaced");
    assert_eq!(net.messages(1), ["early"]);
    assert_eq!(net.outcomes(2), [Outcome::Delivered]);
}

#[test]
fn a_newcomer_that_breaks_the_protocol_as_it_takes_a_place_is_down() {
    let mut net = Net::cluster(1, 1);
    net.run(secs(2));
    net.kill(1);
    net.restart(1, false);
    let (server, id) = (net.id(0), net.id(1));
    while !net.node(1).is_linked(&server) {
        net.run(Duration::from_millis(1));
    }
    let now = net.now;
    net.node(1).tell(now, server, &Control::LinksLost);
    net.run(Duration::from_millis(1_200));
    assert!(!net.node(0).is_linked(&id), "it was to lose its link");
    let ups = events(&net, 0, |event| matches!(event, Event::PeerUp { .. }));
    let downs = events(&net, 0, |event| matches!(event, Event::PeerDown { .. }));
    assert_eq!((ups, downs), (1, 1));
}
