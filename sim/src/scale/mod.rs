//! Many peers on demand at three servers: how long they take to join, what the tables cost, what each keeps in memory.
//!
//! The nodes are whole; the network is a plain one, and no checker runs. Wall time is shown, and nothing depends on it.

mod lan;

use std::time::{Duration, Instant};

use serde::Serialize;

use lan::Lan;

/// The bytes that the process has on its heap.
pub type Heap = fn() -> u64;

/// How many servers there are.
pub const SERVERS: usize = 3;
/// How many others each peer talks to.
pub const FRIENDS: usize = 3;
/// How often each peer says something to one of them.
const TALK_EVERY: Duration = Duration::from_secs(20);
/// How long the tables are watched while nobody comes or goes.
const QUIET: Duration = Duration::from_secs(30);
/// How long they are watched at least while peers come and go.
const CHURN: Duration = Duration::from_secs(60);
/// At least so many go in that time.
const GOING: u32 = 6;
/// How long a peer stays away.
const AWAY: Duration = Duration::from_secs(30);

/// A line of the table; printed as it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// How many peers.
    pub peers: usize,
    /// Virtual time until each is linked to every server, all having started at once.
    pub join_ms: u64,
    /// Virtual time until each has delivered a message to each of its friends, all having begun at once.
    pub first_messages_ms: u64,
    /// Bytes of control messages for the tables, of all nodes together, for each peer and second, while nobody comes or goes.
    pub table_bytes_quiet: f64,
    /// The same while 1 % of the peers go and come back each minute.
    pub table_bytes_churn: f64,
    /// What one server has on its heap for each linked peer that talks to nobody.
    pub server_bytes_linked: u64,
    /// The same once each peer is linked to its friends and watches them.
    pub server_bytes_watched: u64,
    /// What one peer has on its heap, its links to servers and friends included.
    pub peer_bytes: u64,
    /// Links between peers, for each peer.
    pub links_per_peer: f64,
    /// Messages sent while the tables were watched.
    pub sent: u64,
    /// How many of them were delivered.
    pub delivered: u64,
    /// How many of them failed or expired: their destinations were away.
    pub failed: u64,
    /// What the process has in memory at the end, as the kernel sees it; null where it does not say.
    pub rss_mib: Option<u64>,
    /// Inputs to nodes.
    pub steps: u64,
    /// Wall time.
    pub wall_ms: u64,
}

/// Runs so many peers. `heap` is read around all that nodes do, so that each node's own bytes are known.
pub fn run(peers: usize, heap: Heap) -> Line {
    const JOINED: Duration = Duration::from_secs(120);
    let begin = Instant::now();
    let mut lan = Lan::new(heap);
    lan.start_servers(SERVERS);
    let bare = lan.heap_of_servers();
    let joined = lan.now();
    lan.start_peers(peers);
    let join = lan.run_while(JOINED, |lan| !lan.all_are_linked());
    tracing::info!(peers, ?join, wall = ?begin.elapsed(), "joined");
    lan.run_for(Duration::from_secs(10));
    let linked = lan.heap_of_servers() - bare;
    let talk = lan.now();
    lan.greet_friends();
    let first = lan.run_while(JOINED, |lan| lan.open() > 0);
    tracing::info!(?first, wall = ?begin.elapsed(), "greeted");
    lan.run_for(Duration::from_secs(10));
    let watched = lan.heap_of_servers() - bare;
    let (peer, links) = (lan.heap_of_peers(), lan.links_between_peers());
    lan.talk(TALK_EVERY);
    lan.run_for(Duration::from_secs(1));
    let per_peer = |bytes: u64, time: Duration| bytes as f64 / peers as f64 / time.as_secs_f64();
    // 1 % a minute
    let pause = Duration::from_secs(60).mul_f64(100.0 / peers as f64);
    let churned = CHURN.max(pause * GOING);
    let (before, said) = (lan.table_bytes(), lan.outcomes());
    lan.run_for(QUIET);
    let quiet = lan.table_bytes() - before;
    tracing::info!(wall = ?begin.elapsed(), "quiet");
    let before = lan.table_bytes();
    lan.churn(churned, pause, AWAY);
    let churn = lan.table_bytes() - before;
    tracing::info!(wall = ?begin.elapsed(), "churned");
    lan.run_for(AWAY);
    let [sent, delivered, failed] = lan.outcomes();
    let per_client = |bytes: i64| u64::try_from(bytes).unwrap_or(0) / (SERVERS * peers) as u64;
    Line {
        peers,
        join_ms: millis(join.saturating_sub(joined)),
        first_messages_ms: millis(first.saturating_sub(talk)),
        table_bytes_quiet: per_peer(quiet, QUIET),
        table_bytes_churn: per_peer(churn, churned),
        server_bytes_linked: per_client(linked),
        server_bytes_watched: per_client(watched),
        peer_bytes: u64::try_from(peer).unwrap_or(0) / peers as u64,
        links_per_peer: links as f64 / peers as f64,
        sent: sent - said[0],
        delivered: delivered - said[1],
        failed: failed - said[2],
        rss_mib: resident(),
        steps: lan.steps(),
        wall_ms: millis(begin.elapsed()),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib / 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_peers_join_talk_and_survive_churn() {
        let line = run(12, || 0);
        assert!(line.join_ms > 0 && line.first_messages_ms > 0, "{line:?}");
        assert!(line.links_per_peer >= 3.0, "{line:?}");
        assert!(line.sent >= 12 * 12 && line.delivered * 10 >= line.sent * 9, "{line:?}");
        assert!(line.table_bytes_churn > line.table_bytes_quiet, "{line:?}");
    }
}
