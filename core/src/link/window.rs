//! What fuzzing sees of the control stream.

use bytes::Bytes;

use super::control::{ControlReader, ControlWriter, PREFACE_LEN};

/// The control stream behind its kind.
pub fn write(preface: [u8; PREFACE_LEN], messages: &[Bytes]) -> Option<Vec<u8>> {
    let mut writer = ControlWriter::default();
    writer.push_raw(&preface);
    if !messages.iter().all(|message| writer.push(message)) {
        return None;
    }
    let mut bytes = Vec::new();
    writer.flush(|chunk| bytes.extend_from_slice(&chunk.split_off(0)));
    Some(bytes)
}

/// The preface and the messages in `pieces` of a control stream, and what is wrong with the next one.
pub fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Option<[u8; PREFACE_LEN]>, Vec<Bytes>, Option<String>) {
    let mut reader = ControlReader::default();
    let bad = pieces.into_iter().find_map(|piece| reader.push(piece).err());
    let messages = std::iter::from_fn(|| reader.pop()).collect();
    (reader.preface(), messages, bad.map(|bad| bad.0))
}
