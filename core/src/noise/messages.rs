//! What the Noise messages carry, and how they are framed in the CRYPTO stream.

use quinn_proto::{Side, transport_parameters::TransportParameters};

use super::{FIRST_ID_LEN, HandshakeError, reader::Reader};
use crate::{Cipher, Role};

/// The longest Noise message, in bytes without its length.
pub(super) const MAX_MESSAGE: usize = 1_024;

/// The byte by which the server lets the client confirm the Handshake keys.
pub(super) const CONFIRM: u8 = 1;

pub(super) const ALL_CIPHERS: [Cipher; 2] = [Cipher::Aes128Gcm, Cipher::ChaCha20Poly1305];

const MAX_CIPHERS: usize = 8;

pub(super) const fn cipher_number(cipher: Cipher) -> u8 {
    match cipher {
        Cipher::Aes128Gcm => 1,
        Cipher::ChaCha20Poly1305 => 2,
    }
}

fn cipher(number: u8) -> Option<Cipher> {
    ALL_CIPHERS.into_iter().find(|cipher| cipher_number(*cipher) == number)
}

fn role(letter: u8) -> Option<Role> {
    [Role::Peer, Role::Server].into_iter().find(|role| role_letter(*role) == letter)
}

fn role_letter(role: Role) -> u8 {
    role.letter() as u8
}

/// Payload of message 1: how many ciphers, their numbers in the order of preference, transport parameters.
pub(super) fn offer(ciphers: &[Cipher], parameters: &[u8]) -> Vec<u8> {
    let numbers: Vec<u8> = ciphers.iter().map(|cipher| cipher_number(*cipher)).collect();
    [&[numbers.len() as u8], numbers.as_slice(), parameters].concat()
}

/// Reads [`offer`]; unknown ciphers are left out.
pub(super) fn read_offer(payload: &[u8]) -> Result<(Vec<Cipher>, &[u8]), HandshakeError> {
    let mut reader = Reader::new(payload);
    let count = reader.u8().map(usize::from).filter(|count| *count <= MAX_CIPHERS);
    let numbers = count.and_then(|count| reader.bytes(count)).ok_or(HandshakeError::Malformed)?;
    Ok((numbers.iter().filter_map(|number| cipher(*number)).collect(), reader.rest()))
}

/// Payload of message 2: the cipher chosen, the server's role letter, transport parameters.
pub(super) fn answer(cipher: Cipher, role: Role, parameters: &[u8]) -> Vec<u8> {
    [&[cipher_number(cipher), role_letter(role)], parameters].concat()
}

/// Reads [`answer`].
pub(super) fn read_answer(payload: &[u8]) -> Result<(Cipher, Role, &[u8]), HandshakeError> {
    let [number, letter, parameters @ ..] = payload else { return Err(HandshakeError::Malformed) };
    let role = role(*letter).ok_or(HandshakeError::Malformed)?;
    Ok((cipher(*number).ok_or(HandshakeError::NoCommonCipher)?, role, parameters))
}

/// Payload of message 3: the client's role letter.
pub(super) fn finish(role: Role) -> [u8; 1] {
    [role_letter(role)]
}

/// Reads [`finish`].
pub(super) fn read_finish(payload: &[u8]) -> Result<Role, HandshakeError> {
    let [letter] = payload else { return Err(HandshakeError::Malformed) };
    role(*letter).ok_or(HandshakeError::Malformed)
}

/// The server's choice: ChaCha20 if both have it and either puts it first (it lacks AES instructions), else the
/// server's favourite among those offered.
pub(super) fn choose(ours: &[Cipher], offered: &[Cipher]) -> Option<Cipher> {
    const CHACHA: Cipher = Cipher::ChaCha20Poly1305;
    let wanted = ours.first() == Some(&CHACHA) || offered.first() == Some(&CHACHA);
    let common = |cipher: &Cipher| offered.contains(cipher);
    if wanted && ours.contains(&CHACHA) && common(&CHACHA) {
        return Some(CHACHA);
    }
    ours.iter().copied().find(common)
}

pub(super) fn write_parameters(parameters: &TransportParameters) -> Vec<u8> {
    let mut bytes = Vec::new();
    parameters.write(&mut bytes);
    bytes
}

/// Reads the remote's transport parameters as `side`, and refuses those that would let it leave this protocol.
pub(super) fn read_parameters(side: Side, bytes: &[u8]) -> Result<TransportParameters, HandshakeError> {
    // the fixed bit tells QUIC from relay packets; addresses are the path set's; there is no Retry
    const RETRY_SOURCE_ID: u64 = 0x10;
    const PREFERRED_ADDRESS: u64 = 0x0d;
    const GREASE_QUIC_BIT: u64 = 0x2ab2;
    for forbidden in [RETRY_SOURCE_ID, PREFERRED_ADDRESS, GREASE_QUIC_BIT] {
        if parameter(bytes, forbidden)?.is_some() {
            return Err(HandshakeError::Parameters);
        }
    }
    TransportParameters::read(side, &mut &*bytes).map_err(|_| HandshakeError::Parameters)
}

/// The first destination id that the server's own parameters name.
pub(super) fn original_destination(parameters: &[u8]) -> Option<[u8; FIRST_ID_LEN]> {
    const ORIGINAL_DESTINATION_ID: u64 = 0x00;
    parameter(parameters, ORIGINAL_DESTINATION_ID).ok().flatten()?.try_into().ok()
}

fn parameter(parameters: &[u8], wanted: u64) -> Result<Option<&[u8]>, HandshakeError> {
    let mut reader = Reader::new(parameters);
    while !reader.is_empty() {
        let id = reader.varint().ok_or(HandshakeError::Parameters)?;
        let value = reader.counted().ok_or(HandshakeError::Parameters)?;
        if id == wanted {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

/// A Noise message behind its length, a big-endian u16.
pub(super) fn frame(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes(), message].concat()
}

/// Puts one message together from the fragments of a CRYPTO stream.
#[derive(Default)]
pub(super) struct Assembly(Vec<u8>);

impl Assembly {
    /// Adds a fragment; the message once it is complete. Whatever comes behind it is out of turn.
    pub(super) fn push(&mut self, fragment: &[u8]) -> Result<Option<Vec<u8>>, HandshakeError> {
        if self.0.len() + fragment.len() > 2 + MAX_MESSAGE {
            return Err(HandshakeError::Malformed);
        }
        self.0.extend_from_slice(fragment);
        let Some((len, message)) = self.0.split_first_chunk() else { return Ok(None) };
        let len = usize::from(u16::from_be_bytes(*len));
        if len > MAX_MESSAGE || message.len() > len {
            return Err(HandshakeError::Malformed);
        }
        if message.len() < len {
            return Ok(None);
        }
        let message = message.to_vec();
        self.0 = Vec::new();
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use Cipher::{Aes128Gcm as Aes, ChaCha20Poly1305 as ChaCha};

    use super::*;

    #[test]
    fn chacha_is_chosen_where_either_end_prefers_it() {
        assert_eq!(choose(&[Aes, ChaCha], &[Aes, ChaCha]), Some(Aes));
        assert_eq!(choose(&[Aes, ChaCha], &[ChaCha, Aes]), Some(ChaCha));
        assert_eq!(choose(&[ChaCha, Aes], &[Aes, ChaCha]), Some(ChaCha));
        assert_eq!(choose(&[ChaCha, Aes], &[Aes]), Some(Aes));
        assert_eq!(choose(&[Aes], &[ChaCha, Aes]), Some(Aes));
        assert_eq!(choose(&[Aes], &[ChaCha]), None);
        assert_eq!(choose(&[Aes], &[]), None);
    }

    #[test]
    fn payloads_are_read_back() {
        let offered = offer(&[ChaCha, Aes], b"params");
        assert_eq!(read_offer(&offered), Ok((vec![ChaCha, Aes], &b"params"[..])));
        assert_eq!(read_offer(&[2, 99, 1]), Ok((vec![Aes], &[][..])));
        for bad in [&[][..], &[1], &[9, 1, 1, 1, 1, 1, 1, 1, 1, 1]] {
            assert_eq!(read_offer(bad), Err(HandshakeError::Malformed));
        }
        let answered = answer(Aes, Role::Server, b"params");
        assert_eq!(read_answer(&answered), Ok((Aes, Role::Server, &b"params"[..])));
        assert_eq!(read_answer(b"\x63S"), Err(HandshakeError::NoCommonCipher));
        assert_eq!(read_answer(b"\x01X"), Err(HandshakeError::Malformed));
        assert_eq!(read_answer(b"\x01"), Err(HandshakeError::Malformed));
        assert_eq!(read_finish(&finish(Role::Peer)), Ok(Role::Peer));
        assert_eq!(read_finish(b"CC"), Err(HandshakeError::Malformed));
    }

    #[test]
    fn messages_are_put_together_from_any_fragments() {
        let framed = frame(&[7; 100]);
        for size in [1, 2, 3, 50, 102] {
            let mut assembly = Assembly::default();
            let mut done = None;
            for fragment in framed.chunks(size) {
                assert_eq!(done, None);
                done = assembly.push(fragment).unwrap();
            }
            assert_eq!(done, Some(vec![7; 100]));
        }
    }

    #[test]
    fn what_is_too_long_or_follows_a_message_is_refused() {
        assert!(Assembly::default().push(&frame(&[0; MAX_MESSAGE])).unwrap().is_some());
        let long = (MAX_MESSAGE as u16 + 1).to_be_bytes();
        assert_eq!(Assembly::default().push(&long), Err(HandshakeError::Malformed));
        assert_eq!(Assembly::default().push(&[0; 3]), Err(HandshakeError::Malformed));
        assert_eq!(Assembly::default().push(&vec![0; 1 << 16]), Err(HandshakeError::Malformed));
    }

    #[test]
    fn parameters_that_leave_the_protocol_are_refused() {
        assert!(read_parameters(Side::Server, &[0x01, 1, 9]).is_ok());
        for bad in [&[0x6a, 0xb2, 0][..], &[0x10, 0], &[0x0d, 0], &[0x01, 9], &[0x01, 1, 9, 0x01, 1, 9]] {
            assert!(matches!(read_parameters(Side::Client, bad), Err(HandshakeError::Parameters)), "{bad:?}");
        }
    }
}
