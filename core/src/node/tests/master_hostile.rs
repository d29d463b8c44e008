//! The Master where disks, links and other servers are at their worst.

use super::{
    master::{master, send_to_master, token},
    *,
};
use crate::{
    CommandError,
    master::{Kind, MasterView, MemberInfo, Token},
    node::messages::Correspondent,
    table::Bounded,
    wire::{Control, Members},
};

fn member_ids(net: &mut Net, index: usize) -> Vec<Id> {
    net.node(index).members().iter().map(|member| member.id).collect()
}

/// The states that `index` ordered to disk, none of which is there yet.
fn orders(net: &mut Net, index: usize) -> Vec<Persist> {
    let outputs = std::iter::from_fn(|| net.node(index).poll());
    outputs.filter_map(|output| if let Output::Persist(persist) = output { Some(persist) } else { None }).collect()
}

#[test]
fn a_founder_that_dies_after_its_first_write_returns_to_its_cluster() {
    let mut net = Net::new();
    net.add(Role::Server, |start| start.found = true);
    let now = net.now;
    net.node(0).handle(now, Input::Timeout);
    let first = orders(&mut net, 0).remove(0);
    net.nodes[0].saved = Some(first.state);
    net.nodes[0].start.found = false;
    net.restart(0, true);
    net.run(secs(1));
    assert_eq!(master(&mut net), 0);
}

#[test]
fn no_state_names_a_part_in_a_council_without_the_cluster() {
    let mut net = Net::cluster(1, 0);
    net.run(secs(1));
    let newcomer = net.add(Role::Server, |start| start.introducers = vec![address(0)]);
    let owner = net.id(newcomer);
    let mut admitted = 0;
    while net.node(newcomer).cluster.is_none() {
        net.run(Duration::from_millis(1));
        if let Some(bytes) = net.nodes[newcomer].saved.clone() {
            let saved = persist::Saved::read(Some(&bytes), owner).unwrap();
            let council = saved.council.and_then(|council| council.allegiance).map(|allegiance| allegiance.cluster);
            assert_eq!(saved.cluster, council);
            admitted += usize::from(council.is_some());
        }
    }
    assert!(admitted > 0);
}

#[test]
fn a_server_is_shown_to_peers_as_soon_as_its_admission_is_on_its_disk() {
    let mut net = Net::cluster(3, 0);
    net.run(secs(5));
    let newcomer = net.add(Role::Server, |start| start.introducers = vec![address(0)]);
    let id = net.id(newcomer);
    net.nodes[newcomer].persists = false;
    net.run(secs(2));
    let shown = |net: &mut Net, index: usize| match &net.node(index).role {
        roles::RoleState::Server(tables) => tables.serving().any(|(server, _)| server == id),
        roles::RoleState::Peer(_) => false,
    };
    assert_eq!([0, 1, 2].map(|index| shown(&mut net, index)), [false; 3], "it serves nobody yet");
    net.nodes[newcomer].persists = true;
    let order = net.node(newcomer).save();
    let now = net.now;
    net.node(newcomer).handle(now, Input::Persisted(order));
    // one way of 5 ms, and less than a Master lets pass between two sayings
    net.run(Duration::from_millis(10));
    assert_eq!([0, 1, 2].map(|index| shown(&mut net, index)), [true; 3]);
}

#[test]
fn members_told_by_a_server_that_lies_last_as_long_as_its_link() {
    let mut net = Net::cluster(2, 1);
    net.run(secs(3));
    let (now, peer, real) = (net.now, net.id(2), member_ids(&mut net, 2));
    assert_eq!(real.len(), 2);
    let liar = net.id(1);
    let list = Bounded::first([MemberInfo { id: liar, is_voter: true }]);
    let lie = Control::Members(Members { generation: u64::MAX, version: u64::MAX, list });
    net.node(1).tell(now, peer, &lie);
    net.run(Duration::from_millis(100));
    assert_eq!(member_ids(&mut net, 2), [liar]);
    net.kill(1);
    net.run(secs(40));
    assert_eq!(member_ids(&mut net, 2), real);
}

#[test]
fn a_server_whose_state_is_void_does_not_tell_peers_that_there_are_no_members() {
    let mut net = Net::cluster(3, 1);
    net.run(secs(5));
    for other in [0, 1, 3] {
        net.cut.insert((address(2), address(other)));
    }
    net.run(secs(40));
    let now = net.now;
    net.node(2).change_members(now, MemberCommand::ForceNewCluster).unwrap();
    net.run(secs(2));
    net.take_events(3);
    net.cut.retain(|cut| *cut == (address(2), address(3)));
    net.run(secs(40));
    let told: Vec<usize> = net
        .take_events(3)
        .iter()
        .filter_map(|event| if let Event::Members(list) = event { Some(list.len()) } else { None })
        .collect();
    assert_eq!(told.last(), Some(&3));
    assert!(!told.contains(&0), "{told:?}");
}

#[test]
fn a_server_that_was_removed_while_it_was_down_learns_it_without_a_link_to_the_master() {
    let mut net = Net::cluster(4, 0);
    net.run(secs(6));
    assert_eq!(master(&mut net), 0);
    net.kill(3);
    let (now, removed) = (net.now, net.id(3));
    net.node(0).change_members(now, MemberCommand::Remove(removed)).unwrap();
    net.run(secs(3));
    assert_eq!(member_ids(&mut net, 1).len(), 3);
    net.cut.insert((address(0), address(3)));
    net.restart(3, true);
    net.run(secs(5));
    let events = net.take_events(3);
    assert!(events.contains(&Event::Left) && events.contains(&Event::Stopped), "{events:?}");
}

#[test]
fn a_message_to_a_master_that_has_much_to_say_to_its_sender_is_confirmed_all_the_same() {
    let max_queued_messages = 4;
    let mut net = Net::cluster_with(Config { max_queued_messages, ..Config::default() }, 1, 1);
    net.run(secs(2));
    net.nodes[1].takes = false;
    for _ in 0..max_queued_messages {
        net.send(0, 1, "not taken");
    }
    let (now, to) = (net.now, net.id(1));
    let more = net.node(0).send(now, &[to], Bytes::from_static(b"too much"), SendOptions::default());
    assert!(matches!(more, Err(CommandError::Blocked { .. })), "{more:?}");
    send_to_master(&mut net, 1, "and yet").unwrap();
    net.run(secs(1));
    assert_eq!(net.outcomes(1), [Outcome::Delivered]);
}

#[test]
fn what_others_ask_of_a_node_that_is_no_master_cannot_fill_its_memory() {
    let max_queued_messages = 4;
    let mut net = Net::cluster_with(Config { max_queued_messages, ..Config::default() }, 1, 2);
    net.run(secs(2));
    let (now, victim) = (net.now, net.id(1));
    let fence = [0; crate::message::FENCE_LEN];
    for rid in 0..1_000 {
        // as if they had arrived
        let kind = crate::message::Kind::MasterRequest { rid, fence };
        let event = crate::message::ConversationEvent::Arrived { lane: 0, seq: rid, kind, data: Bytes::new() };
        let from = Correspondent { id: net.id(2), name: Name::default(), conversation: 0 };
        net.node(1).on_conversation_event(now, &from, event);
    }
    assert_eq!(net.node(1).counters.get("replies refused: full"), Some(&(1_000 - 2 * 4)));
    net.run(secs(1));
    assert!(net.node(2).is_linked(&victim));
}

#[test]
fn members_are_not_changed_by_a_server_that_stops() {
    let mut net = Net::cluster(2, 0);
    net.run(secs(3));
    let now = net.now;
    net.node(1).stop(now);
    let refused = net.node(1).change_members(now, MemberCommand::ForceNewCluster);
    assert_eq!(refused, Err(CommandError::Stopped));
}

#[test]
fn times_that_never_pass_are_refused() {
    let bad = [
        crate::master::Settings { ask_every: Duration::ZERO, ..Default::default() },
        crate::master::Settings { provisional_after: Some(Duration::ZERO), ..Default::default() },
    ];
    let start = Net::cluster(1, 0).nodes[0].start.clone();
    for master in bad {
        let config = Config { master, ..Config::default() };
        let refused = Node::new(config, start.clone()).err();
        assert_eq!(refused, Some(StartError::Master(crate::master::StartError::Pace)));
    }
}

#[test]
fn a_server_that_repeats_itself_makes_a_peer_ask_nobody() {
    let mut net = Net::cluster(2, 1);
    net.run(secs(3));
    let (now, peer) = (net.now, net.id(2));
    let asked = |net: &mut Net| {
        let ids = [net.id(0), net.id(1)];
        ids.iter().filter(|id| net.node(2).remotes[*id].challenger.is_some()).count()
    };
    let shown = token(&mut net, 2).unwrap();
    let older = MasterView::Master(Token { term: shown.term - 1, ..shown });
    for (view, times) in [(older, 1), (older, 0), (MasterView::NoMaster(None), 1), (MasterView::NoMaster(None), 0)] {
        net.node(1).tell(now, peer, &Control::Master(view));
        net.run(Duration::from_millis(10));
        assert_eq!(asked(&mut net), times, "{view:?}");
        net.run(secs(2));
    }
    assert_eq!(shown.kind, Kind::Elected);
    assert_eq!(token(&mut net, 2), Some(shown), "whoever knows of a Master is believed");
}

#[test]
fn a_server_far_away_has_three_round_trips_to_answer_when_others_contradict_it() {
    let mut net = Net::cluster(2, 1);
    net.delay = Duration::from_millis(700);
    net.run(secs(30));
    let (now, peer) = (net.now, net.id(2));
    let servers = [net.id(0), net.id(1)];
    let links = |net: &mut Net| servers.map(|id| net.node(2).remotes[&id].current);
    let before = links(&mut net);
    assert!(before.iter().all(Option::is_some), "{before:?}");
    net.node(1).tell(now, peer, &Control::Master(MasterView::NoMaster(None)));
    net.run(Duration::from_millis(710));
    assert!(servers.iter().any(|id| net.node(2).remotes[id].challenger.is_some()));
    net.run(secs(10));
    assert_eq!(links(&mut net), before);
}
