//! What fuzzing sees of probes.

use super::{
    ProbeKeys,
    probe::{MAX_PATHS, MAX_REPORTS, Probe, ProbeKind, ProbeWindow, Report},
};

/// A probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Never the same twice under one key.
    pub counter: u64,
    /// The sender's number for the path.
    pub path: u8,
    /// The counter of the ping that it answers.
    pub answers: Option<u64>,
    /// The sender doubts its path.
    pub doubt: bool,
    /// The last ping heard on each path: path, counter.
    pub reports: Vec<(u8, u64)>,
}

impl Said {
    /// Whether an honest end could have said it.
    pub fn is_sound(&self) -> bool {
        self.path < MAX_PATHS && self.reports.len() <= MAX_REPORTS
    }

    /// The bytes that a probe with all these reports takes at least.
    pub fn min_size(&self) -> usize {
        Probe::size(self.reports.len())
    }

    /// The probe as a packet of `size` bytes.
    pub fn seal(&self, keys: &ProbeKeys, size: usize) -> Vec<u8> {
        let kind = self.answers.map_or(ProbeKind::Ping, ProbeKind::Pong);
        let reports = self.reports.iter().map(|(path, counter)| Report { path: *path, counter: *counter }).collect();
        let probe = Probe { counter: self.counter, path: self.path, kind, doubt: self.doubt, reports };
        let mut packet = Vec::new();
        probe.seal(keys, size, &mut packet);
        packet
    }

    /// The probe in `packet`, if it is one and authentic.
    pub fn open(keys: &ProbeKeys, packet: &[u8]) -> Option<Self> {
        let Probe { counter, path, kind, doubt, reports } = Probe::open(keys, &mut ProbeWindow::default(), packet)?;
        let answers = match kind {
            ProbeKind::Ping => None,
            ProbeKind::Pong(counter) => Some(counter),
        };
        let reports = reports.into_iter().map(|report| (report.path, report.counter)).collect();
        Some(Self { counter, path, answers, doubt, reports })
    }
}
