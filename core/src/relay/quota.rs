//! How much each sender, each source prefix and all together may have relayed.
//!
//! Three levels, each a rate with a burst. Who is below its fair share of a prefix's rate or of the whole passes even when
//! that is used up: the share of the time slice now running, divided by those who had something relayed in it or in the
//! last one. So the many packets of one cost the others nothing but what no one else used.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use crate::prefix::Prefix;

/// Shares are reckoned over time slices of so many nanoseconds (134 ms): a power of two, since each packet divides by it.
const SLICE_NS: u64 = 1 << 27;
/// What a packet counts for at least: a small one costs a server nearly as much as this many bytes.
const MIN_COST: u64 = 256;

/// What a server relays, in bytes a second with relay headers; 0 is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaLimits {
    /// For one sender.
    pub per_id: u64,
    /// For all senders of one source prefix.
    pub per_prefix: u64,
    /// For all senders.
    pub total: u64,
    /// How much of a rate may pass at once after a rest.
    pub burst: Duration,
    /// Prefixes told apart; further ones share one rate.
    pub max_prefixes: usize,
}

impl QuotaLimits {
    /// No limits.
    pub const NONE: Self = Self { per_id: 0, per_prefix: 0, total: 0, burst: Duration::ZERO, max_prefixes: 1 };
}

/// The quotas of one server.
#[derive(Clone, Debug)]
pub(super) struct Quotas {
    per_id: Rate,
    per_prefix: Rate,
    total: Rate,
    epoch: Option<Instant>,
    all: Pool,
    /// The first one is shared by the prefixes that there is no room for.
    prefixes: Vec<PrefixPool>,
    by_prefix: BTreeMap<Prefix, usize>,
    /// Prefixes that had no sender when they were put here, once each.
    unused: VecDeque<usize>,
    max_prefixes: usize,
}

/// What is kept for one sender, with its slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Account {
    is_server: bool,
    bucket: Bucket,
    prefix: usize,
    usage: Usage,
}

#[derive(Clone, Debug, Default)]
struct PrefixPool {
    prefix: Option<Prefix>,
    senders: usize,
    is_unused: bool,
    pool: Pool,
    usage: Usage,
}

/// A rate in a form that costs no division for each packet.
#[derive(Clone, Copy, Debug)]
struct Rate {
    /// 0 is no limit.
    ps_per_byte: u64,
    burst_ns: u64,
    bytes_per_slice: u64,
}

impl Rate {
    fn new(bytes_per_second: u64, burst: Duration) -> Self {
        Self {
            ps_per_byte: 1_000_000_000_000u64.checked_div(bytes_per_second).map_or(0, |ps| ps.max(1)),
            burst_ns: u64::try_from(burst.as_nanos()).unwrap_or(u64::MAX / 4).min(u64::MAX / 4),
            bytes_per_slice: u64::try_from(u128::from(bytes_per_second) * u128::from(SLICE_NS) / 1_000_000_000)
                .unwrap_or(u64::MAX),
        }
    }

    const fn is_limited(&self) -> bool {
        self.ps_per_byte > 0
    }
}

/// The generic cell rate algorithm: one time is all its state.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    paid_until_ns: u64,
}

impl Bucket {
    const fn has_room(self, rate: &Rate, now_ns: u64) -> bool {
        self.paid_until_ns <= now_ns.saturating_add(rate.burst_ns)
    }

    /// What passes by its fair share makes debts; those are forgotten past one time slice, so that nobody waits for long.
    fn pay(&mut self, rate: &Rate, now_ns: u64, bytes: u64) {
        let cost = bytes.saturating_mul(rate.ps_per_byte) / 1_000;
        let most = now_ns.saturating_add(rate.burst_ns).saturating_add(SLICE_NS);
        self.paid_until_ns = self.paid_until_ns.max(now_ns).saturating_add(cost).min(most);
    }
}

/// A rate that its members share.
#[derive(Clone, Copy, Debug, Default)]
struct Pool {
    bucket: Bucket,
    slice: u64,
    /// Members that had something relayed in this slice, and in the last one.
    members: u64,
    members_before: u64,
}

/// What a member of a pool had relayed in one time slice.
#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    slice: u64,
    bytes: u64,
}

impl Pool {
    fn allows(&self, rate: &Rate, usage: &Usage, now_ns: u64, bytes: u64) -> bool {
        if !rate.is_limited() || self.bucket.has_room(rate, now_ns) {
            return true;
        }
        let slice = slice_of(now_ns);
        let members = match slice.saturating_sub(self.slice) {
            0 => self.members.max(self.members_before),
            1 => self.members,
            _ => 0,
        };
        let used = if usage.slice == slice { usage.bytes } else { 0 };
        used.saturating_add(bytes) <= rate.bytes_per_slice / members.max(1)
    }

    fn pay(&mut self, rate: &Rate, usage: &mut Usage, now_ns: u64, bytes: u64) {
        if !rate.is_limited() {
            return;
        }
        let slice = slice_of(now_ns);
        if self.slice != slice {
            self.members_before = if slice == self.slice + 1 { self.members } else { 0 };
            (self.slice, self.members) = (slice, 0);
        }
        if usage.slice != slice {
            *usage = Usage { slice, bytes: 0 };
            self.members += 1;
        }
        usage.bytes = usage.bytes.saturating_add(bytes);
        self.bucket.pay(rate, now_ns, bytes);
    }
}

/// From 1 on, so that the default of a usage is of no slice.
const fn slice_of(now_ns: u64) -> u64 {
    now_ns / SLICE_NS + 1
}

impl Quotas {
    pub(super) fn new(limits: &QuotaLimits) -> Self {
        let rate = |bytes_per_second| Rate::new(bytes_per_second, limits.burst);
        Self {
            per_id: rate(limits.per_id),
            per_prefix: rate(limits.per_prefix),
            total: rate(limits.total),
            epoch: None,
            all: Pool::default(),
            prefixes: vec![PrefixPool::default()],
            by_prefix: BTreeMap::new(),
            unused: VecDeque::new(),
            max_prefixes: limits.max_prefixes,
        }
    }

    /// An account for a sender at that prefix. A server speaks for many peers, which have been judged elsewhere: its packets
    /// always pass, and count in the total.
    pub(super) fn join(&mut self, prefix: Prefix, is_server: bool) -> Account {
        Account { is_server, bucket: Bucket::default(), prefix: self.enter(prefix), usage: Usage::default() }
    }

    /// The sender is gone. What its prefix has used is remembered: it may come back at once.
    pub(super) fn leave(&mut self, account: &Account) {
        let Some(pool) = self.prefixes.get_mut(account.prefix) else { return };
        pool.senders = pool.senders.saturating_sub(1);
        if pool.senders == 0 && pool.prefix.is_some() && !pool.is_unused {
            pool.is_unused = true;
            self.unused.push_back(account.prefix);
        }
    }

    /// The sender's packets come from another prefix now.
    pub(super) fn follow(&mut self, account: &mut Account, prefix: Prefix) {
        if self.prefixes.get(account.prefix).is_some_and(|pool| pool.prefix == Some(prefix)) {
            return;
        }
        self.leave(account);
        account.prefix = self.enter(prefix);
        account.usage = Usage::default();
    }

    /// How many prefixes are told apart.
    pub(super) fn prefixes(&self) -> usize {
        self.by_prefix.len()
    }

    /// Whether a packet of `len` bytes is within the quotas; nothing is taken of them yet.
    pub(super) fn allows(&mut self, now: Instant, account: &Account, len: usize) -> bool {
        let (now_ns, bytes) = (self.ns(now), cost(len));
        if account.is_server {
            return true;
        }
        if self.per_id.is_limited() && !account.bucket.has_room(&self.per_id, now_ns) {
            return false;
        }
        let Some(prefix) = self.prefixes.get(account.prefix) else { return true };
        prefix.pool.allows(&self.per_prefix, &account.usage, now_ns, bytes)
            && self.all.allows(&self.total, &prefix.usage, now_ns, bytes)
    }

    /// Takes a packet that was found authentic from the quotas.
    pub(super) fn pay(&mut self, now: Instant, account: &mut Account, len: usize) {
        let (now_ns, bytes) = (self.ns(now), cost(len));
        if account.is_server {
            return self.all.bucket.pay(&self.total, now_ns, bytes);
        }
        if self.per_id.is_limited() {
            account.bucket.pay(&self.per_id, now_ns, bytes);
        }
        let Some(prefix) = self.prefixes.get_mut(account.prefix) else { return };
        prefix.pool.pay(&self.per_prefix, &mut account.usage, now_ns, bytes);
        self.all.pay(&self.total, &mut prefix.usage, now_ns, bytes);
    }

    fn ns(&mut self, now: Instant) -> u64 {
        let epoch = *self.epoch.get_or_insert(now);
        u64::try_from(now.saturating_duration_since(epoch).as_nanos()).unwrap_or(u64::MAX)
    }

    fn enter(&mut self, prefix: Prefix) -> usize {
        let place = self.by_prefix.get(&prefix).copied().or_else(|| self.place_for(prefix)).unwrap_or(0);
        if let Some(pool) = self.prefixes.get_mut(place) {
            pool.senders += 1;
        }
        place
    }

    /// A new place, or that of a prefix that has no sender any more.
    fn place_for(&mut self, prefix: Prefix) -> Option<usize> {
        let fresh = PrefixPool { prefix: Some(prefix), ..PrefixPool::default() };
        let place = if self.prefixes.len() <= self.max_prefixes {
            self.prefixes.push(fresh);
            self.prefixes.len() - 1
        } else {
            let place = loop {
                let place = self.unused.pop_front()?;
                let pool = self.prefixes.get_mut(place)?;
                pool.is_unused = false;
                if pool.senders == 0 {
                    break place;
                }
            };
            let old = std::mem::replace(self.prefixes.get_mut(place)?, fresh);
            self.by_prefix.remove(&old.prefix?);
            place
        };
        self.by_prefix.insert(prefix, place);
        Some(place)
    }
}

fn cost(len: usize) -> u64 {
    (len as u64).max(MIN_COST)
}

#[cfg(test)]
mod tests;
