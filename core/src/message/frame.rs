//! What a lane's stream carries: a run of frames, numbered by their order alone. The layout is in docs/messages.md.

use bytes::Bytes;

use super::{FENCE_LEN, Fence, Kind, Violation};
use crate::Reason;

/// A message up to this many bytes is one frame, copied beside its neighbours; a longer one goes in parts.
pub(super) const MAX_WHOLE: usize = 16 * 1024;
/// The longest head of a frame: tag, request id, fence, length.
pub(super) const MAX_HEAD: usize = MAX_PLAIN_HEAD + FENCE_LEN;
/// The same without a fence.
pub(super) const MAX_PLAIN_HEAD: usize = 1 + MAX_VARINT + MAX_VARINT;
/// More numbers than this are never skipped at once: no sender has had so many in flight.
pub(super) const MAX_SKIP: u64 = 1 << 32;

const MAX_VARINT: usize = 10;

const MESSAGE: u8 = 1;
const REQUEST: u8 = 2;
const REPLY: u8 = 3;
const REFUSAL: u8 = 4;
const SKIP: u8 = 5;
const PART: u8 = 6;
const ABORT: u8 = 7;
const MASTER_MESSAGE: u8 = 8;
const MASTER_REQUEST: u8 = 9;
/// Set on a frame with a payload: that follows in PARTs.
const IN_PARTS: u8 = 0x10;

/// About how many bytes the head takes, to size a buffer.
pub(super) const fn head_estimate(kind: &Kind) -> usize {
    match kind {
        Kind::Message => 4,
        Kind::Request { .. } | Kind::Reply { .. } => MAX_PLAIN_HEAD,
        Kind::MasterMessage { .. } | Kind::MasterRequest { .. } => MAX_HEAD,
    }
}

/// Appends a message of one frame.
pub(super) fn put_whole(buf: &mut Vec<u8>, kind: &Kind, data: &Bytes) {
    let refusal = matches!(kind, Kind::Reply { result: Err(_), .. });
    put_kind(buf, kind, 0);
    if !refusal {
        put_varint(buf, data.len() as u64);
        buf.extend_from_slice(data);
    }
}

/// Appends the head of a message that comes in parts.
pub(super) fn put_in_parts(buf: &mut Vec<u8>, kind: &Kind, len: usize) {
    put_kind(buf, kind, IN_PARTS);
    put_varint(buf, len as u64);
}

/// Appends the head of a part; its `len` bytes follow.
pub(super) fn put_part(buf: &mut Vec<u8>, len: usize) {
    buf.push(PART);
    put_varint(buf, len as u64);
}

/// Appends: the next `count` numbers carry nothing.
pub(super) fn put_skip(buf: &mut Vec<u8>, count: u64) {
    buf.push(SKIP);
    put_varint(buf, count);
}

/// Appends: the message that was coming in parts is given up; its number is not used up.
pub(super) fn put_abort(buf: &mut Vec<u8>) {
    buf.push(ABORT);
}

fn put_kind(buf: &mut Vec<u8>, kind: &Kind, flag: u8) {
    match *kind {
        Kind::Message => buf.push(MESSAGE | flag),
        Kind::Request { rid } => {
            buf.push(REQUEST | flag);
            put_varint(buf, rid);
        }
        Kind::MasterMessage { rid, fence } => put_to_master(buf, MASTER_MESSAGE | flag, rid, &fence),
        Kind::MasterRequest { rid, fence } => put_to_master(buf, MASTER_REQUEST | flag, rid, &fence),
        Kind::Reply { rid, result: Ok(()) } => {
            buf.push(REPLY | flag);
            put_varint(buf, rid);
        }
        Kind::Reply { rid, result: Err(reason) } => {
            buf.push(REFUSAL);
            put_varint(buf, rid);
            buf.push(reason_code(reason));
        }
    }
}

fn put_to_master(buf: &mut Vec<u8>, tag: u8, rid: u64, fence: &Fence) {
    buf.push(tag);
    put_varint(buf, rid);
    buf.extend_from_slice(fence);
}

fn put_varint(buf: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        buf.push(value as u8 | 0x80);
        value >>= 7;
    }
    buf.push(value as u8);
}

/// One complete unit of a lane.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// The message of the next number.
    Message(Kind, Bytes),
    /// So many numbers carry nothing.
    Skip(u64),
}

/// Puts a lane's bytes together again, however they were cut.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    /// A head that is not complete yet; shorter than `MAX_HEAD`.
    head: Vec<u8>,
    body: Option<Body>,
}

#[derive(Debug)]
struct Body {
    kind: Kind,
    len: usize,
    /// Grows with what has come, never by what was announced.
    data: Vec<u8>,
    /// Bytes of the current frame that are still to come.
    missing: usize,
}

impl Assembler {
    /// Takes bytes off `input` until an item is complete (`Some`) or `input` is empty.
    pub(super) fn next(&mut self, input: &mut Bytes, max_message: usize) -> Result<Option<Item>, Violation> {
        loop {
            if let Some(body) = &mut self.body
                && body.missing > 0
            {
                if body.data.is_empty() && body.missing == body.len && input.len() >= body.len {
                    let message = Item::Message(body.kind, input.split_to(body.len));
                    self.body = None;
                    return Ok(Some(message));
                }
                body.take(input);
                if body.missing > 0 {
                    return Ok(None);
                }
                if body.data.len() == body.len {
                    return Ok(self.body.take().map(|body| Item::Message(body.kind, body.data.into())));
                }
            }
            let Some(head) = self.head(input)? else { return Ok(None) };
            if let Some(item) = self.begin(head, max_message)? {
                return Ok(Some(item));
            }
        }
    }

    /// Bytes of a message that is not complete.
    pub(super) fn held(&self) -> usize {
        self.body.as_ref().map_or(0, |body| body.data.len())
    }

    fn begin(&mut self, head: Head, max_message: usize) -> Result<Option<Item>, Violation> {
        match (head, &mut self.body) {
            (Head::Whole(kind, len), None) => {
                let len = checked_len(len, max_message)?;
                if len == 0 {
                    return Ok(Some(Item::Message(kind, Bytes::new())));
                }
                self.body = Some(Body { kind, len, data: Vec::new(), missing: len });
            }
            (Head::InParts(kind, len), None) => {
                let len = checked_len(len, max_message)?;
                if len == 0 {
                    return Err(Violation("an empty message in parts"));
                }
                self.body = Some(Body { kind, len, data: Vec::new(), missing: 0 });
            }
            (Head::Part(len), Some(body)) => {
                let len = usize::try_from(len).unwrap_or(usize::MAX);
                if len == 0 || len > body.len.saturating_sub(body.data.len()) {
                    return Err(Violation("a part that does not fit its message"));
                }
                body.missing = len;
            }
            (Head::Abort, Some(_)) => self.body = None,
            (Head::Skip(count), None) if (1..=MAX_SKIP).contains(&count) => return Ok(Some(Item::Skip(count))),
            (Head::Skip(_), None) => return Err(Violation("a skip of no message or of too many")),
            (Head::Part(_) | Head::Abort, None) => return Err(Violation("a part of no message")),
            (_, Some(_)) => return Err(Violation("a frame between the parts of a message")),
        }
        Ok(None)
    }

    fn head(&mut self, input: &mut Bytes) -> Result<Option<Head>, Violation> {
        if self.head.is_empty() {
            if let Some((head, len)) = parse(input)? {
                drop(input.split_to(len));
                return Ok(Some(head));
            }
            self.head.extend_from_slice(&input.split_off(0));
            return Ok(None);
        }
        let old = self.head.len();
        let take = input.len().min(MAX_HEAD.saturating_sub(old));
        self.head.extend(input.iter().take(take));
        match parse(&self.head)? {
            Some((head, len)) => {
                drop(input.split_to(len.saturating_sub(old).min(input.len())));
                self.head.clear();
                Ok(Some(head))
            }
            None => {
                drop(input.split_to(take));
                Ok(None)
            }
        }
    }
}

impl Body {
    fn take(&mut self, input: &mut Bytes) {
        let take = self.missing.min(input.len());
        if self.data.capacity() - self.data.len() < take {
            let left = self.len.saturating_sub(self.data.len());
            self.data.reserve_exact(left.min(take.max(self.data.len()).max(MAX_WHOLE)));
        }
        self.data.extend_from_slice(&input.split_to(take));
        self.missing -= take;
    }
}

fn checked_len(len: u64, max_message: usize) -> Result<usize, Violation> {
    usize::try_from(len)
        .ok()
        .filter(|len| *len <= max_message)
        .ok_or(Violation("a message over the limit: max_message must be the same at both ends"))
}

#[derive(Debug)]
enum Head {
    Whole(Kind, u64),
    InParts(Kind, u64),
    Part(u64),
    Skip(u64),
    Abort,
}

/// The head at the front of `bytes` and its length; `None` if it goes on behind them.
fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, Violation> {
    let mut reader = Reader { bytes, at: 0 };
    match reader.head() {
        Ok(head) => Ok(Some((head, reader.at))),
        Err(Stop::Short) => Ok(None),
        Err(Stop::Bad(violation)) => Err(violation),
    }
}

enum Stop {
    Short,
    Bad(Violation),
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn head(&mut self) -> Result<Head, Stop> {
        let tag = self.byte()?;
        Ok(match tag {
            SKIP => Head::Skip(self.varint()?),
            PART => Head::Part(self.varint()?),
            ABORT => Head::Abort,
            REFUSAL => {
                let rid = self.varint()?;
                let reason = reason_from_code(self.byte()?);
                Head::Whole(Kind::Reply { rid, result: Err(reason) }, 0)
            }
            _ => {
                let kind = match tag & !IN_PARTS {
                    MESSAGE => Kind::Message,
                    REQUEST => Kind::Request { rid: self.varint()? },
                    REPLY => Kind::Reply { rid: self.varint()?, result: Ok(()) },
                    MASTER_MESSAGE => Kind::MasterMessage { rid: self.varint()?, fence: self.fence()? },
                    MASTER_REQUEST => Kind::MasterRequest { rid: self.varint()?, fence: self.fence()? },
                    _ => return Err(Stop::Bad(Violation("an unknown frame"))),
                };
                let len = self.varint()?;
                if tag & IN_PARTS == 0 { Head::Whole(kind, len) } else { Head::InParts(kind, len) }
            }
        })
    }

    fn fence(&mut self) -> Result<Fence, Stop> {
        let end = self.at.saturating_add(FENCE_LEN);
        let bytes = self.bytes.get(self.at..end).ok_or(Stop::Short)?;
        self.at = end;
        bytes.try_into().map_err(|_| Stop::Short)
    }

    fn byte(&mut self) -> Result<u8, Stop> {
        let byte = *self.bytes.get(self.at).ok_or(Stop::Short)?;
        self.at += 1;
        Ok(byte)
    }

    fn varint(&mut self) -> Result<u64, Stop> {
        let mut value = 0u64;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits.leading_zeros() < shift {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Stop::Bad(Violation("a number over 64 bits")))
    }
}

const fn reason_code(reason: Reason) -> u8 {
    match reason {
        Reason::UnknownId => 1,
        Reason::Offline => 2,
        Reason::Suspended => 3,
        Reason::TooLarge => 4,
        Reason::Full => 5,
        Reason::Timeout => 6,
        Reason::Refused => 7,
        Reason::Reset => 8,
        Reason::UnknownOutcome => 9,
        Reason::MasterChanged => 10,
        Reason::NoMaster => 11,
        Reason::DuplicateIdentity => 12,
    }
}

/// A reason of a later version is still a refusal.
const fn reason_from_code(code: u8) -> Reason {
    match code {
        1 => Reason::UnknownId,
        2 => Reason::Offline,
        3 => Reason::Suspended,
        4 => Reason::TooLarge,
        5 => Reason::Full,
        6 => Reason::Timeout,
        8 => Reason::Reset,
        9 => Reason::UnknownOutcome,
        10 => Reason::MasterChanged,
        11 => Reason::NoMaster,
        12 => Reason::DuplicateIdentity,
        _ => Reason::Refused,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 100_000;

    /// The items in `pieces`, and the violation that ended them.
    fn assemble(pieces: impl IntoIterator<Item = Bytes>) -> (Vec<Item>, Option<Violation>) {
        let (mut assembler, mut items) = (Assembler::default(), Vec::new());
        for mut piece in pieces {
            loop {
                match assembler.next(&mut piece, MAX) {
                    Ok(Some(item)) => items.push(item),
                    Ok(None) => break,
                    Err(violation) => return (items, Some(violation)),
                }
            }
            assert!(piece.is_empty());
            assert!(assembler.head.len() < MAX_HEAD);
        }
        (items, None)
    }

    fn violates(bytes: &[u8]) -> bool {
        assemble([Bytes::copy_from_slice(bytes)]).1.is_some()
    }

    #[test]
    fn frames_keep_their_bytes() {
        let refused = Kind::Reply { rid: 1, result: Err(Reason::Refused) };
        let mut buf = Vec::new();
        put_whole(&mut buf, &Kind::Message, &Bytes::from_static(b"hi"));
        put_whole(&mut buf, &Kind::Request { rid: 300 }, &Bytes::new());
        put_whole(&mut buf, &Kind::Reply { rid: 127, result: Ok(()) }, &Bytes::from_static(b"x"));
        put_whole(&mut buf, &refused, &Bytes::new());
        put_skip(&mut buf, 128);
        put_in_parts(&mut buf, &Kind::Message, 3);
        put_part(&mut buf, 2);
        buf.extend_from_slice(b"ab");
        put_part(&mut buf, 1);
        buf.extend_from_slice(b"c");
        put_in_parts(&mut buf, &Kind::Request { rid: 2 }, 9);
        put_abort(&mut buf);
        let fence = [b'f'; FENCE_LEN];
        put_whole(&mut buf, &Kind::MasterMessage { rid: 2, fence }, &Bytes::from_static(b"y"));
        put_in_parts(&mut buf, &Kind::MasterRequest { rid: 3, fence }, 1);
        put_part(&mut buf, 1);
        buf.extend_from_slice(b"z");
        let bytes = [
            &b"\x01\x02hi\x02\xac\x02\x00\x03\x7f\x01x\x04\x01\x07"[..],
            b"\x05\x80\x01\x11\x03\x06\x02ab\x06\x01c\x12\x02\x09\x07",
            b"\x08\x02ffffffffffffffffffffffffffffffffff\x01y",
            b"\x19\x03ffffffffffffffffffffffffffffffffff\x01\x06\x01z",
        ]
        .concat();
        assert_eq!(buf, bytes);
        let items = [
            Item::Message(Kind::Message, Bytes::from_static(b"hi")),
            Item::Message(Kind::Request { rid: 300 }, Bytes::new()),
            Item::Message(Kind::Reply { rid: 127, result: Ok(()) }, Bytes::from_static(b"x")),
            Item::Message(refused, Bytes::new()),
            Item::Skip(128),
            Item::Message(Kind::Message, Bytes::from_static(b"abc")),
            Item::Message(Kind::MasterMessage { rid: 2, fence }, Bytes::from_static(b"y")),
            Item::Message(Kind::MasterRequest { rid: 3, fence }, Bytes::from_static(b"z")),
        ];
        assert_eq!(assemble([buf.clone().into()]), (items.into(), None));
    }

    #[test]
    fn every_reason_survives_the_way() {
        let reasons = (0..=u8::MAX).map(reason_from_code);
        assert!(reasons.clone().all(|reason| reason_from_code(reason_code(reason)) == reason));
        assert_eq!(reasons.collect::<std::collections::BTreeSet<_>>().len(), 12);
    }

    #[test]
    fn a_whole_message_is_a_slice_of_what_came() {
        let bytes = Bytes::from_static(b"\x01\x05hello\x01\x01x");
        let (items, _) = assemble([bytes.clone()]);
        let Some(Item::Message(_, data)) = items.first() else { panic!("{items:?}") };
        assert_eq!(data.as_ptr(), bytes[2..].as_ptr());
    }

    #[test]
    fn memory_follows_what_came_and_not_what_was_announced() {
        let mut assembler = Assembler::default();
        let mut input = Bytes::from_static(b"\x01\xa0\x8d\x06hi");
        assert_eq!(assembler.next(&mut input, MAX), Ok(None));
        let body = assembler.body.unwrap();
        assert!(body.len == MAX && body.data.capacity() <= 2 * MAX_WHOLE);
    }

    #[test]
    fn frames_that_cannot_be_are_violations() {
        let bad: [&[u8]; 16] = [
            &[0],
            &[10],
            &[0x14],
            &[0x15],
            &[0xff],
            b"\x01\xa1\x8d\x06",
            b"\x11\xa1\x8d\x06",
            b"\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",
            b"\x01\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00",
            b"\x11\x00",
            b"\x11\x02\x06\x00",
            b"\x11\x02\x06\x03",
            b"\x11\x02\x01\x00",
            &[6, 1],
            &[7],
            &[5, 0],
        ];
        assert!(bad.iter().all(|bytes| violates(bytes)));
        assert!(violates(b"\x05\x81\x80\x80\x80\x10"), "a skip of 2^32 + 1");
        assert!(!violates(b"\x05\x80\x80\x80\x80\x10") && !violates(b"\x01\xa0\x8d\x06"));
    }

    fn message() -> impl Strategy<Value = (Kind, Bytes)> {
        let kind = prop_oneof![
            Just(Kind::Message),
            any::<u64>().prop_map(|rid| Kind::Request { rid }),
            any::<u64>().prop_map(|rid| Kind::MasterMessage { rid, fence: [rid as u8; FENCE_LEN] }),
            any::<u64>().prop_map(|rid| Kind::MasterRequest { rid, fence: [rid as u8; FENCE_LEN] }),
            any::<u64>().prop_map(|rid| Kind::Reply { rid, result: Ok(()) }),
        ];
        let len = prop_oneof![0..100usize, 0..70_000usize];
        (kind, len, any::<u8>())
            .prop_map(|(kind, len, first)| (kind, (0..len).map(|i| first.wrapping_add((i / 3) as u8)).collect()))
    }

    proptest! {
        #[test]
        fn messages_survive_every_cut(
            messages in prop::collection::vec((message(), 1..40_000usize, any::<bool>()), 0..6),
            cuts in prop::collection::vec(prop_oneof![1..4usize, 1..60_000usize], 1..40),
        ) {
            let mut buf = Vec::new();
            for ((kind, data), part, whole) in &messages {
                if *whole || data.is_empty() {
                    put_whole(&mut buf, kind, data);
                    continue;
                }
                put_in_parts(&mut buf, kind, data.len());
                for part in data.chunks(*part) {
                    put_part(&mut buf, part.len());
                    buf.extend_from_slice(part);
                }
            }
            let mut rest = Bytes::from(buf);
            let mut pieces: Vec<_> = cuts.iter().map(|cut| rest.split_to(rest.len().min(*cut))).collect();
            pieces.push(rest);
            let sent: Vec<_> = messages.into_iter().map(|((kind, data), ..)| Item::Message(kind, data)).collect();
            prop_assert_eq!(assemble(pieces), (sent, None));
        }

        #[test]
        fn any_bytes_are_read_the_same_however_they_are_cut(
            bytes in prop::collection::vec(prop_oneof![0..9u8, 0..0x20u8, any::<u8>()], 0..200),
            cut in 1..9usize,
        ) {
            let whole = assemble([Bytes::copy_from_slice(&bytes)]);
            prop_assert_eq!(assemble(bytes.chunks(cut).map(Bytes::copy_from_slice)), whole);
        }
    }
}
