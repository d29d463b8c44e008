//! Byte streams, lanes side by side, datagrams.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::world::*;
use crate::{
    Config,
    link::{DatagramError, LinkEvent, LinkStreamId, StreamError},
    path::PathKind::{Direct, Relayed},
};

fn connected(seed: u8) -> World {
    let mut world = World::new(seed, vec![Path::new(Direct, ms(5)).megabits(100, 250_000)]);
    world.connect();
    world
}

/// Echoes at the answerer what the dialler's streams send, until `time` is over; what came back, and which have ended.
fn echo(world: &mut World, time: u64) -> BTreeMap<LinkStreamId, (Vec<u8>, bool)> {
    let mut back: BTreeMap<LinkStreamId, (Vec<u8>, bool)> = BTreeMap::new();
    let mut open: BTreeMap<LinkStreamId, (Vec<u8>, bool)> = BTreeMap::new();
    for _ in 0..time {
        world.run_for(ms(1));
        let now = world.now;
        let answerer = &mut world.sides[ANSWERER];
        for event in std::mem::take(&mut answerer.events) {
            if let LinkEvent::StreamOpened(id) = event {
                assert_eq!(open.insert(id, (Vec::new(), false)), None);
            }
        }
        let link = answerer.link.as_mut().unwrap();
        open.retain(|id, (waiting, ended)| {
            while let Ok(Some(bytes)) = link.stream_read(now, *id, 1000)
                && !*ended
            {
                *ended |= bytes.is_empty();
                waiting.extend_from_slice(&bytes);
            }
            let written = link.stream_write(now, *id, waiting).unwrap();
            waiting.drain(..written);
            let done = *ended && waiting.is_empty();
            if done {
                link.stream_finish(now, *id).unwrap();
            }
            !done
        });
        let dialler = &mut world.sides[DIALLER];
        for event in dialler.events.clone() {
            if let LinkEvent::StreamReadable(id) = event {
                let (bytes, ended) = back.entry(id).or_default();
                while let Ok(Some(piece)) = dialler.link().stream_read(now, id, usize::MAX) {
                    *ended |= piece.is_empty();
                    if *ended {
                        break;
                    }
                    bytes.extend_from_slice(&piece);
                }
            }
        }
    }
    back
}

#[test]
fn many_streams_at_once_come_back_whole() {
    let mut world = connected(1);
    let now = world.now;
    let link = world.sides[DIALLER].link();
    let ids: Vec<_> = (0..Config::default().max_streams).map(|_| link.open_stream(now).unwrap()).collect();
    assert_eq!(link.open_stream(now), Err(StreamError::TooMany));
    let mut sent = BTreeMap::new();
    let mut unwritten: BTreeMap<_, Vec<u8>> = ids.iter().map(|id| (*id, vec![id.0 as u8; 3000])).collect();
    for (id, bytes) in &unwritten {
        sent.insert(*id, (bytes.clone(), true));
    }
    // most of them wait until the remote has lifted its limit
    assert!(unwritten.iter().filter(|(id, bytes)| link.stream_write(now, **id, bytes).unwrap() == 0).count() > 32);
    unwritten.retain(|id, bytes| id.0 >= ids[8].0 && !bytes.is_empty());
    for id in &ids {
        if !unwritten.contains_key(id) {
            link.stream_finish(now, *id).unwrap();
        }
    }
    for _ in 0..20 {
        echo_step(&mut world, &mut unwritten);
    }
    let back = echo(&mut world, 500);
    assert!(unwritten.is_empty());
    assert_eq!(back, sent);
    // both directions are over: there is room again
    let now = world.now;
    let link = world.sides[DIALLER].link();
    ids.iter().for_each(|id| assert_eq!(link.stream_read(now, *id, 1), Err(StreamError::Gone)));
    assert!(link.open_stream(now).is_ok());
}

fn echo_step(world: &mut World, unwritten: &mut BTreeMap<LinkStreamId, Vec<u8>>) {
    world.run_for(ms(5));
    let now = world.now;
    let link = world.sides[DIALLER].link();
    unwritten.retain(|id, bytes| {
        let written = link.stream_write(now, *id, bytes).unwrap();
        bytes.drain(..written);
        if bytes.is_empty() {
            link.stream_finish(now, *id).unwrap();
        }
        !bytes.is_empty()
    });
}

#[test]
fn a_stream_that_only_listens_is_seen_at_once() {
    let mut world = connected(2);
    let now = world.now;
    let id = world.sides[DIALLER].link().open_stream(now).unwrap();
    world.run_for(ms(50));
    assert!(world.sides[ANSWERER].events.contains(&LinkEvent::StreamOpened(id)));
    let now = world.now;
    let link = world.sides[ANSWERER].link();
    assert_eq!(link.stream_read(now, id, 10), Ok(None));
    assert_eq!(link.stream_write(now, id, b"hello"), Ok(5));
    link.stream_finish(now, id).unwrap();
    assert_eq!(link.stream_write(now, id, b"more"), Err(StreamError::Gone));
    world.run_for(ms(50));
    assert!(world.sides[ANSWERER].events.contains(&LinkEvent::StreamFinished(id)));
    let now = world.now;
    let link = world.sides[DIALLER].link();
    assert_eq!(link.stream_read(now, id, 3), Ok(Some(Bytes::from_static(b"hel"))));
    assert_eq!(link.stream_read(now, id, 3), Ok(Some(Bytes::from_static(b"lo"))));
    assert_eq!(link.stream_read(now, id, 3), Ok(Some(Bytes::new())));
}

#[test]
fn a_reset_ends_both_directions_at_both_ends() {
    for resetter in [DIALLER, ANSWERER] {
        let mut world = connected(3);
        let now = world.now;
        let id = world.sides[DIALLER].link().open_stream(now).unwrap();
        world.sides[DIALLER].link().stream_write(now, id, b"something").unwrap();
        world.run_for(ms(50));
        let now = world.now;
        world.sides[resetter].link().stream_reset(now, id);
        world.run_for(ms(50));
        assert!(world.sides[1 - resetter].events.contains(&LinkEvent::StreamReset(id)));
        let now = world.now;
        for side in &mut world.sides {
            assert_eq!(side.link().stream_write(now, id, b"more"), Err(StreamError::Gone));
            assert_eq!(side.link().stream_read(now, id, 10), Err(StreamError::Gone));
            assert_eq!(side.link().stream_finish(now, id), Err(StreamError::Gone));
        }
        assert!(world.sides.iter().all(|side| side.lost().is_none()));
    }
}

#[test]
fn streams_given_up_before_they_could_open_leave_no_trace() {
    let mut world = connected(4);
    let now = world.now;
    let link = world.sides[DIALLER].link();
    let ids: Vec<_> = (0..30).map(|_| link.open_stream(now).unwrap()).collect();
    ids.iter().for_each(|id| link.stream_reset(now, *id));
    world.run_for(ms(300));
    let now = world.now;
    let id = world.sides[DIALLER].link().open_stream(now).unwrap();
    world.run_for(ms(300));
    let opened = |event: &&LinkEvent<Route>| matches!(event, LinkEvent::StreamOpened(_));
    assert_eq!(world.sides[ANSWERER].events.iter().filter(opened).last(), Some(&LinkEvent::StreamOpened(id)));
    assert!(world.sides.iter().all(|side| side.lost().is_none()));
}

#[test]
fn a_lane_that_is_not_read_holds_up_itself_alone() {
    let mut world = connected(5);
    let now = world.now;
    let link = world.sides[DIALLER].link();
    let id = link.open_stream(now).unwrap();
    let mut written = 0;
    for _ in 0..1000 {
        let now = world.now;
        written += world.sides[DIALLER].link().stream_write(now, id, &[0; 10_000]).unwrap();
        world.run_for(ms(1));
    }
    assert!((1_000_000..2_000_000).contains(&written), "{written}");
    world.sides[DIALLER].bulk.insert(7, (100_000, 0));
    world.sides[DIALLER].link().send_control(b"still here").unwrap();
    world.run_for(ms(200));
    assert_eq!(world.received(ANSWERER), 100_000);
    assert_eq!(world.sides[ANSWERER].controls().len(), 1);
    // reading makes room, and the writer is told
    world.sides[DIALLER].events.clear();
    let now = world.now;
    while let Ok(Some(_)) = world.sides[ANSWERER].link().stream_read(now, id, usize::MAX) {}
    world.run_for(ms(200));
    assert!(world.sides[DIALLER].events.contains(&LinkEvent::StreamWritable(id)));
}

#[test]
fn control_overtakes_bulk() {
    let mut world = connected(6);
    for lane in 0..4 {
        world.sides[DIALLER].bulk.insert(lane, (100_000_000, 0));
    }
    world.run_for(ms(2000));
    world.sides[DIALLER].link().send_control(b"now").unwrap();
    let sent = world.now;
    assert!(world.run_until(ms(1000), |world| world.sides[ANSWERER].controls().len() == 1));
    // the path's own queue takes 20 ms
    assert!(world.now - sent <= ms(30), "{:?}", world.now - sent);
}

#[test]
fn higher_lanes_go_first_and_equal_ones_take_turns() {
    let mut config = Config::default();
    config.lane_priority[3] = 5;
    let mut world = World::with_config(7, vec![Path::new(Direct, ms(5)).megabits(100, 250_000)], config);
    world.connect();
    for lane in 1..4 {
        world.sides[DIALLER].bulk.insert(lane, (6_000_000, 0));
    }
    assert!(world.run_until(ms(2000), |world| world.sides[ANSWERER].received.get(&3) == Some(&6_000_000)));
    let received = &world.sides[ANSWERER].received;
    assert!(received.get(&1).copied().unwrap_or(0) < 2_000_000, "{received:?}");
    assert!(world.run_until(ms(5000), |world| world.received(ANSWERER) >= 12_000_000));
    let received = &world.sides[ANSWERER].received;
    assert!(received[&1].abs_diff(received[&2]) < 500_000, "{received:?}");
}

/// Whether 600 kB of a lane, which alone take 50 ms, arrive within 150 ms beside eight byte streams that are full.
fn a_lane_overtakes_streams(priority: i8, writer: usize) -> bool {
    let config = Config { stream_priority: priority, ..Config::default() };
    let mut world = World::with_config(10, vec![Path::new(Direct, ms(5)).megabits(100, 250_000)], config);
    world.connect();
    let now = world.now;
    let ids: Vec<_> = (0..8).map(|_| world.sides[DIALLER].link().open_stream(now).unwrap()).collect();
    world.run_for(ms(50));
    let now = world.now;
    for id in ids {
        let link = world.sides[writer].link();
        while link.stream_write(now, id, &[0; 50_000]).unwrap() > 0 {}
    }
    world.run_for(ms(20));
    world.sides[writer].bulk.insert(0, (600_000, 0));
    world.run_until(ms(150), |world| world.received(1 - writer) == 600_000)
}

#[test]
fn a_lane_goes_before_byte_streams_in_both_directions() {
    for writer in [DIALLER, ANSWERER] {
        assert!(a_lane_overtakes_streams(Config::default().stream_priority, writer));
        assert!(!a_lane_overtakes_streams(0, writer), "with equal priorities they take turns");
    }
}

#[test]
fn datagrams_arrive_and_have_limits() {
    let mut world = connected(8);
    let now = world.now;
    let link = world.sides[DIALLER].link();
    let max = link.max_datagram_size();
    assert!(max >= 1100);
    let data = Bytes::from(vec![9; max]);
    link.datagram(now, data.clone()).unwrap();
    assert_eq!(link.datagram(now, Bytes::from(vec![9; max + 1])), Err(DatagramError::TooLarge { max }));
    let blocked = (0..10_000).find_map(|_| link.datagram(now, data.clone()).err());
    assert_eq!(blocked, Some(DatagramError::Blocked(data.clone())));
    world.run_for(ms(500));
    assert!(world.sides[DIALLER].events.contains(&LinkEvent::DatagramsUnblocked));
    let arrived = world.sides[ANSWERER].events.iter().filter(|event| **event == LinkEvent::Datagram(data.clone()));
    assert!(arrived.count() > 100);
    let now = world.now;
    world.sides[DIALLER].link().close(now, 0, "");
    assert_eq!(world.sides[DIALLER].link().datagram(now, data), Err(DatagramError::Down));
}

#[test]
fn streams_survive_a_path_that_dies() {
    let mut world = World::new(9, vec![Path::new(Relayed, ms(5)), Path::new(Relayed, ms(6))]);
    world.connect();
    world.run_for(ms(500));
    let now = world.now;
    let link = world.sides[DIALLER].link();
    let id = link.open_stream(now).unwrap();
    let route = link.route().unwrap();
    link.stream_write(now, id, &[1; 50_000]).unwrap();
    world.paths[usize::from(route)].up = [false; 2];
    world.sides[DIALLER].link().stream_finish(now, id).unwrap();
    let back = echo(&mut world, 1000);
    assert_eq!(back.get(&id), Some(&(vec![1; 50_000], true)));
}
