//! Congestion control across changes of path: Cubic that knows nothing of what an earlier path did.

use std::{
    any::Any,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use quinn_proto::{
    RttEstimator,
    congestion::{Controller, ControllerFactory, ControllerMetrics, Cubic, CubicConfig},
};

use crate::path::FULL_SIZE;

/// What the controller sees and quinn-proto tells nobody else; shared by a link and the controllers of its connection.
#[derive(Debug)]
pub(super) struct Signals {
    base: Instant,
    /// Nanoseconds from `base` to the sending of the latest packet newly acknowledged, plus 1; 0 for none.
    acknowledged: AtomicU64,
    /// A packet of more than the least size that went one way only was acknowledged.
    large: AtomicBool,
    /// Nanoseconds from `base` to the first and the last packet that went two ways of late.
    doubled: [AtomicU64; 2],
    in_flight: AtomicBool,
    /// The window does not count.
    open: AtomicBool,
}

impl Signals {
    pub(super) fn new(now: Instant) -> Arc<Self> {
        Arc::new(Self {
            base: now,
            acknowledged: AtomicU64::new(0),
            large: AtomicBool::new(false),
            doubled: [AtomicU64::new(u64::MAX), AtomicU64::new(0)],
            in_flight: AtomicBool::new(false),
            open: AtomicBool::new(false),
        })
    }

    /// When the latest packet was sent of those that were acknowledged since the last call.
    pub(super) fn take_acknowledged(&self) -> Option<Instant> {
        let sent = self.acknowledged.swap(0, Ordering::Relaxed);
        sent.checked_sub(1).map(|nanos| self.base + Duration::from_nanos(nanos))
    }

    /// Whether since the last call a packet of more than the least size was acknowledged that only the path in use can have
    /// carried.
    pub(super) fn take_large(&self) -> bool {
        self.large.swap(false, Ordering::Relaxed)
    }

    /// A packet goes two ways; `first`: the one before did not.
    pub(super) fn note_doubled(&self, now: Instant, first: bool) {
        let [from, until] = &self.doubled;
        if first {
            from.store(self.nanos(now), Ordering::Relaxed);
        }
        until.store(self.nanos(now), Ordering::Relaxed);
    }

    /// Whether something sent awaits its acknowledgement.
    pub(super) fn in_flight(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Something that asks for an acknowledgement was sent.
    pub(super) fn note_sent(&self) {
        self.in_flight.store(true, Ordering::Relaxed);
    }

    /// Lifts the window, which may be full of what another path lost, or puts it in force again.
    pub(super) fn set_open(&self, open: bool) {
        self.open.store(open, Ordering::Relaxed);
    }

    fn note_acknowledged(&self, sent: Instant) {
        self.acknowledged.fetch_max(self.nanos(sent) + 1, Ordering::Relaxed);
    }

    fn note_large(&self, sent: Instant) {
        let [from, until] = self.doubled.each_ref().map(|nanos| nanos.load(Ordering::Relaxed));
        if !(from..=until).contains(&self.nanos(sent)) {
            self.large.store(true, Ordering::Relaxed);
        }
    }

    fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.base).as_nanos()).unwrap_or(u64::MAX - 1)
    }
}

/// Room for sums in quinn-proto.
const OPEN_WINDOW: u64 = u64::MAX / 4;

/// The same for all paths.
static CUBIC: LazyLock<Arc<CubicConfig>> = LazyLock::new(Arc::default);

/// Makes a fresh controller for each path.
pub(super) struct PerPath(pub(super) Arc<Signals>);

impl ControllerFactory for PerPath {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let cubic = Cubic::new(CUBIC.clone(), now, current_mtu);
        Box::new(OnePath { cubic, built: now, signals: self.0.clone() })
    }
}

/// Cubic that ignores acknowledgements and losses of packets sent before it was built: those went over another path,
/// and their losses would pull the new one down.
#[derive(Clone)]
struct OnePath {
    cubic: Cubic,
    built: Instant,
    signals: Arc<Signals>,
}

impl Controller for OnePath {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.cubic.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        self.signals.note_acknowledged(sent);
        if sent >= self.built {
            if bytes > FULL_SIZE as u64 {
                self.signals.note_large(sent);
            }
            self.cubic.on_ack(now, sent, bytes, app_limited, rtt);
        }
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, largest: Option<u64>) {
        self.signals.in_flight.store(in_flight > 0, Ordering::Relaxed);
        self.cubic.on_end_acks(now, in_flight, app_limited, largest);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, persistent: bool, lost_bytes: u64) {
        if sent >= self.built {
            self.cubic.on_congestion_event(now, sent, persistent, lost_bytes);
        }
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.cubic.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        if self.signals.open.load(Ordering::Relaxed) { OPEN_WINDOW } else { self.cubic.window() }
    }

    fn metrics(&self) -> ControllerMetrics {
        self.cubic.metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        self.cubic.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::epoch;

    #[test]
    fn what_an_earlier_path_lost_does_not_shrink_the_window() {
        let now = epoch();
        let later = now + Duration::from_secs(1);
        let mut controller = Arc::new(PerPath(Signals::new(now))).build(later, 1200);
        let window = controller.window();
        controller.on_congestion_event(later, now, true, 100_000);
        assert_eq!(controller.window(), window);
        controller.on_congestion_event(later, later, false, 1200);
        assert!(controller.window() < window);
    }

    #[test]
    fn the_window_opens_and_is_in_force_again() {
        let now = epoch();
        let signals = Signals::new(now);
        let controller = Arc::new(PerPath(signals.clone())).build(now, 1200);
        let window = controller.window();
        signals.set_open(true);
        assert!(controller.window() > 1 << 40);
        signals.set_open(false);
        assert_eq!(controller.window(), window);
    }

    #[test]
    fn acknowledgements_are_told_once_with_the_time_of_sending() {
        let now = epoch();
        let signals = Signals::new(now);
        assert_eq!(signals.take_acknowledged(), None);
        let sent = now + Duration::from_millis(7);
        signals.note_acknowledged(sent);
        signals.note_acknowledged(now);
        assert_eq!(signals.take_acknowledged(), Some(sent));
        assert_eq!(signals.take_acknowledged(), None);
    }

    #[test]
    fn a_large_packet_counts_unless_it_went_two_ways() {
        let now = epoch();
        let at = |ms| now + Duration::from_millis(ms);
        let signals = Signals::new(now);
        let counts = |sent| {
            signals.note_large(sent);
            signals.take_large()
        };
        assert!(counts(now) && counts(at(5)));
        signals.note_doubled(at(10), true);
        signals.note_doubled(at(20), false);
        assert!(counts(at(9)) && !counts(at(10)) && !counts(at(20)) && counts(at(21)));
        signals.note_doubled(at(30), true);
        assert!(counts(at(29)) && !counts(at(30)) && counts(at(31)));
    }
}
