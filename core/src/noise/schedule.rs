//! The key schedule: every label in one place. `docs/handshake.md` lists it.

use quinn_proto::{
    Side,
    crypto::{ExportKeyingMaterialError, KeyPair, Keys, PacketKey},
};
use zeroize::{Zeroize, Zeroizing};

use super::{
    FIRST_ID_LEN, QUIC_VERSION,
    packet::{Headers, InitialAnswers, NextPackets, Packets},
};
use crate::{Cipher, NetworkKey};

pub(super) type Secret = Zeroizing<[u8; 32]>;

/// The most that can be exported at once, as in TLS with a hash of 32 bytes.
const MAX_EXPORT: usize = 255 * 32;

pub(super) fn psk(key: &NetworkKey) -> Secret {
    derive("p2pcore 2026 noise psk", &[key.as_bytes()])
}

/// What both ends must agree on before the first message: protocol version, network and dial.
pub(super) fn prologue(key: &NetworkKey, first_id: &[u8; FIRST_ID_LEN]) -> Vec<u8> {
    let network_id = derive("p2pcore 2026 network id", &[key.as_bytes()]);
    [QUIC_VERSION.to_be_bytes().as_slice(), network_id.as_slice(), first_id].concat()
}

/// Initial keys: a filter, never a secret.
pub(super) fn initial_keys(key: &NetworkKey, first_id: &[u8], side: Side) -> Keys {
    const CIPHER: Cipher = Cipher::ChaCha20Poly1305;
    let client = derive("p2pcore 2026 initial client", &[key.as_bytes(), first_id]);
    let server = derive("p2pcore 2026 initial server", &[key.as_bytes(), first_id]);
    let questions: Box<dyn PacketKey> = Box::new(Packets::new(CIPHER, &client));
    let headers = [&client, &server].map(|secret| Box::new(Headers::new(CIPHER, secret)) as _);
    let answers: Box<dyn PacketKey> = Box::new(InitialAnswers(server));
    Keys { header: pair(side, headers), packet: pair(side, [questions, answers]) }
}

/// The secret of the server's Initial packets under one source connection id.
pub(super) fn initial_answer(server: &Secret, source: &[u8]) -> Secret {
    derive("p2pcore 2026 initial answer", &[server.as_slice(), source])
}

/// One encryption level's traffic secrets, by direction.
pub(super) struct Secrets {
    cipher: Cipher,
    client: Secret,
    server: Secret,
}

impl Secrets {
    /// From the chaining key after message 2.
    pub(super) fn handshake(cipher: Cipher, noise: &mut snow::HandshakeState) -> Self {
        let (client, server) = split(noise);
        let hash = noise.get_handshake_hash();
        Self {
            cipher,
            client: derive("p2pcore 2026 handshake client", &[client.as_slice(), hash]),
            server: derive("p2pcore 2026 handshake server", &[server.as_slice(), hash]),
        }
    }

    /// From the chaining key after message 3; and the exporter's key.
    pub(super) fn application(cipher: Cipher, noise: &mut snow::HandshakeState) -> (Self, Exporter) {
        let (client, server) = split(noise);
        let hash = noise.get_handshake_hash();
        let exporter = derive("p2pcore 2026 exporter", &[client.as_slice(), server.as_slice(), hash]);
        let secrets = Self {
            cipher,
            client: derive("p2pcore 2026 1-rtt client", &[client.as_slice(), hash]),
            server: derive("p2pcore 2026 1-rtt server", &[server.as_slice(), hash]),
        };
        (secrets, Exporter(exporter))
    }

    /// The keys of `side`.
    pub(super) fn keys(&self, side: Side) -> Keys {
        let headers = [&self.client, &self.server].map(|secret| Box::new(Headers::new(self.cipher, secret)) as _);
        let packets = [&self.client, &self.server].map(|secret| Box::new(Packets::new(self.cipher, secret)) as _);
        Keys { header: pair(side, headers), packet: pair(side, packets) }
    }

    /// Goes one key update on and erases what came before; headers keep their keys (RFC 9001 section 6.1).
    pub(super) fn update(&mut self, side: Side) -> KeyPair<Box<dyn PacketKey>> {
        for secret in [&mut self.client, &mut self.server] {
            *secret = derive("p2pcore 2026 key update", &[secret.as_slice()]);
        }
        pair(side, [&self.client, &self.server].map(|secret| Box::new(NextPackets::new(self.cipher, secret)) as _))
    }
}

/// Derives what both ends know and nobody else.
pub(super) struct Exporter(Secret);

impl Exporter {
    pub(super) fn export(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        if output.len() > MAX_EXPORT {
            return Err(ExportKeyingMaterialError);
        }
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        for part in [label, context] {
            hasher.update(&(part.len() as u64).to_be_bytes()).update(part);
        }
        hasher.finalize_xof().fill(output);
        Ok(())
    }
}

/// Packet key and iv: 12 bytes of iv, then the key.
pub(super) fn packet_material(cipher: Cipher, secret: &Secret, material: &mut [u8]) {
    expand("p2pcore 2026 packet key", cipher, secret, material);
}

/// Header protection key.
pub(super) fn header_material(cipher: Cipher, secret: &Secret, material: &mut [u8]) {
    expand("p2pcore 2026 header key", cipher, secret, material);
}

fn expand(label: &'static str, cipher: Cipher, secret: &Secret, material: &mut [u8]) {
    let mut hasher = blake3::Hasher::new_derive_key(label);
    hasher.update(&[super::messages::cipher_number(cipher)]).update(secret.as_slice());
    hasher.finalize_xof().fill(material);
}

fn derive(label: &'static str, parts: &[&[u8]]) -> Secret {
    let mut hasher = blake3::Hasher::new_derive_key(label);
    for part in parts {
        hasher.update(part);
    }
    let mut secret = Secret::default();
    hasher.finalize_xof().fill(secret.as_mut());
    secret
}

fn split(noise: &mut snow::HandshakeState) -> (Secret, Secret) {
    let (mut client, mut server) = noise.dangerously_get_raw_split();
    let secrets = (Secret::new(client), Secret::new(server));
    client.zeroize();
    server.zeroize();
    secrets
}

/// Sorts what belongs to [client, server] into local and remote.
fn pair<T>(side: Side, [client, server]: [T; 2]) -> KeyPair<T> {
    match side {
        Side::Client => KeyPair { local: client, remote: server },
        Side::Server => KeyPair { local: server, remote: client },
    }
}
