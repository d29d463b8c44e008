use super::*;
use crate::testing::epoch;

const KIB: usize = 1_024;
const MB: u64 = 1_000_000;

const fn limits(per_id: u64, per_prefix: u64, total: u64) -> QuotaLimits {
    QuotaLimits { per_id, per_prefix, total, burst: Duration::from_millis(100), max_prefixes: 8 }
}

const fn prefix(n: u8) -> Prefix {
    Prefix::V4([192, 0, n])
}

/// Senders that offer packets of 1 KiB at a steady pace, and what of that passed.
struct World {
    quotas: Quotas,
    now: Instant,
    senders: Vec<Sender>,
}

struct Sender {
    account: Account,
    every: Duration,
    next: Instant,
    offered: u64,
    passed: u64,
}

impl World {
    fn new(limits: &QuotaLimits) -> Self {
        Self { quotas: Quotas::new(limits), now: epoch(), senders: Vec::new() }
    }

    fn add(&mut self, prefix: Prefix, per_second: u32) -> usize {
        let account = self.quotas.join(prefix, false);
        // nobody sends in step with the others
        let every = Duration::from_secs(1) / per_second;
        let next = self.now + every * u32::try_from(self.senders.len() % 7).unwrap() / 7;
        self.senders.push(Sender { account, every, next, offered: 0, passed: 0 });
        self.senders.len() - 1
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        for sender in &mut self.senders {
            (sender.offered, sender.passed) = (0, 0);
        }
        loop {
            let next = self.senders.iter_mut().min_by_key(|sender| sender.next).unwrap();
            if next.next >= end {
                break;
            }
            self.now = next.next;
            next.next += next.every;
            next.offered += 1;
            if self.quotas.allows(self.now, &next.account, KIB) {
                self.quotas.pay(self.now, &mut next.account, KIB);
                next.passed += 1;
            }
        }
        self.now = end;
    }

    fn passed(&self, senders: std::ops::Range<usize>) -> u64 {
        self.senders[senders].iter().map(|sender| sender.passed).sum()
    }
}

fn near(value: u64, want: u64) -> bool {
    value.abs_diff(want) * 20 <= want
}

#[test]
fn one_sender_has_a_burst_and_then_its_rate() {
    let mut world = World::new(&limits(MB, 0, 0));
    let sender = world.add(prefix(1), 10_000);
    world.run(Duration::from_secs(10));
    let bytes = world.passed(sender..sender + 1) * KIB as u64;
    assert!(near(bytes, 10 * MB + MB / 10), "{bytes}");
}

#[test]
fn nothing_is_limited_that_is_not_said() {
    let mut world = World::new(&QuotaLimits::NONE);
    let sender = world.add(prefix(1), 1_000_000);
    world.run(Duration::from_secs(1));
    assert_eq!(world.senders[sender].passed, world.senders[sender].offered);
}

#[test]
fn small_packets_count_for_more_than_their_bytes() {
    let mut quotas = Quotas::new(&limits(MB, 0, 0));
    let mut account = quotas.join(prefix(1), false);
    let now = epoch();
    let mut passed = 0;
    while quotas.allows(now, &account, 20) {
        quotas.pay(now, &mut account, 20);
        passed += 1;
    }
    assert!(near(passed, MB / 10 / MIN_COST), "{passed}");
}

#[test]
fn many_ids_of_one_prefix_have_its_rate_together() {
    let mut world = World::new(&limits(MB, 4 * MB, 0));
    for _ in 0..100 {
        world.add(prefix(1), 900);
    }
    let other = world.add(prefix(2), 900);
    world.run(Duration::from_secs(5));
    let bytes = world.passed(0..100) * KIB as u64 / 5;
    assert!(near(bytes, 4 * MB), "{bytes}");
    assert_eq!(world.senders[other].passed, world.senders[other].offered);
}

#[test]
fn who_is_below_its_share_of_the_whole_passes_whatever_others_send() {
    let mut world = World::new(&limits(0, 0, 10 * MB));
    for _ in 0..50 {
        world.add(prefix(1), 2_000);
    }
    // a hundredth of the rate each
    let honest = (2..7).map(|n| world.add(prefix(n), 100)).collect::<Vec<_>>();
    world.run(Duration::from_secs(5));
    for n in honest {
        let Sender { offered, passed, .. } = world.senders[n];
        assert_eq!(passed, offered);
    }
    let bytes = world.passed(0..world.senders.len()) * KIB as u64 / 5;
    assert!(near(bytes, 10 * MB), "nothing is left unused, and nothing more passes: {bytes}");
}

#[test]
fn who_is_below_its_share_of_a_prefix_passes_beside_a_greedy_neighbour() {
    let mut world = World::new(&limits(0, 10 * MB, 0));
    let greedy = world.add(prefix(1), 50_000);
    let honest = world.add(prefix(1), 1_000);
    world.run(Duration::from_secs(5));
    assert_eq!(world.senders[honest].passed, world.senders[honest].offered);
    let bytes = world.senders[greedy].passed * KIB as u64 / 5;
    assert!(near(bytes, 9 * MB), "{bytes}");
}

#[test]
fn two_greedy_prefixes_share_alike_however_many_ids_they_have() {
    let mut world = World::new(&limits(0, 0, 10 * MB));
    for _ in 0..20 {
        world.add(prefix(1), 2_000);
    }
    let single = world.add(prefix(2), 20_000);
    world.run(Duration::from_secs(5));
    let bytes = world.senders[single].passed * KIB as u64 / 5;
    assert!(bytes >= 4 * MB, "{bytes}");
}

#[test]
fn what_nobody_else_uses_is_for_who_sends() {
    let mut world = World::new(&limits(0, 0, 10 * MB));
    world.add(prefix(1), 20_000);
    for n in 2..6 {
        world.add(prefix(n), 10);
    }
    world.run(Duration::from_secs(5));
    let bytes = world.passed(0..1) * KIB as u64 / 5;
    assert!(bytes > 9 * MB, "{bytes}");
}

#[test]
fn coming_back_at_once_gives_a_prefix_nothing_new() {
    let mut quotas = Quotas::new(&limits(0, MB, 0));
    let now = epoch();
    let mut passed = 0u64;
    for _ in 0..100 {
        let mut account = quotas.join(prefix(1), false);
        for _ in 0..1_000 {
            if quotas.allows(now, &account, KIB) {
                quotas.pay(now, &mut account, KIB);
                passed += KIB as u64;
            }
        }
        quotas.leave(&account);
    }
    assert!(passed < MB, "a hundred bursts would be ten times that: {passed}");
}

#[test]
fn the_prefixes_are_bounded_and_those_without_senders_make_room() {
    let mut quotas = Quotas::new(&limits(0, MB, 0));
    let held: Vec<Account> = (0..8).map(|n| quotas.join(prefix(n), false)).collect();
    let (one, other) = (quotas.join(prefix(8), false), quotas.join(prefix(9), false));
    assert_eq!((one.prefix, other.prefix), (0, 0), "they share one rate");
    quotas.leave(&one);
    quotas.leave(&held[3]);
    for n in 10..200 {
        let account = quotas.join(prefix(n), false);
        assert_eq!(account.prefix, held[3].prefix);
        quotas.leave(&account);
    }
    for _ in 0..100 {
        let account = quotas.join(prefix(0), false);
        assert_eq!(account.prefix, held[0].prefix);
        quotas.leave(&account);
    }
    assert_eq!((quotas.prefixes.len(), quotas.by_prefix.len()), (9, 8));
    assert!(quotas.unused.len() <= 8);
}

#[test]
fn a_sender_that_moves_counts_for_where_it_is() {
    let mut quotas = Quotas::new(&limits(0, MB, 0));
    let mut account = quotas.join(prefix(1), false);
    let home = account.prefix;
    quotas.follow(&mut account, prefix(1));
    assert_eq!(account.prefix, home);
    quotas.follow(&mut account, prefix(2));
    assert_ne!(account.prefix, home);
    assert_eq!(quotas.prefixes[home].senders, 0);
    assert_eq!(quotas.prefixes[account.prefix].senders, 1);
}

#[test]
fn servers_always_pass_and_count_in_the_total() {
    let mut quotas = Quotas::new(&limits(MB, MB, MB));
    let now = epoch();
    let (mut server, mut greedy) = (quotas.join(prefix(1), true), quotas.join(prefix(2), false));
    for _ in 0..1_000 {
        assert!(quotas.allows(now, &server, KIB));
        quotas.pay(now, &mut server, KIB);
    }
    let mut passed = 0;
    while quotas.allows(now, &greedy, KIB) {
        quotas.pay(now, &mut greedy, KIB);
        passed += 1;
    }
    assert!((1..200).contains(&passed), "its share of a slice and no burst: {passed}");
}
