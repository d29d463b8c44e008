//! What the task that owns the node publishes of the Master, to be read without asking it.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use p2pcore::{
    master::{MasterView, Token},
    node::Guard,
};

use crate::clocks::{Clocks, ReadClocks};

/// Shared between the driver and all handles.
pub(crate) struct Office {
    clocks: ReadClocks,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    view: Option<MasterView>,
    /// The right of this node to act as Master, and a moment up to which the node knows of every sleep of the machine.
    guard: Option<(Guard, Clocks)>,
}

impl Office {
    pub(crate) fn new(clocks: ReadClocks) -> Arc<Self> {
        Arc::new(Self { clocks, state: Mutex::default() })
    }

    pub(crate) fn clocks(&self) -> Clocks {
        (self.clocks)()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn view(&self) -> Option<MasterView> {
        self.lock().view
    }

    pub(crate) fn show(&self, view: MasterView) {
        self.lock().view = Some(view);
    }

    /// Replaces the guard. Whoever asks from now on is told of this one.
    pub(crate) fn publish(&self, guard: Option<Guard>, known: Clocks) {
        self.lock().guard = guard.map(|guard| (guard, known));
    }

    /// The token under which this node may act now.
    pub(crate) fn token(&self) -> Option<Token> {
        let state = self.lock();
        let (guard, known) = state.guard.as_ref()?;
        // while the state is locked no other guard is published, and what makes this one void does not leave this machine
        let now = self.clocks();
        (guard.is_valid(now.monotonic) && !known.slept_until(&now)).then_some(guard.token)
    }
}

impl fmt::Debug for Office {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Office").field("view", &self.view()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use p2pcore::{Identity, Role, SecretKey, master::Kind};

    use super::*;

    /// Clocks that stand where the test puts them.
    fn office() -> (Arc<Office>, Arc<Mutex<Clocks>>) {
        let clocks = Arc::new(Mutex::new(Clocks::now()));
        let read = clocks.clone();
        (Office::new(Arc::new(move || *read.lock().unwrap())), clocks)
    }

    fn token() -> Token {
        let id = Identity::new(Role::Server, SecretKey::from_bytes([1; 32])).id();
        Token { generation: 1, kind: Kind::Elected, term: 1, id }
    }

    fn pass(clocks: &Mutex<Clocks>, monotonic: u64, wall: u64) {
        let mut clocks = clocks.lock().unwrap();
        clocks.monotonic += Duration::from_millis(monotonic);
        clocks.wall += Duration::from_millis(wall);
    }

    #[test]
    fn a_guard_ends_by_itself_when_it_is_withdrawn_and_when_the_machine_slept() {
        let (office, clocks) = office();
        let publish = || {
            let now = *clocks.lock().unwrap();
            office.publish(Some(Guard { token: token(), until: now.monotonic + Duration::from_millis(300) }), now);
        };
        assert_eq!(office.token(), None);
        publish();
        pass(&clocks, 299, 299);
        assert_eq!(office.token(), Some(token()));
        pass(&clocks, 1, 1);
        assert_eq!(office.token(), None, "its time is over");

        publish();
        assert_eq!(office.token(), Some(token()));
        office.publish(None, *clocks.lock().unwrap());
        assert_eq!(office.token(), None, "it was withdrawn");

        publish();
        pass(&clocks, 10, 5_000);
        assert_eq!(office.token(), None, "the monotonic clock stood still while the machine slept");
    }

    #[test]
    fn the_view_stays_until_there_is_another() {
        let (office, _) = office();
        assert_eq!(office.view(), None);
        for view in [MasterView::Master(token()), MasterView::NoMaster(None)] {
            office.show(view);
            assert_eq!(office.view(), Some(view));
        }
    }
}
