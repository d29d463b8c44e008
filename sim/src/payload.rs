//! What the simulated applications send: bytes that say what they are and follow from it.

use bytes::Bytes;

use crate::rng::Stream;

/// The kinds of payload, so that none is taken for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A message.
    Message,
    /// A request.
    Request,
    /// The reply to a request.
    Reply,
    /// A best-effort datagram.
    Datagram,
}

impl Kind {
    const fn letter(self) -> u8 {
        match self {
            Self::Message => b'M',
            Self::Request => b'R',
            Self::Reply => b'A',
            Self::Datagram => b'D',
        }
    }
}

/// The shortest payload.
pub const MIN_LEN: usize = 13;

/// The payload number `number` of `kind`, `len` bytes long ([`MIN_LEN`] at least).
pub fn make(kind: Kind, number: u64, len: usize) -> Bytes {
    let len = len.max(MIN_LEN);
    let mut bytes = vec![kind.letter()];
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes());
    bytes.resize(len, 0);
    Stream::new(number, "payload", u64::from(kind.letter())).fill(&mut bytes[MIN_LEN..]);
    bytes.into()
}

/// The number of an intact payload of `kind`; `None` if any bit is wrong.
pub fn check(kind: Kind, data: &[u8]) -> Option<u64> {
    let (head, _) = data.split_first_chunk::<MIN_LEN>()?;
    let number = u64::from_le_bytes(*head[1..].first_chunk()?);
    (make(kind, number, data.len()) == data).then_some(number)
}

/// `len` bytes of a byte stream from `offset` on, appended to `out`.
pub fn stream(number: u64, offset: u64, len: usize, out: &mut Vec<u8>) {
    // the period is odd, so that no shift by whole packets or blocks goes unnoticed
    const PERIOD: u64 = 251;
    let first = offset.wrapping_add(number.wrapping_mul(97)) % PERIOD;
    let pattern: [u8; 2 * PERIOD as usize] = std::array::from_fn(|n| (n as u64 % PERIOD) as u8);
    let period = &pattern[first as usize..][..PERIOD as usize];
    let end = out.len() + len;
    while out.len() < end {
        let piece = (end - out.len()).min(period.len());
        out.extend_from_slice(&period[..piece]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_known_again_and_any_change_is_seen() {
        for len in [0, 13, 14, 1_000] {
            let data = make(Kind::Message, 77, len);
            assert_eq!(check(Kind::Message, &data), Some(77));
            assert_eq!(check(Kind::Request, &data), None);
            for place in 0..data.len() {
                let mut wrong = data.to_vec();
                wrong[place] ^= 4;
                assert_eq!(check(Kind::Message, &wrong), None);
            }
            assert_eq!(check(Kind::Message, &data[..data.len() - 1]), None);
        }
    }

    #[test]
    fn a_stream_is_the_same_however_it_is_cut() {
        let mut whole = Vec::new();
        stream(5, 100, 2_000, &mut whole);
        let mut parts = Vec::new();
        for n in 0..20 {
            stream(5, 100 + n * 100, 100, &mut parts);
        }
        assert_eq!(whole, parts);
        let mut shifted = Vec::new();
        stream(5, 101, 2_000, &mut shifted);
        assert_ne!(whole, shifted);
    }
}
