//! The thread for what blocks: it writes the state, and looks at the interfaces every few seconds.

use std::{
    io,
    net::IpAddr,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use p2pcore::node::{LocalNetwork, Persist, PersistId};

use crate::{command::Notice, state::StateDir, tray::Tray};

/// How long a change of the interfaces may go unnoticed.
const INTERFACE_INTERVAL: Duration = Duration::from_secs(3);
/// Between two attempts to write the state when the disk refuses.
const WRITE_RETRY: Duration = Duration::from_secs(1);

/// The addresses of all interfaces that are up, in order; without those that work only with a zone (`fe80::/10`).
pub(crate) fn interfaces() -> io::Result<Vec<IpAddr>> {
    let mut addresses: Vec<IpAddr> = if_addrs::get_if_addrs()?
        .into_iter()
        .filter(if_addrs::Interface::is_oper_up)
        .map(|interface| interface.ip())
        .filter(|ip| !matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local()))
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    Ok(addresses)
}

/// Starts the thread. It ends when the returned sender is dropped, after the last write; `ended` is dropped after the
/// lock of the state directory.
pub(crate) fn start(
    state: Option<StateDir>,
    network: LocalNetwork,
    notices: Arc<Tray<Notice>>,
    ended: async_channel::Sender<()>,
) -> io::Result<Sender<Persist>> {
    let (sender, orders) = channel();
    let keeper = Keeper { state, network, notices, unwritten: None, waiting: Vec::new() };
    thread::Builder::new().name("p2pcore-keeper".into()).spawn(move || {
        keeper.run(&orders);
        drop(ended);
    })?;
    Ok(sender)
}

struct Keeper {
    state: Option<StateDir>,
    network: LocalNetwork,
    notices: Arc<Tray<Notice>>,
    /// The newest state, if it is not on disk.
    unwritten: Option<Persist>,
    /// The orders that it answers.
    waiting: Vec<PersistId>,
}

impl Keeper {
    fn run(mut self, orders: &Receiver<Persist>) {
        let mut look = Instant::now() + INTERFACE_INTERVAL;
        loop {
            let now = Instant::now();
            let wait = match self.unwritten {
                Some(_) => WRITE_RETRY.min(look.saturating_duration_since(now)),
                None => look.saturating_duration_since(now),
            };
            match orders.recv_timeout(wait) {
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
            if Instant::now() >= look {
                look = Instant::now() + INTERFACE_INTERVAL;
                self.look();
            }
        }
    }

    fn take(&mut self, order: Persist) {
        self.waiting.push(order.id);
        self.unwritten = Some(order);
    }

    fn write(&mut self) {
        let Some(order) = &self.unwritten else { return };
        if let Some(state) = &self.state
            && let Err(error) = state.save(&order.state)
        {
            tracing::error!("{error}: trying again, nothing is confirmed to other nodes until then");
            return;
        }
        self.unwritten = None;
        let _ = self.notices.try_put(Notice::Persisted(std::mem::take(&mut self.waiting)));
    }

    fn look(&mut self) {
        match interfaces() {
            Ok(interfaces) if interfaces != self.network.interfaces => {
                self.network.interfaces = interfaces;
                let _ = self.notices.try_put(Notice::NetworkChanged(self.network.clone()));
            }
            Ok(_) => {}
            Err(error) => tracing::debug!("cannot list the interfaces: {error}"),
        }
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
        let orders = start(Some(state), LocalNetwork::default(), notices.clone(), ended).unwrap();
        for id in 0..3 {
            orders.send(Persist { id: PersistId(id), state: Bytes::from(vec![id as u8]) }).unwrap();
        }
        let mut answered = Vec::new();
        while answered.len() < 3 {
            for answer in taken(&notices) {
                let Notice::Persisted(ids) = answer else { panic!("not an answer") };
                answered.extend(ids);
            }
        }
        assert_eq!(answered, [PersistId(0), PersistId(1), PersistId(2)]);
        orders.send(Persist { id: PersistId(3), state: Bytes::from_static(b"last") }).unwrap();
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
        let orders = start(Some(state), LocalNetwork::default(), notices.clone(), ended).unwrap();
        orders.send(Persist { id: PersistId(7), state: Bytes::from_static(b"kept") }).unwrap();
        thread::sleep(Duration::from_millis(100));
        assert!(block_on(poll_once(poll_fn(|cx| notices.poll_take(cx, &mut VecDeque::new())))).is_none());
        std::fs::remove_dir(&obstacle).unwrap();
        assert!(matches!(&taken(&notices)[..], [Notice::Persisted(ids)] if *ids == [PersistId(7)]));
    }

    #[test]
    fn the_loopback_interface_is_seen_and_zones_are_not() {
        let found = interfaces().unwrap();
        assert!(found.iter().any(IpAddr::is_loopback));
        assert!(!found.iter().any(|ip| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())));
    }

    #[test]
    fn a_change_of_the_interfaces_is_told_once() {
        let notices = Arc::new(Tray::new(usize::MAX));
        let network = LocalNetwork { advertised: vec!["192.0.2.1:1".parse().unwrap()], ..LocalNetwork::default() };
        let mut keeper = Keeper {
            state: None,
            network: network.clone(),
            notices: notices.clone(),
            unwritten: None,
            waiting: Vec::new(),
        };
        keeper.look();
        keeper.look();
        let [Notice::NetworkChanged(now)] = &taken(&notices)[..] else { panic!("not told once") };
        assert_eq!(*now, LocalNetwork { interfaces: interfaces().unwrap(), ..network });
    }
}
