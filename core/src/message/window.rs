//! What fuzzing sees of the frames on a lane.

use bytes::Bytes;

use super::{
    Kind, Violation,
    frame::{self, Assembler, Item},
};

/// What is written to a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// A message of one frame.
    Whole(Kind, Bytes),
    /// A message in parts of at most so many bytes.
    InParts(Kind, Bytes, usize),
    /// A message of so many bytes that is given up after these.
    Aborted(Kind, usize, Bytes),
    /// So many numbers carry nothing.
    Skip(u64),
}

/// What is read from a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// A message.
    Message(Kind, Bytes),
    /// So many numbers carry nothing.
    Skip(u64),
}

/// The bytes of a lane.
pub fn write(written: &[Written]) -> Vec<u8> {
    let mut buf = Vec::new();
    let part = |buf: &mut Vec<u8>, data: &[u8]| {
        frame::put_part(buf, data.len());
        buf.extend_from_slice(data);
    };
    for piece in written {
        match piece {
            Written::Whole(kind, data) => frame::put_whole(&mut buf, kind, data),
            Written::InParts(kind, data, size) => {
                frame::put_in_parts(&mut buf, kind, data.len());
                data.chunks((*size).max(1)).for_each(|data| part(&mut buf, data));
            }
            Written::Aborted(kind, len, data) => {
                frame::put_in_parts(&mut buf, kind, *len);
                if !data.is_empty() {
                    part(&mut buf, data);
                }
                frame::put_abort(&mut buf);
            }
            Written::Skip(count) => frame::put_skip(&mut buf, *count),
        }
    }
    buf
}

/// What `pieces` of a lane hold, and the violation that ended it.
///
/// # Panics
/// If bytes are left over without an item or a violation.
pub fn read(pieces: impl IntoIterator<Item = Bytes>, max_message: usize) -> (Vec<Read>, Option<Violation>) {
    let (mut assembler, mut items) = (Assembler::default(), Vec::new());
    for mut piece in pieces {
        loop {
            match assembler.next(&mut piece, max_message) {
                Ok(Some(Item::Message(kind, data))) => items.push(Read::Message(kind, data)),
                Ok(Some(Item::Skip(count))) => items.push(Read::Skip(count)),
                Ok(None) => break,
                Err(violation) => return (items, Some(violation)),
            }
        }
        assert!(piece.is_empty(), "{} bytes were not taken", piece.len());
    }
    (items, None)
}
