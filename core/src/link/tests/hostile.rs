//! What strangers, recorders and a remote that breaks the rules achieve.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use quinn_proto::{Dir, Side as QuicSide, StreamId, VarInt};

use super::world::*;
use crate::{
    Config,
    link::{Link, LinkToken, LostReason, MAX_CONTROL_MESSAGE, close_code},
    path::PathKind::{Direct, Relayed},
    rng::Rng,
};

fn connected(seed: u8) -> World {
    let mut world = World::new(seed, vec![Path::new(Direct, ms(5)), Path::new(Relayed, ms(20))]);
    world.record = Some(Vec::new());
    world.connect();
    world.run_for(ms(500));
    world
}

fn accept(world: &World, env: &Arc<super::super::LinkEnv>, bytes: &[u8]) -> Option<Link<Route>> {
    Link::accept(env, world.now, LinkToken(5), [5; 32], 0, Direct, 0, BytesMut::from(bytes))
}

#[test]
fn first_packets_that_are_not_authentic_make_no_link() {
    let mut world = World::new(1, vec![Path::new(Direct, ms(5))]);
    world.record = Some(Vec::new());
    world.dial();
    world.drain();
    let first = world.record.as_ref().unwrap()[0].bytes.clone();
    let own = world.sides[ANSWERER].env.clone();
    assert!(accept(&world, &own, &first).is_some());
    assert!(accept(&world, &env(22, Config::default(), 2), &first).is_none(), "another network key");
    assert!(accept(&world, &env(33, Config::default(), 1), &first).is_none(), "another id");
    for len in [0, 1, 6, 7, 26, 40, 100, 1199] {
        assert!(accept(&world, &own, &first[..len]).is_none(), "{len} bytes of it");
    }
    let mut rng = Rng::from_seed([1; 32]);
    for _ in 0..500 {
        let mut forged = first.clone();
        let at = rng.below(forged.len() as u64) as usize;
        forged[at] ^= 1 << rng.below(8);
        assert!(accept(&world, &own, &forged).is_none(), "byte {at} changed");
        let mut garbage = vec![0; rng.below(1500) as usize];
        rng.fill(&mut garbage);
        assert!(accept(&world, &own, &garbage).is_none());
    }
}

#[test]
fn recorded_datagrams_change_nothing() {
    let mut world = connected(2);
    // what was sent before is new to who could not read it then
    world.record = Some(Vec::new());
    world.sides[DIALLER].bulk.insert(0, (200_000, 0));
    world.run_for(ms(3000));
    let record = world.record.take().unwrap();
    let before: Vec<_> = world.sides.iter_mut().map(|side| side.link().stats()).collect();
    let routes: Vec<_> = world.sides.iter_mut().map(|side| side.link().route()).collect();
    world.record = Some(Vec::new());
    for flight in &record {
        for route in [0, 1] {
            assert!(!world.deliver(flight.to, route, flight.ecn, &flight.bytes), "a recorded probe counted");
        }
    }
    world.drain();
    assert_eq!(world.record.as_ref().unwrap().len(), 0, "an answer to recorded datagrams");
    for (side, (before, route)) in world.sides.iter_mut().zip(before.into_iter().zip(routes)) {
        let after = side.link().stats();
        assert_eq!(after.datagrams_received, before.datagrams_received);
        assert!(after.datagrams_refused > before.datagrams_refused);
        assert_eq!(side.link().route(), route);
        assert_eq!(side.lost(), None);
    }
}

#[test]
fn recorded_and_forged_datagrams_keep_no_link_alive() {
    let lifetime = |attack: bool| {
        let mut world = connected(3);
        world.run_for(ms(5000));
        let record = world.record.take().unwrap();
        let mut rng = Rng::from_seed([3; 32]);
        world.paths.iter_mut().for_each(|path| path.up = [false; 2]);
        let cut = world.now;
        while world.sides[DIALLER].lost().is_none() {
            world.run_for(ms(100));
            for flight in record.iter().filter(|_| attack) {
                world.deliver(flight.to, flight.route, flight.ecn, &flight.bytes);
                let mut forged = flight.bytes.clone();
                let at = rng.below(forged.len() as u64) as usize;
                forged[at] ^= 0x10;
                world.deliver(flight.to, flight.route, flight.ecn, &forged);
            }
            assert!(world.now - cut < ms(31_000), "kept alive");
        }
        assert_eq!(world.sides[DIALLER].lost(), Some(&LostReason::TimedOut));
        world.now - cut
    };
    assert_eq!(lifetime(false), lifetime(true));
}

#[test]
fn a_forger_beside_the_path_disturbs_no_transfer() {
    let mut world = connected(4);
    world.sides[DIALLER].bulk.insert(0, (3_000_000, 0));
    let mut rng = Rng::from_seed([4; 32]);
    while world.received(ANSWERER) < 3_000_000 {
        world.run_for(ms(1));
        let recent = world.record.as_ref().unwrap().iter().rev().take(3).cloned().collect::<Vec<_>>();
        for flight in recent {
            let mut forged = flight.bytes.clone();
            let at = rng.below(forged.len() as u64) as usize;
            forged[at] ^= 1 << rng.below(8);
            world.deliver(flight.to, flight.route, rng.below(4) as u8, &forged);
        }
        world.record.as_mut().unwrap().clear();
        assert!(world.now - world.start < ms(30_000));
    }
    assert!(world.sides.iter().all(|side| side.lost().is_none()));
}

/// The dialler does `wrong`; what the answerer makes of it.
fn violation<T>(wrong: impl FnOnce(&mut Link<Route>) -> T) -> String {
    let mut world = connected(5);
    wrong(world.sides[DIALLER].link());
    let now = world.now;
    world.sides[DIALLER].link().touch(now);
    assert!(world.run_until(ms(200), |world| world.sides.iter().all(|side| side.lost().is_some())), "not noticed");
    let Some(LostReason::Violation(text)) = world.sides[ANSWERER].lost() else {
        panic!("{:?}", world.sides[ANSWERER].lost())
    };
    match world.sides[DIALLER].lost() {
        Some(LostReason::Closed { code: close_code::VIOLATION | close_code::TRANSPORT, reason }) => {
            assert!(reason.contains(text.as_str()) || text.contains(reason.as_str()), "{reason} for {text}");
        }
        other => panic!("{other:?}"),
    }
    text.clone()
}

fn open(link: &mut Link<Route>, dir: Dir, bytes: &[u8]) -> StreamId {
    let id = link.conn.streams().open(dir).unwrap();
    assert_eq!(link.conn.send_stream(id).write(bytes), Ok(bytes.len()));
    id
}

#[test]
fn broken_rules_end_the_link_with_a_text() {
    let text = violation(|link| open(link, Dir::Uni, &[9]));
    assert_eq!(text, "one-way stream 1 of kind 9");
    let text = violation(|link| open(link, Dir::Uni, &[0, 1, 2, 3]));
    assert_eq!(text, "a second control stream");
    let text = violation(|link| open(link, Dir::Uni, &[1, 16]));
    assert_eq!(text, "a stream for lane 16, which cannot be");
    let text = violation(|link| {
        open(link, Dir::Uni, &[1, 3]);
        open(link, Dir::Uni, &[1, 3]);
    });
    assert_eq!(text, "two streams for lane 3");
    let text = violation(|link| {
        let id = open(link, Dir::Uni, &[]);
        link.conn.send_stream(id).finish().unwrap();
    });
    assert_eq!(text, "one-way stream 1 ended");
    let control = StreamId::new(QuicSide::Client, Dir::Uni, 0);
    let text = violation(|link| link.conn.send_stream(control).finish().unwrap());
    assert_eq!(text, "one-way stream 0 ended");
    let text = violation(|link| link.conn.send_stream(control).reset(VarInt::from_u32(1)).unwrap());
    assert_eq!(text, "one-way stream 0 ended");
    let text = violation(|link| {
        let remote = StreamId::new(QuicSide::Server, Dir::Uni, 0);
        link.conn.recv_stream(remote).stop(VarInt::from_u32(1)).unwrap();
    });
    assert_eq!(text, "one-way stream 0 refused");
    let text = violation(|link| open(link, Dir::Bi, &[7]));
    assert_eq!(text, "a byte stream of another kind");
    let text = violation(|link| link.lanes.writer.push_raw(&(MAX_CONTROL_MESSAGE as u32 + 1).to_be_bytes()));
    assert_eq!(text, format!("control message of {} bytes, at most {MAX_CONTROL_MESSAGE}", MAX_CONTROL_MESSAGE + 1));
}

#[test]
fn a_remote_cannot_open_more_streams_than_allowed() {
    let mut world = connected(6);
    let max = u64::from(Config::default().max_streams);
    for _ in 0..20 {
        let link = world.sides[DIALLER].link();
        while let Some(id) = link.conn.streams().open(Dir::Bi) {
            link.conn.send_stream(id).write(&[2, 0]).unwrap();
        }
        let now = world.now;
        link.touch(now);
        world.run_for(ms(50));
    }
    let answerer = world.sides[ANSWERER].link();
    assert_eq!(answerer.conn.streams().remote_open_streams(Dir::Bi), max);
    assert_eq!(answerer.conn.max_concurrent_streams(Dir::Bi), max);
}

#[test]
fn what_the_node_does_not_take_stays_bounded() {
    let mut world = connected(7);
    let message = Bytes::from(vec![1; 50_000]);
    for _ in 0..100 {
        world.sides[DIALLER].link().send_control(&message).unwrap();
    }
    // the answerer's node takes no events
    let answerer = world.sides[ANSWERER].link.take().unwrap();
    let mut answerer = answerer;
    for _ in 0..200 {
        world.run_for(ms(5));
        for flight in std::mem::take(&mut world.flights) {
            let flight = flight.0;
            if flight.to == ANSWERER && flight.bytes[0] >> 6 != 0b10 {
                answerer.handle_datagram(world.now, 0, Direct, 0, BytesMut::from(&flight.bytes[..]));
            }
        }
        let mut buf = Vec::new();
        while let Some(transmit) = answerer.poll_transmit(world.now, 1, &mut buf) {
            let _ = transmit;
            world.deliver(DIALLER, 0, 0, &buf);
            buf.clear();
        }
        if answerer.deadline().is_some_and(|(at, _)| at <= world.now) {
            answerer.handle_timeout(world.now);
        }
    }
    let mut taken = 0;
    while answerer.lanes.reader.pop().is_some() {
        taken += 1;
    }
    assert!((1..=7).contains(&taken), "{taken} messages waited");
}
