//! What a node holds against its limits, for checks.

use super::{Node, roles::RoleState};
use crate::wire::MAX_SERVERS;

/// What some table holds, and the most that it may hold.
type Held = (&'static str, usize, usize);

impl Node {
    /// A table that holds more than its limits allow: its name, what it holds, the limit. Events that nobody takes are the
    /// driver's matter and not looked at.
    pub fn over_limit(&self) -> Option<(&'static str, usize, usize)> {
        self.held().into_iter().chain(self.held_by_role()).find(|(_, held, limit)| held > limit)
    }

    fn held(&self) -> [Held; 19] {
        let config = &self.config;
        let links = config.max_links;
        // an eighth more is forgotten at once, and looked for an eighth later
        let sessions = config.max_sessions + config.max_sessions / 4 + 1;
        let known = match &self.role {
            RoleState::Server(_) => 0,
            RoleState::Peer(tables) => tables.online().len(),
        };
        let streams = links * 2 * config.max_streams as usize + config.max_waiting_streams;
        let remotes = sessions + links + config.max_servers + known + self.awaited.len() + config.max_waiting_streams;
        let waiting = self.links.iter().map(|(_, entry)| entry.parked.len() + entry.parked_streams.len());
        let relayed = self.links.iter().map(|(_, entry)| entry.relayed.len());
        [
            ("links", self.links.len(), links),
            ("inbound handshakes", self.links.inbound_handshakes(), config.max_handshakes),
            ("first packet nonces", self.nonces.len(), config.max_first_packet_nonces),
            ("remotes", self.remotes.len(), remotes),
            ("linked servers", self.linked_servers.len(), links),
            ("awaited", self.awaited.len(), config.max_sessions),
            ("relays", self.relays.len(), links),
            ("relay slots", self.slots.len(), config.max_peers),
            ("relay sources", self.relay_sources.len(), super::roles::MAX_RELAY_SOURCES),
            ("saved servers", self.saved.servers.len(), config.max_servers),
            ("outgoing", self.outgoing.len(), config.max_outgoing),
            ("ready", self.ready.len(), links + 1),
            ("requests to the Master", self.to_master.len(), config.max_requests),
            ("replies", self.messages.replies.len(), config.max_requests),
            ("streams", self.streams.len(), streams),
            ("foreigners", self.foreigners.len(), 2 * config.max_foreign),
            ("parked", waiting.max().unwrap_or(0), 64 + config.max_streams as usize),
            ("relayed ways of a link", relayed.max().unwrap_or(0), super::links::MAX_RELAYED),
            ("deadlines", self.timers.len(), 3 * links + 4 * (remotes + known) + self.introducers.len() + 8),
        ]
    }

    fn held_by_role(&self) -> [Held; 3] {
        let config = &self.config;
        match &self.role {
            RoleState::Server(tables) => [
                ("clients", tables.clients().count(), config.max_peers),
                ("servers", tables.servers().count(), 1 + config.max_links),
                ("reported links", tables.reported_links().len(), config.max_peers * config.max_peers),
            ],
            RoleState::Peer(tables) => {
                let views = self.linked_servers.len() + 1;
                [
                    ("peers online", tables.online().len(), views * config.max_peers),
                    ("servers", tables.servers().len(), views * MAX_SERVERS),
                    ("members", self.told.members.list.len(), MAX_SERVERS),
                ]
            }
        }
    }
}
