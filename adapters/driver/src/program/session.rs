//! A running node, driven by lines: `server` and `peer` until they are stopped, the guests until their one command is done.

mod commands;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use async_channel::{Receiver, Sender};
use futures_lite::future::or;
use p2pcore::{Event, Id};
use serde::Serialize;

use super::{
    Program,
    control::{Client, ControlSocket},
    failure::Failure,
    internal::{self, Internal},
    json::{self, EventLine, Payload},
    node,
    outlet::Outlet,
    signals,
};
use crate::{Delivery, Message, NodeHandle, Options, Request, Responder};

/// How long the goodbye may take, and then the last lines.
const STOP: Duration = Duration::from_millis(1_600);
const LAST_LINES: Duration = Duration::from_millis(200);
/// Requests that wait for the `reply` command; past it, the oldest is refused.
const MAX_ASKED: usize = 4_096;

/// What is to run.
pub(super) struct Setup<'a> {
    pub(super) options: Options,
    /// Where the control socket goes; `None` in a directory that nobody knows of.
    pub(super) control: Option<&'a Path>,
    pub(super) json: bool,
    /// What a node that lives for one command has beside the lines.
    pub(super) guest: Option<Hooks>,
}

/// What the session leaves to the task of a guest.
pub(super) struct Hooks {
    /// Messages and requests of the programs themselves, all but pings.
    pub(super) inbox: Sender<Delivery>,
    /// Sees each event first; whether it is to be announced too.
    pub(super) events: Box<dyn Fn(&Event) -> bool + Send + Sync>,
}

/// Runs a server or a peer until `quit`, a signal, or the end of standard output's reader.
pub(super) fn run(program: &Program, options: Options, state: &Path, json: bool) -> Result<(), Failure> {
    let signals = signals::listen()?;
    let setup = Setup { options, control: Some(state), json, guest: None };
    run_task(program, &signals, setup, || Ok(()), |_| futures_lite::future::pending())
}

/// Runs a node until `task` ends, or until `quit` or a signal, which make `interrupted`. Everything was written when it
/// returns, and nothing more is.
pub(super) fn run_task<T, F>(
    program: &Program,
    signals: &Receiver<()>,
    setup: Setup<'_>,
    interrupted: impl FnOnce() -> Result<T, Failure>,
    task: impl FnOnce(Arc<Session>) -> F,
) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    let handle = node::start(program, setup.options)?;
    let (clients_sender, clients) = async_channel::bounded(1);
    let stdout = Outlet::new(io::stdout()).map_err(|error| Failure::io("cannot start a thread", &error))?;
    let (quit, quits) = async_channel::bounded(1);
    let (owing, owed) = async_channel::bounded(1);
    let session = Arc::new(Session {
        program: program.clone(),
        handle,
        stdout: stdout.clone(),
        json: setup.json,
        guest: setup.guest,
        listeners: Mutex::default(),
        asked: Mutex::default(),
        stuck: Mutex::default(),
        owing: Mutex::new(Some(owing)),
        quit,
    });
    program.runtime.run(async {
        // what was started is told goodbye even if the socket cannot be had
        let ended = match setup.control.map(|state| ControlSocket::listen(state, clients_sender)).transpose() {
            Ok(socket) => {
                let events_end = session.start(clients).await?;
                let asked = async {
                    let signal = async {
                        let _ = signals.recv().await;
                        Ok(())
                    };
                    let quit = async { quits.recv().await.unwrap_or(Ok(())) };
                    or(signal, quit).await.and_then(|()| interrupted())
                };
                let ended = async {
                    session.handle.ended().await;
                    // the last event may be that it was meant to end
                    let _ = events_end.recv().await;
                    Err(Failure::new("the node has ended by itself"))
                };
                let result = or(asked, or(task(session.clone()), ended)).await;
                drop(socket);
                result
            }
            Err(failure) => Err(failure),
        };
        session.within(STOP, session.handle.stop()).await;
        let answered = async {
            lock(&session.owing).take();
            let _ = owed.recv().await;
        };
        session.within(LAST_LINES, answered).await;
        session.within(LAST_LINES, stdout.finish()).await;
        ended
    })
}

/// What the tasks of a running program share.
pub(super) struct Session {
    pub(super) program: Program,
    pub(super) handle: NodeHandle,
    stdout: Outlet,
    json: bool,
    guest: Option<Hooks>,
    /// The connections that get the events too.
    listeners: Mutex<Vec<Outlet>>,
    asked: Mutex<Asked>,
    /// Destinations whose queue stayed full: nobody waits for them until there is room.
    stuck: Mutex<BTreeSet<Id>>,
    /// Each task that owes somebody a line has a copy.
    owing: Mutex<Option<Sender<()>>>,
    quit: Sender<Result<(), Failure>>,
}

/// Requests of others, until they are answered.
#[derive(Default)]
struct Asked {
    last: u64,
    waiting: BTreeMap<u64, Responder>,
}

impl Session {
    /// Begins to serve. The channel that it gives back is closed when all events were dealt with.
    async fn start(self: &Arc<Self>, clients: Receiver<Client>) -> Result<Receiver<()>, Failure> {
        let events = self.handle.events();
        self.announce(&node::ready_line(&self.handle)).await;
        if self.json {
            let stdin = Client::new(io::stdin(), self.stdout.clone());
            let stdin = stdin.map_err(|error| Failure::io("cannot read standard input", &error))?;
            self.spawn(|session| session.serve(stdin));
        }
        self.spawn(|session| async move {
            while let Ok(client) = clients.recv().await {
                lock(&session.listeners).push(client.outlet.clone());
                session.spawn(|session| session.serve(client));
            }
        });
        let (events_end, ended) = async_channel::bounded(1);
        self.spawn_owing(|session| async move {
            let _events_end = events_end;
            while let Some(event) = events.next().await {
                session.event(&event).await;
                let missed = events.take_missed();
                if missed > 0 {
                    let reason = format!("{missed} events are missing here: standard output is read too slowly");
                    session.announce(&EventLine::Error { reference: None, reason }).await;
                }
            }
        });
        self.spawn(|session| async move {
            while let Some(delivery) = session.handle.recv().await {
                match delivery {
                    Delivery::Message(message) => session.message(message).await,
                    Delivery::Request(request) => session.request(request).await,
                }
            }
        });
        self.spawn(|session| async move {
            // these programs do not speak in streams: dropping one resets it
            while session.handle.accept_stream().await.is_some() {}
        });
        Ok(ended)
    }

    async fn event(&self, event: &Event) {
        tracing::debug!(?event);
        if let Event::Unblocked { to } = event {
            lock(&self.stuck).remove(to);
        }
        let wanted = self.guest.as_ref().is_none_or(|guest| (guest.events)(event));
        if wanted && let Some(line) = node::event_line(event) {
            self.announce(&line).await;
        }
        if *event == Event::Left {
            // the node is on its way out, as it was told to be
            let _ = self.quit.try_send(Ok(()));
        }
    }

    async fn message(&self, message: Message) {
        if internal::is_internal(&message.data) {
            return self.leave_to_guest(Delivery::Message(message)).await;
        }
        let event = EventLine::Message {
            from: message.from,
            role: message.from.role(),
            name: message.name.as_str(),
            lane: message.lane,
            data: Payload(&message.data),
        };
        let line = self.line(&event);
        self.tell_listeners(json::line(&event));
        let written = self.stdout.put_message(line, message).await;
        self.check_stdout(written);
    }

    async fn request(self: &Arc<Self>, request: Request) {
        if internal::is_internal(&request.data) {
            match Internal::decode(&request.data) {
                Some(Internal::Ping(_)) => {
                    let echo = request.data.clone();
                    self.spawn(|_| async move { drop(request.reply(echo).await) });
                }
                _ => self.leave_to_guest(Delivery::Request(request)).await,
            }
            return;
        }
        if self.guest.is_some() && !self.json && lock(&self.listeners).is_empty() {
            return request.refuse(); // nobody could answer it
        }
        let (from, name, data) = (request.from, request.name.clone(), request.data.clone());
        let rid = {
            let mut asked = lock(&self.asked);
            asked.last += 1;
            let rid = asked.last;
            asked.waiting.insert(rid, request.accept());
            if asked.waiting.len() > MAX_ASKED {
                asked.waiting.pop_first();
            }
            rid
        };
        let data = Payload(&data);
        self.announce(&EventLine::Request { from, role: from.role(), name: name.as_str(), rid, data }).await;
    }

    /// What nobody takes is accepted or refused by being dropped.
    async fn leave_to_guest(&self, delivery: Delivery) {
        if let Some(guest) = &self.guest {
            let _ = guest.inbox.send(delivery).await;
        }
    }

    /// A line of the guest's own: `text` is what humans get to see on standard output.
    pub(super) async fn say(&self, event: &impl Serialize, text: impl FnOnce() -> String) {
        let line = json::line(event);
        let own = if self.json { line.clone() } else { text() };
        self.tell_listeners(line);
        self.stdout.put(own).await;
    }

    /// For humans only.
    pub(super) async fn greet(&self, text: String) {
        if !self.json {
            self.stdout.put(text).await;
        }
    }

    /// To standard output and to all connections.
    async fn announce(&self, event: &EventLine<'_>) {
        self.tell_listeners(json::line(event));
        if !self.json {
            match event {
                EventLine::Error { .. } => return eprintln!("{}: {event}", self.program.name),
                EventLine::Message { .. } | EventLine::Request { .. } => {}
                // one command, one answer: the rest is for the connections
                _ if self.guest.is_some() => return,
                _ => {}
            }
        }
        let written = self.stdout.put(self.line(event)).await;
        self.check_stdout(written);
    }

    fn tell_listeners(&self, line: String) {
        let mut listeners = lock(&self.listeners);
        if !listeners.is_empty() {
            let line = line.into();
            listeners.retain(|listener| listener.put_or_close(&line));
        }
    }

    fn line(&self, event: &EventLine<'_>) -> String {
        if self.json { json::line(event) } else { format!("{event}\n") }
    }

    /// Without its reader, nothing more can be handed over; a guest has its one command to end.
    fn check_stdout(&self, written: bool) {
        if !written && self.guest.is_none() {
            let _ = self.quit.try_send(Err(Failure::new("cannot write to standard output: its reader is gone")));
        }
    }

    /// As `spawn`; the end of the program waits for what `task` has to say.
    fn spawn_owing<F: Future<Output = ()> + Send + 'static>(self: &Arc<Self>, task: impl FnOnce(Arc<Self>) -> F) {
        let owing = lock(&self.owing).clone();
        let task = task(self.clone());
        self.spawn(|_| async move {
            task.await;
            drop(owing);
        });
    }

    fn spawn<F: Future<Output = ()> + Send + 'static>(self: &Arc<Self>, task: impl FnOnce(Arc<Self>) -> F) {
        self.program.runtime.spawn(Box::pin(task(self.clone())));
    }

    /// Whether `task` ended in time.
    pub(super) async fn within(&self, time: Duration, task: impl Future<Output = ()>) -> bool {
        let end = async {
            self.program.runtime.sleep_until(Instant::now() + time).await;
            false
        };
        or(
            async {
                task.await;
                true
            },
            end,
        )
        .await
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
