//! `demo`: 3 servers and 4 peers in one process, while the Master dies and comes back.

mod ledger;
mod view;
mod world;

use std::{
    io::{self, IsTerminal},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures_lite::future::or;
use p2pcore::{
    Event, Id,
    master::Kind,
    node::{PathKind, SendOptions},
};
use serde::Serialize;

use super::{Program, cli::DemoArgs, failure::Failure, guest::print, json, node, signals};
use crate::{Delivery, Events, NodeHandle};
use ledger::{Ledger, Verdict};
use view::{NodeView, View};
use world::{PEERS, SERVERS, World};

/// Messages of each peer; each goes to all other peers.
const MESSAGES: u64 = 250;
const INTERVAL: Duration = Duration::from_millis(40);
/// The size of a message in bytes.
const SIZE: usize = 200;
/// When the Master dies and when it comes back, counted from the first message.
const KILL: Duration = Duration::from_secs(3);
const DOWN: Duration = Duration::from_secs(3);
/// How long the nodes may take to find each other, and to have all outcomes at the end.
const FIND: Duration = Duration::from_secs(20);
const SETTLE: Duration = Duration::from_secs(15);
/// How long the servers may take to have a Master.
const ELECT: Duration = Duration::from_secs(3);
/// After that, it is over.
const LIMIT: Duration = Duration::from_secs(52);
const REDRAW: Duration = Duration::from_millis(200);

pub(super) fn run(program: &Program, args: DemoArgs) -> Result<(), Failure> {
    let signals = signals::listen()?;
    // a terminal that cannot say where its cursor is gets lines
    let view = if !args.json && io::stdout().is_terminal() { View::new().ok() } else { None };
    let demo = Arc::new(Demo {
        program: program.clone(),
        json: args.json,
        live: view.is_some(),
        ledger: Mutex::default(),
        shown: Mutex::default(),
    });
    let (result, verdict) = program.runtime.run(async {
        let mut world = World::new(program)?;
        let news = world.peers[0].events();
        let interrupted = async {
            let _ = signals.recv().await;
            Err(Failure::new("interrupted"))
        };
        let limit = async {
            demo.sleep(LIMIT).await;
            Ok(())
        };
        let view = async {
            demo.show(view).await;
            Ok(())
        };
        let masters = async {
            demo.tell_masters(news).await;
            Ok(())
        };
        let result = or(or(interrupted, limit), or(demo.scenario(&mut world), or(view, masters))).await;
        let verdict = demo.ledger().verdict(Instant::now());
        or(world.stop(), demo.sleep(Duration::from_secs(2))).await;
        Ok::<_, Failure>((result, verdict))
    })?;
    demo.tell_verdict(&verdict);
    result?;
    if verdict.is_good() { Ok(()) } else { Err(Failure::new("the demonstration failed: see the verdict")) }
}

struct Demo {
    program: Program,
    json: bool,
    /// A table is redrawn in place.
    live: bool,
    ledger: Mutex<Ledger>,
    shown: Mutex<Shown>,
}

/// What the table is made of.
#[derive(Default)]
struct Shown {
    title: String,
    nodes: Vec<(String, Option<NodeHandle>)>,
}

#[derive(Serialize)]
struct Note<'a> {
    event: &'static str,
    what: &'a str,
}

impl Demo {
    async fn scenario(self: &Arc<Self>, world: &mut World) -> Result<(), Failure> {
        self.show_nodes(world);
        self.note("3 servers and 4 peers start; peer-1 and peer-2 cannot reach each other".into());
        if !self.wait(FIND, async || is_whole(world).await).await {
            return Err(Failure::new(format_args!("the nodes did not find each other in {} s", FIND.as_secs())));
        }
        let ids: Arc<[Id]> = world.peers.iter().map(NodeHandle::id).collect();
        let (done, all_done) = async_channel::bounded::<()>(1);
        for (index, peer) in world.peers.iter().enumerate() {
            let (demo, handle, nodes) = (self.clone(), peer.clone(), ids.clone());
            self.program.runtime.spawn(Box::pin(async move { demo.receive(&handle, &nodes, index).await }));
            let (demo, handle, nodes, done) = (self.clone(), peer.clone(), ids.clone(), done.clone());
            self.program.runtime.spawn(Box::pin(async move {
                demo.send(&handle, &nodes, index).await;
                drop(done);
            }));
        }
        drop(done);
        self.note("all are linked, the servers are voters; every peer sends to every other".into());

        self.sleep(KILL).await;
        let Some(victim) = self.master_but(world, None).await else {
            return Err(Failure::new("there is no Master to kill"));
        };
        let name = world.servers[victim].handle.name().to_string();
        let relays = if relay_of(world, ids[1]).await == Some(victim) { " and relay of peer-1 and peer-2" } else { "" };
        self.note(format!("{name}, Master{relays}, is killed"));
        self.hide(&name);
        world.kill(victim).await;
        self.sleep(DOWN).await;
        let Some(next) = self.master_but(world, Some(victim)).await else {
            return Err(Failure::new(format_args!("no other server became Master after {name}")));
        };
        self.note(format!("{} is Master now", world.servers[next].handle.name()));
        world.restart(victim)?;
        self.show_nodes(world);
        self.note(format!("{name} is started again"));

        // closed by the last sender
        let _ = all_done.recv().await;
        self.wait(SETTLE, async || self.ledger().is_settled()).await;
        if !self.wait(SETTLE, async || is_whole(world).await).await {
            return Err(Failure::new(format_args!("{name} did not come back")));
        }
        self.note(format!("all are linked again, {name} too"));
        Ok(())
    }

    /// Waits a while for a Master other than this one.
    async fn master_but(&self, world: &World, not: Option<usize>) -> Option<usize> {
        self.wait(ELECT, async || master(world).is_some_and(|index| Some(index) != not)).await;
        master(world).filter(|index| Some(*index) != not)
    }

    /// Says who is Master, as a peer sees it, for ever.
    async fn tell_masters(&self, news: Events) {
        while let Some(event) = news.next().await {
            if let (Event::Master(_), Some(line)) = (&event, node::event_line(&event)) {
                if self.json {
                    print(&json::line(&line));
                } else if !self.live {
                    print(&format!("{line}\n"));
                }
            }
        }
        futures_lite::future::pending().await
    }

    async fn send(self: &Arc<Self>, peer: &NodeHandle, ids: &[Id], own: usize) {
        let to = ids.iter().copied().filter(|id| *id != ids[own]).collect::<Vec<_>>();
        let start = Instant::now();
        for seq in 0..MESSAGES {
            let pairs = (0..ids.len()).filter(|other| *other != own).map(|other| (own, other));
            let now = Instant::now();
            pairs.clone().for_each(|pair| self.ledger().sent(now, pair, seq));
            let mut data = vec![0; SIZE];
            data[..8].copy_from_slice(&seq.to_be_bytes());
            match peer.send(&to, data, SendOptions::default()).await {
                Ok(mut outcomes) => {
                    let (demo, ids) = (self.clone(), ids.to_vec());
                    self.program.runtime.spawn(Box::pin(async move {
                        while let Some((to, outcome)) = outcomes.next().await {
                            if let Some(other) = ids.iter().position(|id| *id == to) {
                                demo.ledger().outcome(Instant::now(), (own, other), seq, outcome);
                            }
                        }
                    }));
                }
                Err(_) => pairs.for_each(|pair| self.ledger().retracted(Instant::now(), pair, seq)),
            }
            let next = start + INTERVAL * u32::try_from(seq + 1).unwrap_or(u32::MAX);
            self.program.runtime.sleep_until(next).await;
        }
    }

    async fn receive(&self, peer: &NodeHandle, ids: &[Id], own: usize) {
        while let Some(delivery) = peer.recv().await {
            if let Delivery::Message(message) = delivery
                && let Some(from) = ids.iter().position(|id| *id == message.from)
                && let Some((seq, _)) = message.data.split_first_chunk::<8>()
            {
                self.ledger().handed(Instant::now(), (from, own), u64::from_be_bytes(*seq));
                message.accept();
            }
        }
    }

    /// Draws the table for ever, if there is one.
    async fn show(&self, mut view: Option<View>) {
        while let Some(view) = &mut view {
            let (title, nodes) = {
                let shown = lock(&self.shown);
                (shown.title.clone(), shown.nodes.clone())
            };
            let mut rows = Vec::new();
            for (name, handle) in nodes {
                let status = match &handle {
                    Some(handle) => handle.status().await.ok(),
                    None => None,
                };
                let peer = rows.len().checked_sub(SERVERS);
                rows.push(NodeView { name, status, delivered: peer.map(|index| self.ledger().delivered_from(index)) });
            }
            view.draw(&title, &rows);
            self.sleep(REDRAW).await;
        }
        futures_lite::future::pending().await
    }

    fn show_nodes(&self, world: &World) {
        let servers = world.servers.iter().map(|server| &server.handle);
        let nodes = servers.chain(&world.peers).map(|handle| (handle.name().to_string(), Some(handle.clone())));
        lock(&self.shown).nodes = nodes.collect();
    }

    fn hide(&self, name: &str) {
        for (shown, handle) in &mut lock(&self.shown).nodes {
            if shown == name {
                *handle = None;
            }
        }
    }

    /// Says what happens, above the table's rows or in a line of its own.
    fn note(&self, what: String) {
        if self.json {
            print(&json::line(&Note { event: "note", what: &what }));
        } else if !self.live {
            print(&format!("{what}\n"));
        }
        lock(&self.shown).title = what;
    }

    fn tell_verdict(&self, verdict: &Verdict) {
        let Verdict { sent, delivered, failed, lost, duplicated, reordered, longest_stall_ms } = verdict;
        print(&if self.json {
            json::line(verdict)
        } else {
            format!(
                "sent {sent}, delivered {delivered}, failed {failed}, lost {lost}, duplicated {duplicated}, \
                 reordered {reordered}, longest stall {longest_stall_ms} ms: {}\n",
                if verdict.is_good() { "good" } else { "not good" },
            )
        });
    }

    /// Whether `condition` held within `time`.
    async fn wait(&self, time: Duration, condition: impl AsyncFn() -> bool) -> bool {
        let end = Instant::now() + time;
        while !condition().await {
            if Instant::now() >= end {
                return false;
            }
            self.sleep(Duration::from_millis(50)).await;
        }
        true
    }

    async fn sleep(&self, time: Duration) {
        self.program.runtime.sleep_until(Instant::now() + time).await;
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }
}

/// Whether every peer is linked to every server and every other peer, every server to every other server, and all know
/// the servers as voters under one Master.
async fn is_whole(world: &World) -> bool {
    let servers = world.servers.iter().map(|server| &server.handle);
    for (node, peers) in servers.map(|server| (server, 0)).chain(world.peers.iter().map(|peer| (peer, PEERS - 1))) {
        let Ok(status) = node.status().await else { return false };
        let own = usize::from(status.id.is_server());
        let linked = status.servers.iter().filter(|server| server.linked).count() + own;
        let voters = status.members.iter().filter(|member| member.is_voter).count();
        let linked_peers = status.peers.iter().filter(|peer| peer.linked).count();
        if linked < SERVERS || voters < SERVERS || linked_peers < peers || node.master() != world.peers[0].master() {
            return false;
        }
    }
    master(world).is_some()
}

/// The server that is Master in the eyes of the first peer.
fn master(world: &World) -> Option<usize> {
    let token = world.peers[0].master()?.token().filter(|token| token.kind == Kind::Elected)?;
    world.servers.iter().position(|server| server.handle.id() == token.id)
}

/// The server between peer 0 and the peer that it cannot reach.
async fn relay_of(world: &World, apart: Id) -> Option<usize> {
    let status = world.peers[0].status().await.ok()?;
    let peer = status.peers.iter().find(|peer| peer.info.id == apart)?;
    let via = peer.via.filter(|_| peer.kind == Some(PathKind::Relayed))?;
    world.servers.iter().position(|server| server.handle.id() == via)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
