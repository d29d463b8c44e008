//! Table F on the wire: a peer's own links, counted along the directory of the server that it reports to.
//!
//! The table itself is a [`Publisher`] at the peer and a [`Replica`] at each server (together table B). A report is an
//! update in which runs of neighbours in the directory stand for their Ids.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Bounded, Delta, MAX_PART_ROWS, PART_BYTES, PeerRow, Publisher, Replica, Snapshot, Update, Version};
use crate::{Id, Incarnation, path::PathKind};

/// Fewer links than this are named by Id, so that a small report costs the server no walk over its directory.
const INDEX_FROM: usize = 16;

/// By which kind of path a link goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum LinkKind {
    /// [`PathKind::Direct`].
    Direct,
    /// [`PathKind::Punched`].
    Punched,
    /// [`PathKind::Relayed`].
    Relayed,
}

impl From<PathKind> for LinkKind {
    fn from(kind: PathKind) -> Self {
        match kind {
            PathKind::Direct => Self::Direct,
            PathKind::Punched => Self::Punched,
            PathKind::Relayed => Self::Relayed,
        }
    }
}

impl From<LinkKind> for PathKind {
    fn from(kind: LinkKind) -> Self {
        match kind {
            LinkKind::Direct => Self::Direct,
            LinkKind::Punched => Self::Punched,
            LinkKind::Relayed => Self::Relayed,
        }
    }
}

/// A part of an update of table F. A link without a kind is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkReport {
    epoch: Incarnation,
    /// `None` for a snapshot.
    from: Option<u64>,
    to: u64,
    more: bool,
    /// The version of the server's directory that the runs count in.
    directory: Option<Version>,
    runs: Bounded<Run, MAX_PART_ROWS>,
    named: Bounded<(Id, Option<LinkKind>), MAX_PART_ROWS>,
}

/// Neighbours in the directory whose links are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Run {
    /// How many rows to pass over after the run before.
    skip: u32,
    len: u32,
    kind: Option<LinkKind>,
}

/// The report counts in a version of the directory that this server does not know any more: ask for a snapshot by Ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a link report counts in an unknown version of the directory: ask for all links by id")]
pub struct UnknownDirectory;

impl LinkReport {
    /// Writes an update for the server that `directory` is from, in parts fit to be sent; `None` names all links by Id.
    pub fn parts(update: Update<Id, LinkKind>, directory: Option<&Replica<Id, PeerRow>>) -> Vec<Self> {
        update.parts(PART_BYTES).into_iter().map(|part| Self::part(part, directory)).collect()
    }

    fn part(part: Update<Id, LinkKind>, directory: Option<&Replica<Id, PeerRow>>) -> Self {
        let Version { epoch, number: to } = part.version();
        let (from, more, set, removed) = match part {
            Update::Snapshot(Snapshot { more, rows, .. }) => (None, more, rows, Vec::new()),
            Update::Delta(Delta { from, more, set, removed, .. }) => (Some(from), more, set, removed),
        };
        let set = set.into_iter().map(|(id, kind)| (id, Some(kind)));
        let mut named: BTreeMap<_, _> = set.chain(removed.into_iter().map(|id| (id, None))).collect();
        let directory = directory.filter(|_| named.len() >= INDEX_FROM);
        let runs = directory.map_or_else(Vec::new, |directory| take_runs(&mut named, directory.rows().keys()));
        let directory = directory.filter(|_| !runs.is_empty()).and_then(Replica::version);
        Self { epoch, from, to, more, directory, runs: Bounded::first(runs), named: Bounded::first(named) }
    }

    /// Reads a report back with the directory of the server that it was written for. The result is at most as long as
    /// that directory and the Ids in the report together; it is for [`Replica::apply`] to say whether it fits.
    ///
    /// # Errors
    /// That version of the directory is not known any more.
    pub fn resolve(self, directory: &Publisher<Id, PeerRow>) -> Result<Update<Id, LinkKind>, UnknownDirectory> {
        let (mut rows, mut removed) = (Vec::new(), Vec::new());
        let mut put = |id, kind| match kind {
            Some(kind) => rows.push((id, kind)),
            None => removed.push(id),
        };
        self.named.into_iter().for_each(|(id, kind)| put(id, kind));
        if !self.runs.is_empty() {
            let version = self.directory.filter(|version| version.epoch == directory.version().epoch);
            let mut keys = version.and_then(|version| directory.keys_at(version.number)).ok_or(UnknownDirectory)?;
            for run in self.runs {
                keys.by_ref().take(run.skip as usize).for_each(drop);
                keys.by_ref().take(run.len as usize).for_each(|id| put(*id, run.kind));
            }
        }
        let (epoch, more) = (self.epoch, self.more);
        Ok(match self.from {
            None => Update::Snapshot(Snapshot { version: Version { epoch, number: self.to }, more, rows }),
            Some(from) => Update::Delta(Delta { epoch, from, to: self.to, more, set: rows, removed }),
        })
    }
}

/// Takes the links to holders of `keys` out of `links`, as runs along `keys`.
fn take_runs<'a>(links: &mut BTreeMap<Id, Option<LinkKind>>, keys: impl Iterator<Item = &'a Id>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut skip = 0;
    for id in keys {
        let Some(kind) = links.remove(id) else {
            skip += 1;
            continue;
        };
        match runs.last_mut() {
            Some(run) if skip == 0 && run.kind == kind => run.len += 1,
            _ => runs.push(Run { skip, len: 1, kind }),
        }
        skip = 0;
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        PublicKey, Role,
        table::tests::{epoch, peer_row},
    };

    fn id(n: u32) -> Id {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&n.to_be_bytes());
        Id::from_key(Role::Peer, &PublicKey(key))
    }

    /// A server's directory of `n` peers, a peer's copy of it, and that peer's links to all of them.
    fn mesh(n: u32) -> (Publisher<Id, PeerRow>, Replica<Id, PeerRow>, Publisher<Id, LinkKind>) {
        let mut directory = Publisher::new(epoch(7), 20_000, 64);
        let mut links = Publisher::new(epoch(8), 20_000, 20_000);
        for peer in 0..n {
            directory.set(id(peer), peer_row(peer)).unwrap();
            links.set(id(peer), if peer % 50 == 0 { LinkKind::Relayed } else { LinkKind::Direct }).unwrap();
        }
        let mut copy = Replica::new(20_000);
        copy.apply_snapshot(directory.snapshot()).unwrap();
        (directory, copy, links)
    }

    fn send(
        update: Update<Id, LinkKind>,
        copy: Option<&Replica<Id, PeerRow>>,
        directory: &Publisher<Id, PeerRow>,
        table: &mut Replica<Id, LinkKind>,
    ) -> usize {
        let mut size = 0;
        for part in LinkReport::parts(update, copy) {
            let bytes = postcard::to_allocvec(&part).unwrap();
            size += bytes.len();
            let part: LinkReport = postcard::from_bytes(&bytes).unwrap();
            table.apply(part.resolve(directory).unwrap()).unwrap();
        }
        size
    }

    #[test]
    fn a_thousand_links_cost_hundreds_of_bytes_and_arrive_as_they_are() {
        let (directory, copy, mut links) = mesh(1_000);
        links.set(id(5_000), LinkKind::Punched).unwrap();
        let mut table = Replica::new(20_000);
        let size = send(Update::Snapshot(links.snapshot()), Some(&copy), &directory, &mut table);
        assert!(size < 400, "{size} bytes");
        assert_eq!(table.rows(), links.rows());
        assert_eq!(table.version(), Some(links.version()));
    }

    #[test]
    fn a_delta_with_lost_links_arrives_while_the_directory_moves_on() {
        let (mut directory, copy, mut links) = mesh(100);
        let mut table = Replica::new(20_000);
        send(Update::Snapshot(links.snapshot()), Some(&copy), &directory, &mut table);
        let before = links.version();
        for peer in 0..40 {
            links.remove(&id(peer));
            links.set(id(60 + peer), LinkKind::Punched).unwrap();
        }
        for peer in 0..10 {
            directory.remove(&id(peer * 3));
            directory.set(id(1_000 + peer), peer_row(peer)).unwrap();
        }
        let update = links.update_since(Some(before));
        assert!(matches!(update, Update::Delta(_)));
        send(update, Some(&copy), &directory, &mut table);
        assert_eq!(table.rows(), links.rows());
    }

    #[test]
    fn few_links_and_links_without_a_directory_go_by_id() {
        let (directory, copy, links) = mesh(INDEX_FROM as u32 - 1);
        for copy in [Some(&copy), None] {
            let [report] = &LinkReport::parts(Update::Snapshot(links.snapshot()), copy)[..] else { panic!("parts") };
            assert!(report.runs.is_empty() && report.directory.is_none());
        }
        let (other, ..) = mesh(0);
        let mut table = Replica::new(20_000);
        send(Update::Snapshot(links.snapshot()), Some(&copy), &other, &mut table);
        assert_eq!(table.rows(), links.rows());
        drop(directory);
    }

    #[test]
    fn an_unknown_directory_is_refused() {
        let (mut directory, copy, links) = mesh(100);
        let report = || LinkReport::parts(Update::Snapshot(links.snapshot()), Some(&copy)).remove(0);
        let other = Publisher::new(epoch(9), 20_000, 64);
        assert_eq!(report().resolve(&other), Err(UnknownDirectory));
        report().resolve(&directory).unwrap();
        for name in 0..65 {
            directory.set(id(0), peer_row(10_000 + name)).unwrap();
        }
        assert_eq!(report().resolve(&directory), Err(UnknownDirectory), "its log does not reach back");
    }

    #[test]
    fn runs_beyond_the_directory_cost_no_more_than_the_directory() {
        let (directory, ..) = mesh(20);
        let run = Run { skip: 1, len: u32::MAX, kind: Some(LinkKind::Direct) };
        let report = LinkReport {
            epoch: epoch(8),
            from: None,
            to: 1,
            more: false,
            directory: Some(directory.version()),
            runs: Bounded::first([run; MAX_PART_ROWS]),
            named: Bounded::default(),
        };
        let Ok(Update::Snapshot(snapshot)) = report.resolve(&directory) else { panic!("not resolved") };
        assert_eq!(snapshot.rows.len(), 19);
    }

    #[test]
    fn the_wire_form_is_golden() {
        let version = Version { epoch: epoch(7), number: 300 };
        let run = |skip, len, kind| Run { skip, len, kind };
        let report = LinkReport {
            epoch: epoch(8),
            from: Some(1),
            to: 2,
            more: true,
            directory: Some(version),
            runs: Bounded::first([run(0, 200, Some(LinkKind::Direct)), run(1, 1, None)]),
            named: Bounded::default(),
        };
        let (reporter, directory) = ("08".repeat(17), "07".repeat(17));
        let expected = format!("{reporter}0101_02_01_01{directory}ac02_02_00c8010100_010100_00").replace('_', "");
        assert_eq!(crate::id::hex(&postcard::to_allocvec(&report).unwrap()), expected);
    }

    #[test]
    fn kinds_convert_both_ways() {
        for kind in [PathKind::Direct, PathKind::Punched, PathKind::Relayed] {
            assert_eq!(PathKind::from(LinkKind::from(kind)), kind);
        }
    }
}
