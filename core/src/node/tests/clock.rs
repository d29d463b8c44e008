//! Clocks that do not behave: what a node must bear from a driver, and from a machine that was suspended.

use super::*;

const HOUR: Duration = Duration::from_secs(3_600);

/// Lets something happen while the clock of all drivers shows another time than before and after.
fn at(net: &mut Net, time: Instant, mut happens: impl FnMut(&mut Net)) {
    let now = std::mem::replace(&mut net.now, time);
    happens(net);
    net.now = now;
}

/// Hands over all that flies, and lets every deadline that is due come.
fn happen_all(net: &mut Net) {
    for (_, from, to, data) in std::mem::take(&mut net.flying) {
        net.deliver(from, to, &data);
    }
    let now = net.now;
    for node in net.nodes.iter_mut().filter_map(|host| host.node.as_mut()) {
        node.handle(now, Input::Timeout);
    }
    net.exchange();
}

fn texts(numbers: impl IntoIterator<Item = usize>) -> Vec<Bytes> {
    numbers.into_iter().map(|number| Bytes::from(number.to_string())).collect()
}

/// How many outcomes of each kind a sender was told: delivered, expired, failed.
fn tell(events: &[Event]) -> [usize; 3] {
    let mut counts = [0; 3];
    for event in events {
        let Event::Outcome { outcome, .. } = event else { continue };
        match outcome {
            Outcome::Delivered => counts[0] += 1,
            Outcome::Expired => counts[1] += 1,
            Outcome::Failed(_) => counts[2] += 1,
        }
    }
    counts
}

fn is_whole(net: &mut Net) -> bool {
    (0..net.nodes.len()).all(|index| {
        let status = net.node(index).status();
        !status.suspended && status.servers.iter().all(|row| row.linked) && status.peers.iter().all(|row| row.linked)
    })
}

#[test]
fn a_clock_read_in_odd_order_loses_and_doubles_nothing() {
    const EARLY: [u64; 7] = [0, 1, 40, 0, 300, 7, 5_000];
    const ROUNDS: usize = 400;
    let mut net = Net::cluster(2, 3);
    // one pair by relay
    net.cut.insert((address(2), address(4)));
    net.run(secs(10));
    for index in 0..5 {
        net.take_events(index);
    }
    for round in 0..ROUNDS {
        let earlier = net.now - Duration::from_millis(EARLY[round % EARLY.len()]);
        at(&mut net, earlier, |net| {
            net.send(2, 3, &round.to_string());
            net.send(2, 4, &round.to_string());
            net.exchange();
            happen_all(net);
        });
        net.run(Duration::from_millis(15));
    }
    net.run(secs(3));
    for receiver in [3, 4] {
        assert_eq!(net.messages(receiver), texts(0..ROUNDS), "at {receiver}");
    }
    let events = net.take_events(2);
    assert_eq!(tell(&events), [2 * ROUNDS, 0, 0]);
    assert!(is_whole(&mut net));
    let lost = |event: &Event| matches!(event, Event::ServerDown { .. } | Event::PeerDown { .. } | Event::Suspended);
    assert!(!events.iter().any(lost), "no link is lost by that: {events:?}");
}

#[test]
fn one_time_far_ahead_of_all_others_does_not_hold_a_node_up() {
    let mut net = Net::cluster(1, 2);
    net.run(secs(2));
    let (now, later) = (net.now, net.now + HOUR);
    net.node(1).handle(later, Input::Timeout);
    net.node(1).handle(now, Input::Timeout);
    net.run(secs(60));
    assert!(is_whole(&mut net), "{:#?}", net.node(1).status());
    net.take_events(1);
    net.send(1, 2, "on");
    net.run(secs(1));
    assert_eq!(net.messages(2), ["on"]);
    assert_eq!(net.outcomes(1), [Outcome::Delivered]);
}

/// The whole network on machines that are suspended together.
#[test]
fn an_hour_between_two_inputs_of_all_nodes_costs_links_at_most() {
    const BEFORE: usize = 50;
    let mut net = Net::cluster(2, 3);
    net.cut.insert((address(2), address(4)));
    net.run(secs(3));
    for number in 0..BEFORE {
        for receiver in [3, 4] {
            net.send(2, receiver, &number.to_string());
        }
        // some have their receipts by then, some fly, some wait
        net.run(Duration::from_millis(1));
    }
    net.now += HOUR;
    net.run(secs(60));
    assert!(is_whole(&mut net));
    for receiver in [3, 4] {
        let got = net.messages(receiver);
        assert_eq!(got, texts(0..got.len()), "none twice, none out of order at {receiver}");
    }
    assert_eq!(tell(&net.take_events(2)).iter().sum::<usize>(), 2 * BEFORE, "one outcome each");
    for receiver in [3, 4] {
        net.send(2, receiver, "after");
    }
    net.run(secs(2));
    assert_eq!(tell(&net.take_events(2)), [2, 0, 0]);
    assert_eq!([3, 4].map(|receiver| net.messages(receiver)), [["after"], ["after"]]);
}
