//! The conformance suite on smol.

p2pcore_driver::conformance!(p2pcore_smol::SmolRuntime::new().expect("a runtime"));
