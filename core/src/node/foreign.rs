//! Servers of other clusters under the same network key: whoever meets one tells every server, and they tell their operators.

use std::{collections::BTreeSet, time::Instant};

use super::{Event, Node, Warning};
use crate::{
    ClusterId, Id,
    wire::{CloseCode, Control},
};

/// A server of another cluster, and that cluster if it was told.
type Foreigner = (Id, Option<ClusterId>);

/// Foreigners that are known here; at most `Config::max_foreign` in each list.
#[derive(Debug, Default)]
pub(super) struct Foreigners {
    /// By this node itself.
    met: BTreeSet<Foreigner>,
    /// By others, who said so.
    reported: BTreeSet<Foreigner>,
    /// Warnings of foreigners that called here; at most `Config::max_foreign`.
    warned: usize,
}

impl Foreigners {
    pub(super) fn len(&self) -> usize {
        self.met.len() + self.reported.len()
    }
}

impl Node {
    /// This node has met a server of another cluster.
    pub(super) fn met_foreigner(&mut self, now: Instant, id: Id, cluster: Option<ClusterId>) {
        // a link that was closed before its greeting says less than one that was greeted
        let known = self.foreigners.met.range((id, None)..).next().is_some_and(|(known, _)| *known == id);
        if !id.is_server() || (cluster.is_none() && known) {
            return;
        }
        if self.foreigners.met.len() >= self.config.max_foreign {
            return self.count("foreign servers not told of");
        }
        if self.foreigners.met.insert((id, cluster)) {
            let servers: Vec<Id> = self.linked_servers.iter().copied().collect();
            for server in servers {
                self.tell(now, server, &Control::ForeignCluster { id, cluster });
            }
        }
    }

    /// Whether the operator is to read that a link between this node and `id` was refused: once per remote and reason. Who has
    /// any number of keys can call any number of times, so of those that called only a few are shown.
    pub(super) fn is_news(&mut self, id: Id, code: CloseCode, dialled: bool) -> bool {
        if self.remote(id).refusal.replace(code) == Some(code) {
            return false;
        }
        let may = dialled || self.foreigners.warned < self.config.max_foreign;
        self.foreigners.warned += usize::from(may && !dialled);
        may
    }

    /// A server that was not linked hears of those met before.
    pub(super) fn tell_foreigners(&mut self, now: Instant, server: Id) {
        let met: Vec<Foreigner> = self.foreigners.met.iter().copied().collect();
        for (id, cluster) in met {
            self.tell(now, server, &Control::ForeignCluster { id, cluster });
        }
    }

    /// `by` says that it has met a server of another cluster.
    pub(super) fn on_foreigner(&mut self, by: Id, id: Id, cluster: Option<ClusterId>) {
        let foreigner = (id, cluster);
        let is_own = self.is_linked(&id) || id == self.id() || (cluster.is_some() && cluster == self.cluster);
        if is_own || self.foreigners.met.contains(&foreigner) || self.foreigners.reported.contains(&foreigner) {
            return;
        }
        if self.foreigners.reported.len() >= self.config.max_foreign {
            return self.count("foreign servers not told of");
        }
        self.foreigners.reported.insert(foreigner);
        self.event(Event::Warning(Warning::ForeignClusterMet { by, id }));
    }
}
