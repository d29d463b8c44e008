//! Much at once.

use std::time::Duration;

use p2pcore::node::Outcome;
use sim::{
    plan::{Effect, LinkModel, Selector},
    scenario::Scenario,
    world::World,
};

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn gigabit() -> LinkModel {
    LinkModel {
        delay_us: (5_000, 5_000),
        jitter_us: 100,
        bandwidth_bps: Some(1_000_000_000),
        queue_bytes: 500_000,
        ..LinkModel::default()
    }
}

fn complete(world: &mut World, stream: u64) -> bool {
    let progress = world.progress(stream);
    assert!(!progress.reset, "the stream was reset after {} bytes", progress.read);
    progress.complete
}

/// The two families are two paths; every two seconds the one in use dies and the other is well again.
#[test]
fn bulk_at_a_gigabit_survives_the_death_of_its_path_every_two_seconds() {
    const STREAMS: usize = 4;
    const DEATHS: usize = 5;
    let mut world = Scenario::new(41).server("s1").peer("p1").peer("p2").links(gigabit()).start();
    world.expect("convergence", secs(20), |world| world.converged());
    let streams: Vec<u64> = (0..STREAMS).map(|_| world.stream("p1", "p2", 4 << 30)).collect();
    for death in 0..DEATHS {
        world.run_for(secs(1));
        let family = Selector { ipv6: Some(death % 2 == 0), ..Selector::way("p1", "p2", true) };
        let cut = world.begin(&family, Effect::Block);
        world.run_for(secs(1));
        world.mend(cut);
        assert!(world.linked("p1", "p2") && world.linked("p2", "p1"), "the link died with its path");
    }
    let mut rates = [0; 2 * DEATHS];
    for stream in streams {
        let progress = world.progress(stream);
        assert!(!progress.reset, "a stream was reset after {} bytes", progress.read);
        assert!(progress.longest_stall <= secs(1), "stalled for {:?}", progress.longest_stall);
        rates.iter_mut().zip(&progress.per_second).for_each(|(rate, bytes)| *rate += bytes);
    }
    let rates = rates.map(|bytes| bytes / 1_000_000);
    println!("MB in each second: {rates:?}");
    assert!(rates.iter().all(|rate| *rate >= 5), "a second at a gigabit with less than 5 MB: {rates:?}");
    world.assert_clean();
}

/// The first update of the keys comes within the first thousand packets of each side, later ones by the limits of the
/// cipher; 8 MiB are six thousand packets.
#[test]
fn keys_are_updated_in_the_middle_of_a_transfer() {
    let mut world = Scenario::new(42).server("s1").peer("p1").peer("p2").start();
    world.expect("convergence", secs(20), |world| world.converged());
    let peers = ["p1", "p2"];
    let updates = |world: &World| peers.map(|name| world.counter(name, "key updates"));
    let before = updates(&world);
    let streams = [world.stream("p1", "p2", 8 << 20), world.stream("p2", "p1", 8 << 20)];
    let updated = |world: &mut World| updates(world).iter().zip(before).all(|(now, before)| *now > before);
    world.expect("new keys at both ends", secs(60), updated);
    let read = streams.map(|stream| world.progress(stream).read);
    assert!(read.iter().any(|read| (1..8 << 20).contains(read)), "not in the middle: {read:?} bytes");
    world.expect("both ways", secs(60), |world| streams.iter().all(|stream| complete(world, *stream)));
    println!("key updates {before:?} before, {:?} after; the first with {read:?} bytes read", updates(&world));
    world.assert_clean();
}

#[test]
fn small_messages_pass_a_large_one_of_another_lane() {
    let mut world = Scenario::new(43).server("s1").peer("p1").peer("p2").links(gigabit()).start();
    world.expect("convergence", secs(20), |world| world.converged());
    let large = world.try_send("p1", "p2", 16 << 20, 0).expect("room for a large message");
    world.run_for(Duration::from_millis(50));
    let small: Vec<_> = (0..100).filter_map(|_| world.try_send("p1", "p2", 64, 1)).collect();
    assert_eq!(small.len(), 100);
    world.expect("the small ones", secs(1), |world| {
        small.iter().all(|sent| world.outcome(*sent) == Some(Outcome::Delivered))
    });
    assert_eq!(world.outcome(large), None, "the large one should still be on its way");
    world.expect("the large one", secs(30), |world| world.outcome(large) == Some(Outcome::Delivered));
    world.assert_clean();
}

#[test]
fn a_hundred_thousand_small_messages_arrive_once_each_and_in_order() {
    let mut world = Scenario::new(44).server("s1").peer("p1").peer("p2").links(gigabit()).start();
    world.expect("convergence", secs(20), |world| world.converged());
    let mut sent = 0;
    while sent < 100_000 {
        while sent < 100_000 && world.try_send("p1", "p2", 64, 0).is_some() {
            sent += 1;
        }
        world.run_for(Duration::from_millis(5));
        assert!(world.now() < secs(120), "only {sent} messages were accepted");
    }
    world.expect("all outcomes", secs(60), |world| world.open_messages() == 0);
    assert_eq!((world.counts().sent, world.counts().delivered), (sent, sent));
    world.assert_clean();
}

#[test]
fn a_slow_reader_slows_its_sender_and_nobody_else() {
    let scenario = Scenario::new(45).server("s1").peer("p1").peer("slow").reading(Duration::from_millis(5));
    let mut world = scenario.peer("p3").start();
    world.expect("convergence", secs(20), |world| world.converged());
    let slow: Vec<_> = (0..5_000).filter_map(|_| world.try_send("p1", "slow", 1_000, 0)).collect();
    let quick = world.send("p1", "p3", 1_000);
    world.expect("the quick one", secs(1), |world| world.outcome(quick) == Some(Outcome::Delivered));
    world.expect("the slow ones", secs(40), |world| {
        slow.iter().all(|sent| world.outcome(*sent) == Some(Outcome::Delivered))
    });
    world.assert_clean();
}
