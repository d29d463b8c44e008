//! How many packets things take.

use super::*;

/// Asks node 0, which answers at once, and waits for the reply; returns how many datagrams flew until then.
fn ask(net: &mut Net) -> usize {
    let (now, id) = (net.now, net.id(0));
    net.node(1).request(now, id, Bytes::from_static(b"?"), None).unwrap();
    let mut flown = 0;
    for _ in 0..20 {
        net.exchange();
        flown += net.flying.len();
        let (at, ..) = net.flying.front().unwrap();
        net.now = *at;
        let now = net.now;
        for (_, from, to, data) in std::mem::take(&mut net.flying) {
            net.deliver(from, to, &data);
        }
        net.exchange();
        for event in net.take_events(0) {
            if let Event::Request { token, .. } = event {
                net.node(0).reply(now, token, Ok(Bytes::from_static(b"!"))).unwrap();
            }
        }
        if net.take_events(1).iter().any(|event| matches!(event, Event::Reply { result: Ok(_), .. })) {
            return flown;
        }
    }
    panic!("no reply");
}

#[test]
fn a_request_and_its_reply_take_a_packet_each() {
    let mut net = Net::cluster(1, 1);
    net.run(secs(20));
    net.take_events(0);
    net.take_events(1);
    let flown: Vec<usize> = (0..100).map(|_| ask(&mut net)).collect();
    // and a few for what links do from time to time
    assert!(flown.iter().sum::<usize>() <= 210, "{flown:?}");
}

#[test]
fn who_stops_after_a_reply_leaves_nobody_without_its_receipt() {
    let mut net = Net::cluster(1, 1);
    net.run(secs(20));
    ask(&mut net);
    let (now, asker) = (net.now, net.id(1));
    let waits = |net: &mut Net| net.node(0).remotes[&asker].conversation.as_ref().unwrap().wants_link();
    assert!(waits(&mut net), "the receipt waits for something to go with");
    net.node(1).stop(now);
    net.run(Duration::from_millis(20));
    assert!(!waits(&mut net));
}
