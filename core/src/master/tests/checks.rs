//! What must hold at every instant, whatever happens.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    world::{MS, Nanos, World},
    *,
};
use crate::{
    id::ClusterId,
    raft::{self, Configuration, Payload},
};

/// One line of succession.
type Line = (ClusterId, u64, Id);

/// What was seen so far.
#[derive(Default)]
pub(super) struct Checks {
    /// Who was Elected in (generation, founder, term).
    elected: BTreeMap<(Line, u64), Id>,
    /// The highest token of a valid guard, of each line.
    highest: BTreeMap<Line, Token>,
    /// Whom (voter, term) gave its vote.
    votes: BTreeMap<(Line, u64, u8), u8>,
    configs: BTreeMap<Line, BTreeMap<u64, Arc<Configuration<Id>>>>,
    rosters: BTreeMap<Line, BTreeMap<u64, Arc<Roster>>>,
    /// Which of two memberships is the older one.
    older: BTreeMap<(Line, Membership, Membership), ()>,
    /// The last Elected one that each server showed.
    shown: BTreeMap<u8, Token>,
    pub(super) guards: u64,
    /// Writes of valid Masters on their way to one resource.
    writes: BTreeMap<(Nanos, u64), Token>,
    /// The token of the last write that it accepted, and how many it refused.
    accepted: Option<Token>,
    pub(super) refused: u64,
}

type Check = Result<(), String>;

fn ensure(holds: bool, broken: impl FnOnce() -> String) -> Check {
    if holds { Ok(()) } else { Err(broken()) }
}

impl Checks {
    pub(super) fn restarted(&mut self, node: u8) {
        self.shown.remove(&node);
    }

    pub(super) fn all(&mut self, world: &World) -> Check {
        self.guards(world)?;
        self.resource(world)?;
        for (node, host) in &world.hosts {
            let Some(council) = &host.council else { continue };
            self.committed(council)?;
            Self::leads_with_a_roster(council)?;
            self.view(*node, council, &host.witnessed)?;
        }
        Ok(())
    }

    /// A leader can tell who gets its snapshot of the roster: its log reaches back to the newest one, or it founded the cluster.
    fn leads_with_a_roster(council: &Council) -> Check {
        let raft = council.raft();
        let has_roster = raft.entries().any(|entry| matches!(entry.payload, Payload::Command(_)));
        let reaches_back = has_roster || council.roster_index >= raft.snapshot().index;
        ensure(!raft.is_leader() || reaches_back, || {
            format!("one leads without a roster: snapshot {}, roster {}", raft.snapshot().index, council.roster_index)
        })
    }

    /// At most one valid guard in each line; one Elected per term; tokens only grow; the holder votes.
    fn guards(&mut self, world: &World) -> Check {
        let mut holders: BTreeMap<Line, u8> = BTreeMap::new();
        for (node, council) in world.hosts.iter().filter_map(|(node, host)| Some((*node, host.council.as_ref()?))) {
            let (Some(token), Some(line)) = (council.token(world.local(node)), line(council.allegiance())) else {
                continue;
            };
            self.guards += 1;
            if self.guards.is_multiple_of(16) {
                let delay = self.guards * 7_919 % 2_000 * MS;
                self.writes.insert((world.now + delay, self.guards), token);
            }
            let other = holders.insert(line, node);
            ensure(other.is_none(), || format!("{node} and {other:?} hold valid guards\n{}", world.picture()))?;
            let is_voter = council.raft().config().voters.contains(&token.id);
            ensure(is_voter, || format!("{token:?} is no voter"))?;
            let elected = *self.elected.entry((line, token.term)).or_insert(token.id);
            ensure(elected == token.id, || format!("{elected} and {} are Elected in term {}", token.id, token.term))?;
            let highest = *self.highest.get(&line).unwrap_or(&token);
            ensure(highest <= token, || format!("{token:?} is valid after {highest:?}"))?;
            self.highest.insert(line, token);
        }
        Ok(())
    }

    /// Writes take up to two seconds and overtake each other; what is accepted never falls, over generations too.
    fn resource(&mut self, world: &World) -> Check {
        while let Some(write) = self.writes.first_entry().filter(|write| write.key().0 <= world.now) {
            let token = write.remove();
            if !world.is_unfenced && self.accepted > Some(token) {
                self.refused += 1;
                continue;
            }
            let before = self.accepted.replace(token);
            ensure(before <= Some(token), || format!("the resource accepts {token:?} after {before:?}"))?;
        }
        Ok(())
    }

    /// All agree on what is committed; configurations follow each other in safe steps; ages are decided once.
    fn committed(&mut self, council: &Council) -> Check {
        let Some(line) = line(council.allegiance()) else { return Ok(()) };
        let raft = council.raft();
        let configs = self.configs.entry(line).or_default();
        let rosters = self.rosters.entry(line).or_default();
        for entry in raft.entries().filter(|entry| entry.index <= raft.commit()) {
            match &entry.payload {
                Payload::Config(config) => {
                    let same = configs.entry(entry.index).or_insert_with(|| config.clone());
                    ensure(same == config, || format!("{same:?} and {config:?} are committed at {}", entry.index))?;
                }
                Payload::Command(roster) if !rosters.contains_key(&entry.index) => {
                    rosters.insert(entry.index, roster.clone());
                    // who was removed after a long silence and comes back is admitted anew
                    let is_there = |membership| roster.members.iter().any(|member| member.membership == membership);
                    self.older.retain(|(of, a, b), ()| *of != line || (is_there(*a) && is_there(*b)));
                    for (place, member) in roster.members.iter().enumerate() {
                        for younger in roster.members.iter().skip(place + 1) {
                            let key = |a: &Member, b: &Member| (line, a.membership, b.membership);
                            self.older.insert(key(member, younger), ());
                            let is_turned = self.older.contains_key(&key(younger, member));
                            ensure(!is_turned, || format!("the order of {member:?} and {younger:?} changed"))?;
                        }
                    }
                }
                Payload::Command(roster) => ensure(rosters.get(&entry.index) == Some(roster), || {
                    format!("two rosters are committed at {}", entry.index)
                })?,
                Payload::Noop => (),
            }
        }
        steps_are_safe(configs.values().map(Arc::as_ref))
    }

    /// An Elected token that a server shows never falls; nobody is Provisional against a veto, or among three.
    fn view(&mut self, node: u8, council: &Council, witnessed: &std::collections::BTreeSet<u8>) -> Check {
        let MasterView::Master(token) = council.view() else { return Ok(()) };
        if token.kind == Kind::Elected {
            let shown = self.shown.insert(node, token).unwrap_or(token);
            return ensure(shown <= token, || format!("{node} shows {token:?} after {shown:?}"));
        }
        if token.id == council.id() {
            ensure(council.roster().members.len() == 2, || {
                format!("{node} is Provisional among {:?}", council.roster())
            })?;
            let mut others = council.roster().ids().filter(|id| *id != token.id);
            let is_vetoed = others.any(|id| witnessed.iter().any(|node| server(*node) == id));
            ensure(!is_vetoed, || format!("{node} is Provisional against a veto"))?;
        }
        Ok(())
    }

    /// Nobody votes twice in a term, not even without its disk.
    pub(super) fn send(&mut self, from: u8, to: u8, message: &MasterMessage) -> Check {
        let (Some(line), Body::Raft { message, .. }) = (line(message.allegiance), &message.body) else { return Ok(()) };
        if !matches!(message.body, raft::Body::VoteReply { granted: true }) {
            return Ok(());
        }
        let first = *self.votes.entry((line, message.term, from)).or_insert(to);
        ensure(first == to, || format!("{from} votes for {first} and {to} in term {}", message.term))
    }

    /// How many different Masters there were.
    pub(super) fn masters(&self) -> usize {
        self.elected.len()
    }

    pub(super) fn configs(&self) -> impl Iterator<Item = &Configuration<Id>> {
        self.configs.values().flat_map(BTreeMap::values).map(Arc::as_ref)
    }
}

/// Each configuration follows the one before in a safe step.
pub(in crate::master) fn steps_are_safe<'a>(configs: impl Iterator<Item = &'a Configuration<Id>>) -> Check {
    let mut before: Option<&Configuration<Id>> = None;
    for config in configs {
        if let Some(before) = before {
            ensure(before.is_step(config), || format!("{config:?} does not follow {before:?}"))?;
        }
        before = Some(config);
    }
    Ok(())
}

fn line(allegiance: Option<Allegiance>) -> Option<Line> {
    allegiance.map(|own| (own.cluster, own.generation.number, own.generation.founder))
}
