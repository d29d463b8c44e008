//! How full the queues and tables are, each beside its limit.

use super::{Node, roles::RoleState};

/// One queue or table: what it holds, and the field of `Config` that bounds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// What it is.
    pub what: &'static str,
    /// What it holds.
    pub used: usize,
    /// What it may hold.
    pub limit: usize,
}

impl Node {
    /// How full each bounded queue and table is, for tests and tools; it looks at everything. Of what each remote or each
    /// source prefix has, the fullest counts.
    pub fn usage(&self) -> Vec<Usage> {
        let config = &self.config;
        let (prefix_links, prefix_handshakes) = self.links.fullest_prefix();
        let conversations = || self.remotes.values().filter_map(|remote| remote.conversation.as_ref());
        let held = conversations().map(|conversation| conversation.held()).max().unwrap_or_default();
        let halves = conversations().map(|conversation| conversation.halves()).max().unwrap_or_default();
        let apart = self.remotes.values().filter(|remote| remote.current.or(remote.dialling).is_none()).count();
        let rows = match &self.role {
            RoleState::Server(tables) => tables.clients().count(),
            RoleState::Peer(tables) => tables.online().len(),
        };
        let of = |what, used, limit| Usage { what, used, limit };
        vec![
            of("links", self.links.len(), config.max_links),
            of("links of one prefix", prefix_links, config.max_links_per_prefix),
            of("inbound handshakes", self.links.inbound_handshakes(), config.max_handshakes),
            of("inbound handshakes of one prefix", prefix_handshakes, config.max_handshakes_per_prefix),
            of("first packets remembered", self.nonces.len(), config.max_first_packet_nonces.max(1)),
            // they are looked at when there are an eighth more, and those whose link has just ended are among them
            of("remotes without a link", apart, config.max_sessions + config.max_sessions / 8 + config.max_links),
            of("datagrams waiting", self.outgoing.len(), config.max_outgoing),
            of("relay slots", self.forwarder.held(), config.max_peers),
            of("prefixes with quotas", self.forwarder.prefixes(), config.max_relay_prefixes),
            of("directory rows", rows, config.max_peers * config.max_servers.max(1)),
            of("requests", self.messages.requests.len(), config.max_requests),
            of("replies owed", self.messages.replies.len(), config.max_requests),
            // one message always fits, and what is read in one piece
            of("bytes not taken of one remote", held, config.max_unhanded_bytes + config.max_message + READ_SLACK),
            of(
                "bytes of half messages of one remote",
                halves,
                config.max_unhanded_bytes + config.max_message + READ_SLACK,
            ),
        ]
    }
}

/// What is read of each lane in one piece.
const READ_SLACK: usize = 16 * 64 * 1024;
