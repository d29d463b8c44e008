//! The tables as the application reads them.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use super::{LinkInfo, Node, NodeInfo, PeerStatus, Route, ServerStatus, Status, roles::RoleState};
use crate::{Id, Name, path::PathKind, table::PeerRow};

impl Node {
    /// The tables as of now.
    pub fn status(&self) -> Status {
        Status {
            id: self.id(),
            name: self.name.clone(),
            listen: self.network.local().sockets.iter().map(|(_, address)| *address).collect(),
            suspended: self.is_suspended(),
            master: self.master(),
            members: self.members().to_vec(),
            on_demand: match &self.role {
                RoleState::Server(tables) => tables.is_on_demand(),
                RoleState::Peer(tables) => tables.is_on_demand(),
            },
            watches: self.watching.by_application().cloned().collect(),
            servers: self.server_statuses(),
            peers: self.peer_statuses(),
            clients: self.client_infos(),
            links: self.reported_links(),
            counters: self.counters(),
        }
    }

    /// What was counted since the start.
    pub fn counters(&self) -> BTreeMap<&'static str, u64> {
        let mut counters = self.counters.clone();
        counters.insert("key updates", self.env.handshake.key_updates());
        counters
    }

    fn link_of(&self, id: &Id) -> Option<(Route, PathKind, Option<Duration>)> {
        let token = self.remotes.get(id)?.current?;
        let link = &self.links.get(token)?.link;
        Some((link.route()?, link.kind()?, link.rtt()))
    }

    pub(super) fn rtt_of(&self, id: &Id) -> Option<Duration> {
        self.link_of(id)?.2
    }

    fn server_statuses(&self) -> Vec<ServerStatus> {
        let mut rows: BTreeMap<Id, (Name, Vec<SocketAddr>)> = BTreeMap::new();
        match &self.role {
            RoleState::Server(tables) => rows.extend(
                tables
                    .servers()
                    .filter(|(id, _)| *id != self.id())
                    .map(|(id, row)| (id, (row.name.clone(), row.addresses.to_vec()))),
            ),
            RoleState::Peer(tables) => rows
                .extend(tables.servers().into_iter().map(|(id, row)| (id, (row.name.clone(), row.addresses.to_vec())))),
        }
        for id in &self.linked_servers {
            rows.entry(*id).or_insert_with(|| {
                let name = self.remotes.get(id).map(|remote| remote.name.clone()).unwrap_or_default();
                (name, self.route_of(id).and_then(|route| route.address()).into_iter().collect())
            });
        }
        rows.into_iter()
            .map(|(id, (name, addresses))| {
                let link = self.link_of(&id);
                ServerStatus { id, name, addresses, linked: link.is_some(), rtt: link.and_then(|(.., rtt)| rtt) }
            })
            .collect()
    }

    fn peer_statuses(&self) -> Vec<PeerStatus> {
        let rows: BTreeMap<Id, &PeerRow> = match &self.role {
            RoleState::Server(tables) => tables.clients().map(|(id, row)| (*id, row)).collect(),
            RoleState::Peer(tables) => {
                tables.online().keys().filter_map(|id| tables.row(id).map(|row| (*id, row))).collect()
            }
        };
        rows.into_iter()
            .map(|(id, row)| {
                let link = self.link_of(&id);
                PeerStatus {
                    info: node_info(id, row),
                    linked: link.is_some(),
                    kind: link.map(|(_, kind, _)| kind),
                    via: link.and_then(|(route, ..)| route.via()),
                    rtt: link.and_then(|(.., rtt)| rtt),
                }
            })
            .collect()
    }

    fn client_infos(&self) -> Vec<NodeInfo> {
        match &self.role {
            RoleState::Server(tables) => tables.clients().map(|(id, row)| node_info(*id, row)).collect(),
            RoleState::Peer(_) => Vec::new(),
        }
    }

    fn reported_links(&self) -> Vec<LinkInfo> {
        match &self.role {
            RoleState::Server(tables) => {
                tables.reported_links().into_iter().map(|(from, to, kind)| LinkInfo { from, to, kind }).collect()
            }
            RoleState::Peer(_) => Vec::new(),
        }
    }
}

fn node_info(id: Id, row: &PeerRow) -> NodeInfo {
    let network = &row.network;
    NodeInfo {
        id,
        name: row.name.clone(),
        public: network.public.to_vec(),
        private: network.private.to_vec(),
        listen: network.listen.to_vec(),
    }
}
