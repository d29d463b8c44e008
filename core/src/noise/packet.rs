//! Packet and header protection (RFC 9001 sections 5.3 and 5.4) by ring.

use std::sync::OnceLock;

use bytes::BytesMut;
use quinn_proto::crypto::{CryptoError, HeaderKey, PacketKey};
use ring::aead::{self, quic};
use zeroize::Zeroizing;

use super::{
    reader::Reader,
    schedule::{self, Secret},
};
use crate::Cipher;

const TAG_LEN: usize = 16;

/// One direction's AEAD.
pub(super) struct Packets {
    key: aead::LessSafeKey,
    iv: [u8; aead::NONCE_LEN],
    cipher: Cipher,
}

impl Packets {
    pub(super) fn new(cipher: Cipher, secret: &Secret) -> Self {
        let algorithm = match cipher {
            Cipher::Aes128Gcm => &aead::AES_128_GCM,
            Cipher::ChaCha20Poly1305 => &aead::CHACHA20_POLY1305,
        };
        let mut material = Zeroizing::new([0; 32 + aead::NONCE_LEN]);
        schedule::packet_material(cipher, secret, material.as_mut());
        let (iv, key) = material.split_first_chunk().expect("the iv is shorter than the material");
        let key = aead::UnboundKey::new(algorithm, &key[..algorithm.key_len()]).expect("the key has its length");
        Self { key: aead::LessSafeKey::new(key), iv: *iv, cipher }
    }

    fn nonce(&self, packet: u64) -> aead::Nonce {
        let mut nonce = self.iv;
        let (_, low) = nonce.split_last_chunk_mut::<8>().expect("an iv has 12 bytes");
        *low = (u64::from_be_bytes(*low) ^ packet).to_be_bytes();
        aead::Nonce::assume_unique_for_key(nonce)
    }
}

impl PacketKey for Packets {
    fn encrypt(&self, packet: u64, buf: &mut [u8], header_len: usize) {
        let (header, body) = buf.split_at_mut(header_len);
        let (payload, tag) = body.split_at_mut(body.len() - TAG_LEN);
        match self.key.seal_in_place_separate_tag(self.nonce(packet), aead::Aad::from(&*header), payload) {
            Ok(sealed) => tag.copy_from_slice(sealed.as_ref()),
            // ring refuses only what is longer than any datagram: send zeros rather than plaintext
            Err(ring::error::Unspecified) => body.fill(0),
        }
    }

    fn decrypt(&self, packet: u64, header: &[u8], payload: &mut BytesMut) -> Result<(), CryptoError> {
        let opened = self.key.open_in_place(self.nonce(packet), aead::Aad::from(header), payload);
        let len = opened.map_err(|ring::error::Unspecified| CryptoError)?.len();
        payload.truncate(len);
        Ok(())
    }

    fn tag_len(&self) -> usize {
        TAG_LEN
    }

    fn confidentiality_limit(&self) -> u64 {
        confidentiality_limit(self.cipher)
    }

    fn integrity_limit(&self) -> u64 {
        integrity_limit(self.cipher)
    }
}

/// RFC 9001 section 6.6.
const fn confidentiality_limit(cipher: Cipher) -> u64 {
    match cipher {
        Cipher::Aes128Gcm => 1 << 23,
        Cipher::ChaCha20Poly1305 => u64::MAX,
    }
}

/// RFC 9001 section 6.6.
const fn integrity_limit(cipher: Cipher) -> u64 {
    match cipher {
        Cipher::Aes128Gcm => 1 << 52,
        Cipher::ChaCha20Poly1305 => 1 << 36,
    }
}

/// One direction's AEAD after the next key update, made when it is used: most links never come so far, and a key weighs half a
/// kilobyte. RFC 9001 section 6.3 leaves it open when they are made; who
/// measures that one packet takes longer learns that keys were updated.
pub(super) struct NextPackets {
    cipher: Cipher,
    secret: Secret,
    packets: OnceLock<Box<Packets>>,
}

impl NextPackets {
    pub(super) fn new(cipher: Cipher, secret: &Secret) -> Self {
        Self { cipher, secret: secret.clone(), packets: OnceLock::new() }
    }

    fn packets(&self) -> &Packets {
        self.packets.get_or_init(|| Box::new(Packets::new(self.cipher, &self.secret)))
    }
}

impl PacketKey for NextPackets {
    fn encrypt(&self, packet: u64, buf: &mut [u8], header_len: usize) {
        self.packets().encrypt(packet, buf, header_len);
    }

    fn decrypt(&self, packet: u64, header: &[u8], payload: &mut BytesMut) -> Result<(), CryptoError> {
        self.packets().decrypt(packet, header, payload)
    }

    fn tag_len(&self) -> usize {
        TAG_LEN
    }

    fn confidentiality_limit(&self) -> u64 {
        confidentiality_limit(self.cipher)
    }

    fn integrity_limit(&self) -> u64 {
        integrity_limit(self.cipher)
    }
}

/// The server's Initial packets: the source connection id in each header is part of the key, so that two answers to
/// one replayed first packet never share key and packet number.
pub(super) struct InitialAnswers(pub(super) Secret);

impl InitialAnswers {
    const CIPHER: Cipher = Cipher::ChaCha20Poly1305;

    fn packets(&self, header: &[u8]) -> Option<Packets> {
        let source = source_id(header)?;
        Some(Packets::new(Self::CIPHER, &schedule::initial_answer(&self.0, source)))
    }
}

impl PacketKey for InitialAnswers {
    fn encrypt(&self, packet: u64, buf: &mut [u8], header_len: usize) {
        match buf.get(..header_len).and_then(|header| self.packets(header)) {
            Some(packets) => packets.encrypt(packet, buf, header_len),
            None => buf.fill(0),
        }
    }

    fn decrypt(&self, packet: u64, header: &[u8], payload: &mut BytesMut) -> Result<(), CryptoError> {
        self.packets(header).ok_or(CryptoError)?.decrypt(packet, header, payload)
    }

    fn tag_len(&self) -> usize {
        TAG_LEN
    }

    fn confidentiality_limit(&self) -> u64 {
        u64::MAX
    }

    fn integrity_limit(&self) -> u64 {
        1 << 36
    }
}

/// The source connection id of a long header.
fn source_id(header: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader::new(header);
    let _form_and_version = reader.bytes(5)?;
    let destination_len = reader.u8()?;
    let _destination = reader.bytes(destination_len.into())?;
    let source_len = reader.u8()?;
    reader.bytes(source_len.into())
}

/// One direction's header protection.
pub(super) struct Headers(quic::HeaderProtectionKey);

impl Headers {
    pub(super) fn new(cipher: Cipher, secret: &Secret) -> Self {
        let algorithm = match cipher {
            Cipher::Aes128Gcm => &quic::AES_128,
            Cipher::ChaCha20Poly1305 => &quic::CHACHA20,
        };
        let mut material = Zeroizing::new([0; 32]);
        schedule::header_material(cipher, secret, material.as_mut());
        let key = &material[..algorithm.key_len()];
        Self(quic::HeaderProtectionKey::new(algorithm, key).expect("the key has its length"))
    }

    /// Masks the first byte and the packet number, whose length `number_len` reads from the first byte (before and
    /// after the masking).
    fn mask(&self, number_at: usize, packet: &mut [u8], number_len: impl FnOnce(u8, u8) -> u8) {
        let Some((head, rest)) = packet.split_at_mut_checked(number_at) else { return };
        let Some((number, sample)) = rest.split_at_mut_checked(4) else { return };
        let (Some(first), Some(sample)) = (head.first_mut(), sample.get(..self.sample_size())) else { return };
        let Ok([first_mask, number_mask @ ..]) = self.0.new_mask(sample) else { return };
        let before = *first;
        *first ^= first_mask & if before & 0x80 == 0 { 0x1f } else { 0x0f };
        let len = usize::from(number_len(before, *first) & 3) + 1;
        for (byte, mask) in number.iter_mut().zip(number_mask).take(len) {
            *byte ^= mask;
        }
    }
}

impl HeaderKey for Headers {
    fn decrypt(&self, number_at: usize, packet: &mut [u8]) {
        self.mask(number_at, packet, |_protected, plain| plain);
    }

    fn encrypt(&self, number_at: usize, packet: &mut [u8]) {
        self.mask(number_at, packet, |plain, _protected| plain);
    }

    fn sample_size(&self) -> usize {
        16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CIPHERS: [Cipher; 2] = [Cipher::Aes128Gcm, Cipher::ChaCha20Poly1305];

    fn secret(byte: u8) -> Secret {
        Zeroizing::new([byte; 32])
    }

    fn sealed(key: &dyn PacketKey, number: u64, header: &[u8]) -> Vec<u8> {
        let mut packet = [header, b"some payload", &[0; TAG_LEN]].concat();
        key.encrypt(number, &mut packet, header.len());
        packet
    }

    fn opens(key: &dyn PacketKey, number: u64, header: &[u8], packet: &[u8]) -> bool {
        let mut payload = BytesMut::from(&packet[header.len()..]);
        key.decrypt(number, header, &mut payload).is_ok_and(|()| payload == b"some payload"[..])
    }

    #[test]
    fn packets_open_with_their_key_number_and_header_only() {
        for cipher in CIPHERS {
            let (key, other) = (Packets::new(cipher, &secret(1)), Packets::new(cipher, &secret(2)));
            let packet = sealed(&key, 5, b"head");
            assert!(opens(&key, 5, b"head", &packet));
            assert!(!opens(&other, 5, b"head", &packet));
            assert!(!opens(&key, 6, b"head", &packet));
            assert!(!opens(&key, 5, b"dead", &packet));
            assert!(!opens(&key, 5, b"head", &packet[..10]));
        }
    }

    #[test]
    fn headers_are_restored_for_every_number_length() {
        for cipher in CIPHERS {
            let key = Headers::new(cipher, &secret(3));
            for first in [0x40, 0x41, 0x42, 0x43, 0xc0, 0xc3] {
                let plain: Vec<u8> = std::iter::once(first).chain(1..40).collect();
                let mut packet = plain.clone();
                key.encrypt(9, &mut packet);
                assert_ne!(packet, plain);
                assert_eq!(packet[9 + 4..], plain[9 + 4..]);
                key.decrypt(9, &mut packet);
                assert_eq!(packet, plain);
            }
        }
    }

    #[test]
    fn a_packet_without_room_for_a_sample_is_left_alone() {
        let key = Headers::new(Cipher::Aes128Gcm, &secret(3));
        for len in 0..29 {
            let mut packet = vec![0x40; len];
            key.decrypt(9, &mut packet);
            assert_eq!(packet, vec![0x40; len]);
        }
    }

    #[test]
    fn answers_with_different_source_ids_share_no_key() {
        let key = InitialAnswers(secret(4));
        let header = |source: u8| [&[0xc0, 0, 0, 0, 1, 1, 7, 1, source][..], &[0; 4]].concat();
        let (one, two) = (header(1), header(2));
        let (first, second) = (sealed(&key, 0, &one), sealed(&key, 0, &two));
        assert_ne!(first[one.len()..][..12], second[two.len()..][..12]);
        assert!(opens(&key, 0, &one, &first) && opens(&key, 0, &two, &second));
        assert!(!opens(&key, 0, &two, &first));
        assert!(!opens(&key, 0, &one[..8], &first));
    }
}
