//! What a runtime supplies: tasks, timers, and sockets that say when they are ready.

use std::{
    fmt, io,
    net::UdpSocket,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use quinn_udp::UdpSockRef;

/// A task to spawn.
pub type BoxFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// An async runtime.
pub trait Runtime: fmt::Debug + Send + Sync + 'static {
    /// Runs `task` to its end in the background.
    fn spawn(&self, task: BoxFuture);

    /// A timer that fires at `at`.
    fn timer(&self, at: Instant) -> Pin<Box<dyn Timer>>;

    /// Registers a bound, non-blocking socket.
    ///
    /// # Errors
    /// What the operating system says.
    fn udp(&self, socket: UdpSocket) -> io::Result<Box<dyn UdpIo>>;

    /// Runs `task` on this thread until it ends.
    fn block_on(&self, task: Pin<Box<dyn Future<Output = ()> + '_>>);
}

impl dyn Runtime {
    /// Ends at `at`.
    pub fn sleep_until(&self, at: Instant) -> Pin<Box<dyn Timer>> {
        self.timer(at)
    }

    /// Runs `task` on this thread and gives back what it made.
    ///
    /// # Panics
    /// If the runtime gave up before the task ended.
    pub fn run<T>(self: &Arc<Self>, task: impl Future<Output = T>) -> T {
        let mut result = None;
        self.block_on(Box::pin(async { result = Some(task.await) }));
        result.expect("the task ran to its end")
    }
}

/// A timer that can be moved; it may be polled again after it fired.
pub trait Timer: Future<Output = ()> + Send {
    /// Moves it to `at`.
    fn reset(self: Pin<&mut Self>, at: Instant);
}

/// A UDP socket in the runtime's reactor. One task at a time polls it.
pub trait UdpIo: fmt::Debug + Send {
    /// The socket, for its options.
    fn socket(&self) -> UdpSockRef<'_>;

    /// Ready when a read may go through. Call it only after a read would have blocked.
    ///
    /// # Errors
    /// The reactor is gone.
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Ready when a write may go through. Call it only after a write would have blocked.
    ///
    /// # Errors
    /// The reactor is gone.
    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Runs a non-blocking read and takes note when it would block. `read` is called once at most: it may say that the next one would block after it has read.
    ///
    /// # Errors
    /// What `read` gives.
    fn try_read(&self, read: &mut dyn FnMut(UdpSockRef<'_>) -> io::Result<usize>) -> io::Result<usize>;

    /// Runs a non-blocking write and takes note when it would block.
    ///
    /// # Errors
    /// What `write` gives.
    fn try_write(&self, write: &mut dyn FnMut(UdpSockRef<'_>) -> io::Result<()>) -> io::Result<()>;
}
