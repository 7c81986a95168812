//! Decompression on a thread of its own, so that it and what reads the result each have a core.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::mpsc::{Receiver, sync_channel};

use crate::base::codec;

/// How many bytes are handed over at once, and how many of these pieces wait at most.
const PIECE: usize = 512 * 1024;
const WAITING: usize = 4;

/// Runs `work` over the decompressed bytes of `packed`.
pub fn decompressed<T>(packed: impl Read + Send, work: impl FnOnce(&mut Ahead) -> T) -> T {
    std::thread::scope(|scope| {
        let (sender, pieces) = sync_channel(WAITING);
        scope.spawn(move || {
            let mut reader = match codec::decoder(packed) {
                Ok(reader) => reader,
                Err(error) => return drop(sender.send(Err(error))),
            };
            loop {
                let mut piece = Vec::with_capacity(PIECE);
                let read = reader.by_ref().take(PIECE as u64).read_to_end(&mut piece);
                let last = !matches!(read, Ok(n) if n > 0);
                // Nobody listens any more once the work is over.
                if sender.send(read.map(|_| piece)).is_err() || last {
                    return;
                }
            }
        });
        work(&mut Ahead { pieces, rest: VecDeque::new() })
    })
}

/// What arrives from the other thread.
pub struct Ahead {
    pieces: Receiver<io::Result<Vec<u8>>>,
    rest: VecDeque<u8>,
}

impl Read for Ahead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.rest.is_empty() {
            // A sender that is gone has said all there was.
            self.rest = self.pieces.recv().unwrap_or_else(|_| Ok(Vec::new()))?.into();
        }
        self.rest.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_bytes_arrive_and_nobody_waits_for_ever() {
        let text: Vec<u8> = (0..5_000_000u32).map(|n| (n % 251) as u8).collect();
        let packed = zstd::encode_all(&text[..], 1).unwrap();
        let all = decompressed(&packed[..], |ahead| {
            let mut all = Vec::new();
            ahead.read_to_end(&mut all).map(|_| all)
        });
        assert_eq!(all.unwrap(), text);
        assert_eq!(decompressed(&packed[..], |ahead| ahead.read(&mut [0; 10])).unwrap(), 10);
        let cut = decompressed(&packed[..packed.len() - 5], |ahead| ahead.read_to_end(&mut Vec::new()));
        assert!(cut.is_err());
    }
}
