//! The live table of the demonstration.

use std::{
    io::{self, Stdout},
    time::Duration,
};

use p2pcore::{
    master::MemberInfo,
    node::{PathKind, Status},
};
use ratatui::{
    Terminal, TerminalOptions, Viewport,
    backend::CrosstermBackend,
    layout::Constraint,
    style::Stylize,
    widgets::{Block, Row, Table},
};

/// The lines of the table with its frame and its head.
const HEIGHT: u16 = 10;
const HEAD: [&str; 7] = ["id", "name", "role", "links", "paths", "round trip", "delivered"];

/// What is shown of one node.
pub(super) struct NodeView {
    pub(super) name: String,
    /// Not there while the node is down.
    pub(super) status: Option<Status>,
    /// Messages of this node that were reported as delivered.
    pub(super) delivered: Option<usize>,
}

impl NodeView {
    fn cells(&self) -> [String; 7] {
        let name = self.name.clone();
        let Some(status) = &self.status else {
            return ["-", &name, "down", "-", "-", "-", "-"].map(String::from);
        };
        let is_voter = |member: &&MemberInfo| member.id == status.id && member.is_voter;
        let role = match status.master.and_then(|view| view.master()) {
            _ if !status.id.is_server() => "peer",
            Some(master) if master == status.id => "Master",
            _ if status.members.iter().any(|member| is_voter(&member)) => "voter",
            _ => "server",
        };
        let servers = status.servers.iter().filter(|server| server.linked).count();
        let peers = status.peers.iter().filter(|peer| peer.linked).count();
        let links = format!("{servers} servers, {} peers", peers.max(status.clients.len()));
        let count = |kind| status.peers.iter().filter(|peer| peer.linked && peer.kind == Some(kind)).count();
        let kinds = [PathKind::Direct, PathKind::Punched, PathKind::Relayed];
        let paths = kinds.iter().filter(|kind| count(**kind) > 0);
        let paths = paths.map(|kind| format!("{} {}", count(*kind), kind.as_str())).collect::<Vec<_>>().join(", ");
        let rtts = status.peers.iter().filter_map(|peer| peer.rtt);
        let rtt = rtts.chain(status.servers.iter().filter_map(|server| server.rtt)).max();
        let rtt = rtt.map_or("-".into(), |rtt: Duration| format!("{:.2} ms", rtt.as_secs_f64() * 1e3));
        let delivered = self.delivered.map_or("-".into(), |delivered| delivered.to_string());
        [
            status.id.to_string(),
            name,
            role.into(),
            links,
            if paths.is_empty() { "-".into() } else { paths },
            rtt,
            delivered,
        ]
    }
}

/// A few lines of the terminal, drawn anew in place; what was on the screen stays.
pub(super) struct View(Terminal<CrosstermBackend<Stdout>>);

impl View {
    pub(super) fn new() -> io::Result<Self> {
        let options = TerminalOptions { viewport: Viewport::Inline(HEIGHT) };
        Terminal::with_options(CrosstermBackend::new(io::stdout()), options).map(Self)
    }

    pub(super) fn draw(&mut self, title: &str, nodes: &[NodeView]) {
        let table = Table::new(
            nodes.iter().map(|node| Row::new(node.cells())),
            [
                Constraint::Length(37),
                Constraint::Length(8),
                Constraint::Length(6),
                Constraint::Length(20),
                Constraint::Length(22),
                Constraint::Length(10),
                Constraint::Length(9),
            ],
        )
        .header(Row::new(HEAD).bold())
        .block(Block::bordered().title(title));
        // a terminal that cannot be drawn on spoils the view, not the demonstration
        let _ = self.0.draw(|frame| frame.render_widget(table, frame.area()));
    }
}

impl Drop for View {
    fn drop(&mut self) {
        let _ = self.0.show_cursor();
        println!();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use p2pcore::{
        Identity, Name, Role, SecretKey,
        master::{Kind, MasterView, Token},
        node::{NodeInfo, PeerStatus},
    };

    use super::*;

    #[test]
    fn a_row_shows_links_paths_round_trip_and_deliveries() {
        let id = |seed| Identity::new(Role::Peer, SecretKey::from_bytes([seed; 32])).id();
        let info = |seed| NodeInfo {
            id: id(seed),
            name: Name::default(),
            public: Vec::new(),
            private: Vec::new(),
            listen: Vec::new(),
        };
        let peer = |seed, kind| PeerStatus {
            info: info(seed),
            linked: true,
            kind: Some(kind),
            via: None,
            rtt: Some(Duration::from_micros(1_234)),
        };
        let status = Status {
            id: id(1),
            name: Name::default(),
            listen: Vec::new(),
            suspended: false,
            master: None,
            members: Vec::new(),
            on_demand: false,
            watches: Vec::new(),
            servers: Vec::new(),
            peers: vec![peer(2, PathKind::Direct), peer(3, PathKind::Relayed)],
            clients: Vec::new(),
            links: Vec::new(),
            counters: BTreeMap::new(),
        };
        let server = Identity::new(Role::Server, SecretKey::from_bytes([9; 32])).id();
        let token = Token { generation: 1, kind: Kind::Elected, term: 1, id: server };
        let shown = |master, is_voter| {
            let members = vec![MemberInfo { id: server, is_voter }];
            let status = Status { id: server, master, members, ..status.clone() };
            NodeView { name: "server-1".into(), status: Some(status), delivered: None }.cells()[2].clone()
        };
        assert_eq!(shown(None, false), "server");
        assert_eq!(shown(Some(MasterView::NoMaster(None)), true), "voter");
        assert_eq!(shown(Some(MasterView::Master(token)), true), "Master");
        let view = NodeView { name: "peer-1".into(), status: Some(status), delivered: Some(7) };
        let cells = view.cells();
        assert_eq!(cells[1..], ["peer-1", "peer", "0 servers, 2 peers", "1 direct, 1 relayed", "1.23 ms", "7"]);
        let down = NodeView { name: "server-1".into(), status: None, delivered: None };
        assert_eq!(down.cells()[2], "down");
    }
}
