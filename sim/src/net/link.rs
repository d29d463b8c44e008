//! One way from an interface to another: delay, jitter, loss, duplication, reordering, MTU, bandwidth, a finite queue.

use std::time::Duration;

use super::{Packet, Port};
use crate::{plan::LinkModel, rng::Stream};

/// IP and UDP headers.
pub(super) const fn overhead(ipv6: bool) -> usize {
    if ipv6 { 48 } else { 28 }
}

#[derive(Debug)]
pub(super) struct Link {
    model: LinkModel,
    delay: Duration,
    choices: Stream,
    pipe: Pipe,
    last_arrival: Duration,
}

impl Link {
    const NEAR: Duration = Duration::from_micros(200);

    pub(super) fn new(seed: u64, source: Port, target: Port, model: LinkModel, near: bool) -> Self {
        let number = |(host, interface): Port| (host as u64) << 8 | interface as u64;
        let (low, high) = (number(source).min(number(target)), number(source).max(number(target)));
        let mut both = Stream::new(seed, "delay of a pair", low << 32 | high);
        let delay = both.between(model.delay_us.0, model.delay_us.1);
        Self {
            model,
            delay: if near { Self::NEAR } else { Duration::from_micros(delay) },
            choices: Stream::new(seed, "packets of a link", number(source) << 32 | number(target)),
            pipe: Pipe::default(),
            last_arrival: Duration::ZERO,
        }
    }

    /// Appends each copy that arrives.
    pub(super) fn send(&mut self, now: Duration, packet: Packet, copies: &mut Vec<(Duration, Packet)>) {
        let size = packet.data.len() + overhead(packet.to.is_ipv6());
        // each packet makes the same number of draws, so that a change of the model moves no later packet
        let [loss, duplicate, reorder] =
            [self.model.loss_ppm, self.model.duplicate_ppm, self.model.reorder_ppm].map(|ppm| self.choices.chance(ppm));
        let jitter = Duration::from_micros(self.choices.below(self.model.jitter_us + 1));
        if size > self.model.mtu || loss {
            return;
        }
        let sent = match self.model.bandwidth_bps {
            Some(bps) => match self.pipe.push(now, size as u64, bps, self.model.queue_bytes) {
                Some(sent) => sent,
                None => return,
            },
            None => now,
        };
        let plain = sent + self.delay + jitter;
        let arrival = if reorder {
            plain + self.delay / 2 + Duration::from_millis(1)
        } else {
            self.last_arrival = self.last_arrival.max(plain);
            self.last_arrival
        };
        if duplicate {
            copies.push((arrival + self.delay / 4, packet.clone()));
        }
        copies.push((arrival, packet));
    }
}

/// A sender of so many bits a second with a queue before it that drops at the tail.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    busy_until: Duration,
}

impl Pipe {
    /// When the last bit is out; `None` if the queue is full.
    pub(super) fn push(&mut self, now: Duration, size: u64, bps: u64, queue: u64) -> Option<Duration> {
        let start = self.busy_until.max(now);
        let waiting = (start - now).as_nanos() * u128::from(bps) / 8_000_000_000;
        if waiting + u128::from(size) > u128::from(queue) {
            return None;
        }
        self.busy_until = start + Duration::from_nanos(size * 8_000_000_000 / bps.max(1));
        Some(self.busy_until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(len: usize) -> Packet {
        let data = bytes::Bytes::from(vec![0; len]);
        Packet { from: "45.0.0.1:1".parse().unwrap(), to: "45.0.0.2:1".parse().unwrap(), ecn: 0, data }
    }

    fn arrivals(model: LinkModel, packets: usize, len: usize) -> Vec<Duration> {
        let mut link = Link::new(1, (0, 0), (1, 0), model, false);
        let mut copies = Vec::new();
        (0..packets).for_each(|_| link.send(Duration::ZERO, packet(len), &mut copies));
        copies.into_iter().map(|(at, _)| at).collect()
    }

    fn plain() -> LinkModel {
        LinkModel { delay_us: (1_000, 1_000), jitter_us: 0, bandwidth_bps: None, ..LinkModel::default() }
    }

    #[test]
    fn jitter_keeps_the_order_and_reordering_breaks_it() {
        let kept = arrivals(LinkModel { jitter_us: 5_000, ..plain() }, 100, 100);
        assert!(kept.is_sorted() && kept[0] != kept[99]);
        let broken = arrivals(LinkModel { reorder_ppm: 200_000, ..plain() }, 100, 100);
        assert!(broken.len() == 100 && !broken.is_sorted());
    }

    #[test]
    fn loss_duplication_and_mtu_do_what_they_say() {
        let lost = arrivals(LinkModel { loss_ppm: 300_000, ..plain() }, 1_000, 100).len();
        assert!((600..800).contains(&lost), "{lost}");
        let doubled = arrivals(LinkModel { duplicate_ppm: 300_000, ..plain() }, 1_000, 100).len();
        assert!((1_200..1_400).contains(&doubled), "{doubled}");
        assert_eq!(arrivals(plain(), 1, 1_472).len(), 1);
        assert_eq!(arrivals(plain(), 1, 1_473).len(), 0);
    }

    #[test]
    fn the_queue_is_finite_and_drains_at_the_bandwidth() {
        let model = LinkModel { bandwidth_bps: Some(8_000_000), queue_bytes: 10_000, ..plain() };
        let times = arrivals(model, 20, 972);
        assert_eq!(times.len(), 10, "a thousand bytes each with the headers, ten thousand wait");
        assert_eq!(times[9] - times[0], Duration::from_millis(9));
    }
}
