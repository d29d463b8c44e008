//! When things are due, and which path is used: doubt, switching, death.

use std::{
    fmt::Debug,
    time::{Duration, Instant},
};

use super::{
    PathEvent, PathSet,
    candidate::{Awaited, Candidate, Size},
};

/// What a round trip needs over its estimate: the other end may hold an acknowledgement back for so long.
const ACK_DELAY: Duration = Duration::from_millis(25);
/// However slow a path is: later than this, data would be held up for more than a second.
const MAX_PATIENCE: Duration = Duration::from_millis(800);
/// How long a path in doubt may be waited for while another one, which carries the copies, has answered.
const MAX_GRACE: Duration = Duration::from_millis(700);
/// Probes unanswered until a path that is not in use counts as failed.
const STANDBY_MISSES: u32 = 3;
/// Rounds of probes in doubt that come faster than `Config::heartbeat_retry`.
const QUICK_ROUNDS: u32 = 2;

/// The path in use is silent: all paths are probed in rounds, and the next best one gets a copy of everything.
#[derive(Clone, Copy, Debug)]
pub(super) struct Doubt {
    since: Instant,
    /// By evidence of our own, not because the other end said so.
    pub(super) own: bool,
    rounds: u32,
    next_round: Instant,
}

/// A path of the same kind that seems faster than the one in use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rival {
    id: u8,
    since: Instant,
    next_ping: Instant,
}

impl Rival {
    /// For how long it must be faster at least.
    pub(super) const DWELL: Duration = Duration::from_secs(2);
    const MAX_DWELL: Duration = Duration::from_secs(64);
    const PING_INTERVAL: Duration = Duration::from_millis(500);
    const MARGIN: Duration = Duration::from_millis(5);

    fn is_faster(rival: Duration, active: Duration) -> bool {
        rival + Self::MARGIN <= active && rival * 10 <= active * 9
    }
}

impl<R: Copy + Ord + Debug> PathSet<R> {
    /// Does what is due at `now`; ends every call that changes something.
    pub(super) fn advance(&mut self, now: Instant) {
        self.now = self.now.max(now);
        if self.dead || !self.is_established() {
            return;
        }
        self.settle_doubt();
        self.step_schedules(now);
        self.check_awaited(now);
        self.check_silence(now);
        self.run_doubt(now);
        if !self.dead {
            self.beat(now);
            self.choose(now);
            self.wake = self.next_wake(now);
        }
    }

    fn settle_doubt(&mut self) {
        if let Some(doubt) = self.doubt
            && self.active().is_some_and(|active| active.answered_since(doubt.since))
        {
            self.doubt = None;
        }
    }

    fn step_schedules(&mut self, now: Instant) {
        for candidate in &mut self.candidates {
            if candidate.next_ping.is_some_and(|at| at <= now) {
                candidate.step(now);
            }
        }
        let active = self.active;
        self.candidates.retain(|candidate| active == Some(candidate.id) || !candidate.is_forgotten());
    }

    fn beat(&mut self, now: Instant) {
        for candidate in &mut self.candidates {
            if heartbeat_due(candidate).is_some_and(|at| at <= now) {
                candidate.heartbeat.ask();
                candidate.want(Size::Small);
            }
        }
    }

    fn check_awaited(&mut self, now: Instant) {
        let mut doubtful = false;
        for candidate in &mut self.candidates {
            let Some(Awaited { since, until }) = candidate.awaited else { continue };
            if until > now {
                continue;
            }
            candidate.awaited = None;
            if candidate.alive_until() > Some(since) {
                candidate.misses = 0;
            } else if self.active == Some(candidate.id) {
                doubtful = true;
            } else if candidate.misses + 1 < STANDBY_MISSES {
                candidate.misses += 1;
                candidate.want(Size::Full);
            } else {
                candidate.fail(now);
            }
        }
        if doubtful {
            self.enter_doubt(now, true);
        }
    }

    fn check_silence(&mut self, now: Instant) {
        if self.doubt.is_none() && self.silence_due().is_some_and(|due| due <= now) {
            self.enter_doubt(now, true);
        }
    }

    /// With data in flight: when the path in use has been silent for too long.
    pub(super) fn silence_due(&self) -> Option<Instant> {
        let (active, in_flight) = (self.active()?, self.in_flight?);
        let since = Some(in_flight).max(self.switched).max(active.confirmed)?;
        Some(since + self.caution.stretch(self.now, self.patience(active)))
    }

    /// How long the path may be silent: three round trips within the bounds of `Config::doubt`, or what one answer needs.
    fn patience(&self, candidate: &Candidate<R>) -> Duration {
        let (least, most) = self.settings.doubt;
        let trip = |rtt: Duration| (rtt * 5 / 4 + ACK_DELAY).min(MAX_PATIENCE);
        candidate.rtt.map_or(most, |rtt| (rtt * 3).clamp(least, most).max(trip(rtt)))
    }

    pub(super) fn enter_doubt(&mut self, now: Instant, own: bool) {
        match &mut self.doubt {
            Some(doubt) => doubt.own |= own,
            None => self.doubt = Some(Doubt { since: now, own, rounds: 0, next_round: now }),
        }
        if own {
            self.rival = None;
        }
    }

    /// The other end hears nothing of us: our path may be dead in our direction only.
    pub(super) fn be_alarmed(&mut self, now: Instant) {
        if self.doubt.is_none() && self.alarmed.is_none_or(|at| now >= at + self.settings.doubt.1) {
            self.alarmed = Some(now);
            self.enter_doubt(now, false);
        }
    }

    fn run_doubt(&mut self, now: Instant) {
        let Some(doubt) = self.doubt.filter(|doubt| doubt.next_round <= now) else { return };
        // a round that is still in our own queue asked nobody
        let asked = doubt.rounds == 0 || self.active().is_some_and(|active| active.want.is_none());
        let rounds = doubt.rounds + u32::from(asked);
        if rounds > QUICK_ROUNDS + self.settings.attempts {
            self.die();
            return;
        }
        for candidate in &mut self.candidates {
            candidate.want(Size::Full);
        }
        let quick = self.settings.doubt.0 * rounds;
        let pause =
            if (1..=QUICK_ROUNDS).contains(&rounds) { quick.min(self.settings.retry) } else { self.settings.retry };
        self.doubt = Some(Doubt { rounds, next_round: now + pause, ..doubt });
    }

    fn choose(&mut self, now: Instant) {
        let Some(active) = self.active() else { return };
        let (id, kind, leaving) = (active.id, active.kind, active.leaving);
        if let Some(Doubt { since, .. }) = self.doubt {
            let over = leaving || now >= self.grace_ends(active, since);
            let answered = |other: &Candidate<R>| other.is_proven() && other.answered_since(since);
            let next = self.best(|other| other.id != id && answered(other) && (over || other.kind < kind));
            if let Some(next) = next {
                self.leave(now);
                self.switch(now, next);
                return;
            }
        }
        let resting = active.is_resting(now);
        let better = |other: &Candidate<R>| {
            let instead = leaving || resting && other.kind == kind;
            other.id != id && other.is_eligible() && (other.kind < kind || instead)
        };
        if let Some(better) = self.best(better) {
            self.switch(now, better);
        } else if self.doubt.is_none_or(|doubt| !doubt.own) {
            // an end whose path is faster is alarmed by what the slower one takes: that must not keep this end from leaving it
            self.compare(now);
        }
    }

    /// Until then the path in doubt may answer before another one takes its place.
    fn grace_ends(&self, active: &Candidate<R>, since: Instant) -> Instant {
        let (least, _) = self.settings.doubt;
        let grace = active.rtt.map_or(least, |rtt| (rtt * 3 / 2 + ACK_DELAY).min(MAX_GRACE));
        since + self.caution.stretch(self.now, grace)
    }

    /// Within a class: 5 ms and 10 % for a while.
    fn compare(&mut self, now: Instant) {
        let Some(active) = self.active() else { return };
        let (id, kind, rtt, sampled) = (active.id, active.kind, active.rtt, active.sampled);
        let fastest = self.best(|other| other.id != id && other.is_eligible() && other.kind == kind);
        let challenger = self.candidates.iter().find(|other| Some(other.id) == fastest);
        let Some((challenger, _)) =
            challenger.zip(rtt).filter(|(other, rtt)| other.rtt.is_some_and(|other| Rival::is_faster(other, *rtt)))
        else {
            self.rival = None;
            return;
        };
        let known = self.rival.filter(|rival| rival.id == challenger.id);
        let mut rival = known.unwrap_or(Rival { id: challenger.id, since: now, next_ping: now });
        let halfway = rival.since + self.dwell / 2;
        let watched = challenger.sampled.min(sampled) >= Some(halfway);
        if now >= rival.since + self.dwell && watched {
            self.dwell = (self.dwell * 2).min(Rival::MAX_DWELL);
            self.switch(now, rival.id);
            return;
        }
        if rival.next_ping <= now {
            rival.next_ping = now + Rival::PING_INTERVAL;
            for candidate in &mut self.candidates {
                if candidate.id == id || candidate.id == rival.id {
                    candidate.want(Size::Small);
                }
            }
        }
        self.rival = Some(rival);
    }

    /// Traffic replaces the heartbeats of the path in use, and with them its samples: without a new one no comparison is fair.
    pub(super) fn refresh_active_sample(&mut self, now: Instant, id: u8, kind: super::PathKind) {
        let (heartbeat, _) = self.settings.heartbeat;
        if let Some(active) = self.active_mut()
            && active.id != id
            && active.kind == kind
            && active.sampled.is_none_or(|at| now >= at + heartbeat)
        {
            active.want(Size::Small);
        }
    }

    fn best(&self, filter: impl Fn(&Candidate<R>) -> bool) -> Option<u8> {
        let best =
            self.candidates.iter().filter(|candidate| filter(candidate)).min_by_key(|candidate| candidate.rank());
        best.map(|candidate| candidate.id)
    }

    /// The next best path while the one in use is in doubt; one that answered since goes first.
    pub(super) fn double(&self) -> Option<R> {
        let doubt = self.doubt?;
        let others = self.candidates.iter().filter(|other| Some(other.id) != self.active && other.is_proven());
        let next = others.min_by_key(|other| (!other.answered_since(doubt.since), other.misses > 0, other.rank()));
        next.map(|candidate| candidate.route)
    }

    fn leave(&mut self, now: Instant) {
        if let Some(active) = self.active_mut() {
            active.fail(now);
            // before its first answer nobody could know how long one takes
            active.left = active.rtt.map(|_| now);
        }
    }

    fn switch(&mut self, now: Instant, to: u8) {
        if self.switched.is_some_and(|at| now >= at + self.dwell * 4) {
            self.dwell = Rival::DWELL;
        }
        self.candidates.retain(|candidate| !candidate.leaving);
        self.active = Some(to);
        self.switched = Some(now);
        self.doubt = None;
        self.rival = None;
        if let Some((route, kind)) = self.active().map(|active| (active.route, active.kind)) {
            self.event = Some(PathEvent::Switched { route, kind });
        }
    }

    /// The next time at which something is due; after `now`, unless output is queued.
    pub(super) fn next_wake(&self, now: Instant) -> Option<Instant> {
        if self.dead || !self.is_established() {
            return None;
        }
        let paths = self.candidates.iter().flat_map(|candidate| {
            [candidate.next_ping, candidate.awaited.map(|awaited| awaited.until), heartbeat_due(candidate)]
        });
        let doubt = self.doubt.map(|doubt| {
            let grace = self.active().map(|active| self.grace_ends(active, doubt.since));
            grace.filter(|at| *at > now).map_or(doubt.next_round, |at| at.min(doubt.next_round))
        });
        let silence = self.silence_due().filter(|_| self.doubt.is_none());
        let rival = self.rival.map(|rival| rival.next_ping);
        paths.chain([doubt, silence, rival]).flatten().min()
    }
}

/// When a proven path that is idle in either direction wants a sign of life; `None` while one is asked for.
fn heartbeat_due<R: Copy>(candidate: &Candidate<R>) -> Option<Instant> {
    let idle = candidate.is_proven() && candidate.awaited.is_none() && candidate.want.is_none();
    candidate.alive_until().filter(|_| idle).map(|at| at + candidate.heartbeat.interval())
}
