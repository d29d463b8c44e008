//! What a scenario does to the world, by the names of its nodes. An unknown name is a mistake in the scenario: it panics.

use std::time::Duration;

use bytes::Bytes;
use p2pcore::{
    CommandError, Id,
    node::{MemberCommand, Outcome},
};

use super::World;
use crate::{
    check::Run,
    plan::{Act, Effect, Selector},
};

/// A message that a scenario sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    number: u64,
    to: Id,
}

/// An effect on some ways that a scenario began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun(u64);

/// The ids of a scenario's own effects start here, out of the way of those of plans.
const OWN: u64 = 1 << 63;

impl World {
    /// Lets `time` pass.
    pub fn run_for(&mut self, time: Duration) {
        self.run_until(self.now + time);
    }

    /// Lets time pass until `met` holds; returns how long that took.
    ///
    /// # Panics
    /// When it does not hold after `within`, or a promise was broken.
    #[track_caller]
    pub fn expect(&mut self, what: &str, within: Duration, mut met: impl FnMut(&mut Self) -> bool) -> Duration {
        const STEP: Duration = Duration::from_millis(10);
        let start = self.now;
        while !met(self) {
            assert!(self.violations().is_empty(), "waiting for: {what}\n{:#?}", self.violations());
            let waited = self.now - start;
            assert!(waited < within, "not within {within:?}: {what}\n{:#?}", self.unconverged());
            self.run_for(STEP);
        }
        self.now - start
    }

    /// Panics if a promise was broken.
    ///
    /// # Panics
    /// See above.
    #[track_caller]
    pub fn assert_clean(&self) {
        assert!(self.violations().is_empty(), "{:#?}", self.violations());
    }

    /// Kills a node: no goodbye.
    pub fn kill(&mut self, name: &str) {
        self.end(self.number(name), false);
    }

    /// Starts a node that does not run.
    pub fn revive(&mut self, name: &str) {
        self.start(self.number(name));
    }

    /// Takes the state of a node that does not run.
    pub fn lose_disk(&mut self, name: &str) {
        let number = self.number(name);
        self.processes[number].disk.lose();
    }

    /// Gives a node that does not run other introducers.
    pub fn introduce(&mut self, name: &str, servers: &[&str]) {
        let number = self.number(name);
        self.processes[number].plan.join = servers.iter().map(|name| (*name).to_owned()).collect();
    }

    /// Stops a node with a goodbye.
    pub fn stop(&mut self, name: &str) {
        self.leave(self.number(name));
    }

    /// A node stands still until [`wake_up`](Self::wake_up).
    pub fn pause(&mut self, name: &str) {
        self.hold(self.number(name), OWN);
    }

    /// A node that stood still goes on.
    pub fn wake_up(&mut self, name: &str) {
        self.let_go(self.number(name), OWN);
    }

    /// A machine sleeps until [`wake_up`](Self::wake_up): its clock stands still too.
    pub fn sleep(&mut self, name: &str) {
        self.fall_asleep(self.number(name), OWN);
    }

    /// The clock of a host jumps forward, and nobody is told.
    pub fn jump(&mut self, name: &str, by: Duration) {
        self.clock_jumps(self.number(name), by);
    }

    /// A server is told to change the members or what they do. It is judged like everything else whether that is done.
    ///
    /// # Errors
    /// What the node says.
    ///
    /// # Panics
    /// When the node does not run.
    #[track_caller]
    pub fn change_members(&mut self, name: &str, command: MemberCommand) -> Result<(), CommandError> {
        let number = self.number(name);
        self.trace.note(self.now, number, &command);
        let result = self.command(number, |machine, now| machine.change_members(now, command));
        result.unwrap_or_else(|| panic!("{name} does not run"))
    }

    /// A server gives up the office of Master.
    ///
    /// # Errors
    /// What the node says.
    ///
    /// # Panics
    /// When the node does not run.
    #[track_caller]
    pub fn resign(&mut self, name: &str) -> Result<(), CommandError> {
        let number = self.number(name);
        let result = self.act(number, &Act::Resign);
        result.unwrap_or_else(|| panic!("{name} does not run"))
    }

    /// Takes one interface of a host down or up; its node is told.
    pub fn interface(&mut self, name: &str, interface: u8, up: bool) {
        self.set_interface(self.number(name), interface, up);
    }

    /// Begins an effect on some ways.
    pub fn begin(&mut self, on: &Selector, effect: Effect) -> Begun {
        let id = OWN + self.network.begun();
        self.network.begin(id, on, effect);
        Begun(id)
    }

    /// Cuts two hosts off from each other.
    pub fn cut(&mut self, one: &str, other: &str) -> Begun {
        self.begin(&Selector::way(one, other, true), Effect::Block)
    }

    /// Nothing from `from` gets to `to` any more, though the way back works.
    pub fn cut_one_way(&mut self, from: &str, to: &str) -> Begun {
        self.begin(&Selector::way(from, to, false), Effect::Block)
    }

    /// Ends an effect.
    pub fn mend(&mut self, begun: Begun) {
        self.network.end(begun.0);
    }

    /// Sends a message of `len` bytes.
    ///
    /// # Panics
    /// When the node does not run or does not accept it.
    #[track_caller]
    pub fn send(&mut self, from: &str, to: &str, len: usize) -> Sent {
        self.try_send(from, to, len, 0).unwrap_or_else(|| panic!("{from} does not accept a message to {to}"))
    }

    /// Sends a message of `len` bytes in a lane; `None` if the node does not accept it.
    pub fn try_send(&mut self, from: &str, to: &str, len: usize, lane: u8) -> Option<Sent> {
        let (from, to) = (self.number(from), self.id(to));
        let number = self.app_sends(from, &[to], len, lane, None)?;
        Some(Sent { number, to })
    }

    /// Sends a message of `len` bytes that is of use for `ttl` only; `None` if the node does not accept it.
    pub fn try_send_within(&mut self, from: &str, to: &str, len: usize, ttl: Duration) -> Option<Sent> {
        let (from, to) = (self.number(from), self.id(to));
        let number = self.app_sends(from, &[to], len, 0, Some(ttl))?;
        Some(Sent { number, to })
    }

    /// Sends a message of `len` bytes to whoever is Master; `None` if the node does not accept it.
    pub fn send_to_master(&mut self, from: &str, len: usize) -> Option<Sent> {
        let (number, to) = self.app_tells_master(self.number(from), len, None)?;
        Some(Sent { number, to })
    }

    /// Asks whoever is Master; the answer is checked like everything else.
    pub fn ask_master(&mut self, from: &str, len: usize) -> bool {
        self.app_asks_master(self.number(from), len, None).is_some()
    }

    /// Asks for a reply; the answer is checked like everything else.
    pub fn ask(&mut self, from: &str, to: &str, len: usize) -> bool {
        let (from, to) = (self.number(from), self.id(to));
        self.app_asks(from, to, len, None).is_some()
    }

    /// Writes `len` bytes to a stream of their own; returns its number.
    ///
    /// # Panics
    /// When the node does not run or does not know the other one.
    #[track_caller]
    pub fn stream(&mut self, from: &str, to: &str, len: u64) -> u64 {
        let (number, id) = (self.number(from), self.id(to));
        self.app_streams(number, id, len).unwrap_or_else(|| panic!("{from} opens no stream to {to}"))
    }

    /// The same; `None` if the node does not open one.
    pub fn try_stream(&mut self, from: &str, to: &str, len: u64) -> Option<u64> {
        let (number, id) = (self.number(from), self.id(to));
        self.app_streams(number, id, len)
    }

    /// Sends bytes to a node from a host that has no key; the bytes are not those of any node.
    pub fn stranger(&mut self, to: &str, bytes: &[u8]) {
        let target = self.number(to);
        let host = self.hostile.own_host(&mut self.network);
        for ipv6 in [false, true] {
            self.stranger_sends(host, target, ipv6, Bytes::copy_from_slice(bytes), false);
        }
    }

    /// The outcome of a message, if it has one.
    pub fn outcome(&self, sent: Sent) -> Option<Outcome> {
        self.ledger.outcome_of(sent.number, sent.to)
    }

    /// Whether a message was handed to the receiving application.
    pub fn was_handed(&self, sent: Sent) -> bool {
        self.ledger.was_handed(sent.number, sent.to)
    }

    /// How many messages wait for their outcome.
    pub fn open_messages(&mut self) -> usize {
        self.ledger.open()
    }

    #[track_caller]
    pub(super) fn number(&self, name: &str) -> usize {
        self.named(name).unwrap_or_else(|| panic!("there is no node {name} in this scenario"))
    }

    pub(super) fn current(&self, name: &str) -> Option<Run> {
        self.processes[self.number(name)].run()
    }
}
