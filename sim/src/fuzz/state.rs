//! What a node finds on its disk, and the texts of keys.

use bytes::Bytes;
use p2pcore::{
    Config, Id, Identity, Incarnation, Input, NetworkKey, Node, Output, Role, SecretKey, ServerKey, StartError,
    master::Durable,
};

use super::{build::Builder, start, start_of_time};

/// The version of the saved state.
const VERSION: u8 = 2;

/// A node starts with a saved state that is anything, or a well-formed one of any content; keys are read from any text.
///
/// # Panics
/// If a state that one run wrote is refused by the next.
pub fn state(data: &[u8]) {
    let mut builder = Builder::new(data);
    let role = if builder.flag().unwrap_or(false) { Role::Server } else { Role::Peer };
    let identity = Identity::new(role, SecretKey::from_bytes([1; 32]));
    let saved = match builder.bytes.int_in_range(0..=3) {
        Ok(0) => builder.bytes.take_rest().to_vec(),
        Ok(1) => {
            [&[VERSION][..], &postcard::to_allocvec(&identity.id()).unwrap_or_default(), builder.bytes.take_rest()]
                .concat()
        }
        Ok(2) => {
            builder.ids = vec![identity.id()];
            well_formed(&mut builder, identity.id()).unwrap_or_default()
        }
        _ => return texts(builder.bytes.take_rest()),
    };
    run(identity, Bytes::from(saved));
}

fn run(identity: Identity, saved: Bytes) {
    let now = start_of_time();
    let mut start = start(identity.clone());
    start.saved = Some(saved);
    let mut node = match Node::new(Config::default(), start.clone()) {
        Ok(node) => node,
        Err(error) => {
            assert!(!error.to_string().contains('\n'), "{error}");
            assert!(!matches!(error, StartError::BadConfig(_)), "{error}");
            return;
        }
    };
    let (mut last, mut buf) = (None, Vec::new());
    for round in 0..6 {
        let now = now + std::time::Duration::from_millis(round * 700);
        node.handle(now, Input::Timeout);
        while let Some(output) = node.poll() {
            if let Output::Persist(persist) = output {
                node.handle(now, Input::Persisted(persist.id));
                last = Some(persist.state);
            }
        }
        while node.poll_transmit(now, &mut buf).is_some() {
            buf.clear();
        }
    }
    // what it wrote itself serves the next run
    if let Some(state) = last {
        if identity.id().is_server() {
            Node::saved_council(&state, identity.id()).expect("it was written just now");
        }
        start.saved = Some(state);
        start.incarnation = Incarnation { counter: 2, ..start.incarnation };
        Node::new(Config::default(), start).expect("the state of an earlier run");
    }
}

/// By the layout of the saved state: owner, cluster, servers, council.
fn well_formed(builder: &mut Builder<'_>, owner: Id) -> arbitrary::Result<Vec<u8>> {
    let cluster = builder.option(Builder::cluster)?;
    let servers = builder.list(6, |b| Ok((b.id()?, (String::new(), b.list(4, Builder::address)?))))?;
    let servers: std::collections::BTreeMap<_, _> = servers.into_iter().collect();
    let council = builder.option(|b| {
        Ok(Durable {
            allegiance: b
                .option(|b| Ok(p2pcore::master::Allegiance { cluster: b.cluster()?, generation: b.generation()? }))?,
            join: b.run()?,
            is_out: b.flag()?,
            raft: b.stored()?,
            roster: b.roster()?,
            roster_index: b.number()?,
            aged_ms: b.number()?,
        })
    })?;
    let body = postcard::to_allocvec(&(owner, cluster, servers, council)).unwrap_or_default();
    Ok([&[VERSION][..], &body].concat())
}

/// The text of a key is exactly the one that is written.
fn texts(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(key) = SecretKey::from_text(text) {
        assert_eq!(key.to_text().trim(), text.trim());
    }
    if let Ok(key) = NetworkKey::from_text(text) {
        assert_eq!(key.to_text().trim(), text.trim());
    }
    if let Ok(key) = ServerKey::from_text(text) {
        assert_eq!(key.to_text().trim(), text.trim());
    }
}
