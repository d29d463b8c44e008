//! The flooder: strangers' datagrams by a plain socket, a member's by nodes of its own.

use std::{
    collections::VecDeque,
    io,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    process,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use p2pcore::{
    Id,
    node::{Outcome, SendOptions},
    noise::QUIC_VERSION,
};
use p2pcore_driver::NodeHandle;

use super::Flood;
use crate::{
    Failure,
    peers::{meet, reader},
    process::{JoinOptions, Ready, Usage, lines, print_line, threads},
};

/// Nodes that come and go at the same time.
const COMERS: u64 = 64;
/// Threads that send strangers' datagrams, each from a port of its own.
const SENDERS: u32 = 4;
const JUNK_LEN: usize = 1_200;
/// Receipts that may be open before the oldest is waited for.
const OPEN: usize = 4_096;
/// Datagrams that differ, made beforehand.
const KINDS: usize = 256;

/// What is flooded and how.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct FlooderOptions {
    #[command(flatten)]
    join: JoinOptions,
    /// What to do
    #[arg(long, value_enum)]
    flood: Flood,
    /// How many a second; 0 is as many as go
    #[arg(long)]
    rate: u32,
    /// Where strangers' datagrams go
    #[arg(long)]
    target: SocketAddr,
}

pub(crate) fn run(options: &FlooderOptions) -> Result<(), Failure> {
    threads()?.block_on(async {
        let sent = Arc::new(AtomicU64::new(0));
        // not a key of the honest, and not one of the last flood
        let base = u64::from(process::id()) << 32;
        let mut kept = None;
        match options.flood {
            Flood::None => {}
            Flood::Junk | Flood::JunkToPeer | Flood::FirstPackets => {
                for _ in 0..SENDERS {
                    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
                    socket.connect(options.target)?;
                    let (rate, sent) = (options.rate / SENDERS, Arc::clone(&sent));
                    let first = options.flood == Flood::FirstPackets;
                    thread::spawn(move || junk(&socket, first, rate, &sent));
                }
            }
            Flood::Messages => {
                let from = options.join.peer(base, false).await?;
                meet(&from, options.join.id).await?;
                tokio::spawn(send_all(from, options.join.id, Arc::clone(&sent)));
            }
            Flood::Relayed => {
                let (from, to) = (options.join.peer(base, true).await?, options.join.peer(base + 1, true).await?);
                reader(to.clone());
                meet(&from, to.id()).await?;
                tokio::spawn(send_all(from, to.id(), Arc::clone(&sent)));
                kept = Some(to);
            }
            Flood::Minted => {
                for n in 0..COMERS {
                    tokio::spawn(come_and_go(options.join.clone(), base + (n << 24), Arc::clone(&sent)));
                }
            }
        }
        print_line(&Ready { address: options.target, id: options.join.id.to_string() })?;
        lines(async |_| Usage::now(sent.load(Ordering::Relaxed))).await?;
        drop(kept);
        Ok(())
    })
}

/// So many datagrams a second, for ever.
fn junk(socket: &UdpSocket, first: bool, rate: u32, sent: &AtomicU64) {
    let datagrams: Vec<Vec<u8>> = (0..KINDS).map(|n| datagram(n, first)).collect();
    let begun = Instant::now();
    let mut count = 0u64;
    loop {
        let due = (begun.elapsed().as_secs_f64() * f64::from(rate)) as u64;
        if rate > 0 && count >= due {
            thread::sleep(Duration::from_micros(500));
            continue;
        }
        let data = &datagrams[count as usize % KINDS];
        // what the receiver has no room for is lost there
        match socket.send(data) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(error) => return eprintln!("benches: the flood ends: {error}"),
            Ok(_) => drop(sent.fetch_add(1, Ordering::Relaxed)),
        }
        count += 1;
    }
}

/// Bytes without meaning; or a first packet whose destination id has the right length, and whose tag is wrong.
fn datagram(number: usize, first: bool) -> Vec<u8> {
    let mut state = number as u64 + 1;
    let mut data: Vec<u8> = (0..JUNK_LEN)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u8
        })
        .collect();
    data[0] = number as u8;
    if first {
        // docs/handshake.md: a long header of an Initial, our version, a destination id of 20 bytes
        data[0] = 0xc0;
        data[1..5].copy_from_slice(&QUIC_VERSION.to_be_bytes());
        data[5] = 20;
    }
    data
}

async fn send_all(from: NodeHandle, to: Id, sent: Arc<AtomicU64>) {
    let mut open = VecDeque::new();
    while let Ok(outcomes) = from.send(&[to], Bytes::from_static(&[7; 1_024]), SendOptions::default()).await {
        open.push_back(outcomes);
        if open.len() >= OPEN
            && let Some(mut outcomes) = open.pop_front()
            && let Some((_, Outcome::Delivered)) = outcomes.next().await
        {
            sent.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Each time with another key.
async fn come_and_go(join: JoinOptions, first: u64, sent: Arc<AtomicU64>) {
    for number in first.. {
        let Ok(node) = join.peer(number, false).await else { continue };
        sent.fetch_add(1, Ordering::Relaxed);
        node.stop().await;
    }
}
