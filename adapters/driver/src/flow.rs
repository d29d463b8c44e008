//! How much is under way to each destination: senders wait here, so that the node's own queues need not refuse.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use p2pcore::{Config, Event, Id};

use crate::events::Hub;

#[derive(Debug, Default)]
struct Account {
    messages: usize,
    bytes: usize,
    waiting: Vec<Waker>,
    /// A message was given back: one `Unblocked` is owed.
    gave_back: bool,
}

impl Account {
    fn enter(&mut self, len: usize) {
        self.messages += 1;
        self.bytes += len;
    }

    fn leave(&mut self, messages: usize, bytes: usize) {
        self.messages = self.messages.saturating_sub(messages);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    fn wait(&mut self, cx: &Context<'_>) {
        if !self.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            self.waiting.push(cx.waker().clone());
        }
    }
}

/// The accounts of all destinations that have something under way.
#[derive(Debug)]
pub(crate) struct Flow {
    max_messages: usize,
    max_bytes: usize,
    accounts: Mutex<BTreeMap<Id, Account>>,
    queue_gave_back: Mutex<BTreeSet<Id>>,
}

impl Flow {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            max_messages: config.max_queued_messages,
            max_bytes: config.max_queued_bytes,
            accounts: Mutex::default(),
            queue_gave_back: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Id, Account>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fits(&self, account: &Account, len: usize) -> bool {
        account.messages == 0
            || (account.messages < self.max_messages && account.bytes.saturating_add(len) <= self.max_bytes)
    }

    /// As [`try_enter`](Self::try_enter), but nobody is told when there is room.
    fn enter(&self, accounts: &mut BTreeMap<Id, Account>, to: &[Id], len: usize) -> Result<(), Id> {
        for (place, id) in to.iter().enumerate() {
            let account = accounts.entry(*id).or_default();
            if !self.fits(account, len) {
                for entered in to.iter().take(place) {
                    Self::take_back(accounts, entered, len);
                }
                return Err(*id);
            }
            account.enter(len);
        }
        Ok(())
    }

    fn take_back(accounts: &mut BTreeMap<Id, Account>, to: &Id, len: usize) {
        if let Some(account) = accounts.get_mut(to) {
            account.leave(1, len);
            // others wait for the end of messages: where there is none now, there was none before
            if account.messages == 0 {
                accounts.remove(to);
            }
        }
    }

    /// Enters one message of `len` bytes for each destination, or for none and names the first full one.
    pub(crate) fn try_enter(&self, to: &[Id], len: usize) -> Result<(), Id> {
        let mut accounts = self.lock();
        self.enter(&mut accounts, to, len).inspect_err(|full| accounts.entry(*full).or_default().gave_back = true)
    }

    /// As [`try_enter`](Self::try_enter), but waits.
    pub(crate) fn poll_enter(&self, cx: &mut Context<'_>, to: &[Id], len: usize) -> Poll<()> {
        let mut accounts = self.lock();
        match self.enter(&mut accounts, to, len) {
            Ok(()) => Poll::Ready(()),
            Err(full) => {
                accounts.entry(full).or_default().wait(cx);
                Poll::Pending
            }
        }
    }

    /// Waits until the first of these messages fits, and enters as many of them as do then, in their order. Returns how many
    /// those are, and their bytes.
    pub(crate) fn poll_enter_some(&self, cx: &mut Context<'_>, to: Id, messages: &[Bytes]) -> Poll<(usize, usize)> {
        let mut accounts = self.lock();
        let account = accounts.entry(to).or_default();
        let (mut entered, mut bytes) = (0, 0);
        for message in messages {
            if !self.fits(account, message.len()) {
                break;
            }
            account.enter(message.len());
            (entered, bytes) = (entered + 1, bytes + message.len());
        }
        if entered == 0 && !messages.is_empty() {
            account.wait(cx);
            return Poll::Pending;
        }
        Poll::Ready((entered, bytes))
    }

    /// A message was given back because the queue of commands was full.
    pub(crate) fn queue_gave_back(&self, to: Id) {
        self.queue_gave_back.lock().unwrap_or_else(PoisonError::into_inner).insert(to);
    }

    /// The queue has room again: those to whom messages were given back for that reason learn it.
    pub(crate) fn queue_is_roomy(&self, hub: &Hub) {
        let gave_back = std::mem::take(&mut *self.queue_gave_back.lock().unwrap_or_else(PoisonError::into_inner));
        gave_back.into_iter().for_each(|to| hub.put(Event::Unblocked { to }));
    }

    /// So many messages are over. Says whether an `Unblocked` is due: when a quarter of the room is free again.
    pub(crate) fn leave(&self, to: Id, messages: usize, bytes: usize) -> bool {
        let (woken, unblocked) = {
            let mut accounts = self.lock();
            let Some(account) = accounts.get_mut(&to) else { return false };
            account.leave(messages, bytes);
            let roomy = account.messages <= self.max_messages / 4 * 3 && account.bytes <= self.max_bytes / 4 * 3;
            let empty = account.messages == 0;
            let mut woken = Vec::new();
            let mut unblocked = false;
            if roomy || empty {
                woken = std::mem::take(&mut account.waiting);
                unblocked = std::mem::take(&mut account.gave_back);
            }
            if empty {
                accounts.remove(&to);
            }
            (woken, unblocked)
        };
        woken.into_iter().for_each(Waker::wake);
        unblocked
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use p2pcore::{Identity, Role, SecretKey};

    use super::*;

    fn flow(messages: usize, bytes: usize) -> Flow {
        let mut config = Config::default();
        config.max_queued_messages = messages;
        config.max_queued_bytes = bytes;
        Flow::new(&config)
    }

    fn id(seed: u8) -> Id {
        Identity::new(Role::Peer, SecretKey::from_bytes([seed; 32])).id()
    }

    #[test]
    fn of_a_batch_goes_what_fits_and_one_message_always_does() {
        let (flow, a) = (flow(4, 100), id(1));
        let mut cx = Context::from_waker(Waker::noop());
        let batch: Vec<Bytes> = [10, 20, 60, 30].map(|len| Bytes::from(vec![0; len])).into();
        assert_eq!(flow.poll_enter_some(&mut cx, a, &batch), Poll::Ready((3, 90)));
        assert_eq!(flow.poll_enter_some(&mut cx, a, &batch[3..]), Poll::Pending);
        flow.leave(a, 3, 90);
        assert_eq!(flow.poll_enter_some(&mut cx, a, &[Bytes::from(vec![0; 1_000])]), Poll::Ready((1, 1_000)));
        flow.leave(a, 1, 1_000);
        let many = vec![Bytes::new(); 9];
        assert_eq!(flow.poll_enter_some(&mut cx, a, &many), Poll::Ready((4, 0)));
    }

    #[test]
    fn a_full_destination_refuses_for_all_and_owes_one_unblocked() {
        let (flow, a, b) = (flow(4, 100), id(1), id(2));
        for _ in 0..4 {
            assert_eq!(flow.try_enter(&[a], 1), Ok(()));
        }
        assert_eq!(flow.try_enter(&[b, a], 1), Err(a));
        assert_eq!(flow.try_enter(&[a], 1), Err(a));
        assert!(flow.leave(a, 1, 1));
        assert!(!flow.leave(a, 1, 1));
        assert!(!flow.leave(b, 1, 1), "nothing was entered for b");
        assert!(!flow.lock().contains_key(&b));
        assert_eq!(flow.try_enter(&[b], 1), Ok(()));
        for _ in 0..2 {
            assert_eq!(flow.try_enter(&[a], 2), Ok(()));
        }
        assert_eq!(flow.try_enter(&[b, a], 7), Err(a));
        assert!(flow.lock().get(&b).is_some_and(|account| (account.messages, account.bytes) == (1, 1)));
    }

    #[test]
    fn one_message_always_fits_and_bytes_are_bounded() {
        let (flow, a) = (flow(4, 100), id(1));
        assert_eq!(flow.try_enter(&[a], 1_000), Ok(()));
        assert_eq!(flow.try_enter(&[a], 1), Err(a));
        assert!(flow.leave(a, 1, 1_000));
        assert_eq!(flow.try_enter(&[a], 60), Ok(()));
        assert_eq!(flow.try_enter(&[a], 41), Err(a));
        assert_eq!(flow.try_enter(&[a], 40), Ok(()));
    }

    #[test]
    fn a_waiting_sender_is_woken_until_it_fits() {
        struct Count(std::sync::atomic::AtomicUsize);
        impl std::task::Wake for Count {
            fn wake(self: std::sync::Arc<Self>) {
                self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        }
        let count = std::sync::Arc::new(Count(0.into()));
        let waker = Waker::from(count.clone());
        let mut cx = Context::from_waker(&waker);
        let (flow, a) = (flow(100, 100), id(1));
        flow.try_enter(&[a], 60).unwrap();
        flow.try_enter(&[a], 20).unwrap();
        assert!(flow.poll_enter(&mut cx, &[a], 90).is_pending());
        flow.leave(a, 1, 60);
        assert!(flow.poll_enter(&mut cx, &[a], 90).is_pending());
        flow.leave(a, 1, 20);
        assert_eq!(count.0.load(std::sync::atomic::Ordering::Relaxed), 2);
        assert!(flow.poll_enter(&mut cx, &[a], 90).is_ready());
    }
}
