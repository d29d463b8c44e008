//! The header of a relayed packet, and how the kinds of packets are told apart.

use serde::{Deserialize, Serialize};

/// The header's length in bytes.
pub const HEADER_LEN: usize = 16;

/// The most that relaying adds to a packet, in bytes: one packet nested in another.
pub const MAX_OVERHEAD: usize = 2 * HEADER_LEN;

pub(super) const TAG_LEN: usize = 8;
const SERVER_INDEX: u16 = u16::MAX;
const CLASS_BITS: u8 = 0b1100_0000;
const GENERATION_BITS: u8 = 0b111;

/// What a datagram is, by its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PacketClass {
    /// QUIC: the fixed bit is 1 (RFC 9000, section 17).
    Quic,
    /// A probe of a path.
    Probe,
    /// A relayed packet.
    Relay,
}

impl PacketClass {
    /// The class of a datagram that starts with `first`.
    pub const fn of(first: u8) -> Self {
        match first & CLASS_BITS {
            0 => Self::Relay,
            0b1000_0000 => Self::Probe,
            _ => Self::Quic,
        }
    }

    /// The class of a datagram; `None` if it is empty.
    pub fn of_packet(packet: &[u8]) -> Option<Self> {
        packet.first().map(|first| Self::of(*first))
    }
}

/// A node's place in the forwarding plane of one server: an index, and a generation that tells its holders apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "(u16, u8)", into = "(u16, u8)")]
pub struct Slot {
    index: u16,
    generation: u8,
}

impl Slot {
    /// How many generations there are; after the last one comes 0 again.
    pub const GENERATIONS: u8 = 8;

    /// How many indexes there are; the one after the last stands for the server.
    pub const MAX_SLOTS: usize = SERVER_INDEX as usize;

    /// The server itself, as a source or a destination. No node holds this slot, and it does not decode from a table.
    pub const SERVER: Self = Self { index: SERVER_INDEX, generation: 0 };

    /// `None` if the index is the server's own or the generation is not below [`Slot::GENERATIONS`].
    pub const fn new(index: u16, generation: u8) -> Option<Self> {
        if index == SERVER_INDEX || generation >= Self::GENERATIONS { None } else { Some(Self { index, generation }) }
    }

    /// The place in the server's list, below [`Slot::MAX_SLOTS`] except for [`Slot::SERVER`].
    pub const fn index(self) -> u16 {
        self.index
    }

    /// Which holder of the index, below [`Slot::GENERATIONS`].
    pub const fn generation(self) -> u8 {
        self.generation
    }

    /// Whether this stands for the server itself, whatever the generation.
    pub const fn is_server(self) -> bool {
        self.index == SERVER_INDEX
    }

    pub(super) const fn next_generation(self) -> Self {
        Self { index: self.index, generation: (self.generation + 1) & GENERATION_BITS }
    }
}

impl From<Slot> for (u16, u8) {
    fn from(slot: Slot) -> Self {
        (slot.index, slot.generation)
    }
}

impl TryFrom<(u16, u8)> for Slot {
    type Error = &'static str;

    fn try_from((index, generation): (u16, u8)) -> Result<Self, Self::Error> {
        Self::new(index, generation).ok_or("not a slot of a node: the index or the generation is out of range")
    }
}

/// The fields of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) src: Slot,
    pub(super) dst: Slot,
    /// The low 24 bits of the counter.
    pub(super) counter: u32,
    pub(super) tag: [u8; TAG_LEN],
}

impl Header {
    pub(super) fn encode(self) -> [u8; HEADER_LEN] {
        let [s0, s1] = self.src.index.to_be_bytes();
        let [d0, d1] = self.dst.index.to_be_bytes();
        let [_, c0, c1, c2] = self.counter.to_be_bytes();
        let [t0, t1, t2, t3, t4, t5, t6, t7] = self.tag;
        [generations(self.src, self.dst), s0, s1, d0, d1, c0, c1, c2, t0, t1, t2, t3, t4, t5, t6, t7]
    }

    /// Reads the header and leaves the payload; `None` if the packet is shorter or no relayed packet.
    pub(super) fn decode(packet: &[u8]) -> Option<(Self, &[u8])> {
        let (bytes, payload) = packet.split_first_chunk::<HEADER_LEN>()?;
        let [first, s0, s1, d0, d1, c0, c1, c2, tag @ ..] = *bytes;
        if PacketClass::of(first) != PacketClass::Relay {
            return None;
        }
        let src = Slot { index: u16::from_be_bytes([s0, s1]), generation: first >> 3 & GENERATION_BITS };
        let dst = Slot { index: u16::from_be_bytes([d0, d1]), generation: first & GENERATION_BITS };
        Some((Self { src, dst, counter: u32::from_be_bytes([0, c0, c1, c2]), tag }, payload))
    }
}

/// The first byte of a header.
pub(super) const fn generations(src: Slot, dst: Slot) -> u8 {
    src.generation << 3 | dst.generation
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_as_written_down() {
        let header = Header {
            src: Slot::new(0x0102, 5).unwrap(),
            dst: Slot::new(0x0304, 3).unwrap(),
            counter: 0x0a_0b_0c,
            tag: [1, 2, 3, 4, 5, 6, 7, 8],
        };
        let bytes = [0b00_101_011, 1, 2, 3, 4, 0x0a, 0x0b, 0x0c, 1, 2, 3, 4, 5, 6, 7, 8];
        assert_eq!(header.encode(), bytes);
        assert_eq!(Header::decode(&bytes), Some((header, &[][..])));
    }

    #[test]
    fn short_packets_and_other_classes_are_no_headers() {
        assert_eq!(Header::decode(&[0; HEADER_LEN - 1]), None);
        for first in [0x40, 0x80, 0xc0] {
            let mut packet = [0; HEADER_LEN];
            packet[0] = first;
            assert_eq!(Header::decode(&packet), None);
        }
    }

    #[test]
    fn first_bytes_fall_into_three_classes() {
        for first in 0..=u8::MAX {
            let class = match (first & 0x80 != 0, first & 0x40 != 0) {
                (_, true) => PacketClass::Quic,
                (true, false) => PacketClass::Probe,
                (false, false) => PacketClass::Relay,
            };
            assert_eq!(PacketClass::of(first), class);
        }
        assert_eq!(PacketClass::of_packet(&[]), None);
    }

    #[test]
    fn slots_out_of_range_do_not_decode() {
        let decode = |pair: (u16, u8)| postcard::from_bytes::<Slot>(&postcard::to_allocvec(&pair).unwrap());
        assert_eq!(decode((7, 7)).ok(), Slot::new(7, 7));
        assert!(decode((7, 8)).is_err());
        assert!(decode((u16::MAX, 0)).is_err());
    }
}
