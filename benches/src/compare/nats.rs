//! NATS from Debian: the server a process of its own, two clients in this one, all without TLS as it comes.

use std::{
    io::{self, BufRead, BufReader},
    process::{Child, ChildStderr, Command, Stdio},
};

use async_nats::{Client, ConnectOptions, Message, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::task::JoinHandle;

use super::{
    Doing, Load, Work,
    meter::{Sample, Stopwatch, ask_in_turn},
};
use crate::Failure;

const PROGRAM: &str = "nats-server";
/// What the server says of the address that it has chosen.
const LISTENING: &str = "Listening for client connections on ";
const SUBJECT: &str = "p2pcore.benches";
/// Most bytes of messages on their way: the server drops a client that is 64 MiB behind.
const OPEN_BYTES: usize = 16 * 1024 * 1024;
/// Most messages on their way: the client drops what exceeds the room of a subscription, 65,536.
const OPEN: usize = 32 * 1024;
/// How many times within that the reader answers.
const ANSWERS: usize = 4;

/// The works that NATS does; all go by way of its server.
pub(super) fn begin(work: Work, load: Load) -> Option<Doing> {
    match work {
        Work::Rr => Some(Box::pin(request_reply(load))),
        Work::Msg => Some(Box::pin(messages(load))),
        _ => None,
    }
}

/// Killed when it is dropped.
struct Server {
    process: Child,
    address: String,
    /// Open as long as it runs, since writing to a closed one would end it.
    log: BufReader<ChildStderr>,
}

impl Server {
    fn start() -> Result<Self, Failure> {
        let mut process = Command::new(PROGRAM)
            .args(["--addr", "127.0.0.1", "--port", "-1"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => format!("the program {PROGRAM} is missing: install {PROGRAM}"),
                _ => format!("{PROGRAM} does not start: {error}"),
            })?;
        let log = process.stderr.take().ok_or("no output")?;
        let mut server = Self { process, address: String::new(), log: BufReader::new(log) };
        let mut line = String::new();
        while server.log.read_line(&mut line)? > 0 {
            if let Some((_, address)) = line.split_once(LISTENING) {
                address.trim().clone_into(&mut server.address);
                return Ok(server);
            }
            line.clear();
        }
        Err(format!("{PROGRAM} has ended before it listened: run it by hand to see why").into())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A server, a client that asks or sends, and one that takes.
struct World {
    server: Server,
    here: Client,
    there: Client,
    subscriber: Subscriber,
}

impl World {
    async fn new() -> Result<Self, Failure> {
        let server = Server::start()?;
        let here = ConnectOptions::new().connect(&server.address).await?;
        let there = ConnectOptions::new().connect(&server.address).await?;
        let subscriber = there.subscribe(SUBJECT).await?;
        // the server knows of the subscription before anything is sent
        there.flush().await?;
        Ok(Self { server, here, there, subscriber })
    }
}

/// NATS's own requests: the reply goes to a subject of the asker.
async fn request_reply(load: Load) -> Result<Sample, Failure> {
    let World { server, here, there, mut subscriber } = World::new().await?;
    let answering = tokio::spawn(async move {
        while let Some(Message { reply: Some(reply), payload, .. }) = subscriber.next().await {
            there.publish(reply, payload).await?;
        }
        Ok::<_, Failure>(())
    });
    let load = Load { helper: Some(server.process.id()), ..load };
    let data = Bytes::from(vec![7; load.size]);
    let sample = ask_in_turn(load, async || Ok(here.request(SUBJECT, data.clone()).await?.payload.len())).await;
    answering.abort();
    sample
}

/// Messages of one subject. NATS without its store has no receipts and drops what comes too fast: the reader answers some of
/// them, and tells so at the end that it has them all.
async fn messages(load: Load) -> Result<Sample, Failure> {
    let World { server, here, there, subscriber } = World::new().await?;
    let load = Load { helper: Some(server.process.id()), ..load };
    let inbox = here.new_inbox();
    let mut answers = here.subscribe(inbox.clone()).await?;
    here.flush().await?;
    let per_answer = (OPEN_BYTES / load.size).min(OPEN) / ANSWERS;
    let reading = count(there, subscriber);
    let data = Bytes::from(vec![7; load.size]);
    let watch = Stopwatch::start(load);
    let (mut sent, mut open) = (0, 0);
    while watch.elapsed() < load.time {
        for _ in 1..per_answer {
            here.publish(SUBJECT, data.clone()).await?;
        }
        here.publish_with_reply(SUBJECT, inbox.clone(), data.clone()).await?;
        sent += per_answer as u64;
        open += 1;
        if open == ANSWERS {
            answers.next().await.ok_or("the client has ended")?;
            open -= 1;
        }
    }
    // an empty one is the last
    here.publish(SUBJECT, Bytes::new()).await?;
    here.flush().await?;
    watch.rate_of_all(sent, reading.await??)
}

/// How many come until an empty one; answers those that ask for it.
fn count(client: Client, mut subscriber: Subscriber) -> JoinHandle<Result<u64, Failure>> {
    tokio::spawn(async move {
        let mut read = 0;
        while let Some(message) = subscriber.next().await {
            if message.payload.is_empty() {
                break;
            }
            read += 1;
            if let Some(reply) = message.reply {
                client.publish(reply, Bytes::new()).await?;
            }
        }
        Ok(read)
    })
}
