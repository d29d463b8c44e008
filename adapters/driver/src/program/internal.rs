//! What the programs say to each other beside the applications' messages, which never begin like this.

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// How everything internal begins; a message of an application that does is refused before it is sent.
const PREFIX: &[u8] = b"\0p2pcore\0";

/// Whether the programs keep this for themselves.
pub(super) fn is_internal(data: &[u8]) -> bool {
    data.starts_with(PREFIX)
}

/// An internal message or request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Internal {
    /// Request: is answered with the same bytes.
    Ping(Bytes),
    /// Request: may this file come? Answered by a [`Verdict`].
    Offer(Offer),
    /// Message: a piece of the file.
    Chunk(Chunk),
    /// Request: all is there; is it right? Answered by a [`Verdict`]. May be asked again.
    Finish(Finish),
    /// Message: the receiver gives up.
    Abort(Abort),
    /// Message: the sender has the verdict and asks no more.
    Thanks(Transfer),
}

/// Names one transfer between two nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Transfer(pub(super) [u8; 16]);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Offer {
    pub(super) transfer: Transfer,
    pub(super) name: String,
    pub(super) bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) transfer: Transfer,
    pub(super) offset: u64,
    pub(super) data: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Finish {
    pub(super) transfer: Transfer,
    /// 64 hexadecimal digits.
    pub(super) blake3: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Abort {
    pub(super) transfer: Transfer,
    pub(super) why: String,
}

/// What the receiver of a file says to an offer or at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    Yes,
    No(String),
}

impl Verdict {
    pub(super) fn encode(&self) -> Bytes {
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    pub(super) fn decode(data: &[u8]) -> Option<Self> {
        serde_json::from_slice(data).ok()
    }
}

/// The bytes before a chunk's data.
const CHUNK_HEADER: usize = PREFIX.len() + 1 + 16 + 8;

impl Chunk {
    /// An empty buffer that [`Chunk::encode`] fills in; the data is to be appended.
    pub(super) fn buffer(capacity: usize) -> Vec<u8> {
        let mut buffer = Vec::with_capacity(CHUNK_HEADER + capacity);
        buffer.resize(CHUNK_HEADER, 0);
        buffer
    }

    /// Puts the header in front of the data, without a copy of it.
    pub(super) fn encode(transfer: Transfer, offset: u64, mut buffer: Vec<u8>) -> Bytes {
        let (prefix, rest) = buffer.split_at_mut(PREFIX.len());
        prefix.copy_from_slice(PREFIX);
        rest[0] = b'c';
        rest[1..17].copy_from_slice(&transfer.0);
        rest[17..25].copy_from_slice(&offset.to_be_bytes());
        buffer.into()
    }

    /// The data of a buffer.
    pub(super) fn data(buffer: &[u8]) -> &[u8] {
        &buffer[CHUNK_HEADER..]
    }
}

impl Internal {
    /// Chunks are made by [`Chunk::encode`].
    pub(super) fn encode(&self) -> Bytes {
        match self {
            Self::Ping(echo) => [PREFIX, b"p", echo].concat().into(),
            Self::Offer(offer) => json(b'o', offer),
            Self::Chunk(chunk) => {
                let mut buffer = Chunk::buffer(chunk.data.len());
                buffer.extend_from_slice(&chunk.data);
                Chunk::encode(chunk.transfer, chunk.offset, buffer)
            }
            Self::Finish(finish) => json(b'f', finish),
            Self::Abort(abort) => json(b'a', abort),
            Self::Thanks(transfer) => json(b't', transfer),
        }
    }

    /// `None` if it is not internal or not understood.
    pub(super) fn decode(data: &Bytes) -> Option<Self> {
        let kind = *data.strip_prefix(PREFIX)?.first()?;
        let body = data.slice(PREFIX.len() + 1..);
        Some(match kind {
            b'p' => Self::Ping(body),
            b'o' => Self::Offer(read(&body)?),
            b'c' => {
                let (transfer, rest) = body.split_first_chunk::<16>()?;
                let (offset, _) = rest.split_first_chunk::<8>()?;
                Self::Chunk(Chunk {
                    transfer: Transfer(*transfer),
                    offset: u64::from_be_bytes(*offset),
                    data: body.slice(24..),
                })
            }
            b'f' => Self::Finish(read(&body)?),
            b'a' => Self::Abort(read(&body)?),
            b't' => Self::Thanks(read(&body)?),
            _ => return None,
        })
    }
}

fn json(kind: u8, value: &impl Serialize) -> Bytes {
    [PREFIX, &[kind], &serde_json::to_vec(value).unwrap_or_default()].concat().into()
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    /// None of these needs more.
    const LIMIT: usize = 8 * 1024;
    (body.len() <= LIMIT).then(|| serde_json::from_slice(body).ok()).flatten()
}

/// A text of another node, fit for one line of a terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars().take(200).map(|char| if char.is_control() { '?' } else { char }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_internal_round_trips_and_is_known_as_such() {
        let transfer = Transfer([7; 16]);
        for internal in [
            Internal::Ping(Bytes::from_static(b"12345678")),
            Internal::Offer(Offer { transfer, name: "a".into(), bytes: 9 }),
            Internal::Chunk(Chunk { transfer, offset: 1 << 40, data: Bytes::from_static(b"data") }),
            Internal::Finish(Finish { transfer, blake3: "00".into() }),
            Internal::Abort(Abort { transfer, why: "full".into() }),
            Internal::Thanks(transfer),
        ] {
            let data = internal.encode();
            assert!(is_internal(&data));
            assert_eq!(Internal::decode(&data), Some(internal));
        }
        for verdict in [Verdict::Yes, Verdict::No("no".into())] {
            assert_eq!(Verdict::decode(&verdict.encode()), Some(verdict));
        }
    }

    #[test]
    fn what_is_cut_or_unknown_is_not_understood() {
        let chunk = Internal::Chunk(Chunk { transfer: Transfer([7; 16]), offset: 1, data: Bytes::new() }).encode();
        for len in 0..chunk.len() {
            assert_eq!(Internal::decode(&chunk.slice(..len)), None);
        }
        assert_eq!(Internal::decode(&[PREFIX, b"z"].concat().into()), None);
        assert_eq!(Internal::decode(&[PREFIX, b"o{\"name\":1}"].concat().into()), None);
        assert_eq!(Internal::decode(&Bytes::from_static(b"hello")), None);
        assert!(!is_internal(b"\0p2pcor"));
    }
}
