//! Byte streams: the application's keys for the streams of the links.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use bytes::Bytes;

use super::{Event, Node, Route, StreamKey, Timer, links::Phase};
use crate::{
    CommandError, Id, Reason,
    deadline::Deadlines,
    link::{LinkEvent, LinkStreamId, LinkToken, StreamError},
};

/// A stream as the application sees it: over once both sides have ended.
#[derive(Clone, Copy, Debug)]
struct Stream {
    place: Place,
    read: bool,
    written: bool,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    /// Until there is a link to this node.
    Waiting(Id),
    Link(LinkToken, LinkStreamId),
}

/// Both directions of the mapping, and the streams that wait for a link.
#[derive(Debug, Default)]
pub(super) struct StreamTable {
    next: u64,
    by_key: BTreeMap<StreamKey, Stream>,
    by_link: BTreeMap<(LinkToken, LinkStreamId), StreamKey>,
    waiting: BTreeSet<(Id, StreamKey)>,
    /// How long each may wait.
    due: Deadlines<StreamKey>,
}

impl StreamTable {
    fn insert(&mut self, token: LinkToken, stream: LinkStreamId) -> StreamKey {
        let key = self.fresh();
        self.by_key.insert(key, Stream { place: Place::Link(token, stream), read: false, written: false });
        self.by_link.insert((token, stream), key);
        key
    }

    fn insert_waiting(&mut self, to: Id, until: Instant) -> StreamKey {
        let key = self.fresh();
        self.by_key.insert(key, Stream { place: Place::Waiting(to), read: false, written: false });
        self.waiting.insert((to, key));
        self.due.set(key, Some(until));
        key
    }

    fn fresh(&mut self) -> StreamKey {
        self.next = self.next.wrapping_add(1);
        StreamKey(self.next)
    }

    /// A stream that waited is on a link now.
    fn settle(&mut self, key: StreamKey, token: LinkToken, id: LinkStreamId) {
        let Some(stream) = self.by_key.get_mut(&key) else { return };
        if let Place::Waiting(to) = std::mem::replace(&mut stream.place, Place::Link(token, id)) {
            self.waiting.remove(&(to, key));
            self.due.set(key, None);
        }
        self.by_link.insert((token, id), key);
    }

    fn remove(&mut self, key: StreamKey) -> Option<Place> {
        let place = self.by_key.remove(&key)?.place;
        match place {
            Place::Waiting(to) => {
                self.waiting.remove(&(to, key));
                self.due.set(key, None);
            }
            Place::Link(token, id) => {
                self.by_link.remove(&(token, id));
            }
        }
        Some(place)
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

    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether the application may still hear of it.
    pub(super) fn is_open(&self, key: StreamKey) -> bool {
        self.by_key.contains_key(&key)
    }

    fn key(&self, token: LinkToken, stream: LinkStreamId) -> Option<StreamKey> {
        self.by_link.get(&(token, stream)).copied()
    }

    /// Whether a stream waits for a link to `id`.
    pub(super) fn waits_for(&self, id: &Id) -> bool {
        self.waiting_for(*id).next().is_some()
    }

    fn waiting_for(&self, id: Id) -> impl Iterator<Item = StreamKey> {
        self.waiting.range((id, StreamKey(0))..=(id, StreamKey(u64::MAX))).map(|(_, key)| *key)
    }

    /// Whether any stream is open on that link.
    pub(super) fn is_used(&self, token: LinkToken) -> bool {
        let range = (token, LinkStreamId(0))..=(token, LinkStreamId(u64::MAX));
        self.by_link.range(range).next().is_some()
    }

    fn of_link(&self, token: LinkToken) -> Vec<StreamKey> {
        let range = (token, LinkStreamId(0))..=(token, LinkStreamId(u64::MAX));
        self.by_link.range(range).map(|(_, key)| *key).collect()
    }
}

impl Node {
    /// Opens a byte stream both ways. Without a link one is made, and until then nothing can be written; if none comes
    /// within `Config::stream_open_timeout`, or when the link ends, a [`Event::StreamReset`] says so.
    ///
    /// # Errors
    /// `Failed` if the tables do not show `to`, or over `Config::max_streams` or `Config::max_waiting_streams`.
    pub fn open_stream(&mut self, now: Instant, to: Id) -> Result<StreamKey, CommandError> {
        self.now = now;
        if self.stopping.is_some() {
            return Err(CommandError::Stopped);
        }
        if to == self.id() {
            return Err(CommandError::BadDestinations);
        }
        self.reachable(now, &to).map_err(CommandError::Failed)?;
        let full = CommandError::Failed(Reason::Full);
        if let Some(token) = self.remotes.get(&to).filter(|remote| !remote.resting).and_then(|remote| remote.current)
            && let Some(entry) = self.links.get_mut(token)
        {
            let stream = entry.link.open_stream(now).map_err(|_| full)?;
            self.dirty.insert(token);
            return Ok(self.streams.insert(token, stream));
        }
        let of_one = self.streams.waiting_for(to).count();
        if of_one >= self.config.max_streams as usize || self.streams.waiting.len() >= self.config.max_waiting_streams {
            return Err(full);
        }
        let key = self.streams.insert_waiting(to, now + self.config.stream_open_timeout);
        self.schedule_waiting();
        self.want_link(now, to);
        Ok(key)
    }

    /// The link that streams have waited for is there.
    pub(super) fn open_waiting_streams(&mut self, now: Instant, token: LinkToken, to: Id) {
        let waiting: Vec<StreamKey> = self.streams.waiting_for(to).collect();
        for key in waiting {
            let Some(entry) = self.links.get_mut(token).filter(|entry| entry.phase == Phase::Admitted) else { return };
            match entry.link.open_stream(now) {
                Ok(id) => {
                    if self.streams.by_key.get(&key).is_some_and(|stream| stream.written) {
                        // it was ended before anything could be written
                        let _ = entry.link.stream_finish(now, id);
                    }
                    self.streams.settle(key, token, id);
                    self.event(Event::StreamWritable(key));
                }
                Err(StreamError::TooMany) => self.reset_stream(key, Reason::Full),
                Err(StreamError::Gone) => break,
            }
            self.dirty.insert(token);
        }
        self.schedule_waiting();
    }

    /// There will be no link to `to`.
    pub(super) fn fail_waiting_streams(&mut self, to: Id, reason: Reason) {
        let waiting: Vec<StreamKey> = self.streams.waiting_for(to).collect();
        waiting.into_iter().for_each(|key| self.reset_stream(key, reason));
        self.schedule_waiting();
    }

    /// This node stops.
    pub(super) fn reset_all_streams(&mut self) {
        let all: Vec<StreamKey> = self.streams.by_key.keys().copied().collect();
        all.into_iter().for_each(|key| self.reset_stream(key, Reason::Reset));
        self.schedule_waiting();
    }

    /// No link has come in time.
    pub(super) fn waiting_streams_due(&mut self, now: Instant) {
        while let Some(key) = self.streams.due.pop_due(now) {
            self.reset_stream(key, Reason::Timeout);
        }
        self.schedule_waiting();
    }

    fn schedule_waiting(&mut self) {
        self.timers.set(Timer::WaitingStreams, self.streams.due.next().map(|(at, _)| at));
    }

    fn reset_stream(&mut self, stream: StreamKey, reason: Reason) {
        if let Some(place) = self.streams.remove(stream) {
            self.lost_interest(place);
            self.event(Event::StreamReset { stream, reason });
        }
    }

    /// A stream that waited for a link has ended.
    fn lost_interest(&mut self, place: Place) {
        if let Place::Waiting(to) = place {
            self.watching.touch(to);
        }
    }

    /// Writes a front part of `data` and returns its length; 0 means blocked until [`Event::StreamWritable`].
    ///
    /// # Errors
    /// `Gone` after its end.
    pub fn stream_write(&mut self, now: Instant, stream: StreamKey, data: &[u8]) -> Result<usize, CommandError> {
        self.now = now;
        let (token, id) = match self.place(stream)? {
            Place::Link(token, id) => (token, id),
            Place::Waiting(_) if self.streams.by_key.get(&stream).is_some_and(|stream| stream.written) => {
                return Err(CommandError::Gone);
            }
            Place::Waiting(_) => return Ok(0),
        };
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
        let Place::Link(token, id) = self.place(stream)? else { return Ok(None) };
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
        let Place::Link(token, id) = self.place(stream)? else {
            self.streams.end(stream, |stream| stream.written = true);
            return Ok(());
        };
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
        match self.streams.remove(stream) {
            Some(Place::Link(token, id)) => {
                if let Some(entry) = self.links.get_mut(token) {
                    entry.link.stream_reset(now, id);
                    self.dirty.insert(token);
                }
            }
            Some(place @ Place::Waiting(_)) => {
                self.lost_interest(place);
                self.schedule_waiting();
            }
            None => {}
        }
    }

    fn place(&self, stream: StreamKey) -> Result<Place, CommandError> {
        self.streams.by_key.get(&stream).map(|stream| stream.place).ok_or(CommandError::Gone)
    }

    pub(super) fn on_stream_event(&mut self, token: LinkToken, event: LinkEvent<Route>) {
        if self.stopping.is_some() {
            return;
        }
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
                    self.reset_stream(stream, Reason::Reset);
                }
            }
            _ => {}
        }
    }

    /// A link's streams end with it.
    pub(super) fn reset_streams(&mut self, token: LinkToken) {
        for stream in self.streams.of_link(token) {
            self.reset_stream(stream, Reason::Reset);
        }
    }
}
