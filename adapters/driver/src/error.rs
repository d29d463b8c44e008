//! Why a node did not start, and why a request has no reply.

use std::{io, net::SocketAddr, path::PathBuf};

use p2pcore::{CommandError, Id, Reason, StartError};

/// Why a node cannot start; each is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartFailure {
    /// The port is taken.
    #[error("cannot listen on {address}: the port is in use, stop the other program or choose another port")]
    PortInUse {
        /// The address asked for.
        address: SocketAddr,
    },
    /// Another fault of the address.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the operating system says.
        source: io::Error,
    },
    /// Too many listening addresses.
    #[error("{count} listening addresses: at most {max} are allowed")]
    TooManyAddresses {
        /// How many were given.
        count: usize,
        /// The limit.
        max: usize,
    },
    /// The state or a key cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The node refused what it was given.
    #[error(transparent)]
    Node(#[from] StartError),
    /// The operating system gives no random bytes.
    #[error("no random bytes from the operating system: {0}")]
    Entropy(String),
    /// The operating system or the runtime refused a thread or a socket.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the operating system says.
        source: io::Error,
    },
}

/// What is wrong with a file of keys or state; each is one line, and the file is left as it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The directory cannot be made or written.
    #[error("cannot write to the directory {path}: {source}")]
    Unwritable {
        /// The directory.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// Another process uses the directory.
    #[error("the state {path} is in use by another running node: stop it or use another directory")]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The file is not what it should be.
    #[error("{path} cannot be used ({what}): restore it, or remove it {then}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
        /// What follows from removing it.
        then: &'static str,
    },
    /// The file is another node's.
    #[error("{path} belongs to {owner}: use that node's key or another state directory")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        owner: Id,
    },
    /// Not a key of the kind expected.
    #[error("{path}: {source}")]
    BadKey {
        /// The file.
        path: PathBuf,
        /// What was expected.
        source: p2pcore::id::ParseKeyError,
    },
    /// A key file is never overwritten.
    #[error("{path} exists already: it is not overwritten, choose another name or remove it")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The operating system gives no random bytes.
    #[error("no random bytes from the operating system: {0}")]
    Entropy(String),
}

/// Why there is no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The request was not accepted.
    #[error(transparent)]
    Rejected(#[from] CommandError),
    /// It was sent, and failed.
    #[error("the request failed: {0}")]
    Failed(Reason),
}

impl RequestError {
    /// The reason in the words of the contract.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Failed(reason) | Self::Rejected(CommandError::Failed(reason)) => *reason,
            Self::Rejected(CommandError::TooLarge { .. }) => Reason::TooLarge,
            Self::Rejected(CommandError::Blocked { .. }) => Reason::Full,
            Self::Rejected(_) => Reason::Reset,
        }
    }
}
