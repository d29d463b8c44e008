//! SIGINT and SIGTERM.

use std::{process, thread};

use async_channel::Receiver;
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};

use super::failure::Failure;

/// The first signal is a message in the channel, the second ends the process at once.
pub(super) fn listen() -> Result<Receiver<()>, Failure> {
    let cannot = |error| Failure::io("cannot listen for signals", &error);
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(cannot)?;
    let (sender, receiver) = async_channel::bounded(1);
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for signal in signals.forever() {
                if sender.try_send(()).is_err() {
                    process::exit(128 + signal);
                }
            }
        })
        .map_err(cannot)?;
    Ok(receiver)
}
