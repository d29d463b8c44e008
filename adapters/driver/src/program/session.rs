//! `server` and `peer`: a node that runs until it is stopped, driven by lines.

mod commands;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use async_channel::Sender;
use futures_lite::future::or;
use p2pcore::{Event, Id};

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

/// Runs the node that `options` describe until `quit`, a signal, or the end of standard output's reader.
pub(super) fn run(program: &Program, options: Options, state: &Path, json: bool) -> Result<(), Failure> {
    let signals = signals::listen()?;
    let handle = node::start(program, options)?;
    let (clients_sender, clients) = async_channel::bounded(1);
    let stdout = Outlet::new(io::stdout()).map_err(|error| Failure::io("cannot start a thread", &error))?;
    let (quit, quits) = async_channel::bounded(1);
    let session = Arc::new(Session {
        program: program.clone(),
        handle,
        stdout: stdout.clone(),
        json,
        listeners: Mutex::default(),
        asked: Mutex::default(),
        stuck: Mutex::default(),
        quit,
    });
    program.runtime.run(async {
        // what was started is told goodbye even if the socket cannot be had
        let ended = match ControlSocket::listen(state, clients_sender) {
            Ok(socket) => {
                session.start(clients).await?;
                let signal = async {
                    let _ = signals.recv().await;
                    Ok(())
                };
                let quit = async { quits.recv().await.unwrap_or(Ok(())) };
                let ended = async {
                    session.handle.ended().await;
                    Err(Failure::new("the node has ended by itself"))
                };
                let result = or(signal, or(quit, ended)).await;
                drop(socket);
                result
            }
            Err(failure) => Err(failure),
        };
        session.within(STOP, session.handle.stop()).await;
        session
            .within(LAST_LINES, async {
                stdout.flush().await;
            })
            .await;
        ended
    })
}

/// What the tasks of a running program share.
struct Session {
    program: Program,
    handle: NodeHandle,
    stdout: Outlet,
    json: bool,
    /// The connections that get the events too.
    listeners: Mutex<Vec<Outlet>>,
    asked: Mutex<Asked>,
    /// Destinations whose queue stayed full: nobody waits for them until there is room.
    stuck: Mutex<BTreeSet<Id>>,
    quit: Sender<Result<(), Failure>>,
}

/// Requests of others, until they are answered.
#[derive(Default)]
struct Asked {
    last: u64,
    waiting: BTreeMap<u64, Responder>,
}

impl Session {
    async fn start(self: &Arc<Self>, clients: async_channel::Receiver<Client>) -> Result<(), Failure> {
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
        self.spawn(|session| async move {
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
        Ok(())
    }

    async fn event(&self, event: &Event) {
        if let Event::Unblocked { to } = event {
            lock(&self.stuck).remove(to);
        }
        if let Some(line) = node::event_line(event) {
            self.announce(&line).await;
        }
    }

    async fn message(&self, message: Message) {
        if internal::is_internal(&message.data) {
            return message.accept();
        }
        let event = EventLine::Message {
            from: message.from,
            role: message.from.role(),
            name: message.name.as_str(),
            lane: message.lane,
            data: Payload(&message.data),
        };
        let line = self.line(&event);
        self.tell_listeners(&event);
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
                _ => request.refuse(),
            }
            return;
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

    /// To standard output and to all connections.
    async fn announce(&self, event: &EventLine<'_>) {
        self.tell_listeners(event);
        if !self.json
            && let EventLine::Error { .. } = event
        {
            eprintln!("{}: {event}", self.program.name);
            return;
        }
        let written = self.stdout.put(self.line(event)).await;
        self.check_stdout(written);
    }

    fn tell_listeners(&self, event: &EventLine<'_>) {
        let mut listeners = lock(&self.listeners);
        if !listeners.is_empty() {
            let line = json::line(event).into();
            listeners.retain(|listener| listener.put_or_close(&line));
        }
    }

    fn line(&self, event: &EventLine<'_>) -> String {
        if self.json { json::line(event) } else { format!("{event}\n") }
    }

    /// Without its reader, nothing more can be handed over.
    fn check_stdout(&self, written: bool) {
        if !written {
            let _ = self.quit.try_send(Err(Failure::new("cannot write to standard output: its reader is gone")));
        }
    }

    fn spawn<F: Future<Output = ()> + Send + 'static>(self: &Arc<Self>, task: impl FnOnce(Arc<Self>) -> F) {
        self.program.runtime.spawn(Box::pin(task(self.clone())));
    }

    /// Whether `task` ended in time.
    async fn within(&self, time: Duration, task: impl Future<Output = ()>) -> bool {
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
