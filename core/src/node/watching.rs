//! On demand: which rows this peer has the servers show, for its application and for its own links and messages.

use std::{collections::BTreeSet, time::Instant};

use super::{Event, Node, Timer, Watch, roles::RoleState};
use crate::{
    CommandError, Id, Name, Reason,
    link::LinkToken,
    table::{Bounded, Refused},
    wire::{Control, MAX_WATCHED_IDS, MAX_WATCHED_NAMES, Rows, Wanted},
};

/// What the application watches, and what the servers are to be told.
#[derive(Debug, Default)]
pub(super) struct Watching {
    by_application: BTreeSet<Watch>,
    /// Those of them to which an [`Event::Found`] is owed.
    owed: BTreeSet<Watch>,
    /// Ids of which it is to be found out anew whether anything here wants their rows.
    touched: BTreeSet<Id>,
    ask: (BTreeSet<Id>, BTreeSet<Name>),
    /// Told before what is in `ask`.
    drop: (BTreeSet<Id>, BTreeSet<Name>),
}

impl Watching {
    /// Something came or went that wants the row of `id`.
    pub(super) fn touch(&mut self, id: Id) {
        if !id.is_server() {
            self.touched.insert(id);
        }
    }

    pub(super) fn is_at_rest(&self) -> bool {
        let is_empty = |(ids, names): &(BTreeSet<Id>, BTreeSet<Name>)| ids.is_empty() && names.is_empty();
        self.touched.is_empty() && is_empty(&self.ask) && is_empty(&self.drop)
    }

    fn ask(&mut self, id: Id) {
        self.ask.0.insert(id);
    }

    fn drop(&mut self, id: Id) {
        self.ask.0.remove(&id);
        self.drop.0.insert(id);
    }

    pub(super) fn by_application(&self) -> impl Iterator<Item = &Watch> {
        self.by_application.iter()
    }
}

impl Node {
    /// Watches an Id, or whoever has a name: [`Event::Found`] says once who is there, then [`Event::PeerUp`] and
    /// [`Event::PeerDown`] tell of changes. In a network of few peers all are told of anyway; on demand only of those that are
    /// watched, and of those to which there is a link or something to send. Only for peers: a server knows its own peers.
    ///
    /// # Errors
    /// `BadDestinations` for a server's or the own Id or at a server, `Failed` with `Full` over `Config::max_watches` or
    /// what the servers allow, `Stopped`.
    pub fn watch(&mut self, now: Instant, what: Watch) -> Result<(), CommandError> {
        self.now = now;
        if self.stopping.is_some() {
            return Err(CommandError::Stopped);
        }
        let own = self.id();
        let RoleState::Peer(tables) = &mut self.role else { return Err(CommandError::BadDestinations) };
        let is_new = match &what {
            Watch::Id(id) if id.is_server() || *id == own => return Err(CommandError::BadDestinations),
            Watch::Id(id) => !tables.is_asked(id),
            Watch::Name(_) => !self.watching.by_application.contains(&what),
        };
        if is_new && !tables.may_ask() {
            return Err(CommandError::Failed(Reason::Full));
        }
        match &what {
            Watch::Id(id) => {
                if tables.ask(*id) {
                    self.watching.ask(*id);
                }
            }
            Watch::Name(name) => {
                if tables.ask_name(name.clone()) {
                    self.watching.ask.1.insert(name.clone());
                }
            }
        }
        self.watching.by_application.insert(what.clone());
        self.watching.owed.insert(what);
        self.tell_found();
        Ok(())
    }

    /// Ends what [`watch`](Self::watch) began. No [`Event::PeerDown`] comes of it.
    pub fn unwatch(&mut self, now: Instant, what: &Watch) {
        self.now = now;
        self.watching.owed.remove(what);
        let RoleState::Peer(tables) = &mut self.role else { return };
        if !self.watching.by_application.remove(what) {
            return;
        }
        match what {
            Watch::Id(id) => self.watching.touch(*id),
            Watch::Name(name) => {
                if tables.unask_name(now, name) {
                    self.watching.ask.1.remove(name);
                    self.watching.drop.1.insert(name.clone());
                }
            }
        }
    }

    /// Finds out whether anything wants the rows of the Ids that were touched, and tells the servers what is new of it.
    pub(super) fn settle_watches(&mut self, now: Instant) {
        while let Some(id) = self.watching.touched.pop_first() {
            self.review_watch(now, id);
        }
        let servers: Vec<Id> = match &self.role {
            RoleState::Peer(tables) => tables.servers_on_demand().collect(),
            RoleState::Server(_) => Vec::new(),
        };
        let dropped = std::mem::take(&mut self.watching.drop);
        let asked = std::mem::take(&mut self.watching.ask);
        let messages: Vec<Control> = parts(dropped, usize::MAX)
            .map(Control::Unwatch)
            .chain(parts(asked, usize::MAX).map(Control::Watch))
            .collect();
        for server in servers {
            messages.iter().for_each(|message| self.tell(now, server, message));
        }
    }

    fn review_watch(&mut self, now: Instant, id: Id) {
        if self.id().is_server() {
            return;
        }
        let wanted = self.is_interested(&id);
        let RoleState::Peer(tables) = &mut self.role else { return };
        match (wanted, tables.is_asked(&id)) {
            (true, false) if tables.may_ask() => {
                tables.ask(id);
                self.watching.ask(id);
            }
            (true, false) => self.count("watches refused: full"),
            (false, true) => {
                tables.unask(now, id);
                self.watching.drop(id);
            }
            (true, true) | (false, false) => {}
        }
    }

    /// Whether anything here wants the row of `id`.
    fn is_interested(&self, id: &Id) -> bool {
        *id != self.id()
            && (self.watching.by_application.contains(&Watch::Id(*id))
                || self.awaited.contains(id)
                || self.remotes.get(id).is_some_and(|remote| remote.has_link_or_dial())
                || self.has_traffic(id))
    }

    /// A server shows rows on demand from now on.
    pub(super) fn on_demand(&mut self, now: Instant, server: Id, max: u32) {
        let RoleState::Peer(tables) = &mut self.role else { return };
        let was = tables.is_on_demand();
        let news = tables.on_demand(now, &server, max);
        let (ids, names) = tables.asked();
        let asked = (ids.clone(), names.clone());
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        let messages: Vec<Control> = parts(asked, max).map(Control::Watch).collect();
        messages.iter().for_each(|message| self.tell(now, server, message));
        if !was {
            let links: Vec<Id> =
                self.remotes.iter().filter(|(_, remote)| remote.current.is_some()).map(|(id, _)| *id).collect();
            links.into_iter().for_each(|id| self.watch_idle(now, id));
        }
        self.take_news(now, news);
    }

    /// A server on demand shows rows.
    pub(super) fn on_rows(&mut self, now: Instant, token: LinkToken, server: Id, rows: Rows) {
        let RoleState::Peer(tables) = &mut self.role else { return self.violation(now, token) };
        match tables.apply_rows(now, &server, rows) {
            Ok(news) => self.take_news(now, news),
            Err(Refused::Gap | Refused::TooManyRows { .. } | Refused::Inconsistent) => self.violation(now, token),
        }
    }

    /// Tells the application who is there of what it watches, once all linked servers have answered.
    pub(super) fn tell_found(&mut self) {
        if self.watching.owed.is_empty() || self.is_suspended() {
            return;
        }
        let RoleState::Peer(tables) = &self.role else { return };
        let mut found = Vec::new();
        for what in &self.watching.owed {
            match what {
                Watch::Id(id) if !tables.awaits(id) => {
                    let ids = tables.online().get_key_value(id).map(|(id, _)| *id).into_iter().collect();
                    found.push((what.clone(), ids));
                }
                Watch::Name(name) if !tables.awaits_name(name) => found.push((what.clone(), tables.named(name))),
                Watch::Id(_) | Watch::Name(_) => {}
            }
        }
        for (what, ids) in found {
            self.watching.owed.remove(&what);
            self.event(Event::Found { what, ids });
        }
    }

    /// A link is wanted until then, and its other end's row.
    pub(super) fn want_until(&mut self, until: Instant, id: Id) {
        self.remote(id).wanted_until = Some(until);
        self.timers.set(Timer::Interest(id), Some(until));
    }
}

/// The first `max` of what is wanted, in messages.
fn parts((ids, names): (BTreeSet<Id>, BTreeSet<Name>), max: usize) -> impl Iterator<Item = Wanted> {
    let for_names = max.saturating_sub(ids.len());
    let mut ids = ids.into_iter().take(max).peekable();
    let mut names = names.into_iter().take(for_names).peekable();
    std::iter::from_fn(move || {
        ids.peek().map(drop).or(names.peek().map(drop))?;
        Some(Wanted {
            ids: Bounded::first(ids.by_ref().take(MAX_WATCHED_IDS)),
            names: Bounded::first(names.by_ref().take(MAX_WATCHED_NAMES)),
        })
    })
}
