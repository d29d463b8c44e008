//! Nodes that go and come back, and strangers.

use std::{net::UdpSocket, time::Duration};

use p2pcore::{
    Event,
    node::{Outcome, SendOptions},
};

use super::{
    MakeRuntime,
    world::{World, event, next_message},
};

/// A goodbye takes a peer out of the directory.
pub fn peers_come_and_go_in_the_directory(make: MakeRuntime<'_>) {
    let world = World::new(make);
    let server = world.start(world.server(1));
    let a = world.start(world.peer(2, &server));
    let events = a.events();
    let b = world.start(world.peer(3, &server));
    let id = b.id();
    world.run("up and down", async {
        event(&events, |event| matches!(event, Event::PeerUp { id: up, .. } if *up == id)).await;
        b.stop().await;
        event(&events, |event| matches!(event, Event::PeerDown { id: down, .. } if *down == id)).await;
    });
}

/// The only server goes and returns under the same address; then messages pass again.
pub fn a_lost_server_suspends_and_its_return_resumes(make: MakeRuntime<'_>) {
    let world = World::new(make);
    let mut options = world.server(1);
    options.state = Some(world.path("server"));
    let server = world.start(options.clone());
    options.listen = server.listen_addresses().to_vec();
    let a = world.start(world.peer(2, &server));
    let events = a.events();
    world.run("back again", async {
        event(&events, |event| matches!(event, Event::ServerUp { .. })).await;
        server.stop().await;
        event(&events, |event| *event == Event::Suspended).await;
        let server = world.start(options);
        event(&events, |event| *event == Event::Resumed).await;
        let mut outcomes = a.send(&[server.id()], "again", SendOptions::default()).await.expect("accepted");
        assert_eq!(&next_message(&server).await.data[..], b"again");
        assert_eq!(outcomes.next().await, Some((server.id(), Outcome::Delivered)));
    });
}

/// The last known server table is kept.
pub fn a_peer_returns_from_its_state_without_an_introducer(make: MakeRuntime<'_>) {
    let world = World::new(make);
    let server = world.start(world.server(1));
    let mut options = world.peer(2, &server);
    options.state = Some(world.path("peer"));
    let peer = world.start(options.clone());
    // whoever has a server's directory has had the table of servers before
    world.acquainted(&peer, &world.start(world.peer(3, &server)));
    world.run("the end of the first run", peer.stop());
    options.join.clear();
    let peer = world.start(options);
    let events = peer.events();
    world.run("the second run", event(&events, |event| matches!(event, Event::ServerUp { .. })));
}

/// `found` is ignored with saved state, and needed only once.
pub fn a_server_returns_to_its_cluster_whatever_its_flags(make: MakeRuntime<'_>) {
    let world = World::new(make);
    let mut options = world.server(1);
    options.state = Some(world.path("server"));
    for found in [true, true, false] {
        options.found = found;
        let server = world.start(options.clone());
        options.listen = server.listen_addresses().to_vec();
        let peer = world.start(world.peer(2, &server));
        let events = peer.events();
        world.run("it serves", event(&events, |event| matches!(event, Event::ServerUp { .. })));
        world.run("the end", async {
            peer.stop().await;
            server.stop().await;
        });
    }
}

/// Datagrams of every first byte and many lengths draw no answer.
pub fn strangers_get_no_byte(make: MakeRuntime<'_>) {
    let world = World::new(make);
    let server = world.start(world.server(1));
    let stranger = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    for first in 0..=255_u8 {
        for len in [1, 9, 25, 60, 1_200, 1_452] {
            let mut bytes: Vec<u8> = (0..len).map(|at: usize| (at * 31 + usize::from(first)) as u8).collect();
            bytes[0] = first;
            stranger.send_to(&bytes, server.listen_addresses()[0]).expect("sent");
        }
        // what the socket buffer cannot hold would prove nothing
        world.run("status", server.status()).expect("running");
    }
    world.run("status", server.status()).expect("running");
    stranger.set_read_timeout(Some(Duration::from_secs(1))).expect("a timeout");
    assert!(stranger.recv(&mut [0; 2_000]).is_err(), "the server answered a stranger");
}
