//! Scenarios that read like prose: `Scenario::new(1).server("s1").peer("p1").in_lan("home").start()`.

use std::time::Duration;

use p2pcore::Config;

use crate::{
    machine::{Maker, nodes},
    plan::{Fault, Ip, LanPlan, LinkModel, LinkRule, Load, NodePlan, Plan, Selector},
    world::World,
};

/// A world in the making. What follows a node's declaration is about that node.
#[derive(Clone, Debug)]
pub struct Scenario {
    plan: Plan,
    config: Config,
}

impl Scenario {
    /// An empty world.
    pub fn new(seed: u64) -> Self {
        Self { plan: Plan::empty(seed), config: Config::default() }
    }

    /// A public server. The first one founds the cluster, the others join through it.
    #[must_use]
    pub fn server(self, name: &str) -> Self {
        let join: Vec<String> = self.plan.servers().take(1).map(|server| server.name.clone()).collect();
        let node = NodePlan { server: true, found: join.is_empty(), join, ..NodePlan::named(name, 0) };
        self.node(node)
    }

    /// `count` servers like [`server`](Self::server), named with `prefix` and a number from 1.
    #[must_use]
    pub fn servers(self, prefix: &str, count: usize) -> Self {
        (1..=count).fold(self, |scenario, n| scenario.server(&format!("{prefix}{n}")))
    }

    /// A public peer that knows the first server.
    #[must_use]
    pub fn peer(self, name: &str) -> Self {
        let join = self.plan.servers().take(1).map(|server| server.name.clone()).collect();
        self.node(NodePlan { join, ..NodePlan::named(name, 0) })
    }

    /// `count` peers like [`peer`](Self::peer), named with `prefix` and a number from 1.
    #[must_use]
    pub fn peers(self, prefix: &str, count: usize) -> Self {
        (1..=count).fold(self, |scenario, n| scenario.peer(&format!("{prefix}{n}")))
    }

    /// It sits in a LAN behind a gateway that lets in what was asked for.
    #[must_use]
    pub fn in_lan(mut self, lan: &str) -> Self {
        if !self.plan.lans.iter().any(|known| known.name == lan) {
            self.plan.lans.push(LanPlan { name: lan.to_owned(), prefix: 1, open: false, routes_to: Vec::new() });
        }
        self.last(|node| node.lan = Some(lan.to_owned()))
    }

    /// It has IPv4 only.
    #[must_use]
    pub fn ipv4_only(self) -> Self {
        self.last(|node| node.ip = Ip::V4)
    }

    /// It has IPv6 only.
    #[must_use]
    pub fn ipv6_only(self) -> Self {
        self.last(|node| node.ip = Ip::V6)
    }

    /// It has so many interfaces.
    #[must_use]
    pub fn interfaces(self, count: u8) -> Self {
        self.last(|node| node.interfaces = count)
    }

    /// It never goes straight to a peer.
    #[must_use]
    pub fn relay_only(self) -> Self {
        self.last(|node| node.relay_only = true)
    }

    /// Its driver drains rarely and at odd moments.
    #[must_use]
    pub fn lazy(self) -> Self {
        self.last(|node| node.lazy = true)
    }

    /// The same, and outputs lie for up to so long.
    #[must_use]
    pub fn lazy_for(self, time: Duration) -> Self {
        self.last(|node| (node.lazy, node.lazy_us) = (true, time.as_micros() as u64))
    }

    /// Its application takes so long for each message.
    #[must_use]
    pub fn reading(self, time: Duration) -> Self {
        self.last(|node| node.reading_us = time.as_micros() as u64)
    }

    /// It knows these servers and no others.
    #[must_use]
    pub fn joining(self, servers: &[&str]) -> Self {
        let servers: Vec<String> = servers.iter().map(|name| (*name).to_owned()).collect();
        self.last(|node| node.join = servers)
    }

    /// On its first start it waits for so many servers, itself included, to found a cluster with them. It knows all servers
    /// that were named before.
    #[must_use]
    pub fn expecting(self, servers: usize) -> Self {
        let known: Vec<String> = self.plan.servers().map(|server| server.name.clone()).collect();
        self.last(|node| (node.found, node.expect, node.join) = (false, Some(servers), known))
    }

    /// Its clock runs fast by so many parts per million, or slow if negative.
    #[must_use]
    pub fn clock_ppm(self, ppm: i32) -> Self {
        self.last(|node| node.clock_ppm = ppm)
    }

    /// Its disk takes up to so long to write.
    #[must_use]
    pub fn disk_time(self, time: Duration) -> Self {
        self.last(|node| node.disk_us = time.as_micros() as u64)
    }

    /// It starts so much later.
    #[must_use]
    pub fn starting_at(self, time: Duration) -> Self {
        self.last(|node| node.start_ms = time.as_millis() as u64)
    }

    /// It holds the key of another node.
    ///
    /// # Panics
    /// When there is no such node.
    #[must_use]
    pub fn with_key_of(self, other: &str) -> Self {
        let key = self.plan.nodes.iter().find(|node| node.name == other).map(|node| node.key);
        let key = key.unwrap_or_else(|| panic!("there is no node {other} in this scenario"));
        self.last(|node| node.key = key)
    }

    /// What links are like.
    #[must_use]
    pub fn links(mut self, model: LinkModel) -> Self {
        self.plan.link = model;
        self
    }

    /// What some links are like.
    #[must_use]
    pub fn links_on(mut self, on: Selector, model: LinkModel) -> Self {
        self.plan.links.push(LinkRule { on, model });
        self
    }

    /// Nothing ever gets from `from` to `to`, though the way back works.
    #[must_use]
    pub fn deaf(mut self, to: &str, from: &str) -> Self {
        self.plan.unreachable.push(Selector::way(from, to, false));
        self
    }

    /// Nothing ever gets from one to the other, either way.
    #[must_use]
    pub fn apart(mut self, one: &str, other: &str) -> Self {
        self.plan.unreachable.push(Selector::way(one, other, true));
        self
    }

    /// Something that goes wrong.
    #[must_use]
    pub fn fault(mut self, fault: Fault) -> Self {
        self.plan.faults.push(fault);
        self
    }

    /// What the applications do by themselves.
    #[must_use]
    pub fn loads(mut self, loads: Vec<Load>) -> Self {
        self.plan.loads.extend(loads);
        self
    }

    /// The settings of all nodes.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// The world at time zero, with real nodes.
    pub fn start(self) -> World {
        self.start_with(nodes())
    }

    /// The world at time zero, with machines of another kind.
    pub fn start_with(self, maker: Maker) -> World {
        World::with_config(self.plan, self.config, maker)
    }

    fn node(mut self, node: NodePlan) -> Self {
        let key = self.plan.nodes.len() as u64;
        self.plan.nodes.push(NodePlan { key, ..node });
        self
    }

    fn last(mut self, change: impl FnOnce(&mut NodePlan)) -> Self {
        if let Some(node) = self.plan.nodes.last_mut() {
            change(node);
        }
        self
    }
}
