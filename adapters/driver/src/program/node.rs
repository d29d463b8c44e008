//! From the command line to a running node.

use std::path::Path;

use p2pcore::{
    Event, Role, StartError,
    node::{PathKind, Watch},
};

use super::{
    Program,
    cli::{NodeArgs, ServerArgs},
    failure::Failure,
    json::EventLine,
    keys,
};
use crate::{Endpoint, NodeHandle, Options, StartFailure};

/// What a server or a peer is started with. The identity is made in `state` if it is missing.
pub(super) fn options(role: Role, args: &NodeArgs, state: &Path) -> Result<Options, Failure> {
    let network_key = crate::keys::network_key(&args.network_key)?;
    let identity = keys::identity(role, args.key.as_deref(), state)?;
    Ok(Options {
        name: args.name.clone(),
        listen: args.listen.clone(),
        advertise: args.advertise.clone(),
        join: args.join.clone(),
        relay_only: args.relay_only,
        state: Some(state.to_owned()),
        ..Options::new(identity, network_key)
    })
}

/// What a server is started with.
pub(super) fn server_options(args: &ServerArgs) -> Result<Options, Failure> {
    let server_key = crate::keys::server_key(&args.server_key)?;
    let begins = args.found || args.expect.is_some();
    if args.node.join.is_empty() && !begins && !args.state.exists() {
        return Err(start_failure(&StartError::NoCluster.into()));
    }
    let mut options = options(Role::Server, &args.node, &args.state)?;
    options.server_key = Some(server_key);
    options.found = args.found;
    options.expect = args.expect.map(usize::from);
    Ok(options)
}

pub(super) fn start(program: &Program, options: Options) -> Result<NodeHandle, Failure> {
    Endpoint::start(program.runtime.clone(), options).map_err(|failure| start_failure(&failure))
}

/// With the names of the flags that help.
fn start_failure(failure: &StartFailure) -> Failure {
    match failure {
        StartFailure::Node(StartError::NoCluster) => Failure::new(
            "this server has no saved state: join a cluster with `--join ADDR`, or make a new one with `--found`, or with \
             `--expect N` together with others",
        ),
        StartFailure::Node(StartError::NoIntroducer) => {
            Failure::new("this peer knows no server: name one with `--join ADDR`")
        }
        other => Failure::new(other),
    }
}

/// The line of an event that everybody gets to see, if it has one.
pub(super) fn event_line(event: &Event) -> Option<EventLine<'_>> {
    Some(match event {
        Event::ServerUp { id, name } => EventLine::ServerUp { id: *id, name: name.as_str() },
        Event::ServerDown { id, name } => EventLine::ServerDown { id: *id, name: name.as_str() },
        Event::PeerUp { id, name } => EventLine::PeerUp { id: *id, name: name.as_str() },
        Event::PeerDown { id, name } => EventLine::PeerDown { id: *id, name: name.as_str() },
        Event::Found { what: Watch::Id(id), ids } => EventLine::Found { id: Some(*id), name: None, ids },
        Event::Found { what: Watch::Name(name), ids } => EventLine::Found { id: None, name: Some(name.as_str()), ids },
        Event::Path { id, kind, via } => EventLine::Path { id: *id, kind: PathKind::as_str(*kind), via: *via },
        Event::Master(view) => EventLine::Master((*view).into()),
        Event::Left => EventLine::Left,
        Event::Suspended => EventLine::Suspended,
        Event::Resumed => EventLine::Resumed,
        Event::DuplicateIdentity { id, addresses } => EventLine::DuplicateIdentity { id: *id, addresses },
        Event::Warning(warning) => EventLine::Error { reference: None, reason: warning.to_string() },
        _ => return None,
    })
}

pub(super) fn ready_line(handle: &NodeHandle) -> EventLine<'_> {
    EventLine::Ready {
        id: handle.id(),
        role: handle.role(),
        name: handle.name().as_str(),
        listen: handle.listen_addresses(),
    }
}
