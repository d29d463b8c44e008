//! Table E from a server to one peer, by the bytes of the control messages.

use std::net::SocketAddr;

use p2pcore::{
    Id, Incarnation, Name, PublicKey, Role,
    relay::Slot,
    table::{Addresses, NetworkInfo, PART_BYTES, PeerRow, Publisher, Replica, Update},
    wire::Control,
};

const EPOCH: Incarnation = Incarnation { counter: 1, random: [9; 16] };
const LOG: usize = 1_024;

/// The Id of the peer `index`.
pub fn peer_id(index: u16) -> Id {
    let mut key = [0; 32];
    key[..2].copy_from_slice(&index.to_be_bytes());
    Id::from_key(Role::Peer, &PublicKey(key))
}

/// A row as a peer behind a home router has it: a public, a private and a listening address.
///
/// # Panics
/// If `index` is 65,535, which is no slot.
pub fn peer_row(index: u16, version: u64) -> PeerRow {
    let [high, low] = index.to_be_bytes();
    let public = SocketAddr::from(([198, 51, high, low], 40_000));
    let private = SocketAddr::from(([192, 168, high, low], 7_000));
    PeerRow {
        name: Name::new(format!("peer {index}")).expect("a short name"),
        incarnation: Incarnation { counter: 1, random: [high ^ low; 16] },
        network: NetworkInfo {
            version,
            public: Addresses::first([public]),
            private: Addresses::first([private]),
            listen: Addresses::first([private]),
            ..NetworkInfo::default()
        },
        slot: Slot::new(index, 0).expect("an index below the last"),
    }
}

/// A server's directory and the copy of one peer.
pub struct DirectoryPair {
    rows: u16,
    publisher: Publisher<Id, PeerRow>,
    replica: Replica<Id, PeerRow>,
    version: u64,
}

impl DirectoryPair {
    /// A directory of `rows` peers, already copied.
    pub fn new(rows: u16) -> Self {
        let max_rows = usize::from(rows);
        let publisher = Publisher::new(EPOCH, max_rows, LOG);
        let mut pair = Self { rows, publisher, replica: Replica::new(max_rows), version: 0 };
        pair.change(rows);
        pair.snapshot();
        pair
    }

    /// Gives the first `count` rows another version of their network info.
    ///
    /// # Panics
    /// If `count` is more than there are rows.
    pub fn change(&mut self, count: u16) {
        assert!(count <= self.rows, "no such rows");
        self.version += 1;
        for index in 0..count {
            self.publisher.set(peer_id(index), peer_row(index, self.version)).expect("room for all rows");
        }
    }

    /// Brings the copy up to date by all rows; returns the bytes that took.
    pub fn snapshot(&mut self) -> usize {
        self.bring(Update::Snapshot(self.publisher.snapshot()))
    }

    /// Brings the copy up to date by what it lacks; returns the bytes that took.
    pub fn update(&mut self) -> usize {
        self.bring(self.publisher.update_since(self.replica.version()))
    }

    /// Whether the copy is up to date.
    pub fn is_current(&self) -> bool {
        self.replica.version() == Some(self.publisher.version()) && self.replica.rows() == self.publisher.rows()
    }

    fn bring(&mut self, update: Update<Id, PeerRow>) -> usize {
        let mut bytes = 0;
        for part in update.parts(PART_BYTES) {
            let message = Control::Directory(part).encode();
            bytes += message.len();
            let Ok(Control::Directory(part)) = Control::decode(&message) else { panic!("a message of our own") };
            self.replica.apply(part).expect("it follows");
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delta_and_a_snapshot_lead_to_the_same_copy() {
        let mut pair = DirectoryPair::new(100);
        assert!(pair.is_current());
        pair.change(1);
        assert!(!pair.is_current());
        let delta = pair.update();
        assert!(pair.is_current());
        pair.change(1);
        let snapshot = pair.snapshot();
        assert!(pair.is_current());
        assert!(delta * 50 < snapshot, "{delta} of {snapshot} bytes");
    }
}
