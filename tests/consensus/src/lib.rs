//! Nothing here but tests: the oracle is heavy, and no other crate should wait for it.
