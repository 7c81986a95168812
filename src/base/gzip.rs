//! A deterministic, parallel gzip writer (RFC 1952): the input is cut into chunks of one size, each is a member of its own
//! (RFC 1952, 2.2: "a gzip file consists of a series of members"), compressed by any thread and written in order.
//!
//! The bytes depend on the input alone: not on the number of threads, nor on how the input was handed over. Headers carry no
//! time and no system.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex};

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

/// Bytes of input per member.
pub const CHUNK: usize = 1 << 20;
/// The level; part of the format of what is made here.
const LEVEL: u32 = 6;
/// RFC 1952, 2.3: magic, deflate, no flags, no time, no extra flags, unknown system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
/// More threads than this help nobody.
const MAX_THREADS: usize = 64;

/// A chunk on its way to a worker, and where its member goes.
type Job = (Vec<u8>, Sender<io::Result<Vec<u8>>>);

/// Compresses what is written to it onto `out`. Holds about three chunks per thread.
pub struct GzipWriter<W> {
    out: W,
    chunk: Vec<u8>,
    jobs: SyncSender<Job>,
    /// Members under way, in the order of the input.
    pending: VecDeque<Receiver<io::Result<Vec<u8>>>>,
    most: usize,
    any: bool,
}

impl<W: Write> GzipWriter<W> {
    /// A writer with `threads` threads that compress (at least one).
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn new(out: W, threads: usize) -> io::Result<Self> {
        let threads = threads.clamp(1, MAX_THREADS);
        let (jobs, queue) = sync_channel::<Job>(threads);
        let queue = Arc::new(Mutex::new(queue));
        for started in 0..threads {
            let queue = queue.clone();
            let worker = std::thread::Builder::new().name("gzip".to_owned()).spawn(move || work(&queue));
            match worker {
                // Fewer threads make the same bytes.
                Err(_) if started > 0 => break,
                other => drop(other?),
            }
        }
        let chunk = Vec::with_capacity(CHUNK);
        Ok(Self { out, chunk, jobs, pending: VecDeque::new(), most: threads + 1, any: false })
    }

    /// Writes what is left and hands the output back.
    ///
    /// # Errors
    /// Those of the output.
    pub fn finish(mut self) -> io::Result<W> {
        if !self.chunk.is_empty() || !self.any {
            self.send()?;
        }
        while !self.pending.is_empty() {
            self.take()?;
        }
        Ok(self.out)
    }

    fn send(&mut self) -> io::Result<()> {
        if self.pending.len() >= self.most {
            self.take()?;
        }
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK));
        let (done, member) = channel();
        self.jobs.send((chunk, done)).map_err(|_| gone())?;
        self.pending.push_back(member);
        self.any = true;
        Ok(())
    }

    /// Writes the oldest member under way.
    fn take(&mut self) -> io::Result<()> {
        match self.pending.pop_front() {
            Some(member) => self.out.write_all(&member.recv().map_err(|_| gone())??),
            None => Ok(()),
        }
    }
}

impl<W: Write> Write for GzipWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(CHUNK - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..n]);
        if self.chunk.len() == CHUNK {
            self.send()?;
        }
        Ok(n)
    }

    /// Does nothing: where members end must not depend on who flushes.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn gone() -> io::Error {
    io::Error::other("a compressing thread ended")
}

fn work(queue: &Mutex<Receiver<Job>>) {
    let mut deflate = Compress::new(Compression::new(LEVEL), false);
    loop {
        let job = match queue.lock() {
            Ok(queue) => queue.recv(),
            Err(_) => return,
        };
        let Ok((chunk, done)) = job else { return };
        // Nobody waits any more when the writer failed meanwhile.
        done.send(member(&mut deflate, &chunk)).ok();
    }
}

/// One whole member.
fn member(deflate: &mut Compress, chunk: &[u8]) -> io::Result<Vec<u8>> {
    deflate.reset();
    // Stored blocks bound the growth (RFC 1951, 3.2.4): 5 bytes for each, far below one in 256.
    let mut out = Vec::with_capacity(chunk.len() + chunk.len() / 256 + 64);
    out.extend_from_slice(&HEADER);
    if deflate.compress_vec(chunk, &mut out, FlushCompress::Finish)? != Status::StreamEnd {
        return Err(io::Error::other("deflate did not end"));
    }
    let mut crc = Crc::new();
    crc.update(chunk);
    out.extend_from_slice(&crc.sum().to_le_bytes());
    out.extend_from_slice(&crc.amount().to_le_bytes());
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{codec, digest::Digest};
    use std::io::Read;

    /// Text-like bytes with some noise, the same everywhere.
    fn sample(len: usize) -> Vec<u8> {
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 24
        };
        (0..len).map(|i| if i % 3 == 0 { (next() % 26) as u8 + b'a' } else { b"the same bytes"[i % 14] }).collect()
    }

    fn packed(data: &[u8], threads: usize, step: usize) -> Vec<u8> {
        let mut gzip = GzipWriter::new(Vec::new(), threads).unwrap();
        for part in data.chunks(step) {
            gzip.write_all(part).unwrap();
            gzip.flush().unwrap();
        }
        gzip.finish().unwrap()
    }

    #[test]
    fn threads_and_write_sizes_do_not_show() {
        let data = sample(3 * CHUNK + 12_345);
        let first = packed(&data, 1, data.len());
        for (threads, step) in [(1, 777), (2, CHUNK), (3, CHUNK + 1), (8, 65_536), (200, 1 << 22)] {
            assert!(packed(&data, threads, step) == first, "{threads} threads, writes of {step}");
        }
        assert_eq!(
            Digest::of(&first).hex(),
            "c7557b5702788159cd54ceb6af8cbeb3b9d10551b30183549094b73afb09f431",
            "golden: another compressor makes other layers, and labimg's builders need another version"
        );
    }

    #[test]
    fn it_reads_back_at_every_edge() {
        for len in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK] {
            let data = sample(len);
            let gzip = packed(&data, 2, 100_000);
            assert_eq!(gzip.windows(10).filter(|w| *w == HEADER).count(), len.div_ceil(CHUNK).max(1));
            let mut back = Vec::new();
            codec::decoder(&gzip[..]).unwrap().read_to_end(&mut back).unwrap();
            assert!(back == data, "{len}");
        }
    }

    #[test]
    fn noise_grows_by_little() {
        let mut state = 7u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        })
        .take(CHUNK + 5)
        .collect();
        assert!(packed(&noise, 2, 4096).len() < noise.len() + 1000);
    }

    #[test]
    fn other_readers_take_many_members() {
        let data = sample(2 * CHUNK + 9);
        let mut file = tempfile::Builder::new().suffix(".gz").tempfile().unwrap();
        file.write_all(&packed(&data, 2, 5000)).unwrap();
        for (program, args) in [
            ("gzip", vec!["-t"]),
            ("python3", vec!["-c", "import gzip, sys; assert len(gzip.open(sys.argv[1]).read()) == 2 * 1048576 + 9"]),
        ] {
            match std::process::Command::new(program).args(args).arg(file.path()).output() {
                Ok(out) => assert!(out.status.success(), "{program}: {}", String::from_utf8_lossy(&out.stderr)),
                Err(e) => println!("skipped: {program}: {e}"),
            }
        }
    }

    #[test]
    fn an_output_that_fails_fails_the_writer() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut gzip = GzipWriter::new(Full, 2).unwrap();
        let result = gzip.write_all(&sample(9 * CHUNK)).and_then(|()| gzip.finish().map(drop));
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
