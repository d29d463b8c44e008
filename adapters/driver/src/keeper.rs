//! Where the state is kept: on disk by a thread of its own, since that blocks, or nowhere.

use std::{
    io,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::Duration,
};

use p2pcore::node::{Persist, PersistId};

use crate::{command::Notice, state::StateDir, tray::Tray};

/// Between two attempts to write the state when the disk refuses.
const WRITE_RETRY: Duration = Duration::from_secs(1);

/// Takes the orders of one node. After it was dropped, the last order is carried out, the state directory unlocked and then
/// `ended` dropped.
pub(crate) enum Orders {
    ToDisk(Sender<Persist>),
    /// Without a disk there is nothing to wait for.
    ToNowhere {
        notices: Arc<Tray<Notice>>,
        _ended: async_channel::Sender<()>,
    },
}

impl Orders {
    pub(crate) fn start(
        state: Option<StateDir>,
        notices: Arc<Tray<Notice>>,
        ended: async_channel::Sender<()>,
    ) -> io::Result<Self> {
        let Some(state) = state else { return Ok(Self::ToNowhere { notices, _ended: ended }) };
        let (sender, orders) = channel();
        let keeper = Keeper { state, notices, unwritten: None, waiting: Vec::new() };
        thread::Builder::new().name("p2pcore-keeper".into()).spawn(move || {
            keeper.run(&orders);
            drop(ended);
        })?;
        Ok(Self::ToDisk(sender))
    }

    pub(crate) fn give(&self, order: Persist) {
        match self {
            // the keeper ends only after the task that gives orders
            Self::ToDisk(sender) => _ = sender.send(order),
            Self::ToNowhere { notices, .. } => _ = notices.try_put(Notice::Persisted(vec![order.id])),
        }
    }
}

struct Keeper {
    state: StateDir,
    notices: Arc<Tray<Notice>>,
    /// The newest state, if it is not on disk.
    unwritten: Option<Persist>,
    /// The orders that it answers.
    waiting: Vec<PersistId>,
}

impl Keeper {
    fn run(mut self, orders: &Receiver<Persist>) {
        loop {
            let next = match self.unwritten {
                Some(_) => orders.recv_timeout(WRITE_RETRY),
                None => orders.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match next {
                Ok(order) => {
                    self.take(order);
                    // each order replaces the one before: only the newest need be written
                    orders.try_iter().for_each(|order| self.take(order));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.write();
                    return;
                }
            }
            self.write();
        }
    }

    fn take(&mut self, order: Persist) {
        self.waiting.push(order.id);
        self.unwritten = Some(order);
    }

    fn write(&mut self) {
        let Some(order) = &self.unwritten else { return };
        if let Err(error) = self.state.save(&order.state) {
            tracing::error!("{error}: trying again, nothing is confirmed to other nodes until then");
            return;
        }
        self.unwritten = None;
        let _ = self.notices.try_put(Notice::Persisted(std::mem::take(&mut self.waiting)));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use bytes::Bytes;
    use futures_lite::future::{block_on, poll_fn, poll_once};
    use p2pcore::{Identity, Role, SecretKey};

    use super::*;

    fn taken(notices: &Tray<Notice>) -> Vec<Notice> {
        let mut taken = VecDeque::new();
        block_on(poll_fn(|cx| notices.poll_take(cx, &mut taken)));
        taken.into()
    }

    #[test]
    fn orders_are_answered_once_they_are_on_disk_and_the_lock_goes_last() {
        let dir = tempfile::tempdir().unwrap();
        let owner = Identity::new(Role::Peer, SecretKey::from_bytes([1; 32])).id();
        let notices = Arc::new(Tray::new(usize::MAX));
        let (ended, wait) = async_channel::bounded(1);
        let state = StateDir::open(dir.path(), owner).unwrap();
        let orders = Orders::start(Some(state), notices.clone(), ended).unwrap();
        for id in 0..3 {
            orders.give(Persist { id: PersistId(id), state: Bytes::from(vec![id as u8]) });
        }
        let mut answered = Vec::new();
        while answered.len() < 3 {
            for answer in taken(&notices) {
                let Notice::Persisted(ids) = answer else { panic!("not an answer") };
                answered.extend(ids);
            }
        }
        assert_eq!(answered, [PersistId(0), PersistId(1), PersistId(2)]);
        orders.give(Persist { id: PersistId(3), state: Bytes::from_static(b"last") });
        drop(orders);
        assert!(block_on(wait.recv()).is_err());
        assert_eq!(StateDir::open(dir.path(), owner).unwrap().load().unwrap().as_deref(), Some(&b"last"[..]));
    }

    #[test]
    fn a_refusing_disk_confirms_nothing_and_is_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let owner = Identity::new(Role::Peer, SecretKey::from_bytes([1; 32])).id();
        let notices = Arc::new(Tray::new(usize::MAX));
        let (ended, _wait) = async_channel::bounded(1);
        let state = StateDir::open(dir.path(), owner).unwrap();
        let obstacle = dir.path().join("core.state.tmp");
        std::fs::create_dir(&obstacle).unwrap();
        let orders = Orders::start(Some(state), notices.clone(), ended).unwrap();
        orders.give(Persist { id: PersistId(7), state: Bytes::from_static(b"kept") });
        thread::sleep(Duration::from_millis(100));
        assert!(block_on(poll_once(poll_fn(|cx| notices.poll_take(cx, &mut VecDeque::new())))).is_none());
        std::fs::remove_dir(&obstacle).unwrap();
        assert!(matches!(&taken(&notices)[..], [Notice::Persisted(ids)] if *ids == [PersistId(7)]));
    }

    #[test]
    fn without_a_disk_all_orders_are_answered_and_the_end_is_told() {
        let notices = Arc::new(Tray::new(usize::MAX));
        let (ended, wait) = async_channel::bounded(1);
        let orders = Orders::start(None, notices.clone(), ended).unwrap();
        orders.give(Persist { id: PersistId(4), state: Bytes::new() });
        assert!(matches!(&taken(&notices)[..], [Notice::Persisted(ids)] if *ids == [PersistId(4)]));
        assert!(block_on(poll_once(wait.recv())).is_none());
        drop(orders);
        assert!(block_on(wait.recv()).is_err());
    }
}
