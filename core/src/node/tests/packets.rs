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
fn zz() {
    for delay in [1, 5, 20] {
        let mut net = Net::cluster(1, 0);
        net.delay = Duration::from_millis(delay);
        net.run(secs(3));
        let t0 = net.now;
        let peer = net.add(Role::Peer, |start| start.introducers = vec![address(0)]);
        let mut up = None;
        for step in 0..20000u64 {
            net.run(Duration::from_micros(100));
            if up.is_none() && net.nodes[peer].events.iter().any(|event| matches!(event, Event::ServerUp { .. })) {
                up = Some(step);
                println!("up at {:?}", net.now - t0);
            }
            if net.node(0).status().clients.len() == 1 {
                println!("server sees {:?}", net.now - t0);
                break;
            }
        }
        let now = net.now;
        let id = net.id(peer);
        net.node(0).send(now, &[id], Bytes::from_static(b"x"), SendOptions::default()).unwrap();
        net.take_events(0);
        while !net.nodes[0].events.iter().any(|event| matches!(event, Event::Outcome { .. })) {
            net.run(Duration::from_micros(100));
        }
        println!("outcome {:?} {:?}", net.now - t0, net.take_events(0));
    }
}
