//! Linearizability: whether the operations of a concurrent history fit into one order that keeps real time and that a
//! sequential specification allows.
//!
//! The search is that of Wing and Gong (1993) with the memo of Lowe (2017): a set of operations that led to a state is
//! looked at once, in whatever order they came.

use std::{collections::HashSet, fmt, hash::Hash};

use crate::rng::FixedState;

/// An object as if all its operations came one after another.
pub trait Specification {
    /// What it remembers.
    type State: Clone + Eq + Hash + fmt::Debug;
    /// What is asked of it.
    type Operation: fmt::Debug;
    /// What it answers.
    type Answer: fmt::Debug;

    /// Before any operation.
    fn initial(&self) -> Self::State;

    /// The state after an operation that was answered like this; `None` where that cannot be. Without an answer: the state
    /// after the operation took effect and nobody heard of it.
    fn apply(
        &self,
        state: &Self::State,
        operation: &Self::Operation,
        answer: Option<&Self::Answer>,
    ) -> Option<Self::State>;
}

/// Names an operation that was invoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call(usize);

/// One operation, from its invocation to its answer, if there was one.
#[derive(Clone, Debug)]
struct Entry<O, A> {
    operation: O,
    invoked: u64,
    answered: Option<(u64, A)>,
}

/// The operations of all clients, as they were invoked and answered. In the simulator one thing happens after another: the
/// order of the calls of this type is the real time.
#[derive(Clone, Debug)]
pub struct History<O, A> {
    entries: Vec<Entry<O, A>>,
    time: u64,
}

impl<O, A> Default for History<O, A> {
    fn default() -> Self {
        Self { entries: Vec::new(), time: 0 }
    }
}

impl<O: fmt::Debug, A: fmt::Debug> History<O, A> {
    /// A client invokes an operation.
    pub fn invoke(&mut self, operation: O) -> Call {
        let entry = Entry { operation, invoked: self.tick(), answered: None };
        self.entries.push(entry);
        Call(self.entries.len() - 1)
    }

    /// A client gets its answer. Whoever never calls this leaves open whether the operation took effect.
    pub fn answer(&mut self, call: Call, answer: A) {
        let time = self.tick();
        self.entries[call.0].answered = Some((time, answer));
    }

    /// How many operations there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Looks for an order of all answered operations, and of any others that may have taken effect.
    ///
    /// # Errors
    /// There is none: how far the best attempt came.
    pub fn check<S>(&self, specification: &S) -> Result<(), NotLinearizable>
    where
        S: Specification<Operation = O, Answer = A>,
    {
        let first = Node { placed: Placed::new(self.entries.len()), count: 0, state: specification.initial() };
        let mut seen = HashSet::<_, FixedState>::default();
        let mut deepest = first.clone();
        let mut stack = vec![first];
        while let Some(node) = stack.pop() {
            let Some(end) = self.first_end(&node.placed) else { return Ok(()) };
            if node.count > deepest.count {
                deepest = node.clone();
            }
            // whoever was invoked after somebody else's answer cannot come before it
            let may_come = |(n, entry): &(usize, &Entry<O, A>)| entry.invoked < end && !node.placed.contains(*n);
            for (n, entry) in self.entries.iter().enumerate().filter(may_come).rev() {
                let answer = entry.answered.as_ref().map(|(_, answer)| answer);
                let Some(state) = specification.apply(&node.state, &entry.operation, answer) else { continue };
                let next = Node { placed: node.placed.with(n), count: node.count + 1, state };
                if seen.insert((next.placed.clone(), next.state.clone())) {
                    stack.push(next);
                }
            }
        }
        Err(self.refusal(&deepest))
    }

    fn tick(&mut self) -> u64 {
        self.time += 1;
        self.time
    }

    /// The earliest answer among the operations that have no place yet; `None` if all that were answered have one.
    fn first_end(&self, placed: &Placed) -> Option<u64> {
        let open = self.entries.iter().enumerate().filter(|(n, _)| !placed.contains(*n));
        open.filter_map(|(_, entry)| entry.answered.as_ref().map(|(time, _)| *time)).min()
    }

    fn refusal<S: fmt::Debug>(&self, deepest: &Node<S>) -> NotLinearizable {
        let end = self.first_end(&deepest.placed).unwrap_or(u64::MAX);
        let mut text = format!("{} operations fit, then no further one does, in {:?}:", deepest.count, deepest.state);
        for (n, entry) in self.entries.iter().enumerate() {
            if entry.invoked < end && !deepest.placed.contains(n) {
                let answer = entry.answered.as_ref().map(|(_, answer)| answer);
                text += &format!("\n  {n}: {:?}, answered {answer:?}", entry.operation);
            }
        }
        NotLinearizable(text)
    }
}

/// Why no order was found: the state after the longest one, and the operations none of which could come next.
#[derive(Clone, PartialEq, Eq)]
pub struct NotLinearizable(String);

impl fmt::Debug for NotLinearizable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A place in the search.
#[derive(Clone, Debug)]
struct Node<S> {
    placed: Placed,
    count: usize,
    state: S,
}

/// The operations that have their place, one bit each.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Placed(Box<[u64]>);

impl Placed {
    fn new(operations: usize) -> Self {
        Self(vec![0; operations.div_ceil(64)].into())
    }

    fn contains(&self, n: usize) -> bool {
        self.0[n / 64] & (1 << (n % 64)) != 0
    }

    fn with(&self, n: usize) -> Self {
        let mut more = self.clone();
        more.0[n / 64] |= 1 << (n % 64);
        more
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Stream;

    /// A number that is read and written.
    struct Register;

    #[derive(Clone, Copy, Debug)]
    enum Op {
        Read,
        Write(u8),
    }

    impl Specification for Register {
        type State = u8;
        type Operation = Op;
        type Answer = u8;

        fn initial(&self) -> u8 {
            0
        }

        fn apply(&self, state: &u8, operation: &Op, answer: Option<&u8>) -> Option<u8> {
            match operation {
                Op::Read => answer.is_none_or(|answer| answer == state).then_some(*state),
                Op::Write(value) => Some(*value),
            }
        }
    }

    type Of = History<Op, u8>;

    fn is_linear(history: &Of) -> bool {
        history.check(&Register).is_ok()
    }

    fn done(history: &mut Of, operation: Op, answer: u8) {
        let call = history.invoke(operation);
        history.answer(call, answer);
    }

    #[test]
    fn one_after_the_other_must_be_as_specified() {
        let mut history = Of::default();
        assert!(history.is_empty() && is_linear(&history));
        done(&mut history, Op::Read, 0);
        done(&mut history, Op::Write(1), 0);
        done(&mut history, Op::Read, 1);
        assert!(is_linear(&history));
        done(&mut history, Op::Read, 0);
        assert_eq!(history.len(), 4);
        let refusal = format!("{:?}", history.check(&Register).unwrap_err());
        assert_eq!(refusal, "3 operations fit, then no further one does, in 1:\n  3: Read, answered Some(0)");
    }

    #[test]
    fn what_happens_at_once_may_come_in_any_order_but_in_one_only() {
        for (reads, is_fine) in [([0, 0], true), ([0, 1], true), ([1, 1], true), ([1, 0], false)] {
            let mut history = Of::default();
            let write = history.invoke(Op::Write(1));
            reads.into_iter().for_each(|value| done(&mut history, Op::Read, value));
            history.answer(write, 0);
            assert_eq!(is_linear(&history), is_fine, "{reads:?}");
        }
    }

    #[test]
    fn what_never_returned_may_have_happened_at_any_time_since_or_never() {
        for (reads, is_fine) in [([0, 0], true), ([0, 1], true), ([1, 1], true), ([1, 0], false), ([2, 0], false)] {
            let mut history = Of::default();
            history.invoke(Op::Write(1));
            reads.into_iter().for_each(|value| done(&mut history, Op::Read, value));
            assert_eq!(is_linear(&history), is_fine, "{reads:?}");
        }
        let mut history = Of::default();
        done(&mut history, Op::Read, 1);
        history.invoke(Op::Write(1));
        assert!(!is_linear(&history), "not before it was invoked");
    }

    #[test]
    fn many_that_never_returned_do_not_hide_a_stale_read() {
        let mut history = Of::default();
        (10..16).for_each(|value| _ = history.invoke(Op::Write(value)));
        for value in 20..80 {
            done(&mut history, Op::Write(value), 0);
            done(&mut history, Op::Read, value);
        }
        assert!(is_linear(&history));
        done(&mut history, Op::Read, 20);
        assert!(!is_linear(&history));
    }

    /// Up to `width` clients at once; `wrong` of ten answers are drawn, the others are what the register had in between, and
    /// two of ten never come.
    fn random(rng: &mut Stream, operations: usize, width: usize, wrong: u64) -> Of {
        let (mut history, mut value) = (Of::default(), 0);
        let mut clients: Vec<Option<(Call, Op, Option<u8>)>> = vec![None; width];
        while history.len() < operations || clients.iter().any(Option::is_some) {
            let client = &mut clients[rng.below(width as u64) as usize];
            *client = match *client {
                None if history.len() == operations => None,
                None => {
                    let operation = if rng.chance(500_000) { Op::Read } else { Op::Write(rng.below(3) as u8) };
                    Some((history.invoke(operation), operation, None))
                }
                Some((call, operation, None)) => {
                    let answer = if rng.below(10) < wrong { rng.below(3) as u8 } else { value };
                    if let Op::Write(written) = operation {
                        value = written;
                    }
                    Some((call, operation, Some(answer)))
                }
                Some((call, _, Some(answer))) => {
                    if rng.chance(800_000) {
                        history.answer(call, answer);
                    }
                    None
                }
            };
        }
        history
    }

    /// Tries every order of every part of the operations.
    fn by_brute_force(history: &Of, order: &mut Vec<usize>) -> bool {
        let entries = &history.entries;
        let is_answered = |n: &usize| entries[*n].answered.is_some();
        let mut state = Some(0);
        for n in order.iter() {
            let answer = entries[*n].answered.as_ref().map(|(_, answer)| answer);
            state = state.and_then(|state| Register.apply(&state, &entries[*n].operation, answer));
        }
        let before = |one: usize, other: usize| {
            entries[one].answered.as_ref().is_some_and(|(end, _)| *end < entries[other].invoked)
        };
        let is_ordered =
            order.iter().enumerate().all(|(at, later)| order[at..].iter().all(|earlier| !before(*earlier, *later)));
        if state.is_none() || !is_ordered {
            return false;
        }
        let left: Vec<usize> = (0..entries.len()).filter(|n| !order.contains(n)).collect();
        if !left.iter().any(is_answered) {
            return true;
        }
        left.into_iter().any(|n| {
            order.push(n);
            let is_found = by_brute_force(history, order);
            order.pop();
            is_found
        })
    }

    #[test]
    fn it_agrees_with_trying_every_order() {
        let mut rng = Stream::new(1, "histories", 0);
        let mut verdicts = [0; 2];
        for _ in 0..2_000 {
            let history = random(&mut rng, 6, 3, 5);
            let verdict = is_linear(&history);
            assert_eq!(verdict, by_brute_force(&history, &mut Vec::new()), "{history:?}");
            verdicts[usize::from(verdict)] += 1;
        }
        assert!(verdicts.iter().all(|count| *count > 200), "{verdicts:?}");
    }

    #[test]
    fn whatever_a_register_really_did_is_accepted() {
        let mut rng = Stream::new(2, "histories", 0);
        for _ in 0..300 {
            let history = random(&mut rng, 100, 5, 0);
            assert_eq!(history.check(&Register), Ok(()), "{history:?}");
        }
    }
}
