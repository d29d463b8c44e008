//! `send`: one file to a node that runs `recv`.

use std::{
    fs::File,
    io::{self, IsTerminal, Read, Seek, SeekFrom},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use async_channel::{Receiver, Sender};
use bytes::Bytes;
use futures_lite::future::or;
use indicatif::{ProgressBar, ProgressStyle};
use p2pcore::{
    Id, Reason,
    node::{Outcome, SendOptions},
};
use serde::Serialize;

use super::{CHUNK, LANE};
use crate::{
    Delivery,
    program::{
        Program,
        cli::SendArgs,
        failure::Failure,
        guest::{self, Guest},
        internal::{Chunk, Finish, Internal, Offer, Transfer, Verdict, printable},
        json,
    },
};

/// Pieces under way at a time: 16 MiB cover 1 Gbit/s at a round trip of 100 ms.
const WINDOW: usize = 64;
/// How long the receiver may take to answer the offer.
const OFFER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long it may take to bring the file to its disk, before it is asked again.
const FINISH_TIMEOUT: Duration = Duration::from_secs(60);
/// How long to go on without any progress.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(200);

pub(in crate::program) fn run(program: &Program, args: &SendArgs) -> Result<(), Failure> {
    let source = Source::open(&args.file)?;
    let sent =
        guest::run(program, &args.guest, || Err(Failure::new("interrupted")), |guest| send(guest, args.to, source))?;
    guest::print(&if args.guest.node.json { json::line(&sent) } else { format!("{}\n", sent.text()) });
    Ok(())
}

/// What there is to say at the end.
#[derive(Serialize)]
struct Sent {
    bytes: u64,
    blake3: String,
    ms: u64,
    mb_s: f64,
    kind: Option<&'static str>,
    via: Option<Id>,
    longest_stall_ms: u64,
}

impl Sent {
    fn text(&self) -> String {
        let Self { bytes, blake3, ms, mb_s, longest_stall_ms, .. } = self;
        let kind = self.kind.unwrap_or("unknown");
        let via = self.via.map(|via| format!(" via {via}")).unwrap_or_default();
        format!(
            "sent {bytes} bytes in {ms} ms ({mb_s} MB/s), path {kind}{via}, longest stall {longest_stall_ms} ms, blake3 {blake3}"
        )
    }
}

/// The file to send.
struct Source {
    file: File,
    name: String,
    bytes: u64,
}

impl Source {
    fn open(path: &Path) -> Result<Self, Failure> {
        let cannot = |error: io::Error| Failure::io(format_args!("cannot read `{}`", path.display()), &error);
        let name =
            path.file_name().and_then(|name| name.to_str()).map(str::to_owned).ok_or_else(|| {
                Failure::new(format_args!("`{}` has no name of UTF-8 to store it under", path.display()))
            })?;
        let file = File::open(path).map_err(cannot)?;
        let metadata = file.metadata().map_err(cannot)?;
        if !metadata.is_file() {
            return Err(Failure::new(format_args!("`{}` is not a file", path.display())));
        }
        Ok(Self { file, name, bytes: metadata.len() })
    }

    /// The piece at `offset`, ready to be sent; empty at the end.
    fn chunk(&mut self, transfer: Transfer, offset: u64) -> Result<(Bytes, usize), Failure> {
        let mut buffer = Chunk::buffer(CHUNK);
        let read = self
            .file
            .seek(SeekFrom::Start(offset))
            .and_then(|_| (&mut self.file).take(CHUNK as u64).read_to_end(&mut buffer))
            .map_err(|error| Failure::io(format_args!("cannot read `{}`", self.name), &error))?;
        Ok((Chunk::encode(transfer, offset, buffer), read))
    }
}

async fn send(guest: Arc<Guest>, to: Id, source: Source) -> Result<Sent, Failure> {
    if to == guest.handle.id() {
        return Err(Failure::new(format_args!("node {to} is this node itself: choose another")));
    }
    let transfer = Transfer(crate::keys::random()?);
    let aborted = async { Err(aborted(&guest, to, transfer).await) };
    or(send_as(transfer, &guest, to, source), aborted).await
}

async fn send_as(transfer: Transfer, guest: &Guest, to: Id, source: Source) -> Result<Sent, Failure> {
    guest.connected().await?;
    let offer = Internal::Offer(Offer { transfer, name: source.name.clone(), bytes: source.bytes });
    let answer = guest.ask(to, &offer, OFFER_TIMEOUT).await.map_err(|error| match error.reason() {
        Reason::Refused => Failure::new(format_args!("node {to} takes no files: run `recv` there")),
        reason => guest::unreachable(to, reason),
    })?;
    check(to, &answer)?;

    let start = Instant::now();
    let bar = progress(source.bytes);
    let (outcomes_sender, outcomes) = async_channel::unbounded();
    let mut sending = Sending { guest, to, transfer, source, outcomes_sender, outcomes, stall: Stall::default(), bar };
    let blake3 = sending.pieces().await?;
    let longest_stall = sending.stall.longest;
    sending.bar.finish_and_clear();
    let bytes = sending.source.bytes;
    finish(guest, to, transfer, &blake3).await?;
    let time = start.elapsed();
    guest.tell(to, &Internal::Thanks(transfer)).await;

    let (kind, via) = guest.path(to).await;
    let mb_s = bytes as f64 / 1e6 / time.as_secs_f64().max(1e-6);
    Ok(Sent {
        bytes,
        blake3,
        ms: millis(time),
        mb_s: (mb_s * 10.0).round() / 10.0,
        kind: kind.map(|kind| kind.as_str()),
        via,
        longest_stall_ms: millis(longest_stall),
    })
}

/// What became of the piece at this offset.
type Fate = (u64, usize, Outcome);

struct Sending<'a> {
    guest: &'a Guest,
    to: Id,
    transfer: Transfer,
    source: Source,
    outcomes_sender: Sender<Fate>,
    outcomes: Receiver<Fate>,
    stall: Stall,
    bar: ProgressBar,
}

impl Sending<'_> {
    /// Sends all pieces and waits for their receipts; gives back the hash.
    async fn pieces(&mut self) -> Result<String, Failure> {
        let mut hasher = blake3::Hasher::new();
        let (mut next, mut under_way) = (0, 0);
        let mut progress = Instant::now();
        while next < self.source.bytes || under_way > 0 {
            if next < self.source.bytes && under_way < WINDOW {
                let (chunk, len) = self.source.chunk(self.transfer, next)?;
                let whole = len == CHUNK || next + len as u64 == self.source.bytes;
                if !whole || next + len as u64 > self.source.bytes {
                    return Err(Failure::new(format_args!("`{}` changed while it was sent", self.source.name)));
                }
                hasher.update(Chunk::data(&chunk));
                self.piece(chunk, next, len).await?;
                next += len as u64;
                under_way += 1;
                self.stall.begun(Instant::now());
                continue;
            }
            let (offset, len, outcome) = self.outcomes.recv().await.map_err(|_| Failure::new("the node has ended"))?;
            match outcome {
                Outcome::Delivered => {
                    under_way -= 1;
                    progress = Instant::now();
                    self.stall.received(progress, under_way > 0);
                    self.bar.inc(len as u64);
                }
                Outcome::Failed(reason) if progress.elapsed() > PATIENCE => {
                    return Err(guest::unreachable(self.to, reason));
                }
                Outcome::Expired if progress.elapsed() > PATIENCE => {
                    return Err(guest::unreachable(self.to, Reason::Timeout));
                }
                // writing a piece twice does no harm
                Outcome::Failed(_) | Outcome::Expired => {
                    self.guest.sleep(PAUSE).await;
                    let (chunk, again) = self.source.chunk(self.transfer, offset)?;
                    self.piece(chunk, offset, again).await?;
                }
            }
        }
        Ok(hasher.finalize().to_hex().to_string())
    }

    async fn piece(&self, chunk: Bytes, offset: u64, len: usize) -> Result<(), Failure> {
        let sent = self.guest.handle.send(&[self.to], chunk, SendOptions::default().lane(LANE)).await;
        let mut outcomes = sent.map_err(Failure::new)?;
        let sender = self.outcomes_sender.clone();
        self.guest.program.runtime.spawn(Box::pin(async move {
            if let Some((_, outcome)) = outcomes.next().await {
                let _ = sender.send((offset, len, outcome)).await;
            }
        }));
        Ok(())
    }
}

/// The longest time without a receipt while pieces were under way.
#[derive(Debug, Default)]
struct Stall {
    since: Option<Instant>,
    longest: Duration,
}

impl Stall {
    fn begun(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    fn received(&mut self, now: Instant, more: bool) {
        if let Some(since) = self.since {
            self.longest = self.longest.max(now.saturating_duration_since(since));
        }
        self.since = more.then_some(now);
    }
}

/// Ends when the receiver gives up. Other files are refused: this node lives for one.
async fn aborted(guest: &Guest, to: Id, transfer: Transfer) -> Failure {
    while let Ok(delivery) = guest.inbox.recv().await {
        match delivery {
            Delivery::Request(request) => request.refuse(),
            Delivery::Message(message) => {
                if let Some(Internal::Abort(abort)) = Internal::decode(&message.data)
                    && message.from == to
                    && abort.transfer == transfer
                {
                    return Failure::new(format_args!("node {to} gave up: {}", printable(&abort.why)));
                }
            }
        }
    }
    Failure::new("the node has ended")
}

/// Asks whether all is right, again if the answer got lost.
async fn finish(guest: &Guest, to: Id, transfer: Transfer, blake3: &str) -> Result<(), Failure> {
    let start = Instant::now();
    let question = Internal::Finish(Finish { transfer, blake3: blake3.to_owned() });
    loop {
        match guest.handle.request(to, question.encode(), Some(FINISH_TIMEOUT)).await {
            Ok(answer) => return check(to, &answer),
            Err(error) if start.elapsed() > PATIENCE || error.reason() == Reason::Refused => {
                return Err(guest::unreachable(to, error.reason()));
            }
            Err(_) => guest.sleep(PAUSE).await,
        }
    }
}

fn check(to: Id, answer: &[u8]) -> Result<(), Failure> {
    match Verdict::decode(answer) {
        Some(Verdict::Yes) => Ok(()),
        Some(Verdict::No(why)) => {
            Err(Failure::new(format_args!("node {to} did not take the file: {}", printable(&why))))
        }
        None => Err(Failure::new(format_args!("node {to} does not speak this version of the file transfer"))),
    }
}

fn progress(bytes: u64) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(bytes);
    let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_is_silence_while_something_is_under_way() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut stall = Stall::default();
        stall.begun(at(0));
        stall.begun(at(50));
        stall.received(at(100), true);
        stall.received(at(130), false);
        // nothing was under way for a long time
        stall.begun(at(9_000));
        stall.received(at(9_010), false);
        assert_eq!(stall.longest, Duration::from_millis(100));
    }

    #[test]
    fn the_last_line_has_the_keys_of_the_contract() {
        let sent = Sent {
            bytes: 1,
            blake3: "b".into(),
            ms: 2,
            mb_s: 3.5,
            kind: Some("direct"),
            via: None,
            longest_stall_ms: 4,
        };
        assert_eq!(
            json::line(&sent),
            "{\"bytes\":1,\"blake3\":\"b\",\"ms\":2,\"mb_s\":3.5,\"kind\":\"direct\",\"via\":null,\"longest_stall_ms\":4}\n"
        );
    }

    #[test]
    fn what_is_no_file_cannot_be_sent() {
        let dir = tempfile::tempdir().unwrap();
        let error = Source::open(dir.path()).map(|_| ()).unwrap_err().to_string();
        assert!(error.ends_with("is not a file"), "{error}");
        let error = Source::open(&dir.path().join("none")).map(|_| ()).unwrap_err().to_string();
        assert!(error.ends_with("no such file or directory"), "{error}");
    }
}
