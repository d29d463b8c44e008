//! What a server tells the sender of a packet that it did not pass on.

use super::{Slot, header::PacketClass};

const UNKNOWN_SLOT: u8 = 0x80;
const OVER_QUOTA: u8 = 0x81;
// a server on the way takes a payload of the relay class for a nested packet
const _: () = assert!(
    !matches!(PacketClass::of(UNKNOWN_SLOT), PacketClass::Relay)
        && !matches!(PacketClass::of(OVER_QUOTA), PacketClass::Relay)
);

/// The payload of a packet whose source is [`Slot::SERVER`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Nobody holds the destination slot, or another generation of it: its row in the directory is out of date.
    UnknownSlot(Slot),
    /// The packet to this slot was over one of the sender's quotas and was dropped, as others may have been.
    OverQuota {
        /// Where the packet should have gone.
        slot: Slot,
        /// For how long other ways are the better ones, in milliseconds.
        pause_ms: u32,
    },
}

impl Told {
    /// The longest form in bytes.
    pub const MAX_LEN: usize = 8;

    /// Appends the wire form.
    pub fn encode(self, buf: &mut Vec<u8>) {
        let (kind, slot) = match self {
            Self::UnknownSlot(slot) => (UNKNOWN_SLOT, slot),
            Self::OverQuota { slot, .. } => (OVER_QUOTA, slot),
        };
        buf.push(kind);
        buf.extend_from_slice(&slot.index().to_be_bytes());
        buf.push(slot.generation());
        if let Self::OverQuota { pause_ms, .. } = self {
            buf.extend_from_slice(&pause_ms.to_be_bytes());
        }
    }

    /// Reads the wire form; `None` if it is not exactly that.
    pub fn decode(payload: &[u8]) -> Option<Self> {
        let ([kind, i0, i1, generation], rest) = payload.split_first_chunk()?;
        let slot = Slot::new(u16::from_be_bytes([*i0, *i1]), *generation)?;
        match (*kind, rest) {
            (UNKNOWN_SLOT, []) => Some(Self::UnknownSlot(slot)),
            (OVER_QUOTA, rest) => Some(Self::OverQuota { slot, pause_ms: u32::from_be_bytes(rest.try_into().ok()?) }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_forms_round_trip_and_nothing_else_decodes() {
        let slot = Slot::new(0x0102, 3).unwrap();
        let forms: [(Told, &[u8]); 2] = [
            (Told::UnknownSlot(slot), &[0x80, 1, 2, 3]),
            (Told::OverQuota { slot, pause_ms: 0x01020304 }, &[0x81, 1, 2, 3, 1, 2, 3, 4]),
        ];
        for (told, bytes) in forms {
            let mut buf = Vec::new();
            told.encode(&mut buf);
            assert_eq!(buf, bytes);
            assert!(buf.len() <= Told::MAX_LEN);
            assert_eq!(Told::decode(bytes), Some(told));
            assert_eq!(Told::decode(&bytes[1..]), None);
            assert_eq!(Told::decode(&[bytes, &[0]].concat()), None);
        }
        assert_eq!(Told::decode(&[0x82, 1, 2, 3]), None);
        assert_eq!(Told::decode(&[0x80, 1, 2, 8]), None);
        assert_eq!(Told::decode(&[0x80, 0xff, 0xff, 0]), None);
    }
}
