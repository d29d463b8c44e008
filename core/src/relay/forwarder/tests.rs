use proptest::prelude::*;

use super::*;
use crate::testing::epoch;

type World = Forwarder<char, u8>;

const QUIC: &[u8] = &[0x40, 1, 2, 3];

/// A node linked to the server: its slot, and its end of the relay link.
struct End {
    slot: Slot,
    link: RelayLink,
}

impl End {
    fn packet(&mut self, to: Slot, payload: &[u8]) -> Vec<u8> {
        let mut packet = Vec::new();
        self.link.seal(self.slot, to, payload, &mut packet);
        packet
    }
}

fn link(world: &mut World, now: Instant, owner: char, is_server: bool) -> End {
    let exported = [owner as u8; 32];
    let keys = RelayKeys::derive(&exported, false, true);
    let slot = world.link(now, owner, is_server, keys, owner as u8, prefix(owner as u8)).unwrap();
    End { slot, link: RelayLink::new(RelayKeys::derive(&exported, true, false)) }
}

/// Two nodes at a server that relays 100 KB/s for each.
fn pair_with_quota(now: Instant) -> (World, End, End) {
    let limits = QuotaLimits { per_id: 100_000, burst: Duration::from_millis(10), ..QuotaLimits::NONE };
    let mut world = World::new(Duration::from_secs(120), 8, &limits);
    let a = link(&mut world, now, 'a', false);
    let b = link(&mut world, now, 'b', false);
    (world, a, b)
}

fn prefix(n: u8) -> Prefix {
    Prefix::V4([192, 0, n])
}

/// Two peers `a`, `b` and a server `s`.
fn world() -> (World, Instant, End, End, End) {
    let now = epoch();
    let mut world = World::new(Duration::from_secs(120), 8, &QuotaLimits::NONE);
    let a = link(&mut world, now, 'a', false);
    let b = link(&mut world, now, 'b', false);
    let s = link(&mut world, now, 's', true);
    (world, now, a, b, s)
}

#[test]
fn a_packet_is_passed_on_under_the_receiver_s_key() {
    let (mut world, now, mut a, mut b, _) = world();
    let mut packet = a.packet(b.slot, QUIC);
    assert_eq!(b.link.open(&packet), Err(RelayError::BadTag));
    let verdict = world.receive(now, b'a', &mut packet);
    assert_eq!(verdict, Verdict::Forward { to: 'b', route: b'b', nested: false });
    let opened = b.link.open(&packet).unwrap();
    assert_eq!((opened.src, opened.dst), (a.slot, b.slot));
    assert_eq!(packet[opened.payload], *QUIC);
    let counters = world.counters();
    assert_eq!((counters.forwarded, counters.forwarded_bytes), (1, (HEADER_LEN + QUIC.len()) as u64));
}

#[test]
fn packets_for_the_server_are_local() {
    let (mut world, now, mut a, ..) = world();
    let mut packet = a.packet(Slot::SERVER, QUIC);
    let verdict = world.receive(now, b'a', &mut packet);
    assert_eq!(verdict, Verdict::Local { from: 'a', src: a.slot, payload: HEADER_LEN..HEADER_LEN + QUIC.len() });
    assert_eq!(world.counters().local, 1);
}

#[test]
fn an_unknown_or_stale_destination_is_told_and_not_too_often() {
    let (mut world, now, mut a, b, _) = world();
    world.unlink(now, b.slot).unwrap();
    let Verdict::Tell { to: 'a', route: b'a', packet } = world.receive(now, b'a', &mut a.packet(b.slot, QUIC)) else {
        panic!("nothing told");
    };
    let opened = a.link.open(&packet).unwrap();
    assert!(opened.src.is_server() && opened.dst == a.slot);
    assert_eq!(Told::decode(&packet[opened.payload]), Some(Told::UnknownSlot(b.slot)));

    let verdict = world.receive(now, b'a', &mut a.packet(Slot::new(99, 0).unwrap(), QUIC));
    assert_eq!(verdict, Verdict::Drop(DropReason::UnknownDestination));
    let later = now + Duration::from_secs(120);
    let again = link(&mut world, later, 'b', false);
    assert_eq!(again.slot.index(), b.slot.index());
    let verdict = world.receive(later, b'a', &mut a.packet(b.slot, QUIC));
    assert!(matches!(verdict, Verdict::Tell { .. }), "another generation: {verdict:?}");
    let counters = world.counters();
    assert_eq!((counters.told, counters.unknown_destination), (2, 3));
}

#[test]
fn strangers_forgers_and_replays_get_no_answer() {
    let (mut world, now, mut a, mut b, _) = world();
    let packet = a.packet(b.slot, QUIC);
    assert!(matches!(world.receive(now, b'a', &mut packet.clone()), Verdict::Forward { .. }));
    assert_eq!(world.receive(now, b'a', &mut packet.clone()), Verdict::Drop(DropReason::Replayed));

    let mut forged = a.packet(b.slot, QUIC);
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(world.receive(now, b'a', &mut forged), Verdict::Drop(DropReason::BadTag));
    b.packet(a.slot, QUIC); // so that its counter is fresh for a's window
    let mut spoofed = Vec::new();
    b.link.seal(a.slot, b.slot, QUIC, &mut spoofed);
    assert_eq!(world.receive(now, b'b', &mut spoofed), Verdict::Drop(DropReason::BadTag));

    for src in [Slot::SERVER, Slot::new(99, 0).unwrap(), Slot::new(a.slot.index(), 1).unwrap()] {
        let mut packet = Vec::new();
        a.link.seal(src, b.slot, QUIC, &mut packet);
        assert_eq!(world.receive(now, b'a', &mut packet), Verdict::Drop(DropReason::UnknownSource));
    }
    for mut short in [vec![], vec![0; HEADER_LEN - 1], vec![0; HEADER_LEN], QUIC.repeat(10)] {
        assert_eq!(world.receive(now, b'a', &mut short), Verdict::Drop(DropReason::Malformed));
    }
    let counters = world.counters();
    assert_eq!((counters.replayed, counters.bad_tag, counters.unknown_source, counters.malformed), (1, 2, 3, 4));
}

#[test]
fn only_a_probe_moves_a_route() {
    let (mut world, now, mut a, mut b, _) = world();
    assert!(matches!(world.receive(now, b'x', &mut a.packet(b.slot, QUIC)), Verdict::Forward { .. }));
    assert_eq!(world.counters().strayed, 1);
    let mut answer = b.packet(a.slot, QUIC);
    assert!(matches!(world.receive(now, b'b', &mut answer), Verdict::Forward { route: b'a', .. }));
    world.follow(a.slot, b'x', prefix(b'x'));
    let mut answer = b.packet(a.slot, QUIC);
    assert!(matches!(world.receive(now, b'b', &mut answer), Verdict::Forward { route: b'x', .. }));
}

#[test]
fn a_packet_may_be_nested_once_and_only_with_a_server_at_one_end() {
    let (mut world, now, mut a, mut b, mut s) = world();
    // towards another server s, which has slots of its own
    let mut inner = vec![0; HEADER_LEN];
    inner.extend_from_slice(QUIC);
    for mut packet in [a.packet(s.slot, &inner), s.packet(a.slot, &inner)] {
        let verdict = world.receive(now, b'a', &mut packet);
        assert!(matches!(verdict, Verdict::Forward { nested: true, .. }), "{verdict:?}");
        assert_eq!(packet.len(), MAX_OVERHEAD + QUIC.len());
    }
    let dropped = Verdict::Drop(DropReason::Nested);
    assert_eq!(world.receive(now, b'a', &mut a.packet(b.slot, &inner)), dropped, "between peers");
    let mut twice = vec![0; HEADER_LEN];
    twice.extend_from_slice(&inner);
    assert_eq!(world.receive(now, b'a', &mut a.packet(s.slot, &twice)), dropped);
    assert_eq!(world.receive(now, b'a', &mut a.packet(s.slot, &inner[..HEADER_LEN])), dropped, "an empty inner packet");
    assert_eq!(world.receive(now, b'b', &mut b.packet(s.slot, &[0])), dropped, "a cut inner packet");
    assert_eq!(world.counters().nested, 4);
}

/// a reaches b, which is linked to s alone, through this server and s; and s answers the same way.
#[test]
fn a_nested_packet_and_a_tell_go_the_whole_way() {
    let (mut first, now, mut a, _, mut s) = world();
    let mut second = World::new(Duration::from_secs(120), 8, &QuotaLimits::NONE);
    let mut inner_a = link(&mut second, now, 'a', false);
    let mut b = link(&mut second, now, 'b', false);

    let mut packet = a.packet(s.slot, &inner_a.packet(b.slot, QUIC));
    assert!(matches!(first.receive(now, b'a', &mut packet), Verdict::Forward { to: 's', .. }));
    let opened = s.link.open(&packet).unwrap();
    let inner = &mut packet[opened.payload];
    assert!(matches!(second.receive(now, b'a', inner), Verdict::Forward { to: 'b', .. }));
    let opened = b.link.open(inner).unwrap();
    assert_eq!(inner[opened.payload], *QUIC);

    let nobody = Slot::new(7, 7).unwrap();
    let Verdict::Tell { packet, .. } = second.receive(now, b'a', &mut inner_a.packet(nobody, QUIC)) else {
        panic!("nothing told");
    };
    let mut packet = s.packet(a.slot, &packet);
    assert!(matches!(first.receive(now, b's', &mut packet), Verdict::Forward { to: 'a', nested: true, .. }));
    let opened = a.link.open(&packet).unwrap();
    let inner = &packet[opened.payload];
    let opened = inner_a.link.open(inner).unwrap();
    assert_eq!(Told::decode(&inner[opened.payload]), Some(Told::UnknownSlot(nobody)));
}

#[test]
fn who_is_over_its_quota_is_told_once_in_a_pause_and_others_pass() {
    let now = epoch();
    let (mut world, mut a, mut b) = pair_with_quota(now);
    let payload = [0x40; 1_000];
    let mut forwarded = 0;
    let mut told = Vec::new();
    for ms in 0..2_500 {
        let now = now + Duration::from_millis(ms);
        match world.receive(now, b'a', &mut a.packet(b.slot, &payload)) {
            Verdict::Forward { .. } => forwarded += 1,
            Verdict::Tell { to: 'a', route: b'a', packet } => {
                let opened = a.link.open(&packet).unwrap();
                told.push((ms, Told::decode(&packet[opened.payload]).unwrap()));
            }
            verdict => assert_eq!(verdict, Verdict::Drop(DropReason::OverQuota)),
        }
        if ms % 100 == 0 {
            let verdict = world.receive(now, b'b', &mut b.packet(a.slot, &payload));
            assert!(matches!(verdict, Verdict::Forward { .. }), "{verdict:?}");
        }
    }
    assert!((240..=260).contains(&forwarded), "{forwarded} KB in 2.5 s at 100 KB/s");
    assert_eq!(told.len(), 3);
    assert!(told.windows(2).all(|two| two[1].0 - two[0].0 >= 1_000), "{told:?}");
    assert!(told.iter().all(|(_, told)| *told == Told::OverQuota { slot: b.slot, pause_ms: 1_000 }));
    assert_eq!(world.counters().over_quota, 2_500 - forwarded);
}

#[test]
fn forgeries_use_up_nobody_s_quota() {
    let now = epoch();
    let (mut world, mut a, mut b) = pair_with_quota(now);
    for _ in 0..1_000 {
        let mut forged = Vec::new();
        b.link.seal(a.slot, b.slot, &[0x40; 1_000], &mut forged);
        assert!(matches!(world.receive(now, b'x', &mut forged), Verdict::Drop(_)));
    }
    assert!(matches!(world.receive(now, b'a', &mut a.packet(b.slot, QUIC)), Verdict::Forward { .. }));
}

proptest! {
    #[test]
    fn any_bytes_are_judged_without_harm(mut bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let (mut world, now, ..) = world();
        let verdict = world.receive(now, b'a', &mut bytes);
        prop_assert!(matches!(verdict, Verdict::Drop(_)), "{:?}", verdict);
    }

    #[test]
    fn any_authentic_packet_has_one_fate(dst in 0..6u16, generation in 0..3u8, payload in prop::collection::vec(any::<u8>(), 0..48)) {
        let (mut world, now, mut a, ..) = world();
        let mut packet = a.packet(Slot::new(dst, generation).unwrap(), &payload);
        let verdict = world.receive(now, b'a', &mut packet);
        let known = dst < 3 && generation == 0;
        match verdict {
            Verdict::Forward { nested, .. } => {
                prop_assert!(known && packet.ends_with(&payload));
                prop_assert!(!nested || dst == 2);
            }
            Verdict::Tell { .. } => prop_assert!(!known),
            Verdict::Drop(reason) => prop_assert!(payload.is_empty() || reason == DropReason::Nested),
            Verdict::Local { .. } => prop_assert!(false),
        }
    }
}
