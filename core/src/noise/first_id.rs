//! First destination connection ids: strangers are told apart from members by one keyed hash, before any state.

use std::collections::{BTreeSet, VecDeque};

use subtle::{ConditionallySelectable, ConstantTimeEq};

use crate::{Id, NetworkKey};

/// Bytes of a first destination connection id, the longest that QUIC allows.
pub const FIRST_ID_LEN: usize = NONCE_LEN + TAG_LEN;

const NONCE_LEN: usize = 12;
const TAG_LEN: usize = 8;
const DOMAIN: &[u8] = b"p2pcore first id";

/// What a valid first destination connection id says about the dialler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstId {
    /// It dials this node by its Id.
    Named,
    /// It dials an introducer whose Id it does not know.
    Unnamed,
}

/// The first destination connection id of a dial: nonce ‖ MAC(network key; nonce, `dest` or zeros).
///
/// Draw `nonce` anew for each dial: none works twice.
pub fn first_id(key: &NetworkKey, nonce: [u8; NONCE_LEN], dest: Option<Id>) -> [u8; FIRST_ID_LEN] {
    let mut id = [0; FIRST_ID_LEN];
    let (head, tail) = id.split_at_mut(NONCE_LEN);
    head.copy_from_slice(&nonce);
    tail.copy_from_slice(&tag(key, &nonce, dest));
    id
}

/// Whether `id` was made with the network key for `own` or for nobody by name, and its nonce. Takes the same time
/// whatever is wrong with the tag.
pub fn check_first_id(key: &NetworkKey, id: &[u8], own: Id) -> Option<(FirstId, [u8; NONCE_LEN])> {
    let id: &[u8; FIRST_ID_LEN] = id.try_into().ok()?;
    let (nonce, found) = id.split_first_chunk::<NONCE_LEN>()?;
    let named = tag(key, nonce, Some(own)).ct_eq(found);
    let unnamed = tag(key, nonce, None).ct_eq(found);
    let kind = u8::conditional_select(&0, &1, unnamed) | u8::conditional_select(&0, &2, named);
    match kind {
        0 => None,
        1 => Some((FirstId::Unnamed, *nonce)),
        _ => Some((FirstId::Named, *nonce)),
    }
}

fn tag(key: &NetworkKey, nonce: &[u8; NONCE_LEN], dest: Option<Id>) -> [u8; TAG_LEN] {
    // all of it fits one block of the hash
    let mut hasher = blake3::Hasher::new_keyed(key.as_bytes());
    hasher.update(DOMAIN).update(nonce).update(&dest.map_or([0; Id::LEN], Id::to_bytes));
    let mut tag = [0; TAG_LEN];
    hasher.finalize_xof().fill(&mut tag);
    tag
}

/// The nonces of first packets that were accepted, so that a recorded one draws no second answer.
///
/// Bounded: past its capacity the oldest is forgotten.
#[derive(Clone, Debug)]
pub struct NonceFilter {
    capacity: usize,
    seen: BTreeSet<[u8; NONCE_LEN]>,
    order: VecDeque<[u8; NONCE_LEN]>,
}

impl NonceFilter {
    /// Remembers the last `capacity` nonces, at least one.
    pub const fn new(capacity: usize) -> Self {
        let capacity = if capacity == 0 { 1 } else { capacity };
        Self { capacity, seen: BTreeSet::new(), order: VecDeque::new() }
    }

    /// Remembers `nonce`; `false` if it was seen before.
    pub fn insert(&mut self, nonce: [u8; NONCE_LEN]) -> bool {
        let new = self.seen.insert(nonce);
        if new {
            if self.order.len() >= self.capacity
                && let Some(oldest) = self.order.pop_front()
            {
                self.seen.remove(&oldest);
            }
            self.order.push_back(nonce);
        }
        new
    }

    /// Whether `nonce` was seen before.
    pub fn contains(&self, nonce: &[u8; NONCE_LEN]) -> bool {
        self.seen.contains(nonce)
    }

    /// How many nonces are remembered.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Identity, Role, SecretKey};

    fn id(seed: u8) -> Id {
        Identity::new(Role::Peer, SecretKey::from_bytes([seed; 32])).id()
    }

    #[test]
    fn an_id_is_good_for_its_destination_and_network_only() {
        let (key, nonce) = (NetworkKey::from_bytes([1; 32]), [7; NONCE_LEN]);
        let named = first_id(&key, nonce, Some(id(1)));
        assert_eq!(check_first_id(&key, &named, id(1)), Some((FirstId::Named, nonce)));
        assert_eq!(check_first_id(&key, &named, id(2)), None);
        let unnamed = first_id(&key, nonce, None);
        assert_eq!(check_first_id(&key, &unnamed, id(2)), Some((FirstId::Unnamed, nonce)));
        assert_eq!(check_first_id(&NetworkKey::from_bytes([2; 32]), &unnamed, id(2)), None);
    }

    #[test]
    fn every_bit_counts_and_so_does_the_length() {
        let key = NetworkKey::from_bytes([1; 32]);
        let good = first_id(&key, [9; NONCE_LEN], Some(id(1)));
        for bit in 0..FIRST_ID_LEN * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(check_first_id(&key, &bad, id(1)), None, "bit {bit}");
        }
        for len in 0..FIRST_ID_LEN {
            assert_eq!(check_first_id(&key, &good[..len], id(1)), None);
        }
        assert_eq!(check_first_id(&key, &[good.as_slice(), &[0]].concat(), id(1)), None);
    }

    #[test]
    fn the_oldest_nonce_is_forgotten_first() {
        let mut filter = NonceFilter::new(2);
        assert!(filter.is_empty());
        assert!(filter.insert([1; 12]) && filter.insert([2; 12]));
        assert!(!filter.insert([1; 12]) && !filter.insert([2; 12]));
        assert!(filter.insert([3; 12]));
        assert_eq!(filter.len(), 2);
        assert!(!filter.insert([2; 12]) && filter.insert([1; 12]));
        assert_eq!(filter.len(), 2);
    }

    #[test]
    fn a_filter_without_capacity_still_stops_an_immediate_repeat() {
        let mut filter = NonceFilter::new(0);
        assert!(filter.insert([1; 12]) && !filter.insert([1; 12]));
        assert_eq!(filter.len(), 1);
    }
}
