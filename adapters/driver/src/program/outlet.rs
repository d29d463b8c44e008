//! Where lines go: standard output or a connection to the control socket, each with a thread that may block.

use std::{
    io::{self, BufWriter, Write},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use async_channel::{Receiver, Sender};

use crate::Message;

/// Lines that wait for one reader; past it, their makers wait.
const MAX_LINES: usize = 1_024;
/// Bytes that wait for a reader that nobody waits for; past it, the reader is given up.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// A writer of whole lines. When the last clone goes, the writer is closed after what was queued.
#[derive(Clone, Debug)]
pub(super) struct Outlet {
    sender: Sender<Item>,
    queued: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Item {
    line: Arc<str>,
    /// Its sender gets the receipt when the line is written, and only then.
    message: Option<Message>,
    /// Gets a message when all before it is written.
    flushed: Option<Sender<()>>,
}

impl Outlet {
    pub(super) fn new(writer: impl Write + Send + 'static) -> io::Result<Self> {
        let (sender, receiver) = async_channel::bounded(MAX_LINES);
        let queued = Arc::new(AtomicUsize::new(0));
        let outlet = Self { sender, queued: queued.clone() };
        thread::Builder::new().name("writer".into()).spawn(move || {
            if write_all(&receiver, &queued, writer).is_err() {
                receiver.close();
                // nobody has seen these: their senders get no receipt
                while let Ok(item) = receiver.try_recv() {
                    std::mem::forget(item.message);
                }
            }
        })?;
        Ok(outlet)
    }

    /// Waits for room; `false` means that the reader is gone.
    pub(super) async fn put(&self, line: impl Into<Arc<str>>) -> bool {
        self.put_item(Item { line: line.into(), message: None, flushed: None }).await
    }

    /// As [`put`](Self::put), and accepts the message once its line is written.
    pub(super) async fn put_message(&self, line: impl Into<Arc<str>>, message: Message) -> bool {
        self.put_item(Item { line: line.into(), message: Some(message), flushed: None }).await
    }

    /// Waits until all that was put before is written, and takes nothing more.
    pub(super) async fn finish(&self) {
        let (sender, receiver) = async_channel::bounded(1);
        self.put_item(Item { line: "".into(), message: None, flushed: Some(sender) }).await;
        self.sender.close();
        let _ = receiver.recv().await;
    }

    /// Never waits: a reader that is too slow is given up. `false` means that it is gone.
    pub(super) fn put_or_close(&self, line: &Arc<str>) -> bool {
        let bytes = line.len();
        if self.queued.fetch_add(bytes, Ordering::Relaxed) + bytes > MAX_BYTES
            || self.sender.try_send(Item { line: line.clone(), message: None, flushed: None }).is_err()
        {
            self.sender.close();
            return false;
        }
        true
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        self.sender.same_channel(&other.sender)
    }

    async fn put_item(&self, item: Item) -> bool {
        self.queued.fetch_add(item.line.len(), Ordering::Relaxed);
        match self.sender.send(item).await {
            Ok(()) => true,
            Err(async_channel::SendError(item)) => {
                std::mem::forget(item.message);
                false
            }
        }
    }
}

fn write_all(receiver: &Receiver<Item>, queued: &AtomicUsize, writer: impl Write) -> io::Result<()> {
    let mut writer = BufWriter::with_capacity(64 * 1024, writer);
    let mut batch = Vec::new();
    while let Ok(first) = receiver.recv_blocking() {
        batch.push(first);
        while batch.len() < MAX_LINES
            && let Ok(item) = receiver.try_recv()
        {
            batch.push(item);
        }
        let written = batch.iter().try_for_each(|item| writer.write_all(item.line.as_bytes()));
        if let Err(error) = written.and_then(|()| writer.flush()) {
            batch.drain(..).for_each(|item| std::mem::forget(item.message));
            return Err(error);
        }
        queued.fetch_sub(batch.iter().map(|item| item.line.len()).sum(), Ordering::Relaxed);
        for item in batch.drain(..) {
            if let Some(message) = item.message {
                message.accept();
            }
            if let Some(flushed) = item.flushed {
                let _ = flushed.try_send(());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures_lite::future::block_on;

    use super::*;

    struct Pipe(mpsc::SyncSender<Vec<u8>>);

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_are_written_in_order_and_flushed() {
        let (sender, receiver) = mpsc::sync_channel(1_000);
        let outlet = Outlet::new(Pipe(sender)).unwrap();
        for i in 0..100 {
            assert!(block_on(outlet.put(format!("{i}\n"))));
        }
        block_on(outlet.finish());
        assert!(!block_on(outlet.put("more\n")));
        let text = String::from_utf8(receiver.try_iter().flatten().collect()).unwrap();
        assert_eq!(text, (0..100).map(|i| format!("{i}\n")).collect::<String>());
    }

    #[test]
    fn a_reader_that_is_gone_is_noticed() {
        let (sender, receiver) = mpsc::sync_channel(1);
        let outlet = Outlet::new(Pipe(sender)).unwrap();
        drop(receiver);
        while block_on(outlet.put("x\n")) {
            thread::yield_now();
        }
    }

    #[test]
    fn a_reader_that_does_not_read_is_given_up() {
        let (sender, receiver) = mpsc::sync_channel(1);
        let outlet = Outlet::new(Pipe(sender)).unwrap();
        let line: Arc<str> = "x".repeat(1024 * 1024).into();
        assert!((0..MAX_LINES).any(|_| !outlet.put_or_close(&line)));
        assert!(!outlet.put_or_close(&"y".into()));
        drop(receiver);
    }
}
