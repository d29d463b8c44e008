//! The local addresses that answers leave from, learnt from the packets of the remote.

use std::net::{IpAddr, SocketAddr};

/// Remote addresses remembered for one link.
const MAX_SOURCES: usize = 16;

/// For each address of a remote the own address that its packets come to.
#[derive(Debug, Default)]
pub(super) struct Sources(Vec<Source>);

#[derive(Debug)]
struct Source {
    remote: SocketAddr,
    ip: IpAddr,
    /// From a packet that was authentic and new.
    proven: bool,
}

impl Sources {
    /// A packet of `remote` came to `ip`. One that proves nothing changes nothing that is known, and what it teaches makes
    /// room for what is proven.
    pub(super) fn learn(&mut self, remote: SocketAddr, ip: IpAddr, proven: bool) {
        if let Some(known) = self.0.iter_mut().find(|known| known.remote == remote) {
            if proven {
                (known.ip, known.proven) = (ip, true);
            }
            return;
        }
        if self.0.len() >= MAX_SOURCES {
            if !proven {
                return;
            }
            let least = self.0.iter().position(|known| !known.proven).unwrap_or(0);
            self.0.remove(least);
        }
        self.0.push(Source { remote, ip, proven });
    }

    pub(super) fn get(&self, remote: &SocketAddr) -> Option<IpAddr> {
        self.0.iter().find(|known| known.remote == *remote).map(|known| known.ip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([198, 51, 100, last])
    }

    #[test]
    fn what_proves_nothing_fills_gaps_only() {
        let mut sources = Sources::default();
        sources.learn(remote(1), ip(1), false);
        assert_eq!(sources.get(&remote(1)), Some(ip(1)));
        sources.learn(remote(1), ip(2), false);
        assert_eq!(sources.get(&remote(1)), Some(ip(1)));
        sources.learn(remote(1), ip(2), true);
        sources.learn(remote(1), ip(3), false);
        assert_eq!(sources.get(&remote(1)), Some(ip(2)));
    }

    #[test]
    fn forgeries_do_not_keep_the_proven_out() {
        let mut sources = Sources::default();
        sources.learn(remote(1), ip(1), true);
        for port in 2..1_000 {
            sources.learn(remote(port), ip(9), false);
        }
        sources.learn(remote(2_000), ip(2), true);
        assert_eq!(sources.get(&remote(1)), Some(ip(1)));
        assert_eq!(sources.get(&remote(2_000)), Some(ip(2)));
        assert_eq!(sources.0.len(), MAX_SOURCES);
    }
}
