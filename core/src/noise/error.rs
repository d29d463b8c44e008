//! Why a handshake fails, told apart by QUIC error codes.

use quinn_proto::{TransportError, TransportErrorCode};

/// Why a handshake failed. It travels as a CRYPTO_ERROR (RFC 9000 section 20.1), 0x100 and a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// A message is too long, out of turn, or its contents do not parse.
    #[error("the handshake message is malformed: the remote does not keep to the protocol")]
    Malformed,
    /// A message does not decrypt: the network key or the protocol version differs, or it was made for another dial.
    #[error("the handshake message is not authentic: check the network key and the version of both ends")]
    NotAuthentic,
    /// The two ends allow no cipher in common.
    #[error("the two ends have no cipher in common: allow the same one at both")]
    NoCommonCipher,
    /// The remote's transport parameters ask for what this protocol does not have.
    #[error("the remote's transport parameters are not acceptable: the remote does not keep to the protocol")]
    Parameters,
    /// The remote proved an Id that is not the one dialled.
    #[error("the remote proved another id than the one dialled: its address has passed to another node")]
    WrongId,
    /// A handshake could not be begun at all.
    #[error("the handshake cannot go on: dial again")]
    Internal,
}

impl HandshakeError {
    const ALL: [Self; 6] =
        [Self::Malformed, Self::NotAuthentic, Self::NoCommonCipher, Self::Parameters, Self::WrongId, Self::Internal];

    /// The code that quinn-proto reports.
    pub fn code(self) -> TransportErrorCode {
        TransportErrorCode::crypto(self as u8 + 1)
    }

    /// The reason behind a code that quinn-proto reported; `None` if it is none of this module.
    pub fn from_code(code: TransportErrorCode) -> Option<Self> {
        Self::ALL.into_iter().find(|error| error.code() == code)
    }
}

impl From<HandshakeError> for TransportError {
    fn from(error: HandshakeError) -> Self {
        Self { code: error.code(), frame: None, reason: error.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_name_their_reason() {
        for error in HandshakeError::ALL {
            assert_eq!(HandshakeError::from_code(TransportError::from(error).code), Some(error));
        }
        assert_eq!(HandshakeError::from_code(TransportErrorCode::NO_ERROR), None);
        assert_eq!(u64::from(HandshakeError::WrongId.code()), 0x105);
    }
}
