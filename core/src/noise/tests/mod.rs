//! The handshake between two quinn-proto endpoints in memory, and between bare sessions.

mod connection;
mod pair;
mod session;

use super::*;
use crate::{Role, SecretKey};

const CLIENT_SEED: [u8; 32] = [11; 32];
const SERVER_SEED: [u8; 32] = [12; 32];

fn handshake(role: Role, secret: u8, network: u8, ciphers: &[Cipher]) -> Arc<Handshake> {
    let identity = Identity::new(role, SecretKey::from_bytes([secret; 32]));
    Arc::new(Handshake::new(identity, NetworkKey::from_bytes([network; 32]), ciphers.to_vec()))
}
