//! `recv`: stores the files that arrive.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use async_channel::{Receiver, Sender};
use futures_lite::future::or;
use p2pcore::Id;
use serde::Serialize;

use super::store::{self, Incoming};
use crate::{
    Delivery, Request, Responder,
    program::{
        Program,
        cli::RecvArgs,
        failure::{Failure, io_text},
        guest::{self, Guest},
        internal::{Abort, Chunk, Finish, Internal, Offer, Transfer, Verdict},
    },
};

/// Files on their way at a time; more are refused.
const MAX_TRANSFERS: usize = 64;
/// Verdicts that are remembered, because their sender may ask again.
const MAX_VERDICTS: usize = 256;
/// A file of which nothing came for so long is given up.
const IDLE: Duration = Duration::from_secs(180);
/// How long `--once` waits for the sender to know.
const THANKS: Duration = Duration::from_secs(5);

pub(in crate::program) fn run(program: &Program, args: &RecvArgs) -> Result<(), Failure> {
    let dir = &args.dir;
    let cannot = |error: &_| Failure::io(format_args!("cannot write to the directory `{}`", dir.display()), error);
    std::fs::create_dir_all(dir).map_err(|error| cannot(&error))?;
    store::remove_leftovers(dir);
    // better now than when the first file comes
    tempfile::tempfile_in(dir).map_err(|error| cannot(&error))?;
    guest::run(
        program,
        &args.guest,
        || Ok(()),
        |guest| async move { Receiving::new(&guest, dir, args.once).run().await },
    )
}

/// A line for each file.
#[derive(Serialize)]
struct Stored {
    event: &'static str,
    from: Id,
    name: String,
    bytes: u64,
    blake3: String,
}

type Key = (Id, Transfer);

/// A file that was brought to the disk, or not, by another thread.
struct Finished {
    key: Key,
    name: String,
    bytes: u64,
    blake3: String,
    result: Result<PathBuf, String>,
}

struct Receiving<'a> {
    guest: &'a Arc<Guest>,
    dir: &'a Path,
    once: bool,
    transfers: BTreeMap<Key, (Incoming, Instant)>,
    /// Those that wait for the disk, and who asks.
    finishing: BTreeMap<Key, Vec<Responder>>,
    verdicts: Vec<(Key, Verdict)>,
    finished_sender: Sender<Finished>,
    finished: Receiver<Finished>,
    /// The first file stored, and when `--once` ends even without its sender's thanks.
    last: Option<(Key, Instant)>,
}

enum Next {
    Delivery(Option<Delivery>),
    Finished(Finished),
    Time,
}

impl<'a> Receiving<'a> {
    fn new(guest: &'a Arc<Guest>, dir: &'a Path, once: bool) -> Self {
        let (finished_sender, finished) = async_channel::unbounded();
        Self {
            guest,
            dir,
            once,
            transfers: BTreeMap::new(),
            finishing: BTreeMap::new(),
            verdicts: Vec::new(),
            finished_sender,
            finished,
            last: None,
        }
    }

    async fn run(mut self) -> Result<(), Failure> {
        self.guest.greet(format!("{} stores files in {}\n", self.guest.handle.id(), self.dir.display())).await;
        loop {
            let idle = self.transfers.values().map(|(_, last)| *last + IDLE).min();
            let end = idle.into_iter().chain(self.last.map(|(_, end)| end)).min();
            let delivery = async { Next::Delivery(self.guest.inbox.recv().await.ok()) };
            let finished = async { self.finished.recv().await.map_or(Next::Time, Next::Finished) };
            let time = async {
                match end {
                    Some(end) => self.guest.program.runtime.sleep_until(end).await,
                    None => futures_lite::future::pending().await,
                }
                Next::Time
            };
            match or(finished, or(delivery, time)).await {
                Next::Delivery(None) => return Err(Failure::new("the node has ended")),
                Next::Delivery(Some(Delivery::Request(request))) => self.request(request).await,
                Next::Delivery(Some(Delivery::Message(message))) => {
                    match Internal::decode(&message.data) {
                        Some(Internal::Chunk(chunk)) => self.chunk(message.from, &chunk),
                        Some(Internal::Thanks(transfer)) => {
                            if self.last.is_some_and(|(key, _)| key == (message.from, transfer)) {
                                message.accept();
                                return Ok(());
                            }
                        }
                        _ => tracing::warn!(from = %message.from, "a message that is no file was thrown away"),
                    }
                    // only now: the receipt says that the piece is written
                    message.accept();
                }
                Next::Finished(finished) => self.finished(finished).await,
                Next::Time => {
                    let now = Instant::now();
                    if self.last.is_some_and(|(_, end)| end <= now) {
                        return Ok(());
                    }
                    self.transfers.retain(|_, (_, last)| *last + IDLE > now);
                }
            }
        }
    }

    async fn request(&mut self, request: Request) {
        let verdict = match Internal::decode(&request.data) {
            Some(Internal::Offer(offer)) => self.offer(request.from, &offer),
            Some(Internal::Finish(finish)) => return self.finish(request, &finish).await,
            _ => return request.refuse(),
        };
        let _ = request.reply(verdict.encode()).await;
    }

    fn offer(&mut self, from: Id, offer: &Offer) -> Verdict {
        let key = (from, offer.transfer);
        if self.transfers.contains_key(&key) {
            return Verdict::Yes;
        }
        if self.last.is_some() || self.once && !(self.transfers.is_empty() && self.finishing.is_empty()) {
            return Verdict::No("it takes one file only".into());
        }
        if self.transfers.len() >= MAX_TRANSFERS {
            return Verdict::No("too many files are under way: try again later".into());
        }
        if self.transfers.values().any(|(incoming, _)| incoming.name() == offer.name) {
            return Verdict::No(format!("another `{}` is under way", offer.name));
        }
        match Incoming::new(self.dir, &offer.name, offer.bytes) {
            Ok(incoming) => {
                self.transfers.insert(key, (incoming, Instant::now()));
                Verdict::Yes
            }
            Err(why) => Verdict::No(why),
        }
    }

    fn chunk(&mut self, from: Id, chunk: &Chunk) {
        let key = (from, chunk.transfer);
        let Some((incoming, last)) = self.transfers.get_mut(&key) else { return };
        *last = Instant::now();
        if let Err(why) = incoming.write(chunk.offset, &chunk.data) {
            self.transfers.remove(&key);
            self.remember(key, Verdict::No(why.clone()));
            let abort = Internal::Abort(Abort { transfer: chunk.transfer, why });
            let guest = self.guest.clone();
            self.guest.program.runtime.spawn(Box::pin(async move { guest.tell(from, &abort).await }));
        }
    }

    async fn finish(&mut self, request: Request, finish: &Finish) {
        let key = (request.from, finish.transfer);
        if let Some(asking) = self.finishing.get_mut(&key) {
            asking.push(request.accept());
            return;
        }
        if let Some((_, verdict)) = self.verdicts.iter().find(|(known, _)| *known == key) {
            let verdict = verdict.encode();
            let _ = request.reply(verdict).await;
            return;
        }
        let Some((incoming, _)) = self.transfers.remove(&key) else {
            let _ = request.reply(Verdict::No("it knows nothing of this file: send it again".into()).encode()).await;
            return;
        };
        self.finishing.insert(key, vec![request.accept()]);
        let (name, bytes, blake3) = (incoming.name().to_owned(), incoming.bytes(), finish.blake3.clone());
        let sender = self.finished_sender.clone();
        // a disk may take long: pings and other files go on
        let spawned = std::thread::Builder::new().name("store".into()).spawn({
            let (name, blake3) = (name.clone(), blake3.clone());
            move || {
                let result = incoming.finish(&blake3);
                let _ = sender.try_send(Finished { key, name, bytes, blake3, result });
            }
        });
        if let Err(error) = spawned {
            let result = Err(format!("it cannot be stored: {}", io_text(&error)));
            self.finished(Finished { key, name, bytes, blake3, result }).await;
        }
    }

    async fn finished(&mut self, finished: Finished) {
        let Finished { key, name, bytes, blake3, result } = finished;
        let from = key.0;
        let verdict = match result {
            Ok(path) => {
                let text = || format!("{bytes} bytes from {from} stored in {}\n", path.display());
                self.guest.say(&Stored { event: "stored", from, name, bytes, blake3 }, text).await;
                if self.once {
                    self.last = Some((key, Instant::now() + THANKS));
                }
                Verdict::Yes
            }
            Err(why) => {
                eprintln!("{}: `{name}` from {from}: {why}", self.guest.program.name);
                Verdict::No(why)
            }
        };
        for responder in self.finishing.remove(&key).unwrap_or_default() {
            let _ = responder.reply(verdict.encode()).await;
        }
        self.remember(key, verdict);
    }

    fn remember(&mut self, key: Key, verdict: Verdict) {
        if self.verdicts.len() >= MAX_VERDICTS {
            self.verdicts.remove(0);
        }
        self.verdicts.push((key, verdict));
    }
}
