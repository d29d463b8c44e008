//! Handshake messages and lanes in pieces, whatever the pieces are.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use bytes::Bytes;
use p2pcore::{
    Cipher, Config, Identity, NetworkKey, Role, SecretKey,
    message::{Conversation, ConversationEvent, Kind, MAX_CHUNK, Outcome, Outgoing},
    noise,
};
use quinn_proto::{ConnectionId, Side, crypto::Session, transport_parameters::TransportParameters};

use super::{case::Case, start_of_time};

const VERSION: u32 = 0x7032_7001;

/// CRYPTO bytes of a handshake, genuine, altered or made up, in any pieces; and messages over lanes that are cut anywhere
/// and begin anew on another link.
///
/// # Panics
/// If a message arrives twice, out of order or changed, has two outcomes, or a handshake ends without keys.
pub fn reassembly(data: &[u8]) {
    let mut case = Case::new(data);
    match case.byte() % 4 {
        0 => crypto(&mut case),
        1 => lane_bytes(&mut case),
        _ => lanes(&mut case),
    }
}

/// The first message of a client, made once.
fn offer() -> &'static [u8] {
    static OFFER: OnceLock<Vec<u8>> = OnceLock::new();
    OFFER.get_or_init(|| {
        let mut client = session(Side::Client);
        let mut bytes = Vec::new();
        client.write_handshake(&mut bytes);
        bytes
    })
}

/// What a server that began with [`offer`] answers is another one's: it is never authentic.
fn session(side: Side) -> Box<dyn Session> {
    let identity = Identity::new(Role::Server, SecretKey::from_bytes([1 + side as u8; 32]));
    let key = NetworkKey::from_bytes([2; 32]);
    let first_id = noise::first_id(&key, [7; 12], None);
    let handshake = Arc::new(noise::Handshake::new(identity, key, vec![Cipher::Aes128Gcm]));
    // the original destination id, as a server names it
    let parameters = [&[0, 20][..], &first_id, &[0x0f, 0]].concat();
    let parameters = TransportParameters::read(Side::Client, &mut &parameters[..]).expect("they are well formed");
    match side {
        Side::Client => noise::client(&handshake, None, first_id, [3; 32])
            .start_session(VERSION, "p2pcore", &parameters)
            .expect("of this version"),
        Side::Server => noise::server(&handshake, [4; 32]).start_session(VERSION, &parameters),
    }
}

fn crypto(case: &mut Case<'_>) {
    let side = if case.flag() { Side::Server } else { Side::Client };
    let mut session = session(side);
    let mut sent = Vec::new();
    if side == Side::Client {
        assert!(session.write_handshake(&mut sent).is_none());
    }
    let _ = session.initial_keys(&ConnectionId::new(case.bytes().get(..20).unwrap_or_default()), side);
    let (mut failed, mut genuine) = (false, offer());
    while !case.is_over() {
        let made_up;
        let piece = match case.byte() % 4 {
            0 => {
                made_up = case.stretched(1_100);
                &made_up[..]
            }
            1 => {
                let (piece, rest) = genuine.split_at(usize::from(case.byte()).min(genuine.len()));
                let mut altered = piece.to_vec();
                if let Some(byte) = altered.first_mut() {
                    *byte ^= case.byte();
                }
                genuine = rest;
                made_up = altered;
                &made_up
            }
            _ => {
                let (piece, rest) = genuine.split_at(usize::from(case.byte()).min(genuine.len()));
                genuine = rest;
                piece
            }
        };
        let read = session.read_handshake(piece);
        assert!(!failed || read.is_err(), "a handshake that has failed goes on");
        failed |= read.is_err();
        if case.flag() {
            while session.write_handshake(&mut sent).is_some() {}
            assert!(sent.len() <= 4_096, "{} bytes were written", sent.len());
        }
        let _ = (session.peer_identity(), session.handshake_data(), session.transport_parameters());
        assert!(session.is_handshaking() && session.next_1rtt_keys().is_none());
    }
}

fn small() -> Config {
    let mut config = Config::default();
    config.max_message = 40_000;
    config.max_queued_messages = 12;
    config.max_queued_bytes = 100_000;
    config.max_unhanded_messages = 4;
    config.max_unhanded_bytes = 50_000;
    config
}

/// A conversation that reads what the case says.
fn lane_bytes(case: &mut Case<'_>) {
    let now = start_of_time();
    let mut conversation = Conversation::new(&small(), [1; 16]);
    conversation.attach(now);
    let session = p2pcore::message::SessionId { seed: [2; 16], count: 1 };
    let open = p2pcore::message::SessionMessage::Open { session };
    conversation.handle_control(now, open).expect("the first one");
    let mut last = [None; 16];
    while !case.is_over() {
        let lane = case.byte() % 16;
        if conversation.can_receive(lane)
            && conversation.receive(now, lane, Bytes::copy_from_slice(case.bytes())).is_err()
        {
            return;
        }
        while let Some(event) = conversation.poll_event() {
            for (lane, seq, _, data) in event.arrived() {
                assert!(data.len() <= 40_000);
                assert!(last[usize::from(lane)].replace(seq) < Some(seq), "out of order");
                if case.flag() {
                    conversation.handed(now, lane, seq, 1);
                }
            }
        }
        while conversation.poll_control().is_some() {}
    }
}

/// Two conversations and what flies between them.
struct Pair {
    now: Instant,
    ends: [Conversation; 2],
    /// Control messages and lanes, to each end.
    control: [Vec<p2pcore::message::SessionMessage>; 2],
    lanes: [[Bytes; 3]; 2],
    /// What was sent by each end on each lane, by tag, and what has arrived of it.
    sent: [[Vec<(u64, Bytes)>; 3]; 2],
    arrived: [[Vec<Bytes>; 3]; 2],
    unhanded: [Vec<(u8, u64)>; 2],
    outcomes: std::collections::BTreeMap<u64, Option<Outcome>>,
}

fn lanes(case: &mut Case<'_>) {
    let config = small();
    let mut pair = Pair {
        now: start_of_time(),
        ends: [Conversation::new(&config, [1; 16]), Conversation::new(&config, [2; 16])],
        control: Default::default(),
        lanes: Default::default(),
        sent: Default::default(),
        arrived: Default::default(),
        unhanded: Default::default(),
        outcomes: Default::default(),
    };
    pair.attach();
    while !case.is_over() {
        pair.operation(case);
    }
    pair.end();
}

impl Pair {
    fn attach(&mut self) {
        for end in &mut self.ends {
            end.attach(self.now);
        }
    }

    fn detach(&mut self) {
        for end in 0..2 {
            self.ends[end].detach(self.now);
            self.control[end].clear();
            self.lanes[end] = Default::default();
        }
    }

    fn operation(&mut self, case: &mut Case<'_>) {
        let end = case.below(2);
        let lane = case.byte() % 3;
        match case.byte() % 10 {
            0..=2 => {
                let tag = self.outcomes.len() as u64;
                // no two are the same
                let data = Bytes::from([&tag.to_be_bytes()[..], &case.stretched(39_000)].concat());
                let expires = self.now + case.time();
                let outgoing = Outgoing { lane, kind: Kind::Message, data: data.clone(), expires, tag };
                if self.ends[end].send(self.now, outgoing).is_ok() {
                    self.sent[end][usize::from(lane)].push((tag, data));
                    self.outcomes.insert(tag, None);
                }
            }
            3 | 4 => self.speak(end),
            5 | 6 => self.hear(end, usize::from(case.word()) + 1),
            7 => {
                let some = case.below(self.unhanded[end].len() + 1);
                for (lane, seq) in self.unhanded[end].drain(..some) {
                    self.ends[end].handed(self.now, lane, seq, 1);
                }
            }
            8 if case.byte() > 200 => {
                self.detach();
                self.attach();
            }
            _ => {
                self.now += case.time();
                self.ends[end].handle_timeout(self.now);
            }
        }
        self.events(end);
    }

    /// What one end has to say flies.
    fn speak(&mut self, end: usize) {
        while let Some(message) = self.ends[end].poll_control() {
            self.control[1 - end].push(message);
        }
        for lane in 0..3 {
            let flying = &mut self.lanes[1 - end][usize::from(lane)];
            while flying.len() < 4 * MAX_CHUNK
                && let Some(chunk) = self.ends[end].poll_chunk(self.now, lane)
            {
                assert!(!chunk.is_empty() && chunk.len() <= MAX_CHUNK);
                *flying = [&flying[..], &chunk].concat().into();
            }
        }
    }

    /// One end hears pieces of at most so many bytes.
    fn hear(&mut self, end: usize, piece: usize) {
        for message in std::mem::take(&mut self.control[end]) {
            self.ends[end].handle_control(self.now, message).expect("an honest end");
        }
        for lane in 0..3 {
            let flying = &mut self.lanes[end][usize::from(lane)];
            while !flying.is_empty() && self.ends[end].can_receive(lane) {
                let piece = flying.split_to(piece.clamp(flying.len() / 500 + 1, MAX_CHUNK).min(flying.len()));
                self.ends[end].receive(self.now, lane, piece).expect("an honest end");
            }
        }
    }

    fn events(&mut self, end: usize) {
        while let Some(event) = self.ends[end].poll_event() {
            match event {
                ConversationEvent::Outcome { tag, count, outcome } => {
                    for tag in tag..tag + count {
                        let known = self.outcomes.get_mut(&tag).expect("a message that was sent");
                        assert_eq!(known.replace(outcome), None, "a second outcome");
                    }
                }
                event => {
                    for (lane, seq, _, data) in event.arrived() {
                        self.arrived[end][usize::from(lane)].push(data);
                        self.unhanded[end].push((lane, seq));
                    }
                }
            }
        }
    }

    /// Everything that can arrive does; then all that is left expires.
    fn end(&mut self) {
        for _ in 0..40 {
            for end in 0..2 {
                self.speak(end);
                self.hear(end, MAX_CHUNK);
                self.events(end);
                for (lane, seq) in std::mem::take(&mut self.unhanded[end]) {
                    self.ends[end].handed(self.now, lane, seq, 1);
                }
            }
        }
        self.now += Duration::from_secs(2_000);
        for end in 0..2 {
            self.ends[end].handle_timeout(self.now);
            self.events(end);
        }
        assert!(self.outcomes.values().all(Option::is_some), "a message without an outcome");
        for (end, lanes) in self.sent.iter().enumerate() {
            for (sent, arrived) in lanes.iter().zip(&self.arrived[1 - end]) {
                self.compare(sent, arrived);
            }
        }
    }

    /// What arrived is a part of what was sent, in order, with all that was delivered.
    fn compare(&self, sent: &[(u64, Bytes)], arrived: &[Bytes]) {
        let mut rest = sent.iter();
        for data in arrived {
            loop {
                let (tag, other) = rest.next().expect("what arrived twice, out of order, or was never sent");
                if other == data {
                    break;
                }
                assert!(!self.was_delivered(*tag), "delivered and not handed over, or out of order");
            }
        }
        assert!(rest.all(|(tag, _)| !self.was_delivered(*tag)), "delivered and not handed over");
    }

    fn was_delivered(&self, tag: u64) -> bool {
        self.outcomes[&tag] == Some(Outcome::Delivered)
    }
}
