//! Raft with time: the timeouts, the heartbeats, and the leader's lease.

use std::time::{Duration, Instant};

use super::{
    Change, Command, Flaw, Heard, Message, NodeId, OrderId, Output, ProposeChangeError, ProposeError, Raft, Role,
    TransferError, lease::Lease,
};

/// How long things take; the same at all nodes of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timing {
    /// Between two rounds of heartbeats. Default 150 ms.
    pub heartbeat: Duration,
    /// The shortest election timeout. Also: how long no vote is given after a leader was heard or the node was started,
    /// and how often a leader checks that a quorum answers. Default 1 s.
    pub election_min: Duration,
    /// The longest election timeout. Default 2 s.
    pub election_max: Duration,
    /// How far two clocks may run apart, in parts per million of the time that passes; below 1,000,000.
    /// Default 10,000, that is 1 %.
    pub drift_ppm: u32,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(150),
            election_min: Duration::from_secs(1),
            election_max: Duration::from_secs(2),
            drift_ppm: 10_000,
        }
    }
}

/// Why a timing is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TimingError {
    /// Heartbeats must be sent, and twice or more within an election timeout.
    #[error("the heartbeat interval must not be 0, nor more than half of the shortest election timeout")]
    Heartbeat,
    /// Nodes that time out at the same moment share the votes.
    #[error("the longest election timeout must be greater than the shortest one")]
    Election,
    /// Nothing would be left of the lease.
    #[error("a drift of {0} parts per million leaves no lease")]
    Drift(u32),
}

impl Timing {
    /// Checks that elections can end and leases can exist.
    ///
    /// # Errors
    /// The first rule that does not hold.
    pub fn validate(&self) -> Result<(), TimingError> {
        if self.heartbeat.is_zero() || self.heartbeat > self.election_min / 2 {
            return Err(TimingError::Heartbeat);
        }
        if self.election_max <= self.election_min {
            return Err(TimingError::Election);
        }
        if self.drift_ppm >= 1_000_000 {
            return Err(TimingError::Drift(self.drift_ppm));
        }
        Ok(())
    }

    /// How long a lease lasts from the sending of its heartbeats on: the shortest election timeout less the drift.
    pub fn lease(&self) -> Duration {
        let nanos = self.election_min.as_nanos();
        let left = nanos.saturating_mul(u128::from(1_000_000_u32.saturating_sub(self.drift_ppm))) / 1_000_000;
        Duration::from_nanos(u64::try_from(left).unwrap_or(u64::MAX))
    }
}

/// A source of random numbers; each node needs another one.
pub trait Draw {
    /// A number below `bound`, each equally likely; 0 if `bound` is 0.
    fn below(&mut self, bound: u64) -> u64;
}

impl<F: FnMut(u64) -> u64> Draw for F {
    fn below(&mut self, bound: u64) -> u64 {
        self(bound)
    }
}

/// [`Raft`] with its timers. `now` must never go back.
#[derive(Clone, Debug)]
pub struct Timed<N, D, R> {
    raft: Raft<N, D>,
    timing: Timing,
    draw: R,
    /// The term and role that the timers are set for.
    seen: (u64, Role),
    /// When to campaign, unless a leader is heard before; not at a leader.
    campaign_at: Option<Instant>,
    /// Until when no vote is given.
    deaf_until: Option<Instant>,
    beat_at: Option<Instant>,
    check_at: Option<Instant>,
    abort_at: Option<Instant>,
    lease: Lease,
}

impl<N: NodeId, D: Command, R: Draw> Timed<N, D, R> {
    /// Starts the timers of a node that was just restored. One that decides alone campaigns at once.
    ///
    /// # Errors
    /// When `timing` is not [valid](Timing::validate).
    pub fn new(mut raft: Raft<N, D>, timing: Timing, draw: R, now: Instant) -> Result<Self, TimingError> {
        timing.validate()?;
        let decides_alone = raft.decides_alone();
        if decides_alone {
            raft.leader_silent();
        }
        let role = raft.role();
        let mut timed = Self {
            raft,
            timing,
            draw,
            seen: (role.term, role.role),
            campaign_at: Some(now),
            deaf_until: None,
            beat_at: None,
            check_at: None,
            abort_at: None,
            lease: Lease::default(),
        };
        if !decides_alone {
            timed.wait_for_leader(now);
            // a leader may have been heard until just before the start, and may count on this node for a whole lease
            timed.deaf_until = now.checked_add(timing.election_min);
        }
        Ok(timed)
    }

    /// A message came in.
    pub fn handle(&mut self, now: Instant, from: N, message: Message<N, D>) {
        self.end_deafness(now);
        let acked = self.raft.has(Flaw::LeaseFromAnswer).then(|| self.raft.acked_round());
        match self.raft.step(from, message) {
            Heard::Nothing => (),
            Heard::Candidate => self.wait_for_leader(now),
            Heard::Leader => {
                self.wait_for_leader(now);
                self.deaf_until = now.checked_add(self.timing.election_min);
            }
        }
        if let Some(before) = acked
            && let Some(acked) = self.raft.acked_round().filter(|acked| before < Some(*acked))
        {
            self.lease.sent(acked, now, self.lease_length());
        }
        self.settle(now);
    }

    /// Does what is due.
    pub fn timeout(&mut self, now: Instant) {
        self.end_deafness(now);
        if is_due(self.check_at, now) {
            self.check_at = now.checked_add(self.timing.election_min);
            self.raft.check_quorum();
        }
        if is_due(self.abort_at, now) {
            self.abort_at = None;
            self.raft.abort_transfer();
        }
        if is_due(self.campaign_at, now) {
            self.wait_for_leader(now);
            self.raft.campaign();
        }
        self.settle(now);
        if is_due(self.beat_at, now) {
            self.beat(now);
        }
    }

    /// When [`timeout`](Self::timeout) has something to do. Queued outputs are apart from that.
    pub fn deadline(&self) -> Option<Instant> {
        let campaign_at = self.campaign_at.filter(|_| self.raft.may_campaign());
        [campaign_at, self.deaf_until, self.beat_at, self.check_at, self.abort_at].into_iter().flatten().min()
    }

    /// The next thing to do outside. `Send` is for now: a message that is held back for long is better dropped.
    pub fn poll(&mut self) -> Option<Output<N, D>> {
        self.raft.poll()
    }

    /// An order, and all before it, is on disk.
    pub fn persisted(&mut self, now: Instant, id: OrderId) {
        self.raft.persisted(id);
        self.settle(now);
    }

    /// See [`Raft::propose`].
    ///
    /// # Errors
    /// As there.
    pub fn propose(&mut self, command: D) -> Result<u64, ProposeError<N>> {
        self.raft.propose(command)
    }

    /// See [`Raft::propose_change`].
    ///
    /// # Errors
    /// As there.
    pub fn propose_change(&mut self, change: &Change<N>) -> Result<u64, ProposeChangeError<N>> {
        self.raft.propose_change(change)
    }

    /// See [`Raft::transfer`]. It is aborted after the shortest election timeout.
    ///
    /// # Errors
    /// As there.
    pub fn transfer(&mut self, now: Instant, to: N) -> Result<(), TransferError<N>> {
        self.raft.transfer(to)?;
        self.abort_at = now.checked_add(self.timing.election_min);
        Ok(())
    }

    /// See [`Raft::step_down`]. It may be elected again after an election timeout.
    pub fn step_down(&mut self, now: Instant) {
        self.raft.step_down();
        self.settle(now);
    }

    /// See [`Raft::plant`].
    #[cfg(any(test, feature = "planted"))]
    pub fn plant(&mut self, flaw: Flaw) {
        self.raft.plant(flaw);
    }

    /// The machine slept, and the clock may have stood still meanwhile: what was acknowledged before proves nothing any
    /// more. A leader asks anew at once.
    pub fn resumed(&mut self, now: Instant) {
        self.lease.drop_all();
        self.beat(now);
    }

    /// Until when this node can be sure that nobody else leads; `None` if it does not lead, or cannot be sure. Ask each time: a
    /// change of the configuration, a transfer or a resume may end the lease before the time told earlier.
    pub fn lease_until(&self) -> Option<Instant> {
        self.lease.until(self.raft.acked_round()?, self.lease_length())
    }

    /// The machine without time, to look at.
    pub fn raft(&self) -> &Raft<N, D> {
        &self.raft
    }

    /// Sets the timers that the present role needs.
    fn settle(&mut self, now: Instant) {
        let role = self.raft.role();
        if self.seen == (role.term, role.role) {
            return;
        }
        self.seen = (role.term, role.role);
        self.lease.drop_all();
        (self.beat_at, self.check_at, self.abort_at) = (None, None, None);
        if role.role == Role::Leader {
            self.campaign_at = None;
            self.check_at = now.checked_add(self.timing.election_min);
            self.beat(now);
        } else {
            self.wait_for_leader(now);
        }
    }

    fn beat(&mut self, now: Instant) {
        if let Some(round) = self.raft.beat() {
            self.lease.sent(round, now, self.lease_length());
            self.beat_at = now.checked_add(self.timing.heartbeat);
        }
    }

    fn lease_length(&self) -> Duration {
        if self.raft.has(Flaw::LeaseWithoutDrift) { self.timing.election_min } else { self.timing.lease() }
    }

    fn wait_for_leader(&mut self, now: Instant) {
        let span = self.timing.election_max.saturating_sub(self.timing.election_min).as_nanos();
        let extra = Duration::from_nanos(self.draw.below(u64::try_from(span).unwrap_or(u64::MAX)));
        self.campaign_at = now.checked_add(self.timing.election_min.saturating_add(extra));
    }

    fn end_deafness(&mut self, now: Instant) {
        if is_due(self.deaf_until, now) {
            self.deaf_until = None;
            self.raft.leader_silent();
        }
    }
}

fn is_due(at: Option<Instant>, now: Instant) -> bool {
    at.is_some_and(|at| at <= now)
}
