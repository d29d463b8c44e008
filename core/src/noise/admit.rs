//! Which datagrams may reach quinn-proto at all: it answers, or gives up on, some that nobody has authenticated.

use super::{FIRST_ID_LEN, QUIC_VERSION, reader::Reader};

/// Connection ids are at most this long (RFC 9000 section 17.2).
const MAX_ID_LEN: usize = 20;

/// Packets in one datagram; quinn-proto sends at most three.
const MAX_COALESCED: usize = 8;

/// How a datagram begins, when all its packets are of a kind that this protocol has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted<'a> {
    /// An Initial packet without token. It may open a connection if its destination passes
    /// [`check_first_id`](super::check_first_id).
    Initial {
        /// The destination connection id.
        destination: &'a [u8],
    },
    /// A Handshake packet, for a connection that exists.
    Handshake {
        /// The destination connection id.
        destination: &'a [u8],
    },
    /// A packet with a short header, for a connection that exists. The rest begins with the destination connection id.
    Short {
        /// All behind the first byte.
        rest: &'a [u8],
    },
}

/// Looks at every packet of a QUIC datagram; `None` if any is a Version Negotiation, a Retry, a 0-RTT packet, carries
/// a token, has another version, lacks the fixed bit or does not parse: to be dropped without an answer.
pub fn admit(datagram: &[u8]) -> Option<Admitted<'_>> {
    let (admitted, mut rest) = packet(datagram)?;
    for _ in 1..MAX_COALESCED {
        if rest.is_empty() {
            break;
        }
        rest = packet(rest)?.1;
    }
    rest.is_empty().then_some(admitted)
}

/// The first packet of `bytes`, and the rest.
fn packet(bytes: &[u8]) -> Option<(Admitted<'_>, &[u8])> {
    const LONG: u8 = 0x80;
    const FIXED: u8 = 0x40;
    const TYPE: u8 = 0x30;
    const INITIAL: u8 = 0x00;
    const HANDSHAKE: u8 = 0x20;
    let mut reader = Reader::new(bytes);
    let first = reader.u8()?;
    if first & FIXED == 0 {
        return None;
    }
    if first & LONG == 0 {
        return Some((Admitted::Short { rest: reader.rest() }, &[]));
    }
    if reader.u32()? != QUIC_VERSION {
        return None;
    }
    let destination = id(&mut reader)?;
    let _source = id(&mut reader)?;
    let admitted = match first & TYPE {
        INITIAL if reader.varint()? == 0 => Admitted::Initial { destination },
        HANDSHAKE => Admitted::Handshake { destination },
        _ => return None,
    };
    let _protected = reader.counted()?;
    Some((admitted, reader.rest()))
}

fn id<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    const { assert!(FIRST_ID_LEN <= MAX_ID_LEN) };
    let len = usize::from(reader.u8()?);
    if len > MAX_ID_LEN { None } else { reader.bytes(len) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: [u8; 8] = [4, 1, 2, 3, 4, 1, 9, 0];

    fn long(first: u8, version: u32, rest: &[u8]) -> Vec<u8> {
        [&[first], version.to_be_bytes().as_slice(), rest].concat()
    }

    fn initial() -> Vec<u8> {
        long(0xc0, QUIC_VERSION, &[HEAD.as_slice(), &[3, 7, 7, 7]].concat())
    }

    fn handshake() -> Vec<u8> {
        long(0xe0, QUIC_VERSION, &[&HEAD[..7], &[3, 7, 7, 7]].concat())
    }

    #[test]
    fn the_kinds_of_this_protocol_are_admitted() {
        let destination = &[1, 2, 3, 4][..];
        assert_eq!(admit(&initial()), Some(Admitted::Initial { destination }));
        assert_eq!(admit(&handshake()), Some(Admitted::Handshake { destination }));
        assert_eq!(admit(&[0x40, 1, 2]), Some(Admitted::Short { rest: &[1, 2] }));
        let coalesced = [initial(), handshake(), vec![0x40, 1, 2]].concat();
        assert_eq!(admit(&coalesced), Some(Admitted::Initial { destination }));
    }

    #[test]
    fn what_quinn_would_answer_or_give_up_on_is_not() {
        let negotiation = long(0x80 | 0x40, 0, &HEAD[..7]);
        let retry = long(0xf0, QUIC_VERSION, &[&HEAD[..7], &[0; 20]].concat());
        let early = long(0xd0, QUIC_VERSION, &[&HEAD[..7], &[3, 7, 7, 7]].concat());
        let token = long(0xc0, QUIC_VERSION, &[&HEAD[..7], &[1, 5, 3, 7, 7, 7]].concat());
        let other_version = long(0xc0, 1, &[HEAD.as_slice(), &[3, 7, 7, 7]].concat());
        let no_fixed_bit = long(0x80, QUIC_VERSION, &[HEAD.as_slice(), &[3, 7, 7, 7]].concat());
        let long_id = long(0xc0, QUIC_VERSION, &[&[21][..], &[0; 21], &[0, 0, 0]].concat());
        for bad in [negotiation, retry, early, token, other_version, no_fixed_bit, long_id, vec![0x00, 1], vec![]] {
            assert_eq!(admit(&bad), None, "{bad:02x?}");
            // and no more behind a packet that is fine
            let hidden = [initial(), bad.clone()].concat();
            assert!(bad.is_empty() || admit(&hidden).is_none(), "{bad:02x?}");
        }
    }

    #[test]
    fn truncated_packets_and_endless_ones_are_not() {
        for len in 0..initial().len() {
            assert_eq!(admit(&initial()[..len]), None);
        }
        assert!(admit(&initial().repeat(MAX_COALESCED)).is_some());
        assert!(admit(&initial().repeat(MAX_COALESCED + 1)).is_none());
    }
}
