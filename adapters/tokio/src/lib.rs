//! p2pcore on tokio: tasks, timers and sockets for [`p2pcore_driver`].
#![forbid(unsafe_code)]

use std::{
    fmt, io,
    net::UdpSocket,
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use p2pcore_driver::{BoxFuture, Runtime, Timer, UdpIo};
use quinn_udp::UdpSockRef;
use tokio::{io::Interest, runtime, time::Sleep};

/// A tokio runtime, own or borrowed.
#[derive(Debug)]
pub struct TokioRuntime {
    handle: runtime::Handle,
    own: Option<runtime::Runtime>,
}

impl TokioRuntime {
    /// A multi-threaded runtime of its own; dropping it ends its tasks.
    ///
    /// # Errors
    /// The operating system gives no threads or no reactor.
    pub fn new() -> io::Result<Self> {
        let own = runtime::Builder::new_multi_thread().enable_all().thread_name("p2pcore").build()?;
        Ok(Self { handle: own.handle().clone(), own: Some(own) })
    }

    /// The runtime that is running now; it needs its IO and time drivers.
    ///
    /// # Errors
    /// There is none.
    pub fn current() -> Result<Self, runtime::TryCurrentError> {
        Ok(Self { handle: runtime::Handle::try_current()?, own: None })
    }
}

impl Drop for TokioRuntime {
    fn drop(&mut self) {
        // the last reference may be dropped by a task, which must not wait for itself
        if let Some(own) = self.own.take() {
            own.shutdown_background();
        }
    }
}

impl Runtime for TokioRuntime {
    fn spawn(&self, task: BoxFuture) {
        self.handle.spawn(task);
    }

    fn timer(&self, at: Instant) -> Pin<Box<dyn Timer>> {
        let _context = self.handle.enter();
        Box::pin(TokioTimer(Box::pin(tokio::time::sleep_until(at.into()))))
    }

    fn udp(&self, socket: UdpSocket) -> io::Result<Box<dyn UdpIo>> {
        let _context = self.handle.enter();
        Ok(Box::new(TokioUdp(tokio::net::UdpSocket::from_std(socket)?)))
    }

    fn block_on(&self, task: Pin<Box<dyn Future<Output = ()> + '_>>) {
        self.handle.block_on(task);
    }
}

struct TokioTimer(Pin<Box<Sleep>>);

impl Timer for TokioTimer {
    fn reset(mut self: Pin<&mut Self>, at: Instant) {
        self.0.as_mut().reset(at.into());
    }
}

impl Future for TokioTimer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

struct TokioUdp(tokio::net::UdpSocket);

impl fmt::Debug for TokioUdp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl UdpIo for TokioUdp {
    fn socket(&self) -> UdpSockRef<'_> {
        (&self.0).into()
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_recv_ready(cx)
    }

    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_send_ready(cx)
    }

    fn try_read(&self, read: &mut dyn FnMut(UdpSockRef<'_>) -> io::Result<usize>) -> io::Result<usize> {
        self.0.try_io(Interest::READABLE, || read((&self.0).into()))
    }

    fn try_write(&self, write: &mut dyn FnMut(UdpSockRef<'_>) -> io::Result<()>) -> io::Result<()> {
        self.0.try_io(Interest::WRITABLE, || write((&self.0).into()))
    }
}
