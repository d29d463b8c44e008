//! The program on tokio.

use std::{process::ExitCode, sync::Arc};

fn main() -> ExitCode {
    p2pcore_driver::program::main(|| Ok(Arc::new(p2pcore_tokio::TokioRuntime::new()?)), "p2pcore")
}
