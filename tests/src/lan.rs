//! Hosts of their own on one Linux machine: a network namespace each, joined by a bridge in one more, and partitions by drop rules.
//!
//! Nothing of the machine's own network is touched. It needs root, `ip` and `nft`.

use std::{
    array, fs,
    io::{self, Write},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::fs::MetadataExt,
    path::Path,
    process::{self, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// What the names of all namespaces begin with; the id of the process that made them follows.
const PREFIX: &str = "p2pcore-";

/// The port of a node that has a host for itself.
const PORT: u16 = 4433;

/// What the bridge does not pass on. Who asks for a neighbour's hardware address gets it all the same: a drop in the middle
/// of the Internet is silent too, and one way only.
const RULES: &str = "table bridge lan {
    set cut { type ifname . ifname; }
    chain forward {
        type filter hook forward priority 0; policy accept;
        ether type arp accept
        icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
        iifname . oifname @cut drop
    }
}";

/// The hosts and what joins them, until it is dropped.
#[derive(Debug)]
#[must_use]
pub struct Lan {
    /// What the names of its namespaces begin with.
    prefix: String,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    namespace: String,
    index: u8,
}

impl Lan {
    /// `N` hosts that reach each other, or `None` where that cannot be had: one line on standard error says why.
    ///
    /// # Panics
    /// If it cannot be made although this machine lets us.
    pub fn new<const N: usize>() -> Option<(Self, [Host; N])> {
        static POSSIBLE: OnceLock<Result<(), String>> = OnceLock::new();
        if let Err(why) = POSSIBLE.get_or_init(possible) {
            let test = thread::current().name().unwrap_or("a test").to_owned();
            // not by a macro: those lines are shown for tests that fail only
            let _ = writeln!(io::stderr(), "{test} was skipped: {why}");
            return None;
        }
        Some(Self::build().expect("namespaces work here"))
    }

    fn build<const N: usize>() -> Result<(Self, [Host; N]), String> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let lan = Self { prefix: format!("{PREFIX}{}-{count}-", process::id()) };
        let bridge = lan.bridge();
        ip(&["netns", "add", &bridge])?;
        // without an eye on multicast: hosts are found at once, whatever joined which group
        ip(&["-n", &bridge, "link", "add", "br0", "type", "bridge", "mcast_snooping", "0"])?;
        ip(&["-n", &bridge, "link", "set", "br0", "up"])?;
        lan.nft(RULES)?;
        let hosts = array::from_fn(|index| Host {
            namespace: format!("{}h{index}", lan.prefix),
            index: u8::try_from(index).expect("few hosts"),
        });
        for host in &hosts {
            host.build(&bridge)?;
        }
        Ok((lan, hosts))
    }

    /// Lets nothing pass between any of these and any of those.
    ///
    /// # Panics
    /// If that cannot be had.
    pub fn cut(&self, these: &[&Host], those: &[&Host]) {
        self.cut_one_way(these, those);
        self.cut_one_way(those, these);
    }

    /// Lets nothing pass from any of these to any of those.
    ///
    /// # Panics
    /// If that cannot be had.
    pub fn cut_one_way(&self, from: &[&Host], to: &[&Host]) {
        let pair = |a: &Host, b: &Host| format!("{} . {}", a.plug(), b.plug());
        let pairs = from.iter().flat_map(|a| to.iter().map(move |b| pair(a, b))).collect::<Vec<_>>().join(", ");
        self.nft(&format!("add element bridge lan cut {{ {pairs} }}")).expect("a drop rule");
    }

    /// Lets everything pass again.
    ///
    /// # Panics
    /// If that cannot be had.
    pub fn heal(&self) {
        self.nft("flush set bridge lan cut").expect("no drop rule");
    }

    fn bridge(&self) -> String {
        format!("{}bridge", self.prefix)
    }

    fn nft(&self, rules: &str) -> Result<(), String> {
        run("ip", &["netns", "exec", &self.bridge(), "nft", "-f", "-"], rules).map(drop)
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        remove(|name| name.starts_with(&self.prefix));
    }
}

impl Host {
    fn build(&self, bridge: &str) -> Result<(), String> {
        let (host, plug) = (&self.namespace, &self.plug());
        ip(&["netns", "add", host])?;
        ip(&["link", "add", plug, "netns", bridge, "type", "veth", "peer", "name", "eth0", "netns", host])?;
        ip(&["-n", bridge, "link", "set", plug, "master", "br0", "up"])?;
        ip(&["-n", host, "address", "add", &format!("{}/24", self.ipv4()), "dev", "eth0"])?;
        // `nodad`: it can be bound at once
        ip(&["-n", host, "address", "add", &format!("{}/64", self.ipv6()), "dev", "eth0", "nodad"])?;
        ip(&["-n", host, "link", "set", "lo", "up"])?;
        ip(&["-n", host, "link", "set", "eth0", "up"])
    }

    /// Its IPv4 address.
    pub fn ipv4(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, self.index + 1)
    }

    /// Its IPv6 address.
    pub fn ipv6(&self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, u16::from(self.index) + 1)
    }

    /// Where a node that has it for itself listens.
    pub fn listen(&self) -> [String; 2] {
        [SocketAddr::from((self.ipv4(), PORT)), SocketAddr::from((self.ipv6(), PORT))]
            .map(|address| address.to_string())
    }

    /// The same command, run on this host.
    pub fn command(&self, command: &Command) -> Command {
        let mut inside = Command::new("ip");
        inside.args(["netns", "exec", &self.namespace]).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        inside
    }

    /// The bridge's end of its cable.
    fn plug(&self) -> String {
        format!("p{}", self.index)
    }
}

/// Whether hosts can be had, after the leftovers of killed runs are gone.
fn possible() -> Result<(), String> {
    let user = fs::metadata("/proc/self").map_err(|error| format!("no /proc: {error}"))?.uid();
    if user != 0 {
        return Err("network namespaces need root".into());
    }
    for (program, version) in [("ip", "-V"), ("nft", "-v")] {
        run(program, &[version], "")?;
    }
    remove(is_left_over);
    let (lan, [a, b]) = Lan::build().map_err(|why| format!("no network namespaces here: {why}"))?;
    lan.cut(&[&a], &[&b]);
    Ok(())
}

/// Whether the process that made the namespace of this name is gone.
fn is_left_over(name: &str) -> bool {
    let maker = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
    maker.is_some_and(|id| id.parse::<u32>().is_ok() && !Path::new("/proc").join(id).exists())
}

/// Takes away such namespaces and ends what runs in them. What fails is somebody else's doing at the same time.
fn remove(is_it: impl Fn(&str) -> bool) {
    let names = run("ip", &["netns", "list"], "").unwrap_or_default();
    for name in names.lines().filter_map(|line| line.split(' ').next()).filter(|name| is_it(name)) {
        for id in run("ip", &["netns", "pids", name], "").unwrap_or_default().lines() {
            let _ = run("kill", &["-KILL", id], "");
        }
        let _ = ip(&["netns", "delete", name]);
    }
}

fn ip(args: &[&str]) -> Result<(), String> {
    run("ip", args, "").map(drop)
}

/// The output of a program that reads this, or what went wrong, in one line.
fn run(program: &str, args: &[&str], input: &str) -> Result<String, String> {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("`{program}` does not start: {error}"))?;
    // a program that ended early has said why
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    let output = child.wait_with_output().map_err(|error| format!("`{program}`: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).lines().collect::<Vec<_>>().join("; ");
    Err(format!("`{program} {}`: {said}", args.join(" ")))
}

#[cfg(test)]
mod tests {
    use std::panic::{self, AssertUnwindSafe};

    use super::*;

    fn exists(host: &Host) -> bool {
        let names = run("ip", &["netns", "list"], "").unwrap();
        names.lines().any(|line| line.split(' ').next() == Some(&host.namespace))
    }

    #[test]
    fn nothing_is_left_after_a_panic_and_what_ran_there_has_ended() {
        let Some((lan, hosts)) = Lan::new::<2>() else { return };
        let mut command = Command::new("sleep");
        let mut child = hosts[1].command(command.arg("600")).spawn().unwrap();
        while run("ip", &["netns", "pids", &hosts[1].namespace], "").unwrap().is_empty() {
            thread::yield_now();
        }
        assert!(hosts.iter().all(exists));
        panic::catch_unwind(AssertUnwindSafe(|| {
            let _lan = lan;
            panic!("this one is meant");
        }))
        .unwrap_err();
        assert!(!hosts.iter().any(exists));
        assert!(!child.wait().unwrap().success(), "killed");
    }

    #[test]
    fn only_what_dead_processes_of_ours_made_is_left_over() {
        let mut child = Command::new("true").spawn().unwrap();
        let (dead, alive) = (child.id(), process::id());
        child.wait().unwrap();
        assert!(is_left_over(&format!("{PREFIX}{dead}-0-bridge")));
        for name in [format!("{PREFIX}{alive}-0-h1"), format!("x{PREFIX}{dead}-0-h1"), format!("{PREFIX}mine")] {
            assert!(!is_left_over(&name), "{name}");
        }
    }
}
