//! A member that keeps no rule: it has the network key, finishes the handshake, and says what the case says, in packets
//! that are authentic.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use p2pcore::{
    Cipher, ClusterId, Id, Identity, Incarnation, Name, NetworkKey, ServerKey,
    message::{SessionId, SessionMessage},
    noise,
    relay::{PacketClass, RelayKeys, RelayLink, Slot},
    rng::Rng,
    table::NetworkInfo,
    wire::{Control, Hello},
};
use quinn_proto::{
    ClientConfig, Connection, ConnectionEvent, ConnectionHandle, ConnectionId, ConnectionIdGenerator, DatagramEvent,
    Dir, Endpoint, Event, InvalidCid, Side, StreamId, TransportConfig, VarInt, congestion::CubicConfig,
};

use super::forgery::{Forgery, ForgingClient, ForgingServer};

/// Said of its connections.
const TOKEN: [u8; 4] = *b"evil";
const MAX_HEARD: usize = 64;
/// The only one that it offers.
const CIPHER: Cipher = Cipher::Aes128Gcm;

/// One such member, with one connection to the node under test.
pub(super) struct Member {
    pub(super) identity: Identity,
    pub(super) address: SocketAddr,
    pub(super) cluster: Option<ClusterId>,
    pub(super) run: u64,
    pub(super) forgery: Arc<Forgery>,
    server_key: ServerKey,
    handshake: Arc<noise::Handshake>,
    rng: Rng,
    endpoint: Endpoint,
    conn: Option<(ConnectionHandle, Connection)>,
    exporter: Option<[u8; 32]>,
    /// Greets and opens a session by itself.
    polite: bool,
    control: Option<StreamId>,
    pub(super) lanes: Vec<StreamId>,
    pub(super) streams: Vec<StreamId>,
    unread: BytesMut,
    /// Where the node receives probes of this link.
    pub(super) probe_token: Option<[u8; 8]>,
    pub(super) heard: VecDeque<Control>,
    pub(super) slot: Option<Slot>,
    /// As the node's client.
    pub(super) relay: Option<RelayLink>,
    /// As the node's relay.
    pub(super) relays: Option<RelayLink>,
    pub(super) probe_counter: u64,
}

impl Member {
    pub(super) fn new(
        identity: Identity,
        address: SocketAddr,
        keys: (NetworkKey, ServerKey),
        cluster: Option<ClusterId>,
        polite: bool,
    ) -> Self {
        let [seed, ..] = *identity.secret().as_bytes();
        let rng = Rng::from_seed([seed ^ 0x55; 32]);
        let handshake = noise::Handshake::new(identity.clone(), keys.0, vec![CIPHER]);
        Self {
            identity,
            address,
            cluster,
            run: 1,
            forgery: Arc::default(),
            server_key: keys.1,
            handshake: Arc::new(handshake),
            endpoint: endpoint(&rng),
            rng,
            conn: None,
            exporter: None,
            polite,
            control: None,
            lanes: Vec::new(),
            streams: Vec::new(),
            unread: BytesMut::new(),
            probe_token: None,
            heard: VecDeque::new(),
            slot: None,
            relay: None,
            relays: None,
            probe_counter: 0,
        }
    }

    pub(super) fn id(&self) -> Id {
        self.identity.id()
    }

    /// Dials the node, which goes by `named` or is known by its address alone.
    pub(super) fn dial(&mut self, now: Instant, node: SocketAddr, named: Option<Id>) {
        self.forget();
        let first_id = noise::first_id(self.handshake.network_key(), self.rng.bytes(), named);
        let crypto = noise::client(&self.handshake, None, first_id, self.rng.bytes());
        let crypto = Arc::new(ForgingClient(crypto, Arc::clone(&self.forgery)));
        let mut config: ClientConfig = noise::client_config(crypto, first_id);
        config.transport_config(transport());
        self.conn = self.endpoint.connect(now, config, node, "p2pcore").ok();
    }

    /// Answers whoever dials.
    pub(super) fn listen(&mut self) {
        let crypto = noise::server(&self.handshake, self.rng.bytes());
        let crypto = Arc::new(ForgingServer(crypto, Arc::clone(&self.forgery)));
        let mut config = noise::server_config(crypto, self.rng.bytes());
        config.transport_config(transport());
        self.endpoint.set_server_config(Some(Arc::new(config)));
    }

    fn forget(&mut self) {
        (self.exporter, self.control, self.probe_token, self.slot) = (None, None, None, None);
        (self.relay, self.relays, self.probe_counter) = (None, None, 0);
        self.lanes.clear();
        self.streams.clear();
        self.unread.clear();
        self.endpoint = endpoint(&self.rng.fork("again", self.rng.clone().next_u64()));
    }

    /// Takes what the node sent.
    pub(super) fn receive(&mut self, now: Instant, node: SocketAddr, data: &[u8]) {
        match PacketClass::of_packet(data) {
            Some(PacketClass::Quic) => {}
            Some(PacketClass::Relay) => {
                if let Some(relays) = &mut self.relays {
                    let _ = relays.open(data);
                }
                return;
            }
            _ => return,
        }
        let mut unsent = Vec::new();
        match self.endpoint.handle(now, node, None, None, BytesMut::from(data), &mut unsent) {
            Some(DatagramEvent::ConnectionEvent(handle, event)) => self.on_connection_event(handle, event),
            Some(DatagramEvent::NewConnection(incoming)) => {
                let accepted = self.endpoint.accept(incoming, now, &mut unsent, None).ok();
                if accepted.is_some() {
                    (self.exporter, self.control, self.probe_token) = (None, None, None);
                    self.lanes.clear();
                    self.streams.clear();
                    self.unread.clear();
                    self.conn = accepted;
                }
            }
            Some(DatagramEvent::Response(_)) | None => {}
        }
        self.go_on();
    }

    fn on_connection_event(&mut self, of: ConnectionHandle, event: ConnectionEvent) {
        if let Some((handle, conn)) = &mut self.conn
            && *handle == of
        {
            conn.handle_event(event);
        }
    }

    /// What it sends now.
    pub(super) fn transmit(&mut self, now: Instant) -> Vec<Vec<u8>> {
        let mut datagrams = Vec::new();
        if let Some((_, conn)) = &mut self.conn {
            if conn.poll_timeout().is_some_and(|at| at <= now) {
                conn.handle_timeout(now);
            }
            let mut buf = Vec::new();
            while datagrams.len() < 32
                && let Some(transmit) = conn.poll_transmit(now, 1, &mut buf)
            {
                datagrams.push(buf[..transmit.size].to_vec());
                buf.clear();
            }
        }
        self.go_on();
        datagrams
    }

    fn go_on(&mut self) {
        let Some((handle, conn)) = &mut self.conn else { return };
        let (mut connected, mut readable) = (false, false);
        loop {
            while let Some(event) = conn.poll_endpoint_events() {
                if let Some(event) = self.endpoint.handle_event(*handle, event) {
                    conn.handle_event(event);
                }
            }
            match conn.poll() {
                Some(Event::Connected) => connected = true,
                Some(Event::Stream(_)) => readable = true,
                Some(_) => {}
                None => break,
            }
        }
        if connected {
            self.on_connected();
        }
        if readable {
            self.read_control();
        }
    }

    fn on_connected(&mut self) {
        let Some((_, conn)) = &mut self.conn else { return };
        let mut exporter = [0; 32];
        if conn.crypto_session().export_keying_material(&mut exporter, b"p2pcore link", b"").is_err() {
            return;
        }
        self.exporter = Some(exporter);
        let exported = self.export(b"relay");
        let began = self.began();
        self.relay = Some(RelayLink::new(RelayKeys::derive(&exported, began, false)));
        self.relays = Some(RelayLink::new(RelayKeys::derive(&exported, began, true)));
        if !self.polite {
            return;
        }
        self.write_control(&[&[0][..], &TOKEN, &TOKEN].concat());
        let hello = self.hello();
        self.say(&hello);
        self.say(&Control::Session(SessionMessage::Known { instance: [7; 16], heard: None }));
        self.say(&Control::Session(SessionMessage::Open { session: SessionId { seed: [7; 16], count: self.run } }));
    }

    fn hello(&self) -> Control {
        let is_server = self.id().is_server();
        Control::Hello(Box::new(Hello {
            name: Name::default(),
            incarnation: Incarnation { counter: self.run, random: [6; 16] },
            cluster: self.cluster,
            server_proof: is_server.then(|| self.server_proof()),
            last_link: None,
            dial: self.run,
            network: NetworkInfo { version: 1, ..NetworkInfo::default() },
        }))
    }

    fn server_proof(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(self.server_key.as_bytes());
        hasher.update(&[u8::from(self.began())]).update(&self.id().to_bytes()).update(&self.export(b"server proof"));
        *hasher.finalize().as_bytes()
    }

    fn began(&self) -> bool {
        self.conn.as_ref().is_some_and(|(_, conn)| conn.side() == Side::Client)
    }

    fn export(&self, label: &[u8]) -> [u8; 32] {
        let exporter = self.exporter.unwrap_or_default();
        *blake3::Hasher::new_keyed(&exporter).update(label).finalize().as_bytes()
    }

    /// The key of the probes that it sends.
    pub(super) fn probe_key(&self) -> [u8; 32] {
        self.export(if self.began() { b"probes to the server" } else { b"probes to the client" })
    }

    pub(super) fn say(&mut self, message: &Control) {
        let bytes = message.encode();
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.write_control(&[&len.to_be_bytes()[..], &bytes].concat());
    }

    /// Any bytes on the control stream.
    pub(super) fn write_control(&mut self, bytes: &[u8]) {
        if self.control.is_none() {
            self.control = self.open(Dir::Uni);
        }
        if let Some(id) = self.control {
            self.write(id, bytes);
        }
    }

    pub(super) fn open(&mut self, dir: Dir) -> Option<StreamId> {
        let (_, conn) = self.conn.as_mut().filter(|_| self.exporter.is_some())?;
        conn.streams().open(dir)
    }

    pub(super) fn write(&mut self, id: StreamId, bytes: &[u8]) {
        if let Some((_, conn)) = &mut self.conn {
            let _ = conn.send_stream(id).write(bytes);
        }
    }

    pub(super) fn finish(&mut self, id: StreamId) {
        if let Some((_, conn)) = &mut self.conn {
            let _ = conn.send_stream(id).finish();
        }
    }

    pub(super) fn reset(&mut self, id: StreamId, stop: bool) {
        if let Some((_, conn)) = &mut self.conn {
            let code = VarInt::from_u32(3);
            if stop && id.dir() == Dir::Bi {
                let _ = conn.recv_stream(id).stop(code);
            } else {
                let _ = conn.send_stream(id).reset(code);
            }
        }
    }

    pub(super) fn datagram(&mut self, data: Bytes) {
        if let Some((_, conn)) = &mut self.conn {
            let _ = conn.datagrams().send(data, true);
        }
    }

    /// The next packet carries `frames` and nothing else.
    pub(super) fn forge(&mut self, frames: Vec<u8>) {
        let room = frames.len().min(1_000);
        self.forgery.frames(frames);
        self.datagram(Bytes::from(vec![0; room]));
        if let Some((_, conn)) = &mut self.conn {
            conn.ping();
        }
    }

    pub(super) fn close(&mut self, now: Instant, code: u32) {
        if let Some((_, conn)) = &mut self.conn {
            conn.close(now, VarInt::from_u32(code), Bytes::from_static(b"enough"));
        }
    }

    pub(super) fn update_keys(&mut self) {
        if let Some((_, conn)) = self.conn.as_mut().filter(|_| self.exporter.is_some()) {
            conn.force_key_update();
        }
    }

    fn read_control(&mut self) {
        let Some((_, conn)) = &mut self.conn else { return };
        while conn.streams().accept(Dir::Uni).is_some() {}
        while let Some(id) = conn.streams().accept(Dir::Bi) {
            self.streams.push(id);
        }
        let theirs = StreamId::new(!conn.side(), Dir::Uni, 0);
        if let Ok(mut chunks) = conn.recv_stream(theirs).read(true) {
            while let Ok(Some(chunk)) = chunks.next(usize::MAX) {
                self.unread.extend_from_slice(&chunk.bytes);
            }
            let _ = chunks.finalize();
        }
        if self.probe_token.is_none() {
            let Some(preface) = self.unread.first_chunk::<9>() else { return };
            self.probe_token = preface.last_chunk().copied();
            let _ = self.unread.split_to(9);
        }
        while let Some(len) = self.unread.first_chunk().map(|len| u32::from_be_bytes(*len) as usize)
            && self.unread.len() >= 4 + len
        {
            let _ = self.unread.split_to(4);
            let message = Control::decode(&self.unread.split_to(len)).expect("an honest node says what decodes");
            if let Control::Slot(slot) = message {
                self.slot = Some(slot);
            }
            if self.heard.len() >= MAX_HEARD {
                self.heard.pop_front();
            }
            self.heard.push_back(message);
        }
    }
}

fn transport() -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    let mut congestion = CubicConfig::default();
    congestion.initial_window(1 << 30);
    transport
        .max_idle_timeout(None)
        .initial_rtt(Duration::from_millis(1))
        .mtu_discovery_config(None)
        .datagram_receive_buffer_size(Some(65_536))
        .datagram_send_buffer_size(65_536)
        .congestion_controller_factory(Arc::new(congestion));
    Arc::new(transport)
}

fn endpoint(rng: &Rng) -> Endpoint {
    let ids = rng.fork("ids", 0);
    let generator = move || -> Box<dyn ConnectionIdGenerator> { Box::new(Ids(ids.clone())) };
    Endpoint::new(Arc::new(noise::endpoint_config(generator, rng.fork("endpoint", 0).bytes())), None, true, None)
}

struct Ids(Rng);

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        let [a, b, c, d] = self.0.bytes();
        let [e, f, g, h] = TOKEN;
        ConnectionId::new(&[e, f, g, h, a, b, c, d])
    }

    fn validate(&self, _: &ConnectionId) -> Result<(), InvalidCid> {
        Err(InvalidCid)
    }

    fn cid_len(&self) -> usize {
        8
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}
