//! The byte streams of a link: both ways, opened by either side.

use std::collections::BTreeMap;

use bytes::Bytes;
use quinn_proto::{Connection, Dir, ReadError, Side, StreamId, VarInt, WriteError};

use super::{
    events::{LinkEvent, LinkStreamId, StreamError},
    lanes::Violation,
    transport::FIRST_STREAMS,
};

/// The first byte of a byte stream from the side that opened it, which so appears at the other before any data.
const BYTES: u8 = 2;

const RESET_CODE: VarInt = VarInt::from_u32(0);

/// All byte streams of one link.
#[derive(Debug)]
pub(super) struct ByteStreams {
    side: Side,
    /// Open at a time, for each side.
    max: u32,
    priority: i32,
    streams: BTreeMap<LinkStreamId, ByteStream>,
    news: BTreeMap<LinkStreamId, News>,
    /// Streams of this side that were asked for; their ids are certain before the remote lets QUIC open them.
    asked: u64,
    opened: u64,
}

#[derive(Debug)]
struct ByteStream {
    /// QUIC knows it.
    exists: bool,
    /// The kind is still to be written (own) or read (the remote's).
    kind_due: bool,
    finish_wanted: bool,
    sending: bool,
    receiving: bool,
}

#[derive(Debug, Default)]
struct News {
    opened: bool,
    readable: bool,
    writable: bool,
    finished: bool,
    reset: bool,
}

impl ByteStreams {
    pub(super) fn new(side: Side, max: u32, priority: i8) -> Self {
        Self {
            side,
            max,
            priority: priority.into(),
            streams: BTreeMap::new(),
            news: BTreeMap::new(),
            asked: 0,
            opened: 0,
        }
    }

    pub(super) fn open(&mut self, conn: &mut Connection) -> Result<LinkStreamId, StreamError> {
        let own = self.streams.keys().filter(|id| quic_id(**id).initiator() == self.side).count() as u64;
        if own.max(self.asked - self.opened) >= u64::from(self.max) {
            return Err(StreamError::TooMany);
        }
        let id = LinkStreamId(StreamId::new(self.side, Dir::Bi, self.asked).into());
        self.asked += 1;
        let stream = ByteStream { exists: false, kind_due: true, finish_wanted: false, sending: true, receiving: true };
        self.streams.insert(id, stream);
        self.open_asked(conn);
        Ok(id)
    }

    /// Opens what was asked for as far as the remote allows.
    pub(super) fn open_asked(&mut self, conn: &mut Connection) {
        while self.opened < self.asked {
            let Some(quic) = conn.streams().open(Dir::Bi) else { return };
            self.opened += 1;
            let id = LinkStreamId(quic.into());
            self.set_priority(conn, quic);
            match self.streams.get_mut(&id) {
                Some(stream) => {
                    stream.exists = true;
                    self.news.entry(id).or_default().writable = true;
                    self.write_due(conn, id);
                }
                // given up before it was opened
                None => abandon(conn, quic),
            }
        }
    }

    /// New streams of the remote may be there.
    pub(super) fn accept(&mut self, conn: &mut Connection) -> Result<(), Violation> {
        while let Some(quic) = conn.streams().accept(Dir::Bi) {
            let id = LinkStreamId(quic.into());
            self.set_priority(conn, quic);
            let stream =
                ByteStream { exists: true, kind_due: true, finish_wanted: false, sending: true, receiving: true };
            self.streams.insert(id, stream);
            self.on_readable(conn, id)?;
        }
        let allowed = conn.max_concurrent_streams(Dir::Bi);
        if allowed < u64::from(self.max) && conn.streams().remote_open_streams(Dir::Bi) * 2 >= allowed {
            let lifted = u32::try_from(allowed.saturating_mul(2)).unwrap_or(self.max).clamp(FIRST_STREAMS, self.max);
            conn.set_max_concurrent_streams(Dir::Bi, lifted.into());
        }
        Ok(())
    }

    pub(super) fn on_readable(&mut self, conn: &mut Connection, id: LinkStreamId) -> Result<(), Violation> {
        let remote = self.is_remote(id);
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        if matches!(conn.recv_stream(quic_id(id)).received_reset(), Ok(Some(_))) {
            self.on_reset(conn, id);
            return Ok(());
        }
        if remote && stream.kind_due {
            match read(conn, id, 1) {
                Read::Bytes(bytes) if bytes.first() == Some(&BYTES) => stream.kind_due = false,
                Read::Bytes(_) | Read::End => return Err(Violation::new("a byte stream of another kind")),
                Read::Blocked | Read::Reset => return Ok(()),
            }
            self.news.entry(id).or_default().opened = true;
        }
        self.news.entry(id).or_default().readable = true;
        Ok(())
    }

    pub(super) fn on_writable(&mut self, conn: &mut Connection, id: LinkStreamId) {
        self.write_due(conn, id);
        if self.streams.get(&id).is_some_and(|stream| stream.sending) {
            self.news.entry(id).or_default().writable = true;
        }
    }

    pub(super) fn on_finished(&mut self, id: LinkStreamId) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.sending = false;
        self.news.entry(id).or_default().finished = true;
        self.forget_if_done(id);
    }

    /// The remote gave it up in one direction: it is given up in both.
    pub(super) fn on_reset(&mut self, conn: &mut Connection, id: LinkStreamId) {
        let Some(stream) = self.streams.remove(&id) else { return };
        abandon(conn, quic_id(id));
        let unread = self.is_remote(id) && stream.kind_due;
        let untold = self.news.remove(&id).is_some_and(|news| news.opened);
        if !(unread || untold) {
            self.news.insert(id, News { reset: true, ..News::default() });
        }
    }

    pub(super) fn write(&mut self, conn: &mut Connection, id: LinkStreamId, data: &[u8]) -> Result<usize, StreamError> {
        self.write_due(conn, id);
        let stream = self.streams.get(&id).filter(|stream| stream.sending && !stream.finish_wanted);
        let stream = stream.ok_or(StreamError::Gone)?;
        if !stream.exists || (stream.kind_due && quic_id(id).initiator() == self.side) {
            return Ok(0);
        }
        let mut written = 0;
        while let Some(rest) = data.get(written..).filter(|rest| !rest.is_empty()) {
            match conn.send_stream(quic_id(id)).write(rest) {
                Ok(len) => written += len,
                Err(WriteError::Blocked) => break,
                Err(WriteError::Stopped(_) | WriteError::ClosedStream) => {
                    self.streams.remove(&id);
                    self.news.remove(&id);
                    abandon(conn, quic_id(id));
                    return Err(StreamError::Gone);
                }
            }
        }
        Ok(written)
    }

    /// `Ok(None)`: nothing now. An empty piece: the end.
    pub(super) fn read(
        &mut self,
        conn: &mut Connection,
        id: LinkStreamId,
        max: usize,
    ) -> Result<Option<Bytes>, StreamError> {
        let stream = self.streams.get_mut(&id).ok_or(StreamError::Gone)?;
        if !stream.receiving {
            return Ok(Some(Bytes::new()));
        }
        if !stream.exists || max == 0 {
            return Ok(None);
        }
        match read(conn, id, max) {
            Read::Bytes(bytes) => Ok(Some(bytes)),
            Read::Blocked => Ok(None),
            Read::End => {
                stream.receiving = false;
                self.forget_if_done(id);
                Ok(Some(Bytes::new()))
            }
            Read::Reset => {
                self.streams.remove(&id);
                self.news.remove(&id);
                abandon(conn, quic_id(id));
                Err(StreamError::Gone)
            }
        }
    }

    pub(super) fn finish(&mut self, conn: &mut Connection, id: LinkStreamId) -> Result<(), StreamError> {
        let stream = self.streams.get_mut(&id).filter(|stream| stream.sending).ok_or(StreamError::Gone)?;
        if !stream.finish_wanted {
            stream.finish_wanted = true;
            self.write_due(conn, id);
            let stream = self.streams.get(&id);
            if stream.is_some_and(|stream| stream.exists && (!stream.kind_due || self.is_remote(id))) {
                let _ = conn.send_stream(quic_id(id)).finish();
            }
        }
        Ok(())
    }

    pub(super) fn reset(&mut self, conn: &mut Connection, id: LinkStreamId) {
        self.news.remove(&id);
        if self.streams.remove(&id).is_some_and(|stream| stream.exists) {
            abandon(conn, quic_id(id));
        }
    }

    /// Whether none is open, or waits for the remote's acknowledgement.
    pub(super) fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    pub(super) fn has_news(&self) -> bool {
        !self.news.is_empty()
    }

    pub(super) fn pop_news<R>(&mut self) -> Option<LinkEvent<R>> {
        let mut entry = self.news.first_entry()?;
        let id = *entry.key();
        let news = entry.get_mut();
        let mut take = |flag: fn(&mut News) -> &mut bool| std::mem::take(flag(news));
        let event = if take(|news| &mut news.opened) {
            LinkEvent::StreamOpened(id)
        } else if take(|news| &mut news.readable) {
            LinkEvent::StreamReadable(id)
        } else if take(|news| &mut news.writable) {
            LinkEvent::StreamWritable(id)
        } else if take(|news| &mut news.finished) {
            LinkEvent::StreamFinished(id)
        } else {
            news.reset = false;
            LinkEvent::StreamReset(id)
        };
        if !(news.opened || news.readable || news.writable || news.finished || news.reset) {
            entry.remove();
        }
        Some(event)
    }

    fn set_priority(&self, conn: &mut Connection, id: StreamId) {
        // fails only once the sending half is over
        let _ = conn.send_stream(id).set_priority(self.priority);
    }

    fn is_remote(&self, id: LinkStreamId) -> bool {
        quic_id(id).initiator() != self.side
    }

    /// Writes what an own stream owes: its kind, and its end if that was asked for before.
    fn write_due(&mut self, conn: &mut Connection, id: LinkStreamId) {
        let remote = self.is_remote(id);
        let Some(stream) = self.streams.get_mut(&id).filter(|stream| stream.exists && stream.kind_due) else { return };
        if remote || conn.send_stream(quic_id(id)).write(&[BYTES]).is_err() {
            return;
        }
        stream.kind_due = false;
        if stream.finish_wanted {
            let _ = conn.send_stream(quic_id(id)).finish();
        }
    }

    fn forget_if_done(&mut self, id: LinkStreamId) {
        if self.streams.get(&id).is_some_and(|stream| !stream.sending && !stream.receiving) {
            self.streams.remove(&id);
        }
    }
}

enum Read {
    Bytes(Bytes),
    Blocked,
    End,
    Reset,
}

fn read(conn: &mut Connection, id: LinkStreamId, max: usize) -> Read {
    let mut stream = conn.recv_stream(quic_id(id));
    let Ok(mut chunks) = stream.read(true) else { return Read::Reset };
    match chunks.next(max) {
        Ok(Some(chunk)) => Read::Bytes(chunk.bytes),
        Ok(None) => Read::End,
        Err(ReadError::Blocked) => Read::Blocked,
        Err(ReadError::Reset(_)) => Read::Reset,
    }
}

fn abandon(conn: &mut Connection, id: StreamId) {
    // either half may be over already
    let _ = conn.send_stream(id).reset(RESET_CODE);
    let _ = conn.recv_stream(id).stop(RESET_CODE);
}

fn quic_id(id: LinkStreamId) -> StreamId {
    StreamId::from(VarInt::from_u64(id.0).unwrap_or(VarInt::MAX))
}
