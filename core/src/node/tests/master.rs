//! One Master, as nodes show it and as applications use it.

use super::*;
use crate::{
    CommandError,
    master::{Kind, MasterView, Token},
};

pub(super) fn token(net: &mut Net, index: usize) -> Option<Token> {
    net.node(index).master().and_then(|view| view.token())
}

/// All live nodes show the same Elected Master; which one.
pub(super) fn master(net: &mut Net) -> usize {
    let live: Vec<usize> = (0..net.nodes.len()).filter(|index| net.nodes[*index].node.is_some()).collect();
    let tokens: Vec<_> = live.iter().map(|index| token(net, *index)).collect();
    let first = tokens[0].unwrap_or_else(|| panic!("{tokens:?}"));
    assert!(tokens.iter().all(|token| *token == Some(first)), "{tokens:?}");
    assert_eq!(first.kind, Kind::Elected);
    live.into_iter().find(|index| net.id(*index) == first.id).unwrap()
}

pub(super) fn send_to_master(net: &mut Net, from: usize, text: &'static str) -> Result<(SendId, Id), CommandError> {
    let now = net.now;
    net.node(from).send_to_master(now, Bytes::from_static(text.as_bytes()), SendOptions::default())
}

#[test]
fn a_founder_is_master_at_once_and_a_peer_hears_of_it() {
    let mut net = Net::cluster(1, 1);
    net.run(secs(2));
    assert_eq!(master(&mut net), 0);
    let shown = token(&mut net, 0).unwrap();
    assert!(net.take_events(1).contains(&Event::Master(MasterView::Master(shown))));
    let guard = net.node(0).guard().unwrap();
    assert!(guard.token == shown && guard.is_valid(net.now) && !guard.is_valid(guard.until));
    assert_eq!(net.node(1).guard(), None);
    assert_eq!(net.node(1).status().master, Some(MasterView::Master(shown)));
}

#[test]
fn three_servers_are_three_voters_and_all_nodes_know_the_members() {
    let mut net = Net::cluster(3, 1);
    net.run(secs(5));
    assert_eq!(master(&mut net), 0, "the oldest leads on");
    for index in 0..4 {
        let members = net.node(index).members().to_vec();
        assert_eq!(members.len(), 3, "node {index}");
        assert!(members.iter().all(|member| member.is_voter), "node {index}: {members:?}");
        assert_eq!(members[0].id, net.id(0), "the oldest comes first");
    }
}

#[test]
fn a_server_that_no_cluster_admitted_serves_no_peer() {
    let mut net = Net::cluster(3, 0);
    net.run(secs(5));
    // two of three voters are gone: nobody can admit a fourth one
    net.kill(1);
    net.kill(2);
    let newcomer = net.add(Role::Server, |start| start.introducers = vec![address(0)]);
    let peer = net.add(Role::Peer, |start| start.introducers = vec![address(newcomer), address(0)]);
    net.run(secs(10));
    assert_eq!(net.node(newcomer).status().clients.len(), 0);
    let servers: Vec<Id> = net.node(peer).status().servers.iter().filter(|s| s.linked).map(|s| s.id).collect();
    assert_eq!(servers, [net.id(0)], "nor is it shown to peers as a server");
    net.restart(1, true);
    net.run(secs(10));
    assert_eq!(net.node(newcomer).status().clients.len(), 1);
}

#[test]
fn servers_that_expect_each_other_found_one_cluster() {
    let mut net = Net::new();
    for _ in 0..3 {
        net.add(Role::Server, |start| {
            start.expect = Some(3);
            start.introducers = vec![address(0), address(1), address(2)];
        });
    }
    net.add(Role::Peer, |start| start.introducers = vec![address(1)]);
    net.run(secs(10));
    master(&mut net);
    assert_eq!(net.node(3).members().len(), 3);
    for index in 0..3 {
        net.kill(index);
    }
    net.run(secs(1));
    for index in 0..3 {
        net.restart(index, true);
    }
    // the peer does not notice before its idle links are lost
    net.run(secs(40));
    master(&mut net);
    assert_eq!(net.node(3).members().len(), 3, "the flag means nothing to who has a cluster");
}

#[test]
fn a_dead_master_is_replaced_and_two_dead_of_three_leave_none() {
    let mut net = Net::cluster(3, 1);
    net.run(secs(5));
    let (old, first) = (master(&mut net), token(&mut net, 3).unwrap());
    net.kill(old);
    net.run(secs(1));
    let (new, second) = (master(&mut net), token(&mut net, 3).unwrap());
    assert!(new != old && second > first);
    net.kill(new);
    // links with something in flight are lost in five seconds
    net.run(secs(8));
    let left = (0..3).find(|index| net.nodes[*index].node.is_some()).unwrap();
    for index in [left, 3] {
        let reason = net.node(index).master().unwrap().reason().unwrap();
        assert_eq!((reason.need, reason.have), (2, 1), "node {index}");
    }
    assert!(matches!(send_to_master(&mut net, 3, "x"), Err(CommandError::Failed(Reason::NoMaster))));
    net.restart(new, true);
    net.run(secs(8));
    master(&mut net);
}

#[test]
fn a_message_to_the_master_arrives_from_peers_servers_and_itself() {
    let mut net = Net::cluster(3, 1);
    net.run(secs(5));
    let (master, id) = (master(&mut net), net.id(0));
    assert_eq!(master, 0);
    for index in 0..4 {
        net.take_events(index);
        assert_eq!(send_to_master(&mut net, index, "to you").unwrap().1, id);
        net.run(Duration::from_millis(100));
        let to_self = if index == 0 { vec![Outcome::Delivered] } else { vec![] };
        let events = net.take_events(0);
        let got = events.iter().filter(|e| matches!(e, Event::Messages { data, .. } if data == &["to you"])).count();
        assert_eq!(got, 1, "from {index}");
        let own = events.iter().filter(|event| matches!(event, Event::Outcome { .. })).count();
        assert_eq!(own, to_self.len());
        if index != 0 {
            assert_eq!(net.outcomes(index), [Outcome::Delivered], "from {index}");
        }
    }
}

#[test]
fn a_message_that_the_master_takes_after_its_time_has_failed_although_it_arrived() {
    let mut net = Net::cluster(3, 1);
    net.run(secs(5));
    net.nodes[0].takes = false;
    send_to_master(&mut net, 3, "late").unwrap();
    net.run(Duration::from_millis(100));
    let receipt = net.take_events(0).into_iter().find_map(|event| match event {
        Event::Messages { receipt, .. } => Some(receipt),
        _ => None,
    });
    let now = net.now;
    net.node(0).resign(now).unwrap();
    assert_eq!(net.node(0).guard(), None, "before anything else happens");
    net.node(0).handed(now, receipt.unwrap());
    net.run(secs(2));
    assert_eq!(net.outcomes(3), [Outcome::Failed(Reason::MasterChanged)]);
    assert_ne!(master(&mut net), 0);
}

#[test]
fn what_is_on_its_way_to_a_dead_master_fails_when_the_next_one_is_seen() {
    let mut net = Net::cluster(3, 1);
    net.run(secs(5));
    net.kill(0);
    send_to_master(&mut net, 3, "too late").unwrap();
    let now = net.now;
    let (request, _) = net.node(3).request_to_master(now, Bytes::from_static(b"?"), Some(secs(30))).unwrap();
    net.run(secs(2));
    let events = net.take_events(3);
    let failed = Outcome::Failed(Reason::MasterChanged);
    assert!(events.iter().any(|e| matches!(e, Event::Outcome { outcome, .. } if *outcome == failed)), "{events:?}");
    let reply = Event::Reply { request, from: net.id(0), result: Err(Reason::MasterChanged) };
    assert!(events.contains(&reply), "{events:?}");
}

#[test]
fn a_request_to_the_master_is_answered_unless_the_office_ended() {
    let mut net = Net::cluster(3, 1);
    net.run(secs(5));
    for (from, resigns) in [(3, false), (1, false), (0, false), (3, true)] {
        let now = net.now;
        let (request, to) = net.node(from).request_to_master(now, Bytes::from_static(b"?"), None).unwrap();
        net.run(Duration::from_millis(100));
        let token = net.take_events(0).into_iter().find_map(|event| match event {
            Event::Request { token, .. } => Some(token),
            _ => None,
        });
        let now = net.now;
        if resigns {
            net.node(0).resign(now).unwrap();
        }
        net.node(0).reply(now, token.unwrap(), Ok(Bytes::from_static(b"!"))).unwrap();
        net.run(Duration::from_millis(100));
        let result = if resigns { Err(Reason::MasterChanged) } else { Ok(Bytes::from_static(b"!")) };
        let reply = Event::Reply { request, from: to, result };
        assert!(net.take_events(from).contains(&reply), "from {from}");
    }
}

#[test]
fn a_server_leaves_and_one_is_removed() {
    let mut net = Net::cluster(4, 1);
    net.run(secs(6));
    let now = net.now;
    net.node(0).change_members(now, MemberCommand::Leave).unwrap();
    net.run(secs(3));
    let events = net.take_events(0);
    let at = |wanted: &Event| events.iter().position(|event| event == wanted);
    assert!(at(&Event::Left).is_some() && at(&Event::Left) < at(&Event::Stopped), "{events:?}");
    net.kill(0);
    let removed = net.id(1);
    let now = net.now;
    net.node(2).change_members(now, MemberCommand::Remove(removed)).unwrap();
    net.run(secs(3));
    assert!(net.take_events(1).contains(&Event::Stopped));
    net.kill(1);
    net.run(secs(2));
    master(&mut net);
    let members: Vec<Id> = net.node(4).members().iter().map(|member| member.id).collect();
    assert_eq!(members.len(), 2, "{members:?}");
    // who left comes back as a new member, the youngest
    net.restart(0, true);
    net.run(secs(5));
    let members: Vec<Id> = net.node(4).members().iter().map(|member| member.id).collect();
    assert_eq!(members.last(), Some(&net.id(0)));
    assert_eq!(members.len(), 3);
}

#[test]
fn the_office_is_handed_over_at_a_command() {
    let mut net = Net::cluster(3, 0);
    net.run(secs(5));
    let (now, to) = (net.now, net.id(2));
    net.node(1).change_members(now, MemberCommand::Transfer(to)).unwrap();
    net.run(secs(1));
    assert_eq!(master(&mut net), 2);
    let nobody = Identity::new(Role::Server, SecretKey::from_bytes([99; 32])).id();
    let now = net.now;
    let refused = net.node(1).change_members(now, MemberCommand::Transfer(nobody));
    assert_eq!(refused, Err(CommandError::Members(crate::master::CommandError::NotAMember(nobody))));
}

#[test]
fn a_cluster_that_lost_its_voters_is_forced_and_those_that_return_join_it_anew() {
    let mut net = Net::cluster(3, 1);
    net.run(secs(5));
    net.kill(0);
    net.kill(1);
    net.run(secs(2));
    let before = net.node(2).members().to_vec();
    let now = net.now;
    net.node(2).change_members(now, MemberCommand::ForceNewCluster).unwrap();
    net.run(secs(2));
    assert_eq!(master(&mut net), 2);
    assert_eq!(token(&mut net, 3).unwrap().generation, 2);
    assert_eq!((before.len(), net.node(3).members().len()), (3, 1));
    net.restart(0, true);
    net.restart(1, true);
    net.run(secs(10));
    assert_eq!(master(&mut net), 2);
    assert_eq!(net.node(0).members().len(), 3);
}

#[test]
fn a_server_without_its_disk_comes_back_as_the_youngest() {
    let mut net = Net::cluster(3, 0);
    net.run(secs(5));
    net.kill(0);
    net.run(secs(2));
    net.nodes[0].start.found = false;
    net.nodes[0].start.introducers = vec![address(1)];
    net.restart(0, false);
    net.run(secs(8));
    let members = net.node(1).members().to_vec();
    assert_eq!(members.last().map(|member| member.id), Some(net.id(0)), "{members:?}");
    assert_eq!(members.len(), 3);
    master(&mut net);
}

#[test]
fn peers_have_no_say() {
    let mut net = Net::cluster(1, 1);
    net.run(secs(2));
    let now = net.now;
    assert_eq!(net.node(1).change_members(now, MemberCommand::Leave), Err(CommandError::NotAServer));
    assert_eq!(net.node(1).resign(now), Err(CommandError::NotAServer));
}

#[test]
fn a_master_that_stops_hands_over_first() {
    let mut net = Net::cluster(3, 1);
    net.run(secs(5));
    let now = net.now;
    net.node(0).stop(now);
    assert_eq!(net.node(0).guard(), None);
    // sooner than any election timeout
    net.run(Duration::from_millis(150));
    assert!(token(&mut net, 3).is_some_and(|token| token.id != net.id(0)));
    net.run(secs(1));
    assert!(net.take_events(0).contains(&Event::Stopped));
}

#[test]
fn a_server_that_is_not_admitted_says_so() {
    let mut net = Net::cluster(3, 0);
    net.run(secs(5));
    net.kill(1);
    net.kill(2);
    let newcomer = net.add(Role::Server, |start| start.introducers = vec![address(0)]);
    net.run(secs(10));
    assert!(net.take_events(newcomer).contains(&Event::Warning(Warning::NotAdmitted)));
}
