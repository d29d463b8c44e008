//! Byte streams: the application's keys for the streams of the links.

use std::{collections::BTreeMap, time::Instant};

use bytes::Bytes;

use super::{Event, Node, Route, StreamKey, links::Phase};
use crate::{
    CommandError, Id, Reason,
    link::{LinkEvent, LinkStreamId, LinkToken},
};

/// A stream as the application sees it: over once both sides have ended.
#[derive(Clone, Copy, Debug)]
struct Stream {
    token: LinkToken,
    id: LinkStreamId,
    read: bool,
    written: bool,
}

/// Both directions of the mapping.
#[derive(Debug, Default)]
pub(super) struct StreamTable {
    next: u64,
    by_key: BTreeMap<StreamKey, Stream>,
    by_link: BTreeMap<(LinkToken, LinkStreamId), StreamKey>,
}

impl StreamTable {
    fn insert(&mut self, token: LinkToken, stream: LinkStreamId) -> StreamKey {
        self.next = self.next.wrapping_add(1);
        let key = StreamKey(self.next);
        self.by_key.insert(key, Stream { token, id: stream, read: false, written: false });
        self.by_link.insert((token, stream), key);
        key
    }

    fn remove(&mut self, key: StreamKey) -> Option<(LinkToken, LinkStreamId)> {
        let Stream { token, id, .. } = self.by_key.remove(&key)?;
        self.by_link.remove(&(token, id));
        Some((token, id))
    }

    /// Notes the end of one side; with both the stream is over.
    fn end(&mut self, key: StreamKey, side: impl FnOnce(&mut Stream)) {
        if let Some(stream) = self.by_key.get_mut(&key) {
            side(stream);
            if stream.read && stream.written {
                self.remove(key);
            }
        }
    }

    /// Whether the application may still hear of it.
    pub(super) fn is_open(&self, key: StreamKey) -> bool {
        self.by_key.contains_key(&key)
    }

    fn key(&self, token: LinkToken, stream: LinkStreamId) -> Option<StreamKey> {
        self.by_link.get(&(token, stream)).copied()
    }

    fn of_link(&self, token: LinkToken) -> Vec<StreamKey> {
        let range = (token, LinkStreamId(0))..=(token, LinkStreamId(u64::MAX));
        self.by_link.range(range).map(|(_, key)| *key).collect()
    }
}

impl Node {
    /// Opens a byte stream both ways. It ends with the link: a [`Event::StreamReset`] says so.
    ///
    /// # Errors
    /// `Failed` without a link or over `Config::max_streams`.
    pub fn open_stream(&mut self, now: Instant, to: Id) -> Result<StreamKey, CommandError> {
        self.now = now;
        if self.stopping.is_some() {
            return Err(CommandError::Stopped);
        }
        let offline = CommandError::Failed(Reason::Offline);
        let Some(token) = self.remotes.get(&to).and_then(|remote| remote.current) else {
            self.hurry(now, to);
            return Err(offline);
        };
        let entry = self.links.get_mut(token).ok_or(offline)?;
        let stream = entry.link.open_stream(now).map_err(|_| CommandError::Failed(Reason::Full))?;
        self.dirty.insert(token);
        Ok(self.streams.insert(token, stream))
    }

    /// Writes a front part of `data` and returns its length; 0 means blocked until [`Event::StreamWritable`].
    ///
    /// # Errors
    /// `Gone` after its end.
    pub fn stream_write(&mut self, now: Instant, stream: StreamKey, data: &[u8]) -> Result<usize, CommandError> {
        self.now = now;
        let (token, id) = self.place(stream)?;
        let entry = self.links.get_mut(token).ok_or(CommandError::Gone)?;
        let written = entry.link.stream_write(now, id, data).map_err(|_| CommandError::Gone);
        self.dirty.insert(token);
        written
    }

    /// Reads at most `max` bytes; `Ok(None)` means blocked until [`Event::StreamReadable`], an empty piece is the end.
    ///
    /// # Errors
    /// `Gone` after its end.
    pub fn stream_read(&mut self, now: Instant, stream: StreamKey, max: usize) -> Result<Option<Bytes>, CommandError> {
        self.now = now;
        let (token, id) = self.place(stream)?;
        let entry = self.links.get_mut(token).ok_or(CommandError::Gone)?;
        let read = entry.link.stream_read(now, id, max).map_err(|_| CommandError::Gone);
        self.dirty.insert(token);
        if max > 0 && matches!(&read, Ok(Some(bytes)) if bytes.is_empty()) {
            self.streams.end(stream, |stream| stream.read = true);
        }
        read
    }

    /// Ends the writing side.
    ///
    /// # Errors
    /// `Gone` after its end.
    pub fn stream_finish(&mut self, now: Instant, stream: StreamKey) -> Result<(), CommandError> {
        self.now = now;
        let (token, id) = self.place(stream)?;
        let entry = self.links.get_mut(token).ok_or(CommandError::Gone)?;
        let finished = entry.link.stream_finish(now, id).map_err(|_| CommandError::Gone);
        self.dirty.insert(token);
        if finished.is_ok() {
            self.streams.end(stream, |stream| stream.written = true);
        }
        finished
    }

    /// Gives the stream up in both directions. Unknown streams are ignored.
    pub fn stream_reset(&mut self, now: Instant, stream: StreamKey) {
        self.now = now;
        if let Some((token, id)) = self.streams.remove(stream)
            && let Some(entry) = self.links.get_mut(token)
        {
            entry.link.stream_reset(now, id);
            self.dirty.insert(token);
        }
    }

    fn place(&self, stream: StreamKey) -> Result<(LinkToken, LinkStreamId), CommandError> {
        let Stream { token, id, .. } = *self.streams.by_key.get(&stream).ok_or(CommandError::Gone)?;
        Ok((token, id))
    }

    pub(super) fn on_stream_event(&mut self, token: LinkToken, event: LinkEvent<Route>) {
        match event {
            LinkEvent::StreamOpened(id) => {
                let max = self.config.max_streams as usize;
                let Some(entry) = self.links.get_mut(token) else { return };
                let from = match (entry.phase, entry.remote) {
                    (Phase::Admitted, Some(from)) => from,
                    (Phase::Greeting | Phase::Challenging, _) if entry.parked_streams.len() < max => {
                        return entry.parked_streams.push(id);
                    }
                    _ => return,
                };
                let stream = self.streams.insert(token, id);
                self.event(Event::StreamOpened { from, stream });
            }
            LinkEvent::StreamReadable(id) => {
                if let Some(key) = self.streams.key(token, id) {
                    self.event(Event::StreamReadable(key));
                }
            }
            LinkEvent::StreamWritable(id) => {
                if let Some(key) = self.streams.key(token, id) {
                    self.event(Event::StreamWritable(key));
                }
            }
            LinkEvent::StreamReset(id) => {
                if let Some(stream) = self.streams.key(token, id) {
                    self.streams.remove(stream);
                    self.event(Event::StreamReset { stream, reason: Reason::Reset });
                }
            }
            _ => {}
        }
    }

    /// A link's streams end with it.
    pub(super) fn reset_streams(&mut self, token: LinkToken) {
        for stream in self.streams.of_link(token) {
            self.streams.remove(stream);
            self.event(Event::StreamReset { stream, reason: Reason::Reset });
        }
    }
}
