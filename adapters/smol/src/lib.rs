//! p2pcore on smol: tasks, timers and sockets for [`p2pcore_driver`].
#![forbid(unsafe_code)]

use std::{
    io,
    net::UdpSocket,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    thread,
    time::Instant,
};

use async_executor::Executor;
use async_io::Async;
use p2pcore_driver::{BoxFuture, Runtime, Timer, UdpIo};
use quinn_udp::UdpSockRef;

/// An executor of its own on some threads; dropping it ends its tasks.
#[derive(Debug)]
pub struct SmolRuntime {
    executor: Arc<Executor<'static>>,
    /// Dropped to let the threads end.
    _running: async_channel::Sender<()>,
}

impl SmolRuntime {
    /// As many threads as the machine runs at once.
    ///
    /// # Errors
    /// The operating system gives no threads.
    pub fn new() -> io::Result<Self> {
        let executor = Arc::new(Executor::new());
        let (running, end) = async_channel::bounded::<()>(1);
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            let (executor, end) = (executor.clone(), end.clone());
            thread::Builder::new().name("p2pcore".into()).spawn(move || {
                // the channel only ever closes
                let _ = async_io::block_on(executor.run(end.recv()));
            })?;
        }
        Ok(Self { executor, _running: running })
    }
}

impl Runtime for SmolRuntime {
    fn spawn(&self, task: BoxFuture) {
        self.executor.spawn(task).detach();
    }

    fn timer(&self, at: Instant) -> Pin<Box<dyn Timer>> {
        Box::pin(SmolTimer(async_io::Timer::at(at)))
    }

    fn udp(&self, socket: UdpSocket) -> io::Result<Box<dyn UdpIo>> {
        Ok(Box::new(SmolUdp(Async::new_nonblocking(socket)?)))
    }

    fn block_on(&self, task: Pin<Box<dyn Future<Output = ()> + '_>>) {
        async_io::block_on(self.executor.run(task));
    }
}

struct SmolTimer(async_io::Timer);

impl Timer for SmolTimer {
    fn reset(mut self: Pin<&mut Self>, at: Instant) {
        self.0.set_at(at);
    }
}

impl Future for SmolTimer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(cx).map(|_| ())
    }
}

#[derive(Debug)]
struct SmolUdp(Async<UdpSocket>);

impl UdpIo for SmolUdp {
    fn socket(&self) -> UdpSockRef<'_> {
        self.0.get_ref().into()
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_readable(cx)
    }

    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_writable(cx)
    }

    fn try_read(&self, read: &mut dyn FnMut(UdpSockRef<'_>) -> io::Result<usize>) -> io::Result<usize> {
        read(self.0.get_ref().into())
    }

    fn try_write(&self, write: &mut dyn FnMut(UdpSockRef<'_>) -> io::Result<()>) -> io::Result<()> {
        write(self.0.get_ref().into())
    }
}
