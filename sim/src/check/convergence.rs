//! Convergence: in a healed world everybody is linked, every table equals the truth, and all servers are members of one
//! cluster with one Master.

use std::collections::{BTreeMap, BTreeSet};

use p2pcore::{
    Id,
    master::Kind,
    node::{LinkInfo, PathKind, Status},
};

use super::Breach;

/// What differs from the truth, given the tables of all running nodes; empty once the world has converged.
pub fn differences(nodes: &BTreeMap<Id, Status>) -> Vec<Breach> {
    let servers: BTreeSet<Id> = nodes.keys().copied().filter(Id::is_server).collect();
    let peers: BTreeSet<Id> = nodes.keys().copied().filter(|id| !id.is_server()).collect();
    let mut differences = Vec::new();
    for (me, status) in nodes {
        let mut compare = |what: &str, truth: &BTreeSet<Id>, seen: BTreeSet<Id>| {
            let odd: Vec<Id> = truth.symmetric_difference(&seen).copied().filter(|id| id != me).collect();
            if let Some(first) = odd.first() {
                let word = if seen.contains(first) { "should not be" } else { "should be" };
                let more = format!("{} {word} among the {what} of {}", first, status.name);
                differences.push(Breach::new("convergence", [&[*me], &odd[..]].concat(), more));
            }
        };
        compare("linked servers", &servers, status.servers.iter().filter(|s| s.linked).map(|s| s.id).collect());
        compare("known servers", &servers, status.servers.iter().map(|server| server.id).collect());
        if servers.contains(me) {
            compare("clients", &peers, status.clients.iter().map(|client| client.id).collect());
            for peer in &peers {
                let told = status.links.iter().filter(|link| link.from == *peer);
                let (to_servers, to_peers): (Vec<&LinkInfo>, Vec<&LinkInfo>) =
                    told.partition(|link| link.to.is_server());
                let to_servers: BTreeSet<Id> = to_servers.into_iter().map(|link| link.to).collect();
                let to_peers: BTreeMap<Id, PathKind> = to_peers.into_iter().map(|link| (link.to, link.kind)).collect();
                if to_servers != servers || to_peers != links_to_peers(&nodes[peer]) {
                    let what =
                        format!("the links of {} in table B of {} are not its links", nodes[peer].name, status.name);
                    differences.push(Breach::new("convergence", [*me, *peer], what));
                }
            }
        } else {
            let linked: BTreeSet<Id> = status.peers.iter().filter(|p| p.linked).map(|p| p.info.id).collect();
            let known: BTreeSet<Id> = status.peers.iter().map(|peer| peer.info.id).collect();
            // on demand a peer knows and links whom it likes, but nobody who is not there
            let of_those = |seen: &BTreeSet<Id>| match status.on_demand {
                true => peers.intersection(seen).copied().collect(),
                false => peers.clone(),
            };
            compare("linked peers", &of_those(&linked), linked);
            compare("known peers", &of_those(&known), known);
            if status.suspended {
                differences.push(Breach::new("convergence", [*me], format!("{} is suspended", status.name)));
            }
        }
    }
    differences.extend(mastery(nodes, &servers));
    differences
}

/// How many of so many members vote.
fn voters(members: usize) -> usize {
    const MAX: usize = 7;
    if members < 3 { 1 } else { members.min(MAX) }
}

/// All show the same Elected Master, which is there, and the same members: those servers that are there, with the voters
/// that the rule asks for, of two the older one.
fn mastery(nodes: &BTreeMap<Id, Status>, servers: &BTreeSet<Id>) -> Vec<Breach> {
    let mut differences = Vec::new();
    let Some(first) = nodes.values().next().filter(|_| !servers.is_empty()) else { return differences };
    for (me, status) in nodes {
        let mut differ = |other: Id, what: String| {
            differences.push(Breach::new("convergence", [*me, other], format!("{} {what}", status.name)));
        };
        if (status.master, &status.members) != (first.master, &first.members) {
            differ(first.id, format!("shows another Master or other members than {}", first.name));
        }
        match status.master.and_then(|view| view.token()) {
            Some(token) if token.kind == Kind::Elected && servers.contains(&token.id) => {}
            _ => differ(*me, format!("shows no Elected Master that is there, but {:?}", status.master)),
        }
        let members: BTreeSet<Id> = status.members.iter().map(|member| member.id).collect();
        if let Some(odd) = members.symmetric_difference(servers).next() {
            let word = if members.contains(odd) { "should not be" } else { "should be" };
            differ(*odd, format!("does not know the members: {odd} {word} one"));
        }
        let voters_are: Vec<bool> = status.members.iter().map(|member| member.is_voter).collect();
        let count = voters_are.iter().filter(|is_voter| **is_voter).count();
        if count != voters(members.len()) || (members.len() == 2 && voters_are.first() != Some(&true)) {
            differ(*me, format!("knows {count} voters among {} members", members.len()));
        }
    }
    differences
}

fn links_to_peers(peer: &Status) -> BTreeMap<Id, PathKind> {
    peer.peers.iter().filter(|peer| peer.linked).filter_map(|peer| Some((peer.info.id, peer.kind?))).collect()
}

#[cfg(test)]
mod tests {
    use p2pcore::{
        Name, PublicKey, Role,
        master::{MasterView, MemberInfo, Token},
        node::{NodeInfo, PeerStatus, ServerStatus},
    };

    use super::*;
    use crate::check::testing::id;

    fn info(id: Id) -> NodeInfo {
        NodeInfo { id, name: Name::default(), public: vec![], private: vec![], listen: vec![] }
    }

    fn status(id: Id, server: Id, peers: &[Id]) -> Status {
        let linked =
            |id: &Id| PeerStatus { info: info(*id), linked: true, kind: Some(PathKind::Direct), via: None, rtt: None };
        let up = ServerStatus { id: server, name: Name::default(), addresses: vec![], linked: true, rtt: None };
        Status {
            id,
            name: Name::default(),
            listen: vec![],
            suspended: false,
            master: Some(MasterView::Master(Token { generation: 1, kind: Kind::Elected, term: 1, id: server })),
            members: vec![MemberInfo { id: server, is_voter: true }],
            on_demand: false,
            watches: Vec::new(),
            servers: if id == server { vec![] } else { vec![up] },
            peers: peers.iter().filter(|peer| **peer != id && id != server).map(linked).collect(),
            clients: vec![],
            links: vec![],
            counters: BTreeMap::new(),
        }
    }

    fn token(status: &Status) -> Token {
        status.master.unwrap().token().unwrap()
    }

    fn world() -> (BTreeMap<Id, Status>, Id) {
        let server = Id::from_key(Role::Server, &PublicKey([9; 32]));
        let peers = [id(1), id(2)];
        let mut nodes: BTreeMap<Id, Status> =
            [id(1), id(2), server].map(|node| (node, status(node, server, &peers))).into();
        let hub = nodes.get_mut(&server).unwrap();
        hub.clients = peers.map(info).into();
        let links = [(id(1), id(2)), (id(2), id(1)), (id(1), server), (id(2), server)];
        hub.links = links.map(|(from, to)| LinkInfo { from, to, kind: PathKind::Direct }).into();
        (nodes, server)
    }

    #[test]
    fn truth_has_no_differences() {
        assert_eq!(differences(&world().0), []);
    }

    #[test]
    fn each_table_is_compared() {
        let (good, server) = world();
        let peer = id(1);
        let broken: [fn(&mut Status); 12] = [
            |status| status.servers.clear(),
            |status| status.servers.iter_mut().for_each(|server| server.linked = false),
            |status| status.peers.clear(),
            |status| status.peers.iter_mut().for_each(|peer| peer.linked = false),
            |status| status.suspended = true,
            |status| status.master = None,
            |status| status.master = Some(MasterView::Master(Token { kind: Kind::Provisional, ..token(status) })),
            |status| status.members.clear(),
            |status| status.members[0].is_voter = false,
            |status| status.clients.truncate(1),
            |status| status.links.truncate(1),
            |status| status.links[0].kind = PathKind::Relayed,
        ];
        for (n, hurt) in broken.into_iter().enumerate() {
            let mut nodes = good.clone();
            hurt(nodes.get_mut(if n < 9 { &peer } else { &server }).unwrap());
            let found = differences(&nodes);
            assert!(!found.is_empty() && found[0].checker == "convergence", "{n}");
        }
        let mut ghost = good.clone();
        ghost.remove(&id(2));
        assert!(!differences(&ghost).is_empty(), "an Id that is gone is still in the tables");
        let mut agreed = good;
        agreed.values_mut().for_each(|status| status.master = Some(MasterView::NoMaster(None)));
        assert!(!differences(&agreed).is_empty(), "all agree that there is no Master");
    }
}
