//! Messages, requests, datagrams and streams between peers that one server introduces.

use std::net::{Ipv6Addr, SocketAddr};

use bytes::Bytes;
use p2pcore::{
    CommandError, Event, Identity, Reason, Role, SecretKey,
    node::{Outcome, PathKind, SendOptions},
};

use super::{
    MakeRuntime,
    world::{World, event, next_message},
};
use crate::{Deliveries, Delivery, NodeHandle, RequestError};

async fn send(from: &NodeHandle, to: &NodeHandle, data: impl Into<Bytes>) -> Outcome {
    let mut outcomes = from.send(&[to.id()], data, SendOptions::default()).await.expect("accepted");
    let (id, outcome) = outcomes.next().await.expect("one outcome");
    assert_eq!(id, to.id());
    assert_eq!(outcomes.next().await, None);
    outcome
}

/// From a peer to a peer, to a server and back: source, name, lane and payload are as sent.
pub fn a_message_arrives_and_its_outcome_comes_back(make: MakeRuntime<'_>) {
    let world = World::new(make);
    let (server, a, b) = world.pair(|_| {});
    for (from, to) in [(&a, &b), (&b, &a), (&a, &server), (&server, &a)] {
        world.run("a message", async {
            let options = SendOptions::default().lane(2);
            let mut outcomes = from.send(&[to.id()], "hello", options).await.expect("accepted");
            let message = next_message(to).await;
            assert_eq!((message.from, message.lane, &message.data[..]), (from.id(), 2, &b"hello"[..]));
            assert_eq!(&message.name, from.name());
            message.accept();
            assert_eq!(outcomes.next().await, Some((to.id(), Outcome::Delivered)));
            assert_eq!(outcomes.next().await, None);
        });
    }
}

/// While the application holds a message, or has not asked for it, its sender has no receipt.
pub fn delivered_means_taken_by_the_application(make: MakeRuntime<'_>) {
    let world = World::new(make);
    let (_server, a, b) = world.pair(|_| {});
    world.run("a receipt", async {
        let mut held = a.send(&[b.id()], "held", SendOptions::default()).await.expect("accepted");
        let message = next_message(&b).await;
        // a message on another lane makes the round trip meanwhile
        let mut other = a.send(&[b.id()], "other", SendOptions::default().lane(1)).await.expect("accepted");
        next_message(&b).await.accept();
        assert_eq!(other.next().await, Some((b.id(), Outcome::Delivered)));
        let early = futures_lite::future::poll_once(held.next()).await;
        assert_eq!(early, None, "no receipt while the application holds the message");
        message.accept();
        assert_eq!(held.next().await, Some((b.id(), Outcome::Delivered)));
    });
}

/// One outcome for each destination.
pub fn one_message_reaches_many(make: MakeRuntime<'_>) {
    let world = World::new(make);
    let (server, a, b) = world.pair(|_| {});
    world.run("the outcomes", async {
        let to = [b.id(), server.id()];
        let outcomes = a.send(&to, "to all", SendOptions::default()).await.expect("accepted");
        for node in [&b, &server] {
            assert_eq!(&next_message(node).await.data[..], b"to all");
        }
        let mut all = outcomes.all().await;
        all.sort_by_key(|(id, _)| *id);
        let mut wanted = to.map(|id| (id, Outcome::Delivered));
        wanted.sort_by_key(|(id, _)| *id);
        assert_eq!(all, wanted);
    });
}

/// Ten thousand on one lane: each once, in order.
pub fn many_small_messages_keep_their_order(make: MakeRuntime<'_>) {
    const COUNT: u32 = 10_000;
    let world = World::new(make);
    let (_server, a, b) = world.pair(|_| {});
    let to = b.id();
    let (done, all_sent) = async_channel::bounded(1);
    world.runtime.spawn(Box::pin(async move {
        let mut waiting = Vec::new();
        for number in 0..COUNT {
            let data = number.to_be_bytes().to_vec();
            waiting.push(a.send(&[to], data, SendOptions::default()).await.expect("accepted"));
        }
        for mut outcomes in waiting {
            assert_eq!(outcomes.next().await, Some((to, Outcome::Delivered)));
        }
        let _ = done.send(()).await;
    }));
    world.run("all messages", async {
        for number in 0..COUNT {
            assert_eq!(&next_message(&b).await.data[..], number.to_be_bytes());
        }
        all_sent.recv().await.expect("all outcomes");
    });
    assert!(b.try_recv().is_none(), "nothing twice");
}

/// Through a queue that holds a small part of them: in order among what is sent one by one, each with its outcome; refused or
/// failed as a whole where that is so.
pub fn a_batch_is_its_messages_one_after_another(make: MakeRuntime<'_>) {
    const COUNT: u32 = 2_000;
    let world = World::new(make);
    let (server, a, b) = world.pair(|options| options.config.max_queued_messages = 300);
    let numbered =
        |from: u32| (from..from + COUNT).map(|n| Bytes::copy_from_slice(&n.to_be_bytes())).collect::<Vec<_>>();
    let options = SendOptions::default();
    world.run("two batches", async {
        let too_large = vec![Bytes::from_static(b"first"), Bytes::from(vec![0; 17 * 1024 * 1024])];
        let refused = a.send_batch(b.id(), too_large, options).await.expect_err("too large");
        assert!(matches!(refused, CommandError::TooLarge { .. }), "{refused}");
        let none = a.send_batch(b.id(), Vec::new(), options).await.expect("nothing to do");
        assert_eq!(none.all().await, []);
        let sending = async {
            let first = a.send_batch(b.id(), numbered(0), options).await.expect("accepted");
            let mut between = a.send(&[b.id()], "between", options).await.expect("accepted");
            let second = a.send_batch(b.id(), numbered(COUNT), options).await.expect("accepted");
            assert_eq!(between.next().await, Some((b.id(), Outcome::Delivered)));
            for batch in [first, second] {
                assert_eq!(batch.all().await, vec![Outcome::Delivered; COUNT as usize]);
            }
        };
        let reading = async {
            for number in 0..COUNT {
                assert_eq!(&next_message(&b).await.data[..], number.to_be_bytes());
            }
            assert_eq!(&next_message(&b).await.data[..], b"between");
            let mut numbers = COUNT..2 * COUNT;
            while !numbers.is_empty() {
                let Some(Deliveries::Messages(messages)) = b.recv_batch().await else { panic!("messages") };
                assert_eq!((messages.from, messages.lane), (a.id(), 0));
                for data in &messages.data {
                    assert_eq!(data[..], numbers.next().expect("no more than were sent").to_be_bytes());
                }
                messages.accept();
            }
        };
        futures_lite::future::zip(sending, reading).await;
        assert!(b.try_recv().is_none(), "nothing twice");
        let stranger = Identity::new(Role::Peer, SecretKey::from_bytes([99; 32])).id();
        let lost = a.send_batch(stranger, vec![Bytes::from_static(b"?"); 2], options).await.expect("accepted");
        assert_eq!(lost.all().await, [Outcome::Failed(Reason::UnknownId); 2]);
    });
    world.run("the end", async {
        // nobody takes them, so some still wait when the node ends
        let waiting = a.send_batch(server.id(), vec![Bytes::from_static(b"!"); 200], options).await;
        a.stop().await;
        let outcomes = waiting.expect("accepted").all().await;
        assert_eq!(outcomes.len(), 200);
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Failed(_))), "{outcomes:?}");
        let late = a.send_batch(server.id(), vec![Bytes::new()], options).await.expect_err("it has ended");
        assert!(matches!(late, CommandError::Stopped), "{late}");
    });
}

/// The largest one that is allowed.
pub fn a_large_message_arrives_whole(make: MakeRuntime<'_>) {
    let world = World::new(make);
    let (_server, a, b) = world.pair(|_| {});
    let data: Bytes = (0..16 * 1024 * 1024_u32).map(|at| (at / 4_099) as u8).collect();
    world.run("16 MiB", async {
        let mut outcomes = a.send(&[b.id()], data.clone(), SendOptions::default()).await.expect("accepted");
        assert!(next_message(&b).await.data == data);
        assert_eq!(outcomes.next().await, Some((b.id(), Outcome::Delivered)));
    });
}

/// `unknown_id`, since no directory has shown it.
pub fn a_message_to_an_unknown_id_fails_with_the_reason(make: MakeRuntime<'_>) {
    let world = World::new(make);
    let (_server, a, _b) = world.pair(|_| {});
    let nobody = world.server(99).identity.id();
    world.run("the outcome", async {
        let outcomes = a.send(&[nobody], "?", SendOptions::default()).await.expect("accepted");
        assert_eq!(outcomes.all().await, [(nobody, Outcome::Failed(Reason::UnknownId))]);
        let asked = a.request(nobody, "?", None).await;
        assert_eq!(asked.map_err(|error| error.reason()), Err(Reason::UnknownId));
    });
}

/// `try_send` gives the message back, one `Unblocked` follows, and nothing is lost.
pub fn a_full_queue_gives_the_message_back_and_says_when_there_is_room(make: MakeRuntime<'_>) {
    const LIMIT: usize = 16;
    let world = World::new(make);
    let (_server, a, b) = world.pair(|options| options.config.max_queued_messages = LIMIT);
    let events = a.events();
    world.run("room", async {
        let mut waiting = Vec::new();
        let back = loop {
            match a.try_send(&[b.id()], vec![waiting.len() as u8], SendOptions::default()) {
                Ok(outcomes) => waiting.push(outcomes),
                Err(CommandError::Blocked { to, data }) => {
                    assert_eq!(to, b.id());
                    break data;
                }
                Err(error) => panic!("{error}"),
            }
            assert!(waiting.len() <= LIMIT);
        };
        assert_eq!(back[..], [LIMIT as u8]);
        for number in 0..LIMIT {
            assert_eq!(next_message(&b).await.data[..], [number as u8]);
        }
        event(&events, |event| matches!(event, Event::Unblocked { to } if *to == b.id())).await;
        waiting.push(a.try_send(&[b.id()], back, SendOptions::default()).expect("there is room"));
        assert_eq!(next_message(&b).await.data[..], [LIMIT as u8]);
        for mut outcomes in waiting {
            assert_eq!(outcomes.next().await, Some((b.id(), Outcome::Delivered)));
        }
    });
}

/// A reply, a refusal, a request that nobody answers in time.
pub fn a_request_gets_one_answer(make: MakeRuntime<'_>) {
    let world = World::new(make);
    let (_server, a, b) = world.pair(|_| {});
    let (to, from) = (b.id(), a.id());
    world.runtime.spawn(Box::pin(async move {
        let mut never = Vec::new();
        while let Some(delivery) = b.recv().await {
            let Delivery::Request(request) = delivery else { panic!("want a request") };
            assert_eq!(request.from, from);
            match &request.data[..] {
                b"refuse" => request.refuse(),
                b"forget" => never.push(request.accept()),
                data => {
                    let reply = [data, b"!"].concat();
                    request.reply(reply).await.expect("somebody waits");
                }
            }
        }
    }));
    world.run("the answers", async {
        assert_eq!(a.request(to, "yes", None).await, Ok(Bytes::from_static(b"yes!")));
        assert_eq!(a.request(to, "refuse", None).await, Err(RequestError::Failed(Reason::Refused)));
        let short = Some(std::time::Duration::from_millis(300));
        assert_eq!(a.request(to, "forget", short).await, Err(RequestError::Failed(Reason::Timeout)));
    });
}

/// Best effort: of many, one arrives.
pub fn datagrams_pass(make: MakeRuntime<'_>) {
    let world = World::new(make);
    let (_server, a, b) = world.pair(|_| {});
    world.run("a message, so that there is a link", async {
        let delivered = async { send(&a, &b, "link").await };
        let (outcome, ()) = futures_lite::future::zip(delivered, async { next_message(&b).await.accept() }).await;
        assert_eq!(outcome, Outcome::Delivered);
    });
    world.run("a datagram", async {
        let sending = async {
            loop {
                a.datagram(b.id(), "quick").await.expect("a link and a small datagram");
                world.pause(20).await;
            }
        };
        let arrived = futures_lite::future::or(async { b.recv_datagram().await }, sending).await;
        assert_eq!(arrived, Some((a.id(), Bytes::from_static(b"quick"))));
        let big = a.datagram(b.id(), vec![0; 70_000]).await;
        assert!(matches!(big, Err(CommandError::TooLarge { .. })), "{big:?}");
    });
}

/// A stream to a peer that sends everything back.
pub fn a_stream_carries_bulk_both_ways(make: MakeRuntime<'_>) {
    let world = World::new(make);
    let (_server, a, b) = world.pair(|_| {});
    let (to, from) = (b.id(), a.id());
    world.runtime.spawn(Box::pin(async move {
        let (remote, mut stream) = b.accept_stream().await.expect("a stream");
        assert_eq!(remote, from);
        while let Some(piece) = stream.read(64 * 1024).await.expect("it goes on") {
            stream.write(piece).await.expect("it goes on");
        }
        stream.finish().await.expect("it ends well");
        b.ended().await;
    }));
    let data: Bytes = (0..8 * 1024 * 1024_u32).map(|at| (at / 4_099) as u8).collect();
    world.run("the echo", async {
        // a stream makes its link, once the tables show the other end
        let stream = loop {
            match a.open_stream(to).await {
                Ok(stream) => break stream,
                Err(CommandError::Failed(_)) => world.pause(20).await,
                Err(error) => panic!("{error}"),
            }
        };
        let (mut reader, mut writer) = futures_lite::io::split(stream);
        let writing = async {
            use futures_lite::io::AsyncWriteExt;
            writer.write_all(&data).await.expect("it goes on");
            writer.close().await.expect("it ends well");
        };
        let reading = async {
            use futures_lite::io::AsyncReadExt;
            let mut echoed = Vec::new();
            reader.read_to_end(&mut echoed).await.expect("it goes on");
            echoed
        };
        let ((), echoed) = futures_lite::future::zip(writing, reading).await;
        assert!(data == echoed);
    });
}

/// With `relay_only` the path is by way of the server, and everything works all the same.
pub fn peers_talk_through_a_server(make: MakeRuntime<'_>) {
    let world = World::new(make);
    let (server, a, b) = world.pair(|options| options.relay_only = true);
    world.run("a relayed message", async {
        let sending = async { send(&a, &b, "by way of the server").await };
        let receiving = async { next_message(&b).await.accept() };
        let (outcome, ()) = futures_lite::future::zip(sending, receiving).await;
        assert_eq!(outcome, Outcome::Delivered);
        let status = a.status().await.expect("running");
        let peer = status.peers.iter().find(|peer| peer.info.id == b.id()).expect("in the directory");
        assert_eq!((peer.linked, peer.kind, peer.via), (true, Some(PathKind::Relayed), Some(server.id())));
    });
}

/// Nodes that have nothing but IPv6.
pub fn messages_pass_over_ipv6(make: MakeRuntime<'_>) {
    let world = World::new(make);
    let listen = vec![SocketAddr::from((Ipv6Addr::LOCALHOST, 0))];
    if std::net::UdpSocket::bind(listen[0]).is_err() {
        return; // this machine has no IPv6
    }
    let mut options = world.server(1);
    options.listen = listen.clone();
    let server = world.start(options);
    let [a, b] = [2, 3].map(|seed| {
        let mut options = world.peer(seed, &server);
        options.listen = listen.clone();
        world.start(options)
    });
    world.acquainted(&a, &b);
    world.run("a message", async {
        let receiving = async { next_message(&b).await.accept() };
        let (outcome, ()) = futures_lite::future::zip(send(&a, &b, "six"), receiving).await;
        assert_eq!(outcome, Outcome::Delivered);
    });
}
