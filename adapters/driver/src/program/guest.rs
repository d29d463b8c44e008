//! A peer that lives for one command.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use async_channel::{Receiver, Sender};
use bytes::Bytes;
use futures_lite::future::or;
use p2pcore::{
    Event, Id, Reason, Role,
    node::{PathKind, SendOptions},
};
use serde::Serialize;
use tempfile::TempDir;

use super::{
    Program,
    cli::GuestArgs,
    failure::Failure,
    internal::Internal,
    node,
    session::{self, Hooks, Session, Setup},
    signals,
};
use crate::{Delivery, NodeHandle, RequestError};

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
    session: Arc<Session>,
    /// What other programs' guests say to this one; who reads nothing of it has to close it.
    pub(super) inbox: Receiver<Delivery>,
    news: Arc<News>,
    /// A message at the first server, or why there will be none.
    first_server: Receiver<Result<(), Failure>>,
}

struct News {
    paths: Mutex<BTreeMap<Id, (PathKind, Option<Id>)>>,
    first_server: Sender<Result<(), Failure>>,
    /// Whether the command ends with the first warning, which then is its one line.
    connecting: AtomicBool,
}

impl News {
    /// Whether the event is to be announced.
    fn note(&self, event: &Event) -> bool {
        match event {
            Event::ServerUp { .. } => drop(self.first_server.try_send(Ok(()))),
            Event::Warning(warning) => {
                let _ = self.first_server.try_send(Err(Failure::new(warning)));
                return !self.connecting.load(Ordering::Relaxed);
            }
            Event::Path { id, kind, via } => {
                self.paths.lock().unwrap_or_else(PoisonError::into_inner).insert(*id, (*kind, *via));
            }
            _ => {}
        }
        true
    }
}

/// Starts a peer, runs `task` with it until it ends or is told to by `quit` or a signal, which make `interrupted`, and
/// says goodbye.
pub(super) fn run<T, F>(
    program: &Program,
    args: &GuestArgs,
    interrupted: impl FnOnce() -> Result<T, Failure>,
    task: impl FnOnce(Arc<Guest>) -> F,
) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    let signals = signals::listen()?;
    let (state, _temporary) = state(args)?;
    let options = node::options(Role::Peer, &args.node, &state)?;
    let (first_sender, first_server) = async_channel::bounded(1);
    let (inbox_sender, inbox) = async_channel::bounded(1);
    let news =
        Arc::new(News { paths: Mutex::default(), first_server: first_sender, connecting: AtomicBool::new(false) });
    let watching = news.clone();
    let hooks = Hooks { inbox: inbox_sender, events: Box::new(move |event| watching.note(event)) };
    let setup = Setup { options, control: args.state.as_deref(), json: args.node.json, guest: Some(hooks) };
    session::run_task(program, &signals, setup, interrupted, |session| {
        let (handle, program) = (session.handle.clone(), session.program.clone());
        task(Arc::new(Guest { handle, program, session, inbox, news, first_server }))
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
    /// Waits for the first server.
    pub(super) async fn connected(&self) -> Result<(), Failure> {
        let first =
            async { self.first_server.recv().await.unwrap_or_else(|_| Err(Failure::new("the node has ended"))) };
        let end = async {
            self.sleep(FIRST_SERVER).await;
            Err(Failure::new("no server answered: the network key or the address may be wrong"))
        };
        self.news.connecting.store(true, Ordering::Relaxed);
        let connected = or(first, end).await;
        self.news.connecting.store(false, Ordering::Relaxed);
        connected
    }

    /// One line on standard output, and to the connections.
    pub(super) async fn say(&self, event: &impl Serialize, text: impl FnOnce() -> String) {
        self.session.say(event, text).await;
    }

    /// What humans are told at the start.
    pub(super) async fn greet(&self, text: String) {
        self.session.greet(text).await;
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
        self.session.within(Duration::from_secs(2), sent).await;
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

/// To standard output; a reader that is gone wants nothing more.
pub(super) fn print(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}
