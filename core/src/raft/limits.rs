//! What bounds the work and the memory of one node.

/// The bounds of one node; all of them may differ from node to node, but for `max_uncommitted`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Entries in one append message, at least 1. Default 64.
    pub max_append_entries: usize,
    /// Bytes of commands in one append message, beyond its first entry. Default 64 KiB.
    pub max_append_bytes: usize,
    /// Append messages under way to one follower, at least 1. Default 16.
    pub max_inflight: usize,
    /// Entries that a leader accepts beyond its commit index; more proposals are refused. A follower takes at most twice as
    /// many beyond its own, so it is to be the same at all nodes, and far more than there are leaders in a row that commit
    /// nothing. Default 1,024.
    pub max_uncommitted: usize,
    /// The length of a proposed command in bytes. Default 64 KiB.
    pub max_command_bytes: usize,
    /// Committed entries are dropped when the log is longer than this; half of it stays for followers that lag a little, and
    /// all from the newest committed command on, unless the log is four times as long. Default 1,024 entries.
    pub max_log: usize,
    /// Replies that wait for the disk; more are dropped as if they were lost. Default 256.
    pub max_held: usize,
    /// Voters of a new configuration. Default 7.
    pub max_voters: usize,
    /// Learners of a new configuration. Default 64.
    pub max_learners: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_append_entries: 64,
            max_append_bytes: 64 * 1024,
            max_inflight: 16,
            max_uncommitted: 1_024,
            max_command_bytes: 64 * 1024,
            max_log: 1_024,
            max_held: 256,
            max_voters: 7,
            max_learners: 64,
        }
    }
}
