//! What holds for any links and any faults. The world checks at each step that nothing spins and that no unproven path is used.

use std::time::Duration;

use proptest::prelude::*;

use super::world::{Route, World, ms};
use crate::path::PathKind::{self, Direct, Punched, Relayed};

#[derive(Clone, Debug)]
struct Fault {
    after: u64,
    route: Route,
    up: [bool; 2],
    loss_percent: u64,
    delay: u64,
}

fn links() -> impl Strategy<Value = Vec<(PathKind, u64)>> {
    proptest::collection::vec((prop_oneof![Just(Direct), Just(Punched), Just(Relayed)], 1u64..200), 1..6)
}

fn faults() -> impl Strategy<Value = Vec<Fault>> {
    let fault = (0u64..3_000, 0u8..6, any::<[bool; 2]>(), prop_oneof![Just(0u64), 0u64..60], 1u64..400);
    let fault =
        fault.prop_map(|(after, route, up, loss_percent, delay)| Fault { after, route, up, loss_percent, delay });
    proptest::collection::vec(fault, 0..25)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_link_that_lives_converges_to_the_best_living_class(
        links in links(),
        faults in faults(),
        streams in any::<[bool; 2]>(),
        healed in any::<u8>(),
    ) {
        let links: Vec<_> = (0u8..).zip(links).map(|(route, (kind, delay))| (route, kind, delay)).collect();
        let mut world = World::new(&links);
        for (end, streams) in streams.into_iter().enumerate() {
            world.stream(end, streams.then_some(ms(20)));
        }
        for fault in faults {
            world.run(ms(fault.after));
            if let Some(wire) = world.wires.get_mut(&fault.route) {
                for (way, up) in wire.ways.iter_mut().zip(fault.up) {
                    (way.up, way.loss_percent, way.delay) = (up, fault.loss_percent, ms(fault.delay));
                }
            }
        }
        // one at least
        let healed = |route: Route| healed >> route & 1 == 1 || usize::from(healed) % links.len() == usize::from(route);
        for &(route, _, delay) in &links {
            let wire = world.wires.get_mut(&route).unwrap();
            for way in &mut wire.ways {
                (way.up, way.loss_percent, way.delay) = (healed(route), 0, ms(delay));
            }
        }
        world.run(Duration::from_secs(400));
        prop_assume!(world.ends.iter().all(|end| !end.is_dead()));
        let best = links.iter().filter(|link| healed(link.0)).map(|link| link.1).min();
        for end in &world.ends {
            prop_assert_eq!(end.set.kind(), best);
            prop_assert!(healed(end.best()), "the path in use is dead");
            prop_assert!(end.set.routes(world.now).unwrap().double.is_none(), "still in doubt");
        }
    }

    #[test]
    fn with_a_relay_that_lives_nothing_dies_and_data_stops_for_a_second_at_most(
        links in links(),
        cuts in proptest::collection::vec((500u64..5_000, 1u8..6, any::<[bool; 2]>()), 1..15),
    ) {
        let others = (1u8..).zip(links).map(|(route, (kind, delay))| (route, kind, delay / 2 + 1));
        let links: Vec<_> = [(0, Relayed, 40)].into_iter().chain(others).collect();
        let mut world = World::new(&links);
        world.run(Duration::from_secs(2));
        world.stream(0, Some(ms(10)));
        world.stream(1, Some(ms(10)));
        let from = world.elapsed() + ms(500);
        for (after, route, up) in cuts {
            world.run(ms(after));
            if world.wires.contains_key(&route) {
                world.set_up(route, up);
            }
        }
        world.run(Duration::from_secs(2));
        for end in 0..2 {
            prop_assert!(!world.ends[end].is_dead());
            let blackout = world.blackout(end, from);
            prop_assert!(blackout <= ms(1_000), "{:?}", blackout);
        }
    }
}
