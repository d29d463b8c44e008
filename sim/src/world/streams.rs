//! The byte streams of the applications: writers that write as fast as they may, readers that check what they read.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use p2pcore::{Id, node::StreamKey};

use super::World;
use crate::{
    check::{
        Breach, Run,
        streams::{Head, Reading},
    },
    payload,
};

/// All open streams, by their ends.
#[derive(Debug, Default)]
pub(super) struct Streams {
    next: u64,
    ends: BTreeMap<(Run, StreamKey), End>,
    progress: BTreeMap<u64, Progress>,
}

#[derive(Debug)]
enum End {
    Writing { head: Head, offset: u64, finished: bool },
    Reading { from: Id, reading: Reading },
}

/// How far a stream has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes read, the head left out.
    pub read: u64,
    /// Bytes read in each second of virtual time since the start.
    pub per_second: Vec<u64>,
    /// When something was last read.
    pub last: Duration,
    /// The longest time between two reads.
    pub longest_stall: Duration,
    /// The end was read, after the last byte.
    pub complete: bool,
    /// The stream was reset at either end.
    pub reset: bool,
    started: Duration,
}

impl Progress {
    fn advance(&mut self, now: Duration, bytes: u64) {
        let second = (now - self.started).as_secs() as usize;
        if self.per_second.len() <= second {
            self.per_second.resize(second + 1, 0);
        }
        self.per_second[second] += bytes;
        self.longest_stall = self.longest_stall.max(now - self.last);
        self.read += bytes;
        self.last = now;
    }
}

impl Streams {
    pub(super) fn opened(&mut self, run: Run, from: Id, stream: StreamKey) {
        self.ends.insert((run, stream), End::Reading { from, reading: Reading::default() });
    }

    pub(super) fn reset(&mut self, run: Run, stream: StreamKey) {
        let end = self.ends.remove(&(run, stream));
        if let Some(number) = end.and_then(|end| end.number())
            && let Some(progress) = self.progress.get_mut(&number)
            && !progress.complete
        {
            progress.reset = true;
        }
    }

    pub(super) fn died(&mut self, run: Run) {
        let ends: Vec<StreamKey> = self.ends.keys().filter(|(of, _)| *of == run).map(|(_, stream)| *stream).collect();
        ends.into_iter().for_each(|stream| self.reset(run, stream));
    }

    /// Who has streams that have not come to an end, while nothing was read for a while of any stream between those two:
    /// more streams than may be open at a time wait for each other.
    pub(super) fn stuck(&self, now: Duration) -> Vec<Run> {
        const WHILE: Duration = Duration::from_secs(10);
        let moves = |end: &End| {
            let progress = end.number().and_then(|number| self.progress.get(&number));
            progress.is_some_and(|progress| now - progress.last < WHILE)
        };
        let pair = |run: &Run, end: &End| (*run, end.is_writing(), end.other());
        let moving: BTreeSet<_> =
            self.ends.iter().filter(|(_, end)| moves(end)).map(|((run, _), end)| pair(run, end)).collect();
        self.ends.iter().filter(|((run, _), end)| !moving.contains(&pair(run, end))).map(|((run, _), _)| *run).collect()
    }

    pub(super) fn progress(&self, number: u64) -> Option<&Progress> {
        self.progress.get(&number)
    }
}

impl End {
    fn is_writing(&self) -> bool {
        matches!(self, Self::Writing { .. })
    }

    /// The node at the other end.
    fn other(&self) -> Id {
        match self {
            Self::Writing { head, .. } => head.to,
            Self::Reading { from, .. } => *from,
        }
    }

    fn number(&self) -> Option<u64> {
        match self {
            Self::Writing { head, .. } => Some(head.number),
            Self::Reading { reading, .. } => reading.head().map(|head| head.number),
        }
    }
}

impl World {
    const PIECE: usize = 64 * 1_024;

    /// Opens a stream of `len` bytes; returns its number if the node did.
    pub(super) fn app_streams(&mut self, number: usize, to: Id, len: u64) -> Option<u64> {
        let run = self.processes[number].run()?;
        let now = self.instant(number);
        self.trace.note(self.now, number, &("open stream", to, len));
        let result = self.processes[number].machine.as_deref_mut()?.open_stream(now, to);
        self.trace.note(self.now, number, &result);
        let key = result.ok()?;
        self.streams.next += 1;
        let head = Head { number: self.streams.next, len, to };
        let progress = Progress { started: self.now, last: self.now, ..Progress::default() };
        self.streams.progress.insert(head.number, progress);
        self.streams.ends.insert((run, key), End::Writing { head, offset: 0, finished: false });
        self.write_stream(number, key);
        Some(head.number)
    }

    pub(super) fn write_stream(&mut self, number: usize, key: StreamKey) {
        let Some(run) = self.processes[number].run() else { return };
        let now = self.instant(number);
        let mut piece = Vec::new();
        while let Some(End::Writing { head, offset, finished: false }) = self.streams.ends.get(&(run, key)) {
            let (head, offset) = (*head, *offset);
            let Some(machine) = &mut self.processes[number].machine else { return };
            let body = offset.saturating_sub(Head::LEN as u64);
            piece.clear();
            if offset < Head::LEN as u64 {
                piece.extend_from_slice(&head.to_bytes()[offset as usize..]);
            } else {
                let len = (head.len - body).min(Self::PIECE as u64);
                payload::stream(head.number, body, len as usize, &mut piece);
            }
            let whole = piece.is_empty();
            let written = if whole {
                machine.stream_finish(now, key).map(|()| 0)
            } else {
                machine.stream_write(now, key, &piece)
            };
            match (written, self.streams.ends.get_mut(&(run, key))) {
                (Ok(_), Some(End::Writing { finished, .. })) if whole => *finished = true,
                (Ok(count @ 1..), Some(End::Writing { offset, .. })) => *offset += count as u64,
                (Ok(_), _) => break,
                (Err(_), _) => {
                    self.streams.reset(run, key);
                    break;
                }
            }
        }
        self.touched(number);
    }

    pub(super) fn read_stream(&mut self, number: usize, key: StreamKey) {
        let (me, Some(run)) = (self.processes[number].id(), self.processes[number].run()) else { return };
        let now = self.instant(number);
        while let Some(machine) = &mut self.processes[number].machine {
            let data = match machine.stream_read(now, key, Self::PIECE) {
                Ok(Some(data)) => data,
                Ok(None) => break,
                Err(_) => {
                    self.streams.reset(run, key);
                    break;
                }
            };
            self.trace.note(self.now, number, &key);
            self.trace.bytes(&data);
            let ended = data.is_empty();
            let result = match self.streams.ends.get_mut(&(run, key)) {
                Some(End::Reading { reading, .. }) if ended => {
                    // the way back is empty: it ends too
                    let _ = machine.stream_finish(now, key);
                    reading.ended(me).map(|()| 0)
                }
                Some(End::Reading { reading, .. }) => reading.read(me, &data),
                Some(End::Writing { .. }) if ended => Ok(0),
                Some(End::Writing { .. }) => Err(Breach::new("stream_intact", [me], "bytes that nobody wrote")),
                None => Err(Breach::new("stream_intact", [me], "something to read on a stream that is over")),
            };
            let (read, failed) = match result {
                Ok(read) => (read, false),
                Err(mut breach) => {
                    if let Some(End::Reading { from, .. }) = self.streams.ends.get(&(run, key)) {
                        breach.nodes.push(*from);
                    }
                    self.report(breach);
                    (0, true)
                }
            };
            self.advance_stream(run, key, read, ended && !failed);
            if ended || failed {
                break;
            }
        }
        self.touched(number);
    }

    fn advance_stream(&mut self, run: Run, key: StreamKey, read: u64, complete: bool) {
        let now = self.now;
        let Streams { ends, progress, .. } = &mut self.streams;
        let Some(end) = ends.get(&(run, key)) else { return };
        if let (End::Reading { .. }, Some(number)) = (end, end.number())
            && let Some(progress) = progress.get_mut(&number)
        {
            progress.complete |= complete;
            progress.advance(now, read);
        }
        if complete {
            ends.remove(&(run, key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::id;

    #[test]
    fn a_stream_is_stuck_only_if_none_between_the_same_two_moves() {
        let run = Run { process: 0, run: 1 };
        let mut streams = Streams::default();
        for (number, to, last) in [(1, id(1), 95), (2, id(1), 10), (3, id(2), 10)] {
            let head = Head { number, len: 9, to };
            streams.ends.insert((run, StreamKey(number)), End::Writing { head, offset: 0, finished: false });
            let last = Duration::from_secs(last);
            streams.progress.insert(number, Progress { last, ..Progress::default() });
        }
        let stuck = |streams: &Streams| streams.stuck(Duration::from_secs(100)).len();
        assert_eq!(stuck(&streams), 1, "that to another node");
        streams.ends.remove(&(run, StreamKey(1)));
        assert_eq!(stuck(&streams), 2);
    }
}
