//! Whole connections.

use std::time::Duration;

use quinn_proto::ConnectionError;

use super::{
    pair::{NONCE, Pair, config},
    *,
};

fn two() -> (Arc<Handshake>, Arc<Handshake>) {
    (handshake(Role::Peer, 1, 1, &[]), handshake(Role::Server, 2, 1, &[]))
}

#[test]
fn both_ends_know_each_other_and_share_exported_keys() {
    let (client, server) = two();
    let pair = Pair::new(&client, &server, Some(server.id())).connect();
    let at_client = RemoteKey { public: *server.public_key(), role: Role::Server, id: server.id() };
    let at_server = RemoteKey { public: *client.public_key(), role: Role::Peer, id: client.id() };
    assert_eq!(pair.client.remote(), at_client);
    assert_eq!(pair.server.remote(), at_server);
    assert_eq!(pair.client.export(b"label"), pair.server.export(b"label"));
    assert_ne!(pair.client.export(b"label"), pair.client.export(b"another"));
}

#[test]
fn data_flows_under_either_cipher() {
    for cipher in [Cipher::Aes128Gcm, Cipher::ChaCha20Poly1305] {
        let client = handshake(Role::Peer, 1, 1, &[]);
        let server = handshake(Role::Peer, 2, 1, &[cipher]);
        let mut pair = Pair::new(&client, &server, None).connect();
        assert_eq!((pair.client.cipher(), pair.server.cipher()), (cipher, cipher));
        pair.exchange(&[7; 100_000]);
    }
}

#[test]
fn no_common_cipher_fails_the_dial() {
    let client = handshake(Role::Peer, 1, 1, &[Cipher::Aes128Gcm]);
    let server = handshake(Role::Peer, 2, 1, &[Cipher::ChaCha20Poly1305]);
    let mut pair = Pair::new(&client, &server, None);
    pair.step();
    assert_eq!(pair.server.outcome.refused_with, Some(HandshakeError::NoCommonCipher));
}

#[test]
fn the_client_is_connected_after_one_round_trip_and_the_server_half_a_one_later() {
    let (client, server) = two();
    let mut pair = Pair::new(&client, &server, None);
    pair.step();
    assert_eq!((pair.client.sent.len(), pair.server.sent.len()), (1, 1));
    assert!(!pair.server.outcome.connected);
    pair.step();
    assert!(pair.client.outcome.connected && pair.server.outcome.connected);
}

#[test]
fn a_stranger_gets_no_byte() {
    let client = handshake(Role::Peer, 1, 66, &[]);
    let server = handshake(Role::Server, 2, 1, &[]);
    let mut pair = Pair::new(&client, &server, Some(server.id()));
    assert!(!pair.run(300, |pair| !pair.server.sent.is_empty() || pair.server.connection.is_some()));
    assert!(pair.client.sent.len() > 1, "the client tried again");
    assert_eq!(pair.server.outcome.refused_with, None);
}

#[test]
fn a_first_packet_without_the_right_keys_gets_no_byte() {
    let (client, server) = two();
    let mut honest = Pair::new(&client, &server, Some(server.id()));
    honest.step();
    let mut forged = honest.client.sent[0].clone();
    *forged.last_mut().unwrap() ^= 1;
    let mut pair = Pair::idle(config(CLIENT_SEED), &server);
    let now = pair.now;
    pair.server.receive(now, &forged);
    assert!(pair.server.connection.is_none());
    assert_eq!(pair.server.outcome.refused_with, None);
}

#[test]
fn a_first_packet_for_another_node_or_with_a_short_id_is_ignored() {
    let (client, server) = two();
    let mut pair = Pair::new(&client, &server, Some(client.id()));
    assert!(!pair.run(20, |pair| pair.server.connection.is_some()));
    // past the header, quinn-proto would answer this one with a close
    let mut short = vec![0; 1_200];
    short[0] = 0xc0;
    short[1..5].copy_from_slice(&QUIC_VERSION.to_be_bytes());
    short[5] = 4;
    let now = pair.now;
    pair.server.receive(now, &short);
    // a connection id that nobody has would draw a stateless reset
    pair.server.receive(now, &[0x40; 1_200]);
    assert!(pair.server.sent.is_empty());
}

#[test]
fn a_remote_with_another_id_is_told_apart() {
    let (client, server) = two();
    let other = handshake(Role::Server, 3, 1, &[]);
    // the first id names nobody, so that the wrong node does answer
    let id = first_id(client.network_key(), NONCE, None);
    let mut pair = Pair::idle(config(CLIENT_SEED), &server);
    pair.dial(super::client(&client, Some(other.id()), id, CLIENT_SEED), id);
    assert!(pair.run(100, |pair| pair.client.outcome.lost.is_some()));
    let Some(ConnectionError::TransportError(error)) = &pair.client.outcome.lost else { panic!() };
    assert_eq!(HandshakeError::from_code(error.code), Some(HandshakeError::WrongId));
    assert!(!pair.run(100, |pair| pair.server.outcome.connected));
}

#[test]
fn an_endpoint_that_only_dials_answers_no_first_packet() {
    let (client, server) = two();
    let mut honest = Pair::new(&server, &client, None);
    honest.step();
    let mut pair = Pair::new(&client, &server, None);
    let now = pair.now;
    pair.client.connection = None;
    pair.client.receive(now, &honest.client.sent[0]);
    assert!(pair.client.connection.is_none() && pair.client.outcome.refused_with.is_none());
}

#[test]
fn one_key_under_another_role_is_another_id() {
    let client = handshake(Role::Peer, 1, 1, &[]);
    let (peer, server) = (handshake(Role::Peer, 2, 1, &[]), handshake(Role::Server, 2, 1, &[]));
    let id = first_id(client.network_key(), NONCE, None);
    let mut pair = Pair::idle(config(CLIENT_SEED), &peer);
    pair.dial(super::client(&client, Some(server.id()), id, CLIENT_SEED), id);
    assert!(pair.run(100, |pair| pair.client.outcome.lost.is_some()));
}

#[test]
fn a_remote_that_greases_the_fixed_bit_is_refused() {
    let (client, server) = two();
    let id = first_id(client.network_key(), NONCE, None);
    let mut greasing = config(CLIENT_SEED);
    greasing.grease_quic_bit(true);
    let mut pair = Pair::idle(greasing, &server);
    pair.dial(super::client(&client, None, id, CLIENT_SEED), id);
    pair.step();
    assert_eq!(pair.server.outcome.refused_with, Some(HandshakeError::Parameters));
}

#[test]
fn loss_delays_a_handshake_but_never_stops_it() {
    let (client, server) = two();
    for seed in 0..40 {
        let mut pair = Pair::new(&client, &server, None).lossy(40, seed).connect();
        pair.exchange(&[seed; 5_000]);
    }
}

#[test]
fn keys_are_updated_under_way_by_either_end() {
    let (client, server) = two();
    let mut pair = Pair::new(&client, &server, None).connect();
    for round in 0..6 {
        let side = if round % 2 == 0 { &mut pair.client } else { &mut pair.server };
        side.connection().force_key_update();
        pair.exchange(&[round; 20_000]);
        // old keys are dropped three timeouts after both ends have heard of the new ones; until then no other update begins
        pair.run(100, |_| false);
        pair.now += Duration::from_secs(3);
        pair.step();
    }
    assert_eq!(pair.client.export(b"label"), pair.server.export(b"label"));
    for end in [&client, &server] {
        assert!(end.key_updates() >= 6, "{}", end.key_updates());
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let (client, server) = two();
    let run = |seed: u8| {
        let mut pair = Pair::new(&client, &server, None).lossy(10, seed).connect();
        pair.exchange(&[1; 50_000]);
        (pair.client.sent, pair.server.sent)
    };
    assert!(run(1) == run(1));
}
