//! The message layer without a link: what one conversation writes, the other reads.

use std::time::{Duration, Instant};

use bytes::Bytes;
use p2pcore::{
    Config,
    message::{Conversation, ConversationEvent, Kind, Outcome, Outgoing},
};

use crate::epoch;

const LANE: u8 = 0;
const TTL: Duration = Duration::from_secs(60);

/// Two conversations whose links are each other.
pub struct ConversationPair {
    now: Instant,
    sender: Conversation,
    receiver: Conversation,
    sent: u64,
}

impl ConversationPair {
    /// Two of them, attached.
    pub fn new() -> Self {
        let config = Config::default();
        let now = epoch();
        let (mut sender, mut receiver) = (Conversation::new(&config, [1; 16]), Conversation::new(&config, [2; 16]));
        sender.attach(now);
        receiver.attach(now);
        let mut pair = Self { now, sender, receiver, sent: 0 };
        pair.carry();
        pair
    }

    /// Sends `count` messages of the same `data`, takes each at the other end, and returns how many were delivered.
    ///
    /// # Panics
    /// If the sender's queue has no room for them.
    pub fn exchange(&mut self, count: usize, data: &Bytes) -> usize {
        for _ in 0..count {
            self.sent += 1;
            let (data, expires) = (data.clone(), self.now + TTL);
            let message = Outgoing { lane: LANE, kind: Kind::Message, data, expires, tag: self.sent };
            self.sender.send(self.now, message).expect("room in the queue");
        }
        self.carry()
    }

    /// Carries everything both ways until nothing moves; returns how many messages were delivered.
    fn carry(&mut self) -> usize {
        let mut delivered = 0;
        loop {
            let mut moved = self.carry_control();
            while self.receiver.can_receive(LANE)
                && let Some(chunk) = self.sender.poll_chunk(self.now, LANE)
            {
                self.receiver.receive(self.now, LANE, chunk).expect("frames of our own");
                self.take_all();
                moved = true;
            }
            moved |= self.carry_control();
            while let Some(event) = self.sender.poll_event() {
                if let ConversationEvent::Outcome { count, outcome: Outcome::Delivered, .. } = event {
                    delivered += count as usize;
                }
            }
            if !moved {
                return delivered;
            }
        }
    }

    fn carry_control(&mut self) -> bool {
        let mut moved = false;
        while let Some(message) = self.sender.poll_control() {
            self.receiver.handle_control(self.now, message).expect("a message of our own");
            moved = true;
        }
        while let Some(message) = self.receiver.poll_control() {
            self.sender.handle_control(self.now, message).expect("a message of our own");
            moved = true;
        }
        moved
    }

    fn take_all(&mut self) {
        while let Some(event) = self.receiver.poll_event() {
            if let ConversationEvent::Messages { lane, seq, data } = event {
                self.receiver.handed(self.now, lane, seq, data.len() as u64);
            }
        }
    }
}

impl Default for ConversationPair {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_of_an_exchange_is_delivered() {
        let mut pair = ConversationPair::new();
        for data in [Bytes::new(), Bytes::from_static(&[7; 64]), Bytes::from(vec![7; 100_000])] {
            assert_eq!(pair.exchange(20, &data), 20);
        }
    }
}
