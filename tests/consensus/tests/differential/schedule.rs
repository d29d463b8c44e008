//! What happens, and when: from a seed.

use std::collections::BTreeSet;

use p2pcore::{
    raft::{Change, Op},
    rng::Rng,
};

use crate::common::{Act, Id, Setting};

#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// One message arrives; numbers are taken modulo what is on the way.
    Deliver(usize),
    /// So many arrive in the order in which they were sent.
    Run(usize),
    Lose(usize),
    Repeat(usize),
    /// The election timeouts of all end, this one's first.
    Elect(Id),
    At(Id, Act),
    /// At the leader of the latest term if there is one, else at this node.
    AtLeader(Id, Act),
    /// Nothing gets from here to there.
    Cut(Id, Id),
    /// Nothing gets from these to the others, nor back.
    Split(BTreeSet<Id>),
    Heal,
    /// Everything on the way arrives, and leaders beat, until nothing changes any more.
    Settle,
}

/// A schedule and the cluster that it is for.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    pub(crate) setting: Setting,
    pub(crate) steps: Vec<Step>,
}

impl Schedule {
    pub(crate) fn new(seed: u64, length: usize) -> Self {
        let mut source = Source { rng: Rng::from_seed([0; 32]).fork("schedule", seed), nodes: 0 };
        let nodes = 3 + source.below(3);
        let setting = Setting {
            nodes,
            founders: if source.one_in(4) { 1 + source.below(nodes) } else { 3 },
            is_chopped: source.one_in(3),
            max_inflight: if source.one_in(3) { 2 } else { 16 },
            max_log: if source.one_in(3) { 6 } else { 1_024 },
        };
        source.nodes = nodes;
        Self { setting, steps: (0..length).map(|place| source.step(place as u64)).collect() }
    }
}

struct Source {
    rng: Rng,
    nodes: u64,
}

impl Source {
    fn step(&mut self, command: u64) -> Step {
        match self.below(100) {
            0..20 => Step::Deliver(self.place()),
            20..42 => Step::Run(self.place() % 20),
            42..46 => Step::Lose(self.place()),
            46..49 => Step::Repeat(self.place()),
            49..58 => Step::Elect(self.node()),
            58..61 => Step::At(self.node(), Act::Restart),
            61..64 => Step::At(self.node(), Act::Silent),
            64..67 => Step::At(self.node(), Act::Campaign),
            67..70 => self.at_leader(Act::Beat),
            70..71 => self.at_leader(Act::CheckQuorum),
            71..80 => self.at_leader(Act::Propose(command)),
            80..87 => {
                let change = self.change();
                self.at_leader(Act::Change(change))
            }
            87..90 => {
                let to = self.node();
                self.at_leader(Act::Transfer(to))
            }
            90..91 => self.at_leader(Act::Abort),
            91..92 => Step::Cut(self.node(), self.node()),
            92..94 => Step::Split((1..=self.nodes).filter(|_| self.one_in(2)).collect()),
            94..97 => Step::Heal,
            _ => Step::Settle,
        }
    }

    fn at_leader(&mut self, act: Act) -> Step {
        if self.one_in(4) { Step::At(self.node(), act) } else { Step::AtLeader(self.node(), act) }
    }

    fn change(&mut self) -> Change<Id> {
        if self.one_in(2) {
            return Change::Simple(vec![self.op()]);
        }
        Change::Joint((0..1 + self.below(3)).map(|_| self.op()).collect())
    }

    fn op(&mut self) -> Op<Id> {
        match self.below(5) {
            0..3 => Op::Voter(self.node()),
            3 => Op::Learner(self.node()),
            _ => Op::Remove(self.node()),
        }
    }

    fn node(&mut self) -> Id {
        1 + self.below(self.nodes)
    }

    fn place(&mut self) -> usize {
        self.below(1_000_000) as usize
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.rng.below(bound)
    }
}
