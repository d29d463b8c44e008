//! Two links and nothing between them.

use std::{sync::Arc, time::Instant};

use bytes::BytesMut;
use p2pcore::{
    Config, Identity, NetworkKey, Role, SecretKey,
    link::{Link, LinkEnv, LinkEvent, LinkToken},
    noise,
    path::PathKind,
    relay::PacketClass,
    rng::Rng,
};

use crate::{HOP, epoch};

const MAX_ROUNDS: usize = 1_000;
const MAX_SEGMENTS: usize = 10;
const KIND: PathKind = PathKind::Direct;

/// Two nodes of which one dials the other again and again.
pub struct Dialling {
    dialler: Arc<LinkEnv>,
    answerer: Arc<LinkEnv>,
    rng: Rng,
    now: Instant,
}

impl Dialling {
    /// Two nodes of one network.
    pub fn new() -> Self {
        Self { dialler: env(1), answerer: env(2), rng: Rng::from_seed([3; 32]), now: epoch() }
    }

    /// Makes a new link from the first datagram until both ends are established; returns the datagrams it took.
    ///
    /// # Panics
    /// If it is never established.
    pub fn handshake(&mut self) -> usize {
        let named = Some(self.answerer.handshake.id());
        let first_id = noise::first_id(self.dialler.handshake.network_key(), self.rng.bytes(), named);
        let (env, seed) = (&self.dialler, self.rng.bytes());
        let dialler = Link::dial(env, self.now, LinkToken(1), seed, named, first_id, [((), KIND)]);
        let mut ends = [End::new(Some(dialler)), End::new(None)];
        let mut datagrams = 0;
        for _ in 0..MAX_ROUNDS {
            for from in [0, 1] {
                for datagram in ends[from].transmit(self.now) {
                    datagrams += 1;
                    self.deliver(&mut ends[1 - from], datagram);
                }
            }
            if ends.iter_mut().all(End::is_established) {
                return datagrams;
            }
            self.now += HOP;
            ends.iter_mut().for_each(|end| end.wake(self.now));
        }
        panic!("not established");
    }

    fn deliver(&mut self, to: &mut End, data: BytesMut) {
        match &mut to.link {
            Some(link) if PacketClass::of_packet(&data) == Some(PacketClass::Probe) => {
                link.handle_probe(self.now, (), KIND, &data);
            }
            Some(link) => {
                link.handle_datagram(self.now, (), KIND, 0, data);
            }
            None => {
                to.link = Link::accept(&self.answerer, self.now, LinkToken(2), self.rng.bytes(), (), KIND, 0, data);
            }
        }
    }
}

impl Default for Dialling {
    fn default() -> Self {
        Self::new()
    }
}

fn env(seed: u8) -> Arc<LinkEnv> {
    let config = Config::default();
    let identity = Identity::new(Role::Peer, SecretKey::from_bytes([seed; 32]));
    let handshake = noise::Handshake::new(identity, NetworkKey::from_bytes([9; 32]), config.ciphers.clone());
    Arc::new(LinkEnv { config: Arc::new(config), handshake: Arc::new(handshake) })
}

/// One end; the answering one has no link before the first datagram.
struct End {
    link: Option<Link<()>>,
    established: bool,
}

impl End {
    fn new(link: Option<Link<()>>) -> Self {
        Self { link, established: false }
    }

    fn transmit(&mut self, now: Instant) -> Vec<BytesMut> {
        let mut datagrams = Vec::new();
        let mut buf = Vec::new();
        while let Some(transmit) = self.link.as_mut().and_then(|link| link.poll_transmit(now, MAX_SEGMENTS, &mut buf)) {
            let size = transmit.segment_size.unwrap_or(transmit.size).max(1);
            datagrams.extend(buf.chunks(size).map(BytesMut::from));
            buf.clear();
        }
        datagrams
    }

    fn is_established(&mut self) -> bool {
        while let Some(event) = self.link.as_mut().and_then(Link::poll) {
            self.established |= matches!(event, LinkEvent::Established { .. });
        }
        self.established
    }

    fn wake(&mut self, now: Instant) {
        if let Some(link) = &mut self.link
            && link.deadline().is_some_and(|(at, _)| at <= now)
        {
            link.handle_timeout(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handshakes_follow_each_other() {
        let mut dialling = Dialling::new();
        for _ in 0..3 {
            assert!(dialling.handshake() >= 4, "two flights each way");
        }
    }
}
