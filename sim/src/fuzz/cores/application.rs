//! What an application, its driver and its disk do.

use std::collections::VecDeque;

use bytes::Bytes;
use p2pcore::{
    Input,
    node::{LocalNetwork, MemberCommand, PersistId, Receipt, ReplyToken, SendOptions, SocketId, StreamKey},
};

use super::{Bench, Case, NODE};

impl Bench {
    pub(super) fn send(&mut self, case: &mut Case<'_>) {
        let mut to = Vec::new();
        for _ in 0..=case.byte() % 3 {
            to.extend(self.pick_id(case));
        }
        let mut options = SendOptions::default().lane(case.byte() % 9);
        if case.flag() {
            options = options.ttl(case.time());
        }
        let data = Bytes::from(case.stretched(70_000));
        if let [one] = to[..] {
            let mut pieces: VecDeque<Bytes> = data.chunks(data.len() / 5 + 1).map(Bytes::copy_from_slice).collect();
            while let Ok(sends) = self.node.send_batch(self.now, one, &mut pieces, options)
                && sends.count > 0
            {
                for send in sends {
                    assert!(self.sent.insert((send, one), ()).is_none(), "a number for two");
                }
            }
        } else if let Ok(send) = self.node.send(self.now, &to, data, options) {
            to.into_iter().for_each(|to| assert!(self.sent.insert((send, to), ()).is_none(), "a number for two"));
        }
    }

    pub(super) fn request(&mut self, case: &mut Case<'_>) {
        let timeout = case.flag().then(|| case.time());
        let data = Bytes::from(case.stretched(2_000));
        if case.byte() < 80 {
            match case.flag() {
                true => {
                    if let Ok((request, _)) = self.node.request_to_master(self.now, data, timeout) {
                        self.asked.insert(request, ());
                    }
                }
                false => {
                    let options = SendOptions::default().lane(case.byte() % 9);
                    if let Ok((send, to)) = self.node.send_to_master(self.now, data, options) {
                        self.sent.insert((send, to), ());
                    }
                }
            }
        } else if let Some(to) = self.pick_id(case)
            && let Ok(request) = self.node.request(self.now, to, data, timeout)
        {
            self.asked.insert(request, ());
        }
    }

    pub(super) fn reply(&mut self, case: &mut Case<'_>) {
        let token = case.pick(&self.tokens).unwrap_or(ReplyToken(case.number()));
        let result = if case.flag() { Ok(Bytes::from(case.stretched(2_000))) } else { Err(p2pcore::Reason::Refused) };
        let _ = self.node.reply(self.now, token, result);
    }

    pub(super) fn hand(&mut self, case: &mut Case<'_>) {
        match case.byte() {
            0..=19 => {
                let Some(from) = self.pick_id(case) else { return };
                let (conversation, lane) = (case.number(), case.byte());
                let receipt = Receipt { from, conversation, lane, seq: case.number(), count: case.number() };
                self.node.handed(self.now, receipt);
            }
            20..=99 => {
                for receipt in std::mem::take(&mut self.receipts) {
                    self.node.handed(self.now, receipt);
                }
            }
            _ => {
                if !self.receipts.is_empty() {
                    let receipt = self.receipts.swap_remove(case.below(self.receipts.len()));
                    self.node.handed(self.now, receipt);
                }
            }
        }
    }

    pub(super) fn stream(&mut self, case: &mut Case<'_>) {
        let now = self.now;
        if case.byte() < 60 {
            if let Some(to) = self.pick_id(case) {
                self.streams.extend(self.node.open_stream(now, to));
            }
            return;
        }
        let stream = case.pick(&self.streams).unwrap_or(StreamKey(case.number()));
        match case.below(5) {
            0 | 1 => {
                let data = case.stretched(20_000);
                if let Ok(written) = self.node.stream_write(now, stream, &data) {
                    assert!(written <= data.len());
                }
            }
            2 => {
                let max = usize::from(case.word());
                if let Ok(Some(read)) = self.node.stream_read(now, stream, max) {
                    assert!(read.len() <= max);
                }
            }
            3 => {
                let _ = self.node.stream_finish(now, stream);
            }
            _ => self.node.stream_reset(now, stream),
        }
    }

    pub(super) fn office(&mut self, case: &mut Case<'_>) {
        let Some(id) = self.pick_id(case) else { return };
        let command = match case.byte() {
            0..=49 => MemberCommand::Remove(id),
            50..=149 => MemberCommand::Transfer(id),
            150..=179 => MemberCommand::ForceNewCluster,
            180..=189 => MemberCommand::Leave,
            _ => {
                let _ = self.node.resign(self.now);
                return;
            }
        };
        let _ = self.node.change_members(self.now, command);
    }

    /// Orders are carried out in any order, some are claimed to be that were never given.
    pub(super) fn persist(&mut self, case: &mut Case<'_>) {
        let id = match case.byte() {
            0..=19 => PersistId(case.number()),
            20..=99 => {
                self.persists = !self.persists;
                return;
            }
            _ if self.orders.is_empty() => return,
            _ => self.orders.remove(case.below(self.orders.len())).unwrap_or(PersistId(0)),
        };
        self.input(Input::Persisted(id));
    }

    pub(super) fn change_network(&mut self, case: &mut Case<'_>) {
        let mut sockets = vec![(SocketId(0), NODE)];
        let (mut interfaces, mut advertised) = (vec![NODE.ip()], Vec::new());
        for _ in 0..case.byte() % 4 {
            let address = self.address(case);
            match case.below(4) {
                0 => sockets.push((SocketId(case.byte()), address)),
                1 => interfaces.push(address.ip()),
                2 => advertised.push(address),
                _ => sockets.clear(),
            }
        }
        self.input(Input::NetworkChanged(LocalNetwork { sockets, interfaces, advertised }));
    }
}
