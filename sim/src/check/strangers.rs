//! Silence: a host without the key gets no byte. Recorded packets may draw at most three times their size.

use std::collections::BTreeMap;

use p2pcore::Id;

use super::Breach;

/// What each hostile host sent and got.
#[derive(Clone, Debug, Default)]
pub struct Strangers {
    hosts: BTreeMap<usize, Stranger>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Stranger {
    recorded: u64,
    answered: u64,
}

impl Strangers {
    const MAX_FACTOR: u64 = 3;

    /// A hostile host sent `bytes`; `recorded` if an honest node had made them, bit for bit.
    pub fn sent(&mut self, host: usize, bytes: usize, recorded: bool) {
        let stranger = self.hosts.entry(host).or_default();
        stranger.recorded += if recorded { bytes as u64 } else { 0 };
    }

    /// A hostile host got `bytes` from `from`.
    ///
    /// # Errors
    /// More than it may get.
    pub fn got(&mut self, host: usize, bytes: usize, from: &[Id]) -> Result<(), Breach> {
        let stranger = self.hosts.entry(host).or_default();
        stranger.answered += bytes as u64;
        if stranger.answered <= stranger.recorded * Self::MAX_FACTOR {
            return Ok(());
        }
        let what = format!("{} bytes to a stranger that replayed {}", stranger.answered, stranger.recorded);
        Err(Breach::new("silence", from, what))
    }

    /// How many bytes strangers got.
    pub fn answered(&self) -> u64 {
        self.hosts.values().map(|stranger| stranger.answered).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::id;

    #[test]
    fn garbage_draws_nothing_and_recordings_three_times_their_size() {
        let mut strangers = Strangers::default();
        strangers.sent(7, 1_000, false);
        assert_eq!(strangers.clone().got(7, 1, &[id(1)]).unwrap_err().checker, "silence");
        strangers.sent(7, 1_200, true);
        assert_eq!(strangers.got(7, 3_600, &[id(1)]), Ok(()));
        assert_eq!(strangers.got(7, 1, &[id(1)]).unwrap_err().checker, "silence");
        assert_eq!(strangers.got(8, 1, &[id(1)]).unwrap_err().checker, "silence", "each host for itself");
        assert_eq!(strangers.answered(), 3_602);
    }
}
