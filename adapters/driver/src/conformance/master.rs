//! The Master: sending to it, being it, and the members of the cluster.

use bytes::Bytes;
use p2pcore::{
    CommandError, Event, Reason,
    master::{self, Kind, MasterView},
    node::{MemberCommand, Outcome, SendOptions},
};

use super::{
    MakeRuntime,
    world::{World, event, next_message},
};
use crate::{Delivery, MasterGuard, NodeHandle, RequestError};

/// Three servers that are voters.
fn cluster(world: &World) -> [NodeHandle; 3] {
    let first = world.start(world.server(1));
    let [second, third] = [2, 3].map(|seed| {
        let mut options = world.server(seed);
        options.found = false;
        options.join = first.listen_addresses().to_vec();
        world.start(options)
    });
    let servers = [first, second, third];
    for server in &servers {
        world.run("three voters and a Master", async {
            loop {
                let members = server.members().await.expect("running");
                let voters = members.iter().filter(|member| member.is_voter).count();
                if voters == 3 && server.master().and_then(|view| view.kind()) == Some(Kind::Elected) {
                    break;
                }
                world.pause(20).await;
            }
        });
    }
    servers
}

/// The guard of whichever of these is Master, and its index.
async fn guard(world: &World, servers: &[NodeHandle]) -> (MasterGuard, usize) {
    loop {
        let guards = servers.iter().enumerate().filter_map(|(index, server)| Some((server.guard()?, index)));
        let guards = guards.collect::<Vec<_>>();
        let valid = || guards.iter().filter(|(guard, _)| guard.is_valid()).count();
        // asked one after the other, one may have followed the other; not so again
        assert!(valid() <= 1 || valid() <= 1, "{guards:?}");
        match guards.into_iter().find(|(guard, _)| guard.is_valid()) {
            Some(found) => return found,
            None => world.pause(10).await,
        }
    }
}

/// Waits until this node shows that one as Master.
async fn shows(world: &World, node: &NodeHandle, master: &NodeHandle) {
    while node.master().and_then(|view| view.master()) != Some(master.id()) {
        world.pause(10).await;
    }
}

/// From a peer and from the Master itself; the outcome names the Master, and a request gets its reply.
pub fn what_is_for_the_master_reaches_it(make: MakeRuntime<'_>) {
    let world = World::new(make);
    let (server, peer, _other) = world.pair(|_| {});
    for from in [&peer, &server] {
        world.run("a message and a request", async {
            shows(&world, from, &server).await;
            let outcomes = from.send_to_master("order", SendOptions::default().lane(2)).await.expect("accepted");
            let message = next_message(&server).await;
            assert_eq!((message.from, message.lane, &message.data[..]), (from.id(), 2, &b"order"[..]));
            message.accept();
            assert_eq!(outcomes.all().await, [(server.id(), Outcome::Delivered)]);

            let asking = from.request_to_master("?", None);
            let answering = async {
                let Some(Delivery::Request(request)) = server.recv().await else { panic!("want a request") };
                request.reply("!").await.expect("somebody waits");
            };
            let (reply, ()) = futures_lite::future::zip(asking, answering).await;
            assert_eq!(reply, Ok(Bytes::from_static(b"!")));
        });
    }
}

/// A typed error, and nothing is reported later.
pub fn without_a_master_nothing_is_accepted(make: MakeRuntime<'_>) {
    let world = World::new(make);
    let mut options = world.server(1);
    (options.found, options.expect) = (false, Some(2));
    let lonely = world.start(options);
    world.run("the refusals", async {
        assert!(lonely.guard().is_none());
        let none = CommandError::Failed(Reason::NoMaster);
        let sent = lonely.send_to_master("x", SendOptions::default()).await;
        assert_eq!(sent.expect_err("nobody is there"), none);
        let asked = lonely.request_to_master("x", None).await;
        assert_eq!(asked, Err(RequestError::Rejected(none)));
        let refused = lonely.change_members(MemberCommand::Leave).await;
        assert_eq!(refused, Err(CommandError::Members(master::CommandError::NoCluster)));
    });
}

/// The office goes from server to server: no two guards at a time, each with a higher token, the old one void.
pub fn a_guard_ends_when_the_office_is_given_up_or_handed_over(make: MakeRuntime<'_>) {
    let world = World::new(make);
    let servers = cluster(&world);
    world.run("three offices", async {
        let (first, _) = guard(&world, &servers).await;
        first.resign().await.expect("it is Master");
        assert!(!first.is_valid());
        let (second, holder) = guard(&world, &servers).await;
        assert!(second.token() > first.token());
        let heir = &servers[(holder + 1) % 3];
        while heir.guard().is_none() {
            // given again if the heir was not ready
            let _ = second.transfer_to(heir.id()).await;
            world.pause(50).await;
        }
        assert!(!second.is_valid() && !first.is_valid());
        assert!(heir.guard().is_some_and(|third| third.token() > second.token()));
        shows(&world, &servers[holder], heir).await;
        let late = second.transfer_to(servers[holder].id()).await;
        assert_eq!(late, Err(CommandError::Failed(Reason::MasterChanged)));
    });
}

/// Taken by an application that is no longer the Master's: it has failed, although it arrived.
pub fn a_message_taken_after_the_office_ended_has_failed(make: MakeRuntime<'_>) {
    let world = World::new(make);
    let servers = cluster(&world);
    world.run("the outcome", async {
        let (held, holder) = guard(&world, &servers).await;
        let (master, other) = (&servers[holder], &servers[(holder + 1) % 3]);
        shows(&world, other, master).await;
        let outcomes = other.send_to_master("late", SendOptions::default()).await.expect("accepted");
        let message = next_message(master).await;
        held.resign().await.expect("it is Master");
        message.accept();
        assert_eq!(outcomes.all().await, [(master.id(), Outcome::Failed(Reason::MasterChanged))]);
    });
}

/// A server that leaves is told so, and its node ends; peers have no say.
pub fn a_server_leaves_and_ends(make: MakeRuntime<'_>) {
    let world = World::new(make);
    let servers = cluster(&world);
    let peer = world.start(world.peer(4, &servers[0]));
    world.run("the last event", async {
        let refused = peer.change_members(MemberCommand::Remove(servers[2].id())).await;
        assert_eq!(refused, Err(CommandError::NotAServer));
        assert_eq!(peer.resign().await, Err(CommandError::NotAServer));
        let events = servers[2].events();
        servers[2].change_members(MemberCommand::Leave).await.expect("it is a member");
        event(&events, |event| *event == Event::Left).await;
        servers[2].ended().await;
        let news = peer.events();
        while peer.members().await.expect("running").len() != 2 {
            world.pause(20).await;
        }
        let members = peer.members().await.expect("running");
        assert!(members.iter().all(|member| member.id != servers[2].id()), "{members:?}");
        event(&news, |event| matches!(event, Event::Master(MasterView::Master(_)))).await;
    });
}
