//! A resource that fences: no write of a deposed Master is accepted after one of a later Master.

use std::collections::BTreeMap;

use p2pcore::{Id, master::Token};

use crate::check::Breach;

/// A resource that is written by Masters.
#[derive(Clone, Debug)]
pub struct Resource {
    is_fenced: bool,
    highest: Option<Token>,
    /// In each generation, how many had been Master before the one whose write was accepted last.
    latest: BTreeMap<u64, usize>,
    refused: u64,
}

impl Resource {
    /// A resource that accepts no token below the highest one that it has seen; or, without a fence, any.
    pub fn new(is_fenced: bool) -> Self {
        Self { is_fenced, highest: None, latest: BTreeMap::new(), refused: 0 }
    }

    /// A write under `token` arrives. `tenures` are the tokens of those who were Master, in the order in which they became
    /// it. Returns whether the write is accepted.
    ///
    /// # Errors
    /// It is, though one of a later Master was before.
    pub fn write(&mut self, token: Token, tenures: &[Token]) -> Result<bool, Breach> {
        if self.is_fenced && self.highest > Some(token) {
            self.refused += 1;
            return Ok(false);
        }
        self.highest = self.highest.max(Some(token));
        let Some(place) = tenures.iter().position(|tenure| *tenure == token) else {
            return Err(Breach::new("fence", [token.id], format!("a write under {token:?}, which nobody held")));
        };
        let latest = self.latest.insert(token.generation, place).unwrap_or(place);
        if place < latest {
            let nodes: Vec<Id> = [place, latest].iter().filter_map(|n| tenures.get(*n)).map(|token| token.id).collect();
            let what = format!("a write under {token:?} is accepted after one of a later Master");
            return Err(Breach::new("fence", nodes, what));
        }
        Ok(true)
    }

    /// How many writes were refused.
    pub fn refused(&self) -> u64 {
        self.refused
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::token, *};

    #[test]
    fn a_deposed_master_is_refused_and_without_a_fence_it_is_seen() {
        let tenures = [token(1, 1), token(2, 2)];
        for is_fenced in [true, false] {
            let mut resource = Resource::new(is_fenced);
            for (token, accepted) in [(tenures[0], true), (tenures[1], true), (tenures[1], true)] {
                assert_eq!(resource.write(token, &tenures), Ok(accepted));
            }
            match resource.write(tenures[0], &tenures) {
                Ok(accepted) => assert!(is_fenced && !accepted),
                Err(breach) => assert!(!is_fenced && breach.checker == "fence"),
            }
        }
    }

    #[test]
    fn tokens_out_of_the_order_of_the_tenures_are_seen() {
        // whoever came later has the lower token: the fence keeps the wrong one out
        let tenures = [token(2, 2), token(1, 1)];
        let mut resource = Resource::new(true);
        assert_eq!(resource.write(tenures[1], &tenures), Ok(true));
        assert_eq!(resource.write(tenures[0], &tenures).unwrap_err().checker, "fence");
        assert_eq!(resource.write(token(9, 9), &tenures).unwrap_err().checker, "fence", "nobody held that");
    }
}
