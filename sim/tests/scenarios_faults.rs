//! What breaks, and how soon all is well again.

use std::time::Duration;

use p2pcore::{
    Event, Reason,
    node::{Outcome, PathKind},
};
use sim::{scenario::Scenario, world::World};

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn complete(world: &mut World, stream: u64) -> bool {
    let progress = world.progress(stream);
    assert!(!progress.reset, "the stream was reset after {} bytes", progress.read);
    progress.complete
}

#[test]
fn a_relay_killed_in_mid_transfer_costs_a_moment_and_no_byte() {
    let scenario = Scenario::new(21).server("s1").server("s2").server("s3");
    let mut world = scenario.peer("p1").relay_only().peer("p2").start();
    world.expect("convergence", secs(20), |world| world.converged());
    let stream = world.stream("p1", "p2", 32 << 20);
    world.expect("some of it is there", secs(20), |world| world.progress(stream).read > 4 << 20);
    let relay = world.via("p1", "p2").expect("relayed");
    world.kill(&relay);
    let sent: Vec<_> = (0..100).map(|_| world.send("p1", "p2", 64)).collect();
    world.expect("the messages", secs(3), |world| {
        sent.iter().all(|sent| world.outcome(*sent) == Some(Outcome::Delivered))
    });
    world.expect("the whole stream", secs(60), |world| complete(world, stream));
    let stall = world.progress(stream).longest_stall;
    assert!(stall <= secs(1), "stalled for {stall:?}");
    world.assert_clean();
}

#[test]
fn all_servers_killed_is_suspended_and_one_back_is_resumed() {
    let mut world = Scenario::new(22).server("s1").server("s2").peer("p1").peer("p2").start();
    world.expect("convergence", secs(20), |world| world.converged());
    let killed = world.now();
    world.kill("s1");
    world.kill("s2");
    world.expect("suspended", secs(32), |world| world.suspended("p1") && world.suspended("p2"));
    let told = |event: &Event| *event == Event::Suspended;
    assert!(world.seen_at("p1", killed, told).is_some() && world.seen_at("p2", killed, told).is_some());
    world.run_for(secs(20));
    world.revive("s2");
    world.expect("resumed", secs(5), |world| !world.suspended("p1") && !world.suspended("p2"));
    let sent = world.send("p1", "p2", 100);
    world.expect("the next message", secs(5), |world| world.outcome(sent) == Some(Outcome::Delivered));
    world.assert_clean();
}

#[test]
fn a_goodbye_leaves_the_tables_at_once_and_a_crash_within_30_s() {
    let mut world = Scenario::new(23).server("s1").server("s2").peer("p1").peer("p2").peer("p3").start();
    world.expect("convergence", secs(20), |world| world.converged());
    world.stop("p2");
    world.expect("p2 is gone", secs(1), |world| !world.is_running("p2") && world.converged());
    world.kill("p3");
    world.expect("p3 is gone", secs(31), |world| world.converged());
    world.assert_clean();
}

#[test]
fn a_peer_whose_introducer_is_gone_starts_from_its_state() {
    let mut world = Scenario::new(24).server("s1").server("s2").peer("p1").joining(&["s1"]).start();
    world.expect("convergence", secs(20), |world| world.converged());
    world.run_for(secs(2));
    world.kill("p1");
    world.kill("s1");
    world.run_for(secs(40));
    world.revive("p1");
    world.expect("linked to the other server", secs(10), |world| world.linked("p1", "s2"));
    world.assert_clean();
}

#[test]
fn a_founder_that_restarts_with_its_first_command_line_finds_its_cluster() {
    let mut world = Scenario::new(25).server("s1").server("s2").peer("p1").start();
    world.expect("convergence", secs(20), |world| world.converged());
    world.run_for(secs(2));
    world.kill("s1");
    world.run_for(secs(3));
    world.revive("s1");
    world.expect("one cluster", secs(20), |world| world.converged());
    let foreign = |event: &Event| matches!(event, Event::Warning(_));
    for name in ["s1", "s2", "p1"] {
        assert_eq!(world.seen_at(name, Duration::ZERO, foreign), None, "{name}");
    }
    world.assert_clean();
}

#[test]
fn a_message_to_a_server_that_is_gone_fails_soon_and_to_one_that_restarts_arrives() {
    let mut world = Scenario::new(30).server("s1").server("s2").server("s3").peer("p1").start();
    world.expect("convergence", secs(20), |world| world.converged());
    world.stop("s2");
    world.stop("s3");
    world.expect("both are gone", secs(1), |world| !world.is_running("s2") && !world.is_running("s3"));
    let [bridged, failed] = ["s2", "s3"].map(|to| world.send("p1", to, 100));
    world.run_for(secs(1));
    world.revive("s2");
    let offline = Some(Outcome::Failed(Reason::Offline));
    world.expect("certain failure", secs(4), |world| world.outcome(failed) == offline);
    world.expect("delivery", secs(5), |world| world.outcome(bridged) == Some(Outcome::Delivered));
    let late = world.send("p1", "s3", 100);
    world.run_for(Duration::from_millis(10));
    assert_eq!(world.outcome(late), offline);
    world.assert_clean();
}

#[test]
fn a_server_without_its_disk_joins_again() {
    let mut world = Scenario::new(26).server("s1").server("s2").peer("p1").start();
    world.expect("convergence", secs(20), |world| world.converged());
    world.kill("s2");
    world.lose_disk("s2");
    world.run_for(secs(1));
    world.revive("s2");
    world.expect("convergence", secs(45), |world| world.converged());
    world.assert_clean();
}

#[test]
fn a_server_alone_with_its_state_serves_peers() {
    let mut world =
        Scenario::new(27).server("s1").server("s2").peer("p1").joining(&["s2"]).peer("p2").joining(&["s2"]).start();
    world.expect("convergence", secs(20), |world| world.converged());
    world.run_for(secs(2));
    ["s1", "s2"].iter().for_each(|name| world.kill(name));
    world.run_for(secs(35));
    world.revive("s2");
    // the younger of two members is no Elected Master, but serves
    world.expect("links", secs(10), |world| world.linked("p1", "s2") && world.linked("p1", "p2"));
    let sent = world.send("p1", "p2", 100);
    world.expect("delivery", secs(5), |world| world.outcome(sent) == Some(Outcome::Delivered));
    world.assert_clean();
}

#[test]
fn a_direct_path_that_dies_under_load_is_left_within_a_second() {
    let mut world = Scenario::new(28).server("s1").peer("p1").peer("p2").start();
    world.expect("a direct path", secs(20), |world| {
        world.converged() && world.kind("p1", "p2") == Some(PathKind::Direct)
    });
    for one_way in [false, true] {
        let stream = world.stream("p1", "p2", 24 << 20);
        world.expect("some of it is there", secs(20), |world| world.progress(stream).read > 4 << 20);
        let cut = if one_way { world.cut_one_way("p1", "p2") } else { world.cut("p1", "p2") };
        world.expect("the whole stream", secs(60), |world| complete(world, stream));
        let stall = world.progress(stream).longest_stall;
        assert!(stall <= secs(1), "stalled for {stall:?}, one way: {one_way}");
        assert_eq!(world.kind("p1", "p2"), Some(PathKind::Relayed));
        world.mend(cut);
        world.expect("a direct path again", secs(310), |world| world.kind("p1", "p2") == Some(PathKind::Direct));
    }
    world.assert_clean();
}

#[test]
fn an_interface_that_goes_down_costs_a_moment() {
    let mut world = Scenario::new(29).server("s1").peer("p1").interfaces(2).peer("p2").start();
    world.expect("convergence", secs(20), |world| world.converged());
    let stream = world.stream("p1", "p2", 24 << 20);
    world.expect("some of it is there", secs(20), |world| world.progress(stream).read > 4 << 20);
    world.interface("p1", 0, false);
    world.expect("the whole stream", secs(60), |world| complete(world, stream));
    let stall = world.progress(stream).longest_stall;
    assert!(stall <= secs(1), "stalled for {stall:?}");
    world.assert_clean();
}

#[test]
fn a_pause_shorter_than_a_death_loses_nothing() {
    let mut world = Scenario::new(30).server("s1").peer("p1").peer("p2").start();
    world.expect("convergence", secs(20), |world| world.converged());
    world.pause("p2");
    let sent: Vec<_> = (0..200).map(|_| world.send("p1", "p2", 200)).collect();
    world.run_for(secs(3));
    world.wake_up("p2");
    world
        .expect("delivery", secs(20), |world| sent.iter().all(|sent| world.outcome(*sent) == Some(Outcome::Delivered)));
    world.assert_clean();
}

/// A machine that was suspended: its clock jumps, and all others have gone on.
#[test]
fn a_node_that_stood_still_for_an_hour_finds_back() {
    let mut world = Scenario::new(31).server("s1").server("s2").peer("p1").peer("p2").peer("p3").start();
    world.expect("convergence", secs(20), |world| world.converged());
    for name in ["p2", "s2"] {
        world.pause(name);
        let sent: Vec<_> = ["p1", "p3"].iter().map(|from| world.send(from, name, 200)).collect();
        world.run_for(secs(3_600));
        assert!(sent.iter().all(|sent| world.outcome(*sent).is_some()), "an outcome for each");
        world.wake_up(name);
        world.expect("convergence", secs(60), |world| world.converged());
        let sent = [("p1", name), (name, "p3")].map(|(from, to)| world.send(from, to, 200));
        world.expect("delivery", secs(5), |world| {
            sent.iter().all(|sent| world.outcome(*sent) == Some(Outcome::Delivered))
        });
    }
    world.assert_clean();
}
