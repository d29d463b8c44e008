//! The deadline contract: a node never spins, so the number of its steps without time advancing is bounded.

use std::time::Duration;

use p2pcore::Id;

use super::Breach;

/// Counts the steps of one node at one instant.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    at: Duration,
    steps: u32,
}

impl Pace {
    /// Timeouts at one instant after which nobody can say that the last one was of use.
    pub const MAX_STEPS: u32 = 100;
    /// Outputs of one drain: more than any queue may hold.
    pub const MAX_OUTPUTS: usize = 200_000;

    /// The node was woken at its own wish.
    ///
    /// # Errors
    /// Once too often at one instant; told once.
    pub fn step(&mut self, now: Duration, id: Id, why: &str) -> Result<(), Breach> {
        if self.at != now {
            *self = Self { at: now, steps: 0 };
        }
        self.steps += 1;
        if self.steps == Self::MAX_STEPS {
            return Err(Breach::new(
                "no_spin",
                [id],
                format!("{} timeouts at one instant, wanted by {why}", self.steps),
            ));
        }
        Ok(())
    }

    /// Whether the node spins now.
    pub fn is_spinning(&self) -> bool {
        self.steps >= Self::MAX_STEPS
    }

    /// Outputs came of a node that wanted to be woken `due`, or later, or never.
    ///
    /// # Errors
    /// It did not want to be woken yet: a driver that trusts its deadline would have left them there.
    pub fn queued(id: Id, outputs: usize, due: bool) -> Result<(), Breach> {
        if outputs == 0 || due {
            return Ok(());
        }
        Err(Breach::new("queued_is_due", [id], format!("{outputs} outputs waited, and the deadline was later")))
    }

    /// A drain ended after so many outputs.
    ///
    /// # Errors
    /// It ended only because somebody stopped it.
    pub fn drained(id: Id, outputs: usize) -> Result<(), Breach> {
        if outputs < Self::MAX_OUTPUTS {
            return Ok(());
        }
        Err(Breach::new("no_spin", [id], format!("{outputs} outputs in one drain and no end")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::id;

    #[test]
    fn standing_still_in_time_is_spinning() {
        let mut pace = Pace::default();
        for n in 0..1_000 {
            assert_eq!(pace.step(Duration::from_nanos(n), id(1), "test"), Ok(()));
        }
        let breaches = (0..1_000).filter(|_| pace.step(Duration::from_secs(1), id(1), "test").is_err()).count();
        assert!(breaches == 1 && pace.is_spinning());
        assert_eq!(pace.step(Duration::from_secs(2), id(1), "test"), Ok(()));
        assert!(!pace.is_spinning());
    }

    #[test]
    fn a_drain_without_end_is_seen() {
        assert_eq!(Pace::drained(id(1), 10), Ok(()));
        assert_eq!(Pace::drained(id(1), Pace::MAX_OUTPUTS).unwrap_err().checker, "no_spin");
    }

    #[test]
    fn outputs_are_due_while_they_wait() {
        assert!(Pace::queued(id(1), 0, false).is_ok() && Pace::queued(id(1), 1, true).is_ok());
        assert_eq!(Pace::queued(id(1), 1, false).unwrap_err().checker, "queued_is_due");
    }
}
