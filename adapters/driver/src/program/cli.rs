//! The command line.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use p2pcore::{Id, Name, Role};

/// Send a message to an Id, wherever it is.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Keys of a network
    #[command(subcommand)]
    Network(NetworkCommand),
    /// Identities
    #[command(subcommand)]
    Key(KeyCommand),
    /// Run a server until stopped
    Server(ServerArgs),
    /// Run a peer until stopped
    Peer(PeerArgs),
    /// Send one file to a node that runs `recv`
    Send(SendArgs),
    /// Store the files that arrive
    Recv(RecvArgs),
    /// Measure the round trip to a node
    Ping(PingArgs),
    /// Show 3 servers and 4 peers at work while the Master dies and comes back
    Demo(DemoArgs),
    /// Show the tables of a running node
    Status(StatusArgs),
    /// Show or change the members of the cluster, at a running server
    Members(MembersArgs),
}

#[derive(Debug, Subcommand)]
pub(super) enum NetworkCommand {
    /// Make the key of every node and the key of the servers
    New {
        /// Where to write `network.key` and `server.key`
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum KeyCommand {
    /// Make an identity and print its Id
    New {
        /// What the node will be
        #[arg(long)]
        role: RoleArg,
        /// The file to write
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum RoleArg {
    Server,
    Peer,
}

impl From<RoleArg> for Role {
    fn from(role: RoleArg) -> Self {
        match role {
            RoleArg::Server => Self::Server,
            RoleArg::Peer => Self::Peer,
        }
    }
}

/// What everything that is a node takes.
#[derive(Clone, Debug, Args)]
pub(super) struct NodeArgs {
    /// What every node of the network has
    #[arg(long, value_name = "FILE")]
    pub(super) network_key: PathBuf,
    /// Listen on this UDP address; repeatable [default: any port, IPv4 and IPv6]
    #[arg(long, value_name = "ADDR")]
    pub(super) listen: Vec<SocketAddr>,
    /// Reachable under this address too, which is no interface's; repeatable
    #[arg(long, value_name = "ADDR")]
    pub(super) advertise: Vec<SocketAddr>,
    /// The address of any server; repeatable
    #[arg(long, value_name = "ADDR")]
    pub(super) join: Vec<SocketAddr>,
    /// The identity [default: identity.key in the state directory, made if missing]
    #[arg(long, value_name = "FILE")]
    pub(super) key: Option<PathBuf>,
    /// A name for humans
    #[arg(long, value_name = "TEXT", value_parser = parse_name, default_value = "", hide_default_value = true)]
    pub(super) name: Name,
    /// Never use a direct path to another peer
    #[arg(long)]
    pub(super) relay_only: bool,
    /// One JSON object a line on standard output, and commands on standard input
    #[arg(long)]
    pub(super) json: bool,
}

fn parse_name(text: &str) -> Result<Name, String> {
    Name::new(text).map_err(|error| error.to_string())
}

#[derive(Debug, Args)]
pub(super) struct ServerArgs {
    /// What only servers have
    #[arg(long, value_name = "FILE")]
    pub(super) server_key: PathBuf,
    /// Make a new cluster: needed once, ignored when there is saved state
    #[arg(long)]
    pub(super) found: bool,
    /// Make a new cluster together with others that are started like this, once there are so many servers, this one
    /// included; ignored when there is saved state, and when one of them has a cluster
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) expect: Option<u16>,
    /// The state directory, made if missing
    #[arg(long, value_name = "DIR")]
    pub(super) state: PathBuf,
    #[command(flatten)]
    pub(super) node: NodeArgs,
}

#[derive(Debug, Args)]
pub(super) struct PeerArgs {
    /// The state directory, made if missing
    #[arg(long, value_name = "DIR")]
    pub(super) state: PathBuf,
    #[command(flatten)]
    pub(super) node: NodeArgs,
}

/// A peer that lives for one command.
#[derive(Clone, Debug, Args)]
pub(super) struct GuestArgs {
    /// The state directory, made if missing [default: a new one that is removed at the end]
    #[arg(long, value_name = "DIR")]
    pub(super) state: Option<PathBuf>,
    #[command(flatten)]
    pub(super) node: NodeArgs,
}

#[derive(Debug, Args)]
pub(super) struct SendArgs {
    /// The file to send
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    /// Who gets it
    #[arg(long, value_name = "ID")]
    pub(super) to: Id,
    #[command(flatten)]
    pub(super) guest: GuestArgs,
}

#[derive(Debug, Args)]
pub(super) struct RecvArgs {
    /// Where to store the files; nothing there is ever overwritten
    #[arg(long, value_name = "DIR")]
    pub(super) dir: PathBuf,
    /// End after the first file stored
    #[arg(long)]
    pub(super) once: bool,
    #[command(flatten)]
    pub(super) guest: GuestArgs,
}

#[derive(Debug, Args)]
pub(super) struct PingArgs {
    /// Whom to ask
    #[arg(value_name = "ID")]
    pub(super) id: Id,
    /// How often
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) count: u32,
    #[command(flatten)]
    pub(super) guest: GuestArgs,
}

#[derive(Clone, Copy, Debug, Args)]
pub(super) struct DemoArgs {
    /// One JSON object a line on standard output; the last is the verdict
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// The state directory of the running node
    #[arg(long, value_name = "DIR")]
    pub(super) state: PathBuf,
    /// One JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct MembersArgs {
    /// The state directory of the running node
    #[arg(long, value_name = "DIR")]
    pub(super) state: PathBuf,
    /// One JSON object
    #[arg(long)]
    pub(super) json: bool,
    #[command(subcommand)]
    pub(super) command: Option<MembersCommand>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub(super) enum MembersCommand {
    /// Show the members, from the oldest on, and the Master; what is done without any of these
    List,
    /// Take this server out of the cluster and stop it
    Leave,
    /// Take a member out of the cluster; if it runs, it stops
    Remove {
        /// Which member
        #[arg(value_name = "ID")]
        id: Id,
    },
    /// Hand the office of Master over
    Transfer {
        /// The next Master: a voter
        #[arg(value_name = "ID")]
        id: Id,
    },
    /// The way out when the voters are lost for good: begin anew with this server alone
    ForceNewCluster {
        /// The others' agreements are lost, and that is wanted
        #[arg(long)]
        yes: bool,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn addresses_names_and_ids_are_checked_here() {
        let bad = [
            vec!["p", "peer", "--network-key", "k", "--state", "s", "--join", "localhost"],
            vec!["p", "peer", "--network-key", "k", "--state", "s", "--name", "a\u{1b}[2J"],
            vec!["p", "ping", "C123", "--network-key", "k"],
            vec!["p", "ping", "--count", "0", "--network-key", "k"],
            vec!["p", "peer", "--network-key", "k", "--state", "s", "--found"],
            vec!["p", "server", "--network-key", "k", "--server-key", "k", "--state", "s", "--expect", "0"],
            vec!["p", "members"],
            vec!["p", "members", "--state", "s", "remove"],
            vec!["p", "members", "--state", "s", "transfer", "S1"],
        ];
        for line in bad {
            assert!(Cli::try_parse_from(&line).is_err(), "{line:?}");
        }
    }
}
