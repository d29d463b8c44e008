//! Every limit and every interval, by name. The defaults keep the bounds that the documentation promises.

use std::time::Duration;

use crate::{CommandError, Id, master, relay::QuotaLimits};

/// The settings of a node. All queues, tables and buffers are bounded by a field of this type.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// The largest message in bytes; larger ones are refused with `too_large`. Default 16 MiB.
    pub max_message: usize,
    /// How many lanes there are; lanes are numbered from 0. At most 16. Default 8.
    pub lanes: u8,
    /// Which lane goes first when the link is full: higher first, equal ones take turns. Default all 0.
    pub lane_priority: [i8; 16],
    /// The same for byte streams among the lanes: below all of them, bulk does not hold up a message. Default -1.
    pub stream_priority: i8,
    /// Messages queued or in flight for one destination; past it, `send` gives the message back. Default 65,536. With less
    /// than 32, requests that are answered late wait up to 20 ms for room: that long the receipts of requests may wait.
    pub max_queued_messages: usize,
    /// Bytes queued or in flight for one destination (one message always fits). Default 32 MiB.
    pub max_queued_bytes: usize,
    /// Messages handed out by one remote that the application has not taken yet; past it, its streams are not read.
    /// Default 4,096.
    pub max_unhanded_messages: usize,
    /// Bytes of the same; one message always fits. Default 32 MiB.
    pub max_unhanded_bytes: usize,
    /// Remote Ids whose delivery state is kept while there is no link; the longest idle one goes first. Default 4,096.
    pub max_sessions: usize,
    /// Requests of ours waiting for a reply. Default 65,536.
    pub max_requests: usize,
    /// How long a request waits if it does not say. Default 10 s.
    pub request_timeout: Duration,
    /// How long a message without a time to live waits for its receipt before it has `Expired`. Default 60 s.
    pub message_ttl: Duration,
    /// Byte streams open with one remote in each direction. Default 64.
    pub max_streams: u32,
    /// Byte streams that wait for a link, all remotes together. Default 1,024.
    pub max_waiting_streams: usize,
    /// How long a byte stream waits for a link before it is reset. Default 10 s.
    pub stream_open_timeout: Duration,

    /// Links and attempts at links, all remotes together. Default 16,384.
    pub max_links: usize,
    /// Links that others began from one source prefix (/24, /56, or a relay); more first packets from there are ignored. Ids
    /// are free for any key holder, so without it one of them could take all links. Half of `max_links` is room enough for a
    /// large office behind one address. Default 8,192.
    pub max_links_per_prefix: usize,
    /// Inbound handshakes under way; more first packets are ignored. Default 1,024.
    pub max_handshakes: usize,
    /// Those of them from one source prefix. Default 512.
    pub max_handshakes_per_prefix: usize,
    /// Inbound first packets accepted each second from one real source prefix (/24, /56). Default 2,000.
    pub first_packets_per_second: u32,
    /// First packets remembered so that none works twice. Default 65,536.
    pub max_first_packet_nonces: usize,
    /// How long a handshake may take. Default 5 s.
    pub handshake_timeout: Duration,
    /// The first pause before a link is dialled again; it doubles up to `reconnect_max`, with jitter. Default 200 ms.
    pub reconnect_min: Duration,
    /// The longest pause between dials of a link that is wanted. Default 2 s.
    pub reconnect_max: Duration,

    /// Candidate addresses of one remote that are kept and tried. Default 16.
    pub max_candidates: usize,
    /// The longest silence of an idle path before a heartbeat, at first. Default 15 s.
    pub heartbeat: Duration,
    /// The same once the path has survived shorter ones; that, `heartbeat_retry` times `heartbeat_attempts` and a second
    /// are what it takes to lose an idle link. Default 22 s, which keeps that below 30 s.
    pub heartbeat_max: Duration,
    /// Between the attempts to reach an idle remote that left a heartbeat unanswered. Default 500 ms.
    pub heartbeat_retry: Duration,
    /// Attempts unanswered on every path before the link is lost. Default 10.
    pub heartbeat_attempts: u32,
    /// The bounds of the silence with data in flight after which packets are doubled on the next best path.
    /// Default 100 ms to 300 ms, three round trips between them.
    pub doubt: (Duration, Duration),

    /// Servers in the server table. Default 64.
    pub max_servers: usize,
    /// Servers of foreign clusters that are told of; further ones are counted only. Default 16.
    pub max_foreign: usize,
    /// Peers in one directory. Default 16,384.
    pub max_peers: usize,
    /// Addresses of one node in a table. Default 32.
    pub max_addresses: usize,
    /// Datagrams that wait to be sent and belong to no link's own queue: forwarded ones, copies for a second path.
    /// Default 4,096.
    pub max_outgoing: usize,
    /// How many directory versions a server keeps, to send deltas instead of snapshots. Default 1,024.
    pub directory_log: usize,
    /// How long table changes are gathered before a delta goes out. Default 20 ms.
    pub delta_interval: Duration,
    /// How long a relay slot rests before it is used again; less only when no other is left. Default 2 minutes.
    pub slot_rest: Duration,
    /// Bytes a second, headers included, that a server relays for one sender; a packet counts for 256 at least. 0 is no
    /// limit. Default 1,250,000,000, the line rate of a fast server: one bulk transfer may use all that there is.
    pub relay_bytes_per_id: u64,
    /// The same for all senders of one source prefix (/24, /56, or a relay). Default 1,250,000,000.
    pub relay_bytes_per_prefix: u64,
    /// The same for all senders. Once it is used up, who is below its fair share of it still passes: set it to what the
    /// server's line and CPU can do. Default 2,500,000,000.
    pub relay_bytes_total: u64,
    /// How much of these rates may pass at once after a rest. Default 100 ms.
    pub relay_burst: Duration,
    /// Source prefixes whose quotas are told apart; further ones share one. Default 4,096.
    pub max_relay_prefixes: usize,
    /// How long an Id that is in no directory any more is still `offline` and not `unknown_id`; bounded by
    /// `max_peers` too. Default 1 hour.
    pub remember_offline: Duration,
    /// Up to how many peers every peer has every row and links to every other; a server with more is on demand. Default 64.
    pub full_mesh_peers: usize,
    /// Below how many peers a server that is on demand shows every row again; at most `full_mesh_peers` counts. Default 48.
    pub full_mesh_again: usize,
    /// Ids and names that one peer watches at a server that is on demand; a server ends the link of one with more.
    /// Default 4,096.
    pub max_watches: usize,
    /// What all peers together watch at one server; past it, whoever watches most loses its link. Default 1,048,576.
    pub max_watches_together: usize,
    /// Rows of one name that a server shows to who watches that name; the rest are not told. Default 64.
    pub max_same_name: usize,
    /// After how long without messages, datagrams and byte streams two peers of a network on demand end their link.
    /// Default 5 minutes.
    pub idle_link: Duration,
    /// How long a known server that is not linked and that no linked server shows is taken for one that restarts; after
    /// that, messages to it fail as `offline`. Default 3 s.
    pub server_grace: Duration,
    /// How long a link is wanted that a datagram did not find. Default 30 s.
    pub link_interest: Duration,
    /// After how long without any server a node says that none answered. Default 5 s.
    pub no_server_after: Duration,
    /// How servers agree on one Master.
    pub master: master::Settings,

    /// The ciphers for packets in the order of preference; the adapter puts AES first where the CPU has it.
    pub ciphers: Vec<Cipher>,
    /// Datagrams in one run for the kernel to cut (GSO), at most 64 KiB together. Default 44.
    pub max_segments: usize,
}

impl Config {
    /// Whether a message of `len` bytes may be sent in `lane`.
    ///
    /// # Errors
    /// `TooLarge`, `NoSuchLane`.
    pub fn check_message(&self, len: usize, lane: u8) -> Result<(), CommandError> {
        let max = self.max_message;
        if len > max {
            return Err(CommandError::TooLarge { len, max });
        }
        if lane >= self.lanes {
            return Err(CommandError::NoSuchLane { lane, max: self.lanes.saturating_sub(1) });
        }
        Ok(())
    }

    /// Whether a message may be sent to `to`: at least one, and none twice.
    ///
    /// # Errors
    /// `BadDestinations`.
    pub fn check_destinations(to: &[Id]) -> Result<(), CommandError> {
        let are_distinct = match to {
            [] => false,
            [_] => true,
            ordered if ordered.is_sorted_by(|one, next| one < next) => true,
            many => {
                let mut sorted = many.to_vec();
                sorted.sort_unstable();
                sorted.windows(2).all(|pair| pair.first() != pair.last())
            }
        };
        if are_distinct { Ok(()) } else { Err(CommandError::BadDestinations) }
    }

    /// What a server relays.
    pub const fn quota_limits(&self) -> QuotaLimits {
        QuotaLimits {
            per_id: self.relay_bytes_per_id,
            per_prefix: self.relay_bytes_per_prefix,
            total: self.relay_bytes_total,
            burst: self.relay_burst,
            max_prefixes: self.max_relay_prefixes,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        const MIB: usize = 1024 * 1024;
        Self {
            max_message: 16 * MIB,
            lanes: 8,
            lane_priority: [0; 16],
            stream_priority: -1,
            max_queued_messages: 65_536,
            max_queued_bytes: 32 * MIB,
            max_unhanded_messages: 4_096,
            max_unhanded_bytes: 32 * MIB,
            max_sessions: 4_096,
            max_requests: 65_536,
            request_timeout: Duration::from_secs(10),
            message_ttl: Duration::from_secs(60),
            max_streams: 64,
            max_waiting_streams: 1_024,
            stream_open_timeout: Duration::from_secs(10),
            max_links: 16_384,
            max_links_per_prefix: 8_192,
            max_handshakes: 1_024,
            max_handshakes_per_prefix: 512,
            first_packets_per_second: 2_000,
            max_first_packet_nonces: 65_536,
            handshake_timeout: Duration::from_secs(5),
            reconnect_min: Duration::from_millis(200),
            reconnect_max: Duration::from_secs(2),
            max_candidates: 16,
            heartbeat: Duration::from_secs(15),
            heartbeat_max: Duration::from_secs(22),
            heartbeat_retry: Duration::from_millis(500),
            heartbeat_attempts: 10,
            doubt: (Duration::from_millis(100), Duration::from_millis(300)),
            max_servers: 64,
            max_foreign: 16,
            max_peers: 16_384,
            max_addresses: 32,
            max_outgoing: 4_096,
            directory_log: 1_024,
            delta_interval: Duration::from_millis(20),
            slot_rest: Duration::from_secs(120),
            relay_bytes_per_id: 1_250_000_000,
            relay_bytes_per_prefix: 1_250_000_000,
            relay_bytes_total: 2_500_000_000,
            relay_burst: Duration::from_millis(100),
            max_relay_prefixes: 4_096,
            remember_offline: Duration::from_secs(3_600),
            full_mesh_peers: 64,
            full_mesh_again: 48,
            max_watches: 4_096,
            max_watches_together: 1 << 20,
            max_same_name: 64,
            idle_link: Duration::from_secs(300),
            server_grace: Duration::from_secs(3),
            link_interest: Duration::from_secs(30),
            no_server_after: Duration::from_secs(5),
            master: master::Settings::default(),
            ciphers: vec![Cipher::Aes128Gcm, Cipher::ChaCha20Poly1305],
            max_segments: 44,
        }
    }
}

/// What protects packets once the handshake is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cipher {
    /// AES-128-GCM: the fastest where the CPU has AES instructions.
    Aes128Gcm,
    /// ChaCha20-Poly1305: the fastest elsewhere.
    ChaCha20Poly1305,
}
