//! What members without manners do.

use std::net::SocketAddr;

use bytes::Bytes;
use p2pcore::{
    ClusterId,
    message::window::{self, Written},
    relay::Slot,
};
use quinn_proto::Dir;

use super::{Bench, Builder, CLUSTER, Case, MAX_REMEMBERED};

impl Bench {
    /// What a member does.
    pub(super) fn member(&mut self, number: u8, case: &mut Case<'_>) {
        let which = case.below(2);
        let now = self.now;
        let ids = [self.node.id(), self.members[0].id(), self.members[1].id()];
        match number {
            21..=25 => {
                let member = &mut self.members[which];
                let mut builder = Builder::new(case.bytes());
                builder.ids = ids.to_vec();
                builder.clusters = vec![member.cluster.unwrap_or(CLUSTER)];
                let legal = number != 25;
                if let Ok(message) = builder.said_by(member.id().role(), legal) {
                    member.say(&message);
                }
            }
            26 => {
                let bytes = case.stretched(4_000);
                let len = u32::try_from(bytes.len()).unwrap_or(0);
                self.members[which].write_control(&[&len.to_be_bytes()[..], &bytes].concat());
            }
            27 => self.members[which].write_control(case.bytes()),
            28 | 29 => self.lane(which, case),
            30 => self.byte_stream(which, case),
            31 => {
                let data = Bytes::from(case.stretched(1_200));
                self.members[which].datagram(data);
            }
            32 | 33 => {
                let frames = case.stretched(1_100);
                self.members[which].forge(frames);
            }
            34 => self.probe(which, case),
            35 | 36 => self.relay(which, case),
            37 => match case.byte() {
                0..=99 => self.members[which].update_keys(),
                100..=199 => self.members[which].close(now, case.number() as u32),
                _ => {
                    let overlay = case.bytes().to_vec();
                    self.members[which].forgery.crypto(overlay);
                }
            },
            38 => {
                let member = &mut self.members[which];
                member.run += u64::from(case.byte() % 3);
                if case.flag() {
                    member.cluster = Some(ClusterId([case.byte(); 16]));
                }
                self.dial(which);
            }
            _ => match case.byte() {
                0..=127 => self.relayed = !self.relayed,
                _ => {
                    let last = case.byte() % 8 + 2;
                    self.members[which].address = ([192, 0, 2, last], 7_000).into();
                }
            },
        }
        if case.flag() {
            self.exchange();
        }
    }

    fn lane(&mut self, which: usize, case: &mut Case<'_>) {
        let member = &mut self.members[which];
        let (place, fresh) = (case.below(4), case.flag());
        let header = [1, case.byte() % 18];
        if fresh || member.lanes.is_empty() {
            let Some(id) = member.open(Dir::Uni) else { return };
            member.lanes.push(id);
            member.write(id, &header);
        }
        let Some(id) = member.lanes.get(place % member.lanes.len()).copied() else { return };
        match case.byte() {
            0..=99 => {
                let mut builder = Builder::new(case.bytes());
                let Ok(kind) = builder.kind() else { return };
                let data = Bytes::from(case.stretched(3_000));
                let written = Written::Whole(kind, data);
                member.write(id, &window::write(&[written]));
            }
            100..=229 => member.write(id, case.bytes()),
            230..=239 => member.finish(id),
            _ => member.reset(id, case.flag()),
        }
    }

    fn byte_stream(&mut self, which: usize, case: &mut Case<'_>) {
        let member = &mut self.members[which];
        match case.below(6) {
            0 => {
                if let Some(id) = member.open(Dir::Bi) {
                    member.write(id, &[2]);
                    member.streams.push(id);
                }
            }
            1 => {
                if let Some(id) = member.open(Dir::Bi) {
                    member.streams.push(id);
                }
            }
            op => {
                let Some(id) = case.pick(&member.streams) else { return };
                match op {
                    2 | 3 => member.write(id, &case.stretched(2_000)),
                    4 => member.finish(id),
                    _ => member.reset(id, case.flag()),
                }
            }
        }
    }

    /// A probe with the right key, and anything else in it.
    fn probe(&mut self, which: usize, case: &mut Case<'_>) {
        let member = &mut self.members[which];
        let Some(token) = member.probe_token else { return };
        member.probe_counter += u64::from(case.byte() % 4);
        let counter = if case.byte() < 240 { member.probe_counter } else { case.number() };
        let flags = 0x80 | (case.byte() % 4) | if case.byte() > 240 { case.byte() } else { 0 };
        let mut packet = vec![flags];
        packet.extend(token);
        packet.extend(counter.to_be_bytes());
        packet.push(case.byte() % 66);
        packet.extend(case.number().to_be_bytes());
        let reports = case.byte() % 18;
        packet.push(reports);
        for _ in 0..reports {
            packet.push(case.byte());
            packet.extend(case.number().to_be_bytes());
        }
        let padding = usize::from(case.word()) % 1_500;
        packet.resize(packet.len().max(padding), 0);
        let mac = blake3::keyed_hash(&member.probe_key(), &packet);
        packet.extend_from_slice(&mac.as_bytes()[..16]);
        let from = self.address(case);
        let from = if case.flag() { self.members[which].address } else { from };
        self.deliver(from, &packet);
    }

    /// A relayed packet with a valid tag.
    fn relay(&mut self, which: usize, case: &mut Case<'_>) {
        let slot = |case: &mut Case<'_>| Slot::new(case.number() as u16, case.byte() % 8).unwrap_or(Slot::SERVER);
        let known = [self.members[0].slot, self.members[1].slot];
        let src = if case.byte() < 200 { known[which] } else { None }.unwrap_or_else(|| slot(case));
        let dst = if case.byte() < 150 { known[1 - which] } else { None }.unwrap_or_else(|| slot(case));
        let mut payload = match case.byte() {
            0..=79 => case.stretched(1_200),
            80..=159 => self.seen.get(case.below(MAX_REMEMBERED)).map(|(_, data)| data.clone()).unwrap_or_default(),
            _ => self.members[which].transmit(self.now).into_iter().next().unwrap_or_default(),
        };
        let (twice, as_relay) = (case.byte() > 200, case.flag());
        let from = self.members[which].address;
        for _ in 0..=usize::from(twice) {
            let member = &mut self.members[which];
            let link = if as_relay { &mut member.relays } else { &mut member.relay };
            let Some(link) = link else { return };
            let mut packet = Vec::new();
            link.seal(src, dst, &payload, &mut packet);
            payload = packet;
        }
        self.deliver(from, &payload);
    }

    pub(super) fn replay(&mut self, case: &mut Case<'_>) {
        let Some((from, mut data)) = self.seen.get(case.below(MAX_REMEMBERED)).cloned() else { return };
        match case.byte() % 4 {
            0 => {}
            1 => data.truncate(usize::from(case.word())),
            _ => {
                let at = usize::from(case.word()) % data.len().max(1);
                if let Some(byte) = data.get_mut(at) {
                    *byte ^= case.byte();
                }
            }
        }
        let from = if case.flag() { self.address(case) } else { from };
        self.deliver(from, &data);
    }

    pub(super) fn address(&self, case: &mut Case<'_>) -> SocketAddr {
        match case.byte() {
            last @ 0..=199 => ([192, 0, 2, last % 6 + 1], 7_000).into(),
            last => ([198, 51, 100, last], case.word()).into(),
        }
    }
}
