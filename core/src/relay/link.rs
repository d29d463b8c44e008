//! The two directions of relayed packets between a server and a node that is linked to it.

use std::{fmt, ops::Range};

use siphasher::sip::SipHasher24;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::{
    HEADER_LEN, Slot,
    counter::reconstruct,
    header::{Header, TAG_LEN, generations},
};
use crate::replay::ReplayWindow;

/// The replay window in words of 64 packets: 2,048 packets.
const WINDOW_WORDS: usize = 32;
/// So much of each end of a payload is under the tag.
const TAGGED_END: usize = 32;
/// What is under the tag besides: addresses, the whole counter, and how long the payload is.
const TAGGED_HEAD: usize = 14;
const KEY_LEN: usize = 16;
const COUNTER_MASK: u64 = (1 << 56) - 1;
const LOW_MASK: u64 = (1 << 24) - 1;

/// The keys of both directions, erased on drop.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct RelayKeys {
    /// For packets from here.
    pub send: [u8; KEY_LEN],
    /// For packets to here.
    pub receive: [u8; KEY_LEN],
}

impl RelayKeys {
    /// Keys from a secret exported from the link, equal at both ends. `began` says that this end began the link,
    /// `relays` that the slots in the headers are this end's. Two servers relay for each other under one link: each
    /// role has keys of its own.
    pub fn derive(exported: &[u8; 32], began: bool, relays: bool) -> Self {
        let beginner_relays = began == relays;
        let key = |from_beginner: bool| {
            let context = match (beginner_relays, from_beginner) {
                (false, false) => "p2pcore 2026 relay keys: the accepting end relays and sends",
                (false, true) => "p2pcore 2026 relay keys: the accepting end relays, the beginning end sends",
                (true, false) => "p2pcore 2026 relay keys: the beginning end relays, the accepting end sends",
                (true, true) => "p2pcore 2026 relay keys: the beginning end relays and sends",
            };
            let mut key = [0; KEY_LEN];
            blake3::Hasher::new_derive_key(context).update(exported).finalize_xof().fill(&mut key);
            key
        };
        Self { send: key(began), receive: key(!began) }
    }
}

impl fmt::Debug for RelayKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RelayKeys(..)")
    }
}

/// Why a packet was not opened. It changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum RelayError {
    /// Shorter than a header, or of another class.
    #[error("not a relayed packet: drop it")]
    NotRelayed,
    /// Seen before, or older than the window.
    #[error("a relayed packet came twice or too late: drop it")]
    Replayed,
    /// Not made with the key of this link, or changed on the way.
    #[error("a relayed packet has a wrong tag: drop it")]
    BadTag,
}

/// An authentic packet that was not seen before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Who sent it.
    pub src: Slot,
    /// For whom it is.
    pub dst: Slot,
    /// Where in the packet the payload stands.
    pub payload: Range<usize>,
}

/// Seals and opens the relayed packets between two ends.
pub struct RelayLink {
    keys: RelayKeys,
    next_counter: u64,
    /// Most links relay nothing: made for the first packet.
    window: Option<Box<ReplayWindow<WINDOW_WORDS>>>,
}

impl RelayLink {
    /// Both counters start at 0: use a pair of keys once.
    pub const fn new(keys: RelayKeys) -> Self {
        Self { keys, next_counter: 0, window: None }
    }

    /// Appends a packet with a copy of `payload` to `buf`.
    pub fn seal(&mut self, src: Slot, dst: Slot, payload: &[u8], buf: &mut Vec<u8>) {
        let header = self.next_header(src, dst, payload);
        buf.extend_from_slice(&header);
        buf.extend_from_slice(payload);
    }

    /// Writes the header over the first [`HEADER_LEN`] bytes of `packet`; what follows is the payload and stays.
    ///
    /// # Errors
    /// `NotRelayed` if `packet` is shorter than a header.
    pub fn seal_in_place(&mut self, src: Slot, dst: Slot, packet: &mut [u8]) -> Result<(), RelayError> {
        let (place, payload) = packet.split_first_chunk_mut::<HEADER_LEN>().ok_or(RelayError::NotRelayed)?;
        *place = self.next_header(src, dst, payload);
        Ok(())
    }

    /// Makes packets of all payloads from `start` on, which stand one after another: each is `size` bytes long, only the last may
    /// be shorter. Nothing happens if `size` is 0.
    pub fn seal_run(&mut self, src: Slot, dst: Slot, size: usize, start: usize, buf: &mut Vec<u8>) {
        let end = buf.len();
        let packets = if size == 0 { 0 } else { end.saturating_sub(start).div_ceil(size) };
        buf.resize(end + packets * HEADER_LEN, 0);
        // the last one first: each moves to where the next one stood
        for packet in (0..packets).rev() {
            let from = start + packet * size;
            buf.copy_within(from..end.min(from + size), from + (packet + 1) * HEADER_LEN);
        }
        for packet in buf.get_mut(start..).unwrap_or_default().chunks_mut(HEADER_LEN + size).take(packets) {
            // a header fits: there is one byte of payload at least
            let _ = self.seal_in_place(src, dst, packet);
        }
    }

    /// Checks a packet from the other end. The caller has still to check that `src` and `dst` may stand there.
    ///
    /// # Errors
    /// The packet is not authentic and new; nothing was changed, so it may be tried on another link.
    pub fn open(&mut self, packet: &[u8]) -> Result<Opened, RelayError> {
        let (header, payload) = Header::decode(packet).ok_or(RelayError::NotRelayed)?;
        let window = self.window.get_or_insert_default();
        let counter = reconstruct(window.next(), header.counter);
        if !window.is_fresh(counter) {
            return Err(RelayError::Replayed);
        }
        let tag = tag(&self.keys.receive, header.src, header.dst, counter, payload);
        if !bool::from(tag.ct_eq(&header.tag)) {
            return Err(RelayError::BadTag);
        }
        window.insert(counter);
        Ok(Opened { src: header.src, dst: header.dst, payload: HEADER_LEN..packet.len() })
    }

    fn next_header(&mut self, src: Slot, dst: Slot, payload: &[u8]) -> [u8; HEADER_LEN] {
        let counter = self.next_counter;
        self.next_counter = (counter + 1) & COUNTER_MASK;
        let tag = tag(&self.keys.send, src, dst, counter, payload);
        Header { src, dst, counter: (counter & LOW_MASK) as u32, tag }.encode()
    }
}

impl fmt::Debug for RelayLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelayLink").field("next_counter", &self.next_counter).finish_non_exhaustive()
    }
}

/// SipHash-2-4, a pseudorandom function of short inputs with 64 bits of output (Aumasson and Bernstein 2012; RFC 9018 makes
/// tags with it for the same end). Of a payload its length and both ends go in, or all of it if it is no longer than those:
/// its middle has a protection of its own.
fn tag(key: &[u8; KEY_LEN], src: Slot, dst: Slot, counter: u64, payload: &[u8]) -> [u8; TAG_LEN] {
    let [s0, s1] = src.index().to_be_bytes();
    let [d0, d1] = dst.index().to_be_bytes();
    let [_, c0, c1, c2, c3, c4, c5, c6] = (counter & COUNTER_MASK).to_be_bytes();
    let [l0, l1] = u16::try_from(payload.len()).unwrap_or(u16::MAX).to_be_bytes();
    let head: [u8; TAGGED_HEAD] = [generations(src, dst), s0, s1, d0, d1, c0, c1, c2, c3, c4, c5, c6, l0, l1];
    let (first, last) = match payload.split_last_chunk::<TAGGED_END>() {
        Some((before, last)) => (before.get(..TAGGED_END).unwrap_or(before), &last[..]),
        None => (payload, &[][..]),
    };
    let mut space = [0; TAGGED_HEAD + 2 * TAGGED_END];
    let mut len = 0;
    for part in [&head[..], first, last] {
        if let Some(place) = space.get_mut(len..len + part.len()) {
            place.copy_from_slice(part);
        }
        len += part.len();
    }
    SipHasher24::new_with_key(key).hash(space.get(..len).unwrap_or_default()).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (RelayLink, RelayLink) {
        let of = |began, relays| RelayLink::new(RelayKeys::derive(&[9; 32], began, relays));
        (of(true, false), of(false, true))
    }

    fn slot(index: u16) -> Slot {
        Slot::new(index, 1).unwrap()
    }

    fn sealed(link: &mut RelayLink, payload: &[u8]) -> Vec<u8> {
        let mut packet = Vec::new();
        link.seal(slot(1), slot(2), payload, &mut packet);
        packet
    }

    #[test]
    fn what_one_end_seals_the_other_opens_in_both_directions() {
        let (mut peer, mut server) = pair();
        for n in 0..3u8 {
            let packet = sealed(&mut peer, &[n; 100]);
            let opened = server.open(&packet).unwrap();
            assert_eq!((opened.src, opened.dst), (slot(1), slot(2)));
            assert_eq!(packet[opened.payload], [n; 100]);
            let packet = sealed(&mut server, &[]);
            assert_eq!(packet.len(), HEADER_LEN);
            peer.open(&packet).unwrap();
        }
    }

    #[test]
    fn sealing_in_place_makes_the_same_packet() {
        let ((mut one, _), (mut other, _)) = (pair(), pair());
        let mut packet = vec![0xff; HEADER_LEN];
        packet.extend_from_slice(b"payload");
        one.seal_in_place(slot(1), slot(2), &mut packet).unwrap();
        assert_eq!(packet, sealed(&mut other, b"payload"));
        assert_eq!(one.seal_in_place(slot(1), slot(2), &mut [0; 15]), Err(RelayError::NotRelayed));
    }

    #[test]
    fn a_run_becomes_the_packets_that_its_payloads_become_alone() {
        for size in [7, 40, 1_500] {
            for len in [0, 1, size - 1, size, size + 1, 5 * size, 5 * size + 2] {
                let ((mut one, _), (mut other, _)) = (pair(), pair());
                let payloads: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
                let mut expected = b"before".to_vec();
                payloads.chunks(size).for_each(|payload| one.seal(slot(1), slot(2), payload, &mut expected));
                let mut run = [b"before", &payloads[..]].concat();
                other.seal_run(slot(1), slot(2), size, 6, &mut run);
                assert_eq!(run, expected, "{len} bytes by {size}");
            }
        }
        let mut nothing = vec![1, 2];
        pair().0.seal_run(slot(1), slot(2), 0, 0, &mut nothing);
        assert_eq!(nothing, [1, 2]);
    }

    #[test]
    fn each_bit_is_under_the_tag() {
        let (mut peer, mut server) = pair();
        let packet = sealed(&mut peer, b"payload");
        for bit in 0..packet.len() * 8 {
            let mut forged = packet.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            let expected = if bit == 6 || bit == 7 { RelayError::NotRelayed } else { RelayError::BadTag };
            assert_eq!(server.open(&forged), Err(expected), "bit {bit}");
        }
        for len in 0..packet.len() {
            assert!(server.open(&packet[..len]).is_err());
        }
        server.open(&packet).unwrap();
        assert_eq!(server.open(&packet), Err(RelayError::Replayed));
    }

    #[test]
    fn of_a_long_payload_both_ends_and_the_length_are_under_the_tag() {
        for len in [1, 31, 32, 33, 64, 65, 200] {
            let (mut peer, mut server) = pair();
            let packet = sealed(&mut peer, &vec![7; len]);
            for at in 0..len {
                let mut forged = packet.clone();
                forged[HEADER_LEN + at] ^= 1;
                let is_noticed = server.open(&forged) == Err(RelayError::BadTag);
                assert_eq!(is_noticed, at < 32 || len - at <= 32, "byte {at} of {len}");
                if !is_noticed {
                    // its number is used up
                    assert_eq!(server.open(&packet), Err(RelayError::Replayed));
                    server = pair().1;
                }
            }
            let longer = [&packet[..=HEADER_LEN], &packet[HEADER_LEN..]].concat();
            for forged in [&packet[..packet.len() - 1], &longer] {
                assert_eq!(server.open(forged), Err(RelayError::BadTag));
            }
            server.open(&packet).unwrap();
        }
    }

    #[test]
    fn each_role_and_direction_has_its_own_key() {
        let exported = [3; 32];
        let mut keys = Vec::new();
        for (began, relays) in [(false, false), (false, true), (true, false), (true, true)] {
            let own = RelayKeys::derive(&exported, began, relays);
            let other = RelayKeys::derive(&exported, !began, !relays);
            assert_eq!((own.send, own.receive), (other.receive, other.send));
            keys.push(own.send);
        }
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), 4);
    }

    #[test]
    fn the_tag_is_that_of_siphash() {
        // the vector of the paper's appendix A
        let count = |to| (0..to).collect::<Vec<u8>>();
        let key: [u8; 16] = count(16).try_into().unwrap();
        assert_eq!(SipHasher24::new_with_key(&key).hash(&count(15)), 0xa129_ca61_49be_45e5);
        let (mut peer, _) = pair();
        let packet = sealed(&mut peer, b"payload");
        let keys = RelayKeys::derive(&[9; 32], true, false);
        let tagged = [&[0b00_001_001, 0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 7], &b"payload"[..]].concat();
        assert_eq!(packet[8..16], SipHasher24::new_with_key(&keys.send).hash(&tagged).to_le_bytes());
    }

    /// Other versions of the program read these bytes: a change here is a change of the protocol.
    #[test]
    fn the_packet_is_golden() {
        let (mut peer, mut server) = pair();
        sealed(&mut peer, b"");
        assert_eq!(crate::id::hex(&sealed(&mut peer, b"payload")), "090001000200000149a2c85638b101d47061796c6f6164");
        assert_eq!(crate::id::hex(&sealed(&mut server, b"payload")), "090001000200000065fa5275a00a9d467061796c6f6164");
        assert_eq!(crate::id::hex(&sealed(&mut server, &[b'x'; 100])[..16]), "090001000200000113486b483743f495");
    }

    #[test]
    fn counters_go_on_where_their_low_bits_wrap() {
        let (mut peer, mut server) = pair();
        for start in [0x7f_fffe, 0xff_fffe, 0x17f_fffe, 0x1ff_fffe] {
            peer.next_counter = start;
            for _ in 0..4 {
                server.open(&sealed(&mut peer, b"x")).unwrap();
            }
        }
    }
}
