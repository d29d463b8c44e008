//! The driver of each process: what an adapter does, eagerly or lazily.

use std::{
    collections::VecDeque,
    net::IpAddr,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use p2pcore::{
    Input, Output,
    node::{Datagram, Transmit},
};

use super::{
    Happening, World,
    process::{IPV4, IPV6, Process},
};
use crate::{
    check::pace::Pace,
    machine::Machine,
    net::{Arrival, Packet},
};

/// What a socket's receive buffer holds.
const MAX_INBOX: usize = 512;
/// What the kernel joins (GRO).
const MAX_JOINED: u64 = 64;

impl World {
    pub(super) fn arrive(&mut self, arrival: Arrival) {
        if !self.network.admits(&arrival) {
            return;
        }
        if arrival.host >= self.processes.len() {
            let honest = self.sender_of(&arrival.packet);
            let breach = self.strangers.got(arrival.host, arrival.packet.data.len(), &honest);
            return self.check(breach);
        }
        self.hostile.watch(&arrival);
        let number = arrival.host;
        let process = &mut self.processes[number];
        if process.machine.is_none() || process.port() != arrival.packet.to.port() {
            return;
        }
        if !process.held.is_empty() || process.plan.lazy {
            if process.inbox.len() < MAX_INBOX {
                process.inbox.push_back(arrival.packet);
            }
            if process.held.is_empty() {
                self.touched(number);
            }
            return;
        }
        process.inbox.push_back(arrival.packet);
        self.goes_on(number);
    }

    /// The node wanted to be woken about now.
    pub(super) fn wake(&mut self, number: usize) {
        let process = &mut self.processes[number];
        // an alarm that was set earlier since has taken this one's place
        if process.wake_at != Some(self.now) {
            return;
        }
        process.wake_at = None;
        if !process.held.is_empty() {
            return;
        }
        let Some(deadline) = process.machine.as_ref().and_then(|machine| machine.deadline()) else { return };
        if deadline.at > self.instant(number) {
            return self.set_alarm(number);
        }
        let process = &mut self.processes[number];
        let breach = process.pace.step(self.now, process.id(), deadline.why);
        self.check(breach);
        self.timeout(number);
        self.touched(number);
    }

    /// The lazy driver's moment: takes what waits, and drains all of it or some.
    pub(super) fn lazy_drain(&mut self, number: usize) {
        let process = &mut self.processes[number];
        process.drain_at = None;
        if !process.held.is_empty() {
            return;
        }
        self.take_inbox(number);
        let habit = self.processes[number].choices.below(4);
        if habit < 2 {
            self.timeout(number);
        }
        let transmits = habit != 3;
        self.drain(number, transmits, true);
        if transmits {
            self.set_alarm(number);
        } else {
            self.drain_soon(number);
        }
    }

    /// After each touch of a node: its outputs go out, now or at the lazy driver's leisure.
    pub(super) fn touched(&mut self, number: usize) {
        let process = &self.processes[number];
        if process.draining {
            return;
        }
        self.judge(number);
        let process = &self.processes[number];
        if !process.held.is_empty() {
            return;
        }
        if process.plan.lazy {
            return self.drain_soon(number);
        }
        self.drain(number, true, true);
        self.set_alarm(number);
    }

    /// Gives a command to a running node and lets it go on.
    pub(super) fn command<R>(&mut self, number: usize, give: impl FnOnce(&mut dyn Machine, Instant) -> R) -> Option<R> {
        let now = self.instant(number);
        let result = give(self.processes[number].machine.as_deref_mut()?, now);
        self.touched(number);
        Some(result)
    }

    /// The disk has carried out the oldest order under way, and the node is told.
    pub(super) fn persisted(&mut self, number: usize) {
        let Some(id) = self.processes[number].disk.carry_out() else { return };
        self.judge_disk(number);
        self.trace.note(self.now, number, &id);
        self.input(number, Input::Persisted(id));
        self.touched(number);
    }

    pub(super) fn network_changed(&mut self, number: usize) {
        let addresses = self.network.addresses(number);
        let network = self.processes[number].network(addresses);
        self.trace.note(self.now, number, &network);
        self.input(number, Input::NetworkChanged(network));
        self.touched(number);
    }

    /// A node takes what waits for it, and goes on.
    pub(super) fn goes_on(&mut self, number: usize) {
        self.take_inbox(number);
        self.touched(number);
    }

    fn take_inbox(&mut self, number: usize) {
        loop {
            let Process { inbox, choices, .. } = &mut self.processes[number];
            // a driver without offload hands in one by one
            let most = if inbox.len() < 2 { 1 } else { choices.between(1, MAX_JOINED) };
            let Some(datagram) = join(inbox, most) else { return };
            self.hand_in(number, datagram);
        }
    }

    pub(super) fn input(&mut self, number: usize, input: Input) {
        let now = self.instant(number);
        if let Some(machine) = &mut self.processes[number].machine {
            machine.handle(now, input);
        }
    }

    fn timeout(&mut self, number: usize) {
        self.trace.note(self.now, number, &"timeout");
        self.input(number, Input::Timeout);
    }

    fn hand_in(&mut self, number: usize, datagram: Datagram) {
        self.trace.datagram(self.now, number, &datagram);
        tracing::trace!(
            target: "sim", "{} < {} {} bytes {:02x}", self.processes[number].plan.name, datagram.remote,
            datagram.data.len(), datagram.data.first().unwrap_or(&0)
        );
        self.input(number, Input::Datagram(datagram));
    }

    fn drain(&mut self, number: usize, transmits: bool, events: bool) {
        let now = self.instant(number);
        let deadline = self.processes[number].machine.as_ref().and_then(|machine| machine.deadline());
        self.processes[number].draining = true;
        let outputs = self.drain_all(number, transmits, events);
        self.processes[number].draining = false;
        self.judge(number);
        let due = deadline.is_some_and(|deadline| deadline.at <= now);
        let queued = Pace::queued(self.processes[number].id(), outputs, due);
        self.check(queued);
        let drained = Pace::drained(self.processes[number].id(), outputs);
        if drained.is_err() {
            // nothing more can be learnt from it, and it would fill the memory
            self.end(number, false);
        }
        self.check(drained);
    }

    fn drain_all(&mut self, number: usize, transmits: bool, events: bool) -> usize {
        let now = self.instant(number);
        let mut outputs = 0;
        let mut buffer = Vec::new();
        while outputs < Pace::MAX_OUTPUTS {
            let before = outputs;
            while transmits
                && outputs < Pace::MAX_OUTPUTS
                && let Some(machine) = &mut self.processes[number].machine
            {
                buffer.clear();
                let Some(transmit) = machine.poll_transmit(now, &mut buffer) else { break };
                outputs += 1;
                self.transmit(number, transmit, &buffer);
            }
            while events
                && outputs < Pace::MAX_OUTPUTS
                && let Some(output) = self.processes[number].machine.as_mut().and_then(|m| m.poll())
            {
                outputs += 1;
                self.output(number, output);
            }
            if outputs == before {
                break;
            }
        }
        outputs
    }

    fn transmit(&mut self, number: usize, transmit: Transmit, bytes: &[u8]) {
        self.trace.transmit(self.now, number, &transmit, bytes);
        let (port, to) = (self.processes[number].port(), transmit.destination);
        let data = Bytes::copy_from_slice(&bytes[..transmit.size.min(bytes.len())]);
        let step = transmit.segment_size.unwrap_or(data.len()).max(1);
        let mut arrivals = Vec::new();
        for start in (0..data.len()).step_by(step) {
            let piece = data.slice(start..(start + step).min(data.len()));
            self.network.send(self.now, number, transmit.source, port, to, transmit.ecn, piece, &mut arrivals);
        }
        for (at, arrival) in arrivals {
            self.schedule.push(at, Happening::Arrive(arrival));
        }
    }

    fn output(&mut self, number: usize, output: Output) {
        self.trace.output(self.now, number, &output);
        match output {
            Output::Event(event) => self.event(number, event),
            Output::Persist(persist) => {
                let process = &mut self.processes[number];
                let Some(run) = process.run() else { return };
                let time = Duration::from_micros(process.choices.log_between(50, process.plan.disk_us));
                let done = process.disk.order(self.now, time, persist);
                if let Some(fate) = process.disk.take_trap() {
                    self.schedule.push(self.now + (done - self.now) / 2, Happening::Crash(run, fate));
                }
                self.schedule.push(done, Happening::Persisted(run));
            }
        }
    }

    fn drain_soon(&mut self, number: usize) {
        let process = &mut self.processes[number];
        let Some(run) = process.run().filter(|_| process.drain_at.is_none()) else { return };
        let at = self.now + Duration::from_micros(process.choices.below(process.plan.lazy_us));
        process.drain_at = Some(at);
        self.schedule.push(at, Happening::Drain(run));
    }

    pub(super) fn set_alarm(&mut self, number: usize) {
        let process = &mut self.processes[number];
        let (Some(run), Some(machine)) = (process.run(), &process.machine) else { return };
        let Some(deadline) = machine.deadline() else { return };
        let mut at = process.clock.world(deadline.at.saturating_duration_since(self.epoch)).max(self.now);
        if process.pace.is_spinning() {
            at = at.max(self.now + Duration::from_millis(1));
        }
        if process.wake_at.is_none_or(|earlier| at < earlier) {
            process.wake_at = Some(at);
            self.schedule.push(at, Happening::Wake(run));
        }
    }
}

/// Takes datagrams of one sender off the front, as the kernel joins them: equal lengths, the last one may be shorter.
fn join(inbox: &mut VecDeque<Packet>, most: u64) -> Option<Datagram> {
    let first = inbox.pop_front()?;
    let segment_size = first.data.len();
    let mut data = BytesMut::from(&first.data[..]);
    let mut joined = 1;
    while joined < most
        && segment_size > 0
        && data.len().is_multiple_of(segment_size)
        && let Some(next) = inbox.front()
        && (next.from, next.to, next.ecn) == (first.from, first.to, first.ecn)
        && (1..=segment_size).contains(&next.data.len())
    {
        data.extend_from_slice(&next.data);
        inbox.pop_front();
        joined += 1;
    }
    let local: IpAddr = first.to.ip();
    let socket = if local.is_ipv6() { IPV6 } else { IPV4 };
    Some(Datagram { socket, remote: first.from, local_ip: Some(local), ecn: first.ecn, data, segment_size })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_runs_of_one_sender_and_length_are_joined() {
        let packet = |from: &str, len: usize| Packet {
            from: from.parse().unwrap(),
            to: "[::2]:1".parse().unwrap(),
            ecn: 0,
            data: Bytes::from(vec![len as u8; len]),
        };
        let (a, b) = ("[::1]:1", "[::1]:2");
        let mut inbox =
            [packet(a, 9), packet(a, 9), packet(a, 4), packet(a, 4), packet(b, 4), packet(b, 9), packet(b, 0)].into();
        let mut sizes = Vec::new();
        while let Some(joined) = join(&mut inbox, MAX_JOINED) {
            sizes.push((joined.data.len(), joined.segment_size));
        }
        assert_eq!(sizes, [(22, 9), (4, 4), (4, 4), (9, 9), (0, 0)]);
    }
}
