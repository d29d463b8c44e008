//! What a node does with what a leader sends.

use super::{Body, Command, Entry, Flaw, Heard, NodeId, Output, Raft, Snapshot, machine::State};

impl<N: NodeId, D: Command> Raft<N, D> {
    /// An append, a heartbeat or a snapshot.
    pub(super) fn on_leader(&mut self, from: N, term: u64, join: u64, body: Body<N, D>) -> Heard {
        if term < self.term {
            // the sender does not know the term yet; it must step down, or this node could never take part again
            let reply = self.message(0, Body::Appended { index: 0 });
            self.send_when_saved(from, reply);
            return Heard::Nothing;
        }
        let has_other_leader = matches!(&self.state, State::Follower { leader: Some(leader) } if *leader != from);
        if term == self.term && (self.is_leader() || has_other_leader) {
            return Heard::Nothing;
        }
        self.become_follower(term, Some(from));
        self.deaf |= !self.has(Flaw::VoteDespiteLeader);
        let reply = match body {
            Body::Append { prev_index, prev_term, entries, commit } => {
                self.on_append(prev_index, prev_term, entries, commit)
            }
            Body::Snapshot(snapshot) => self.on_snapshot(snapshot),
            Body::Heartbeat { commit, round } => {
                // a leader names no index that it does not know to be in this log
                if commit <= self.log.last_index() {
                    self.commit_to(commit);
                }
                Body::HeartbeatReply { round }
            }
            _ => return Heard::Leader,
        };
        self.compact();
        let reply = self.message(join, reply);
        self.send_when_saved(from, reply);
        Heard::Leader
    }

    fn on_append(&mut self, prev_index: u64, prev_term: u64, mut entries: Vec<Entry<N, D>>, commit: u64) -> Body<N, D> {
        // what is committed is the same everywhere, and never looked at again
        if prev_index < self.commit {
            return Body::Appended { index: self.commit };
        }
        if self.log.term(prev_index) != Some(prev_term) {
            let (hint_index, hint_term) = self.log.conflict_by_term(prev_index, prev_term);
            return Body::Rejected { prev_index, hint_index, hint_term };
        }
        // a leader holds itself to this bound; more than that may be left by those before it, but not without end
        let most = u64::try_from(self.limits.max_uncommitted.max(1)).unwrap_or(u64::MAX).saturating_mul(2);
        let room = self.commit.max(commit.min(prev_index)).saturating_add(most);
        entries.retain(|entry| entry.index <= room);
        let last = entries.last().map_or(prev_index, |entry| entry.index);
        if let Some(new) = self.log.first_new(&entries) {
            let loses_config = self.log.has_config_after(new.saturating_sub(1));
            let gets_config = entries.iter().any(|entry| entry.config().is_some());
            self.log.truncate(new);
            self.disk.log_changed(new);
            for entry in entries.into_iter().filter(|entry| entry.index >= new) {
                self.log.push(entry.packed());
            }
            if loses_config || gets_config {
                self.config = self.log.config_at(last).clone();
            }
        }
        // what follows after these entries may differ from the leader's log
        self.commit_to(commit.min(last));
        Body::Appended { index: last }
    }

    fn on_snapshot(&mut self, snapshot: Snapshot<N>) -> Body<N, D> {
        if snapshot.index <= self.commit {
            return Body::Appended { index: self.commit };
        }
        let index = snapshot.index;
        if self.log.term(index) == Some(snapshot.term) {
            self.commit_to(index);
            return Body::Appended { index };
        }
        self.log.restore(snapshot.clone());
        self.disk.snapshot_changed();
        self.commit = index;
        self.config = snapshot.config.clone();
        self.outputs.push_back(Output::Installed(snapshot));
        Body::Appended { index }
    }
}
