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
            return Some(admitted);
        }
        rest = packet(rest)?.1;
    }
    None
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
