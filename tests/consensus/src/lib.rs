//! Nothing here but tests: the oracle and the model checker are heavy, and no other crate should wait for them.
