//! The two directions of relayed packets between a server and a node that is linked to it.

use std::{fmt, ops::Range};

use ring::aead::{AES_128_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::{
    HEADER_LEN, Slot,
    counter::reconstruct,
    header::{Header, TAG_LEN, generations},
};
use crate::{Cipher, replay::ReplayWindow};

/// The replay window in words of 64 packets: 2,048 packets.
const WINDOW_WORDS: usize = 32;
/// What fits into the packets of an Ethernet; a copy of that needs no memory of the heap.
const USUAL_PAYLOAD: usize = 1_472;
const COUNTER_MASK: u64 = (1 << 56) - 1;
const LOW_MASK: u64 = (1 << 24) - 1;

/// The keys of both directions, erased on drop.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct RelayKeys {
    /// For packets from here.
    pub send: [u8; 32],
    /// For packets to here.
    pub receive: [u8; 32],
    /// Whose tags the packets carry.
    #[zeroize(skip)]
    pub cipher: Cipher,
}

impl RelayKeys {
    /// Keys from a secret exported from the link, equal at both ends. `began` says that this end began the link,
    /// `relays` that the slots in the headers are this end's. Two servers relay for each other under one link: each
    /// role has keys of its own. `cipher` is the link's: the fastest that both ends have.
    pub fn derive(exported: &[u8; 32], cipher: Cipher, began: bool, relays: bool) -> Self {
        let beginner_relays = began == relays;
        let key = |from_beginner: bool| {
            let context = match (beginner_relays, from_beginner) {
                (false, false) => "p2pcore 2026 relay keys: the accepting end relays and sends",
                (false, true) => "p2pcore 2026 relay keys: the accepting end relays, the beginning end sends",
                (true, false) => "p2pcore 2026 relay keys: the beginning end relays, the accepting end sends",
                (true, true) => "p2pcore 2026 relay keys: the beginning end relays and sends",
            };
            blake3::derive_key(context, exported)
        };
        Self { send: key(began), receive: key(!began), cipher }
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
    used: Option<Box<Used>>,
}

struct Used {
    send: LessSafeKey,
    receive: LessSafeKey,
    window: ReplayWindow<WINDOW_WORDS>,
}

impl RelayLink {
    /// Both counters start at 0: use a pair of keys once.
    pub const fn new(keys: RelayKeys) -> Self {
        Self { keys, next_counter: 0, used: None }
    }

    fn used(&mut self) -> &mut Used {
        self.used.get_or_insert_with(|| {
            let key = |bytes| tag_key(self.keys.cipher, bytes);
            let (send, receive) = (key(&self.keys.send), key(&self.keys.receive));
            Box::new(Used { send, receive, window: ReplayWindow::default() })
        })
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
        let used = self.used();
        let counter = reconstruct(used.window.next(), header.counter);
        if !used.window.is_fresh(counter) {
            return Err(RelayError::Replayed);
        }
        let tag = tag(&used.receive, header.src, header.dst, counter, payload);
        if !bool::from(tag.ct_eq(&header.tag)) {
            return Err(RelayError::BadTag);
        }
        used.window.insert(counter);
        Ok(Opened { src: header.src, dst: header.dst, payload: HEADER_LEN..packet.len() })
    }

    fn next_header(&mut self, src: Slot, dst: Slot, payload: &[u8]) -> [u8; HEADER_LEN] {
        let counter = self.next_counter;
        self.next_counter = (counter + 1) & COUNTER_MASK;
        let tag = tag(&self.used().send, src, dst, counter, payload);
        Header { src, dst, counter: (counter & LOW_MASK) as u32, tag }.encode()
    }
}

impl fmt::Debug for RelayLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelayLink").field("next_counter", &self.next_counter).finish_non_exhaustive()
    }
}

fn tag_key(cipher: Cipher, bytes: &[u8; 32]) -> LessSafeKey {
    let algorithm = match cipher {
        Cipher::Aes128Gcm => &AES_128_GCM,
        Cipher::ChaCha20Poly1305 => &CHACHA20_POLY1305,
    };
    let (bytes, _) = bytes.split_at(algorithm.key_len().min(bytes.len()));
    LessSafeKey::new(UnboundKey::new(algorithm, bytes).expect("the length of the key fits the algorithm"))
}

/// The header's fields and the whole counter fill the nonce exactly, so that nothing has to be moved beside the payload; a
/// changed header is another nonce, whose tag nobody without the key knows.
fn tag(key: &LessSafeKey, src: Slot, dst: Slot, counter: u64, payload: &[u8]) -> [u8; TAG_LEN] {
    let [s0, s1] = src.index().to_be_bytes();
    let [d0, d1] = dst.index().to_be_bytes();
    let [_, c0, c1, c2, c3, c4, c5, c6] = (counter & COUNTER_MASK).to_be_bytes();
    let nonce = [generations(src, dst), s0, s1, d0, d1, c0, c1, c2, c3, c4, c5, c6];
    let nonce = Nonce::assume_unique_for_key(nonce);
    let full = if key.algorithm() == &AES_128_GCM {
        // what is encrypted is hashed many blocks at a time, what is associated block by block: a third of the time with the copy
        let (mut short, mut long);
        let copy = if payload.len() <= USUAL_PAYLOAD {
            short = [0; USUAL_PAYLOAD];
            let (copy, _) = short.split_at_mut(payload.len());
            copy.copy_from_slice(payload);
            copy
        } else {
            long = payload.to_vec();
            &mut long[..]
        };
        key.seal_in_place_separate_tag(nonce, Aad::empty(), copy)
    } else {
        key.seal_in_place_separate_tag(nonce, Aad::from(payload), &mut [])
    };
    let full = full.expect("a packet is not too long");
    let mut tag = [0; TAG_LEN];
    tag.iter_mut().zip(full.as_ref()).for_each(|(byte, from)| *byte = *from);
    tag
}

#[cfg(test)]
mod tests {
    use super::*;

    const CIPHERS: [Cipher; 2] = [Cipher::Aes128Gcm, Cipher::ChaCha20Poly1305];

    fn pair() -> (RelayLink, RelayLink) {
        pair_with(Cipher::ChaCha20Poly1305)
    }

    fn pair_with(cipher: Cipher) -> (RelayLink, RelayLink) {
        let exported = [9; 32];
        let of = |began, relays| RelayLink::new(RelayKeys::derive(&exported, cipher, began, relays));
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
        for (cipher, size) in [(Cipher::Aes128Gcm, 7), (Cipher::Aes128Gcm, 1_500), (Cipher::ChaCha20Poly1305, 40)] {
            for len in [0, 1, size - 1, size, size + 1, 5 * size, 5 * size + 2] {
                let ((mut one, _), (mut other, _)) = (pair_with(cipher), pair_with(cipher));
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
        for cipher in CIPHERS {
            let (mut peer, mut server) = pair_with(cipher);
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
    }

    #[test]
    fn each_role_and_direction_has_its_own_key() {
        let exported = [3; 32];
        let mut keys = Vec::new();
        for (began, relays) in [(false, false), (false, true), (true, false), (true, true)] {
            let own = RelayKeys::derive(&exported, Cipher::Aes128Gcm, began, relays);
            let other = RelayKeys::derive(&exported, Cipher::Aes128Gcm, !began, !relays);
            assert_eq!((own.send, own.receive), (other.receive, other.send));
            keys.push(own.send);
        }
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), 4);
    }

    #[test]
    fn the_tag_is_the_one_of_rfc_8439_or_of_gcm() {
        for (cipher, algorithm) in CIPHERS.into_iter().zip([&AES_128_GCM, &CHACHA20_POLY1305]) {
            let (mut peer, _) = pair_with(cipher);
            let packet = sealed(&mut peer, b"payload");
            let keys = RelayKeys::derive(&[9; 32], cipher, true, false);
            let key = LessSafeKey::new(UnboundKey::new(algorithm, &keys.send[..algorithm.key_len()]).unwrap());
            let nonce = Nonce::assume_unique_for_key([0b00_001_001, 0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
            let tag = match cipher {
                Cipher::Aes128Gcm => key.seal_in_place_separate_tag(nonce, Aad::empty(), &mut b"payload".to_owned()),
                Cipher::ChaCha20Poly1305 => key.seal_in_place_separate_tag(nonce, Aad::from(b"payload"), &mut []),
            };
            assert_eq!(packet[8..16], tag.unwrap().as_ref()[..8]);
        }
    }

    /// Other versions of the program read these bytes: a change here is a change of the protocol.
    #[test]
    fn the_packet_is_golden() {
        let (mut peer, mut server) = pair();
        sealed(&mut peer, b"");
        assert_eq!(crate::id::hex(&sealed(&mut peer, b"payload")), "09000100020000019516002d1bec74367061796c6f6164");
        assert_eq!(crate::id::hex(&sealed(&mut server, b"payload")), "0900010002000000b47a745a365d31347061796c6f6164");
        let (mut peer, _) = pair_with(Cipher::Aes128Gcm);
        assert_eq!(crate::id::hex(&sealed(&mut peer, b"payload")), "09000100020000001d0a4685956faed47061796c6f6164");
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
