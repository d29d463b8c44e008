//! The control messages of admitted links.

use std::time::Instant;

use super::{Event, Node, roles::RoleState};
use crate::{
    Id,
    link::LinkToken,
    peer::Lost,
    wire::{CloseCode, Control, ServerEntry},
};

impl Node {
    pub(super) fn on_admitted_control(&mut self, now: Instant, token: LinkToken, id: Id, message: Control) {
        match message {
            Control::Session(message) => {
                let result = self.conversation(now, id).handle_control(now, message);
                self.unwritten.insert(id);
                if let Err(violation) = result {
                    self.broken(now, token, violation);
                }
            }
            Control::Goodbye => self.close(now, token, CloseCode::Goodbye),
            Control::Duplicate(addresses) => {
                let own = self.id();
                self.event(Event::DuplicateIdentity { id: own, addresses });
            }
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
            (_, Control::Servers(entries)) => self.on_servers(now, token, id, entries),
            (RoleState::Peer(tables), Control::Directory(part)) => {
                let sound = part.set.iter().all(|(_, row)| row.network.check(self.config.max_addresses).is_ok());
                if !sound {
                    return self.violation(now, token);
                }
                match tables.apply(now, &id, part) {
                    Ok(news) => self.take_news(now, news),
                    Err(Lost) => self.tell(now, id, &Control::DirectoryLost),
                }
            }
            _ => self.violation(now, token),
        }
    }

    /// What peers say to servers.
    fn on_client_control(&mut self, now: Instant, token: LinkToken, id: Id, message: Control) {
        let RoleState::Server(tables) = &mut self.role else { return self.violation(now, token) };
        match message {
            Control::Network(network) => {
                if network.check(self.config.max_addresses).is_err() {
                    return self.violation(now, token);
                }
                let Some(row) = tables.client(&id).cloned() else { return };
                tables.set_client(id, row.name, row.incarnation, network, row.slot);
                self.directory_changed(now);
            }
            Control::Links(report) => tables.report(id, report),
            Control::DirectoryLost => {
                tables.directory_lost(&id);
                self.directory_changed(now);
            }
            _ => self.violation(now, token),
        }
    }

    fn on_servers(&mut self, now: Instant, token: LinkToken, from: Id, entries: Vec<ServerEntry>) {
        let max = self.config.max_addresses;
        let sound = |entry: &ServerEntry| entry.id.is_server() && entry.row.addresses.len() <= max;
        if entries.len() > self.config.max_servers || !entries.iter().all(sound) {
            return self.violation(now, token);
        }
        for entry in &entries {
            self.remember_server(entry.id, &entry.row.name, &entry.row.addresses);
        }
        let ids: Vec<Id> = entries.iter().map(|entry| entry.id).collect();
        match &mut self.role {
            RoleState::Peer(tables) => tables.set_servers(&from, entries),
            RoleState::Server(tables) => {
                // only its own row: what it says of others is a hint to dial them
                if let Some(own) = entries.into_iter().find(|entry| entry.id == from)
                    && let Some(slot) = self.slots.get(&from)
                    && tables.server(&from).is_some_and(|known| known.addresses != own.row.addresses)
                {
                    tables.set_server(from, own.row, Some(*slot));
                }
            }
        }
        for id in ids {
            if id != self.id() {
                self.renew_candidates(now, id);
            }
        }
    }
}
