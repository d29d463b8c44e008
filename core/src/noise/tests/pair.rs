//! Two endpoints and the wire between them.

use std::{
    collections::VecDeque,
    net::{Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use quinn_proto::{
    Connection, ConnectionError, ConnectionHandle, ConnectionId, ConnectionIdGenerator, DatagramEvent, Dir, Endpoint,
    EndpointConfig, Event, InvalidCid, StreamEvent, StreamId, TransportConfig,
};

use super::*;
use crate::rng::Rng;

pub(super) const NONCE: [u8; 12] = [5; 12];

struct Ids(Rng);

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&self.0.bytes::<8>())
    }

    fn validate(&self, _cid: &ConnectionId) -> Result<(), InvalidCid> {
        Ok(())
    }

    fn cid_len(&self) -> usize {
        8
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

pub(super) fn config(seed: [u8; 32]) -> EndpointConfig {
    endpoint_config(move || Box::new(Ids(Rng::from_seed(seed))), seed)
}

#[derive(Default)]
pub(super) struct Outcome {
    pub(super) connected: bool,
    pub(super) lost: Option<ConnectionError>,
    pub(super) received: Vec<u8>,
    pub(super) refused_with: Option<HandshakeError>,
}

pub(super) struct Side {
    endpoint: Endpoint,
    pub(super) connection: Option<(ConnectionHandle, Connection)>,
    /// All datagrams sent, in order.
    pub(super) sent: Vec<Vec<u8>>,
    inbox: VecDeque<Vec<u8>>,
    pub(super) outcome: Outcome,
}

impl Side {
    fn new(config: EndpointConfig, crypto: Arc<dyn crypto::ServerConfig>) -> Self {
        let mut server = server_config(crypto, SERVER_SEED);
        server.transport_config(transport());
        Self {
            endpoint: Endpoint::new(Arc::new(config), Some(Arc::new(server)), true, None),
            connection: None,
            sent: Vec::new(),
            inbox: VecDeque::new(),
            outcome: Outcome::default(),
        }
    }

    pub(super) fn connection(&mut self) -> &mut Connection {
        &mut self.connection.as_mut().unwrap().1
    }

    pub(super) fn remote(&self) -> RemoteKey {
        let (_, connection) = self.connection.as_ref().unwrap();
        *connection.crypto_session().peer_identity().unwrap().downcast().unwrap()
    }

    pub(super) fn cipher(&self) -> Cipher {
        let (_, connection) = self.connection.as_ref().unwrap();
        *connection.crypto_session().handshake_data().unwrap().downcast().unwrap()
    }

    pub(super) fn export(&self, label: &[u8]) -> [u8; 32] {
        let (_, connection) = self.connection.as_ref().unwrap();
        let mut key = [0; 32];
        connection.crypto_session().export_keying_material(&mut key, label, b"").unwrap();
        key
    }

    pub(super) fn receive(&mut self, now: Instant, datagram: &[u8]) {
        let mut buf = Vec::new();
        match self.endpoint.handle(now, remote(), None, None, BytesMut::from(datagram), &mut buf) {
            Some(DatagramEvent::ConnectionEvent(_, event)) => {
                if let Some((_, connection)) = &mut self.connection {
                    connection.handle_event(event);
                }
            }
            Some(DatagramEvent::NewConnection(incoming)) => match self.endpoint.accept(incoming, now, &mut buf, None) {
                Ok(connection) => self.connection = Some(connection),
                Err(error) => {
                    if let ConnectionError::TransportError(error) = error.cause {
                        self.outcome.refused_with = HandshakeError::from_code(error.code);
                    }
                }
            },
            Some(DatagramEvent::Response(_)) => panic!("answered before anything was authenticated"),
            None => {}
        }
    }

    fn settle(&mut self, now: Instant) {
        let Some((handle, connection)) = &mut self.connection else { return };
        if connection.poll_timeout().is_some_and(|at| at <= now) {
            connection.handle_timeout(now);
        }
        while let Some(event) = connection.poll_endpoint_events() {
            if let Some(event) = self.endpoint.handle_event(*handle, event) {
                connection.handle_event(event);
            }
        }
        while let Some(event) = connection.poll() {
            match event {
                Event::Connected => self.outcome.connected = true,
                Event::ConnectionLost { reason } => self.outcome.lost = Some(reason),
                Event::Stream(StreamEvent::Opened { dir: Dir::Uni }) => {
                    while let Some(id) = connection.streams().accept(Dir::Uni) {
                        read(connection, id, &mut self.outcome.received);
                    }
                }
                Event::Stream(StreamEvent::Readable { id }) => read(connection, id, &mut self.outcome.received),
                _ => {}
            }
        }
        let mut buf = Vec::new();
        while let Some(transmit) = connection.poll_transmit(now, 1, &mut buf) {
            let datagram = buf[..transmit.size].to_vec();
            self.sent.push(datagram);
            buf.clear();
        }
    }
}

fn read(connection: &mut Connection, id: StreamId, received: &mut Vec<u8>) {
    let mut stream = connection.recv_stream(id);
    let Ok(mut chunks) = stream.read(true) else { return };
    while let Ok(Some(chunk)) = chunks.next(usize::MAX) {
        received.extend_from_slice(&chunk.bytes);
    }
    let _ = chunks.finalize();
}

fn transport() -> Arc<TransportConfig> {
    let mut config = TransportConfig::default();
    config.max_idle_timeout(None);
    Arc::new(config)
}

fn remote() -> SocketAddr {
    (Ipv6Addr::LOCALHOST, 4433).into()
}

pub(super) struct Pair {
    pub(super) now: Instant,
    pub(super) client: Side,
    pub(super) server: Side,
    /// Of a hundred datagrams, how many are lost.
    pub(super) loss: u64,
    rng: Rng,
}

impl Pair {
    pub(super) fn new(client: &Arc<Handshake>, server: &Arc<Handshake>, expected: Option<Id>) -> Self {
        let id = first_id(client.network_key(), NONCE, expected);
        let mut pair = Self::idle(config(CLIENT_SEED), server);
        pair.dial(super::client(client, expected, id, CLIENT_SEED), id);
        pair
    }

    pub(super) fn idle(client: EndpointConfig, server: &Arc<Handshake>) -> Self {
        Self {
            now: crate::testing::epoch(),
            client: Side::new(client, deaf(server)),
            server: Side::new(config(SERVER_SEED), super::server(server, SERVER_SEED)),
            loss: 0,
            rng: Rng::from_seed([99; 32]),
        }
    }

    pub(super) fn dial(&mut self, crypto: Arc<dyn crypto::ClientConfig>, id: [u8; FIRST_ID_LEN]) {
        let mut config = client_config(crypto, id);
        config.transport_config(transport());
        let dialled = self.client.endpoint.connect(self.now, config, remote(), "");
        self.client.connection = Some(dialled.unwrap());
    }

    pub(super) fn lossy(mut self, percent: u64, seed: u8) -> Self {
        self.loss = percent;
        self.rng = Rng::from_seed([seed; 32]);
        self
    }

    /// Carries one flight each way, 10 ms apart; whether there was anything to carry.
    pub(super) fn step(&mut self) -> bool {
        self.now += Duration::from_millis(10);
        let mut busy = false;
        for from_client in [true, false] {
            let (from, to) = match from_client {
                true => (&mut self.client, &mut self.server),
                false => (&mut self.server, &mut self.client),
            };
            let before = from.sent.len();
            from.settle(self.now);
            for datagram in &from.sent[before..] {
                busy = true;
                assert!(admit(datagram).is_some(), "our own datagrams are admitted");
                if self.rng.below(100) >= self.loss {
                    to.inbox.push_back(datagram.clone());
                }
            }
            while let Some(datagram) = to.inbox.pop_front() {
                to.receive(self.now, &datagram);
            }
        }
        busy
    }

    /// Runs for at most `steps` of 10 ms, until `done`.
    pub(super) fn run(&mut self, steps: usize, done: impl Fn(&Self) -> bool) -> bool {
        (0..steps).any(|_| {
            self.step();
            done(self)
        })
    }

    pub(super) fn connect(mut self) -> Self {
        assert!(self.run(6_000, |pair| pair.client.outcome.connected && pair.server.outcome.connected));
        self
    }

    /// Sends `data` on a new stream each way and waits until both arrived.
    pub(super) fn exchange(&mut self, data: &[u8]) {
        for side in [&mut self.client, &mut self.server] {
            side.outcome.received.clear();
            let id = side.connection().streams().open(Dir::Uni).unwrap();
            let mut bytes = [Bytes::copy_from_slice(data)];
            let written = side.connection().send_stream(id).write_chunks(&mut bytes).unwrap();
            assert_eq!(written.bytes, data.len());
            side.connection().send_stream(id).finish().unwrap();
        }
        let arrived = |side: &Side| side.outcome.received == data;
        assert!(self.run(20_000, |pair| arrived(&pair.client) && arrived(&pair.server)));
    }
}
