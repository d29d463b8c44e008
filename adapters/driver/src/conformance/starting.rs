//! Starting, stopping, and what stands in the way of starting.

use std::fs;

use p2pcore::{CommandError, StartError, node::SendOptions};

use super::{
    MakeRuntime,
    world::{World, files},
};
use crate::{Endpoint, StartFailure, StateError, state::StateDir};

fn one_line(error: &StartFailure) {
    let line = error.to_string();
    assert!(!line.is_empty() && !line.contains('\n'), "{line}");
}

/// After `stop` the port and the state directory are free for the next run, and the handle says that it is over.
pub fn a_node_starts_and_stops_and_frees_what_it_held(make: MakeRuntime<'_>) {
    let world = World::new(make);
    let mut options = world.server(1);
    options.state = Some(world.path("state"));
    let node = world.start(options.clone());
    assert_eq!(node.id(), options.identity.id());
    assert_eq!(node.name(), &options.name);
    let address = node.listen_addresses()[0];
    assert_ne!(address.port(), 0);
    let status = world.run("status", node.status()).expect("running");
    assert_eq!((status.id, status.listen), (node.id(), vec![address]));
    let events = node.events();
    world.run("stop", node.stop());
    world.run("the last event", async { while events.next().await.is_some() {} });
    assert!(world.run("the end", node.recv()).is_none());
    let other = world.server(2).identity.id();
    let late = world.run("send", node.send(&[other], "late", SendOptions::default()));
    assert_eq!(late.expect_err("too late"), CommandError::Stopped);
    options.listen = vec![address];
    let again = world.start(options);
    world.run("stop again", again.stop());
}

/// Nobody has to call `stop`.
pub fn dropping_the_last_handle_ends_the_node(make: MakeRuntime<'_>) {
    let world = World::new(make);
    let node = world.start(world.server(1));
    let events = node.events();
    drop(node.clone());
    world.run("status", node.status()).expect("one handle is left");
    drop(node);
    world.run("the end", async { while events.next().await.is_some() {} });
}

/// The address is named, and the node that has it is not disturbed.
pub fn a_busy_port_is_one_clear_line(make: MakeRuntime<'_>) {
    let world = World::new(make);
    let first = world.start(world.server(1));
    let mut options = world.server(2);
    options.listen = first.listen_addresses().to_vec();
    let error = Endpoint::start(world.runtime.clone(), options).expect_err("the port is taken");
    assert!(matches!(error, StartFailure::PortInUse { address } if address == first.listen_addresses()[0]));
    one_line(&error);
    world.run("status", first.status()).expect("still running");
}

/// The second one refuses, whatever its key, and the first runs on.
pub fn two_nodes_do_not_share_a_state(make: MakeRuntime<'_>) {
    let world = World::new(make);
    let mut options = world.server(1);
    options.state = Some(world.path("state"));
    let first = world.start(options.clone());
    let error = Endpoint::start(world.runtime.clone(), options).expect_err("the state is in use");
    assert!(matches!(error, StartFailure::State(StateError::InUse { .. })), "{error}");
    one_line(&error);
    world.run("status", first.status()).expect("still running");
}

/// Each file of the state, cut short or with a bit turned: refused by name, not a byte changed.
pub fn a_damaged_state_is_refused_and_left_alone(make: MakeRuntime<'_>) {
    let world = World::new(make);
    let mut options = world.server(1);
    options.state = Some(world.path("state"));
    let node = world.start(options.clone());
    world.run("stop", node.stop());
    for name in ["incarnation", "core.state"] {
        let path = world.path("state").join(name);
        // a node that has had nothing to keep yet has no such file
        let whole = fs::read(&path).unwrap_or_else(|_| vec![0; 100]);
        let mut turned = whole.clone();
        *turned.last_mut().expect("not empty") ^= 1;
        for bad in [&whole[..whole.len() / 2], &turned, b""] {
            fs::write(&path, bad).expect("written");
            let before = files(&world.path("state"));
            let error = Endpoint::start(world.runtime.clone(), options.clone()).expect_err("it is damaged");
            assert!(matches!(error, StartFailure::State(StateError::Damaged { .. })), "{error}");
            assert!(error.to_string().contains(name), "{error}");
            one_line(&error);
            assert_eq!(files(&world.path("state")), before);
        }
        if name == "incarnation" {
            fs::write(&path, whole).expect("written");
        }
    }
}

/// What another version wrote is whole, but cannot be read: refused by name with the way out, not a byte changed.
pub fn a_state_of_another_version_is_refused_with_the_way_out(make: MakeRuntime<'_>) {
    let world = World::new(make);
    let mut options = world.server(1);
    options.state = Some(world.path("state"));
    let owner = options.identity.id();
    for (written, why) in
        [(&b"\x01what version 1 wrote"[..], "another version wrote it"), (b"\x02cut", "does not parse")]
    {
        let state = StateDir::open(&world.path("state"), owner).expect("nobody else uses it");
        state.next_incarnation(1).expect("written");
        state.save(written).expect("written");
        drop(state);
        let before = fs::read(world.path("state").join("core.state")).expect("a file");
        let error = Endpoint::start(world.runtime.clone(), options.clone()).expect_err("it cannot be read");
        assert!(matches!(error, StartFailure::State(StateError::Damaged { .. })), "{error}");
        let line = error.to_string();
        let way_out = "restore it, or remove it to come back as a new member";
        assert!([why, "core.state", way_out].iter().all(|part| line.contains(part)), "{line}");
        one_line(&error);
        assert_eq!(fs::read(world.path("state").join("core.state")).expect("a file"), before);
    }
    fs::remove_file(world.path("state").join("core.state")).expect("removed");
    world.start(options);
}

/// The owner is named, and what is theirs stays theirs.
pub fn a_foreign_state_is_refused(make: MakeRuntime<'_>) {
    let world = World::new(make);
    let mut options = world.server(1);
    options.state = Some(world.path("state"));
    let owner = world.start(options);
    let id = owner.id();
    world.run("stop", owner.stop());
    let before = files(&world.path("state"));
    let mut options = world.server(2);
    options.state = Some(world.path("state"));
    let error = Endpoint::start(world.runtime.clone(), options).expect_err("it is another node's");
    assert!(error.to_string().contains(&id.to_string()), "{error}");
    one_line(&error);
    assert_eq!(files(&world.path("state")), before);
}

/// One line that names the directory.
pub fn a_directory_that_cannot_be_written_is_refused(make: MakeRuntime<'_>) {
    let world = World::new(make);
    // a file in the way stops even root, whom permissions do not
    fs::write(world.path("file"), b"").expect("written");
    let mut options = world.server(1);
    options.state = Some(world.path("file").join("state"));
    let error = Endpoint::start(world.runtime.clone(), options).expect_err("no directory can be made there");
    assert!(matches!(error, StartFailure::State(StateError::Unwritable { .. })), "{error}");
    one_line(&error);
}

/// Neither saved state nor introducer nor the order to found: refused with the core's own words.
pub fn a_server_without_cluster_refuses_to_start(make: MakeRuntime<'_>) {
    let world = World::new(make);
    let mut options = world.server(1);
    options.found = false;
    let error = Endpoint::start(world.runtime.clone(), options).expect_err("it has no cluster");
    assert!(matches!(error, StartFailure::Node(StartError::NoCluster)), "{error}");
    one_line(&error);
}
