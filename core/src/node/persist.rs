//! What a node remembers over a restart: its cluster, the servers it knew, and its part in the council.

use std::{collections::BTreeMap, net::SocketAddr, time::Instant};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Node, Output, Persist, PersistId};
use crate::{ClusterId, Id, Name, StartError, master::Durable};

/// The first byte of the saved state.
const VERSION: u8 = 2;

/// The saved state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Saved {
    owner: Id,
    pub(super) cluster: Option<ClusterId>,
    pub(super) servers: BTreeMap<Id, SavedServer>,
    pub(super) council: Option<Box<Durable>>,
    #[serde(skip)]
    orders: u64,
}

/// A server as it was last known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SavedServer {
    pub(super) name: Name,
    pub(super) addresses: Vec<SocketAddr>,
}

impl Saved {
    /// Reads the saved state, or begins an empty one.
    pub(super) fn read(bytes: Option<&Bytes>, owner: Id) -> Result<Self, StartError> {
        let Some(bytes) = bytes else {
            return Ok(Self { owner, cluster: None, servers: BTreeMap::new(), council: None, orders: 0 });
        };
        let saved: Self = match bytes.split_first() {
            Some((&VERSION, body)) => match postcard::take_from_bytes(body) {
                Ok((saved, [])) => saved,
                _ => return Err(StartError::BadState("it does not parse")),
            },
            Some(_) => return Err(StartError::BadState("another version wrote it")),
            None => return Err(StartError::BadState("it is empty")),
        };
        if saved.owner != owner {
            return Err(StartError::ForeignState(saved.owner));
        }
        Ok(saved)
    }

    fn to_bytes(&self) -> Bytes {
        // serialising these types into memory cannot fail; an empty state would be refused when read
        postcard::to_extend(self, vec![VERSION]).map(Bytes::from).unwrap_or_default()
    }
}

impl Node {
    /// What a saved state of the server `owner` holds of its council, to look at: for tests and tools.
    ///
    /// # Errors
    /// As at a start with that state.
    pub fn saved_council(state: &Bytes, owner: Id) -> Result<Option<Durable>, StartError> {
        Saved::read(Some(state), owner).map(|saved| saved.council.map(|durable| *durable))
    }

    /// An order is on disk, and so are those before it.
    pub(super) fn persisted(&mut self, now: Instant, id: PersistId) {
        // a word about an order that was never given would be believed when it is
        let id = id.min(PersistId(self.saved.orders));
        if let Some((_, cluster)) = self.admitted.take_if(|(order, _)| *order <= id) {
            self.cluster = Some(cluster);
        }
        self.council_persisted(now, id);
    }

    /// Orders the durable state to disk.
    pub(super) fn save(&mut self) -> PersistId {
        let admitted_to = self.saved.council.as_ref().and_then(|council| council.allegiance);
        self.saved.cluster = self.cluster.or(admitted_to.map(|allegiance| allegiance.cluster));
        self.saved.orders = self.saved.orders.saturating_add(1);
        let persist = Persist { id: PersistId(self.saved.orders), state: self.saved.to_bytes() };
        // an order not taken yet is superseded: the new one holds the whole state
        self.outputs.retain(|output| !matches!(output, Output::Persist(_)));
        self.outputs.push_back(Output::Persist(persist));
        PersistId(self.saved.orders)
    }

    /// Remembers where a server is, the addresses that worked included; one that is not linked makes room for it.
    /// Returns whether that is news, to be [saved](Self::save).
    pub(super) fn remember_server(&mut self, id: Id, name: &Name, addresses: &[SocketAddr]) -> bool {
        let worked = self.remotes.get(&id).map(|remote| remote.addresses.as_slice()).unwrap_or_default();
        let mut all: Vec<SocketAddr> = worked.to_vec();
        all.extend(addresses.iter().filter(|address| !worked.contains(address)));
        all.truncate(self.config.max_addresses);
        if id == self.id() || all.is_empty() {
            return false;
        }
        let server = SavedServer { name: name.clone(), addresses: all };
        if self.saved.servers.get(&id) == Some(&server) {
            return false;
        }
        if self.saved.servers.len() >= self.config.max_servers && !self.saved.servers.contains_key(&id) {
            let gone = self.saved.servers.keys().find(|known| !self.is_linked(known)).copied();
            let Some(gone) = gone else { return false };
            self.saved.servers.remove(&gone);
        }
        self.saved.servers.insert(id, server);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Identity, Role, SecretKey};

    fn id(seed: u8) -> Id {
        Identity::new(Role::Server, SecretKey::from_bytes([seed; 32])).id()
    }

    #[test]
    fn saved_state_round_trips_for_its_owner_only() {
        let mut saved = Saved::read(None, id(1)).unwrap();
        saved.cluster = Some(ClusterId([7; 16]));
        let server = SavedServer { name: Name::new("s").unwrap(), addresses: vec!["192.0.2.1:1".parse().unwrap()] };
        saved.servers.insert(id(2), server);
        let bytes = saved.to_bytes();
        assert_eq!(Saved::read(Some(&bytes), id(1)), Ok(saved));
        assert_eq!(Saved::read(Some(&bytes), id(3)), Err(StartError::ForeignState(id(1))));
    }

    #[test]
    fn damaged_state_is_refused() {
        let good = Saved::read(None, id(1)).unwrap().to_bytes();
        for bad in [Bytes::new(), Bytes::from_static(&[9, 1, 2]), good.slice(..good.len() - 1)] {
            assert!(matches!(Saved::read(Some(&bad), id(1)), Err(StartError::BadState(_))), "{bad:?}");
        }
    }
}
