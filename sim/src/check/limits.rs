//! Memory: no queue and no table of a node holds more than its named limit.

use p2pcore::{Id, node::Usage};

use super::Breach;

/// What is over its limit.
pub fn over(id: Id, usage: &[Usage]) -> Vec<Breach> {
    let over = usage.iter().filter(|usage| usage.is_over());
    let what = |usage: &Usage| format!("{}: {} of at most {}", usage.what, usage.used, usage.limit);
    over.map(|usage| Breach::new("limits", [id], what(usage))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::id;

    #[test]
    fn what_is_over_its_limit_is_named() {
        let of = |what, used| Usage { what, used, limit: 10 };
        let breaches = over(id(1), &[of("links", 10), of("slots", 11)]);
        assert_eq!(breaches, [Breach::new("limits", [id(1)], "slots: 11 of at most 10")]);
    }
}
