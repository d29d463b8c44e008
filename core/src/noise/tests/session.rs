//! Bare sessions: fragments, tampering, and the bytes that other versions of this code must keep.

use proptest::prelude::*;
use quinn_proto::{
    Side,
    crypto::{HeaderKey, KeyPair, Keys, PacketKey, Session},
    transport_parameters::TransportParameters,
};

use snow::{
    params::{CipherChoice, DHChoice, HashChoice},
    resolvers::{BoxedCryptoResolver, CryptoResolver},
    types::{Dh, Hash, Random},
};

use super::{x25519::Resolver, *};
use crate::{id::hex, noise, rng::Rng};

const NONCE: [u8; 12] = [5; 12];

/// initial_max_data 65,536; and for the server the first id as original destination.
fn parameters(side: Side, first_id: &[u8; FIRST_ID_LEN]) -> TransportParameters {
    let mut bytes = vec![0x04, 4, 0x80, 1, 0, 0];
    if side.is_server() {
        bytes.extend_from_slice(&[0x00, FIRST_ID_LEN as u8]);
        bytes.extend_from_slice(first_id);
    }
    TransportParameters::read(!side, &mut bytes.as_slice()).unwrap()
}

struct Sessions {
    client: Box<dyn Session>,
    server: Box<dyn Session>,
}

impl Sessions {
    fn new() -> Self {
        let client = handshake(Role::Peer, 1, 1, &[]);
        let server = handshake(Role::Server, 2, 1, &[]);
        let id = first_id(client.network_key(), NONCE, Some(server.id()));
        Self::bound_to(&client, &server, id, id)
    }

    fn bound_to(client: &Arc<Handshake>, server: &Arc<Handshake>, dialled: [u8; 20], seen: [u8; 20]) -> Self {
        let config = super::client(client, Some(server.id()), dialled, CLIENT_SEED);
        let config_server = super::server(server, SERVER_SEED);
        Self {
            client: config.start_session(QUIC_VERSION, "", &parameters(Side::Client, &dialled)).unwrap(),
            server: config_server.start_session(QUIC_VERSION, &parameters(Side::Server, &seen)),
        }
    }

    /// Message `number` (0 and 2 from the client, 1 from the server; 3 is the confirmation) once all before it were
    /// delivered in pieces of `size` bytes.
    fn message(&mut self, number: usize, size: usize) -> Vec<u8> {
        let offer = write(&mut *self.client).0;
        if number == 0 {
            return offer;
        }
        deliver(&mut *self.server, &offer, size);
        let (answer, keys) = write(&mut *self.server);
        assert!(keys.is_some());
        let (confirmation, keys) = write(&mut *self.server);
        assert!(keys.is_none());
        if number == 1 {
            return answer;
        }
        deliver(&mut *self.client, &answer, size);
        let (nothing, keys) = write(&mut *self.client);
        assert!(nothing.is_empty() && keys.is_some());
        if number == 3 {
            return confirmation;
        }
        assert!(self.client.is_handshaking());
        deliver(&mut *self.client, &confirmation, size);
        let (finish, keys) = write(&mut *self.client);
        assert!(keys.is_some() && !self.client.is_handshaking());
        finish
    }

    /// The session that message `number` is for.
    fn receiver(&mut self, number: usize) -> &mut dyn Session {
        if number.is_multiple_of(2) { &mut *self.server } else { &mut *self.client }
    }
}

fn write(session: &mut dyn Session) -> (Vec<u8>, Option<Keys>) {
    let mut bytes = Vec::new();
    let keys = session.write_handshake(&mut bytes);
    (bytes, keys)
}

fn deliver(session: &mut dyn Session, message: &[u8], size: usize) {
    for fragment in message.chunks(size) {
        session.read_handshake(fragment).unwrap();
    }
}

fn refusal(session: &mut dyn Session, bytes: &[u8]) -> Option<HandshakeError> {
    session.read_handshake(bytes).err().and_then(|error| HandshakeError::from_code(error.code))
}

#[test]
fn a_handshake_in_fragments_of_any_size() {
    for size in [1, 2, 7, 64, 1_000] {
        let mut sessions = Sessions::new();
        let finish = sessions.message(2, size);
        assert!(sessions.server.is_handshaking() && sessions.server.peer_identity().is_none());
        deliver(&mut *sessions.server, &finish, size);
        let (nothing, keys) = write(&mut *sessions.server);
        assert!(nothing.is_empty() && keys.is_some() && !sessions.server.is_handshaking());
        assert!(sessions.client.next_1rtt_keys().is_some() && sessions.server.next_1rtt_keys().is_some());
        let export = |session: &dyn Session, len: usize| {
            let mut key = vec![0; len];
            session.export_keying_material(&mut key, b"label", b"context").map(|()| key)
        };
        assert_eq!(export(&*sessions.client, 77).unwrap(), export(&*sessions.server, 77).unwrap());
        assert!(export(&*sessions.client, 8_161).is_err());
    }
}

#[test]
fn nothing_can_be_exported_before_the_end() {
    let mut sessions = Sessions::new();
    sessions.message(3, 1_000);
    assert!(sessions.client.export_keying_material(&mut [0; 32], b"label", b"").is_err());
    assert!(sessions.client.next_1rtt_keys().is_none());
}

#[test]
fn every_byte_of_every_message_counts() {
    for number in 0..4 {
        let len = Sessions::new().message(number, 1_000).len();
        for at in 0..len {
            let mut sessions = Sessions::new();
            let mut message = sessions.message(number, 1_000);
            message[at] ^= 1;
            let receiver = sessions.receiver(number);
            let refused = receiver.read_handshake(&message).is_err();
            // a length that is larger only waits for more
            assert!(refused || at < 2, "message {number} byte {at}");
            assert!(receiver.is_handshaking() && receiver.peer_identity().is_none() || number == 3);
        }
    }
}

#[test]
fn bytes_behind_a_message_are_refused() {
    for number in 0..4 {
        let mut sessions = Sessions::new();
        let mut message = sessions.message(number, 1_000);
        message.push(0);
        assert_eq!(refusal(sessions.receiver(number), &message), Some(HandshakeError::Malformed));
        let mut sessions = Sessions::new();
        let message = sessions.message(number, 1_000);
        let receiver = sessions.receiver(number);
        receiver.read_handshake(&message).unwrap();
        assert_eq!(refusal(receiver, &[0]), Some(HandshakeError::Malformed));
    }
}

#[test]
fn a_failed_session_stays_failed() {
    let mut sessions = Sessions::new();
    let message = sessions.message(0, 1_000);
    let mut tampered = message.clone();
    tampered[40] ^= 1;
    assert_eq!(refusal(&mut *sessions.server, &tampered), Some(HandshakeError::NotAuthentic));
    assert!(sessions.server.read_handshake(&message).is_err());
    assert!(sessions.server.is_handshaking());
}

#[test]
fn message_1_is_good_for_its_first_id_only() {
    let client = handshake(Role::Peer, 1, 1, &[]);
    let server = handshake(Role::Server, 2, 1, &[]);
    let dialled = first_id(client.network_key(), NONCE, Some(server.id()));
    let seen = first_id(client.network_key(), [6; 12], Some(server.id()));
    let mut sessions = Sessions::bound_to(&client, &server, dialled, seen);
    let message = sessions.message(0, 1_000);
    assert_eq!(refusal(&mut *sessions.server, &message), Some(HandshakeError::NotAuthentic));
}

/// X25519 with a public key of order 1.
struct SmallOrder(Box<dyn Dh>);

impl Dh for SmallOrder {
    fn name(&self) -> &'static str {
        self.0.name()
    }
    fn pub_len(&self) -> usize {
        self.0.pub_len()
    }
    fn priv_len(&self) -> usize {
        self.0.priv_len()
    }
    fn set(&mut self, secret: &[u8]) {
        self.0.set(secret);
    }
    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), snow::Error> {
        self.0.generate(rng)
    }
    fn pubkey(&self) -> &[u8] {
        &[0; 32]
    }
    fn privkey(&self) -> &[u8] {
        self.0.privkey()
    }
    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
        self.0.dh(public, out)
    }
}

struct Dishonest(Resolver);

impl CryptoResolver for Dishonest {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        self.0.resolve_rng()
    }
    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        self.0.resolve_dh(choice).map(|dh| Box::new(SmallOrder(dh)) as _)
    }
    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        self.0.resolve_hash(choice)
    }
    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn snow::types::Cipher>> {
        self.0.resolve_cipher(choice)
    }
}

fn builder<'a>(resolver: BoxedCryptoResolver, psk: &'a [u8; 32], prologue: &'a [u8]) -> snow::Builder<'a> {
    snow::Builder::with_resolver(noise::session::PATTERN.parse().unwrap(), resolver)
        .psk(0, psk)
        .and_then(|builder| builder.prologue(prologue))
        .and_then(|builder| builder.local_private_key(&[1; 32]))
        .unwrap()
}

#[test]
fn a_member_whose_key_has_small_order_is_refused() {
    let mut sessions = Sessions::new();
    let key = NetworkKey::from_bytes([1; 32]);
    let server = handshake(Role::Server, 2, 1, &[]).id();
    let (psk, prologue) = (schedule::psk(&key), schedule::prologue(&key, &first_id(&key, NONCE, Some(server))));
    let resolver = Resolver { rng: Rng::from_seed([1; 32]), static_public: PublicKey([0; 32]) };
    let mut state =
        snow::Builder::with_resolver(noise::session::PATTERN.parse().unwrap(), Box::new(Dishonest(resolver)))
            .psk(0, &psk)
            .and_then(|builder| builder.prologue(&prologue))
            .and_then(|builder| builder.local_private_key(&[1; 32]))
            .and_then(|builder| builder.build_initiator())
            .unwrap();
    let mut message = [0; 200];
    let offer = messages::offer(&messages::ALL_CIPHERS, &[]);
    let len = state.write_message(&offer, &mut message).unwrap();
    let refused = refusal(&mut *sessions.server, &messages::frame(&message[..len]));
    assert_eq!(refused, Some(HandshakeError::NotAuthentic));
}

#[test]
fn a_server_that_chooses_a_cipher_not_offered_is_refused() {
    let client = handshake(Role::Peer, 1, 1, &[Cipher::Aes128Gcm]);
    let key = client.network_key();
    let id = first_id(key, NONCE, None);
    let config = super::client(&client, None, id, CLIENT_SEED);
    let mut session = config.start_session(QUIC_VERSION, "", &parameters(Side::Client, &id)).unwrap();
    let (psk, prologue) = (schedule::psk(key), schedule::prologue(key, &id));
    let resolver = Resolver { rng: Rng::from_seed([1; 32]), static_public: PublicKey(public_key(&[1; 32])) };
    let mut state = builder(Box::new(resolver), &psk, &prologue).build_responder().unwrap();
    state.read_message(&write(&mut *session).0[2..], &mut [0; 200]).unwrap();
    let answer = messages::answer(Cipher::ChaCha20Poly1305, Role::Server, &[]);
    let mut message = [0; 200];
    let len = state.write_message(&answer, &mut message).unwrap();
    let refused = refusal(&mut *session, &messages::frame(&message[..len]));
    assert_eq!(refused, Some(HandshakeError::NoCommonCipher));
}

#[test]
fn one_seed_gives_two_connections_different_ephemeral_keys() {
    let handshake = handshake(Role::Peer, 1, 1, &[]);
    let id = first_id(handshake.network_key(), NONCE, None);
    let ephemeral = |max_data: u8| {
        let config = super::client(&handshake, None, id, CLIENT_SEED);
        let parameters = TransportParameters::read(Side::Server, &mut &[0x04, 1, max_data][..]).unwrap();
        let mut session = config.start_session(QUIC_VERSION, "", &parameters).unwrap();
        write(&mut *session).0[2..34].to_vec()
    };
    assert_eq!(ephemeral(1), ephemeral(1));
    assert_ne!(ephemeral(1), ephemeral(2));
}

#[test]
fn message_1_needs_the_network_key() {
    let (client, server) = (handshake(Role::Peer, 1, 1, &[]), handshake(Role::Server, 2, 66, &[]));
    let id = first_id(client.network_key(), NONCE, Some(server.id()));
    let mut sessions = Sessions::bound_to(&client, &server, id, id);
    let message = sessions.message(0, 1_000);
    assert_eq!(refusal(&mut *sessions.server, &message), Some(HandshakeError::NotAuthentic));
}

proptest! {
    #[test]
    fn hostile_bytes_never_panic(number in 0..4_usize, bytes in proptest::collection::vec(any::<u8>(), 0..1_500)) {
        let mut sessions = Sessions::new();
        sessions.message(number, 1_000);
        let receiver = sessions.receiver(number);
        let _ = receiver.read_handshake(&bytes);
        prop_assert!(receiver.is_handshaking() || bytes == [1]);
        let _ = admit(&bytes);
    }
}

proptest! {
    #[test]
    fn hostile_parameters_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100), id in 0..0x40_u8) {
        for side in [Side::Client, Side::Server] {
            let _ = messages::read_parameters(side, &bytes);
            let one = [&[id, bytes.len().min(63) as u8], &bytes[..bytes.len().min(63)]].concat();
            let _ = messages::read_parameters(side, &one);
        }
    }
}

/// A packet sealed and masked by `keys`.
fn packet(keys: &KeyPair<Box<dyn PacketKey>>, header: Option<&KeyPair<Box<dyn HeaderKey>>>) -> String {
    let head = [0xc0, 0, 0, 0, 1, 1, 7, 1, 9, 2];
    let mut packet = [head.as_slice(), b"payload", &[0; 16]].concat();
    keys.local.encrypt(2, &mut packet, head.len());
    if let Some(header) = header {
        header.local.encrypt(head.len() - 1, &mut packet);
    }
    hex(&packet)
}

fn packets(keys: &Keys) -> String {
    packet(&keys.packet, Some(&keys.header))
}

/// A change of these bytes is a change of the protocol: it needs another version number.
#[test]
fn golden_bytes() {
    let server = handshake(Role::Server, 2, 1, &[]);
    let id = first_id(server.network_key(), NONCE, Some(server.id()));
    let mut found = vec![hex(&id), hex(&first_id(server.network_key(), NONCE, None))];
    found.extend((0..3).map(|number| hex(&Sessions::new().message(number, 1_000))));

    let Sessions { mut client, server: mut answering } = Sessions::new();
    let first = quinn_proto::ConnectionId::new(&id);
    found.extend([Side::Client, Side::Server].map(|side| packets(&client.initial_keys(&first, side))));
    deliver(&mut *answering, &write(&mut *client).0, 1_000);
    let (answer, keys) = write(&mut *answering);
    found.push(packets(&keys.unwrap()));
    deliver(&mut *client, &answer, 1_000);
    found.push(packets(&write(&mut *client).1.unwrap()));
    deliver(&mut *client, &write(&mut *answering).0, 1_000);
    let (finish, keys) = write(&mut *client);
    found.push(packets(&keys.unwrap()));
    deliver(&mut *answering, &finish, 1_000);
    found.push(packets(&write(&mut *answering).1.unwrap()));
    found.extend([&mut client, &mut answering].map(|session| packet(&session.next_1rtt_keys().unwrap(), None)));
    let mut exported = [0; 32];
    client.export_keying_material(&mut exported, b"label", b"context").unwrap();
    found.push(hex(&exported));

    let names = [
        "first-id-named",
        "first-id-unnamed",
        "message-1",
        "message-2",
        "message-3",
        "initial-client",
        "initial-server",
        "handshake-server",
        "handshake-client",
        "1-rtt-client",
        "1-rtt-server",
        "updated-client",
        "updated-server",
        "exported",
    ];
    let lines: String = names.iter().zip(found).map(|(name, bytes)| format!("{name} {bytes}\n")).collect();
    assert_eq!(lines, include_str!("golden.txt"), "\n{lines}");
}
