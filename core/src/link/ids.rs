//! Connection ids that lead to their link, and the address that QUIC sees instead of real ones.

use std::{
    net::{Ipv6Addr, SocketAddr},
    time::Duration,
};

use quinn_proto::{ConnectionId, ConnectionIdGenerator, InvalidCid};

use crate::rng::Rng;

/// Names a link within its node: the first 4 bytes (big endian) of each connection id that the link issues and of its
/// probe token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkToken(pub u32);

impl LinkToken {
    /// The length of the connection ids that links issue, in bytes.
    pub const CONNECTION_ID_LEN: usize = 8;

    /// The link that issued the connection id or probe token at the front of `bytes`.
    pub fn leading(bytes: &[u8]) -> Option<Self> {
        bytes.first_chunk().map(|token| Self(u32::from_be_bytes(*token)))
    }

    /// An id of this link: its token and 4 random bytes.
    pub(super) fn draw_id(self, rng: &mut Rng) -> [u8; Self::CONNECTION_ID_LEN] {
        let [a, b, c, d] = self.0.to_be_bytes();
        let [e, f, g, h] = rng.bytes();
        [a, b, c, d, e, f, g, h]
    }

    /// The made-up address of the remote: the same for all its real ones, so that QUIC sees one path.
    pub(super) fn made_up_address(self) -> SocketAddr {
        let [high, low] = [(self.0 >> 16) as u16, self.0 as u16];
        SocketAddr::from((Ipv6Addr::new(0xfd70, 0x3270, 0x636f, 0x7265, 0, 0, high, low), 1))
    }
}

/// Issues the connection ids of one link.
pub(super) struct Ids {
    pub(super) token: LinkToken,
    pub(super) seed: [u8; 32],
    pub(super) issued: u64,
}

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        // a generator for each: kept, it would take more memory than all the ids
        let mut rng = Rng::from_seed(self.seed).fork("connection id", self.issued);
        self.issued = self.issued.wrapping_add(1);
        ConnectionId::new(&self.token.draw_id(&mut rng))
    }

    // an id that is in no use gets no stateless reset
    fn validate(&self, _cid: &ConnectionId) -> Result<(), InvalidCid> {
        Err(InvalidCid)
    }

    fn cid_len(&self) -> usize {
        LinkToken::CONNECTION_ID_LEN
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_connection_id_leads_to_its_link_and_none_validates() {
        let token = LinkToken(0xdead_beef);
        let mut ids = Ids { token, seed: [3; 32], issued: 0 };
        let (first, second) = (ids.generate_cid(), ids.generate_cid());
        assert_ne!(first, second);
        for id in [first, second] {
            assert_eq!(id.len(), ids.cid_len());
            assert_eq!(LinkToken::leading(&id), Some(token));
            assert!(ids.validate(&id).is_err());
        }
        assert_eq!(LinkToken::leading(&[1, 2, 3]), None);
    }

    #[test]
    fn links_have_addresses_of_their_own() {
        assert_ne!(LinkToken(1).made_up_address(), LinkToken(0x1_0000).made_up_address());
    }
}
