//! Three servers that are killed and come back.

use std::{
    env, fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{Network, NodeCommand, Running, free_address, running::LIMIT};

/// A cluster of three; the first is its founder.
#[derive(Debug)]
pub struct Servers {
    /// Kept for their return: each with an address that stays its own.
    commands: Vec<NodeCommand>,
    running: Vec<Option<Running>>,
}

impl Servers {
    /// Starts them, and waits until all are linked.
    pub fn start(network: &Network) -> Self {
        let addresses = [free_address(), free_address(), free_address()];
        let command = |n: usize| {
            let command = network.server(&format!("s{}", n + 1)).replace("--listen", &addresses[n]);
            if n == 0 { command.arg("--found") } else { command.join(&addresses[0]) }
        };
        let commands = (0..addresses.len()).map(command).collect::<Vec<_>>();
        let running = commands.iter().map(|command| Some(command.start_ready().0)).collect();
        let mut servers = Self { commands, running };
        for server in servers.running.iter_mut().flatten() {
            server.status_until("links to both others", |status| linked_servers(status) == 2);
        }
        servers
    }

    /// Starts them, and waits until all three know each other as voters.
    pub fn start_members(network: &Network) -> Self {
        let mut servers = Self::start(network);
        servers.wait_for_voters(3);
        servers
    }

    /// Waits until all that run count so many voters and see one Master, and gives back its Id.
    ///
    /// # Panics
    /// If that does not come.
    pub fn wait_for_voters(&mut self, count: usize) -> String {
        let is_there = |status: &Value| voters(status) == count && status["master"]["kind"] == "elected";
        let end = Instant::now() + LIMIT;
        loop {
            let seen = self.running().map(|server| server.status_until("all voters and a Master", is_there));
            let seen = seen.map(|status| status["master"].clone()).collect::<Vec<_>>();
            if seen.windows(2).all(|pair| pair[0] == pair[1]) {
                return seen[0]["id"].as_str().expect("an Id").to_owned();
            }
            // asked one after the other, while the office went from one to the other
            assert!(Instant::now() < end, "never came to one Master: {seen:?}");
        }
    }

    /// The index of the one with this Id.
    ///
    /// # Panics
    /// If none that runs has it.
    pub fn index_of(&mut self, id: &str) -> usize {
        let is_it = |server: &mut Option<Running>| server.as_mut().is_some_and(|server| server.id() == id);
        self.running.iter_mut().position(is_it).expect("one of the three")
    }

    /// The one of this index.
    ///
    /// # Panics
    /// If it does not run.
    pub fn get(&mut self, index: usize) -> &mut Running {
        self.running[index].as_mut().expect("it runs")
    }

    /// Hands the one of this index over.
    ///
    /// # Panics
    /// If it does not run.
    pub fn take(&mut self, index: usize) -> Running {
        self.running[index].take().expect("it runs")
    }

    /// A node that knows all of them.
    pub fn join(&self, command: NodeCommand) -> NodeCommand {
        self.commands.iter().fold(command, |command, server| command.join(&server.listen()))
    }

    /// Kills the one with this Id.
    ///
    /// # Panics
    /// If none has it.
    pub fn kill(&mut self, id: &str) {
        let index = self.index_of(id);
        self.take(index).kill();
    }

    /// Kills all that run.
    pub fn kill_all(&mut self) {
        self.running.iter_mut().filter_map(Option::take).for_each(Running::kill);
    }

    /// Starts one again, with its first command line.
    pub fn restart(&mut self, index: usize) {
        self.running[index] = Some(self.commands[index].start_ready().0);
    }

    /// Starts one that does not run.
    ///
    /// # Panics
    /// If all run.
    pub fn restart_one(&mut self) {
        let index = self.running.iter().position(Option::is_none).expect("one that is away");
        self.restart(index);
    }

    /// Kills the founder, removes its state but not its key, and starts it again as one who joins the others; its Id.
    ///
    /// # Panics
    /// If it does not run.
    pub fn wipe_founder(&mut self) -> String {
        let mut running = self.running[0].take().expect("it runs");
        let id = running.id();
        running.kill();
        for entry in fs::read_dir(self.commands[0].state()).expect("the state directory").flatten() {
            if entry.file_name() != "identity.key" {
                fs::remove_file(entry.path()).expect("a file of the state");
            }
        }
        let joining = self.commands[0].clone().without_switch("--found");
        self.commands[0] = self.commands[1..].iter().fold(joining, |command, other| command.join(&other.listen()));
        self.restart(0);
        id
    }

    /// Those that run.
    pub fn running(&mut self) -> impl Iterator<Item = &mut Running> {
        self.running.iter_mut().flatten()
    }
}

/// How many servers a status names as linked.
///
/// # Panics
/// If it is no status.
pub fn linked_servers(status: &Value) -> usize {
    status["servers"].as_array().expect("a list").iter().filter(|row| row["linked"] == true).count()
}

/// How many voters a status names.
///
/// # Panics
/// If it is no status.
pub fn voters(status: &Value) -> usize {
    status["members"].as_array().expect("a list").iter().filter(|row| row["voter"] == true).count()
}

/// The row of a peer in a status.
///
/// # Panics
/// If it is no status.
pub fn peer_row<'a>(status: &'a Value, id: &str) -> Option<&'a Value> {
    status["peers"].as_array().expect("a list").iter().find(|row| row["id"] == *id)
}

/// The length in bytes of the files that cross while servers die: 32 MiB, or as many MiB as `P2PCORE_FILE_MIB` says.
///
/// # Panics
/// If that is no number.
pub fn long_file() -> usize {
    let mib = env::var("P2PCORE_FILE_MIB").map_or(32, |text| text.parse().expect("P2PCORE_FILE_MIB is a number"));
    mib * 1024 * 1024
}

/// Waits until the first bytes of a file are in this directory of a receiver.
///
/// # Panics
/// If they do not come.
pub fn wait_for_bytes(dir: &Path) {
    let has_bytes = || {
        let mut entries = fs::read_dir(dir).expect("the receiver has made it");
        entries.any(|entry| entry.and_then(|entry| entry.metadata()).is_ok_and(|data| data.len() > 0))
    };
    for _ in 0..40_000 {
        if has_bytes() {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
    panic!("no byte has come to {}", dir.display());
}
