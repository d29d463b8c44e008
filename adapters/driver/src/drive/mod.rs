//! The one task that owns the node.
//!
//! Each turn goes in a fixed order: what is due, datagrams in, commands in, events out, datagrams out. The work of a
//! turn is bounded, and after some turns other tasks get their chance. There is another turn at once only if a bound was
//! reached or the node wants one: whoever brings something later wakes the task.
//!
//! The right to act as Master is published whenever it may have changed, and always before datagrams go out: what lets
//! another server be elected leaves only when no guard here is valid any more.

mod desk;
mod machine;
mod sent;
mod streams;
#[cfg(test)]
mod tests;

use std::{
    cell::Cell,
    collections::VecDeque,
    io,
    ops::BitOrAssign,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use p2pcore::{
    Input, Output,
    node::{SocketId, Transmit},
};

pub(crate) use self::{desk::Desk, machine::Machine};
use crate::{
    AddressFilter, Timer,
    clocks::{Clocks, ReadClocks, SleepWatch},
    command::{Command, Notice},
    keeper::Orders,
    sockets::Socket,
    tray::Tray,
};

/// Turns in a row before other tasks get their chance.
const MAX_TURNS: usize = 16;
/// Outputs taken in one turn.
const MAX_OUTPUTS: usize = 1_024;
/// Bytes sent in one turn.
const MAX_SENT: usize = 1024 * 1024;
/// Batches received from one socket in one turn.
const MAX_BATCHES: usize = 4;
/// Commands and notices, of each, taken in one turn.
const MAX_ORDERS: usize = 512;
/// How often the time passes for the node while a socket is blocked: its deadline says nothing then.
const BLOCKED_PACE: Duration = Duration::from_millis(5);
/// Turns in which the node wanted the time again at once and nothing came of it, before it has to wait for
/// [`BLOCKED_PACE`] too.
const MAX_FRUITLESS: u32 = 8;
/// How long a node may take to say goodbye.
const GOODBYE: Duration = Duration::from_millis(1_500);

thread_local! {
    /// Where datagrams are made: one for all nodes of a thread.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// What a turn came to.
struct Turn {
    /// The time that the node was told last.
    now: Instant,
    /// Something happened.
    is_busy: bool,
    /// A bound was reached: there may be more of the same.
    has_more: bool,
}

/// How much of something was done.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Done {
    Nothing,
    All,
    UpToABound,
}

impl Done {
    fn all_of(count: usize) -> Self {
        if count > 0 { Self::All } else { Self::Nothing }
    }
}

impl BitOrAssign for Done {
    fn bitor_assign(&mut self, other: Self) {
        *self = (*self).max(other);
    }
}

/// A run of datagrams that its socket has not taken in full.
struct Pending {
    transmit: Transmit,
    sent: usize,
}

/// What [`Driver`] is made of.
pub(crate) struct Parts<M> {
    pub(crate) machine: M,
    pub(crate) sockets: Vec<Socket>,
    pub(crate) clocks: ReadClocks,
    pub(crate) timer: Pin<Box<dyn Timer>>,
    pub(crate) filter: Option<AddressFilter>,
    pub(crate) commands: Arc<Tray<Command>>,
    pub(crate) notices: Arc<Tray<Notice>>,
    pub(crate) orders: Orders,
    pub(crate) desk: Desk,
}

/// The task: a future that ends when the node has said goodbye.
pub(crate) struct Driver<M> {
    machine: M,
    sockets: Vec<Socket>,
    clocks: ReadClocks,
    sleep: SleepWatch,
    timer: Pin<Box<dyn Timer>>,
    /// When the timer fires.
    armed: Option<Instant>,
    filter: Option<AddressFilter>,
    commands: Arc<Tray<Command>>,
    notices: Arc<Tray<Notice>>,
    /// Taken from those two and not looked at yet.
    taken_commands: VecDeque<Command>,
    taken_notices: VecDeque<Notice>,
    /// Commands wait for room among the parked messages.
    wants_room: bool,
    desk: Desk,
    /// What `pending` is about.
    buffer: Vec<u8>,
    pending: Option<Pending>,
    fruitless: u32,
    /// When the goodbye is over at the latest.
    give_up: Option<Instant>,
    // the last to go, which tells those who wait for the end
    orders: Orders,
}

impl<M: Machine> Driver<M> {
    pub(crate) fn new(parts: Parts<M>) -> Self {
        let sleep = SleepWatch::new((parts.clocks)());
        Self {
            machine: parts.machine,
            sockets: parts.sockets,
            clocks: parts.clocks,
            sleep,
            timer: parts.timer,
            armed: None,
            filter: parts.filter,
            commands: parts.commands,
            notices: parts.notices,
            taken_commands: VecDeque::new(),
            taken_notices: VecDeque::new(),
            wants_room: false,
            orders: parts.orders,
            desk: parts.desk,
            buffer: Vec::new(),
            pending: None,
            fruitless: 0,
            give_up: None,
        }
    }

    fn turn(&mut self, cx: &mut Context<'_>, clocks: Clocks) -> Turn {
        let mut now = clocks.monotonic;
        if self.sleep.look(clocks) {
            self.machine.handle(now, Input::Resumed);
        }
        // from here on the node knows of every sleep until then
        self.desk.begin_turn(clocks);
        if self.machine.deadline().is_some_and(|deadline| deadline.at <= now) {
            self.machine.handle(now, Input::Timeout);
        }
        let mut done = self.receives(cx, &mut now);
        done |= self.notices(cx, now);
        done |= self.commands(cx, now);
        done |= self.goodbye(now);
        // before an event tells of it
        self.desk.publish(&mut self.machine);
        done |= self.outputs(now);
        // what others wait for leaves first: whoever is woken here may get this core
        done |= self.transmits(cx, now, 1).min(Done::All);
        self.desk.flush();
        done |= self.transmits(cx, now, MAX_SENT);
        self.desk.publish(&mut self.machine);
        Turn { now, is_busy: done != Done::Nothing, has_more: done == Done::UpToABound }
    }

    fn outputs(&mut self, now: Instant) -> Done {
        for taken in 0..MAX_OUTPUTS {
            match self.machine.poll() {
                Some(Output::Event(event)) => self.desk.event(&mut self.machine, now, event),
                Some(Output::Persist(order)) => self.orders.give(order),
                None => return Done::all_of(taken),
            }
        }
        Done::UpToABound
    }

    /// Sends at least `enough` bytes if there are so many.
    fn transmits(&mut self, cx: &mut Context<'_>, now: Instant, enough: usize) -> Done {
        if self.pending.is_none() {
            self.buffer = SPARE.take();
        }
        let sent = self.transmit_some(cx, now, enough);
        if self.pending.is_none() {
            SPARE.set(std::mem::take(&mut self.buffer));
        }
        sent
    }

    fn transmit_some(&mut self, cx: &mut Context<'_>, now: Instant, enough: usize) -> Done {
        let mut total = 0;
        while total < enough {
            let mut pending = match self.pending.take() {
                Some(pending) => pending,
                None => {
                    self.buffer.clear();
                    let Some(transmit) = self.machine.poll_transmit(now, &mut self.buffer) else {
                        return Done::all_of(total);
                    };
                    self.desk.publish(&mut self.machine);
                    Pending { transmit, sent: 0 }
                }
            };
            let before = pending.sent;
            let blocked = self.transmit(&mut pending).is_err();
            total += (pending.sent - before).max(1);
            if blocked {
                let socket = pending.transmit.socket;
                self.pending = Some(pending);
                match self.poll_writable(cx, socket) {
                    Poll::Ready(true) => {}
                    Poll::Ready(false) => self.pending = None,
                    // one byte is counted for nothing
                    Poll::Pending => return Done::all_of(total - 1),
                }
            }
        }
        Done::UpToABound
    }

    /// Hands a run to its socket, from where it stopped; what cannot go is dropped.
    fn transmit(&mut self, pending: &mut Pending) -> io::Result<()> {
        let Pending { transmit, sent } = pending;
        let allowed = self.filter.as_ref().is_none_or(|allows| allows(transmit.destination));
        let socket = self.sockets.iter_mut().find(|socket| socket.id == transmit.socket);
        match (socket, self.buffer.get(..transmit.size)) {
            (Some(socket), Some(contents)) if allowed => socket.send(transmit, contents, sent),
            _ => Ok(()),
        }
    }

    /// Ready with whether it makes sense to try that socket again.
    fn poll_writable(&mut self, cx: &mut Context<'_>, id: SocketId) -> Poll<bool> {
        match self.sockets.iter_mut().find(|socket| socket.id == id) {
            Some(socket) => socket.poll_writable(cx).map(|ready| ready.is_ok()),
            None => Poll::Ready(false),
        }
    }

    /// The time of this turn may be long past when something comes in; what a voter promises a Master counts from a moment
    /// that is not before that.
    fn receives(&mut self, cx: &mut Context<'_>, now: &mut Instant) -> Done {
        let mut done = Done::Nothing;
        let (machine, filter) = (&mut self.machine, &self.filter);
        for socket in &mut self.sockets {
            let mut batches = 0..MAX_BATCHES;
            loop {
                if batches.next().is_none() {
                    done = Done::UpToABound;
                    break;
                }
                let mut came = None;
                let may_go_on = socket.receive(|datagram| {
                    *now = *came.get_or_insert_with(|| (self.clocks)().monotonic);
                    if filter.as_ref().is_none_or(|allows| allows(datagram.remote)) {
                        machine.handle(*now, Input::Datagram(datagram));
                    }
                });
                done |= if came.is_some() { Done::All } else { Done::Nothing };
                if may_go_on {
                    continue;
                }
                match socket.poll_readable(cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => {
                        tracing::debug!(%error, "the reactor is gone");
                        break;
                    }
                    Poll::Pending => break,
                }
            }
        }
        done
    }

    fn notices(&mut self, cx: &mut Context<'_>, now: Instant) -> Done {
        for done in 0..MAX_ORDERS {
            let Some(notice) = self.taken_notices.pop_front() else {
                match self.notices.poll_take(cx, &mut self.taken_notices) {
                    Poll::Ready(true) => continue,
                    Poll::Ready(false) | Poll::Pending => return Done::all_of(done),
                }
            };
            self.desk.notice(&mut self.machine, now, notice);
        }
        Done::UpToABound
    }

    fn commands(&mut self, cx: &mut Context<'_>, now: Instant) -> Done {
        let mut done = 0;
        self.wants_room = false;
        while done < MAX_ORDERS {
            if self.taken_commands.is_empty() {
                match self.commands.poll_take(cx, &mut self.taken_commands) {
                    Poll::Ready(true) => self.desk.queue_was_taken(),
                    Poll::Ready(false) => {
                        self.desk.stop_wanted = true;
                        return Done::all_of(done);
                    }
                    Poll::Pending => return Done::all_of(done),
                }
            }
            // a look at all of them first: they come from another core, and what is fetched together is waited for once
            let weights = self.taken_commands.iter().scan(done, |sum, command| {
                let has_place = *sum < MAX_ORDERS;
                *sum += command.weight();
                has_place.then_some(*sum)
            });
            for _ in 0..weights.count() {
                if !self.desk.has_room() {
                    self.wants_room = true;
                    self.desk.stop_wanted |= self.commands.is_closed();
                    return Done::all_of(done);
                }
                let Some(command) = self.taken_commands.pop_front() else { break };
                done += command.weight();
                self.desk.command(&mut self.machine, now, command);
            }
        }
        Done::UpToABound
    }

    fn goodbye(&mut self, now: Instant) -> Done {
        let begins = self.desk.stop_wanted && self.give_up.is_none();
        if begins {
            self.give_up = Some(now + GOODBYE);
            self.machine.stop(now);
        }
        Done::all_of(usize::from(begins))
    }

    fn is_over(&self, Turn { is_busy, now, .. }: &Turn) -> bool {
        let said = self.desk.stopped && !is_busy && self.pending.is_none();
        said || self.give_up.is_some_and(|at| at <= *now)
    }

    /// When to wake at the latest, if nothing else does it.
    fn wake_at(&mut self, now: Instant) -> Option<Instant> {
        let mut at = self.machine.deadline().map(|deadline| deadline.at);
        if at.is_some_and(|at| at <= now) {
            if self.pending.is_some() || self.fruitless >= MAX_FRUITLESS {
                at = Some(now + BLOCKED_PACE);
            }
            self.fruitless = self.fruitless.saturating_add(1);
        } else {
            self.fruitless = 0;
        }
        [at, self.give_up].into_iter().flatten().min()
    }
}

impl<M: Machine> Future for Driver<M> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..MAX_TURNS {
            let clocks = (self.clocks)();
            let turn = self.turn(cx, clocks);
            if self.is_over(&turn) {
                return Poll::Ready(());
            }
            let now = turn.now;
            if turn.is_busy {
                self.fruitless = 0;
                let is_due = self.machine.deadline().is_some_and(|deadline| deadline.at <= now);
                let found_room = self.wants_room && self.desk.has_room();
                if turn.has_more || is_due || found_room || self.desk.stopped {
                    continue;
                }
            }
            match self.wake_at(now) {
                None => return Poll::Pending,
                Some(at) => {
                    // a timer that fires too early costs less than moving it for every packet
                    if self.armed.is_none_or(|armed| at < armed) {
                        self.timer.as_mut().reset(at);
                        self.armed = Some(at);
                    }
                    match self.timer.as_mut().poll(cx) {
                        Poll::Ready(()) => self.armed = None,
                        Poll::Pending => return Poll::Pending,
                    }
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<M> Drop for Driver<M> {
    /// However the task ends, nobody waits for ever.
    fn drop(&mut self) {
        self.commands.close();
        let mut late = std::mem::take(&mut self.taken_commands);
        let _ = self.commands.poll_take(&mut Context::from_waker(Waker::noop()), &mut late);
        for command in late {
            self.desk.too_late(command);
        }
        self.notices.close();
        self.desk.close();
    }
}
