//! What applications see of the office of Master and of a register that only Masters write, as one object.
//!
//! The register remembers the highest token that it has seen, in reads too, and refuses lower ones. Whoever is Master reads
//! it, computes, and writes: a write that replaces another value than the one that was read is a lost update.

use p2pcore::master::Token;

use super::linear::Specification;

/// What an application does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// It waits for its server to be Master.
    Acquire,
    /// It asks whether its guard is valid.
    Check(Token),
    /// It gives up the office.
    Release(Token),
    /// It reads the register.
    Read(Token),
    /// It replaces a value that it has read under the same token.
    Write {
        /// Its token.
        token: Token,
        /// What it read.
        from: u64,
        /// What it writes.
        to: u64,
    },
}

/// What it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Its server is Master under this token.
    Acquired(Token),
    /// The guard is valid.
    Valid,
    /// The office is given up.
    Released,
    /// The register holds this.
    Value(u64),
    /// The write was accepted.
    Written,
    /// The register has seen a higher token.
    Refused,
}

/// The office and the register.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct State {
    /// The token that was acquired last.
    acquired: Option<Token>,
    /// The one under which a guard may be valid.
    holder: Option<Token>,
    /// The highest one that the register has seen.
    seen: Option<Token>,
    value: u64,
}

/// One Master at a time, under ever higher tokens, and no lost update.
#[derive(Clone, Copy, Debug)]
pub struct Office;

impl Specification for Office {
    type State = State;
    type Operation = Operation;
    type Answer = Answer;

    fn initial(&self) -> State {
        State::default()
    }

    fn apply(&self, state: &State, operation: &Operation, answer: Option<&Answer>) -> Option<State> {
        let State { acquired, holder, seen, value } = *state;
        let is_passed = |token: Token| acquired >= Some(token) && seen <= Some(token);
        match (*operation, answer.copied()) {
            (Operation::Acquire, Some(Answer::Acquired(token))) => {
                (acquired < Some(token)).then_some(State { acquired: Some(token), holder: Some(token), ..*state })
            }
            (Operation::Check(token), Some(Answer::Valid)) => (holder == Some(token)).then_some(*state),
            (Operation::Release(token), Some(Answer::Released)) => {
                Some(State { holder: holder.filter(|holder| *holder != token), ..*state })
            }
            (Operation::Read(token), Some(Answer::Value(read))) => {
                (is_passed(token) && read == value).then_some(State { seen: Some(token), ..*state })
            }
            (Operation::Read(token), None) => is_passed(token).then_some(State { seen: Some(token), ..*state }),
            (Operation::Write { token, from, to }, Some(Answer::Written) | None) => {
                (is_passed(token) && from == value).then_some(State { seen: Some(token), value: to, ..*state })
            }
            (Operation::Read(token) | Operation::Write { token, .. }, Some(Answer::Refused)) => {
                (seen > Some(token)).then_some(*state)
            }
            // whoever waits for the office in vain changes nothing
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use p2pcore::{Id, PublicKey, Role, master::Kind};

    use super::*;
    use crate::check::linear::{self, Call};

    type History = linear::History<Operation, Answer>;

    fn token(term: u64) -> Token {
        let id = Id::from_key(Role::Server, &PublicKey([1; 32]));
        Token { generation: 1, kind: Kind::Elected, term, id }
    }

    fn read(term: u64) -> Operation {
        Operation::Read(token(term))
    }

    fn write(term: u64, from: u64, to: u64) -> Operation {
        Operation::Write { token: token(term), from, to }
    }

    fn done(history: &mut History, operation: Operation, answer: Answer) {
        let call = history.invoke(operation);
        history.answer(call, answer);
    }

    fn acquire(history: &mut History, term: u64) {
        done(history, Operation::Acquire, Answer::Acquired(token(term)));
    }

    fn is_linear(history: &History) -> bool {
        history.check(&Office).is_ok()
    }

    /// Whether it stays right with this at its end.
    fn may_end(history: &History, operation: Operation, answer: Answer) -> bool {
        let mut history = history.clone();
        done(&mut history, operation, answer);
        is_linear(&history)
    }

    /// One has read and written, its next write is on its way, and the next one has become Master.
    fn succession() -> (History, Call) {
        let mut history = History::default();
        acquire(&mut history, 1);
        done(&mut history, read(1), Answer::Value(0));
        done(&mut history, write(1, 0, 10), Answer::Written);
        let late = history.invoke(write(1, 10, 11));
        acquire(&mut history, 2);
        assert!(is_linear(&history));
        (history, late)
    }

    #[test]
    fn a_late_write_may_come_before_the_next_master_is_seen_or_be_refused() {
        let (mut before, late) = succession();
        before.answer(late, Answer::Written);
        assert!(may_end(&before, read(2), Answer::Value(11)));
        assert!(!may_end(&before, read(2), Answer::Value(10)), "a stale read");
        let (mut after, late) = succession();
        done(&mut after, read(2), Answer::Value(10));
        done(&mut after, write(2, 10, 20), Answer::Written);
        after.answer(late, Answer::Refused);
        assert!(may_end(&after, read(2), Answer::Value(20)));
        assert!(may_end(&after, read(1), Answer::Refused));
        assert!(!may_end(&after, read(1), Answer::Value(20)), "read under an older token");
        assert!(!may_end(&after, read(2), Answer::Value(10)), "a stale read");
        assert!(!may_end(&after, read(2), Answer::Refused));
        assert!(!may_end(&after, write(1, 20, 21), Answer::Written), "written under an older token");
    }

    #[test]
    fn a_write_under_an_older_token_after_one_under_a_newer_one_is_refused() {
        let (mut history, late) = succession();
        done(&mut history, read(2), Answer::Value(10));
        assert!(is_linear(&history));
        let mut accepted = history.clone();
        accepted.answer(late, Answer::Written);
        assert!(!is_linear(&accepted), "the next one has read what this replaces");
        history.answer(late, Answer::Refused);
        assert!(is_linear(&history));
    }

    #[test]
    fn a_lost_update_is_refused_also_if_nobody_heard_of_it() {
        let (mut history, _late) = succession();
        done(&mut history, read(2), Answer::Value(10));
        done(&mut history, write(2, 10, 20), Answer::Written);
        assert!(is_linear(&history), "the late write may never have arrived");
        assert!(!may_end(&history, read(2), Answer::Value(11)));
        let mut lost = History::default();
        acquire(&mut lost, 1);
        let calls = [lost.invoke(write(1, 0, 1)), lost.invoke(write(1, 0, 2))];
        lost.answer(calls[0], Answer::Written);
        assert!(is_linear(&lost));
        lost.answer(calls[1], Answer::Written);
        assert!(!is_linear(&lost), "both replace the same value");
    }

    #[test]
    fn what_never_returned_may_explain_what_is_read() {
        let (history, _late) = succession();
        assert!(may_end(&history, read(2), Answer::Value(11)));
        assert!(may_end(&history, read(2), Answer::Value(10)));
        assert!(!may_end(&history, read(2), Answer::Value(12)));
    }

    #[test]
    fn guards_follow_each_other_under_rising_tokens() {
        let check = |term| Operation::Check(token(term));
        let mut history = History::default();
        acquire(&mut history, 2);
        assert!(may_end(&history, check(2), Answer::Valid));
        assert!(!may_end(&history, Operation::Acquire, Answer::Acquired(token(1))));
        assert!(!may_end(&history, Operation::Acquire, Answer::Acquired(token(2))), "one token, two offices");
        history.invoke(Operation::Acquire);
        let waits = history.invoke(Operation::Acquire);
        assert!(may_end(&history, check(2), Answer::Valid), "another one may be elected later");
        let mut released = history.clone();
        done(&mut released, Operation::Release(token(2)), Answer::Released);
        assert!(!may_end(&released, check(2), Answer::Valid));
        history.answer(waits, Answer::Acquired(token(3)));
        assert!(may_end(&history, Operation::Release(token(2)), Answer::Released), "a deposed one gives up nothing");
        assert!(may_end(&history, check(3), Answer::Valid));
        assert!(!may_end(&history, check(2), Answer::Valid), "two Masters");
    }

    #[test]
    fn nobody_writes_under_a_token_that_was_never_acquired() {
        let (history, _late) = succession();
        assert!(!may_end(&history, write(3, 10, 30), Answer::Written));
        assert!(!may_end(&history, read(3), Answer::Value(10)));
    }
}
