//! What is written is read back the same; what is read is written and read the same.

use arbitrary::Result;
use bytes::Bytes;
use p2pcore::{
    Cipher, Id, Role, link,
    message::window::{Read, Written, read as read_lane, write as write_lane},
    noise,
    path::{MAX_PROBE, ProbeKeys, window::Said},
    relay::{HEADER_LEN, RelayError, RelayKeys, RelayLink, Slot, Told},
    wire::{Control, MAX_CONTROL},
};

use super::build::Builder;

const MAX_MESSAGE: usize = 100_000;
const CIPHERS: [Cipher; 2] = [Cipher::Aes128Gcm, Cipher::ChaCha20Poly1305];

/// Each kind of thing that travels, made from `data`, written and read back; and altered, and read.
///
/// # Panics
/// If it does not come back as it was.
pub fn round_trip(data: &[u8]) {
    // out of bytes: what there was has been looked at
    let _ = any(&mut Builder::new(data));
}

fn any(builder: &mut Builder<'_>) -> Result<()> {
    match builder.bytes.int_in_range(0..=6)? {
        0 => control(builder),
        1 => lane(builder),
        2 => probe(builder),
        3 => relayed(builder),
        4 => handshake(builder),
        5 => control_stream(builder),
        _ => texts(builder),
    }
}

fn control(builder: &mut Builder<'_>) -> Result<()> {
    let message = builder.control()?;
    let bytes = message.encode();
    if bytes.len() > MAX_CONTROL {
        assert!(Control::decode(&bytes).is_err());
        return Ok(());
    }
    assert_eq!(Control::decode(&bytes).as_ref(), Ok(&message));
    let mut altered = bytes.to_vec();
    let at = builder.bytes.choose_index(altered.len())?;
    altered[at] = altered[at].wrapping_add(builder.bytes.arbitrary()?);
    if let Ok(other) = Control::decode(&altered) {
        assert_eq!(Control::decode(&other.encode()), Ok(other));
    }
    Ok(())
}

fn lane(builder: &mut Builder<'_>) -> Result<()> {
    let (mut written, mut expected) = (Vec::new(), Vec::new());
    for _ in 0..builder.bytes.int_in_range(0..=8)? {
        let kind = builder.kind()?;
        let refusal = matches!(kind, p2pcore::message::Kind::Reply { result: Err(_), .. });
        let len = builder.bytes.arbitrary::<u16>()?;
        let filling = builder.bytes.arbitrary::<u8>()?;
        let data: Bytes = (0..len).map(|at| filling.wrapping_add((at / 3) as u8)).collect();
        match builder.bytes.int_in_range(0..=3)? {
            0 if refusal => {}
            0 if !data.is_empty() => {
                let part = usize::from(builder.bytes.arbitrary::<u16>()?).max(data.len() / 50 + 1);
                written.push(Written::InParts(kind, data.clone(), part));
                expected.push(Read::Message(kind, data));
                continue;
            }
            1 if !refusal => {
                let whole = data.len() + usize::from(builder.bytes.arbitrary::<u8>()?) + 1;
                written.push(Written::Aborted(kind, whole, data));
                continue;
            }
            2 => {
                let count = builder.number()?;
                if (1..=1 << 32).contains(&count) {
                    written.push(Written::Skip(count));
                    expected.push(Read::Skip(count));
                }
                continue;
            }
            _ => {}
        }
        written.push(Written::Whole(kind, data.clone()));
        expected.push(Read::Message(kind, if refusal { Bytes::new() } else { data }));
    }
    let bytes = Bytes::from(write_lane(&written));
    assert_eq!(read_lane(cut(builder, &bytes)?, MAX_MESSAGE), (expected, None));
    let mut altered = bytes.to_vec();
    if !altered.is_empty() {
        let at = builder.bytes.choose_index(altered.len())?;
        altered[at] = altered[at].wrapping_add(builder.bytes.arbitrary()?);
    }
    let altered = Bytes::from(altered);
    let whole = read_lane([altered.clone()], MAX_MESSAGE);
    assert_eq!(read_lane(cut(builder, &altered)?, MAX_MESSAGE), whole);
    Ok(())
}

/// Pieces of a few sizes that take turns.
fn cut(builder: &mut Builder<'_>, bytes: &Bytes) -> Result<Vec<Bytes>> {
    let least = bytes.len() / 200;
    let sizes =
        [builder.bytes.arbitrary::<u8>()?, builder.bytes.arbitrary::<u8>()?].map(|size| usize::from(size) + 1 + least);
    let (mut rest, mut pieces) = (bytes.clone(), Vec::new());
    while !rest.is_empty() {
        let size = sizes[pieces.len() % 2].min(rest.len());
        pieces.push(rest.split_to(size));
    }
    Ok(pieces)
}

fn probe(builder: &mut Builder<'_>) -> Result<()> {
    let said = Said {
        counter: builder.number()?,
        path: builder.bytes.int_in_range(0..=80)?,
        answers: builder.option(Builder::number)?,
        doubt: builder.flag()?,
        reports: builder.list(20, |b| Ok((b.bytes.arbitrary()?, b.number()?)))?,
    };
    let (near, far) = ([1; 8], [2; 8]);
    let keys = ProbeKeys { send: [3; 32], receive: [4; 32], send_token: far, receive_token: near };
    let theirs = ProbeKeys { send: [4; 32], receive: [3; 32], send_token: near, receive_token: far };
    let size = usize::from(builder.bytes.arbitrary::<u16>()?);
    let mut packet = said.seal(&keys, size);
    let opened = Said::open(&theirs, &packet);
    if said.is_sound() && (said.min_size()..=MAX_PROBE).contains(&size) {
        // a probe of the last counter leaves no room for another
        assert!(opened.as_ref() == Some(&said) || said.counter == u64::MAX, "{said:?}: {opened:?}");
    }
    if !packet.is_empty() {
        let at = builder.bytes.choose_index(packet.len())?;
        packet[at] ^= builder.bytes.arbitrary::<u8>()? | 1;
        assert_eq!(Said::open(&theirs, &packet), None);
    }
    Ok(())
}

fn relayed(builder: &mut Builder<'_>) -> Result<()> {
    let link = |began, relays| RelayLink::new(RelayKeys::derive(&[9; 32], began, relays));
    let (mut near, mut far) = (link(true, false), link(false, true));
    let (src, dst) = (builder.slot()?, builder.slot()?);
    let payload: &[u8] = builder.bytes.arbitrary()?;
    let mut packet = Vec::new();
    for _ in 0..builder.bytes.int_in_range(1..=3)? {
        packet.clear();
        near.seal(src, dst, payload, &mut packet);
    }
    let opened = far.open(&packet).expect("authentic and new");
    assert_eq!((opened.src, opened.dst, &packet[opened.payload]), (src, dst, payload));
    assert_eq!(far.open(&packet), Err(RelayError::Replayed));
    let at = builder.bytes.choose_index(packet.len())?;
    packet[at] ^= builder.bytes.arbitrary::<u8>()? | 1;
    // the middle of a long payload is its own business
    let is_free = (HEADER_LEN + 32..packet.len().saturating_sub(32)).contains(&at);
    assert_eq!(link(false, true).open(&packet).is_ok(), is_free, "byte {at} of {}", packet.len());
    let told = match (builder.flag()?, dst == Slot::SERVER) {
        (_, true) => return Ok(()),
        (true, _) => Told::UnknownSlot(dst),
        (false, _) => Told::OverQuota { slot: dst, pause_ms: builder.bytes.arbitrary()? },
    };
    let mut bytes = Vec::new();
    told.encode(&mut bytes);
    assert_eq!(Told::decode(&bytes), Some(told));
    Ok(())
}

fn handshake(builder: &mut Builder<'_>) -> Result<()> {
    use noise::window::{MAX_MESSAGE, Payload, assemble, frame, parameters};
    let role = if builder.flag()? { Role::Server } else { Role::Peer };
    let rest: &[u8] = builder.bytes.arbitrary()?;
    let payload = match builder.bytes.int_in_range(1..=3)? {
        1 => Payload::Offer(builder.list(8, |b| b.bytes.choose(&CIPHERS).copied())?, rest.to_vec()),
        2 => Payload::Answer(*builder.bytes.choose(&CIPHERS)?, role, rest.to_vec()),
        _ => Payload::Finish(role),
    };
    let number = match payload {
        Payload::Offer(..) => 1,
        Payload::Answer(..) => 2,
        Payload::Finish(_) => 3,
    };
    assert_eq!(Payload::read(number, &payload.write()).as_ref(), Ok(&payload));
    for side in [quinn_proto::Side::Client, quinn_proto::Side::Server] {
        if let Ok(written) = parameters(side, rest) {
            // what an honest client writes a server may read, and what follows says the same
            if let Ok(again) = parameters(side, &written) {
                assert_eq!(parameters(side, &again).as_ref().map(Vec::len), Ok(again.len()));
            }
        }
    }
    let message = payload.write();
    let framed = Bytes::from(frame(&message));
    let pieces = cut(builder, &framed)?;
    let whole = assemble(pieces.iter().map(|piece| &piece[..]));
    if message.len() <= MAX_MESSAGE {
        assert_eq!(whole, Ok(Some(message)));
    } else {
        assert!(whole.is_err());
    }
    Ok(())
}

fn control_stream(builder: &mut Builder<'_>) -> Result<()> {
    use link::window::{read, write};
    let preface = builder.bytes.arbitrary()?;
    let messages = builder.list(20, |b| Ok(Bytes::from(b.bytes.arbitrary::<Vec<u8>>()?)))?;
    let Some(bytes) = write(preface, &messages).map(Bytes::from) else { return Ok(()) };
    let pieces = cut(builder, &bytes)?;
    assert_eq!(read(pieces.iter().map(|piece| &piece[..])), (Some(preface), messages, None));
    let mut altered = bytes.to_vec();
    let at = builder.bytes.choose_index(altered.len())?;
    altered[at] = altered[at].wrapping_add(builder.bytes.arbitrary()?);
    let altered = Bytes::from(altered);
    let pieces = cut(builder, &altered)?;
    assert_eq!(read(pieces.iter().map(|piece| &piece[..])), read([&altered[..]]));
    Ok(())
}

fn texts(builder: &mut Builder<'_>) -> Result<()> {
    let (id, token) = (builder.id()?, builder.token()?);
    assert_eq!(id.to_string().parse::<Id>(), Ok(id));
    assert_eq!(Id::from_bytes(&id.to_bytes()), Some(id));
    assert_eq!(token.to_string().parse(), Ok(token));
    let stored = builder.stored()?;
    let bytes = postcard::to_allocvec(&stored).expect("it fits into memory");
    assert_eq!(postcard::from_bytes(&bytes).as_ref(), Ok(&stored));
    let text: &str = builder.bytes.arbitrary()?;
    if let Ok(id) = text.parse::<Id>() {
        assert_eq!(id.to_string(), text);
    }
    let _ = text.parse::<p2pcore::master::Token>();
    Ok(())
}
