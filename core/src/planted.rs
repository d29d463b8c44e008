//! Faults that checks plant on purpose, to show that they find them: possible in tests and with the feature `planted`,
//! and nothing at all otherwise.

use std::marker::PhantomData;

/// What was planted, or what that remembers. Without tests and the feature it is always empty and takes no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Planted<T> {
    #[cfg(any(test, feature = "planted"))]
    it: Option<T>,
    of: PhantomData<T>,
}

impl<T> Default for Planted<T> {
    fn default() -> Self {
        Self {
            #[cfg(any(test, feature = "planted"))]
            it: None,
            of: PhantomData,
        }
    }
}

#[cfg(any(test, feature = "planted"))]
impl<T: Copy> Planted<T> {
    pub(crate) fn get(&self) -> Option<T> {
        self.it
    }

    pub(crate) fn put(&mut self, it: T) {
        self.it = Some(it);
    }
}

#[cfg(not(any(test, feature = "planted")))]
impl<T: Copy> Planted<T> {
    pub(crate) const fn get(&self) -> Option<T> {
        None
    }

    pub(crate) const fn put(&mut self, _: T) {}
}

impl<T: Copy + PartialEq> Planted<T> {
    pub(crate) fn has(&self, it: T) -> bool {
        self.get() == Some(it)
    }
}
