//! Bulk data over paths that come and go.

use super::world::*;
use crate::path::PathKind::{Direct, Relayed};

const MIB: u64 = 1024 * 1024;

#[test]
fn sixty_four_mib_cross_one_path() {
    let mut world = World::new(1, vec![Path::new(Direct, ms(1)).megabits(1000, 500_000)]);
    world.connect();
    world.sides[DIALLER].bulk.insert(0, (64 * MIB, 0));
    let started = world.now;
    assert!(world.run_until(ms(20_000), |world| world.received(ANSWERER) == 64 * MIB));
    println!("64 MiB in {:?}, {:?}", world.now - started, world.sides[DIALLER].link().stats());
    assert_eq!(world.sides[ANSWERER].lost(), None);
}
