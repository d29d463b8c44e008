//! From the handshake to the goodbye.

use bytes::Bytes;

use super::world::*;
use crate::{
    Config,
    link::{LinkEvent, LostReason, MAX_CLOSE_REASON, close_code},
    path::PathKind::{Direct, Punched, Relayed},
};

fn direct() -> Path {
    Path::new(Direct, ms(5))
}

#[test]
fn both_ends_agree_on_who_they_are_and_on_secrets() {
    let mut world = World::new(1, vec![direct()]);
    world.connect();
    let established = [DIALLER, ANSWERER].map(|side| match &world.sides[side].events[..] {
        [LinkEvent::Established { remote, key, nonce }] => (*remote, *key, *nonce),
        other => panic!("{other:?}"),
    });
    for (side, (remote, key, nonce)) in established.into_iter().enumerate() {
        let other = &world.sides[1 - side];
        assert_eq!((remote, key), (other.id, *other.env.handshake.public_key()));
        assert_eq!(nonce, established[0].2);
    }
    let exports = [DIALLER, ANSWERER].map(|side| {
        let link = world.sides[side].link();
        (link.export(b"one"), link.export(b"two"))
    });
    assert_eq!(exports[0], exports[1]);
    assert_ne!(exports[0].0, exports[0].1);
}

#[test]
fn control_messages_arrive_whole_and_in_order_over_a_lossy_path() {
    let mut world = World::new(2, vec![direct().lossy(100)]);
    world.connect();
    let messages: Vec<_> = (0..1000_u32).map(|i| Bytes::from(vec![i as u8; i as usize])).collect();
    for side in [DIALLER, ANSWERER] {
        messages.iter().for_each(|message| world.sides[side].link().send_control(message).unwrap());
    }
    assert!(world.run_until(ms(20_000), |world| world.sides.iter().all(|side| side.controls().len() == 1000)));
    assert!(world.sides.iter().all(|side| side.controls() == messages));
}

#[test]
fn dead_candidates_do_not_hold_up_a_dial() {
    let mut world = World::new(3, vec![direct(), direct(), Path::new(Relayed, ms(20)), direct()]);
    for route in [0, 1, 3] {
        world.paths[route].up = [false; 2];
    }
    let started = world.now;
    world.connect();
    // two round trips and the preface
    assert!(world.now - started <= ms(130), "{:?}", world.now - started);
    assert_eq!(world.sides[DIALLER].link().kind(), Some(Relayed));
}

#[test]
fn a_better_path_takes_over_and_both_ends_are_told() {
    let mut world =
        World::new(4, vec![Path::new(Relayed, ms(2)), Path::new(Punched, ms(10)), Path::new(Direct, ms(30))]);
    world.dial_over(vec![(0, Relayed)], None, None);
    assert!(world.run_until(ms(1000), |world| world.sides.iter().all(Side::established)));
    let now = world.now;
    for route in [1, 2] {
        let kind = world.paths[route].kind;
        world.sides[DIALLER].link().add_candidate(now, route as Route, kind);
    }
    world.run_for(ms(1000));
    for side in &mut world.sides {
        let changes: Vec<_> =
            side.events.iter().filter(|event| matches!(event, LinkEvent::PathChanged { .. })).cloned().collect();
        assert_eq!(changes.last(), Some(&LinkEvent::PathChanged { route: 2, kind: Direct }));
        assert_eq!((side.link().route(), side.link().kind()), (Some(2), Some(Direct)));
        assert_eq!(side.link().stats().switches, changes.len() as u64);
    }
}

#[test]
fn a_dial_that_nobody_answers_ends_in_time() {
    let mut world = World::new(5, vec![direct()]);
    world.paths[0].up = [false; 2];
    world.dial();
    let limit = Config::default().handshake_timeout;
    assert!(!world.run_until(limit - ms(1), |world| world.sides[DIALLER].lost().is_some()));
    assert!(world.run_until(ms(2), |world| world.sides[DIALLER].lost().is_some()));
    assert_eq!(world.sides[DIALLER].lost(), Some(&LostReason::HandshakeTimeout));
    world.run_for(ms(10_000));
    assert!(world.sides[DIALLER].link().is_drained());
}

#[test]
fn a_dialler_that_falls_silent_hears_nothing_more_in_the_end() {
    let mut world = World::new(6, vec![direct()]);
    world.dial();
    assert!(world.run_until(ms(100), |world| world.sides[ANSWERER].link.is_some()));
    world.sides[DIALLER].link = None;
    world.record = Some(Vec::new());
    world.run_for(Config::default().handshake_timeout + ms(1));
    let answerer = &mut world.sides[ANSWERER];
    assert_eq!(answerer.lost(), Some(&LostReason::HandshakeTimeout));
    assert!(answerer.link().is_drained());
    assert_eq!(answerer.link().deadline(), None);
    let last = world.record.take().unwrap().last().map(|flight| flight.at - world.start);
    assert!(last.is_none_or(|last| last < Config::default().handshake_timeout), "{last:?}");
}

#[test]
fn another_id_than_the_one_dialled_ends_the_dial() {
    let mut world = World::new(7, vec![direct()]);
    let own = world.sides[DIALLER].id;
    world.dial_over(vec![(0, Direct)], None, Some(own));
    assert!(world.run_until(ms(1000), |world| world.sides[DIALLER].lost().is_some()));
    assert_eq!(world.sides[DIALLER].lost(), Some(&LostReason::WrongId));
    assert!(!world.sides[ANSWERER].established());
}

#[test]
fn the_reason_of_a_goodbye_arrives() {
    for (seed, loss) in [(8, 0), (9, 300), (10, 300), (11, 300)] {
        let mut world = World::new(seed, vec![direct().lossy(loss)]);
        world.connect();
        let now = world.now;
        world.sides[ANSWERER].link().close(now, 77, "so long\n");
        assert!(world.run_until(ms(1000), |world| world.sides[DIALLER].lost().is_some()), "seed {seed}");
        let reason = "so long".to_owned();
        assert_eq!(world.sides[DIALLER].lost(), Some(&LostReason::Closed { code: 77, reason }));
        assert_eq!(world.sides[ANSWERER].lost(), None);
        world.run_for(ms(5000));
        for side in &mut world.sides {
            assert!(side.link().is_drained());
            assert_eq!(side.link().deadline(), None);
        }
    }
}

#[test]
fn who_missed_the_goodbye_hears_it_when_it_speaks() {
    let mut world = World::new(12, vec![direct()]);
    world.connect();
    world.run_for(ms(1000));
    world.paths[0].up[ANSWERER] = false;
    let now = world.now;
    world.sides[ANSWERER].link().close(now, 5, "bye");
    world.run_for(ms(1500));
    assert_eq!(world.sides[DIALLER].lost(), None);
    world.paths[0].up[ANSWERER] = true;
    world.sides[DIALLER].link().send_control(b"are you there").unwrap();
    assert!(world.run_until(ms(100), |world| world.sides[DIALLER].lost().is_some()));
}

#[test]
fn long_reasons_are_cut_between_characters() {
    let mut world = World::new(13, vec![direct()]);
    world.connect();
    let now = world.now;
    let text = "ä".repeat(MAX_CLOSE_REASON);
    world.sides[DIALLER].link().close(now, 5, &format!("x{text}"));
    assert!(world.run_until(ms(100), |world| world.sides[ANSWERER].lost().is_some()));
    let Some(LostReason::Closed { reason, .. }) = world.sides[ANSWERER].lost() else { panic!() };
    assert_eq!(reason.len(), MAX_CLOSE_REASON - 1);
    assert!(reason.starts_with("xä") && reason.ends_with('ä'));
}

#[test]
fn an_idle_link_whose_other_end_vanished_is_lost_within_30_s() {
    let mut world = World::new(14, vec![direct(), Path::new(Relayed, ms(50))]);
    world.connect();
    world.run_for(ms(60_000));
    world.sides[ANSWERER].link = None;
    assert!(world.run_until(ms(30_000), |world| world.sides[DIALLER].lost().is_some()));
    assert_eq!(world.sides[DIALLER].lost(), Some(&LostReason::TimedOut));
    world.run_for(ms(10_000));
    assert!(world.sides[DIALLER].link().is_drained());
}

#[test]
fn an_idle_link_lives_and_costs_little() {
    let mut world = World::new(15, vec![direct(), Path::new(Relayed, ms(50))]);
    world.connect();
    world.run_for(ms(60_000));
    world.record = Some(Vec::new());
    world.run_for(ms(600_000));
    assert!(world.sides.iter().all(|side| side.lost().is_none()));
    let datagrams = world.record.as_ref().unwrap().len();
    // ten minutes, two paths, a probe and its answer every 15 s from each side at most
    assert!(datagrams <= 40 * 2 * 2 * 2, "{datagrams}");
}

#[test]
fn output_that_is_queued_is_due_now() {
    let mut world = World::new(16, vec![direct()]);
    world.connect();
    world.run_for(ms(1000));
    let now = world.now;
    let link = world.sides[DIALLER].link();
    assert!(link.deadline().unwrap().0 > now);
    link.send_control(b"x").unwrap();
    assert!(link.deadline().unwrap().0 <= now);
    let mut buf = b"in use".to_vec();
    let transmit = link.poll_transmit(now, 10, &mut buf).unwrap();
    assert_eq!(buf.len(), b"in use".len() + transmit.size);
    assert!(buf.starts_with(b"in use"));
    assert!(link.deadline().unwrap().0 <= now);
    assert_eq!(link.poll_transmit(now, 10, &mut buf), None);
    assert!(link.deadline().unwrap().0 > now);
}

#[test]
fn a_remote_that_takes_no_control_messages_loses_its_link() {
    let mut world = World::new(17, vec![direct()]);
    world.connect();
    let message = vec![0; 60_000];
    let link = world.sides[DIALLER].link();
    assert!((0..1000).any(|_| link.send_control(&message).is_err()));
    world.run_for(ms(100));
    assert_eq!(world.sides[DIALLER].lost(), Some(&LostReason::Overrun));
    let Some(LostReason::Closed { code: close_code::OVERRUN, .. }) = world.sides[ANSWERER].lost() else {
        panic!("{:?}", world.sides[ANSWERER].lost())
    };
}

#[test]
fn one_seed_gives_the_same_bytes_each_time() {
    let run = |seed| {
        let mut world = World::new(seed, vec![direct().lossy(20), Path::new(Relayed, ms(30)).lossy(20)]);
        world.connect();
        world.sides[DIALLER].bulk.insert(2, (1_000_000, 0));
        world.run_for(ms(2000));
        let now = world.now;
        world.sides[DIALLER].link().close(now, 1, "done");
        world.run_for(ms(3000));
        world.trace.finalize()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}
