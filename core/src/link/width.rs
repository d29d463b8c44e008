//! Whether the path in use takes packets of more than the least size.

/// Doubts in a row that ended with no large packet acknowledged, until they are taken not to fit: one can be a gap that only
/// the probe missed.
const MISSES: u32 = 2;

/// quinn-proto cannot know: in doubt its packets go two ways, and an acknowledgement does not say which one took them.
#[derive(Debug, Default)]
pub(super) struct Width {
    /// A large packet left on the path in use alone.
    is_asked: bool,
    misses: u32,
    /// The last packet went two ways.
    pub(super) is_doubled: bool,
}

impl Width {
    pub(super) fn note_sent(&mut self) {
        self.is_asked = true;
    }

    /// A large packet has come through on the path in use.
    pub(super) fn note_answered(&mut self) {
        (self.is_asked, self.misses) = (false, 0);
    }

    /// A doubt ended, since a full probe came through; whether large packets no longer do.
    pub(super) fn is_missed(&mut self) -> bool {
        self.misses += u32::from(std::mem::take(&mut self.is_asked));
        self.misses >= MISSES
    }
}
