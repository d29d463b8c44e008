//! Send a message to an Id, wherever it is: the pure state machine of p2pcore.
//!
//! A [`Node`] is a server or a peer. It has no sockets, clocks, threads or randomness of its own: datagrams, the time and
//! what became of the disk go in; datagrams, one deadline, events and orders to the disk come out. Same inputs, same
//! outputs, bit for bit, so that a simulator runs the very same code as a production machine.
//!
//! ```text
//!  socket ── Input::Datagram ──┐                        ┌── poll_transmit ── socket
//!  timer  ── Input::Timeout  ──┤   ┌────────────────┐   ├── deadline      ── timer
//!  disk   ── Input::Persisted ─┼──▶│      Node      │──▶┼── poll: Persist ── disk
//!  application: send, request ─┘   └────────────────┘   └── poll: Event   ── application
//!
//!  node ─ server, peer ─ table C A E          one link per remote Id, a set of paths under each:
//!    └─ link (QUIC, Noise) ─ path ─ relay      direct > punched > relayed, changed without QUIC noticing
//!    ├─ message: lanes, sessions, receipts
//!    └─ master ─ raft                        members, elections, tokens
//! ```
//!
//! Servers agree on one [`master`] by [`raft`]; [`Node::guard`] says whether this one may act as it.
//!
//! # Starting and stopping
//!
//! [`Node::new`] makes a node from a [`Config`] and a [`Start`]. A program keeps three things on disk: the key
//! ([`SecretKey::to_text`]), a counter of its starts (or the seconds of the clock) for the [`Incarnation`], written before the
//! start, and what the last [`Persist`](node::Persist) held. Before the first [`Event::ServerUp`] messages fail as `suspended`; from then on they wait for
//! the directory. [`Node::stop`] ends it: go on driving until [`Event::Stopped`].
//!
//! A program needs this page, [`node`], [`config`], [`id`] and [`error`]; the other modules are what these are made of.
//!
//! # The drive loop
//!
//! Several inputs in a row are legal at any time; nothing must be drained in between. Every input runs the timers that are due,
//! so traffic starves none. While any output is queued, [`Node::deadline`] is due at once. A driver whose socket is full waits
//! for writability, not for that deadline; it may also drop what does not go.
//!
//! ```no_run
//! use std::{io, net::UdpSocket, time::Instant};
//! use bytes::BytesMut;
//! use p2pcore::{Event, Input, Node, Output, node::{Datagram, SocketId}};
//!
//! fn drive(mut node: Node, socket: UdpSocket) -> io::Result<()> {
//!     let (mut inbox, mut outbox) = (vec![0; 65_536], Vec::new());
//!     loop {
//!         while let Some(output) = node.poll() {
//!             match output {
//!                 // the whole durable state: write it to a file of its own, rename that, then say so
//!                 Output::Persist(persist) => node.handle(Instant::now(), Input::Persisted(persist.id)),
//!                 Output::Event(Event::Messages { from, data, receipt, .. }) => {
//!                     data.iter().for_each(|message| println!("{from} says {message:?}"));
//!                     // now the application has them: the sender gets its receipts
//!                     node.handed(Instant::now(), receipt);
//!                 }
//!                 Output::Event(Event::Stopped) => return Ok(()),
//!                 Output::Event(event) => println!("{event:?}"),
//!             }
//!         }
//!         while let Some(transmit) = node.poll_transmit(Instant::now(), &mut outbox) {
//!             for datagram in outbox.chunks(transmit.segment_size.unwrap_or(transmit.size)) {
//!                 // one that cannot be sent is lost, as any other may be
//!                 let _ = socket.send_to(datagram, transmit.destination);
//!             }
//!             outbox.clear();
//!         }
//!         let wait = node.deadline().map(|deadline| deadline.at.saturating_duration_since(Instant::now()));
//!         socket.set_read_timeout(wait.map(|wait| wait.max(std::time::Duration::from_millis(1))))?;
//!         match socket.recv_from(&mut inbox) {
//!             Ok((len, remote)) => node.handle(Instant::now(), Input::Datagram(Datagram {
//!                 socket: SocketId(0),
//!                 remote,
//!                 local_ip: None,
//!                 ecn: 0,
//!                 data: BytesMut::from(&inbox[..len]),
//!                 segment_size: len,
//!             })),
//!             Err(_) => node.handle(Instant::now(), Input::Timeout),
//!         }
//!     }
//! }
//! ```
//!
//! What each call can make non-empty: [`Node::handle`] and every command may queue datagrams, events and orders. Events about messages come once each ([`Outcome`](node::Outcome)).
//!
//! Two programs with that loop, whole: `examples/blocking.rs` and, in a poll loop of its own, `examples/poll_loop.rs`.
//!
//! # What is promised
//!
//! | call | contract |
//! |---|---|
//! | [`Node::send`] | one outcome per destination, at the latest before [`Event::Stopped`]: delivered (handed to the receiving application), failed, or expired; ordered per sender, receiver and lane; never handed over twice |
//! | [`Node::request`] | a reply, or the reason why there is none |
//! | [`Node::datagram`] | best effort, one packet |
//! | [`Node::open_stream`] | a byte stream both ways, over a link that is made if there is none, and that it ends with |
//! | [`Node::send_to_master`], [`Node::request_to_master`] | as those above, and failed if the Master's token changed on the way, even if the bytes arrived |
//! | [`Node::guard`] | the right to act as Master, over before anybody else can have it |
//! | [`Node::status`] | the tables, at any time |
#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods)]

pub mod config;
pub mod deadline;
pub mod error;
pub mod id;
pub mod link;
pub mod master;
pub mod message;
pub mod node;
pub mod noise;
pub mod path;
mod peer;
mod planted;
pub mod prefix;
pub mod raft;
pub mod relay;
pub mod replay;
pub mod rng;
mod server;
pub mod table;
pub mod wire;

pub use config::{Cipher, Config};
pub use error::{CommandError, Reason, StartError};
pub use id::{ClusterId, Id, Identity, Incarnation, Name, NetworkKey, PublicKey, Role, SecretKey, ServerKey};
pub use node::{Event, Input, Node, Output, Start};

#[cfg(test)]
mod testing {
    use std::time::Instant;

    /// Some instant: tests only look at differences.
    #[allow(clippy::disallowed_methods)] // an Instant can be had in no other way
    pub(crate) fn epoch() -> Instant {
        Instant::now()
    }
}
