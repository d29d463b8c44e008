//! p2pcore with its defaults, all nodes in this process: a server, and as many peers as are needed.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use p2pcore::{
    Id, Role,
    node::{Outcome, SendOptions},
};
use p2pcore_driver::{BatchOutcomes, Delivery, Endpoint, NodeHandle, Outcomes, Runtime};
use tokio::task::JoinHandle;

use super::{
    Doing, Load, Work,
    meter::{Sample, Stopwatch, ask_in_turn, make_in_turn, resident_kib},
};
use crate::{
    Failure,
    peers::{self, PATIENCE, meet, options, reader},
    process::tokio_runtime,
};

const CHUNK: usize = 64 * 1024;
/// Messages to each destination between two looks at the clock and at the receipts.
const BATCH: usize = 16;
/// Receipts that may be open before the oldest is waited for.
const OPEN: usize = 4_096;
/// The same for each of many destinations: half of what a stream of the other side takes before its reader must read.
const OPEN_EACH: usize = 512;
/// And for all of them: more than 16 MiB in flight leave the caches.
const OPEN_IN_ALL: usize = 16 * 1024;

/// All works but `idle`, which needs a process of its own.
pub(super) fn begin(work: Work, load: Load) -> Option<Doing> {
    Some(match work {
        Work::Rr => Box::pin(request_reply(load, false)),
        Work::RelayRr => Box::pin(request_reply(load, true)),
        Work::Msg => Box::pin(messages(load, false)),
        Work::RelayMsg => Box::pin(messages(load, true)),
        Work::Bulk => Box::pin(bulk(load)),
        Work::Handshake => Box::pin(handshakes(load)),
        Work::Fanout => Box::pin(fan_out(Load { size: 1_024, ..load }, load.size)),
        Work::Idle => return None,
    })
}

/// A server and its peers.
struct World {
    runtime: Arc<dyn Runtime>,
    server: NodeHandle,
    peers: Vec<NodeHandle>,
}

impl World {
    async fn new(peers: usize, relay_only: bool) -> Result<Self, Failure> {
        let runtime = tokio_runtime()?;
        let mut founder = options(Role::Server, 0);
        founder.found = true;
        let server = Endpoint::start(runtime.clone(), founder)?;
        let mut world = Self { runtime, server, peers: Vec::new() };
        for number in 0..peers {
            let peer = world.join(number as u64 + 1, relay_only).await?;
            world.peers.push(peer);
        }
        Ok(world)
    }

    /// Starts a peer and waits until it is linked.
    async fn join(&self, number: u64, relay_only: bool) -> Result<NodeHandle, Failure> {
        peers::join(self.runtime.clone(), self.server.listen_addresses(), number, relay_only).await
    }

    /// Who asks or sends, and who answers: a peer and the server, or two peers by way of the server.
    async fn pair(relayed: bool) -> Result<(Self, NodeHandle, NodeHandle), Failure> {
        let world = Self::new(if relayed { 2 } else { 1 }, relayed).await?;
        let here = world.peers[0].clone();
        let there = world.peers.get(1).unwrap_or(&world.server).clone();
        let answering = echo(there.clone());
        tokio::time::timeout(PATIENCE, async {
            // known to each other, and the way between them measured
            let mut asked = 0;
            while asked < 50 {
                match here.request(there.id(), Bytes::from(vec![7; 1_024]), None).await {
                    Ok(_) => asked += 1,
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        })
        .await?;
        answering.abort();
        Ok((world, here, there))
    }

    async fn stop(self) {
        // each says goodbye and waits a moment for the answer
        let stopping: Vec<_> =
            self.peers.into_iter().map(|peer| tokio::spawn(async move { peer.stop().await })).collect();
        for stopped in stopping {
            let _ = stopped.await;
        }
        self.server.stop().await;
    }
}

/// Answers each request with itself.
fn echo(node: NodeHandle) -> JoinHandle<()> {
    tokio::spawn(async move {
        while let Some(delivery) = node.recv().await {
            if let Delivery::Request(request) = delivery {
                let data = request.data.clone();
                let _ = request.reply(data).await;
            }
        }
    })
}

async fn request_reply(load: Load, relayed: bool) -> Result<Sample, Failure> {
    let (world, here, there) = World::pair(relayed).await?;
    let answering = echo(there.clone());
    let data = Bytes::from(vec![7; load.size]);
    let sample = ask_in_turn(load, async || Ok(here.request(there.id(), data.clone(), None).await?.len())).await?;
    answering.abort();
    world.stop().await;
    Ok(sample)
}

/// Counts the receipts of one message; anything else is a failure.
async fn receipts(mut sent: Outcomes) -> Result<u64, Failure> {
    let mut delivered = 0;
    while let Some((id, outcome)) = sent.next().await {
        match outcome {
            Outcome::Delivered => delivered += 1,
            other => return Err(format!("{id}: {other:?}").into()),
        }
    }
    Ok(delivered)
}

/// Counts the receipts of one batch.
async fn batch_receipts(sent: BatchOutcomes) -> u64 {
    sent.all().await.into_iter().filter(|outcome| *outcome == Outcome::Delivered).count() as u64
}

/// Messages in order in one lane, each with its receipt.
async fn messages(load: Load, relayed: bool) -> Result<Sample, Failure> {
    let (world, here, there) = World::pair(relayed).await?;
    let reading = reader(there.clone());
    // as the other side gathers messages that are shorter than this
    let sample = if load.size < 1_024 {
        send_batches(&here, there.id(), load).await
    } else {
        send_to(&here, &[there.id()], load).await
    };
    reading.abort();
    world.stop().await;
    sample
}

/// Messages of one batch, as many as the other side gathers.
async fn send_batches(from: &NodeHandle, to: Id, load: Load) -> Result<Sample, Failure> {
    let data = Bytes::from(vec![7; load.size]);
    let batch = CHUNK / load.size;
    let mut open = VecDeque::new();
    let watch = Stopwatch::start(load);
    let (mut sent, mut delivered) = (0, 0);
    while watch.elapsed() < load.time {
        open.push_back(from.send_batch(to, vec![data.clone(); batch], SendOptions::default()).await?);
        sent += batch as u64;
        if open.len() * batch > OPEN
            && let Some(outcomes) = open.pop_front()
        {
            delivered += batch_receipts(outcomes).await;
        }
    }
    for outcomes in open {
        delivered += batch_receipts(outcomes).await;
    }
    let sample = watch.rate(delivered);
    if delivered == sent { Ok(sample) } else { Err(format!("{sent} were sent and {delivered} arrived").into()) }
}

async fn send_to(from: &NodeHandle, to: &[Id], load: Load) -> Result<Sample, Failure> {
    let data = Bytes::from(vec![7; load.size]);
    let mut open = VecDeque::new();
    let most = if to.len() == 1 { OPEN } else { OPEN_EACH.min(OPEN_IN_ALL / to.len()) };
    let watch = Stopwatch::start(load);
    let (mut sent, mut delivered) = (0, 0);
    while watch.elapsed() < load.time {
        for _ in 0..BATCH {
            open.push_back(from.send(to, data.clone(), SendOptions::default()).await?);
            sent += to.len() as u64;
        }
        while open.len() > most
            && let Some(outcomes) = open.pop_front()
        {
            delivered += receipts(outcomes).await?;
        }
    }
    for outcomes in open {
        delivered += receipts(outcomes).await?;
    }
    watch.rate_of_all(sent, delivered)
}

/// So many bytes over one byte stream.
async fn bulk(load: Load) -> Result<Sample, Failure> {
    let (world, here, there) = World::pair(false).await?;
    let to = there.id();
    let reading = tokio::spawn(async move {
        let (_, mut stream) = there.accept_stream().await.ok_or("the node ended")?;
        let mut read = 0;
        while let Some(bytes) = stream.read(usize::MAX).await.map_err(|reason| reason.to_string())? {
            read += bytes.len() as u64;
        }
        Ok::<_, Failure>(read)
    });
    let chunk = Bytes::from(vec![7; CHUNK]);
    let watch = Stopwatch::start(load);
    let mut stream = here.open_stream(to).await?;
    for _ in 0..load.size / CHUNK {
        stream.write(chunk.clone()).await.map_err(|reason| reason.to_string())?;
    }
    stream.finish().await.map_err(|reason| reason.to_string())?;
    let read = reading.await??;
    let sample = watch.rate_of_all(load.size as u64, read);
    world.stop().await;
    sample
}

/// Peers one after another, each started, linked to the server and stopped.
async fn handshakes(load: Load) -> Result<Sample, Failure> {
    let world = World::new(0, false).await?;
    let sample = make_in_turn(load, async |number| {
        // dropping it says goodbye
        drop(world.join(number, false).await?);
        Ok(())
    })
    .await;
    world.stop().await;
    sample
}

/// One message to each of many peers, all named in one call.
async fn fan_out(load: Load, peers: usize) -> Result<Sample, Failure> {
    let world = World::new(peers, false).await?;
    let reading: Vec<_> = world.peers.iter().cloned().map(reader).collect();
    let to: Vec<Id> = world.peers.iter().map(NodeHandle::id).collect();
    for id in &to {
        // a peer knows that it is linked before the server does
        meet(&world.server, *id).await?;
    }
    let sample = send_to(&world.server, &to, load).await;
    reading.iter().for_each(JoinHandle::abort);
    world.stop().await;
    sample
}

/// What a link and end weighs that nobody uses, in KiB, with its part of its node: servers, each linked to all others.
pub(super) async fn idle(ends: usize) -> Result<f64, Failure> {
    // what is there once is not counted
    let small = World::new(2, false).await?;
    let before = resident_kib()?;
    let servers = (1..).find(|servers| servers * (servers - 1) >= ends).unwrap_or(2);
    let runtime = small.runtime.clone();
    let mut mesh: Vec<NodeHandle> = Vec::new();
    for number in 0..servers as u64 {
        let mut options = options(Role::Server, 1_000 + number);
        options.found = number == 0;
        options.join = mesh.first().map(|first| first.listen_addresses().to_vec()).unwrap_or_default();
        let server = Endpoint::start(runtime.clone(), options)?;
        // one after another, as the connections of the other side
        tokio::time::timeout(PATIENCE, async {
            while server.status().await?.servers.iter().filter(|other| other.linked).count() < mesh.len() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Ok::<_, Failure>(())
        })
        .await??;
        // somebody listens, or what happened is kept for who will
        drop(server.events());
        mesh.push(server);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let kib = (resident_kib()? - before) / (servers * (servers - 1)) as f64;
    drop((mesh, small));
    Ok(kib)
}
