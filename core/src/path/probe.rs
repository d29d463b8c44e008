//! The packet by which two path sets talk: ping, pong, and what was last heard on each path.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::FULL_SIZE;
use crate::replay::ReplayWindow;

/// The smallest probe in bytes.
pub const MIN_PROBE: usize = HEADER + MAC;
/// The largest probe in bytes; larger ones are no probes.
pub const MAX_PROBE: usize = 1_500;

/// Path ids are below this.
pub(super) const MAX_PATHS: u8 = 64;
/// Reports in one probe at most.
pub(super) const MAX_REPORTS: usize = 16;

const HEADER: usize = 1 + 8 + 8 + 1 + 8 + 1;
const REPORT: usize = 1 + 8;
const MAC: usize = 16;

const MARK: u8 = 0x80;
const PONG: u8 = 0x01;
const DOUBT: u8 = 0x02;

/// The probes of which copies are known: 512.
pub(super) type ProbeWindow = ReplayWindow<8>;

/// What the two ends of a link agreed on for their probes.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct ProbeKeys {
    /// Authenticates what this end sends.
    pub send: [u8; 32],
    /// Authenticates what the other end sends.
    pub receive: [u8; 32],
    /// By this the other end finds its path set.
    pub send_token: [u8; 8],
    /// By this this end finds its path set.
    pub receive_token: [u8; 8],
}

impl fmt::Debug for ProbeKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProbeKeys").finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Probe {
    /// Never the same twice under one key.
    pub(super) counter: u64,
    /// The sender's number for the path.
    pub(super) path: u8,
    pub(super) kind: ProbeKind,
    /// The sender has evidence of its own that its path is silent.
    pub(super) doubt: bool,
    /// What the sender heard last, newest first.
    pub(super) reports: Vec<Report>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProbeKind {
    Ping,
    /// Answers the ping of that counter.
    Pong(u64),
}

/// The last ping heard on a path of the receiver of this report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) path: u8,
    pub(super) counter: u64,
}

impl Probe {
    /// The smallest size with `reports` reports.
    pub(super) const fn size(reports: usize) -> usize {
        MIN_PROBE + REPORT * reports
    }

    /// Appends the probe, `size` bytes long (at least [`MIN_PROBE`]); reports that do not fit are left out.
    pub(super) fn seal(&self, keys: &ProbeKeys, size: usize, out: &mut Vec<u8>) {
        let start = out.len();
        let room = (size.saturating_sub(MIN_PROBE) / REPORT).min(MAX_REPORTS);
        let reports = self.reports.get(..room).unwrap_or(&self.reports);
        let (pong, echo) = match self.kind {
            ProbeKind::Ping => (0, 0),
            ProbeKind::Pong(echo) => (PONG, echo),
        };
        out.push(MARK | pong | if self.doubt { DOUBT } else { 0 });
        out.extend_from_slice(&keys.send_token);
        out.extend_from_slice(&self.counter.to_be_bytes());
        out.push(self.path);
        out.extend_from_slice(&echo.to_be_bytes());
        out.push(reports.len() as u8);
        for report in reports {
            out.push(report.path);
            out.extend_from_slice(&report.counter.to_be_bytes());
        }
        out.resize(start + size.max(MIN_PROBE) - MAC, 0);
        let mac = mac(&keys.send, out.get(start..).unwrap_or_default());
        out.extend_from_slice(&mac);
    }

    /// The probe in `packet`, if it is well formed, addressed to us, authentic and was not seen before. It is seen then.
    pub(super) fn open(keys: &ProbeKeys, window: &mut ProbeWindow, packet: &[u8]) -> Option<Self> {
        if packet.len() > MAX_PROBE {
            return None;
        }
        let (body, tag) = packet.split_last_chunk::<MAC>()?;
        let probe = Self::parse(&keys.receive_token, body)?;
        if !window.is_fresh(probe.counter) || !bool::from(mac(&keys.receive, body).ct_eq(tag)) {
            return None;
        }
        window.insert(probe.counter);
        Some(probe)
    }

    fn parse(token: &[u8; 8], body: &[u8]) -> Option<Self> {
        let (&flags, rest) = body.split_first()?;
        let (to, rest) = rest.split_first_chunk::<8>()?;
        let (counter, rest) = rest.split_first_chunk::<8>()?;
        let (&path, rest) = rest.split_first()?;
        let (echo, rest) = rest.split_first_chunk::<8>()?;
        let (&count, rest) = rest.split_first()?;
        if flags & !(PONG | DOUBT) != MARK || to != token || path >= MAX_PATHS || usize::from(count) > MAX_REPORTS {
            return None;
        }
        let (reports, _padding) = rest.split_at_checked(usize::from(count) * REPORT)?;
        let reports = reports.chunks_exact(REPORT).filter_map(|report| {
            let (&path, counter) = report.split_first()?;
            Some(Report { path, counter: u64::from_be_bytes(*counter.first_chunk()?) })
        });
        let echo = u64::from_be_bytes(*echo);
        Some(Self {
            counter: u64::from_be_bytes(*counter),
            path,
            kind: if flags & PONG == 0 { ProbeKind::Ping } else { ProbeKind::Pong(echo) },
            doubt: flags & DOUBT != 0,
            reports: reports.collect(),
        })
    }
}

fn mac(key: &[u8; 32], bytes: &[u8]) -> [u8; MAC] {
    let hash = blake3::keyed_hash(key, bytes);
    hash.as_bytes().first_chunk().copied().unwrap_or_default()
}

const _: () = assert!(Probe::size(MAX_REPORTS) <= FULL_SIZE && FULL_SIZE <= MAX_PROBE);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ends() -> (ProbeKeys, ProbeKeys) {
        let (there, back, near, far) = ([1; 32], [2; 32], [3; 8], [4; 8]);
        (
            ProbeKeys { send: there, receive: back, send_token: far, receive_token: near },
            ProbeKeys { send: back, receive: there, send_token: near, receive_token: far },
        )
    }

    fn probe() -> Probe {
        let reports = vec![Report { path: 5, counter: 77 }, Report { path: 0, counter: u64::MAX }];
        Probe { counter: 9, path: 3, kind: ProbeKind::Pong(8), doubt: true, reports }
    }

    fn sealed(probe: &Probe, size: usize) -> Vec<u8> {
        let mut packet = Vec::new();
        probe.seal(&ends().0, size, &mut packet);
        packet
    }

    fn open(packet: &[u8]) -> Option<Probe> {
        Probe::open(&ends().1, &mut ProbeWindow::default(), packet)
    }

    #[test]
    fn a_probe_comes_out_as_it_went_in_at_any_size() {
        for size in [Probe::size(2), 300, FULL_SIZE] {
            let packet = sealed(&probe(), size);
            assert_eq!((packet.len(), open(&packet)), (size, Some(probe())));
        }
    }

    #[test]
    fn the_first_byte_is_neither_of_quic_nor_of_a_relay() {
        let first = sealed(&probe(), MIN_PROBE)[0];
        assert_eq!(first & 0xc0, 0x80);
    }

    #[test]
    fn reports_that_do_not_fit_are_left_out() {
        let opened = open(&sealed(&probe(), Probe::size(1))).unwrap();
        assert_eq!(opened.reports, probe().reports[..1]);
        assert!(open(&sealed(&probe(), 0)).unwrap().reports.is_empty());
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        let packet = sealed(&probe(), 64);
        let mut expected = vec![0x83];
        expected.extend([4; 8]);
        expected.extend([0, 0, 0, 0, 0, 0, 0, 9, 3, 0, 0, 0, 0, 0, 0, 0, 8, 2]);
        expected.extend([5, 0, 0, 0, 0, 0, 0, 0, 77, 0]);
        expected.extend([255; 8]);
        expected.resize(48, 0);
        assert_eq!(packet[..48], expected);
        assert_eq!(packet[48..], blake3::keyed_hash(&[1; 32], &expected).as_bytes()[..16]);
    }

    #[test]
    fn a_replay_a_reflection_and_a_change_of_any_byte_are_refused() {
        let packet = sealed(&probe(), 80);
        let mut window = ProbeWindow::default();
        assert!(Probe::open(&ends().1, &mut window, &packet).is_some());
        assert_eq!(Probe::open(&ends().1, &mut window, &packet), None);
        assert_eq!(Probe::open(&ends().0, &mut ProbeWindow::default(), &packet), None);
        for index in 0..packet.len() {
            let mut forged = packet.clone();
            forged[index] ^= 1;
            assert_eq!(open(&forged), None, "byte {index}");
        }
    }

    #[test]
    fn a_forgery_uses_no_counter_up() {
        let packet = sealed(&probe(), 80);
        let mut forged = packet.clone();
        forged[79] ^= 1;
        let mut window = ProbeWindow::default();
        assert_eq!(Probe::open(&ends().1, &mut window, &forged), None);
        assert!(Probe::open(&ends().1, &mut window, &packet).is_some());
    }

    #[test]
    fn what_an_authentic_sender_may_not_say_is_refused() {
        let far = Probe { path: MAX_PATHS, ..probe() };
        assert_eq!(open(&sealed(&far, 80)), None);
        assert_eq!(open(&sealed(&probe(), MAX_PROBE + 1)), None);
        for (byte, value) in [(26, MAX_REPORTS as u8 + 1), (26, 16), (0, 0x84)] {
            let mut packet = sealed(&probe(), 80);
            packet.truncate(64);
            packet[byte] = value;
            let tag = mac(&ends().0.send, &packet);
            packet.extend(tag);
            assert_eq!(open(&packet), None, "byte {byte} = {value}");
        }
    }

    #[test]
    fn keys_are_not_shown() {
        assert_eq!(format!("{:?}", ends().0), "ProbeKeys { .. }");
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(open(&bytes), None);
        }
    }
}
