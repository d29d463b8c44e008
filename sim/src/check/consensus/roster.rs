//! Age is decided once: the order of two members never changes while both belong to the cluster.

use std::collections::BTreeMap;

use p2pcore::{
    Id,
    master::{Membership, Roster},
};

use super::Line;
use crate::check::Breach;

/// The committed rosters.
#[derive(Clone, Debug, Default)]
pub struct Ages {
    rosters: BTreeMap<(Line, u64), Vec<Membership>>,
}

impl Ages {
    /// A roster is committed.
    ///
    /// # Errors
    /// Two members changed places between it and the one before or after it.
    pub fn committed(&mut self, line: Line, id: Id, index: u64, roster: &Roster) -> Result<(), Breach> {
        let order: Vec<Membership> = roster.members.iter().map(|member| member.membership).collect();
        let of_line = |(key, order): (&(Line, u64), &Vec<Membership>)| (key.0 == line).then(|| order.clone());
        let before = self.rosters.range(..(line, index)).next_back().and_then(of_line);
        let after = self.rosters.range((line, index + 1)..).next().and_then(of_line);
        let neighbours = [before, after];
        self.rosters.insert((line, index), order.clone());
        for other in neighbours.into_iter().flatten() {
            let here = order.iter().filter(|member| other.contains(member));
            let there = other.iter().filter(|member| order.contains(member));
            if let Some((one, other)) = here.zip(there).find(|(one, other)| one != other) {
                let what = format!("members changed places in the roster at {index}");
                return Err(Breach::new("age_once", [id, one.id, other.id], what));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{
        super::testing::{line, membership, server},
        *,
    };

    fn roster(order: &[(u8, u64)]) -> Roster {
        let mut roster = Roster::default();
        for (n, counter) in order {
            roster.admit(membership(*n, *counter), None, Duration::ZERO);
        }
        roster
    }

    fn rosters(orders: &[&[(u8, u64)]]) -> Result<(), Breach> {
        let mut ages = Ages::default();
        (1..).zip(orders).try_for_each(|(index, order)| ages.committed(line(), server(1), index, &roster(order)))
    }

    #[test]
    fn joins_leaves_and_lost_disks_keep_the_order_of_the_others() {
        assert_eq!(
            rosters(&[&[(1, 1)], &[(2, 1), (1, 1)], &[(2, 1), (3, 1), (1, 1)], &[(3, 1), (1, 1), (2, 2)]]),
            Ok(())
        );
        assert_eq!(rosters(&[&[(1, 1), (2, 1)], &[(2, 1)], &[(2, 1), (1, 1)]]), Ok(()), "left and came back");
    }

    #[test]
    fn a_change_of_places_is_seen_from_either_side() {
        assert_eq!(rosters(&[&[(1, 1), (2, 1)], &[(2, 1), (1, 1)]]).unwrap_err().checker, "age_once");
        let mut ages = Ages::default();
        ages.committed(line(), server(1), 5, &roster(&[(1, 1), (2, 1)])).unwrap();
        assert!(ages.committed(line(), server(1), 4, &roster(&[(2, 1), (1, 1)])).is_err());
    }
}
