//! Works over streams of bytes, the same for all systems that have them.

use std::time::Instant;

use bytes::Bytes;
use tokio::task::JoinHandle;

use super::{
    Load,
    meter::{Sample, Stopwatch, ask_in_turn},
};
use crate::Failure;

/// What a writer of small messages gathers before it writes.
const GATHERED: usize = 64 * 1024;
const CHUNK: usize = 64 * 1024;

/// A connection on which each side opens streams of both ways.
pub(super) trait Connected: Send + Sync + 'static {
    type Writer: Writer;
    type Reader: WholeReader;

    fn open(&self) -> impl Future<Output = Result<(Self::Writer, Self::Reader), Failure>> + Send;
    fn accept(&self) -> impl Future<Output = Result<(Self::Writer, Self::Reader), Failure>> + Send;
}

/// The near end of a stream.
pub(super) trait Writer: Send + 'static {
    fn write_slice(&mut self, bytes: &[u8]) -> impl Future<Output = Result<(), Failure>> + Send;
    /// Without a copy where the system can do so.
    fn write(&mut self, bytes: Bytes) -> impl Future<Output = Result<(), Failure>> + Send;
    /// Nothing more is written.
    fn end(&mut self) -> impl Future<Output = Result<(), Failure>> + Send;
    /// Waits, after the end, until the other side is known to have all.
    fn receipt(&mut self) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// The far end of a stream.
pub(super) trait Reader: Send + 'static {
    /// Takes what has come, and returns how much; none at the end.
    fn read(&mut self) -> impl Future<Output = Result<Option<usize>, Failure>> + Send;
}

/// One that takes all until the end at once.
pub(super) trait WholeReader: Reader {
    fn read_all(&mut self) -> impl Future<Output = Result<Bytes, Failure>> + Send;
}

/// Answers each stream's request with itself, until the connection ends.
pub(super) fn answer(there: impl Connected) -> JoinHandle<Result<(), Failure>> {
    tokio::spawn(async move {
        while let Ok((mut writer, mut reader)) = there.accept().await {
            let request = reader.read_all().await?;
            writer.write(request).await?;
            writer.end().await?;
        }
        Ok(())
    })
}

/// A stream for each request.
pub(super) async fn ask(load: Load, here: &impl Connected) -> Result<Sample, Failure> {
    let data = Bytes::from(vec![7; load.size]);
    ask_in_turn(load, async || {
        let (mut writer, mut reader) = here.open().await?;
        writer.write(data.clone()).await?;
        writer.end().await?;
        Ok(reader.read_all().await?.len())
    })
    .await
}

/// Messages with their length before them on one stream: small ones gathered, others a chunk each. The reader tells at the
/// end that it has them all.
pub(super) async fn messages<R: Reader>(
    load: Load,
    writer: impl Writer,
    accepted: impl Future<Output = Result<R, Failure>> + Send + 'static,
) -> Result<Sample, Failure> {
    let reader = count_messages(accepted, load.size);
    let watch = Stopwatch::start(load);
    let sent = write_messages(writer, load).await?;
    watch.rate_of_all(sent, reader.await??)
}

async fn write_messages(mut writer: impl Writer, load: Load) -> Result<u64, Failure> {
    let one = message(load.size)?;
    let per_write = (GATHERED / one.len()).max(1);
    let is_gathered = load.size < 1_024;
    let begun = Instant::now();
    let mut sent = 0;
    let mut gathered = Vec::with_capacity(GATHERED);
    while begun.elapsed() < load.time {
        if is_gathered {
            for _ in 0..per_write {
                gathered.extend_from_slice(&one);
            }
            writer.write_slice(&gathered).await?;
            gathered.clear();
            sent += per_write as u64;
        } else {
            writer.write(one.clone()).await?;
            sent += 1;
        }
    }
    writer.end().await?;
    writer.receipt().await?;
    Ok(sent)
}

/// One of so many bytes behind its length.
pub(super) fn message(size: usize) -> Result<Bytes, Failure> {
    Ok([&u32::try_from(size)?.to_be_bytes()[..], &vec![7; size]].concat().into())
}

/// How many of that size come until the end.
pub(super) fn count_messages<R: Reader>(
    accepted: impl Future<Output = Result<R, Failure>> + Send + 'static,
    size: usize,
) -> JoinHandle<Result<u64, Failure>> {
    tokio::spawn(async move { Ok(count(accepted.await?).await? / (size as u64 + 4)) })
}

/// Takes all bytes of a stream in order, as they come.
async fn count(mut reader: impl Reader) -> Result<u64, Failure> {
    let mut bytes = 0;
    while let Some(read) = reader.read().await? {
        bytes += read as u64;
    }
    Ok(bytes)
}

/// So many bytes over one stream.
pub(super) async fn bulk<R: Reader>(
    load: Load,
    mut writer: impl Writer,
    accepted: impl Future<Output = Result<R, Failure>> + Send + 'static,
) -> Result<Sample, Failure> {
    let reader = tokio::spawn(async move { count(accepted.await?).await });
    let chunk = Bytes::from(vec![7; CHUNK]);
    let watch = Stopwatch::start(load);
    for _ in 0..load.size / CHUNK {
        writer.write(chunk.clone()).await?;
    }
    writer.end().await?;
    watch.rate_of_all(load.size as u64, reader.await??)
}
