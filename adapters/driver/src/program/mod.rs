//! The programs: one implementation for every runtime.

mod caller;
mod cli;
mod control;
mod demo;
mod failure;
mod guest;
mod internal;
mod json;
mod keys;
mod lines;
mod members;
mod node;
mod outlet;
mod ping;
mod session;
mod signals;
mod status;
mod transfer;

use std::{
    fmt,
    io::{self, IsTerminal},
    process::ExitCode,
    sync::Arc,
};

use clap::{CommandFactory, FromArgMatches};
use p2pcore::Role;
use tracing_subscriber::EnvFilter;

use crate::Runtime;
use cli::{Cli, Command, KeyCommand, NetworkCommand};
use failure::Failure;

/// Runs the program `name` with the arguments of the process, and gives back its exit status: 0, 1 after one line on
/// standard error, or 2 for a command line that makes no sense. The runtime is made only when a node is to run.
pub fn main(runtime: impl FnOnce() -> io::Result<Arc<dyn Runtime>>, name: &'static str) -> ExitCode {
    let matches = Cli::command().name(name).bin_name(name).get_matches();
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    log();
    let program = || match runtime() {
        Ok(runtime) => Ok(Program { runtime, name }),
        Err(error) => Err(Failure::io("cannot start", &error)),
    };
    match run(program, cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(name),
    }
}

/// What every command needs.
#[derive(Clone)]
struct Program {
    runtime: Arc<dyn Runtime>,
    name: &'static str,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

fn run(program: impl FnOnce() -> Result<Program, Failure>, command: Command) -> Result<(), Failure> {
    match command {
        Command::Network(NetworkCommand::New { out }) => keys::new_network(&out),
        Command::Key(KeyCommand::New { role, out }) => {
            let identity = keys::new_identity(role.into(), &out)?;
            guest::print(&format!("{}\n", identity.id()));
            Ok(())
        }
        Command::Status(args) => status::run(&args),
        Command::Members(args) => members::run(&args),
        Command::Server(args) => session::run(&program()?, node::server_options(&args)?, &args.state, args.node.json),
        Command::Peer(args) => {
            let options = node::options(Role::Peer, &args.node, &args.state)?;
            session::run(&program()?, options, &args.state, args.node.json)
        }
        Command::Send(args) => transfer::send(&program()?, &args),
        Command::Recv(args) => transfer::recv(&program()?, &args),
        Command::Ping(args) => ping::run(&program()?, &args),
        Command::Demo(args) => demo::run(&program()?, args),
    }
}

/// To standard error, filtered by `P2PCORE_LOG` or `RUST_LOG`; warnings and errors without either.
fn log() {
    let filter = ["P2PCORE_LOG", "RUST_LOG"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok())
        .and_then(|filter| EnvFilter::try_new(filter).ok())
        .unwrap_or_else(|| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
}
