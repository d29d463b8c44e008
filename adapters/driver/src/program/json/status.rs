//! The tables of a node as one object.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use p2pcore::{
    Id, Role,
    node::{LinkInfo, NodeInfo, PeerStatus, ServerStatus, Status},
};
use serde::Serialize;

use super::master::{MasterLine, MemberRow};

/// The `status` event.
#[derive(Debug, Serialize)]
pub(crate) struct StatusLine<'a> {
    event: &'static str,
    #[serde(rename = "ref")]
    reference: Option<&'a str>,
    id: Id,
    role: &'static str,
    name: &'a str,
    listen: &'a [SocketAddr],
    suspended: bool,
    master: Option<MasterLine>,
    members: Vec<MemberRow>,
    on_demand: bool,
    servers: Vec<Server<'a>>,
    peers: Vec<Peer<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    clients: Option<Vec<Client<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    links: Option<Vec<Link>>,
    counters: &'a BTreeMap<&'static str, u64>,
}

impl<'a> StatusLine<'a> {
    pub(crate) fn new(reference: Option<&'a str>, status: &'a Status) -> Self {
        let server = status.role() == Role::Server;
        Self {
            event: "status",
            reference,
            id: status.id,
            role: status.role().as_str(),
            name: status.name.as_str(),
            listen: &status.listen,
            suspended: status.suspended,
            master: status.master.map(MasterLine::from),
            members: status.members.iter().map(MemberRow::from).collect(),
            on_demand: status.on_demand,
            servers: status.servers.iter().map(Server::new).collect(),
            peers: status.peers.iter().map(Peer::new).collect(),
            clients: server.then(|| status.clients.iter().map(Client::new).collect()),
            links: server.then(|| status.links.iter().map(Link::new).collect()),
            counters: &status.counters,
        }
    }
}

#[derive(Debug, Serialize)]
struct Server<'a> {
    id: Id,
    name: &'a str,
    addresses: &'a [SocketAddr],
    linked: bool,
    rtt_ms: Option<u64>,
}

impl<'a> Server<'a> {
    fn new(server: &'a ServerStatus) -> Self {
        Self {
            id: server.id,
            name: server.name.as_str(),
            addresses: &server.addresses,
            linked: server.linked,
            rtt_ms: server.rtt.map(millis),
        }
    }
}

#[derive(Debug, Serialize)]
struct Peer<'a> {
    id: Id,
    name: &'a str,
    linked: bool,
    kind: Option<&'static str>,
    via: Option<Id>,
    rtt_ms: Option<u64>,
    public: &'a [SocketAddr],
    private: &'a [SocketAddr],
    listen: &'a [SocketAddr],
}

impl<'a> Peer<'a> {
    fn new(peer: &'a PeerStatus) -> Self {
        Self {
            id: peer.info.id,
            name: peer.info.name.as_str(),
            linked: peer.linked,
            kind: peer.kind.map(|kind| kind.as_str()),
            via: peer.via,
            rtt_ms: peer.rtt.map(millis),
            public: &peer.info.public,
            private: &peer.info.private,
            listen: &peer.info.listen,
        }
    }
}

#[derive(Debug, Serialize)]
struct Client<'a> {
    id: Id,
    name: &'a str,
    public: &'a [SocketAddr],
    private: &'a [SocketAddr],
    listen: &'a [SocketAddr],
}

impl<'a> Client<'a> {
    fn new(info: &'a NodeInfo) -> Self {
        Self {
            id: info.id,
            name: info.name.as_str(),
            public: &info.public,
            private: &info.private,
            listen: &info.listen,
        }
    }
}

#[derive(Debug, Serialize)]
struct Link {
    from: Id,
    to: Id,
    kind: &'static str,
}

impl Link {
    fn new(link: &LinkInfo) -> Self {
        Self { from: link.from, to: link.to, kind: link.kind.as_str() }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use p2pcore::{
        Identity, Name, SecretKey,
        master::{MasterView, MemberInfo, NoQuorum},
        node::PathKind,
    };
    use serde_json::json;

    use super::*;

    fn id(role: Role, seed: u8) -> Id {
        Identity::new(role, SecretKey::from_bytes([seed; 32])).id()
    }

    fn status(own: Id) -> Status {
        let address = |port| SocketAddr::from(([10, 0, 0, 1], port));
        let info = NodeInfo {
            id: id(Role::Peer, 2),
            name: Name::new("p").unwrap(),
            public: vec![address(1)],
            private: vec![address(2)],
            listen: vec![address(3)],
        };
        Status {
            id: own,
            name: Name::new("me").unwrap(),
            listen: vec![address(4)],
            suspended: false,
            master: Some(MasterView::NoMaster(Some(NoQuorum { need: 2, have: 1 }))),
            members: vec![MemberInfo { id: id(Role::Server, 3), is_voter: true }],
            on_demand: true,
            watches: Vec::new(),
            servers: vec![ServerStatus {
                id: id(Role::Server, 3),
                name: Name::new("s").unwrap(),
                addresses: vec![address(5)],
                linked: true,
                rtt: Some(Duration::from_micros(2_900)),
            }],
            peers: vec![PeerStatus {
                info: info.clone(),
                linked: true,
                kind: Some(PathKind::Relayed),
                via: Some(id(Role::Server, 3)),
                rtt: None,
            }],
            clients: vec![info],
            links: vec![LinkInfo { from: id(Role::Peer, 2), to: id(Role::Server, 3), kind: PathKind::Direct }],
            counters: BTreeMap::from([("datagrams_in", 8)]),
        }
    }

    #[test]
    fn a_server_shows_all_tables_and_a_peer_all_but_a_and_b() {
        let (peer, server) = (id(Role::Peer, 2), id(Role::Server, 3));
        let own = id(Role::Server, 1);
        let row = json!({"id": peer, "name": "p", "public": ["10.0.0.1:1"], "private": ["10.0.0.1:2"], "listen": ["10.0.0.1:3"]});
        let mut peer_row = row.clone();
        for (key, value) in
            [("linked", json!(true)), ("kind", json!("relayed")), ("via", json!(server)), ("rtt_ms", json!(null))]
        {
            peer_row[key] = value;
        }
        let mut expected = json!({
            "event": "status", "ref": "r", "id": own, "role": "server", "name": "me", "listen": ["10.0.0.1:4"],
            "suspended": false,
            "master": {
                "id": null, "kind": null, "token": null, "reason": {"code": "no_quorum", "need": 2, "have": 1}
            },
            "members": [{"id": server, "voter": true}],
            "on_demand": true,
            "servers": [{"id": server, "name": "s", "addresses": ["10.0.0.1:5"], "linked": true, "rtt_ms": 2}],
            "peers": [peer_row],
            "clients": [row],
            "links": [{"from": peer, "to": server, "kind": "direct"}],
            "counters": {"datagrams_in": 8},
        });
        let shown = status(own);
        assert_eq!(serde_json::to_value(StatusLine::new(Some("r"), &shown)).unwrap(), expected);

        let own = id(Role::Peer, 1);
        let mut shown = status(own);
        shown.master = None;
        let fields = expected.as_object_mut().unwrap();
        fields.retain(|key, _| !["clients", "links"].contains(&key.as_str()));
        fields.insert("id".into(), json!(own));
        fields.insert("role".into(), json!("peer"));
        fields.insert("ref".into(), json!(null));
        fields.insert("master".into(), json!(null));
        assert_eq!(serde_json::to_value(StatusLine::new(None, &shown)).unwrap(), expected);
    }
}
