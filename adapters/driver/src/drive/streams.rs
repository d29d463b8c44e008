//! Moves bytes between the application's stream buffers and the node.

use std::{collections::HashMap, sync::Arc, task::Waker, time::Instant};

use bytes::Buf;
use p2pcore::{Id, Reason, node::StreamKey};

use super::machine::Machine;
use crate::{
    ByteStream,
    command::Notice,
    stream::{STREAM_BUFFER, Shared, State},
    tray::Tray,
};

/// The longest piece that is read at once.
const PIECE: usize = 64 * 1024;

/// The streams that the node knows.
#[derive(Default)]
pub(crate) struct Streams(HashMap<StreamKey, Arc<Shared>>);

impl Streams {
    pub(crate) fn add(
        &mut self,
        machine: &mut impl Machine,
        now: Instant,
        remote: Id,
        key: StreamKey,
        notices: Arc<Tray<Notice>>,
    ) -> ByteStream {
        let (stream, shared) = ByteStream::new(remote, key, notices);
        self.0.insert(key, shared);
        // what came with its first packet is there already
        self.serve(machine, now, key);
        stream
    }

    /// Moves what can be moved, in both directions.
    pub(crate) fn serve(&mut self, machine: &mut impl Machine, now: Instant, key: StreamKey) {
        let Some(shared) = self.0.get(&key) else { return };
        let (over, wakers) = {
            let mut state = shared.lock();
            state.noticed = false;
            if state.dropped && !state.finish {
                machine.stream_reset(now, key);
                state.reset = Some(Reason::Reset);
            } else if write(machine, now, key, &mut state).is_err() || read(machine, now, key, &mut state).is_err() {
                state.reset.get_or_insert(Reason::Reset);
            }
            let over = state.reset.is_some() || (state.finished && state.incoming_end);
            (over, wakers(&mut state))
        };
        if over {
            self.0.remove(&key);
        }
        wake(wakers);
    }

    /// It ended before its time.
    pub(crate) fn reset(&mut self, key: StreamKey, reason: Reason) {
        if let Some(shared) = self.0.remove(&key) {
            let wakers = {
                let mut state = shared.lock();
                state.reset = Some(reason);
                state.outgoing.clear();
                state.outgoing_len = 0;
                [state.reader.take(), state.writer.take()]
            };
            wake(wakers);
        }
    }

    /// The node is over.
    pub(crate) fn close(&mut self) {
        let keys: Vec<StreamKey> = self.0.keys().copied().collect();
        for key in keys {
            self.reset(key, Reason::Reset);
        }
    }
}

/// The node no longer knows the stream.
struct Gone;

fn write(machine: &mut impl Machine, now: Instant, key: StreamKey, state: &mut State) -> Result<(), Gone> {
    while let Some(front) = state.outgoing.front_mut() {
        let written = machine.stream_write(now, key, front).map_err(|_| Gone)?;
        if written == 0 {
            return Ok(());
        }
        front.advance(written.min(front.len()));
        state.outgoing_len -= written.min(state.outgoing_len);
        if front.is_empty() {
            state.outgoing.pop_front();
        }
    }
    if state.finish && !state.finished {
        machine.stream_finish(now, key).map_err(|_| Gone)?;
        state.finished = true;
    }
    Ok(())
}

fn read(machine: &mut impl Machine, now: Instant, key: StreamKey, state: &mut State) -> Result<(), Gone> {
    while !state.incoming_end && state.incoming_len < STREAM_BUFFER {
        match machine.stream_read(now, key, PIECE).map_err(|_| Gone)? {
            None => return Ok(()),
            Some(piece) if piece.is_empty() => state.incoming_end = true,
            // nobody will read it: only the end is waited for
            Some(_) if state.dropped => {}
            Some(piece) => {
                state.incoming_len += piece.len();
                state.incoming.push_back(piece);
            }
        }
    }
    Ok(())
}

fn wakers(state: &mut State) -> [Option<Waker>; 2] {
    let readable = !state.incoming.is_empty() || state.incoming_end || state.reset.is_some();
    let writable = state.outgoing_len < STREAM_BUFFER / 2 || state.finished || state.reset.is_some();
    [if readable { state.reader.take() } else { None }, if writable { state.writer.take() } else { None }]
}

fn wake(wakers: [Option<Waker>; 2]) {
    wakers.into_iter().flatten().for_each(Waker::wake);
}
