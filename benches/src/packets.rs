//! The keys of a link, joined without a link.

use std::sync::Arc;

use bytes::BytesMut;
use p2pcore::{Cipher, Identity, NetworkKey, Role, SecretKey, noise};
use quinn_proto::{
    Side,
    crypto::{PacketKey, Session},
    transport_parameters::TransportParameters,
};

const VERSION: u32 = 0x7032_7001;
/// A short header: flags, connection id, packet number.
const HEADER: usize = 1 + 8 + 4;
const TAG: usize = 16;

/// Those that protect packets.
pub const CIPHERS: [Cipher; 2] = [Cipher::Aes128Gcm, Cipher::ChaCha20Poly1305];

/// What seals packets at one end and opens them at the other.
pub struct Packets {
    seal: Box<dyn PacketKey>,
    open: Box<dyn PacketKey>,
    number: u64,
}

impl Packets {
    /// After a handshake that chose `cipher`.
    ///
    /// # Panics
    /// If the handshake fails.
    pub fn new(cipher: Cipher) -> Self {
        let (mut client, mut server) = sessions(cipher);
        let (mut seal, mut open) = (None, None);
        // an offer and an answer, a byte to confirm, a finish: with each step one end may have keys for what follows
        for _ in 0..3 {
            seal = pass(&mut *client, &mut *server).or(seal);
            open = pass(&mut *server, &mut *client).or(open);
        }
        let (seal, open) = seal.zip(open).expect("a handshake ends with keys");
        Self { seal: seal.0, open: open.1, number: 0 }
    }

    /// Seals the packets of one run, each `len` bytes long, in place; returns the number of the first one.
    pub fn seal(&mut self, run: &mut [u8], len: usize) -> u64 {
        let first = self.number;
        for packet in run.chunks_mut(len) {
            self.seal.encrypt(self.number, packet, HEADER);
            self.number += 1;
        }
        first
    }

    /// Opens a run that was sealed from `first` on; how many of its packets are authentic.
    pub fn open(&self, run: BytesMut, len: usize, first: u64) -> usize {
        let mut rest = run;
        let mut authentic = 0;
        for number in first.. {
            if rest.is_empty() {
                break;
            }
            let mut packet = rest.split_to(len.min(rest.len()));
            let header = packet.split_to(HEADER);
            authentic += usize::from(self.open.decrypt(number, &header, &mut packet).is_ok());
        }
        authentic
    }

    /// A run of `packets` packets of `len` bytes with room for their tags.
    ///
    /// # Panics
    /// If a packet has no room for its header and its tag.
    pub fn run(packets: usize, len: usize) -> Vec<u8> {
        assert!(len > HEADER + TAG, "a header and a tag");
        vec![0x40; packets * len]
    }
}

fn sessions(cipher: Cipher) -> (Box<dyn Session>, Box<dyn Session>) {
    let key = || NetworkKey::from_bytes([2; 32]);
    let end = |seed| {
        let identity = Identity::new(Role::Server, SecretKey::from_bytes([seed; 32]));
        Arc::new(noise::Handshake::new(identity, key(), vec![cipher]))
    };
    let (near, far) = (end(1), end(2));
    let first_id = noise::first_id(&key(), [7; 12], Some(far.id()));
    // the server's own name the first destination id
    let parameters = |bytes: &[u8]| TransportParameters::read(Side::Client, &mut &*bytes).expect("well formed");
    let client = noise::client(&near, Some(far.id()), first_id, [3; 32]);
    let client = client.start_session(VERSION, "p2pcore", &parameters(&[])).expect("this version");
    let named = parameters(&[&[0, 20][..], &first_id].concat());
    (client, noise::server(&far, [4; 32]).start_session(VERSION, &named))
}

type KeysOfEnd = (Box<dyn PacketKey>, Box<dyn PacketKey>);

/// The next flight of one end goes to the other; the keys that come with it.
fn pass(from: &mut dyn Session, to: &mut dyn Session) -> Option<KeysOfEnd> {
    let mut bytes = Vec::new();
    let keys = from.write_handshake(&mut bytes);
    if !bytes.is_empty() {
        to.read_handshake(&bytes).expect("a handshake that succeeds");
    }
    keys.map(|keys| (keys.packet.local, keys.packet.remote))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens() {
        for cipher in CIPHERS {
            let mut packets = Packets::new(cipher);
            for count in [1, 10] {
                let mut run = Packets::run(count, 1_200);
                let first = packets.seal(&mut run, 1_200);
                assert_eq!(packets.open(BytesMut::from(&run[..]), 1_200, first), count);
                run[600] ^= 1;
                assert_eq!(packets.open(BytesMut::from(&run[..]), 1_200, first), count - 1);
            }
        }
    }
}
