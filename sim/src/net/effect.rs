//! What faults do to packets.

use std::{collections::BTreeMap, time::Duration};

use bytes::{Bytes, BytesMut};

use super::{
    Packet, Port,
    link::{Pipe, overhead},
};
use crate::{
    plan::{Effect, Selector},
    rng::Stream,
};

/// A [`Selector`] with its names looked up.
#[derive(Clone, Debug)]
pub(super) struct Ways {
    from: Option<Vec<usize>>,
    to: Option<Vec<usize>>,
    both_ways: bool,
    interface: Option<usize>,
    ipv6: Option<bool>,
}

impl Ways {
    pub(super) fn new(on: &Selector, names: &BTreeMap<String, usize>) -> Self {
        let hosts = |list: &[String]| {
            let mut hosts: Vec<usize> = list.iter().filter_map(|name| names.get(name).copied()).collect();
            hosts.sort_unstable();
            (!list.is_empty()).then_some(hosts)
        };
        Self {
            from: hosts(&on.from),
            to: hosts(&on.to),
            both_ways: on.both_ways,
            interface: on.interface.map(usize::from),
            ipv6: on.ipv6,
        }
    }

    pub(super) fn contain(&self, source: Port, target: Port, ipv6: bool) -> bool {
        let among = |hosts: &Option<Vec<usize>>, host| hosts.as_ref().is_none_or(|all| all.binary_search(&host).is_ok());
        let way = |source: Port, target: Port| among(&self.from, source.0) && among(&self.to, target.0);
        self.ipv6.is_none_or(|only| only == ipv6)
            && self.interface.is_none_or(|only| only == source.1 || only == target.1)
            && (way(source, target) || self.both_ways && way(target, source))
    }
}

#[derive(Debug)]
pub(super) struct ActiveEffect {
    pub(super) ways: Ways,
    effect: Effect,
    choices: Stream,
    pipe: Pipe,
}

impl ActiveEffect {
    pub(super) fn new(seed: u64, id: u64, ways: Ways, effect: Effect) -> Self {
        Self { ways, effect, choices: Stream::new(seed, "packets of a fault", id), pipe: Pipe::default() }
    }

    /// Changes the copies of one packet that are on their way.
    pub(super) fn apply(&mut self, now: Duration, copies: &mut Vec<(Duration, Packet)>) {
        let (drawn, place) = (self.choices.below(1_000_000), self.choices.next_u64());
        let hit = |ppm: u32| drawn < u64::from(ppm);
        let extra = Duration::from_micros(place % 1_000_000);
        match self.effect {
            Effect::Block => copies.clear(),
            Effect::Loss(ppm) if hit(ppm) => copies.clear(),
            Effect::Duplicate(ppm) if hit(ppm) => {
                let late: Vec<_> = copies.iter().map(|(at, packet)| (*at + extra, packet.clone())).collect();
                copies.extend(late);
            }
            Effect::Reorder(ppm) if hit(ppm) => copies.iter_mut().for_each(|(at, _)| *at += extra / 20),
            Effect::Delay(us) => {
                let delay = Duration::from_micros(us + place % us.max(1));
                copies.iter_mut().for_each(|(at, _)| *at += delay);
            }
            Effect::Corrupt(ppm) if hit(ppm) => copies.iter_mut().for_each(|(_, packet)| flip(&mut packet.data, place)),
            Effect::Truncate(ppm) if hit(ppm) => {
                copies.iter_mut().for_each(|(_, packet)| cut(&mut packet.data, place));
            }
            Effect::Mtu(mtu) => {
                copies.retain(|(_, packet)| packet.data.len() + overhead(packet.to.is_ipv6()) <= mtu);
            }
            Effect::Bandwidth(bps) => copies.retain_mut(|(at, packet)| {
                let size = packet.data.len() as u64;
                let out = self.pipe.push(now, size, bps, (bps / 80).max(20_000));
                *at += out.map_or(Duration::ZERO, |out| out - now);
                out.is_some()
            }),
            Effect::Loss(_) | Effect::Duplicate(_) | Effect::Reorder(_) | Effect::Corrupt(_) | Effect::Truncate(_) => {}
        }
    }
}

/// Flips one bit, chosen by `place`.
pub(crate) fn flip(data: &mut Bytes, place: u64) {
    if !data.is_empty() {
        let mut bytes = BytesMut::from(&data[..]);
        let bit = (place % (bytes.len() as u64 * 8)) as usize;
        bytes[bit / 8] ^= 1 << (bit % 8);
        *data = bytes.freeze();
    }
}

/// Keeps a front part, chosen by `place`.
pub(crate) fn cut(data: &mut Bytes, place: u64) {
    data.truncate((place % (data.len() as u64).max(1)) as usize);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> BTreeMap<String, usize> {
        [("a", 0), ("b", 1), ("c", 2)].map(|(name, host)| (name.to_owned(), host)).into()
    }

    fn after(effect: Effect, packets: usize) -> Vec<(Duration, Packet)> {
        let mut active = ActiveEffect::new(1, 1, Ways::new(&Selector::default(), &names()), effect);
        let one = |n: usize| {
            let data = Bytes::from(vec![7; 1_000]);
            let packet = Packet { from: "45.0.0.1:1".parse().unwrap(), to: "45.0.0.2:1".parse().unwrap(), ecn: 0, data };
            let mut copies = vec![(Duration::from_millis(n as u64), packet)];
            active.apply(Duration::ZERO, &mut copies);
            copies
        };
        (0..packets).flat_map(one).collect()
    }

    #[test]
    fn a_way_has_a_direction_unless_both_are_meant() {
        let one = Ways::new(&Selector::way("a", "b", false), &names());
        assert!(one.contain((0, 0), (1, 0), false) && !one.contain((1, 0), (0, 0), false));
        let both = Ways::new(&Selector::way("a", "b", true), &names());
        assert!(both.contain((1, 0), (0, 0), true) && !both.contain((1, 0), (2, 0), true));
        let narrow = Selector { interface: Some(1), ipv6: Some(true), ..Selector::way("a", "b", true) };
        let narrow = Ways::new(&narrow, &names());
        assert!(narrow.contain((1, 0), (0, 1), true));
        assert!(!narrow.contain((1, 0), (0, 1), false) && !narrow.contain((1, 0), (0, 0), true));
    }

    #[test]
    fn each_effect_has_its_effect() {
        assert!(after(Effect::Block, 10).is_empty());
        assert!((300..700).contains(&after(Effect::Loss(500_000), 1_000).len()));
        assert!((1_300..1_700).contains(&after(Effect::Duplicate(500_000), 1_000).len()));
        assert!(!after(Effect::Reorder(500_000), 100).is_sorted_by_key(|(at, _)| *at));
        assert!(after(Effect::Delay(1_000), 10).iter().all(|(at, _)| *at >= Duration::from_millis(1)));
        assert!(after(Effect::Corrupt(1_000_000), 10).iter().all(|(_, p)| p.data.len() == 1_000 && p.data != [7; 1_000][..]));
        assert!(after(Effect::Truncate(1_000_000), 10).iter().all(|(_, p)| p.data.len() < 1_000));
        assert_eq!((after(Effect::Mtu(1_027), 1).len(), after(Effect::Mtu(1_028), 1).len()), (0, 1));
        assert_eq!(after(Effect::Bandwidth(8_000), 100).len(), 20);
    }
}
