//! What p2pcore costs beside plain quinn and others: whole work over loopback sockets, all in one run.

mod compare;
mod flood;
mod peers;

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
    /// The server of the flood
    #[command(hide = true)]
    FloodServer,
    /// The honest of the flood
    #[command(hide = true)]
    FloodHonest(flood::JoinOptions),
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
        Command::FloodServer => flood::run_server(),
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
