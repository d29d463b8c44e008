//! The control stream: one preface, then messages behind their lengths.

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The longest control message in bytes; a remote that announces a longer one loses its link.
pub const MAX_CONTROL_MESSAGE: usize = 256 * 1024;

/// Bytes of control messages that may wait for the remote to take them; past it the link is lost.
pub const MAX_CONTROL_QUEUE: usize = 8 * 1024 * 1024;

/// Bytes of control messages that may wait for the node to take them; past it the stream is not read.
const MAX_CONTROL_INBOX: usize = MAX_CONTROL_MESSAGE;

/// The first bytes of a control stream after its kind: where its sender receives probes.
pub(super) const PREFACE_LEN: usize = 8;

/// A remote's control stream broke the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BadControl(pub(super) String);

/// Cuts the bytes of a control stream into its preface and whole messages.
#[derive(Debug, Default)]
pub(super) struct ControlReader {
    partial: BytesMut,
    preface: Option<[u8; PREFACE_LEN]>,
    messages: VecDeque<Bytes>,
    message_bytes: usize,
}

impl ControlReader {
    /// Takes the next bytes in order.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), BadControl> {
        self.partial.extend_from_slice(bytes);
        if self.preface.is_none() {
            let Some(preface) = self.partial.first_chunk().copied() else { return Ok(()) };
            self.partial.advance(PREFACE_LEN);
            self.preface = Some(preface);
        }
        while let Some(len) = self.partial.first_chunk().map(|len| u32::from_be_bytes(*len) as usize) {
            if len > MAX_CONTROL_MESSAGE {
                return Err(BadControl(format!("control message of {len} bytes, at most {MAX_CONTROL_MESSAGE}")));
            }
            if self.partial.len() < 4 + len {
                break;
            }
            self.partial.advance(4);
            self.messages.push_back(self.partial.split_to(len).freeze());
            self.message_bytes += len + 4;
        }
        if self.partial.is_empty() {
            // most links are quiet most of the time
            self.partial = BytesMut::new();
        }
        Ok(())
    }

    pub(super) fn preface(&self) -> Option<[u8; PREFACE_LEN]> {
        self.preface
    }

    /// Whether more bytes may be pushed.
    pub(super) fn has_room(&self) -> bool {
        self.message_bytes < MAX_CONTROL_INBOX
    }

    pub(super) fn has_message(&self) -> bool {
        !self.messages.is_empty()
    }

    pub(super) fn pop(&mut self) -> Option<Bytes> {
        let message = self.messages.pop_front()?;
        self.message_bytes -= message.len() + 4;
        if self.messages.is_empty() {
            self.messages = VecDeque::new();
        }
        Some(message)
    }
}

/// Gathers control messages, so that those of one moment leave in one piece.
#[derive(Debug, Default)]
pub(super) struct ControlWriter {
    buffer: BytesMut,
    /// What QUIC did not take yet, older than `buffer`.
    blocked: Bytes,
}

impl ControlWriter {
    /// Appends raw bytes: the kind of the stream and the preface.
    pub(super) fn push_raw(&mut self, bytes: &[u8]) {
        self.buffer.put_slice(bytes);
    }

    /// Appends a message; `false` if it is too long or too much is waiting.
    pub(super) fn push(&mut self, message: &[u8]) -> bool {
        let waiting = self.buffer.len() + self.blocked.len();
        if message.len() > MAX_CONTROL_MESSAGE || waiting + message.len() > MAX_CONTROL_QUEUE {
            return false;
        }
        let Ok(len) = u32::try_from(message.len()) else { return false };
        self.buffer.reserve(4 + message.len());
        self.buffer.put_u32(len);
        self.buffer.put_slice(message);
        true
    }

    pub(super) fn is_empty(&self) -> bool {
        self.buffer.is_empty() && self.blocked.is_empty()
    }

    /// Hands the bytes to `write`, which leaves in its argument what it cannot take.
    pub(super) fn flush(&mut self, mut write: impl FnMut(&mut Bytes)) {
        while !self.is_empty() {
            if self.blocked.is_empty() {
                self.blocked = self.buffer.split().freeze();
            }
            write(&mut self.blocked);
            if !self.blocked.is_empty() {
                return;
            }
        }
        self.buffer = BytesMut::new();
        self.blocked = Bytes::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(messages: &[&[u8]]) -> Vec<u8> {
        let mut writer = ControlWriter::default();
        writer.push_raw(b"prefaces");
        assert!(messages.iter().all(|message| writer.push(message)));
        let mut bytes = Vec::new();
        writer.flush(|chunk| bytes.extend_from_slice(&chunk.split_off(0)));
        bytes
    }

    #[test]
    fn messages_survive_any_fragmentation() {
        let messages: [&[u8]; 3] = [b"one", b"", &[7; 5000]];
        let bytes = stream(&messages);
        for size in [1, 3, 11, 12, 13, bytes.len()] {
            let mut reader = ControlReader::default();
            bytes.chunks(size).for_each(|chunk| reader.push(chunk).unwrap());
            assert_eq!(reader.preface(), Some(*b"prefaces"));
            for message in messages {
                assert_eq!(reader.pop().unwrap(), message);
            }
            assert_eq!(reader.pop(), None);
        }
    }

    #[test]
    fn a_long_message_is_refused_by_its_length_alone() {
        let mut reader = ControlReader::default();
        reader.push(b"prefaces").unwrap();
        let error = reader.push(&(MAX_CONTROL_MESSAGE as u32 + 1).to_be_bytes()).unwrap_err();
        assert!(error.0.contains("control message"), "{}", error.0);
        assert!(!ControlWriter::default().push(&vec![0; MAX_CONTROL_MESSAGE + 1]));
    }

    #[test]
    fn both_queues_are_bounded() {
        let message = [0; 1000];
        let mut writer = ControlWriter::default();
        let queued = (0..).take_while(|_| writer.push(&message)).count();
        assert!(queued * message.len() <= MAX_CONTROL_QUEUE);

        let mut reader = ControlReader::default();
        reader.push(&stream(&[&message[..]; 3])).unwrap();
        assert!(reader.has_room());
        while reader.has_room() {
            reader.push(&[&1000_u32.to_be_bytes()[..], &message].concat()).unwrap();
        }
        while reader.pop().is_some() {}
        assert!(reader.has_room());
    }

    #[test]
    fn blocked_bytes_go_first() {
        let mut writer = ControlWriter::default();
        writer.push_raw(b"abcdef");
        let mut out = Vec::new();
        writer.flush(|chunk| out.extend_from_slice(&chunk.split_to(2)));
        writer.push_raw(b"gh");
        writer.flush(|chunk| out.extend_from_slice(&chunk.split_off(0)));
        assert_eq!(out, b"abcdefgh");
        assert!(writer.is_empty());
    }
}
