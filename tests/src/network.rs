//! Keys and command lines for the nodes of one network, on the loopback interface if no other host is named.

use std::{
    ffi::OsString,
    fs,
    net::UdpSocket,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{Host, Program, Running, Text, run};

/// A network of its own, in a temporary directory.
#[derive(Debug)]
pub struct Network {
    dir: TempDir,
}

impl Network {
    /// Makes the keys.
    ///
    /// # Panics
    /// If that fails.
    #[expect(clippy::new_without_default, reason = "it starts a program")]
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let network = Self { dir };
        let output = run(["network".as_ref(), "new".as_ref(), "--out".as_ref(), network.dir.path().as_os_str()]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        network
    }

    /// A path in its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The state directory of the node of this name.
    pub fn state(&self, name: &str) -> PathBuf {
        self.path(&format!("state-{name}"))
    }

    /// A server.
    pub fn server(&self, name: &str) -> NodeCommand {
        self.node("server", name).flag("--server-key", self.path("server.key"))
    }

    /// A peer.
    pub fn peer(&self, name: &str) -> NodeCommand {
        self.node("peer", name)
    }

    /// Any command that is a node, with its own state, on the loopback interface, with JSON lines.
    pub fn node(&self, command: &str, name: &str) -> NodeCommand {
        let args = vec![command.into()];
        NodeCommand { program: Program::Tokio, host: None, name: name.into(), args, env: Vec::new() }
            .flag("--network-key", self.path("network.key"))
            .flag("--state", self.state(name))
            .flag("--name", name)
            .flag("--listen", "127.0.0.1:0")
            .arg("--json")
    }

    /// A founding server, started, and its address.
    pub fn founder(&self) -> (Running, String) {
        let mut server = self.server("s1").arg("--found").start();
        let address = address(&server.event("ready"));
        (server, address)
    }

    /// A file of `len` bytes that do not repeat.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn file(&self, name: &str, len: usize) -> PathBuf {
        let mut data = vec![0; len];
        blake3::Hasher::new().update(name.as_bytes()).finalize_xof().fill(&mut data);
        let path = self.path(name);
        fs::write(&path, data).expect("a file");
        path
    }
}

/// The first listening address of a `ready` line.
///
/// # Panics
/// If it is no such line.
fn address(ready: &Value) -> String {
    ready["listen"][0].as_str().expect("an address").to_owned()
}

/// The command line of a node.
#[derive(Clone, Debug)]
#[must_use]
pub struct NodeCommand {
    program: Program,
    host: Option<Host>,
    name: String,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
}

impl NodeCommand {
    /// Takes this program.
    pub fn program(mut self, program: Program) -> Self {
        self.program = program;
        self
    }

    /// Runs it on this host, on the addresses that are there for the host's only node.
    ///
    /// # Panics
    /// If it listens nowhere.
    pub fn on(mut self, host: &Host) -> Self {
        self.host = Some(host.clone());
        host.listen().iter().fold(self.without("--listen"), |command, address| command.flag("--listen", address))
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds a flag with its value.
    pub fn flag(self, flag: &str, value: impl Into<OsString>) -> Self {
        self.arg(flag).arg(value)
    }

    /// Gives a flag that is there already another value.
    ///
    /// # Panics
    /// If it is not there.
    pub fn replace(mut self, flag: &str, value: impl Into<OsString>) -> Self {
        let index = self.args.iter().position(|arg| arg == flag).expect("the flag is there");
        self.args[index + 1] = value.into();
        self
    }

    /// Takes away a flag and its value.
    ///
    /// # Panics
    /// If it is not there.
    pub fn without(mut self, flag: &str) -> Self {
        let index = self.args.iter().position(|arg| arg == flag).expect("the flag is there");
        self.args.drain(index..index + 2);
        self
    }

    /// Lets it talk to humans.
    ///
    /// # Panics
    /// If it does already.
    pub fn without_json(self) -> Self {
        self.without_switch("--json")
    }

    /// Takes away a flag that has no value.
    ///
    /// # Panics
    /// If it is not there.
    pub fn without_switch(mut self, flag: &str) -> Self {
        let index = self.args.iter().position(|arg| arg == flag).expect("the flag is there");
        self.args.remove(index);
        self
    }

    /// Sets a variable of its environment.
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Adds an introducer.
    pub fn join(self, address: &str) -> Self {
        self.flag("--join", address)
    }

    /// Starts it.
    pub fn start(&self) -> Running {
        Running::start(&self.name, self.command())
    }

    /// Starts it without `--json`.
    pub fn start_text(&self) -> Text {
        Text::start(self.command())
    }

    /// Starts it, and gives back its Id and first address too.
    ///
    /// # Panics
    /// If it is not ready.
    pub fn start_ready(&self) -> (Running, String, String) {
        let mut running = self.start();
        let ready = running.event("ready");
        let id = ready["id"].as_str().expect("an Id").to_owned();
        (running, id, address(&ready))
    }

    /// The exit status and the one line on standard error of a program that cannot do what it was asked.
    ///
    /// # Panics
    /// If it says more or less than one line, or does not end with status 1.
    pub fn refused(&self) -> String {
        let mut running = Running::start(&self.name, self.command());
        running.close_stdin();
        let (_, status, stderr) = running.finish();
        assert_eq!(status.code(), Some(1), "{stderr}");
        one_line(&stderr)
    }

    /// The state directory.
    ///
    /// # Panics
    /// If there is none.
    pub fn state(&self) -> &Path {
        let index = self.args.iter().position(|arg| arg == "--state").expect("the flag is there");
        Path::new(&self.args[index + 1])
    }

    /// The first listening address of the command line.
    ///
    /// # Panics
    /// If there is none.
    pub fn listen(&self) -> String {
        let index = self.args.iter().position(|arg| arg == "--listen").expect("the flag is there");
        self.args[index + 1].to_str().expect("an address").to_owned()
    }

    /// What would be started.
    pub fn command(&self) -> Command {
        let mut command = self.program.command(&self.args);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        match &self.host {
            Some(host) => host.command(&command),
            None => command,
        }
    }
}

/// A loopback address that nobody listens on, for a node that is to come back to it.
///
/// # Panics
/// If there is none.
pub fn free_address() -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.local_addr().expect("an address").to_string()
}

/// The text after the program's name of the line on standard error, which has to be the only one and in lower case.
///
/// # Panics
/// If it is not.
pub fn one_line(stderr: &str) -> String {
    let lines = stderr.lines().collect::<Vec<_>>();
    let [line] = lines[..] else { panic!("not one line: {stderr:?}") };
    let (_, text) = line.split_once(": ").expect("the program says its name");
    assert!(text.starts_with(|first: char| !first.is_uppercase()), "not in lower case: {line}");
    text.to_owned()
}
