//! A run as plain data: the world, the faults, the load. A seed only makes one; replay and shrinking work on the data.

mod council;
mod generate;

use std::time::Duration;

use p2pcore::{master::Settings, raft::Timing};
use serde::{Deserialize, Serialize};

/// Everything that decides a run, together with the code under test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Keys, addresses' delays and every later choice follow from it.
    pub seed: u64,
    /// The nodes, one host each; the first server founds the cluster.
    pub nodes: Vec<NodePlan>,
    /// The private networks.
    #[serde(default)]
    pub lans: Vec<LanPlan>,
    /// What links are like where no rule says otherwise.
    #[serde(default)]
    pub link: LinkModel,
    /// Exceptions; the last that matches counts.
    #[serde(default)]
    pub links: Vec<LinkRule>,
    /// Ways that never work, whatever heals.
    #[serde(default)]
    pub unreachable: Vec<Selector>,
    /// What goes wrong, and when.
    #[serde(default)]
    pub faults: Vec<Fault>,
    /// What the applications do.
    #[serde(default)]
    pub loads: Vec<Load>,
    /// How the servers agree on one Master; the defaults of a node if none.
    #[serde(default)]
    pub master: Option<MasterPlan>,
    /// When the network goes on demand; the defaults of a node if none.
    #[serde(default)]
    pub demand: Option<DemandPlan>,
    /// How long faults last: then everything heals.
    pub faulty_ms: u64,
    /// How long the healed world may take to converge.
    pub converge_ms: u64,
}

impl Plan {
    /// A world without nodes, faults or load.
    pub fn empty(seed: u64) -> Self {
        Self {
            seed,
            nodes: Vec::new(),
            lans: Vec::new(),
            link: LinkModel::default(),
            links: Vec::new(),
            unreachable: Vec::new(),
            faults: Vec::new(),
            loads: Vec::new(),
            master: None,
            demand: None,
            faulty_ms: 0,
            converge_ms: 90_000,
        }
    }

    /// The servers' names.
    pub fn servers(&self) -> impl Iterator<Item = &NodePlan> {
        self.nodes.iter().filter(|node| node.server)
    }
}

/// A node and the host it runs on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodePlan {
    /// The name by which faults and loads speak of it; also the node's own.
    pub name: String,
    /// Server or peer.
    pub server: bool,
    /// Which key it holds; two nodes with one number are duplicates.
    pub key: u64,
    /// The LAN it sits in; public if none.
    #[serde(default)]
    pub lan: Option<String>,
    /// Which addresses each interface has.
    pub ip: Ip,
    /// How many interfaces the host has, at least 1.
    pub interfaces: u8,
    /// The servers given as introducers.
    pub join: Vec<String>,
    /// Founds the cluster on its first start.
    pub found: bool,
    /// On its first start it waits for so many servers, itself included, to found a cluster with them.
    #[serde(default)]
    pub expect: Option<usize>,
    /// Never goes straight to a peer.
    #[serde(default)]
    pub relay_only: bool,
    /// Its driver drains rarely and at odd moments.
    #[serde(default)]
    pub lazy: bool,
    /// How long a lazy driver lets outputs lie at most, in microseconds.
    #[serde(default = "usual_lazy_us")]
    pub lazy_us: u64,
    /// How long its application takes for a message, in microseconds.
    #[serde(default)]
    pub reading_us: u64,
    /// When it starts.
    #[serde(default)]
    pub start_ms: u64,
    /// How fast its clock runs, in parts per million too much; too slow if negative.
    #[serde(default)]
    pub clock_ppm: i32,
    /// The longest time that its disk takes to write, in microseconds.
    #[serde(default = "usual_disk_us")]
    pub disk_us: u64,
}

const fn usual_disk_us() -> u64 {
    20_000
}

const fn usual_lazy_us() -> u64 {
    3_000
}

/// How the servers agree on one Master: what a plan says of [`p2pcore::master::Settings`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MasterPlan {
    /// Between two rounds of heartbeats.
    pub heartbeat_ms: u64,
    /// The shortest election timeout.
    pub election_min_ms: u64,
    /// The longest one.
    pub election_max_ms: u64,
    /// How far two clocks may run apart.
    pub drift_ppm: u32,
    /// How long a newcomer answers before it votes.
    pub stable_ms: u64,
    /// How long the older one of two is silent before the younger one shows itself; never if none.
    pub provisional_ms: Option<u64>,
    /// How long a member is silent before it is removed; never if none.
    pub remove_ms: Option<u64>,
}

impl From<MasterPlan> for Settings {
    fn from(plan: MasterPlan) -> Self {
        let ms = Duration::from_millis;
        Self {
            timing: Timing {
                heartbeat: ms(plan.heartbeat_ms),
                election_min: ms(plan.election_min_ms),
                election_max: ms(plan.election_max_ms),
                drift_ppm: plan.drift_ppm,
            },
            stable_after: ms(plan.stable_ms),
            provisional_after: plan.provisional_ms.map(ms),
            remove_after: plan.remove_ms.map(ms),
            ..Self::default()
        }
    }
}

/// When a network goes on demand: what a plan says of [`p2pcore::Config`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DemandPlan {
    /// With more peers than these.
    pub full_mesh_peers: usize,
    /// And back with fewer than these.
    pub full_mesh_again: usize,
    /// How long a link is idle before it is ended.
    pub idle_ms: u64,
}

/// The address families of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ip {
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
    /// Both.
    Both,
}

/// A private network behind one public IPv4 address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LanPlan {
    /// Its name.
    pub name: String,
    /// The third byte of its addresses, `192.168.x.0/24`; LANs may overlap, as they do in life.
    pub prefix: u8,
    /// Whether anybody may send to a port that was once used; if not, only those that were sent to.
    pub open: bool,
    /// LANs that its hosts reach by private addresses.
    #[serde(default)]
    pub routes_to: Vec<String>,
}

/// What a way from one interface to another is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkModel {
    /// The least and the largest one-way delay in microseconds; each pair of hosts draws its own.
    pub delay_us: (u64, u64),
    /// The most that is added to a packet's delay, order kept.
    pub jitter_us: u64,
    /// Packets lost, in a million.
    pub loss_ppm: u32,
    /// Packets doubled, in a million.
    pub duplicate_ppm: u32,
    /// Packets overtaken by later ones, in a million.
    pub reorder_ppm: u32,
    /// The largest IP packet; larger ones vanish.
    pub mtu: usize,
    /// Bits each second; without limit if none.
    pub bandwidth_bps: Option<u64>,
    /// How many bytes wait for their turn; further ones are dropped at the tail.
    pub queue_bytes: u64,
}

impl Default for LinkModel {
    fn default() -> Self {
        Self {
            delay_us: (5_000, 40_000),
            jitter_us: 500,
            loss_ppm: 0,
            duplicate_ppm: 0,
            reorder_ppm: 0,
            mtu: 1_500,
            bandwidth_bps: Some(1_000_000_000),
            queue_bytes: 1_000_000,
        }
    }
}

impl LinkModel {
    /// A way within a local network: a millisecond at most.
    pub fn lan() -> Self {
        Self { delay_us: (200, 1_000), jitter_us: 100, ..Self::default() }
    }
}

/// An exception from [`Plan::link`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkRule {
    /// Where.
    pub on: Selector,
    /// What it is like there.
    pub model: LinkModel,
}

/// Which ways are meant. Empty lists mean every host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selector {
    /// The sending hosts.
    #[serde(default)]
    pub from: Vec<String>,
    /// The receiving hosts.
    #[serde(default)]
    pub to: Vec<String>,
    /// The way back too.
    #[serde(default)]
    pub both_ways: bool,
    /// Only this interface of the sending or the receiving host.
    #[serde(default)]
    pub interface: Option<u8>,
    /// Only IPv6 (true) or only IPv4 (false).
    #[serde(default)]
    pub ipv6: Option<bool>,
}

/// One thing that goes wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fault {
    /// Names its stream of choices: other faults may be taken out without moving these.
    pub id: u64,
    /// When it begins.
    pub at_ms: u64,
    /// How long it lasts.
    pub for_ms: u64,
    /// What it is.
    #[serde(flatten)]
    pub kind: FaultKind,
}

/// In a fault the name of whoever is the Master when it begins; if nobody is, nothing happens.
pub const MASTER: &str = "@master";

/// What goes wrong, and what people do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FaultKind {
    /// Packets on some ways suffer.
    Ways {
        /// Which ways.
        on: Selector,
        /// What they suffer.
        effect: Effect,
    },
    /// The process dies at once and starts again at the end.
    Crash {
        /// Which node.
        node: String,
        /// What becomes of its disk.
        disk: DiskFate,
    },
    /// The process dies while its next order to the disk is carried out, and starts again at the end.
    CrashWriting {
        /// Which node.
        node: String,
        /// What becomes of its disk.
        disk: DiskFate,
    },
    /// The process says goodbye and starts again at the end.
    Leave {
        /// Which node.
        node: String,
    },
    /// The process stands still; packets wait in its socket's buffer, or are lost when that is full.
    Pause {
        /// Which node.
        node: String,
    },
    /// The machine sleeps: its clock stands still too, and its node is told when it wakes up.
    Sleep {
        /// Which node.
        node: String,
    },
    /// The clock jumps forward, and nobody is told.
    Jump {
        /// Whose.
        node: String,
        /// How far.
        by_ms: u64,
    },
    /// An operator or an application acts. Whoever ends by that starts again at the end.
    Act {
        /// At which server.
        node: String,
        /// What it is told.
        act: Act,
    },
    /// An interface goes down and comes back; the node is told.
    InterfaceDown {
        /// Which node.
        node: String,
        /// Which of its interfaces, from 0.
        interface: u8,
    },
    /// A host that has no key sends.
    Hostile {
        /// To whom.
        node: String,
        /// What.
        what: Hostility,
        /// How many packets each second.
        per_second: u32,
    },
}

/// What becomes of a disk when its process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskFate {
    /// It is as it was; each order under way was carried out as a whole or not at all.
    Kept,
    /// The order under way was carried out in part: nobody can read that, and the operator removes it.
    Torn,
    /// Nothing is left, unless no other disk knows of the cluster.
    Lost,
}

/// What an operator or an application does at a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// The server leaves the cluster.
    Leave,
    /// That server is removed from the cluster.
    Remove(String),
    /// That server shall be the Master.
    Transfer(String),
    /// The server gives up the office of Master.
    Resign,
    /// The server forces a new cluster, if it knows of the newest generation.
    Force,
}

/// What packets suffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// None passes.
    Block,
    /// So many in a million are lost.
    Loss(u32),
    /// So many in a million are doubled, the second one up to a second late.
    Duplicate(u32),
    /// So many in a million are overtaken by later ones.
    Reorder(u32),
    /// Each takes so many microseconds longer, and up to as many again by chance.
    Delay(u64),
    /// In so many of a million one bit is flipped.
    Corrupt(u32),
    /// So many in a million are cut short.
    Truncate(u32),
    /// IP packets over this size vanish.
    Mtu(usize),
    /// So many bits each second, with a queue of a tenth of a second.
    Bandwidth(u64),
}

/// What a host without a key sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hostility {
    /// Bytes of every first value and many lengths.
    Garbage,
    /// Packets seen on the wire, with a bit flipped.
    Altered,
    /// Packets seen on the wire, cut short.
    Truncated,
    /// Packets seen on the wire, as they were, from its own address.
    Recorded,
    /// Packets seen on the wire, as they were, under the address of their first sender.
    Spoofed,
}

/// What an application does, again and again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// Names its stream of choices.
    pub id: u64,
    /// Who does it.
    pub from: String,
    /// The nodes among which it chooses.
    pub to: Vec<String>,
    /// When it begins.
    pub at_ms: u64,
    /// When it ends.
    pub until_ms: u64,
    /// The mean pause between two of them.
    pub every_us: u64,
    /// What it does.
    #[serde(flatten)]
    pub kind: LoadKind,
}

/// What an application does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum LoadKind {
    /// Messages.
    Messages {
        /// To how many at once, at most.
        fan_out: u8,
        /// In how many lanes.
        lanes: u8,
        /// How many one after another.
        burst: u16,
        /// The largest, in bytes.
        max_len: usize,
        /// The time to live; the default of the node if none.
        ttl_ms: Option<u64>,
    },
    /// Messages to an Id that nobody has.
    ToNobody,
    /// Requests; one in seven is refused by the application.
    Requests {
        /// The largest, in bytes.
        max_len: usize,
        /// The time to wait.
        timeout_ms: Option<u64>,
    },
    /// Best-effort datagrams.
    Datagrams {
        /// The largest, in bytes.
        max_len: usize,
    },
    /// Byte streams.
    Streams {
        /// The longest, in bytes.
        max_len: u64,
    },
    /// Messages to whoever is Master.
    ToMaster {
        /// The largest, in bytes.
        max_len: usize,
        /// The time to live; the default of the node if none.
        ttl_ms: Option<u64>,
    },
    /// Requests to whoever is Master.
    AskMaster {
        /// The largest, in bytes.
        max_len: usize,
        /// The time to wait.
        timeout_ms: Option<u64>,
    },
}
