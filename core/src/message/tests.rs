//! The rules of delivery, one test each.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::*;
use crate::{Config, testing::epoch};

const TTL: Duration = Duration::from_secs(60);

/// Two conversations and what their applications saw.
struct Pair {
    now: Instant,
    config: Config,
    a: Conversation,
    b: Conversation,
    /// Outcomes at `a`, by tag.
    outcomes: BTreeMap<u64, Outcome>,
    /// What `b`'s application was shown: lane, seq, payload.
    shown: Vec<(u8, u64, Bytes)>,
    unblocked: usize,
    /// `b`'s application takes everything at once.
    takes: bool,
}

fn config() -> Config {
    Config { max_message: 1 << 20, lanes: 4, ..Config::default() }
}

impl Pair {
    fn new(config: Config) -> Self {
        let (a, b) = (Conversation::new(&config, [1; 16]), Conversation::new(&config, [2; 16]));
        let (outcomes, shown) = Default::default();
        Self { now: epoch(), config, a, b, outcomes, shown, unblocked: 0, takes: true }
    }

    fn linked(config: Config) -> Self {
        let mut pair = Self::new(config);
        pair.relink();
        pair
    }

    fn relink(&mut self) {
        self.a.attach(self.now);
        self.b.attach(self.now);
        self.run();
    }

    fn unlink(&mut self) {
        self.a.detach(self.now);
        self.b.detach(self.now);
    }

    fn send(&mut self, lane: u8, tag: u64, data: impl Into<Bytes>) {
        let message = Outgoing { lane, kind: Kind::Message, data: data.into(), expires: self.now + TTL, tag };
        self.a.send(self.now, message).unwrap();
    }

    fn send_for(&mut self, ttl_ms: u64, tag: u64, len: usize) {
        let expires = self.now + Duration::from_millis(ttl_ms);
        let data = Bytes::from(vec![tag as u8; len]);
        self.a.send(self.now, Outgoing { lane: 0, kind: Kind::Message, data, expires, tag }).unwrap();
    }

    fn wait(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
        self.a.handle_timeout(self.now);
        self.b.handle_timeout(self.now);
    }

    /// Everything there is to carry, both ways, until nothing moves.
    fn run(&mut self) {
        loop {
            let mut moved = false;
            while let Some(message) = self.a.poll_control() {
                self.b.handle_control(self.now, message).unwrap();
                moved = true;
            }
            moved |= self.write();
            while let Some(message) = self.b.poll_control() {
                self.a.handle_control(self.now, message).unwrap();
                moved = true;
            }
            self.events();
            if !moved {
                return;
            }
        }
    }

    /// Carries what `a` has for the lanes, as far as `b` wants it.
    fn write(&mut self) -> bool {
        let mut moved = false;
        for lane in 0..self.config.lanes {
            while self.b.can_receive() {
                let Some(chunk) = self.a.poll_chunk(self.now, lane) else { break };
                assert!(chunk.len() <= MAX_CHUNK);
                self.b.receive(self.now, lane, chunk).unwrap();
                self.events();
                moved = true;
            }
        }
        moved
    }

    fn events(&mut self) {
        while let Some(event) = self.a.poll_event() {
            match event {
                ConversationEvent::Outcome { tag, outcome } => {
                    assert_eq!(self.outcomes.insert(tag, outcome), None, "a second outcome for {tag}");
                }
                ConversationEvent::Unblocked => self.unblocked += 1,
                ConversationEvent::Arrived { .. } => panic!("nothing is sent to a"),
            }
        }
        while let Some(event) = self.b.poll_event() {
            let ConversationEvent::Arrived { lane, seq, data, .. } = event else { panic!("{event:?}") };
            self.shown.push((lane, seq, data));
            if self.takes {
                self.b.handed(self.now, lane, seq);
            }
        }
    }

    fn take(&mut self, index: usize) {
        let (lane, seq, _) = self.shown[index];
        self.b.handed(self.now, lane, seq);
        self.run();
    }

    fn payloads(&self) -> Vec<&[u8]> {
        self.shown.iter().map(|(_, _, data)| &data[..]).collect()
    }

    fn all(&self, outcome: Outcome) -> bool {
        self.outcomes.values().all(|seen| *seen == outcome)
    }
}

#[test]
fn messages_arrive_in_order_and_are_delivered_when_taken() {
    let mut pair = Pair::linked(config());
    pair.takes = false;
    for tag in 0..3 {
        pair.send(0, tag, vec![tag as u8]);
    }
    pair.run();
    assert_eq!(pair.payloads(), [[0], [1], [2]]);
    assert!(pair.outcomes.is_empty(), "arrived is not handed over");
    pair.take(0);
    assert_eq!(pair.outcomes, BTreeMap::from([(0, Outcome::Delivered)]));
    pair.take(1);
    pair.take(2);
    assert!(pair.outcomes.len() == 3 && pair.all(Outcome::Delivered));
    assert!(pair.a.is_idle() && pair.b.is_idle() && pair.a.deadline().is_none());
}
