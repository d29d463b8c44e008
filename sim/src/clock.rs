//! The virtual time for log lines, those of the nodes included.

use std::{cell::Cell, fmt, time::Duration};

use tracing_subscriber::fmt::{format::Writer, time::FormatTime};

thread_local! {
    static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

pub(crate) fn set(now: Duration) {
    NOW.set(now);
}

pub(crate) fn now() -> Duration {
    NOW.get()
}

/// Stamps log lines with the virtual time of the world that runs in this thread.
#[derive(Clone, Copy, Debug)]
pub struct VirtualTime;

impl FormatTime for VirtualTime {
    fn format_time(&self, w: &mut Writer<'_>) -> fmt::Result {
        let now = now();
        write!(w, "{:>4}.{:06}", now.as_secs(), now.subsec_micros())
    }
}
