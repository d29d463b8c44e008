//! The logs: equal where they must be, complete at each leader, never changed once committed, and configured in legal steps.

use std::collections::{BTreeMap, BTreeSet};

use p2pcore::{
    Id,
    master::Roster,
    raft::{Configuration, Entry, Payload, Raft},
};

use super::Line;
use crate::check::Breach;

/// What was ever in a log, and what was committed.
#[derive(Clone, Debug, Default)]
pub struct History {
    stories: BTreeMap<Line, Story>,
    /// Committed since they were last taken.
    rosters: Vec<(u64, Roster)>,
}

#[derive(Clone, Debug, Default)]
struct Story {
    /// By index and term: the term before it, and what it holds.
    entries: BTreeMap<(u64, u64), (u64, Payload<Id, Roster>)>,
    /// By index: the term of the entry, and a term in which it was committed.
    committed: BTreeMap<u64, Committed>,
    /// The terms whose leaders were judged, and what these had committed then.
    led: BTreeMap<u64, u64>,
    /// Configurations that were judged at the leader that made them, by index and term.
    made: BTreeSet<(u64, u64)>,
}

#[derive(Clone, Copy, Debug)]
struct Committed {
    term: u64,
    by_term: u64,
}

impl History {
    /// The log of a server looks like this.
    ///
    /// # Errors
    /// It differs from another one where it must not, or its configurations do not follow each other in legal steps.
    pub fn log(&mut self, line: Line, id: Id, raft: &Raft<Id, Roster>) -> Result<(), Breach> {
        let story = self.stories.entry(line).or_default();
        let snapshot = raft.snapshot();
        let breach = |checker, what: String| Err(Breach::new(checker, [id], what));
        if let Some(known) = story.committed.get(&snapshot.index).filter(|known| known.term != snapshot.term) {
            let what = format!("a snapshot of term {} at {}, not {}", snapshot.term, snapshot.index, known.term);
            return breach("committed_for_ever", what);
        }
        let (mut before, mut config) = (snapshot.term, &snapshot.config);
        for entry in raft.entries() {
            let Entry { term, index, payload } = entry;
            let is_new = !story.entries.contains_key(&(*index, *term));
            let known = story.entries.entry((*index, *term)).or_insert_with(|| (before, payload.clone()));
            if (known.0, &known.1) != (before, payload) {
                let what = format!("two logs differ at or before index {index}, term {term}");
                return breach("log_matching", what);
            }
            if let Payload::Config(next) = payload {
                if is_new && !follows(config, next) {
                    return breach("legal_steps", format!("{next:?} does not follow {config:?}"));
                }
                config = next;
            }
            if *index <= raft.commit() {
                let by_term = raft.term();
                let first = *story.committed.entry(*index).or_insert_with(|| {
                    if let Payload::Command(roster) = payload {
                        self.rosters.push((*index, (**roster).clone()));
                    }
                    Committed { term: *term, by_term }
                });
                if first.term != *term {
                    let what = format!("entries of terms {} and {term} are committed at {index}", first.term);
                    return breach("committed_for_ever", what);
                }
            }
            before = *term;
        }
        Ok(())
    }

    /// A server leads; to be told after its [log](Self::log).
    ///
    /// # Errors
    /// It lacks something that was committed before its term, it committed an entry of an earlier term by counting, or it
    /// changed the configuration before it had committed an entry of its term.
    pub fn leads(&mut self, line: Line, id: Id, raft: &Raft<Id, Roster>) -> Result<(), Breach> {
        let story = self.stories.entry(line).or_default();
        let (term, snapshot) = (raft.term(), raft.snapshot().index);
        let before = story.led.insert(term, raft.commit());
        if before.is_some_and(|before| before < raft.commit()) {
            let of = raft.entries().find(|entry| entry.index == raft.commit()).map(|entry| entry.term);
            if of.is_some_and(|of| of < term) {
                let what = format!("commits entry {} of an earlier term than its own, {term}", raft.commit());
                return Err(Breach::new("commit_own_term", [id], what));
            }
        }
        if before.is_none() {
            let own: BTreeMap<u64, u64> = raft.entries().map(|entry| (entry.index, entry.term)).collect();
            let earlier = story.committed.range(snapshot + 1..).filter(|(_, committed)| committed.by_term < term);
            let missing =
                earlier.map(|(index, committed)| (index, committed.term)).find(|(i, t)| own.get(i) != Some(t));
            if let Some((index, of)) = missing {
                let what = format!("leads term {term} without the entry of term {of} committed at {index}");
                return Err(Breach::new("leader_complete", [id], what));
            }
        }
        let mut of_term = raft.entries().filter(|entry| entry.term == term);
        let first = of_term.next().map_or(snapshot, |entry| entry.index);
        for entry in raft.entries().filter(|entry| entry.term == term && entry.config().is_some()) {
            let is_early = entry.index == first || raft.commit() < first;
            if story.made.insert((entry.index, term)) && is_early && first > snapshot {
                let what = format!("changes the configuration before an entry of its term {term} is committed");
                return Err(Breach::new("change_after_noop", [id], what));
            }
        }
        Ok(())
    }

    /// How many joint configurations there were.
    pub fn joint(&self) -> usize {
        let configs = self.stories.values().flat_map(|story| story.entries.values());
        configs.filter(|(_, payload)| matches!(payload, Payload::Config(config) if config.voters.is_joint())).count()
    }

    /// The rosters that were committed since the last time, with their indexes.
    pub fn take_rosters(&mut self) -> Vec<(u64, Roster)> {
        std::mem::take(&mut self.rosters)
    }
}

/// Whether each quorum of the one meets each quorum of the other, whatever the quorums: one voter more or less, into a joint
/// configuration, or out of it.
fn follows(before: &Configuration<Id>, next: &Configuration<Id>) -> bool {
    let (old, new) = (&before.voters, &next.voters);
    match (old.is_joint(), new.is_joint()) {
        // a newcomer's log begins with what it is sent first
        _ if old.incoming.is_empty() => true,
        (false, false) => old.incoming.symmetric_difference(&new.incoming).count() <= 1,
        (false, true) => new.outgoing == old.incoming,
        (true, false) => new.incoming == old.incoming,
        (true, true) => new == old,
    }
}

#[cfg(test)]
mod tests {
    use p2pcore::raft::{HardState, Limits, Snapshot, Stored, Voters};

    use super::{
        super::testing::{line, server},
        *,
    };

    type Log = Raft<Id, Roster>;

    fn config(voters: &[u8]) -> Configuration<Id> {
        Configuration::new(voters.iter().map(|n| server(*n)), [], 1)
    }

    fn noop(index: u64, term: u64) -> Entry<Id, Roster> {
        Entry { term, index, payload: Payload::Noop }
    }

    fn change(index: u64, term: u64, config: Configuration<Id>) -> Entry<Id, Roster> {
        Entry { term, index, payload: Payload::Config(config.into()) }
    }

    fn stored(entries: Vec<Entry<Id, Roster>>, term: u64, commit: u64) -> Stored<Id, Roster> {
        let snapshot = Snapshot { index: 1, term: 0, config: config(&[1]) };
        Stored { hard_state: HardState { term, vote: None, commit }, snapshot, entries }
    }

    fn log(entries: Vec<Entry<Id, Roster>>, term: u64, commit: u64) -> Log {
        Raft::new(server(1), stored(entries, term, commit), Limits::default()).unwrap()
    }

    fn checker(history: &mut History, log: &Log) -> Option<&'static str> {
        history.log(line(), server(1), log).err().map(|breach| breach.checker)
    }

    #[test]
    fn logs_that_agree_and_grow_are_right() {
        let mut history = History::default();
        assert_eq!(checker(&mut history, &log(vec![noop(2, 1)], 1, 1)), None);
        assert_eq!(checker(&mut history, &log(vec![noop(2, 1), noop(3, 1)], 1, 2)), None);
        // what is not committed may be replaced
        assert_eq!(checker(&mut history, &log(vec![noop(2, 1), noop(3, 2)], 2, 3)), None);
        assert_eq!(history.leads(line(), server(1), &log(vec![noop(2, 1), noop(3, 2)], 3, 3)), Ok(()));
    }

    #[test]
    fn logs_that_differ_are_seen() {
        let mut history = History::default();
        checker(&mut history, &log(vec![noop(2, 1), noop(3, 2)], 2, 1));
        assert_eq!(checker(&mut history.clone(), &log(vec![noop(2, 2), noop(3, 2)], 2, 1)), Some("log_matching"));
        let other = change(2, 1, config(&[1, 2]));
        assert_eq!(checker(&mut history, &log(vec![other], 2, 1)), Some("log_matching"));
    }

    #[test]
    fn another_entry_or_snapshot_at_a_committed_index_is_seen() {
        let mut history = History::default();
        checker(&mut history, &log(vec![noop(2, 1)], 1, 2));
        assert_eq!(checker(&mut history.clone(), &log(vec![noop(2, 2)], 2, 1)), None, "not committed there");
        assert_eq!(checker(&mut history.clone(), &log(vec![noop(2, 2)], 2, 2)), Some("committed_for_ever"));
        let mut stored = stored(vec![], 5, 2);
        stored.snapshot = Snapshot { index: 2, term: 2, ..stored.snapshot };
        let log = Raft::new(server(1), stored, Limits::default()).unwrap();
        assert_eq!(checker(&mut history, &log), Some("committed_for_ever"));
    }

    #[test]
    fn steps_by_one_and_through_joint_configurations_are_legal_and_no_others() {
        let joint = Configuration {
            voters: Voters { incoming: [server(1), server(2), server(3)].into(), outgoing: [server(1)].into() },
            ..config(&[1, 2, 3])
        };
        for (way, is_legal) in [
            (vec![config(&[1, 2]), config(&[1, 2, 3]), config(&[2, 3])], true),
            (vec![joint.clone(), config(&[1, 2, 3])], true),
            (vec![config(&[1, 2, 3])], false),
            (vec![config(&[2])], false),
            (vec![joint, config(&[1, 2])], false),
        ] {
            let entries = (2..).zip(way).map(|(index, config)| change(index, 1, config)).collect();
            let found = checker(&mut History::default(), &log(entries, 1, 1));
            assert_eq!(found, (!is_legal).then_some("legal_steps"));
        }
    }

    fn leads(history: &History, log: &Log) -> Option<&'static str> {
        history.clone().leads(line(), server(1), log).err().map(|breach| breach.checker)
    }

    #[test]
    fn a_leader_without_what_was_committed_before_is_seen() {
        let mut history = History::default();
        checker(&mut history, &log(vec![noop(2, 1), noop(3, 1)], 1, 3));
        assert_eq!(leads(&history, &log(vec![noop(2, 1), noop(3, 1), noop(4, 2)], 2, 2)), None);
        assert_eq!(leads(&history, &log(vec![noop(2, 1)], 2, 2)), Some("leader_complete"));
        assert_eq!(leads(&history, &log(vec![noop(2, 1), noop(3, 2)], 2, 2)), Some("leader_complete"));
        assert_eq!(leads(&history, &log(vec![noop(2, 1)], 1, 2)), None, "what a later term committed it cannot know");
    }

    #[test]
    fn an_entry_of_an_earlier_term_that_is_committed_by_counting_is_seen() {
        for (commit, is_right) in [(2, true), (3, false), (4, true)] {
            let mut history = History::default();
            let at = |commit| log(vec![noop(2, 1), noop(3, 1), noop(4, 2)], 2, commit);
            assert_eq!(history.leads(line(), server(1), &at(2)), Ok(()));
            assert_eq!(leads(&history, &at(commit)), (!is_right).then_some("commit_own_term"));
        }
    }

    #[test]
    fn a_change_before_the_first_entry_of_the_term_is_committed_is_seen() {
        let next = || change(4, 2, config(&[1, 2]));
        let of_term_2 = |commit| log(vec![noop(2, 1), noop(3, 2), next()], 2, commit);
        assert_eq!(leads(&History::default(), &of_term_2(3)), None);
        assert_eq!(leads(&History::default(), &of_term_2(2)), Some("change_after_noop"));
        let without = log(vec![noop(2, 1), change(3, 2, config(&[1, 2]))], 2, 3);
        assert_eq!(leads(&History::default(), &without), Some("change_after_noop"));
    }
}
