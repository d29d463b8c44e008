//! Three servers that are killed and come back.

use std::{env, fs, path::Path, thread, time::Duration};

use serde_json::Value;

use crate::{Network, NodeCommand, Running, free_address};

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

    /// A node that knows all of them.
    pub fn join(&self, command: NodeCommand) -> NodeCommand {
        self.commands.iter().fold(command, |command, server| command.join(&server.listen()))
    }

    /// Kills the one with this Id.
    ///
    /// # Panics
    /// If none has it.
    pub fn kill(&mut self, id: &str) {
        let is_it = |server: &mut Option<Running>| server.as_mut().is_some_and(|server| server.id() == id);
        let index = self.running.iter_mut().position(is_it).expect("one of the three");
        self.running[index].take().into_iter().for_each(Running::kill);
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
