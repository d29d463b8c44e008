//! Many real links: a server and its peers, each side in a process of its own, over loopback sockets.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};
use tokio::{sync::Semaphore, task::JoinSet};

use crate::{
    Failure,
    process::{Child, JoinOptions, Ready, Usage, lines, print_line, threads},
};

/// Peers that join at the same time.
const AT_ONCE: usize = 32;
/// Files that a process needs beside one socket for each peer.
const OTHER_FILES: u64 = 64;
/// After the last one has joined, before anything is measured.
const SETTLING: Duration = Duration::from_secs(10);

/// How many links, and how long they are watched.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How many peers, each with a link of its own
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(1..=15_000))]
    peers: u64,
    /// How long their idling is watched, in seconds
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=300))]
    seconds: u64,
    /// Print JSON: one line
    #[arg(long)]
    json: bool,
}

/// Whom to join, and how many.
#[derive(clap::Args)]
pub(crate) struct PeersOptions {
    #[command(flatten)]
    join: JoinOptions,
    /// How many
    #[arg(long)]
    peers: u64,
}

/// What the peers say when all are linked.
#[derive(Serialize, Deserialize)]
struct Joined {
    seconds: f64,
}

/// What was measured. Memory is what is resident beyond what the process had without links.
#[derive(Serialize)]
struct Report {
    links: u64,
    /// Until the last one was linked.
    join_seconds: f64,
    server_kib_per_link: f64,
    /// A whole peer: its node, its socket, its thread, its end of the link.
    peer_kib_per_link: f64,
    /// Processor time of an idle link a second, in microseconds.
    server_idle_us_per_link: f64,
    peer_idle_us_per_link: f64,
}

pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let links = options.peers;
    let mut server = Child::start(&["server".to_owned()])?;
    let ready: Ready = server.answer()?;
    let server_before = server.usage()?;
    let count = ["--peers".to_owned(), links.to_string()];
    let mut peers = Child::start(&[&["many-peers".to_owned()][..], &ready.arguments(), &count].concat())?;
    let peers_before: Usage = peers.answer()?;
    let joined: Joined = peers.answer()?;
    thread::sleep(SETTLING);
    let (server_from, peers_from) = (server.usage()?, peers.usage()?);
    thread::sleep(Duration::from_secs(options.seconds));
    let (server_to, peers_to) = (server.usage()?, peers.usage()?);
    let per_link = |value: f64| value / links as f64;
    let report = Report {
        links,
        join_seconds: joined.seconds,
        server_kib_per_link: per_link(server_to.kib - server_before.kib),
        peer_kib_per_link: per_link(peers_to.kib - peers_before.kib),
        server_idle_us_per_link: per_link(server_to.cores_since(&server_from) * 1e6),
        peer_idle_us_per_link: per_link(peers_to.cores_since(&peers_from) * 1e6),
    };
    if options.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        println!("{} links, the last one after {:.1} s", report.links, report.join_seconds);
        println!("for each link      server      peer");
        println!("memory, KiB    {:>10.1}{:>10.1}", report.server_kib_per_link, report.peer_kib_per_link);
        println!("idle CPU, us/s {:>10.1}{:>10.1}", report.server_idle_us_per_link, report.peer_idle_us_per_link);
    }
    Ok(())
}

pub(crate) fn run_peers(options: &PeersOptions) -> Result<(), Failure> {
    allow_files(options.peers + OTHER_FILES)?;
    threads()?.block_on(async {
        print_line(&Usage::now(0)?)?;
        let begun = Instant::now();
        let (mut joining, places) = (JoinSet::new(), Arc::new(Semaphore::new(AT_ONCE)));
        for number in 1..=options.peers {
            let place = Arc::clone(&places).acquire_owned().await?;
            let join = options.join.clone();
            joining.spawn(async move {
                let peer = join.peer(number, false).await;
                drop(place);
                peer
            });
        }
        let mut peers = Vec::new();
        while let Some(peer) = joining.join_next().await {
            peers.push(peer??);
        }
        print_line(&Joined { seconds: begun.elapsed().as_secs_f64() })?;
        lines(async |_| Usage::now(0)).await?;
        drop(peers);
        Ok(())
    })
}

/// Raises the limit of open files of this process, as far as it may.
fn allow_files(count: u64) -> Result<(), Failure> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= count) {
        return Ok(());
    }
    if limit.maximum.is_some_and(|maximum| maximum < count) {
        let maximum = limit.maximum.unwrap_or_default();
        return Err(
            format!("{count} files are needed and {maximum} allowed: raise the hard limit, or ask for fewer").into()
        );
    }
    Ok(setrlimit(Resource::Nofile, Rlimit { current: Some(count), maximum: limit.maximum })?)
}
