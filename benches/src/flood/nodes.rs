//! The server, and the honest: two peers that meet directly and two that meet by way of the server.

use std::{
    io::{self, BufRead, Write},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use p2pcore::{
    Id, Role,
    node::{Outcome, SendOptions},
};
use p2pcore_driver::{Endpoint, NodeHandle, Runtime};
use p2pcore_tokio::TokioRuntime;
use serde::{Deserialize, Serialize};
use tokio::runtime;

use crate::{
    Failure,
    compare::meter::{cpu_time, resident_kib},
    peers::{self, PATIENCE, reader},
};

/// Messages that each honest pair sends a second.
pub(super) const PER_SECOND: u32 = 500;
const SIZE: usize = 200;
/// How long an honest message is of use.
const OF_USE: Duration = Duration::from_millis(500);

/// Where the server is.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct JoinOptions {
    /// Its address
    #[arg(long)]
    server: SocketAddr,
    /// Its Id
    #[arg(long)]
    id: Id,
}

impl JoinOptions {
    pub(super) const fn id(&self) -> Id {
        self.id
    }
}

/// The first line of each process.
#[derive(Serialize, Deserialize)]
pub(super) struct Ready {
    pub(super) address: SocketAddr,
    pub(super) id: String,
}

/// The answer to a line.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    Usage {
        at_s: f64,
        cpu_s: f64,
        kib: f64,
        sent: u64,
    },
    /// In percent of what was offered.
    Run {
        direct: f64,
        relayed: f64,
        to_server: f64,
    },
}

pub(crate) fn run_server() -> Result<(), Failure> {
    threads()?.block_on(async {
        let mut options = peers::options(Role::Server, 0);
        options.found = true;
        let server = Endpoint::start(runtime()?, options)?;
        reader(server.clone());
        ready(&server)?;
        lines(|line| async move { usage(&line, 0) }).await
    })
}

pub(crate) fn run_honest(join: &JoinOptions) -> Result<(), Failure> {
    threads()?.block_on(async {
        let mut peers = Vec::new();
        for number in 1..=4 {
            peers.push(peer(join, number, number > 2).await?);
        }
        let [a, b, c, d] = &peers[..] else { return Err("four peers".into()) };
        [b, d].into_iter().for_each(|node| drop(reader(node.clone())));
        let pairs = [(a.clone(), b.id()), (c.clone(), d.id()), (a.clone(), join.id)];
        for (from, to) in &pairs {
            meet(from, *to).await?;
        }
        ready(a)?;
        let pairs = Arc::new(pairs);
        lines(|line| {
            let pairs = Arc::clone(&pairs);
            async move {
                let Some(ms) = line.strip_prefix("run ") else { return usage(&line, 0) };
                let time = Duration::from_millis(ms.parse()?);
                let [one, two, three] =
                    pairs.each_ref().map(|(from, to)| tokio::spawn(traffic(from.clone(), *to, time)));
                let (direct, relayed, to_server) = (one.await?, two.await?, three.await?);
                Ok(Answer::Run { direct, relayed, to_server })
            }
        })
        .await
    })
}

/// Sends at a fixed pace; what came in time, in percent of what was offered.
async fn traffic(from: NodeHandle, to: Id, time: Duration) -> f64 {
    let offered = (time.as_secs_f64() * f64::from(PER_SECOND)) as u32;
    let in_time = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let mut waiting = Vec::new();
    for number in 0..offered {
        let due = begun + Duration::from_secs(1) * number / PER_SECOND;
        tokio::time::sleep_until(due.into()).await;
        if due.elapsed() >= OF_USE {
            continue;
        }
        let options = SendOptions::default().ttl(OF_USE);
        let Ok(mut outcomes) = from.try_send(&[to], Bytes::from_static(&[7; SIZE]), options) else { continue };
        let in_time = Arc::clone(&in_time);
        waiting.push(tokio::spawn(async move {
            while let Some((_, outcome)) = outcomes.next().await {
                if outcome == Outcome::Delivered && due.elapsed() < OF_USE * 2 {
                    in_time.fetch_add(1, Ordering::Relaxed);
                }
            }
        }));
    }
    for task in waiting {
        let _ = task.await;
    }
    100.0 * in_time.load(Ordering::Relaxed) as f64 / f64::from(offered.max(1))
}

/// Waits until messages arrive there.
pub(super) async fn meet(from: &NodeHandle, to: Id) -> Result<(), Failure> {
    let arrived = async {
        loop {
            if let Ok(mut outcomes) = from.try_send(&[to], Bytes::from_static(b"?"), SendOptions::default())
                && let Some((_, Outcome::Delivered)) = outcomes.next().await
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, arrived).await?;
    Ok(())
}

/// A peer that is linked to the server.
pub(super) async fn peer(join: &JoinOptions, number: u64, relay_only: bool) -> Result<NodeHandle, Failure> {
    peers::join(runtime()?, &[join.server], number, relay_only).await
}

pub(super) fn threads() -> Result<runtime::Runtime, Failure> {
    Ok(runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

fn runtime() -> Result<Arc<dyn Runtime>, Failure> {
    Ok(Arc::new(TokioRuntime::current()?))
}

fn ready(node: &NodeHandle) -> Result<(), Failure> {
    let address = *node.listen_addresses().first().ok_or("no address")?;
    print_line(&Ready { address, id: node.id().to_string() })
}

pub(super) fn print_line<T: Serialize>(line: &T) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(line)?)?;
    Ok(out.flush()?)
}

/// Answers each line of standard input, until that ends.
pub(super) async fn lines<A: Future<Output = Result<Answer, Failure>>>(
    mut answer: impl FnMut(String) -> A,
) -> Result<(), Failure> {
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    while let Some(line) = receiver.recv().await {
        print_line(&answer(line).await?)?;
    }
    Ok(())
}

/// What this process has used, and how much it has sent, where that counts.
pub(super) fn usage(line: &str, sent: u64) -> Result<Answer, Failure> {
    if line != "usage" {
        return Err(format!("what is {line}?").into());
    }
    let at = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    Ok(Answer::Usage { at_s: at.as_secs_f64(), cpu_s: cpu_time().as_secs_f64(), kib: resident_kib()?, sent })
}
