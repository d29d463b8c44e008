//! Requests: handed at most once, to the Id that was asked, and exactly one reply each, the right one.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use p2pcore::{Id, Reason, master::Token, node::RequestId};

use super::{Breach, Run};
use crate::payload::{self, Kind};

/// All requests of a run of the simulator.
#[derive(Clone, Debug, Default)]
pub struct Requests {
    next: u64,
    all: BTreeMap<u64, Request>,
    numbers: BTreeMap<(Run, RequestId), u64>,
    /// Those without a reply, which is all that is ever looked through.
    open: BTreeMap<u64, Run>,
}

#[derive(Clone, Debug)]
struct Request {
    from_id: Id,
    to: Id,
    handed: bool,
    replied: bool,
    due: Duration,
    /// It is for whoever is Master under this token.
    fence: Option<Token>,
    /// What the receiver held when it was answered.
    held: Option<Token>,
}

impl Requests {
    /// The number for the next payload.
    pub fn next_number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// What the simulated application answers; it refuses some.
    pub fn answer(number: u64) -> Result<Bytes, Reason> {
        if number.is_multiple_of(7) {
            Err(Reason::Refused)
        } else {
            Ok(payload::make(Kind::Reply, number, (number as usize).wrapping_mul(131) % 3_000))
        }
    }

    /// The node accepted request `number`.
    pub fn asked(&mut self, from: Run, from_id: Id, request: RequestId, number: u64, to: Id, due: Duration) {
        self.numbers.insert((from, request), number);
        self.open.insert(number, from);
        self.all.insert(number, Request { from_id, to, handed: false, replied: false, due, fence: None, held: None });
    }

    /// Request `number` is for whoever is Master under the token `fence`.
    ///
    /// # Errors
    /// Another one was asked.
    pub fn is_to_master(&mut self, number: u64, fence: Option<Token>) -> Result<(), Breach> {
        let Some(request) = self.all.get_mut(&number) else { return Ok(()) };
        request.fence = fence;
        let what = || format!("request {number} goes to {}, the Master is {fence:?}", request.to);
        if fence.is_some_and(|fence| fence.id == request.to) {
            Ok(())
        } else {
            Err(Breach::new("to_master", [request.from_id, request.to], what()))
        }
    }

    /// The application answers request `number`; `held` is the token under which it is Master at that moment.
    pub fn answers(&mut self, number: u64, held: Option<Token>) {
        if let Some(request) = self.all.get_mut(&number) {
            request.held = held;
        }
    }

    /// A node hands a request to its application; returns the number.
    ///
    /// # Errors
    /// Not what was asked, not whom, or twice.
    pub fn handed(&mut self, to: Id, from: Id, data: &[u8]) -> Result<u64, Breach> {
        let breach = |checker, what: String| Err(Breach::new(checker, [from, to], what));
        let number = payload::check(Kind::Request, data);
        let Some((number, request)) = number.and_then(|number| Some((number, self.all.get_mut(&number)?))) else {
            return breach("payload_intact", format!("handed a request of {} bytes that nobody sent", data.len()));
        };
        if request.from_id != from {
            return breach("payload_intact", format!("request {number} was handed under another sender"));
        }
        if request.to != to {
            return breach("right_id", format!("request {number} was handed to an Id that was not asked"));
        }
        if std::mem::replace(&mut request.handed, true) {
            return breach("at_most_once", format!("request {number} was handed twice"));
        }
        Ok(number)
    }

    /// A node reports the reply.
    ///
    /// # Errors
    /// A second one, one of nothing, or a wrong one.
    pub fn replied(
        &mut self,
        run: Run,
        id: Id,
        request: RequestId,
        from: Id,
        result: &Result<Bytes, Reason>,
    ) -> Result<(), Breach> {
        let breach = |checker, what: String| Err(Breach::new(checker, [id, from], what));
        let number = self.numbers.get(&(run, request)).copied();
        let Some((number, request)) = number.and_then(|number| Some((number, self.all.get_mut(&number)?))) else {
            return breach("one_reply", format!("a reply to {request:?}, which names no request"));
        };
        self.open.remove(&number);
        if std::mem::replace(&mut request.replied, true) {
            return breach("one_reply", format!("request {number} has two replies"));
        }
        if request.to != from {
            return breach("right_id", format!("the reply to request {number} is said to come from another Id"));
        }
        if result.is_ok() && (*result != Self::answer(number) || !request.handed) {
            return breach("payload_intact", format!("the reply to request {number} is not what was answered"));
        }
        if result.is_ok() && request.fence.is_some() && request.held != request.fence {
            let what = format!("request {number} to {:?} was answered under {:?}", request.fence, request.held);
            return breach("to_master", what);
        }
        Ok(())
    }

    /// A node died: nobody waits any more.
    pub fn died(&mut self, run: Run) {
        self.open.retain(|_, from| *from != run);
    }

    /// A node's clock stood still for `time`: its replies are due so much later.
    pub fn slept(&mut self, run: Run, time: Duration) {
        for (number, _) in self.open.iter().filter(|(_, from)| **from == run) {
            if let Some(request) = self.all.get_mut(number) {
                request.due += time;
            }
        }
    }

    /// How many wait for their reply.
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// The replies that are overdue; each is told once.
    pub fn overdue(&mut self, now: Duration, excused: impl Fn(Run) -> bool) -> Vec<Breach> {
        let late: Vec<(u64, Run)> =
            self.open.iter().filter(|(number, _)| self.all[number].due < now).map(|(n, run)| (*n, *run)).collect();
        let mut breaches = Vec::new();
        for (number, run) in late {
            let Some(request) = self.all.get_mut(&number) else { continue };
            if excused(run) {
                request.due = now + Duration::from_secs(5);
                continue;
            }
            self.open.remove(&number);
            let what = format!("request {number} has no reply in time");
            breaches.push(Breach::new("one_reply", [request.from_id, request.to], what));
        }
        breaches
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::id;

    const RUN: Run = Run { process: 0, run: 1 };
    const DUE: Duration = Duration::from_secs(10);

    fn asked() -> (Requests, Bytes) {
        let mut requests = Requests::default();
        let number = requests.next_number();
        requests.asked(RUN, id(1), RequestId(5), number, id(2), DUE);
        (requests, payload::make(Kind::Request, number, 40))
    }

    #[test]
    fn the_good_way_is_silent() {
        let (mut requests, data) = asked();
        assert_eq!(requests.handed(id(2), id(1), &data), Ok(1));
        assert_eq!(requests.replied(RUN, id(1), RequestId(5), id(2), &Requests::answer(1)), Ok(()));
        assert_eq!((requests.open(), requests.overdue(DUE * 2, |_| false)), (0, vec![]));
    }

    #[test]
    fn wrong_handing_is_seen() {
        let (mut requests, data) = asked();
        assert_eq!(requests.handed(id(3), id(1), &data).unwrap_err().checker, "right_id");
        assert_eq!(requests.handed(id(2), id(3), &data).unwrap_err().checker, "payload_intact");
        assert_eq!(requests.handed(id(2), id(1), &data[1..]).unwrap_err().checker, "payload_intact");
        requests.handed(id(2), id(1), &data).unwrap();
        assert_eq!(requests.handed(id(2), id(1), &data).unwrap_err().checker, "at_most_once");
    }

    #[test]
    fn wrong_replies_are_seen() {
        let (mut requests, data) = asked();
        let replied = |requests: &mut Requests, request, from, result| {
            requests.replied(RUN, id(1), RequestId(request), from, &result).map_err(|breach| breach.checker)
        };
        assert_eq!(
            replied(&mut requests.clone(), 5, id(2), Requests::answer(1)),
            Err("payload_intact"),
            "never handed"
        );
        requests.handed(id(2), id(1), &data).unwrap();
        assert_eq!(replied(&mut requests.clone(), 6, id(2), Requests::answer(1)), Err("one_reply"));
        assert_eq!(replied(&mut requests.clone(), 5, id(3), Requests::answer(1)), Err("right_id"));
        assert_eq!(replied(&mut requests.clone(), 5, id(2), Requests::answer(2)), Err("payload_intact"));
        assert_eq!(replied(&mut requests, 5, id(2), Err(Reason::Timeout)), Ok(()));
        assert_eq!(replied(&mut requests, 5, id(2), Err(Reason::Timeout)), Err("one_reply"));
    }

    #[test]
    fn what_the_master_is_asked_it_answers_as_that_master() {
        let token = |term| Some(Token { generation: 1, kind: p2pcore::master::Kind::Elected, term, id: id(2) });
        for (held, is_right) in [(token(3), true), (token(4), false), (None, false)] {
            let (mut requests, data) = asked();
            assert_eq!(requests.is_to_master(1, token(3)), Ok(()));
            requests.handed(id(2), id(1), &data).unwrap();
            requests.answers(1, held);
            let replied = requests.replied(RUN, id(1), RequestId(5), id(2), &Requests::answer(1));
            assert_eq!(replied.map_err(|breach| breach.checker), if is_right { Ok(()) } else { Err("to_master") });
        }
        assert_eq!(asked().0.is_to_master(1, None).unwrap_err().checker, "to_master");
    }

    #[test]
    fn a_missing_reply_is_seen_once() {
        let (mut requests, _) = asked();
        assert!(requests.overdue(DUE * 2, |_| true).is_empty());
        assert_eq!(requests.overdue(DUE * 3, |_| false)[0].checker, "one_reply");
        assert!(requests.overdue(DUE * 4, |_| false).is_empty());
        let (mut requests, _) = asked();
        requests.slept(RUN, DUE);
        assert!(requests.overdue(DUE * 2, |_| false).is_empty());
        assert_eq!(requests.overdue(DUE * 3, |_| false).len(), 1);
        let (mut requests, _) = asked();
        requests.died(RUN);
        assert!(requests.overdue(DUE * 3, |_| false).is_empty());
    }
}
