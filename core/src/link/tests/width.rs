//! Paths that take packets of different sizes.

use super::world::*;
use crate::path::PathKind::Relayed;

const MIB: u64 = 1024 * 1024;

/// The relay of route 0 is the nearer one, and reaches the other end by IPv6: its packets have 20 bytes less.
fn two_relays(mtu: usize) -> Vec<Path> {
    let path = |delay| Path::new(Relayed, ms(delay));
    let mut paths = vec![path(70), path(75)];
    paths[0].mtu = mtu;
    paths
}

#[test]
fn the_search_for_the_size_asks_the_path_in_use_alone() {
    let mut world = World::new(1, two_relays(1_206));
    world.connect();
    // a copy on the wide path would be acknowledged for the narrow one
    while world.now - world.start < ms(5_000) {
        let now = world.now;
        world.sides[DIALLER].link().challenge(now);
        world.run_for(ms(50));
    }
    let link = world.sides[DIALLER].link();
    assert_eq!((link.route(), link.stats().switches), (Some(0), 0));
    assert!(link.stats().doubled > 0 && link.stats().mtu <= 1_206, "{:?}", link.stats());
}

#[test]
fn packets_shrink_when_the_path_in_use_becomes_narrow_though_their_copies_arrive_on_another() {
    let mut world = World::new(2, two_relays(usize::MAX));
    world.connect();
    world.run_for(ms(5_000));
    assert!(world.sides[DIALLER].link().stats().mtu > 1_400);
    world.paths[0].mtu = 1_206;
    world.sides[DIALLER].bulk.insert(0, (2 * MIB, 0));
    let done = world.run_until(ms(5_000), |world| world.received(ANSWERER) == 2 * MIB);
    let received = world.received(ANSWERER);
    let link = world.sides[DIALLER].link();
    assert!(done, "{received} bytes in 5 s, {:?}", link.stats());
    assert_eq!((link.route(), link.stats().switches), (Some(0), 0));
}
