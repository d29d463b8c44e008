//! The conformance suite on tokio.

p2pcore_driver::conformance!(p2pcore_tokio::TokioRuntime::new().expect("a runtime"));
