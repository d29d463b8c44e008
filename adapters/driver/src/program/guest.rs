//! A peer that lives for one command.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_channel::{Receiver, Sender};
use bytes::Bytes;
use futures_lite::future::or;
use p2pcore::{
    Event, Id, Reason, Role,
    node::{PathKind, SendOptions},
};
use tempfile::TempDir;

use super::{
    Program,
    cli::GuestArgs,
    failure::Failure,
    internal::Internal,
    json::{self, EventLine},
    node, signals,
};
use crate::{Events, NodeHandle, RequestError};

/// How long the goodbye may take.
const STOP: Duration = Duration::from_millis(1_600);
/// How long to look for a server before that is an error; a node says so itself after a few seconds.
const FIRST_SERVER: Duration = Duration::from_secs(15);
/// How long an Id may be in no directory after the first server is there.
const DIRECTORY: Duration = Duration::from_secs(3);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(100);

/// The node and what it has said so far.
pub(super) struct Guest {
    pub(super) handle: NodeHandle,
    pub(super) program: Program,
    pub(super) json: bool,
    news: Arc<News>,
    /// A message at the first server, or why there will be none.
    first_server: Receiver<Result<(), Failure>>,
}

#[derive(Default)]
struct News {
    paths: Mutex<BTreeMap<Id, (PathKind, Option<Id>)>>,
}

/// Starts a peer, runs `task` with it until it ends or a signal comes, which makes `interrupted`, and says goodbye.
pub(super) fn run<T, F>(
    program: &Program,
    args: &GuestArgs,
    interrupted: Result<T, Failure>,
    task: impl FnOnce(Arc<Guest>) -> F,
) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    let signals = signals::listen()?;
    let (state, _temporary) = state(args)?;
    let mut options = node::options(Role::Peer, &args.node, &state)?;
    options.state = Some(state);
    let handle = node::start(program, options)?;
    let guest = Arc::new(Guest::new(program, handle, args.node.json));
    program.runtime.run(async {
        let interrupted = async {
            let _ = signals.recv().await;
            interrupted
        };
        let result = or(interrupted, task(guest.clone())).await;
        guest.within(STOP, guest.handle.stop()).await;
        result
    })
}

fn state(args: &GuestArgs) -> Result<(PathBuf, Option<TempDir>), Failure> {
    if let Some(state) = &args.state {
        return Ok((state.clone(), None));
    }
    let made = tempfile::Builder::new().prefix("p2pcore-").tempdir();
    let made = made.map_err(|error| Failure::io("cannot make a temporary directory", &error))?;
    Ok((made.path().to_owned(), Some(made)))
}

impl Guest {
    fn new(program: &Program, handle: NodeHandle, json: bool) -> Self {
        let (sender, first_server) = async_channel::bounded(1);
        let news = Arc::new(News::default());
        let name = program.name;
        print_event(name, json, &node::ready_line(&handle));
        program.runtime.spawn(Box::pin(follow(handle.events(), news.clone(), sender, name, json)));
        Self { handle, program: program.clone(), json, news, first_server }
    }

    /// Waits for the first server.
    pub(super) async fn connected(&self) -> Result<(), Failure> {
        let first =
            async { self.first_server.recv().await.unwrap_or_else(|_| Err(Failure::new("the node has ended"))) };
        let end = async {
            self.sleep(FIRST_SERVER).await;
            Err(Failure::new("no server answered: the network key or the address may be wrong"))
        };
        or(first, end).await
    }

    /// Asks, and asks again for as long as a fresh node may not know the Id yet.
    pub(super) async fn ask(&self, to: Id, request: &Internal, timeout: Duration) -> Result<Bytes, RequestError> {
        let start = Instant::now();
        loop {
            match self.handle.request(to, request.encode(), Some(timeout)).await {
                Err(error)
                    if matches!(error.reason(), Reason::UnknownId | Reason::Offline | Reason::Suspended)
                        && start.elapsed() < DIRECTORY =>
                {
                    self.sleep(PAUSE).await;
                }
                result => return result,
            }
        }
    }

    /// Sends something internal and waits a moment for its receipt.
    pub(super) async fn tell(&self, to: Id, message: &Internal) {
        let sent = async {
            if let Ok(outcomes) = self.handle.send(&[to], message.encode(), SendOptions::default()).await {
                outcomes.all().await;
            }
        };
        self.within(Duration::from_secs(2), sent).await;
    }

    /// The way to `id` now, or the last one there was.
    pub(super) async fn path(&self, id: Id) -> (Option<PathKind>, Option<Id>) {
        if let Ok(status) = self.handle.status().await
            && let Some(peer) = status.peers.iter().find(|peer| peer.info.id == id)
            && peer.kind.is_some()
        {
            return (peer.kind, peer.via);
        }
        let paths = self.news.paths.lock().unwrap_or_else(PoisonError::into_inner);
        paths.get(&id).map_or((None, None), |(kind, via)| (Some(*kind), *via))
    }

    pub(super) async fn sleep(&self, time: Duration) {
        self.program.runtime.sleep_until(Instant::now() + time).await;
    }

    /// Gives `task` up after `time`.
    pub(super) async fn within(&self, time: Duration, task: impl Future<Output = ()>) {
        or(task, self.sleep(time)).await;
    }
}

/// One clear line for a request that failed.
pub(super) fn unreachable(to: Id, reason: Reason) -> Failure {
    Failure::new(match reason {
        Reason::UnknownId => format!("no server knows {to}: check the Id, and that the node is running"),
        Reason::Offline => format!("node {to} is offline: no server is linked to it"),
        Reason::Timeout => format!("node {to} did not answer in time"),
        Reason::Refused => format!("node {to} refused"),
        Reason::Suspended => format!("cannot reach {to}: no server is reachable"),
        other => format!("cannot reach {to}: {other}"),
    })
}

async fn follow(
    events: Events,
    news: Arc<News>,
    first_server: Sender<Result<(), Failure>>,
    name: &'static str,
    json: bool,
) {
    while let Some(event) = events.next().await {
        match &event {
            Event::ServerUp { .. } => drop(first_server.try_send(Ok(()))),
            Event::Warning(warning) => drop(first_server.try_send(Err(Failure::new(warning)))),
            Event::Path { id, kind, via } => {
                news.paths.lock().unwrap_or_else(PoisonError::into_inner).insert(*id, (*kind, *via));
            }
            _ => {}
        }
        if let Some(line) = node::event_line(&event)
            && json
        {
            print_event(name, json, &line);
        }
    }
}

fn print_event(name: &str, json: bool, event: &EventLine<'_>) {
    if json {
        print(&json::line(event));
    } else if let EventLine::Error { .. } = event {
        eprintln!("{name}: {event}");
    }
}

/// To standard output; a reader that is gone wants nothing more.
pub(super) fn print(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}
