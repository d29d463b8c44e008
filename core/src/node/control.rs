//! The control messages of admitted links.

use std::time::Instant;

use super::{Node, roles::RoleState};
use crate::{
    Id,
    link::LinkToken,
    server::{Lost, TooMany},
    table::{Bounded, Refused, ServerRow},
    wire::{CloseCode, Control},
};

impl Node {
    pub(super) fn on_admitted_control(&mut self, now: Instant, token: LinkToken, id: Id, message: Control) {
        match message {
            Control::Session(message) => {
                let result = self.conversation(now, id).handle_control(now, message);
                self.unwritten.insert(id);
                // the session may be settled now, and lanes that waited for that can be read
                self.read_on(now, id);
                if let Err(violation) = result {
                    self.broken(now, token, violation);
                }
            }
            Control::Idle if !id.is_server() => self.on_idle(now, token, id),
            Control::Busy if !id.is_server() => self.on_busy(now, token, id),
            message if id.is_server() => self.on_server_control(now, token, id, message),
            message => self.on_client_control(now, token, id, message),
        }
    }

    /// What only servers say.
    fn on_server_control(&mut self, now: Instant, token: LinkToken, id: Id, message: Control) {
        match (&mut self.role, message) {
            (_, Control::Seen(address)) => {
                if self.network.set_seen(id, address) {
                    self.own_network_changed(now);
                }
            }
            (_, Control::Slot(slot)) => self.on_own_slot(now, id, slot),
            (_, Control::Duplicate(addresses)) => self.on_duplicate(token, addresses.into_vec()),
            (RoleState::Server(_), Control::ForeignCluster { id: foreigner, cluster }) if foreigner.is_server() => {
                self.on_foreigner(id, foreigner, cluster);
            }
            (_, Control::Council(message)) => self.on_council_message(now, token, id, *message),
            (_, Control::Master(view)) => self.on_master_told(now, token, id, view),
            (_, Control::Members(members)) => self.on_members_told(now, token, id, members),
            (_, Control::Servers(rows)) => self.on_servers(now, token, id, rows.into_vec()),
            (RoleState::Peer(tables), Control::Directory(update)) => match tables.apply(now, &id, update) {
                Ok(news) => self.take_news(now, news),
                Err(Refused::Gap) => self.tell(now, id, &Control::DirectoryLost),
                Err(Refused::TooManyRows { .. } | Refused::Inconsistent) => self.violation(now, token),
            },
            (RoleState::Peer(_), Control::OnDemand { max_watches }) => self.on_demand(now, id, max_watches),
            (RoleState::Peer(_), Control::Rows(rows)) => self.on_rows(now, token, id, rows),
            (RoleState::Peer(_), Control::LinksLost) => {
                self.reports.lost(&id);
                self.send_reports(now);
            }
            _ => self.violation(now, token),
        }
    }

    /// What peers say to servers.
    fn on_client_control(&mut self, now: Instant, token: LinkToken, id: Id, message: Control) {
        let RoleState::Server(tables) = &mut self.role else { return self.violation(now, token) };
        match message {
            Control::Network(network) => {
                let Some(row) = tables.client(&id).cloned() else { return };
                tables.set_client(id, row.name, row.incarnation, network, row.slot);
                self.directory_changed(now);
            }
            Control::Links(report) => {
                if let Err(Lost) = tables.report(id, report) {
                    self.tell(now, id, &Control::LinksLost);
                }
                self.witness(now);
            }
            Control::Watch(wanted) => match tables.watch(id, &wanted) {
                Ok(answers) => {
                    answers.iter().for_each(|answer| self.tell(now, id, answer));
                    self.spare_watches(now);
                }
                Err(TooMany) => self.violation(now, token),
            },
            Control::FirstPacket { to, packet } => self.on_first_packet(id, to, &packet),
            Control::Unwatch(wanted) => tables.unwatch(id, &wanted),
            Control::SeenElsewhere(sighting) => self.on_seen_elsewhere(now, &sighting),
            Control::ForeignCluster { id: foreigner, cluster } if foreigner.is_server() => {
                self.on_foreigner(id, foreigner, cluster);
            }
            Control::DirectoryLost => {
                tables.directory_lost(&id);
                self.directory_changed(now);
            }
            _ => self.violation(now, token),
        }
    }

    /// All watch too much together: whoever watches most has to go.
    fn spare_watches(&mut self, now: Instant) {
        while let RoleState::Server(tables) = &self.role
            && let Some(id) = tables.too_greedy()
            && let Some(token) = self.remotes.get(&id).and_then(|remote| remote.current)
        {
            self.count("links ended: too many watches");
            self.close(now, token, CloseCode::Full);
        }
    }

    fn on_servers(&mut self, now: Instant, token: LinkToken, from: Id, rows: Vec<(Id, ServerRow)>) {
        if !rows.iter().all(|(id, _)| id.is_server()) {
            return self.violation(now, token);
        }
        let mut news = false;
        for (id, row) in &rows {
            // both hear of each other at the same time, and one dial is enough
            let is_heard_first = !self.saved.servers.contains_key(id) && !self.remotes.contains_key(id);
            if is_heard_first && self.id().is_server() && *id < self.id() {
                self.remote(*id).is_expected = true;
            }
            news |= self.remember_server(*id, &row.name, &row.addresses);
        }
        if news {
            self.save();
        }
        let ids: Vec<Id> = rows.iter().map(|(id, _)| *id).collect();
        match &mut self.role {
            RoleState::Peer(tables) => tables.set_servers(&from, rows),
            RoleState::Server(tables) => {
                tables.hear(from, ids.iter().copied());
                // only its own row: what it says of others is a hint to dial them
                let own = rows.into_iter().find(|(id, _)| *id == from);
                if let (Some((_, row)), Some(known)) = (own, tables.server(&from)) {
                    let slot = known.slot;
                    let worked = self.remotes.get(&from).map(|remote| remote.addresses.clone()).unwrap_or_default();
                    let told = row.addresses.iter().copied().filter(|address| !worked.contains(address));
                    let addresses = Bounded::first(worked.iter().copied().chain(told));
                    tables.set_server(from, ServerRow { slot, addresses, ..row });
                }
            }
        }
        self.review_servers(now);
        for id in ids {
            if id != self.id() {
                self.renew_candidates(now, id);
            }
        }
    }
}
