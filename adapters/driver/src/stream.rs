//! Byte streams: two small buffers between the application's task and the driver's.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::{Buf, Bytes};
use futures_lite::io::{AsyncRead, AsyncWrite};
use p2pcore::{Id, Reason, node::StreamKey};

use crate::{command::Notice, tray::Tray};

/// Bytes that wait in each direction between the application and the driver.
pub(crate) const STREAM_BUFFER: usize = 1024 * 1024;

#[derive(Default)]
pub(crate) struct State {
    pub(crate) incoming: VecDeque<Bytes>,
    pub(crate) incoming_len: usize,
    /// All that comes is in `incoming`.
    pub(crate) incoming_end: bool,
    pub(crate) outgoing: VecDeque<Bytes>,
    pub(crate) outgoing_len: usize,
    /// The application writes no more.
    pub(crate) finish: bool,
    /// The node knows that.
    pub(crate) finished: bool,
    pub(crate) reset: Option<Reason>,
    /// The application's handle is gone.
    pub(crate) dropped: bool,
    /// The driver has been told and has not looked yet.
    pub(crate) noticed: bool,
    pub(crate) reader: Option<Waker>,
    pub(crate) writer: Option<Waker>,
}

/// What the application's handle and the driver share.
pub(crate) struct Shared {
    key: StreamKey,
    state: Mutex<State>,
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A byte stream to another node, both ways, with backpressure. It ends with the link.
///
/// Dropping it before [`finish`](Self::finish) gives it up in both directions; after that, what was written still goes
/// out.
pub struct ByteStream {
    remote: Id,
    shared: Arc<Shared>,
    notices: Arc<Tray<Notice>>,
}

impl ByteStream {
    pub(crate) fn new(remote: Id, key: StreamKey, notices: Arc<Tray<Notice>>) -> (Self, Arc<Shared>) {
        let shared = Arc::new(Shared { key, state: Mutex::default() });
        (Self { remote, shared: shared.clone(), notices }, shared)
    }

    /// The other end.
    pub fn remote(&self) -> Id {
        self.remote
    }

    fn notice(&self, state: &mut State) {
        if !std::mem::replace(&mut state.noticed, true) {
            let _ = self.notices.try_put(Notice::Stream(self.shared.key));
        }
    }

    /// The next bytes, at most `max`; `None` at the end.
    ///
    /// # Errors
    /// Why it ended before its time.
    pub async fn read(&mut self, max: usize) -> Result<Option<Bytes>, Reason> {
        poll_fn(|cx| self.poll_read_bytes(cx, max)).await
    }

    /// As [`read`](Self::read), for hand-written futures.
    ///
    /// # Errors
    /// Why it ended before its time.
    pub fn poll_read_bytes(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<Result<Option<Bytes>, Reason>> {
        let mut state = self.shared.lock();
        let Some(front) = state.incoming.front_mut() else {
            return match (state.reset, state.incoming_end) {
                (_, true) => Poll::Ready(Ok(None)),
                (Some(reason), false) => Poll::Ready(Err(reason)),
                (None, false) => {
                    state.reader = Some(cx.waker().clone());
                    Poll::Pending
                }
            };
        };
        let bytes = front.split_to(front.len().min(max.max(1)));
        if front.is_empty() {
            state.incoming.pop_front();
        }
        let before = state.incoming_len;
        state.incoming_len -= bytes.len();
        if before >= STREAM_BUFFER / 2 && state.incoming_len < STREAM_BUFFER / 2 {
            self.notice(&mut state);
        }
        Poll::Ready(Ok(Some(bytes)))
    }

    /// Writes all of `data`; waits while the buffer is full.
    ///
    /// # Errors
    /// Why it ended before its time; `Reset` after [`finish`](Self::finish) too.
    pub async fn write(&mut self, data: impl Into<Bytes>) -> Result<(), Reason> {
        let mut data = data.into();
        poll_fn(|cx| {
            while !data.is_empty() {
                let taken = std::task::ready!(self.poll_write_bytes(cx, &mut data))?;
                debug_assert!(taken > 0);
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// Takes a front part of `data` and says how much.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn poll_write_bytes(&mut self, cx: &mut Context<'_>, data: &mut Bytes) -> Poll<Result<usize, Reason>> {
        let mut state = self.shared.lock();
        if let Some(reason) = state.reset {
            return Poll::Ready(Err(reason));
        }
        if state.finish {
            return Poll::Ready(Err(Reason::Reset));
        }
        let room = STREAM_BUFFER.saturating_sub(state.outgoing_len);
        if room == 0 {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let piece = data.split_to(data.len().min(room));
        let len = piece.len();
        if len > 0 {
            state.outgoing_len += len;
            state.outgoing.push_back(piece);
            self.notice(&mut state);
        }
        Poll::Ready(Ok(len))
    }

    /// Ends the writing side and waits until the node has taken everything; reading goes on.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub async fn finish(&mut self) -> Result<(), Reason> {
        poll_fn(|cx| self.poll_finish(cx)).await
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Reason>> {
        let mut state = self.shared.lock();
        if state.finished {
            return Poll::Ready(Ok(()));
        }
        if let Some(reason) = state.reset {
            return Poll::Ready(Err(reason));
        }
        if !state.finish {
            state.finish = true;
            self.notice(&mut state);
        }
        state.writer = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for ByteStream {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.dropped = true;
        self.notice(&mut state);
    }
}

impl fmt::Debug for ByteStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByteStream").field("remote", &self.remote).field("key", &self.shared.key).finish()
    }
}

fn io_error(reason: Reason) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, reason.as_str())
}

impl AsyncRead for ByteStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let bytes = std::task::ready!(self.poll_read_bytes(cx, buf.len())).map_err(io_error)?;
        Poll::Ready(Ok(bytes.map_or(0, |mut bytes| {
            let len = bytes.len();
            bytes.copy_to_slice(&mut buf[..len]);
            len
        })))
    }
}

impl AsyncWrite for ByteStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        // one copy of at most what can fit, made only when there is room
        let room = STREAM_BUFFER.saturating_sub(self.shared.lock().outgoing_len);
        let mut data = Bytes::copy_from_slice(&buf[..buf.len().min(room)]);
        self.poll_write_bytes(cx, &mut data).map_err(io_error)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.shared.lock();
        match state.reset {
            Some(reason) => Poll::Ready(Err(io_error(reason))),
            None if state.outgoing_len == 0 => Poll::Ready(Ok(())),
            None => {
                state.writer = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_finish(cx).map_err(io_error)
    }
}
