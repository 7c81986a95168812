//! Between code that blocks (tar, files) and code that waits (the connection): bytes through a short queue.

use std::io::{self, Read, Write};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, stream};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::base::digest::{Digest, Hasher};

/// Size of one piece, in bytes.
const PIECE: usize = 256 * 1024;
/// Pieces that wait.
const WAITING: usize = 8;

/// Both ends of a queue.
pub(super) fn pipe() -> (PipeWriter, Receiver<Bytes>) {
    let (sender, receiver) = channel(WAITING);
    (PipeWriter { sender, buffer: BytesMut::with_capacity(PIECE), hasher: Hasher::new(), total: 0 }, receiver)
}

/// Takes bytes in on a thread that may block; hashes them.
pub(super) struct PipeWriter {
    sender: Sender<Bytes>,
    buffer: BytesMut,
    hasher: Hasher,
    total: u64,
}

impl PipeWriter {
    /// Sends what is left; gives digest and number of all bytes.
    pub(super) fn finish(mut self) -> io::Result<(Digest, u64)> {
        self.send()?;
        Ok((self.hasher.finish(), self.total))
    }

    fn send(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.buffer, BytesMut::with_capacity(PIECE)).freeze();
        self.hasher.update(&piece);
        self.total += piece.len() as u64;
        self.sender.blocking_send(piece).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for PipeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(PIECE - self.buffer.len());
        self.buffer.extend_from_slice(bytes.get(..n).unwrap_or_default());
        if self.buffer.len() == PIECE {
            self.send()?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}

/// The other end as a stream; `seen` is told how many bytes went by.
pub(super) fn pieces<'a>(
    receiver: Receiver<Bytes>,
    seen: &'a (dyn Fn(u64) + Sync),
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'a {
    stream::unfold(receiver, move |mut receiver| async move {
        let piece = receiver.recv().await?;
        seen(piece.len() as u64);
        Some((Ok(piece), receiver))
    })
}

/// The other direction: what comes over the queue, for code that blocks.
pub(super) struct PipeReader {
    receiver: Receiver<Bytes>,
    piece: Bytes,
}

impl PipeReader {
    /// A reader and what feeds it.
    pub(super) fn new() -> (Sender<Bytes>, Self) {
        // Pieces are as large as packets here.
        let (sender, receiver) = channel(WAITING * 8);
        (sender, Self { receiver, piece: Bytes::new() })
    }
}

impl Read for PipeReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.receiver.blocking_recv() {
                Some(piece) => self.piece = piece,
                None => return Ok(0),
            }
        }
        let n = into.len().min(self.piece.len());
        bytes::Buf::copy_to_slice(&mut self.piece, into.split_at_mut(n).0);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[tokio::test]
    async fn bytes_arrive_whole_and_hashed() {
        let data: Vec<u8> = (0..1_000_003u32).map(|n| n as u8).collect();
        let (mut writer, receiver) = pipe();
        let sent = data.clone();
        let thread = std::thread::spawn(move || {
            writer.write_all(&sent).unwrap();
            writer.finish().unwrap()
        });
        let count = AtomicU64::new(0);
        let seen = |n| {
            count.fetch_add(n, Ordering::Relaxed);
        };
        let got: Vec<u8> = pieces(receiver, &seen).flat_map(|p| stream::iter(p.unwrap())).collect().await;
        assert_eq!(thread.join().unwrap(), (Digest::of(&data), data.len() as u64));
        assert!(got == data && count.load(Ordering::Relaxed) == data.len() as u64);
    }

    #[test]
    fn the_reader_ends_with_its_feeder() {
        let (sender, mut reader) = PipeReader::new();
        sender.blocking_send(Bytes::from_static(b"ab")).unwrap();
        sender.blocking_send(Bytes::from_static(b"c")).unwrap();
        drop(sender);
        let mut got = Vec::new();
        reader.read_to_end(&mut got).unwrap();
        assert_eq!(got, b"abc");
    }
}
