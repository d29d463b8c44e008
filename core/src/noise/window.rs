//! What fuzzing sees of the handshake's payloads.

use quinn_proto::Side;

pub use super::HandshakeError;
use super::messages::{self, Assembly};
use crate::{Cipher, Role};

/// What one Noise message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Of message 1.
    Offer(Vec<Cipher>, Vec<u8>),
    /// Of message 2.
    Answer(Cipher, Role, Vec<u8>),
    /// Of message 3.
    Finish(Role),
}

impl Payload {
    /// The bytes.
    pub fn write(&self) -> Vec<u8> {
        match self {
            Self::Offer(ciphers, parameters) => messages::offer(ciphers, parameters),
            Self::Answer(cipher, role, parameters) => messages::answer(*cipher, *role, parameters),
            Self::Finish(role) => messages::finish(*role).to_vec(),
        }
    }

    /// Reads the payload of message `number`.
    ///
    /// # Errors
    /// It is none.
    pub fn read(number: u8, payload: &[u8]) -> Result<Self, HandshakeError> {
        match number {
            1 => messages::read_offer(payload).map(|(ciphers, rest)| Self::Offer(ciphers, rest.to_vec())),
            2 => messages::read_answer(payload).map(|(cipher, role, rest)| Self::Answer(cipher, role, rest.to_vec())),
            _ => messages::read_finish(payload).map(Self::Finish),
        }
    }
}

/// The transport parameters of the remote of `side`, as they are written again.
///
/// # Errors
/// They are none, or leave the protocol.
pub fn parameters(side: Side, bytes: &[u8]) -> Result<Vec<u8>, HandshakeError> {
    let _ = messages::original_destination(bytes);
    messages::read_parameters(side, bytes).map(|parameters| messages::write_parameters(&parameters))
}

/// `message` behind its length.
pub fn frame(message: &[u8]) -> Vec<u8> {
    messages::frame(message)
}

/// The message in `fragments`, if it is complete with the last one.
///
/// # Errors
/// It is too long, or something follows it.
pub fn assemble<'a>(fragments: impl IntoIterator<Item = &'a [u8]>) -> Result<Option<Vec<u8>>, HandshakeError> {
    let (mut assembly, mut done) = (Assembly::default(), None);
    for fragment in fragments {
        if done.is_some() {
            return Err(HandshakeError::Malformed);
        }
        done = assembly.push(fragment)?;
    }
    Ok(done)
}

/// The longest Noise message in bytes, without its length.
pub const MAX_MESSAGE: usize = messages::MAX_MESSAGE;
