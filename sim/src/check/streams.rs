//! Byte streams: what is read is what was written, from the start, without a gap, and the end comes after the last byte.

use p2pcore::Id;

use super::Breach;
use crate::payload;

/// The reading end of one stream.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    head: Vec<u8>,
    offset: u64,
}

/// The bytes at the start of a stream that say which one it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The number of the stream.
    pub number: u64,
    /// How many bytes follow the head.
    pub len: u64,
    /// Whom it is for.
    pub to: Id,
}

impl Head {
    /// The length in bytes.
    pub const LEN: usize = 16 + Id::LEN;

    /// The bytes.
    pub fn to_bytes(self) -> Vec<u8> {
        [&self.number.to_le_bytes()[..], &self.len.to_le_bytes(), &self.to.to_bytes()].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (number, rest) = bytes.split_first_chunk()?;
        let (len, to) = rest.split_first_chunk()?;
        let (number, len) = (u64::from_le_bytes(*number), u64::from_le_bytes(*len));
        Some(Self { number, len, to: Id::from_bytes(to.try_into().ok()?)? })
    }
}

impl Reading {
    /// Takes what `me` read; returns how many bytes of the body that was.
    ///
    /// # Errors
    /// Not what was written.
    pub fn read(&mut self, me: Id, mut data: &[u8]) -> Result<u64, Breach> {
        let missing = Head::LEN - self.head.len();
        if missing > 0 {
            let (head, rest) = data.split_at(missing.min(data.len()));
            self.head.extend_from_slice(head);
            data = rest;
        }
        let Some(head) = self.head() else {
            let broken = self.head.len() >= Head::LEN;
            return if broken { Err(Breach::new("stream_intact", [me], "the head is broken")) } else { Ok(0) };
        };
        if head.to != me {
            return Err(Breach::new("right_id", [head.to, me], format!("stream {} came to another Id", head.number)));
        }
        let mut expected = Vec::with_capacity(data.len());
        payload::stream(head.number, self.offset, data.len(), &mut expected);
        let end = self.offset + data.len() as u64;
        if expected != data || end > head.len {
            let what = format!("stream {} is not what was written after {} bytes", head.number, self.offset);
            return Err(Breach::new("stream_intact", [me], what));
        }
        self.offset = end;
        Ok(data.len() as u64)
    }

    /// The end was read.
    ///
    /// # Errors
    /// It came too early.
    pub fn ended(&self, me: Id) -> Result<(), Breach> {
        match self.head() {
            Some(head) if head.len == self.offset => Ok(()),
            head => {
                let what = format!("the end came after {} bytes of {head:?}", self.offset);
                Err(Breach::new("stream_intact", [me], what))
            }
        }
    }

    /// Which stream this is, once the head is there.
    pub fn head(&self) -> Option<Head> {
        Head::from_bytes(&self.head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::id;

    fn written() -> Vec<u8> {
        let mut bytes = Head { number: 3, len: 1_000, to: id(2) }.to_bytes();
        payload::stream(3, 0, 1_000, &mut bytes);
        bytes
    }

    #[test]
    fn the_good_way_is_silent_however_it_is_cut() {
        for piece in [1, 7, 33, 34, 2_000] {
            let mut reading = Reading::default();
            let read: u64 = written().chunks(piece).map(|data| reading.read(id(2), data).unwrap()).sum();
            assert_eq!((read, reading.ended(id(2))), (1_000, Ok(())));
        }
    }

    #[test]
    fn a_gap_an_early_end_a_surplus_and_another_id_are_seen() {
        let checker = |me, data: &[u8]| {
            let mut reading = Reading::default();
            reading.read(me, data).and_then(|_| reading.ended(me)).map_err(|breach| breach.checker)
        };
        let bytes = written();
        assert_eq!(checker(id(2), &[&bytes[..100], &bytes[101..]].concat()), Err("stream_intact"));
        assert_eq!(checker(id(2), &bytes[..999]), Err("stream_intact"));
        assert_eq!(checker(id(2), &[]), Err("stream_intact"));
        assert_eq!(checker(id(2), &[&bytes[..], &bytes[..1]].concat()), Err("stream_intact"));
        assert_eq!(checker(id(3), &bytes), Err("right_id"));
    }
}
