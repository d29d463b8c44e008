//! The rolling hash over all inputs and outputs of all nodes, bytes included: two runs are the same if it is.

use std::{fmt::Debug, time::Duration};

use p2pcore::{
    Output,
    node::{Datagram, Event, Transmit},
};

/// BLAKE3 over everything that went into and came out of the nodes, cut to 128 bits.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    hasher: blake3::Hasher,
    text: String,
}

impl Trace {
    /// A datagram went in.
    pub fn datagram(&mut self, at: Duration, process: usize, datagram: &Datagram) {
        let (socket, local) = (datagram.socket, datagram.local_ip);
        self.words(at, process, 'd', &(datagram.remote, socket, local, datagram.ecn, datagram.segment_size));
        self.bytes(&datagram.data);
    }

    /// Anything else went in, or an answer to a command came back.
    pub fn note(&mut self, at: Duration, process: usize, what: &impl Debug) {
        self.words(at, process, 'i', what);
    }

    /// Bytes that belong to the last note.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.hasher.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
    }

    /// A run of datagrams came out.
    pub fn transmit(&mut self, at: Duration, process: usize, transmit: &Transmit, bytes: &[u8]) {
        self.words(at, process, 't', transmit);
        self.bytes(bytes);
    }

    /// An event or an order to persist came out.
    pub fn output(&mut self, at: Duration, process: usize, output: &Output) {
        match output {
            Output::Persist(persist) => {
                self.words(at, process, 'p', &persist.id);
                self.bytes(&persist.state);
            }
            // the bytes of a large message are not worth their text
            Output::Event(Event::Messages { from, name, lane, data, receipt }) => {
                self.words(at, process, 'm', &(from, name, lane, receipt));
                data.iter().for_each(|data| self.bytes(data));
            }
            Output::Event(event) => self.words(at, process, 'e', event),
        }
    }

    /// 32 lower-case hexadecimal digits.
    pub fn hash(&self) -> String {
        self.hasher.finalize().to_hex()[..32].to_owned()
    }

    fn words(&mut self, at: Duration, process: usize, kind: char, what: &impl Debug) {
        use std::fmt::Write;
        self.text.clear();
        let _ = write!(self.text, "{} {process} {kind} {what:?}", at.as_nanos());
        let Self { hasher, text } = self;
        hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_what_happened_moves_the_hash() {
        let hash = |at: u64, process: usize, what: &str, bytes: &[u8]| {
            let mut trace = Trace::default();
            trace.note(Duration::from_nanos(at), process, &what);
            trace.bytes(bytes);
            trace.hash()
        };
        let one = hash(1, 1, "a", b"b");
        assert_eq!(one.len(), 32);
        assert_eq!(one, hash(1, 1, "a", b"b"));
        for other in [hash(2, 1, "a", b"b"), hash(1, 2, "a", b"b"), hash(1, 1, "c", b"b"), hash(1, 1, "a", b"c")] {
            assert_ne!(one, other);
        }
    }
}
