//! Noise in QUIC: who may speak, who is speaking, and the keys that follow.
//!
//! `Noise_XXpsk0_25519_ChaChaPoly_BLAKE2s` takes the place of TLS under quinn-proto. Messages 1 and 2 travel in Initial
//! packets, a confirming byte of the server and message 3 in Handshake packets. The layouts and the key schedule are
//! in `docs/handshake.md`.
//!
//! Two duties stay with the caller, because quinn-proto would answer before anything is authenticated: only datagrams
//! that pass [`admit()`] and, when they open a connection, [`check_first_id`] may reach an `Endpoint`; and what `handle`
//! or a failed `accept` of an `Endpoint` would have sent in response is never sent.

mod admit;
mod entropy;
mod error;
mod first_id;
mod messages;
mod packet;
mod reader;
mod schedule;
mod session;
mod x25519;

#[cfg(feature = "fuzzing")]
pub mod window;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

pub use admit::{Admitted, admit};
pub use entropy::{client_config, endpoint_config, server_config};
pub use error::HandshakeError;
pub use first_id::{FIRST_ID_LEN, FirstId, NonceFilter, check_first_id, first_id};
use quinn_proto::crypto;
pub use session::RemoteKey;
pub use x25519::public_key;

use crate::{Cipher, Id, Identity, NetworkKey, PublicKey};

/// "p2p" and the number of this protocol version; not one of the versions reserved by RFC 9000.
pub const QUIC_VERSION: u32 = 0x7032_7001;

/// What all handshakes of a node have in common.
pub struct Handshake {
    identity: Identity,
    network_key: NetworkKey,
    ciphers: Vec<Cipher>,
    key_updates: AtomicU64,
}

impl Handshake {
    /// `ciphers` in the order of preference; repeated ones are dropped, none at all means all in the default order.
    pub fn new(identity: Identity, network_key: NetworkKey, ciphers: Vec<Cipher>) -> Self {
        let ciphers = if ciphers.is_empty() { messages::ALL_CIPHERS.to_vec() } else { ciphers };
        let mut distinct = Vec::new();
        for cipher in ciphers {
            if !distinct.contains(&cipher) {
                distinct.push(cipher);
            }
        }
        Self { identity, network_key, ciphers: distinct, key_updates: AtomicU64::new(0) }
    }

    /// This node's Id.
    pub const fn id(&self) -> Id {
        self.identity.id()
    }

    /// This node's static public key.
    pub const fn public_key(&self) -> &PublicKey {
        self.identity.public()
    }

    /// The network key that every handshake is bound to.
    pub const fn network_key(&self) -> &NetworkKey {
        &self.network_key
    }

    /// How often connections of this node have taken new packet keys into use, by whichever end began it.
    pub fn key_updates(&self) -> u64 {
        self.key_updates.load(Ordering::Relaxed)
    }

    fn note_key_update(&self) {
        self.key_updates.fetch_add(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake").field("id", &self.id()).field("ciphers", &self.ciphers).finish_non_exhaustive()
    }
}

/// The crypto of one dial. With `expected`, a remote that proves another Id fails it with [`HandshakeError::WrongId`].
///
/// `first_id` must be the connection's first destination id (see [`client_config`]): message 1 is bound to it, so it
/// cannot be turned to another node. Everything random follows from `seed`; draw a new one for each dial.
pub fn client(
    handshake: &Arc<Handshake>,
    expected: Option<Id>,
    first_id: [u8; FIRST_ID_LEN],
    seed: [u8; 32],
) -> Arc<dyn crypto::ClientConfig> {
    Arc::new(session::Client { handshake: Arc::clone(handshake), expected, first_id, seed })
}

/// The crypto of the answering side. Everything random follows from `seed` and from the connection's own ids.
///
/// A first packet whose destination id has no valid tag for this node is ignored without an answer.
pub fn server(handshake: &Arc<Handshake>, seed: [u8; 32]) -> Arc<dyn crypto::ServerConfig> {
    Arc::new(session::Server { handshake: Arc::clone(handshake), seed })
}

/// The crypto of an answering side that answers nobody, for endpoints that only dial: without any, quinn-proto sends a
/// stateless reset to first packets.
pub fn deaf(handshake: &Arc<Handshake>) -> Arc<dyn crypto::ServerConfig> {
    Arc::new(session::Deaf { handshake: Arc::clone(handshake) })
}
