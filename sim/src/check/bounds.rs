//! Links and times: `suspended` comes soon after the last server link is lost, a vanished server's link is lost in time.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use p2pcore::{Id, node::Event};

use super::{Breach, Run};

/// What each running node says about its own links to servers.
#[derive(Clone, Debug, Default)]
pub struct Bounds {
    /// How much longer the slowest clock takes for a million of anything.
    slower: u32,
    nodes: BTreeMap<Run, Node>,
    /// Nodes that vanished without goodbye, and when.
    vanished: BTreeMap<Id, Duration>,
}

#[derive(Clone, Debug)]
struct Node {
    id: Id,
    linked: BTreeMap<Id, Duration>,
    /// Since when the next `Suspended` or `Resumed` is owed.
    owed: Option<Duration>,
    suspended: Option<bool>,
    told: BTreeSet<Id>,
}

impl Bounds {
    /// From the loss of the last server link to `Suspended`.
    pub const SUSPENDED: Duration = Duration::from_secs(1);
    /// From the vanishing of the other end to the loss of an idle link.
    pub const IDLE: Duration = Duration::from_secs(30);
    /// A driver may be lazy, and a check comes every 100 ms.
    const SLACK: Duration = Duration::from_millis(500);

    /// For clocks that run slow by `ppm` at most.
    pub fn new(ppm: u32) -> Self {
        let slower = u64::from(ppm) * 1_000_000 / u64::from(1_000_000_u32.saturating_sub(ppm)).max(1);
        Self { slower: u32::try_from(slower).unwrap_or(u32::MAX), ..Self::default() }
    }

    /// So long by the slowest clock, and what is granted besides.
    fn at_most(&self, time: Duration) -> Duration {
        time + time * self.slower / 1_000_000 + Self::SLACK
    }

    /// A node began a run.
    pub fn started(&mut self, run: Run, id: Id) {
        self.vanished.remove(&id);
        let told = BTreeSet::new();
        self.nodes.insert(run, Node { id, linked: BTreeMap::new(), owed: None, suspended: None, told });
    }

    /// A node's run ended; without a goodbye the others have to find out.
    pub fn ended(&mut self, run: Run, now: Duration, goodbye: bool) {
        if let Some(node) = self.nodes.remove(&run)
            && !goodbye
        {
            self.vanished.insert(node.id, now);
        }
    }

    /// A node told its application something.
    ///
    /// # Errors
    /// It contradicts what it told before.
    pub fn event(&mut self, run: Run, now: Duration, event: &Event) -> Result<(), Breach> {
        let Some(node) = self.nodes.get_mut(&run) else { return Ok(()) };
        let breach = |what: &str, other: &[Id]| Err(Breach::new("links_true", [&[node.id], other].concat(), what));
        match event {
            Event::ServerUp { id, .. } => {
                if node.linked.insert(*id, now).is_some() {
                    return breach("server up, though it was up", &[*id]);
                }
                node.owed = (node.suspended == Some(true)).then_some(now);
            }
            Event::ServerDown { id, .. } => {
                node.told.remove(id);
                if node.linked.remove(id).is_none() {
                    return breach("server down, though it was down", &[*id]);
                }
                if node.linked.is_empty() && !node.id.is_server() && node.suspended != Some(true) {
                    node.owed = Some(now);
                }
            }
            Event::Suspended => {
                if node.suspended == Some(true) || !node.linked.is_empty() {
                    return breach("suspended, though it was so or has a link", &[]);
                }
                (node.suspended, node.owed) = (Some(true), None);
            }
            Event::Resumed => {
                if node.suspended != Some(true) || node.linked.is_empty() {
                    return breach("resumed, though it was not suspended or has no link", &[]);
                }
                (node.suspended, node.owed) = (Some(false), None);
            }
            _ => {}
        }
        Ok(())
    }

    /// What is overdue; each is told once. Nodes for which `excused` holds stood still.
    pub fn overdue(&mut self, now: Duration, excused: impl Fn(Run) -> bool) -> Vec<Breach> {
        let mut breaches = Vec::new();
        let (suspended, idle) = (self.at_most(Self::SUSPENDED), self.at_most(Self::IDLE));
        for (run, node) in self.nodes.iter_mut().filter(|(run, _)| !excused(**run)) {
            if node.owed.is_some_and(|since| since + suspended < now) {
                node.owed = None;
                let what = format!("run {} owes suspended or resumed for over a second", run.run);
                breaches.push(Breach::new("suspended_in_time", [node.id], what));
            }
            for (server, up) in &node.linked {
                let Some(since) = self.vanished.get(server) else { continue };
                if (*since).max(*up) + idle < now && node.told.insert(*server) {
                    breaches.push(Breach::new("dead_link_left", [node.id, *server], "still linked 30 s after its end"));
                }
            }
        }
        breaches
    }

    /// Gives everybody who stood still a new start: its time was not its own.
    pub fn excuse(&mut self, run: Run, now: Duration) {
        if let Some(node) = self.nodes.get_mut(&run) {
            node.owed = node.owed.map(|_| now);
            node.linked.values_mut().for_each(|up| *up = now);
        }
    }

    /// The servers that a node says it is linked to.
    pub fn linked(&self, run: Run) -> impl Iterator<Item = Id> {
        self.nodes.get(&run).into_iter().flat_map(|node| node.linked.keys().copied())
    }
}

#[cfg(test)]
mod tests {
    use p2pcore::{Name, PublicKey, Role};

    use super::*;
    use crate::check::testing::id;

    const RUN: Run = Run { process: 0, run: 1 };
    const OTHER: Run = Run { process: 1, run: 1 };

    fn server() -> Id {
        Id::from_key(Role::Server, &PublicKey([9; 32]))
    }

    fn up() -> Event {
        Event::ServerUp { id: server(), name: Name::default() }
    }

    fn down() -> Event {
        Event::ServerDown { id: server(), name: Name::default() }
    }

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn linked() -> Bounds {
        let mut bounds = Bounds::default();
        bounds.started(RUN, id(1));
        bounds.started(OTHER, server());
        bounds.event(RUN, at(0), &up()).unwrap();
        bounds
    }

    fn names(breaches: Vec<Breach>) -> Vec<&'static str> {
        breaches.into_iter().map(|breach| breach.checker).collect()
    }

    #[test]
    fn suspended_and_resumed_are_owed_within_a_second() {
        let mut bounds = linked();
        bounds.event(RUN, at(100), &down()).unwrap();
        assert!(bounds.clone().overdue(at(1_000), |_| false).is_empty());
        assert_eq!(names(bounds.clone().overdue(at(2_000), |_| false)), ["suspended_in_time"]);
        bounds.event(RUN, at(200), &Event::Suspended).unwrap();
        assert!(bounds.overdue(at(60_000), |_| false).is_empty());
        bounds.event(RUN, at(60_000), &up()).unwrap();
        assert_eq!(names(bounds.clone().overdue(at(62_000), |_| false)), ["suspended_in_time"]);
        bounds.event(RUN, at(60_001), &Event::Resumed).unwrap();
        assert!(bounds.overdue(at(90_000), |_| false).is_empty());
    }

    #[test]
    fn contradictions_are_seen() {
        let mut bounds = linked();
        for event in [up(), Event::Suspended, Event::Resumed] {
            assert_eq!(bounds.clone().event(RUN, at(1), &event).unwrap_err().checker, "links_true");
        }
        bounds.event(RUN, at(1), &down()).unwrap();
        assert_eq!(bounds.event(RUN, at(1), &down()).unwrap_err().checker, "links_true");
    }

    #[test]
    fn a_link_to_a_vanished_server_is_left_within_30_s() {
        let mut bounds = linked();
        bounds.ended(OTHER, at(1_000), false);
        assert!(bounds.overdue(at(31_000), |_| false).is_empty());
        assert!(bounds.clone().overdue(at(32_000), |run| run == RUN).is_empty());
        assert_eq!(names(bounds.overdue(at(32_000), |_| false)), ["dead_link_left"]);
        assert!(bounds.overdue(at(33_000), |_| false).is_empty(), "told once");
        let mut slow = Bounds { slower: Bounds::new(100_000).slower, ..linked() };
        slow.ended(OTHER, at(1_000), false);
        assert!(slow.overdue(at(34_000), |_| false).is_empty());
        assert_eq!(names(slow.overdue(at(35_000), |_| false)), ["dead_link_left"]);
        let mut back = linked();
        back.ended(OTHER, at(1_000), false);
        back.started(Run { run: 2, ..OTHER }, server());
        assert!(back.overdue(at(60_000), |_| false).is_empty());
    }
}
