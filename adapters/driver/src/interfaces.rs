//! The addresses of this machine, and one thread that looks every few seconds whether they changed, for all nodes here.

use std::{
    io,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    thread,
    time::Duration,
};

use p2pcore::node::LocalNetwork;

use crate::{command::Notice, tray::Tray};

/// How long a change of the interfaces may go unnoticed.
const INTERVAL: Duration = Duration::from_secs(3);

/// The addresses of all interfaces that are up, in order; without those that work only with a zone (`fe80::/10`).
pub(crate) fn list() -> io::Result<Vec<IpAddr>> {
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

/// Tells `notices` of changes to the interfaces in `network`, until they are closed or gone.
pub(crate) fn watch(network: LocalNetwork, notices: &Arc<Tray<Notice>>) -> io::Result<()> {
    let mut watchers = WATCHERS.lock();
    if !watchers.have_thread {
        thread::Builder::new().name("p2pcore-interfaces".into()).spawn(|| {
            let _guard = ResetOnPanic;
            loop {
                thread::sleep(INTERVAL);
                if !WATCHERS.look() {
                    return;
                }
            }
        })?;
        watchers.have_thread = true;
    }
    watchers.all.push(Watcher { network, notices: Arc::downgrade(notices) });
    Ok(())
}

/// The next node starts the thread anew if it died.
struct ResetOnPanic;

impl Drop for ResetOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            WATCHERS.lock().have_thread = false;
        }
    }
}

/// Those of all nodes of this process.
static WATCHERS: Shared = Shared(Mutex::new(Watchers { all: Vec::new(), have_thread: false }));

struct Shared(Mutex<Watchers>);

struct Watchers {
    all: Vec<Watcher>,
    have_thread: bool,
}

struct Watcher {
    network: LocalNetwork,
    notices: Weak<Tray<Notice>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Watchers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether somebody still wants to know; if not, the thread is to end.
    fn look(&self) -> bool {
        let mut news = Vec::new();
        let goes_on = {
            let mut watchers = self.lock();
            // listed under the lock, so that it is not older than what a new watcher begins with
            let now = list().inspect_err(|error| tracing::debug!("cannot list the interfaces: {error}"));
            watchers.all.retain_mut(|watcher| match watcher.notices.upgrade() {
                Some(notices) if !notices.is_closed() => {
                    news.extend(watcher.look(now.as_deref().ok()).map(|network| (notices, network)));
                    true
                }
                _ => false,
            });
            watchers.have_thread = !watchers.all.is_empty();
            watchers.have_thread
        };
        // what is woken may start or end a node
        for (notices, network) in news {
            let _ = notices.try_put(Notice::NetworkChanged(network));
        }
        goes_on
    }
}

impl Watcher {
    /// What its node is to be told.
    fn look(&mut self, now: Option<&[IpAddr]>) -> Option<LocalNetwork> {
        let now = now.filter(|now| *now != self.network.interfaces)?;
        self.network.interfaces = now.to_vec();
        Some(self.network.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use futures_lite::future::{block_on, poll_fn, poll_once};

    use super::*;

    #[test]
    fn the_loopback_interface_is_seen_and_zones_are_not() {
        let found = list().unwrap();
        assert!(found.iter().any(IpAddr::is_loopback));
        assert!(!found.iter().any(|ip| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())));
    }

    #[test]
    fn each_node_is_told_of_a_change_once_and_forgotten_when_it_ended() {
        let network = LocalNetwork { advertised: vec!["192.0.2.1:1".parse().unwrap()], ..LocalNetwork::default() };
        let node = || Arc::new(Tray::new(usize::MAX));
        let (first, second, ended, gone) = (node(), node(), node(), node());
        let all = [&first, &second, &ended, &gone]
            .map(|notices| Watcher { network: network.clone(), notices: Arc::downgrade(notices) });
        let watchers = Shared(Mutex::new(Watchers { all: all.into(), have_thread: true }));
        ended.close();
        drop(gone);
        assert!(watchers.look() && watchers.look());
        for notices in [&first, &second] {
            let mut taken = VecDeque::new();
            block_on(poll_once(poll_fn(|cx| notices.poll_take(cx, &mut taken))));
            let [Notice::NetworkChanged(now)] = &taken.make_contiguous()[..] else { panic!("not told once") };
            assert_eq!(*now, LocalNetwork { interfaces: list().unwrap(), ..network.clone() });
        }
        assert_eq!(watchers.lock().all.len(), 2);
        drop((first, second));
        assert!(!watchers.look() && !watchers.lock().have_thread);
    }

    #[test]
    fn a_network_that_cannot_be_listed_has_not_changed() {
        let mut watcher = Watcher { network: LocalNetwork::default(), notices: Weak::new() };
        assert_eq!(watcher.look(None), None);
        assert_eq!(watcher.look(Some(&[])), None);
        assert!(watcher.look(Some(&[IpAddr::from([192, 0, 2, 1])])).is_some());
    }
}
