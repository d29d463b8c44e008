//! Where something comes from, as coarsely as addresses are handed out: Ids are free for any key holder, prefixes are not.

use std::net::{IpAddr, SocketAddr};

use crate::Id;

/// A source for shares: what one household or one office gets from its provider at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Prefix {
    /// /24 of IPv4, mapped addresses included.
    V4([u8; 3]),
    /// /56 of IPv6.
    V6([u8; 7]),
    /// Whatever a relay passes on.
    Relay(Id),
}

impl Prefix {
    /// The prefix of an address.
    pub fn of(address: &SocketAddr) -> Self {
        match address.ip().to_canonical() {
            IpAddr::V4(ip) => {
                let [a, b, c, _] = ip.octets();
                Self::V4([a, b, c])
            }
            IpAddr::V6(ip) => {
                let [a, b, c, d, e, f, g, ..] = ip.octets();
                Self::V6([a, b, c, d, e, f, g])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_network_have_one_prefix() {
        let of = |text: &str| Prefix::of(&text.parse().unwrap());
        assert_eq!(of("192.0.2.1:1"), of("192.0.2.255:2"));
        assert_ne!(of("192.0.2.1:1"), of("192.0.3.1:1"));
        assert_eq!(of("192.0.2.1:1"), of("[::ffff:192.0.2.9]:1"));
        assert_eq!(of("[2001:db8:0:aa00::1]:1"), of("[2001:db8:0:aaff:1::1]:1"));
        assert_ne!(of("[2001:db8:0:aa00::1]:1"), of("[2001:db8:0:ab00::1]:1"));
    }
}
