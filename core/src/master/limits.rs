//! What bounds the work and the memory of one server.

use std::time::Duration;

/// Servers that may be linked; more are ignored.
pub(super) const MAX_LINKS: usize = 256;
/// Servers that linked peers may report links to; more are ignored.
pub(super) const MAX_WITNESSED: usize = 256;
/// What a leader does in a row before it looks at its inputs again.
pub(super) const MAX_STEPS: usize = 8;
/// How much the members age before that is written for the first time.
pub(super) const AGE_SAVED_AFTER: Duration = Duration::from_secs(60);
