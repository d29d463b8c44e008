//! The program on smol.

use std::{process::ExitCode, sync::Arc};

fn main() -> ExitCode {
    p2pcore_driver::program::main(|| Ok(Arc::new(p2pcore_smol::SmolRuntime::new()?)), "p2pcore-smol")
}
