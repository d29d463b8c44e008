//! The contract with the driver: several inputs in a row are legal at any time, nothing must be drained in between, and
//! while anything waits to be taken the deadline is due.

use super::*;
use crate::rng::Rng;

/// Takes one thing that waits, if there is one; it was due.
fn take_one(net: &mut Net, index: usize) -> bool {
    let now = net.now;
    let deadline = net.node(index).deadline();
    let due = deadline.is_some_and(|deadline| deadline.at <= now);
    let mut buf = Vec::new();
    let host = &mut net.nodes[index];
    let node = host.node.as_mut().unwrap();
    if let Some(output) = node.poll() {
        assert!(due, "node {index}: {output:?} waited, but the deadline is {deadline:?} at {now:?}");
        match output {
            Output::Persist(persist) => {
                host.saved = Some(persist.state);
                node.handle(now, Input::Persisted(persist.id));
            }
            Output::Event(event) => {
                if let Event::Messages { receipt, .. } | Event::Request { receipt, .. } = &event {
                    node.handed(now, *receipt);
                }
                host.events.push(event);
            }
        }
        return true;
    }
    let Some(transmit) = node.poll_transmit(now, &mut buf) else { return false };
    assert!(due, "node {index}: {transmit:?} waited, but the deadline is {deadline:?} at {now:?}");
    let size = transmit.segment_size.unwrap_or(transmit.size).max(1);
    for datagram in buf.chunks(size) {
        net.flying.push_back((now + net.delay, host.address, transmit.destination, datagram.to_vec()));
    }
    true
}

/// A driver that hands in what has come, in one burst, and now and then takes something: all of it, or a little, or not yet.
fn run_lazily(net: &mut Net, time: Duration, rng: &mut Rng) {
    let end = net.now + time;
    while net.now < end {
        net.now += Duration::from_micros(1 + rng.below(4_000));
        let now = net.now;
        while net.flying.front().is_some_and(|(at, ..)| *at <= now) {
            let (_, from, to, data) = net.flying.pop_front().unwrap();
            net.deliver(from, to, &data);
        }
        for index in 0..net.nodes.len() {
            if rng.below(3) == 0 {
                net.node(index).handle(now, Input::Timeout);
            }
            let most = match rng.below(4) {
                0 => 0,
                1 => rng.below(4),
                _ => u64::MAX,
            };
            let _ = (0..most).take_while(|_| take_one(net, index)).count();
        }
    }
}

#[test]
fn drained_rarely_and_by_halves_a_cluster_delivers_everything_once_and_in_order() {
    let mut rng = Rng::from_seed([8; 32]);
    let mut net = Net::cluster(2, 3);
    net.cut.insert((address(2), address(4)));
    run_lazily(&mut net, secs(4), &mut rng);
    for index in 0..5 {
        net.take_events(index);
    }
    for number in 0..300 {
        net.send(2, 3, &number.to_string());
        net.send(2, 4, &number.to_string());
        if number % 30 == 0 {
            run_lazily(&mut net, Duration::from_millis(10), &mut rng);
        }
    }
    run_lazily(&mut net, secs(4), &mut rng);
    let expected: Vec<Bytes> = (0..300).map(|number| Bytes::from(number.to_string())).collect();
    for receiver in [3, 4] {
        assert_eq!(net.messages(receiver), expected, "at {receiver}");
    }
    assert_eq!(net.outcomes(2), vec![Outcome::Delivered; 600]);
}

#[test]
fn a_burst_of_inputs_is_taken_whole_with_nothing_drained_in_between() {
    const BURST: usize = 40;
    let mut net = Net::cluster(1, 2);
    net.run(secs(4));
    // so that the window takes the burst
    for _ in 0..100 {
        net.send(1, 2, &"x".repeat(2_000));
    }
    net.run(secs(1));
    net.take_events(2);
    let expected: Vec<String> = (0..BURST).map(|number| format!("{number:1000}")).collect();
    expected.iter().for_each(|text| net.send(1, 2, text));
    // paced, and held up on the way
    for _ in 0..60 {
        net.now += Duration::from_millis(1);
        let now = net.now;
        net.node(1).handle(now, Input::Timeout);
        while take_one(&mut net, 1) {}
    }
    let burst: Vec<_> = std::mem::take(&mut net.flying).into();
    assert!(burst.len() > BURST * 2 / 3, "{} datagrams", burst.len());
    for (_, from, to, data) in burst {
        net.deliver(from, to, &data);
        let now = net.now;
        assert!(net.node(2).deadline().is_some_and(|deadline| deadline.at <= now));
    }
    while take_one(&mut net, 2) {}
    assert_eq!(net.messages(2), expected, "nothing was left to be sent again");
}

/// Everything at rest: what is wanted next is wanted later.
fn at_rest(net: &mut Net) {
    for index in 0..net.nodes.len() {
        while take_one(net, index) {}
        let now = net.now;
        assert!(net.node(index).deadline().is_none_or(|deadline| deadline.at > now), "node {index} is not at rest");
    }
}

/// Whatever a driver or an application does, what comes of it is due at once; at least something does where `some` says so.
fn due_after(net: &mut Net, index: usize, what: &str, some: bool, act: impl FnOnce(&mut Node, Instant)) {
    at_rest(net);
    let now = net.now;
    act(net.node(index), now);
    let taken = take_one(net, index);
    assert!(taken || !some, "nothing came of {what}");
    while take_one(net, index) {}
    net.run(Duration::from_millis(100));
}

#[test]
fn what_any_input_or_command_brings_is_due_at_once() {
    let mut net = Net::cluster(2, 2);
    net.run(secs(4));
    let (near, far) = (net.id(2), net.id(3));
    let text = || Bytes::from_static(b"text");
    due_after(&mut net, 2, "send", true, |node, now| {
        node.send(now, &[far], text(), SendOptions::default()).unwrap();
    });
    due_after(&mut net, 2, "send to oneself", true, |node, now| {
        node.send(now, &[near], text(), SendOptions::default()).unwrap();
    });
    due_after(&mut net, 2, "datagram", true, |node, now| node.datagram(now, far, text()).unwrap());
    due_after(&mut net, 2, "request", true, |node, now| {
        node.request(now, far, text(), None).unwrap();
    });
    let token = |event| if let Event::Request { token, .. } = event { Some(token) } else { None };
    let token = net.take_events(3).into_iter().find_map(token).unwrap();
    due_after(&mut net, 3, "reply", true, |node, now| node.reply(now, token, Ok(text())).unwrap());
    due_after(&mut net, 2, "send to the Master", true, |node, now| {
        node.send_to_master(now, text(), SendOptions::default()).unwrap();
    });
    net.nodes[3].takes = false;
    net.send(2, 3, "to be taken");
    net.run(Duration::from_millis(100));
    let receipt = |event| if let Event::Messages { receipt, .. } = event { Some(receipt) } else { None };
    let receipt = net.take_events(3).into_iter().find_map(receipt).unwrap();
    due_after(&mut net, 3, "handed", true, |node, now| node.handed(now, receipt));
    net.nodes[3].takes = true;
    let mut stream = None;
    due_after(&mut net, 2, "open a stream", true, |node, now| stream = node.open_stream(now, far).ok());
    let stream = stream.unwrap();
    due_after(&mut net, 2, "write a stream", true, |node, now| {
        assert_eq!(node.stream_write(now, stream, &[7; 5_000]), Ok(5_000));
    });
    let opened = |event| if let Event::StreamOpened { stream, .. } = event { Some(stream) } else { None };
    let theirs = net.take_events(3).into_iter().find_map(opened).unwrap();
    due_after(&mut net, 3, "read a stream", false, |node, now| {
        assert!(node.stream_read(now, theirs, 10_000).unwrap().is_some());
    });
    due_after(&mut net, 2, "finish a stream", true, |node, now| node.stream_finish(now, stream).unwrap());
    due_after(&mut net, 3, "reset a stream", true, |node, now| node.stream_reset(now, theirs));
    let other: std::net::SocketAddr = ([192, 0, 2, 77], 7_000).into();
    let network = LocalNetwork {
        sockets: vec![(SocketId(0), address(2))],
        interfaces: vec![other.ip()],
        advertised: vec![other],
    };
    due_after(&mut net, 2, "another network", true, |node, now| node.handle(now, Input::NetworkChanged(network)));
    due_after(&mut net, 0, "waking up", true, |node, now| node.handle(now, Input::Resumed));
    due_after(&mut net, 0, "resigning", false, |node, now| node.resign(now).unwrap());
    due_after(&mut net, 2, "garbage", false, |node, now| {
        let data = BytesMut::from(&[0x41; 100][..]);
        let datagram = Datagram { socket: SocketId(0), remote: other, local_ip: None, ecn: 0, data, segment_size: 100 };
        node.handle(now, Input::Datagram(datagram));
    });
    due_after(&mut net, 1, "leaving", true, |node, now| node.change_members(now, MemberCommand::Leave).unwrap());
    due_after(&mut net, 2, "stopping", true, |node, now| node.stop(now));
}

#[test]
fn the_goodbye_is_due_when_the_last_datagram_of_before_is_taken() {
    let mut net = Net::cluster(2, 0);
    net.run(secs(4));
    at_rest(&mut net);
    let now = net.now;
    // as one that is forwarded
    let route = Route::Udp { socket: SocketId(0), remote: address(9) };
    net.node(1).queue(route, BytesMut::from(&[7; 100][..]), None, 0, None);
    net.node(1).stop(now);
    assert!(take_one(&mut net, 1));
    while take_one(&mut net, 1) {}
    net.run(secs(2));
    assert!(net.take_events(1).contains(&Event::Stopped));
}
