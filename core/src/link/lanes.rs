//! The one-way streams of a link: control and lanes.

use bytes::Bytes;
use quinn_proto::{Connection, Dir, ReadError, StreamId, WriteError};

use super::{
    control::{ControlReader, ControlWriter, PREFACE_LEN},
    transport::MAX_LANES,
};

/// The first byte of a control stream.
const CONTROL: u8 = 0;
/// The first byte of a lane's stream; its number is the second.
const LANE: u8 = 1;

/// The remote broke the rules of its streams, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Violation(pub(super) String);

impl Violation {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// The control streams and the lanes of both sides.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    priority: [i8; MAX_LANES as usize],
    control_out: Option<StreamId>,
    control_in: Option<StreamId>,
    pub(super) writer: ControlWriter,
    pub(super) reader: ControlReader,
    /// By lane, up to the highest that was used, as the next.
    out: Vec<LaneOut>,
    inbound: Vec<Option<StreamId>>,
    /// Streams of the remote whose kind is not read yet; bounded by the limit of one-way streams.
    unknown: Vec<Unknown>,
    pub(super) readable: LaneSet,
    pub(super) writable: LaneSet,
}

#[derive(Debug, Default)]
struct LaneOut {
    id: Option<StreamId>,
    /// The part of the stream's first two bytes that is not written yet.
    header: Bytes,
}

#[derive(Debug)]
struct Unknown {
    id: StreamId,
    is_lane: bool,
}

/// A set of lanes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LaneSet(u16);

impl LaneSet {
    pub(super) fn insert(&mut self, lane: usize) {
        self.0 |= 1_u16.checked_shl(lane as u32).unwrap_or(0);
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Takes the lowest.
    pub(super) fn pop(&mut self) -> Option<u8> {
        let lane = self.0.trailing_zeros();
        self.0 &= self.0.wrapping_sub(1);
        u8::try_from(lane).ok().filter(|lane| *lane < MAX_LANES)
    }
}

impl Lanes {
    pub(super) fn new(priority: [i8; MAX_LANES as usize]) -> Self {
        Self { priority, ..Self::default() }
    }

    /// The connection is up: opens the control stream, which begins with `preface`.
    pub(super) fn start(&mut self, conn: &mut Connection, preface: [u8; PREFACE_LEN]) -> Result<(), Violation> {
        let refused = || Violation::new("no control stream allowed");
        let id = conn.streams().open(Dir::Uni).ok_or_else(refused)?;
        conn.send_stream(id).set_priority(i32::MAX).map_err(|_| refused())?;
        self.control_out = Some(id);
        self.writer.push_raw(&[CONTROL]);
        self.writer.push_raw(&preface);
        Ok(())
    }

    /// Hands waiting control messages to QUIC.
    pub(super) fn flush(&mut self, conn: &mut Connection) {
        let Some(id) = self.control_out else { return };
        self.writer.flush(|bytes| {
            write_all(conn, id, std::slice::from_mut(bytes));
        });
    }

    /// Writes to a lane and returns what did not fit.
    pub(super) fn write(&mut self, conn: &mut Connection, lane: u8, data: Bytes) -> Option<Bytes> {
        let Some(out) = place(&mut self.out, lane) else { return Some(data) };
        let id = match out.id {
            Some(id) => id,
            None => {
                let Some(id) = conn.streams().open(Dir::Uni) else { return Some(data) };
                let priority = self.priority.get(usize::from(lane)).copied().unwrap_or_default();
                let _ = conn.send_stream(id).set_priority(priority.into());
                out.header = Bytes::copy_from_slice(&[LANE, lane]);
                *out.id.insert(id)
            }
        };
        let mut chunks = [std::mem::take(&mut out.header), data];
        write_all(conn, id, &mut chunks);
        let [header, rest] = chunks;
        out.header = header;
        if rest.is_empty() { None } else { Some(rest) }
    }

    /// The next bytes of a lane; `None` if there are none now.
    pub(super) fn read(&mut self, conn: &mut Connection, lane: u8, max: usize) -> Result<Option<Bytes>, Violation> {
        let Some(id) = self.inbound.get(usize::from(lane)).copied().flatten() else { return Ok(None) };
        read(conn, id, max)
    }

    /// New streams of the remote may be there.
    pub(super) fn accept(&mut self, conn: &mut Connection) -> Result<(), Violation> {
        while let Some(id) = conn.streams().accept(Dir::Uni) {
            self.unknown.push(Unknown { id, is_lane: false });
        }
        self.sort_unknown(conn)
    }

    /// The stream `id` has something to read.
    pub(super) fn on_readable(&mut self, conn: &mut Connection, id: StreamId) -> Result<(), Violation> {
        if self.control_in == Some(id) {
            self.read_control(conn)
        } else if let Some(lane) = self.inbound.iter().position(|inbound| *inbound == Some(id)) {
            self.readable.insert(lane);
            Ok(())
        } else {
            self.sort_unknown(conn)
        }
    }

    /// The stream `id` can be written again.
    pub(super) fn on_writable(&mut self, id: StreamId) {
        if let Some(lane) = self.out.iter().position(|out| out.id == Some(id)) {
            self.writable.insert(lane);
        }
    }

    /// Reads control messages while there is room for them.
    pub(super) fn read_control(&mut self, conn: &mut Connection) -> Result<(), Violation> {
        let Some(id) = self.control_in else { return Ok(()) };
        while self.reader.has_room() {
            let Some(bytes) = read(conn, id, usize::MAX)? else { break };
            self.reader.push(&bytes).map_err(|error| Violation(error.0))?;
        }
        Ok(())
    }

    fn sort_unknown(&mut self, conn: &mut Connection) -> Result<(), Violation> {
        let mut waiting = Vec::new();
        for mut stream in std::mem::take(&mut self.unknown) {
            if !self.sort(conn, &mut stream)? {
                waiting.push(stream);
            }
        }
        self.unknown = waiting;
        Ok(())
    }

    /// `false`: its first bytes are not here yet.
    fn sort(&mut self, conn: &mut Connection, stream: &mut Unknown) -> Result<bool, Violation> {
        while let Some(byte) = read(conn, stream.id, 1)?.and_then(|bytes| bytes.first().copied()) {
            if stream.is_lane {
                match place(&mut self.inbound, byte) {
                    Some(place @ None) => *place = Some(stream.id),
                    Some(Some(_)) => return Err(Violation(format!("two streams for lane {byte}"))),
                    None => return Err(Violation(format!("a stream for lane {byte}, which cannot be"))),
                }
                self.readable.insert(usize::from(byte));
                return Ok(true);
            }
            match byte {
                CONTROL if stream.id.index() == 0 => {
                    self.control_in = Some(stream.id);
                    self.read_control(conn)?;
                    return Ok(true);
                }
                CONTROL => return Err(Violation::new("a second control stream")),
                LANE if stream.id.index() > 0 => stream.is_lane = true,
                _ => return Err(Violation(format!("one-way stream {} of kind {byte}", stream.id.index()))),
            }
        }
        Ok(false)
    }
}

/// The place of `lane`, made if it is the first time; `None` for one that cannot be.
fn place<T: Default>(lanes: &mut Vec<T>, lane: u8) -> Option<&mut T> {
    if lane >= MAX_LANES {
        return None;
    }
    let lane = usize::from(lane);
    if lane >= lanes.len() {
        lanes.reserve_exact(lane + 1 - lanes.len());
        lanes.resize_with(lane + 1, T::default);
    }
    lanes.get_mut(lane)
}

/// Writes until all is written or QUIC takes no more and will tell when it does.
fn write_all(conn: &mut Connection, id: StreamId, chunks: &mut [Bytes]) {
    while chunks.iter().any(|chunk| !chunk.is_empty()) {
        match conn.send_stream(id).write_chunks(chunks) {
            Ok(_) => {}
            Err(WriteError::Blocked | WriteError::Stopped(_) | WriteError::ClosedStream) => return,
        }
    }
}

/// The next bytes of a stream that never ends while the link lives.
fn read(conn: &mut Connection, id: StreamId, max: usize) -> Result<Option<Bytes>, Violation> {
    let mut stream = conn.recv_stream(id);
    let ended = || Violation(format!("one-way stream {} ended", id.index()));
    let mut chunks = stream.read(true).map_err(|_| ended())?;
    match chunks.next(max) {
        Ok(Some(chunk)) => Ok(Some(chunk.bytes)),
        Err(ReadError::Blocked) => Ok(None),
        Ok(None) | Err(ReadError::Reset(_)) => Err(ended()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lane_sets_are_emptied_in_order() {
        let mut set = LaneSet::default();
        for lane in [15, 0, 3, 3, 99] {
            set.insert(lane);
        }
        assert_eq!(std::iter::from_fn(|| set.pop()).collect::<Vec<_>>(), [0, 3, 15]);
        assert!(set.is_empty());
    }
}
