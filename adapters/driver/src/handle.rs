//! What an application holds of a running node.

use std::{fmt, future::poll_fn, net::SocketAddr, sync::Arc, time::Duration};

use async_channel::Receiver;
use bytes::Bytes;
use p2pcore::{
    CommandError, Config, Event, Id, Name, Reason, Role,
    node::{SendOptions, Status, Watch},
};

use crate::{
    BatchOutcomes, ByteStream, Deliveries, Delivery, Events, Outcomes, RequestError,
    command::{Batch, Command, Notice, Sought, To},
    delivery::Inbound,
    events::Hub,
    flow::Flow,
    office::Office,
    oneshot,
    tray::{Refused, Shelf, Tray},
};

/// Messages of a batch that are handed to the node at a time: between two runs it does other work.
const MAX_RUN: usize = 256;

/// What all clones of a handle share.
pub(crate) struct Shared {
    pub(crate) id: Id,
    pub(crate) name: Name,
    pub(crate) listen: Vec<SocketAddr>,
    pub(crate) config: Config,
    pub(crate) commands: Arc<Tray<Command>>,
    pub(crate) notices: Arc<Tray<Notice>>,
    pub(crate) inbound: Arc<Shelf<Inbound>>,
    pub(crate) datagrams: Arc<Shelf<(Id, Bytes)>>,
    pub(crate) streams: Receiver<ByteStream>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) flow: Arc<Flow>,
    pub(crate) office: Arc<Office>,
    /// Closed when the driver has ended.
    pub(crate) ended: Receiver<()>,
}

impl Drop for Shared {
    /// The last handle is gone: the driver finishes what was asked, and then the node.
    fn drop(&mut self) {
        self.commands.close();
    }
}

/// A running node. Clones are cheap; the node says goodbye and ends when the last one is dropped.
#[derive(Clone)]
pub struct NodeHandle(pub(crate) Arc<Shared>);

impl NodeHandle {
    /// This node's Id.
    pub fn id(&self) -> Id {
        self.0.id
    }

    /// Server or peer.
    pub fn role(&self) -> Role {
        self.0.id.role()
    }

    /// This node's name.
    pub fn name(&self) -> &Name {
        &self.0.name
    }

    /// The addresses of its sockets, with the ports that they got.
    pub fn listen_addresses(&self) -> &[SocketAddr] {
        &self.0.listen
    }

    /// Sends `data` to each of `to`, in order per destination and lane; waits while a queue to one of them is full.
    ///
    /// # Errors
    /// Nothing was sent to anyone: `TooLarge`, `NoSuchLane`, `BadDestinations`, `Stopped`.
    pub async fn send(
        &self,
        to: &[Id],
        data: impl Into<Bytes>,
        options: SendOptions,
    ) -> Result<Outcomes, CommandError> {
        let data = data.into();
        self.0.config.check_message(data.len(), options.lane)?;
        let all = To::checked(to)?;
        poll_fn(|cx| self.0.flow.poll_enter(cx, all.as_slice(), data.len())).await;
        let mut entered = Entered { shared: &self.0, to, messages: 1, bytes: data.len(), armed: true };
        let (outcomes, waiter) = Outcomes::new(to.len());
        let command = Command::Send { to: all, data, options, waiter };
        self.0.commands.put(command).await.map_err(|_| CommandError::Stopped)?;
        entered.armed = false;
        Ok(outcomes)
    }

    /// Sends each of `messages` to `to`, in their order, as [`send`](Self::send) would, for less: they are handed to the node
    /// in runs, and their outcomes are waited for together. Waits while not all of them fit into the queue to `to`; if this
    /// future is dropped meanwhile, the rest is not sent.
    ///
    /// # Errors
    /// Nothing was sent: `TooLarge`, `NoSuchLane`, `Stopped`. If the node ends later, the outcome of the rest is `Failed`.
    pub async fn send_batch(
        &self,
        to: Id,
        mut messages: Vec<Bytes>,
        options: SendOptions,
    ) -> Result<BatchOutcomes, CommandError> {
        for message in &messages {
            self.0.config.check_message(message.len(), options.lane)?;
        }
        let (outcomes, slot) = BatchOutcomes::new(messages.len());
        let mut first = 0;
        while !messages.is_empty() {
            let run = &messages[..messages.len().min(MAX_RUN)];
            let (count, bytes) = poll_fn(|cx| self.0.flow.poll_enter_some(cx, to, run)).await;
            let mut entered = Entered { shared: &self.0, to: &[to], messages: count, bytes, armed: true };
            let rest = messages.split_off(count);
            let batch = Batch { to, messages: messages.into(), options, slot: slot.clone(), first };
            match self.0.commands.put(Command::SendBatch(batch)).await {
                Ok(()) => entered.armed = false,
                Err(_) if first == 0 => return Err(CommandError::Stopped),
                Err(_) => {
                    outcomes.fail_from(first, Reason::Reset);
                    break;
                }
            }
            (messages, first) = (rest, first + count);
        }
        Ok(outcomes)
    }

    /// As [`send`](Self::send), but gives the message back when a queue is full; one
    /// [`Event::Unblocked`] follows when there is room.
    ///
    /// # Errors
    /// As [`send`](Self::send), and `Blocked`.
    pub fn try_send(&self, to: &[Id], data: impl Into<Bytes>, options: SendOptions) -> Result<Outcomes, CommandError> {
        let data = data.into();
        self.0.config.check_message(data.len(), options.lane)?;
        let all = To::checked(to)?;
        if let Err(full) = self.0.flow.try_enter(all.as_slice(), data.len()) {
            return Err(CommandError::Blocked { to: full, data });
        }
        let mut entered = Entered { shared: &self.0, to, messages: 1, bytes: data.len(), armed: true };
        let (outcomes, waiter) = Outcomes::new(to.len());
        match self.0.commands.try_put(Command::Send { to: all, data, options, waiter }) {
            Ok(()) => {
                entered.armed = false;
                Ok(outcomes)
            }
            Err(Refused::Full(Command::Send { to: all, data, .. })) => {
                let to = all.as_slice().first().copied().ok_or(CommandError::BadDestinations)?;
                self.0.flow.queue_gave_back(to);
                // taken meanwhile: the driver may have told before this was noted
                if !self.0.commands.is_full() {
                    self.0.flow.queue_is_roomy(&self.0.hub);
                }
                Err(CommandError::Blocked { to, data })
            }
            Err(_) => Err(CommandError::Stopped),
        }
    }

    /// Asks `to` and waits for its reply, for `timeout` or `Config::request_timeout`.
    ///
    /// # Errors
    /// Not accepted, or failed with a reason.
    pub async fn request(
        &self,
        to: Id,
        data: impl Into<Bytes>,
        timeout: Option<Duration>,
    ) -> Result<Bytes, RequestError> {
        let data = data.into();
        self.ask(|reply| Command::Request { to: Sought::Node(to), data, timeout, reply })
            .await
            .unwrap_or(Err(CommandError::Stopped.into()))
    }

    /// The next message or request; `None` when the node has ended.
    pub async fn recv(&self) -> Option<Delivery> {
        self.0.inbound.take_by(|queue| Inbound::take_one(queue, &self.0.notices)).await
    }

    /// The next request, or the next messages: all that have arrived one after another from one sender in one lane, for less
    /// than one by one. `None` when the node has ended.
    pub async fn recv_batch(&self) -> Option<Deliveries> {
        Some(self.0.inbound.take().await?.hand_over(&self.0.notices))
    }

    /// The next message or request, if there is one already.
    pub fn try_recv(&self) -> Option<Delivery> {
        self.0.inbound.try_take_by(|queue| Inbound::take_one(queue, &self.0.notices))
    }

    /// A new reader of events; the first one sees everything since the start.
    pub fn events(&self) -> Events {
        self.0.hub.subscribe()
    }

    /// Watches an Id, or whoever has a name: an [`Event::Found`] says once who is there, then `PeerUp` and `PeerDown` tell of
    /// changes. In a network of few peers all are told of anyway; on demand only of those that are watched, linked or written
    /// to.
    ///
    /// # Errors
    /// `BadDestinations` for a server's or the own Id or at a server, `Failed` with `Full` over `Config::max_watches` or
    /// what the servers allow, `Stopped`.
    pub async fn watch(&self, what: Watch) -> Result<(), CommandError> {
        self.ask(|reply| Command::Watch { what, reply }).await.unwrap_or(Err(CommandError::Stopped))
    }

    /// Ends what [`watch`](Self::watch) began. No `PeerDown` comes of it.
    ///
    /// # Errors
    /// `Stopped`.
    pub async fn unwatch(&self, what: Watch) -> Result<(), CommandError> {
        self.ask(|reply| Command::Unwatch { what, reply }).await.ok_or(CommandError::Stopped)
    }

    /// The tables as of now.
    ///
    /// # Errors
    /// `Stopped`.
    pub async fn status(&self) -> Result<Status, CommandError> {
        self.ask(|reply| Command::Status { reply }).await.ok_or(CommandError::Stopped)
    }

    /// Sends one best-effort datagram.
    ///
    /// # Errors
    /// `TooLarge`, `Failed` without a link, `Stopped`.
    pub async fn datagram(&self, to: Id, data: impl Into<Bytes>) -> Result<(), CommandError> {
        let data = data.into();
        self.ask(|reply| Command::Datagram { to, data, reply }).await.unwrap_or(Err(CommandError::Stopped))
    }

    /// The next datagram that arrived; the oldest are dropped when nobody reads. `None` when the node has ended.
    pub async fn recv_datagram(&self) -> Option<(Id, Bytes)> {
        self.0.datagrams.take().await
    }

    /// Opens a byte stream both ways. If there is no link yet, it is made: what is written waits until then, and the stream
    /// is reset if none comes within `Config::stream_open_timeout`.
    ///
    /// # Errors
    /// `Failed` if no table shows `to`, or over `Config::max_streams` or `Config::max_waiting_streams`; `Stopped`.
    pub async fn open_stream(&self, to: Id) -> Result<ByteStream, CommandError> {
        self.ask(|reply| Command::OpenStream { to, reply }).await.unwrap_or(Err(CommandError::Stopped))
    }

    /// The next byte stream that a remote opened, and who; `None` when the node has ended.
    pub async fn accept_stream(&self) -> Option<(Id, ByteStream)> {
        let stream = self.0.streams.recv().await.ok()?;
        Some((stream.remote(), stream))
    }

    /// Says goodbye to all and waits until the node has ended, which takes at most about a second and a half.
    pub async fn stop(&self) {
        let _ = self.0.notices.try_put(Notice::Stop);
        self.ended().await;
    }

    /// Waits until the node has ended.
    pub async fn ended(&self) {
        let _ = self.0.ended.recv().await;
    }

    pub(crate) async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (sender, receiver) = oneshot::channel();
        self.0.commands.put(command(sender)).await.ok()?;
        receiver.recv().await
    }
}

impl fmt::Debug for NodeHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeHandle").field("id", &self.0.id).field("listen", &self.0.listen).finish_non_exhaustive()
    }
}

/// Takes the message off the accounts again, unless it reached the driver.
struct Entered<'a> {
    shared: &'a Shared,
    to: &'a [Id],
    messages: usize,
    bytes: usize,
    armed: bool,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        if self.armed {
            for id in self.to {
                if self.shared.flow.leave(*id, self.messages, self.bytes) {
                    self.shared.hub.put(Event::Unblocked { to: *id });
                }
            }
        }
    }
}
