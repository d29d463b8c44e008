//! What p2pcore costs beside plain quinn and others: whole work over loopback sockets, all in one run.

mod compare;
mod flood;
mod many;
mod peers;
mod process;

use std::{error::Error, process::ExitCode};

use clap::{Parser, Subcommand};

/// What fails here ends the run.
type Failure = Box<dyn Error + Send + Sync>;

/// What p2pcore costs
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure p2pcore beside plain quinn and what else is built in, whole work over loopback sockets, in interleaved rounds
    Compare(compare::Options),
    /// Count honest messages that come in time beside floods, each side in a process of its own
    Flood(flood::Options),
    /// Hold many real links in one server, and say what each costs while nothing is said
    Many(many::Options),
    /// A server
    #[command(hide = true)]
    Server,
    /// The many
    #[command(hide = true)]
    ManyPeers(many::PeersOptions),
    /// The honest of the flood
    #[command(hide = true)]
    FloodHonest(process::JoinOptions),
    /// The flooder
    #[command(hide = true)]
    Flooder(flood::FlooderOptions),
    /// Print what an idle link and end weighs in this process, in KiB
    #[command(hide = true)]
    Idle {
        /// Whose links.
        system: compare::System,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Command::Compare(options) => compare::run(&options),
        Command::Flood(options) => flood::run(&options),
        Command::Many(options) => many::run(&options),
        Command::Server => process::run_server(),
        Command::ManyPeers(options) => many::run_peers(&options),
        Command::FloodHonest(join) => flood::run_honest(&join),
        Command::Flooder(options) => flood::run_flooder(&options),
        Command::Idle { system } => compare::print_idle(system),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("benches: {failure}");
            ExitCode::FAILURE
        }
    }
}
