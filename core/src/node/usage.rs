//! How full the queues and tables are, each beside its limit.

use super::{Node, roles::RoleState};
use crate::wire::MAX_SERVERS;

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

impl Usage {
    /// It holds more than it may.
    pub const fn is_over(&self) -> bool {
        self.used > self.limit
    }
}

impl Node {
    /// How full each bounded queue and table is, for tests and tools; it looks at everything. Of what each remote or each
    /// source prefix has, the fullest counts.
    pub fn usage(&self) -> Vec<Usage> {
        let mut all = self.usage_of_links();
        all.extend(self.usage_of_messages());
        all.extend(self.usage_of_tables());
        all
    }

    fn usage_of_links(&self) -> Vec<Usage> {
        let config = &self.config;
        let links = config.max_links;
        let (prefix_links, prefix_handshakes) = self.links.fullest_prefix();
        let parked = self.links.iter().map(|(_, entry)| entry.parked.len() + entry.parked_streams.len());
        let relayed = self.links.iter().map(|(_, entry)| entry.relayed.len());
        vec![
            of("links", self.links.len(), links),
            of("links of one prefix", prefix_links, config.max_links_per_prefix),
            of("inbound handshakes", self.links.inbound_handshakes(), config.max_handshakes),
            of("inbound handshakes of one prefix", prefix_handshakes, config.max_handshakes_per_prefix),
            of("first packets remembered", self.nonces.len(), config.max_first_packet_nonces.max(1)),
            of("linked servers", self.linked_servers.len(), links),
            of("datagrams waiting", self.outgoing.len(), config.max_outgoing),
            of("links with datagrams", self.ready.len(), links + 1),
            of("parked by one link", parked.max().unwrap_or(0), 64 + config.max_streams as usize),
            of("relays", self.relays.len(), links),
            of("relay sources", self.relay_sources.len(), super::roles::MAX_RELAY_SOURCES),
            of("relayed ways of one link", relayed.max().unwrap_or(0), super::links::MAX_RELAYED),
            of("relay slots", self.slots.len().max(self.forwarder.held()), config.max_peers),
            of("prefixes with quotas", self.forwarder.prefixes(), config.max_relay_prefixes),
        ]
    }

    fn usage_of_messages(&self) -> Vec<Usage> {
        let config = &self.config;
        let conversations = || self.remotes.values().filter_map(|remote| remote.conversation.as_ref());
        let held = conversations().map(|conversation| conversation.held()).max().unwrap_or_default();
        let halves = conversations().map(|conversation| conversation.halves()).max().unwrap_or_default();
        // one message always fits, and what is read in one piece
        let unhanded = config.max_unhanded_bytes + config.max_message + READ_SLACK;
        let streams = config.max_links * 2 * config.max_streams as usize + config.max_waiting_streams;
        vec![
            of("bytes not taken of one remote", held, unhanded),
            of("bytes of half messages of one remote", halves, unhanded),
            of("requests", self.messages.requests.len(), config.max_requests),
            of("requests to the Master", self.to_master.len(), config.max_requests),
            of("replies owed", self.messages.replies.len(), config.max_requests),
            of("streams", self.streams.len(), streams),
        ]
    }

    fn usage_of_tables(&self) -> Vec<Usage> {
        let config = &self.config;
        let (links, peers) = (config.max_links, config.max_peers);
        let views = self.linked_servers.len() + 1;
        let online = match &self.role {
            RoleState::Server(_) => 0,
            RoleState::Peer(tables) => tables.online().len(),
        };
        let apart = self.remotes.values().filter(|remote| !remote.has_link_or_dial()).count();
        // an eighth more is forgotten at once, and looked for an eighth later
        let sessions = config.max_sessions + config.max_sessions / 4 + 1;
        let remotes = sessions + links + config.max_servers + self.awaited.len() + config.max_waiting_streams;
        let deadlines = 3 * links + 4 * self.remotes.len() + self.introducers.len() + 8;
        let mut all = vec![
            of("remotes", self.remotes.len(), remotes),
            // they are looked at when there are an eighth more, and those whose link has just ended are among them
            of("remotes without a link", apart, config.max_sessions + config.max_sessions / 8 + links),
            of("awaited", self.awaited.len(), config.max_sessions),
            of("saved servers", self.saved.servers.len(), config.max_servers),
            of("foreigners", self.foreigners.len(), 2 * config.max_foreign),
            of("deadlines", self.timers.len(), deadlines),
        ];
        match &self.role {
            RoleState::Server(tables) => all.extend([
                of("clients", tables.clients().count(), peers),
                of("servers", tables.servers().count(), 1 + links),
                of("reported links", tables.reported_links().len(), peers * peers),
            ]),
            RoleState::Peer(tables) => all.extend([
                of("peers online", online, peers * views.min(config.max_servers.max(1))),
                of("servers", tables.servers().len(), views * MAX_SERVERS),
                of("members", self.told.members.list.len(), MAX_SERVERS),
            ]),
        }
        all
    }
}

const fn of(what: &'static str, used: usize, limit: usize) -> Usage {
    Usage { what, used, limit }
}

/// What is read of each lane in one piece.
const READ_SLACK: usize = 16 * 64 * 1024;
