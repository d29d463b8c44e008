//! Who waits for what: takes commands to the node, and what comes of them back to the tasks that asked.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
    task::Waker,
    time::{Duration, Instant},
};

use async_channel::Sender;
use bytes::Bytes;
use p2pcore::{
    CommandError, Event, Id, Input, Reason,
    master::Token,
    node::{Guard, MemberCommand, Outcome, ReplyToken, RequestId, SendOptions, Sends},
};

use super::{
    machine::Machine,
    sent::{Run, Sent, SentTable},
    streams::Streams,
};
use crate::{
    ByteStream, Outcomes, RequestError,
    clocks::Clocks,
    command::{Batch, Command, Notice, Sought, To},
    delivery::Inbound,
    events::Hub,
    flow::Flow,
    office::Office,
    oneshot,
    outcomes::Waiter,
    tray::{Shelf, Tray},
};

/// Messages that the node gave back and that wait for room; past it, no more commands are taken.
const MAX_PARKED: usize = 65_536;

/// Datagrams that the application has not taken; past it, the oldest goes.
const MAX_DATAGRAMS: usize = 1_024;

/// So much is no longer under way to a destination.
struct Left {
    to: Id,
    messages: usize,
    bytes: usize,
}

/// A message that waits for room in the node's queues.
enum Parked {
    Send {
        to: To,
        data: Bytes,
        options: SendOptions,
        waiter: Waiter,
    },
    /// `seen` is who was Master when it came, or later when it was refused.
    SendToMaster {
        seen: Option<Id>,
        data: Bytes,
        options: SendOptions,
        waits: bool,
        reply: oneshot::Sender<Result<Outcomes, CommandError>>,
    },
    /// `seen` is as above, or who is asked by name.
    Request {
        seen: Option<Id>,
        to: Sought,
        data: Bytes,
        timeout: Option<Duration>,
        reply: oneshot::Sender<Result<Bytes, RequestError>>,
    },
    Reply {
        to: Id,
        token: ReplyToken,
        data: Bytes,
        reply: Option<oneshot::Sender<Result<(), CommandError>>>,
    },
}

impl Parked {
    /// What is for whoever is Master is for `master` now.
    fn look_up(&mut self, master: Option<Id>) {
        if let Self::SendToMaster { seen, .. } | Self::Request { seen, to: Sought::Master, .. } = self {
            *seen = master;
        }
    }

    fn destinations(&self) -> &[Id] {
        match self {
            Self::Send { to, .. } => to.as_slice(),
            Self::SendToMaster { seen, .. } | Self::Request { seen, .. } => seen.as_slice(),
            Self::Reply { to, .. } => std::slice::from_ref(to),
        }
    }
}

/// The driver's side of everything that tasks wait for.
pub(crate) struct Desk {
    flow: Arc<Flow>,
    hub: Arc<Hub>,
    inbound: Arc<Shelf<Inbound>>,
    /// What goes there at the end of this round of events.
    arrived: VecDeque<Inbound>,
    /// What has its outcome and does not stand in the accounts any more, from the end of this round on.
    left: Vec<Left>,
    /// Who waits for an outcome of this round. Woken at its end: at the first outcome they would come for that one alone.
    waiting: Vec<Waker>,
    datagrams: Arc<Shelf<(Id, Bytes)>>,
    accepted: Sender<ByteStream>,
    notices: Arc<Tray<Notice>>,
    sent: SentTable,
    requests: HashMap<RequestId, oneshot::Sender<Result<Bytes, RequestError>>>,
    streams: Streams,
    /// In the order in which they came.
    parked: VecDeque<Parked>,
    /// How many of those go to each destination: what follows must wait behind them.
    held: BTreeMap<Id, usize>,
    /// Masters for whom messages were given back: an `Unblocked` is owed for each.
    gave_back: BTreeSet<Id>,
    office: Arc<Office>,
    /// What `office` was told last.
    guard: Option<Guard>,
    /// When this turn began: the node knows of every sleep of the machine until then.
    turn: Clocks,
    /// The application wants the node to end.
    pub(crate) stop_wanted: bool,
    /// The node has said goodbye.
    pub(crate) stopped: bool,
}

impl Desk {
    pub(crate) fn new(
        flow: Arc<Flow>,
        hub: Arc<Hub>,
        office: Arc<Office>,
        inbound: Arc<Shelf<Inbound>>,
        datagrams: Arc<Shelf<(Id, Bytes)>>,
        accepted: Sender<ByteStream>,
        notices: Arc<Tray<Notice>>,
    ) -> Self {
        Self {
            flow,
            hub,
            inbound,
            arrived: VecDeque::new(),
            left: Vec::new(),
            waiting: Vec::new(),
            datagrams,
            accepted,
            notices,
            sent: SentTable::default(),
            requests: HashMap::new(),
            streams: Streams::default(),
            parked: VecDeque::new(),
            held: BTreeMap::new(),
            gave_back: BTreeSet::new(),
            turn: office.clocks(),
            office,
            guard: None,
            stop_wanted: false,
            stopped: false,
        }
    }

    pub(crate) fn begin_turn(&mut self, clocks: Clocks) {
        self.turn = clocks;
    }

    /// Tells all handles whether this node may act as Master.
    pub(crate) fn publish(&mut self, machine: &mut impl Machine) {
        let guard = machine.guard();
        if guard != self.guard {
            self.guard = guard;
            self.office.publish(guard, self.turn);
        }
    }

    /// Whether another command may be taken.
    pub(crate) fn has_room(&self) -> bool {
        self.parked.len() < MAX_PARKED
    }

    /// The queue of commands has room again for those who found it full.
    pub(crate) fn queue_was_taken(&self) {
        self.flow.queue_is_roomy(&self.hub);
    }

    pub(crate) fn command(&mut self, machine: &mut impl Machine, now: Instant, command: Command) {
        match command {
            Command::Send { to, data, options, waiter } => {
                self.submit(machine, now, Parked::Send { to, data, options, waiter });
            }
            Command::SendBatch(batch) => self.submit_batch(machine, now, batch),
            Command::SendToMaster { data, options, waits, reply } => {
                let seen = machine.master().and_then(|view| view.master());
                self.submit(machine, now, Parked::SendToMaster { seen, data, options, waits, reply });
            }
            Command::Request { to, data, timeout, reply } => {
                let seen = match to {
                    Sought::Node(id) => Some(id),
                    Sought::Master => machine.master().and_then(|view| view.master()),
                };
                self.submit(machine, now, Parked::Request { seen, to, data, timeout, reply });
            }
            Command::Datagram { to, data, reply } => reply.send(machine.datagram(now, to, data)),
            Command::OpenStream { to, reply } => reply.send(
                machine.open_stream(now, to).map(|key| self.streams.add(machine, now, to, key, self.notices.clone())),
            ),
            Command::Watch { what, reply } => reply.send(machine.watch(now, what)),
            Command::Unwatch { what, reply } => {
                machine.unwatch(now, &what);
                reply.send(());
            }
            Command::Status { reply } => reply.send(machine.status()),
            Command::Members { reply } => reply.send(machine.members().to_vec()),
            Command::ChangeMembers { command, office, reply } => {
                let result = self.change_members(machine, now, command, office);
                reply.send(result);
            }
            Command::Resign { office, reply } => {
                // a later office is not what the holder of an earlier guard gives up
                let is_over = machine.guard().is_some_and(|guard| office.is_some_and(|office| office != guard.token));
                let result = if is_over { Ok(()) } else { machine.resign(now) };
                self.publish(machine);
                reply.send(result);
            }
        }
    }

    fn change_members(
        &mut self,
        machine: &mut impl Machine,
        now: Instant,
        command: MemberCommand,
        office: Option<Token>,
    ) -> Result<(), CommandError> {
        if office.is_some() && office != machine.guard().map(|guard| guard.token) {
            return Err(CommandError::Failed(Reason::MasterChanged));
        }
        let result = machine.change_members(now, command);
        self.publish(machine);
        result
    }

    pub(crate) fn notice(&mut self, machine: &mut impl Machine, now: Instant, notice: Notice) {
        match notice {
            Notice::Stop => self.stop_wanted = true,
            Notice::Handed(receipt) => machine.handed(now, receipt),
            Notice::Reply { token, result, reply } => self.reply(machine, now, token, result, reply),
            Notice::Stream(key) => self.streams.serve(machine, now, key),
            Notice::Persisted(ids) => ids.into_iter().for_each(|id| machine.handle(now, Input::Persisted(id))),
            Notice::NetworkChanged(network) => machine.handle(now, Input::NetworkChanged(network)),
        }
    }

    pub(crate) fn event(&mut self, machine: &mut impl Machine, now: Instant, event: Event) {
        match event {
            Event::Messages { from, name, lane, data, receipt } => {
                self.arrived.push_back(Inbound::Messages { from, name, lane, data: data.into(), receipt });
            }
            Event::Request { from, name, data, token, receipt } => {
                self.arrived.push_back(Inbound::Request { from, name, data, token, receipt });
            }
            Event::Outcome { sends, to, outcome } => self.outcome(sends, to, outcome),
            Event::Reply { request, result, .. } => {
                let reply = self.requests.remove(&request);
                self.waiting.extend(reply.and_then(|reply| reply.put(result.map_err(RequestError::Failed))));
            }
            Event::Datagram { from, data } => {
                // full: the oldest goes, as best effort goes
                self.datagrams.offer_newest((from, data), MAX_DATAGRAMS);
            }
            Event::StreamOpened { from, stream } => {
                let opened = self.streams.add(machine, now, from, stream, self.notices.clone());
                let _ = self.accepted.try_send(opened);
            }
            Event::StreamReadable(key) | Event::StreamWritable(key) => self.streams.serve(machine, now, key),
            Event::StreamReset { stream, reason } => self.streams.reset(stream, reason),
            Event::Unblocked { to } => {
                self.retry(machine, now);
                if self.gave_back.remove(&to) {
                    self.hub.put(Event::Unblocked { to });
                }
            }
            Event::Master(view) => {
                self.office.show(view);
                self.hub.put(Event::Master(view));
                // what waited for the queue to another Master goes to this one
                self.retry(machine, now);
            }
            Event::Stopped => self.stopped = true,
            news => self.hub.put(news),
        }
    }

    /// To the node, unless something to the same destination waits already.
    fn submit(&mut self, machine: &mut impl Machine, now: Instant, message: Parked) {
        let waits = !self.held.is_empty() && message.destinations().iter().any(|to| self.held.contains_key(to));
        let refused = if waits { Some(message) } else { self.attempt(machine, now, message) };
        if let Some(message) = refused {
            self.park(message);
        }
    }

    /// As [`submit`](Self::submit) for each; what the node takes in a row is noted together.
    fn submit_batch(&mut self, machine: &mut impl Machine, now: Instant, batch: Batch) {
        let Batch { to, mut messages, options, slot, mut first } = batch;
        // a look at all of them first: they come from another core, and what is fetched together is waited for once
        let lens: Vec<usize> = messages.iter().map(Bytes::len).collect();
        let mut lens = lens.into_iter();
        while !messages.is_empty() && !self.held.contains_key(&to) {
            match machine.send_batch(now, to, &mut messages, options) {
                Ok(sends) => {
                    let run = Run::new(to, slot.clone(), sends, first, &mut lens);
                    first += run.len();
                    self.sent.insert_run(sends.first, run);
                }
                Err(CommandError::Blocked { .. }) => break,
                Err(error) => {
                    messages.pop_front();
                    let (reason, len) = (RequestError::from(error).reason(), lens.next().unwrap_or_default());
                    self.fail(&[to], len, &Waiter::Batch(slot.clone(), first), reason);
                    first += 1;
                }
            }
        }
        for (index, data) in (first..).zip(messages) {
            self.park(Parked::Send { to: To::One(to), data, options, waiter: Waiter::Batch(slot.clone(), index) });
        }
    }

    fn park(&mut self, message: Parked) {
        let message = match message {
            Parked::SendToMaster { seen: Some(to), data, waits: false, reply, .. } => {
                self.gave_back.insert(to);
                return reply.send(Err(CommandError::Blocked { to, data }));
            }
            message => message,
        };
        for to in message.destinations() {
            *self.held.entry(*to).or_default() += 1;
        }
        self.parked.push_back(message);
    }

    /// Tries what is parked again, in order; what a refused message's destinations get stays behind it.
    fn retry(&mut self, machine: &mut impl Machine, now: Instant) {
        let mut full: BTreeSet<Id> = BTreeSet::new();
        self.held.clear();
        let master = machine.master().and_then(|view| view.master());
        for mut message in std::mem::take(&mut self.parked) {
            message.look_up(master);
            let waits = message.destinations().iter().any(|to| full.contains(to));
            let refused = if waits { Some(message) } else { self.attempt(machine, now, message) };
            if let Some(message) = refused {
                full.extend(message.destinations());
                self.park(message);
            }
        }
    }

    /// Hands a message to the node; gives it back if a queue is full.
    fn attempt(&mut self, machine: &mut impl Machine, now: Instant, message: Parked) -> Option<Parked> {
        match message {
            Parked::Send { to, data, options, waiter } => {
                let len = data.len();
                match machine.send(now, to.as_slice(), data, options) {
                    Ok(id) => {
                        self.sent.insert(id, Sent::new(to, len, waiter, true));
                        None
                    }
                    Err(CommandError::Blocked { data, .. }) => Some(Parked::Send { to, data, options, waiter }),
                    Err(error) => {
                        let reason = RequestError::from(error).reason();
                        self.fail(to.as_slice(), len, &waiter, reason);
                        None
                    }
                }
            }
            Parked::SendToMaster { data, options, waits, reply, .. } => {
                let len = data.len();
                match machine.send_to_master(now, data, options) {
                    Ok((id, to)) => {
                        let (outcomes, waiter) = Outcomes::new(1);
                        self.sent.insert(id, Sent::new(To::One(to), len, waiter, false));
                        reply.send(Ok(outcomes));
                        None
                    }
                    Err(CommandError::Blocked { to, data }) => {
                        Some(Parked::SendToMaster { seen: Some(to), data, options, waits, reply })
                    }
                    Err(error) => {
                        reply.send(Err(error));
                        None
                    }
                }
            }
            Parked::Request { to, data, timeout, reply, .. } => {
                let asked = match to {
                    Sought::Node(id) => machine.request(now, id, data, timeout),
                    Sought::Master => machine.request_to_master(now, data, timeout).map(|(id, _)| id),
                };
                match asked {
                    Ok(id) => {
                        self.requests.insert(id, reply);
                        None
                    }
                    Err(CommandError::Blocked { to: full, data }) => {
                        Some(Parked::Request { seen: Some(full), to, data, timeout, reply })
                    }
                    Err(error) => {
                        reply.send(Err(error.into()));
                        None
                    }
                }
            }
            Parked::Reply { to, token, data, reply } => {
                let result = machine.reply(now, token, Ok(data));
                if let Err(CommandError::Blocked { data, .. }) = result {
                    return Some(Parked::Reply { to, token, data, reply });
                }
                self.waiting.extend(reply.and_then(|reply| reply.put(result)));
                None
            }
        }
    }

    fn reply(
        &mut self,
        machine: &mut impl Machine,
        now: Instant,
        token: ReplyToken,
        result: Result<Bytes, Reason>,
        reply: Option<oneshot::Sender<Result<(), CommandError>>>,
    ) {
        match machine.reply(now, token, result) {
            Err(CommandError::Blocked { to, data }) => self.park(Parked::Reply { to, token, data, reply }),
            result => self.waiting.extend(reply.and_then(|reply| reply.put(result))),
        }
    }

    fn outcome(&mut self, sends: Sends, to: Id, outcome: Outcome) {
        let (messages, bytes) = self.sent.outcome(sends, to, outcome, &mut self.waiting);
        self.leave(to, messages, bytes);
    }

    /// For messages that stand in the accounts.
    fn fail(&mut self, to: &[Id], len: usize, waiter: &Waiter, reason: Reason) {
        for to in to {
            self.waiting.extend(waiter.put(*to, Outcome::Failed(reason)));
            self.leave(*to, 1, len);
        }
    }

    fn leave(&mut self, to: Id, messages: usize, bytes: usize) {
        if messages == 0 {
            return;
        }
        match self.left.last_mut() {
            Some(left) if left.to == to => {
                (left.messages, left.bytes) = (left.messages + messages, left.bytes + bytes);
            }
            _ => self.left.push(Left { to, messages, bytes }),
        }
    }

    /// Passes on what a round of events gathered: what arrived, room for more, and outcomes.
    pub(crate) fn flush(&mut self) {
        let count = self.arrived.iter().map(Inbound::count).sum();
        self.inbound.offer(&mut self.arrived, count);
        for Left { to, messages, bytes } in self.left.drain(..) {
            if self.flow.leave(to, messages, bytes) {
                self.hub.put(Event::Unblocked { to });
            }
        }
        self.sent.flush(&mut self.waiting);
        self.waiting.drain(..).for_each(Waker::wake);
    }

    /// The node is over: whoever still waits learns that, each once.
    pub(crate) fn close(&mut self) {
        let mut open = Vec::new();
        // it may have been handed over with the receipt still on its way
        self.sent
            .close(Reason::UnknownOutcome, &mut self.waiting, |to, messages, bytes| open.push((to, messages, bytes)));
        open.into_iter().for_each(|(to, messages, bytes)| self.leave(to, messages, bytes));
        for message in std::mem::take(&mut self.parked) {
            if let Parked::Send { to, data, waiter, .. } = message {
                self.fail(to.as_slice(), data.len(), &waiter, Reason::Reset);
            }
        }
        for (_, reply) in std::mem::take(&mut self.requests) {
            reply.send(Err(RequestError::Failed(Reason::Reset)));
        }
        self.streams.close();
        self.flush();
        self.inbound.close();
        self.datagrams.close();
        self.office.publish(None, self.turn);
        self.hub.close();
    }

    /// A command that the node will never see.
    pub(crate) fn too_late(&mut self, command: Command) {
        match command {
            Command::Send { to, data, waiter, .. } => self.fail(to.as_slice(), data.len(), &waiter, Reason::Reset),
            Command::SendBatch(Batch { to, messages, slot, first, .. }) => {
                for (index, data) in (first..).zip(messages) {
                    self.fail(&[to], data.len(), &Waiter::Batch(slot.clone(), index), Reason::Reset);
                }
            }
            _ => {}
        }
    }
}
