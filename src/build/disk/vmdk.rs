//! A stream-optimised VMDK of a sparse raw disk: grains of 64 KiB, each compressed by itself (RFC 1950), so any thread may
//! compress any of them. Grains of zeros are left out. The bytes depend on the disk alone, not on the number of threads.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};

use flate2::{Compress, Compression, FlushCompress, Status};
use fs_err::File;
use rustix::fs::{SeekFrom, seek};

use super::layout::SECTOR;
use super::vmdk_format::{
    AT_END, END_OF_STREAM, FOOTER, GRAIN, GRAIN_DIRECTORY, GRAIN_TABLE, OVERHEAD, TABLE, front, header, marker,
};

/// Bytes of a grain.
const GRAIN_BYTES: usize = (GRAIN * SECTOR) as usize;
/// Grains that go to a thread at once.
const BATCH: u64 = 16;
/// More threads than this help nobody.
const MAX_THREADS: usize = 64;
/// The level; part of what is made here.
const LEVEL: u32 = 4;

/// What tells a VMDK from others; all of it stands in the file.
#[derive(Debug, Clone, Copy)]
pub struct Identity<'a> {
    /// The file's own name.
    pub name: &'a str,
    /// Content identifier.
    pub cid: u32,
    /// The disk's identifier, as VirtualBox keeps it.
    pub uuid: &'a str,
}

/// Compressed grains by their number, those of zeros left out.
type Batch = io::Result<Vec<(u64, Vec<u8>)>>;

/// Writes the VMDK of `disk`, which has `bytes` bytes (whole grains); `advance` hears of bytes of the disk that are done.
///
/// # Errors
/// Those of both files.
pub fn write(
    disk: &File,
    bytes: u64,
    identity: Identity<'_>,
    threads: usize,
    out: impl Write,
    advance: &(dyn Fn(u64) + Sync),
) -> io::Result<()> {
    let mut stream = Stream::new(out, bytes / SECTOR, identity)?;
    let threads = threads.clamp(1, MAX_THREADS);
    let (jobs, queue) = sync_channel::<(u64, Sender<Batch>)>(threads);
    let queue = Mutex::new(queue);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| work(disk, bytes, &queue));
        }
        // Moved in, so that workers end when this does.
        let jobs = jobs;
        let mut pending: VecDeque<Receiver<Batch>> = VecDeque::new();
        let mut take = |pending: &mut VecDeque<Receiver<Batch>>| -> io::Result<()> {
            let Some(next) = pending.pop_front() else { return Ok(()) };
            for (number, grain) in next.recv().map_err(|_| gone())?? {
                stream.grain(number, &grain)?;
            }
            Ok(())
        };
        let mut at = 0;
        while let Some(first) = next_data(disk, at, bytes)? {
            if pending.len() > threads {
                take(&mut pending)?;
            }
            let (done, batch) = channel();
            jobs.send((first, done)).map_err(|_| gone())?;
            pending.push_back(batch);
            let end = ((first + BATCH) * GRAIN_BYTES as u64).min(bytes);
            advance(end - at);
            at = end;
        }
        advance(bytes - at);
        while !pending.is_empty() {
            take(&mut pending)?;
        }
        stream.finish()
    })
}

fn gone() -> io::Error {
    io::Error::other("a thread that compresses is gone")
}

/// The first batch at or after byte `at` that may hold something else than zeros, as the number of its first grain.
fn next_data(disk: &File, at: u64, bytes: u64) -> io::Result<Option<u64>> {
    if at >= bytes {
        return Ok(None);
    }
    match seek(disk.file(), SeekFrom::Data(at)) {
        Ok(data) if data < bytes => Ok(Some(data / (GRAIN_BYTES as u64 * BATCH) * BATCH)),
        Ok(_) | Err(rustix::io::Errno::NXIO) => Ok(None),
        // A file system that knows no holes.
        Err(rustix::io::Errno::INVAL) => Ok(Some(at / GRAIN_BYTES as u64)),
        Err(e) => Err(e.into()),
    }
}

/// Compresses batches until there are no more.
fn work(disk: &File, bytes: u64, queue: &Mutex<Receiver<(u64, Sender<Batch>)>>) {
    let mut compress = Compress::new(Compression::new(LEVEL), true);
    let mut buffer = vec![0; GRAIN_BYTES];
    loop {
        let job = match queue.lock() {
            Ok(queue) => queue.recv(),
            Err(_) => return,
        };
        let Ok((first, done)) = job else { return };
        // Nobody who waits: the writer has failed and says why.
        let _ = done.send(batch(disk, bytes, first, &mut compress, &mut buffer));
    }
}

fn batch(disk: &File, bytes: u64, first: u64, compress: &mut Compress, buffer: &mut [u8]) -> Batch {
    let mut grains = Vec::new();
    for number in first..first + BATCH {
        let at = number * GRAIN_BYTES as u64;
        if at >= bytes {
            break;
        }
        disk.file().read_exact_at(buffer, at)?;
        if buffer.iter().any(|b| *b != 0) {
            grains.push((number, deflate(compress, buffer)?));
        }
    }
    Ok(grains)
}

/// One grain in one call: what deflate makes may depend on how its input is cut.
fn deflate(compress: &mut Compress, grain: &[u8]) -> io::Result<Vec<u8>> {
    compress.reset();
    // RFC 1951 stores what does not shrink, five bytes for each 64 KiB; RFC 1950 adds six.
    let mut out = Vec::with_capacity(grain.len() + grain.len() / 8 + 1024);
    match compress.compress_vec(grain, &mut out, FlushCompress::Finish) {
        Ok(Status::StreamEnd) => Ok(out),
        Ok(_) => Err(io::Error::other("deflate did not come to its end")),
        Err(e) => Err(io::Error::other(e)),
    }
}

/// The file as it grows: grains, and a table after every 512 of them.
struct Stream<W> {
    out: W,
    /// Sectors written.
    at: u64,
    capacity: u64,
    /// Sectors of tables, 0 for those without a grain.
    directory: Vec<u32>,
    /// The table under way, and its number.
    table: Vec<u32>,
    table_number: u64,
}

impl<W: Write> Stream<W> {
    fn new(mut out: W, capacity: u64, Identity { name, cid, uuid }: Identity<'_>) -> io::Result<Self> {
        out.write_all(&front(capacity, name, cid, uuid))?;
        let tables = capacity.div_ceil(GRAIN * TABLE) as usize;
        let table = vec![0; TABLE as usize];
        Ok(Self { out, at: OVERHEAD, capacity, directory: vec![0; tables], table, table_number: 0 })
    }

    /// Adds a grain; their numbers ascend.
    fn grain(&mut self, number: u64, packed: &[u8]) -> io::Result<()> {
        if number / TABLE != self.table_number {
            self.end_table()?;
            self.table_number = number / TABLE;
        }
        let at = self.sector()?;
        if let Some(slot) = self.table.get_mut((number % TABLE) as usize) {
            *slot = at;
        }
        let mut head = (number * GRAIN).to_le_bytes().to_vec();
        head.extend_from_slice(&(packed.len() as u32).to_le_bytes());
        self.out.write_all(&head)?;
        self.out.write_all(packed)?;
        let written = (head.len() + packed.len()) as u64;
        let padded = written.next_multiple_of(SECTOR);
        self.out.write_all(&[0; SECTOR as usize][..(padded - written) as usize])?;
        self.at += padded / SECTOR;
        Ok(())
    }

    /// Sectors have 32 bits in tables.
    fn sector(&self) -> io::Result<u32> {
        u32::try_from(self.at).map_err(|_| io::Error::other("a VMDK of more than 2 TiB can not be written"))
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.at += bytes.len() as u64 / SECTOR;
        Ok(())
    }

    fn end_table(&mut self) -> io::Result<()> {
        if self.table.iter().all(|s| *s == 0) {
            return Ok(());
        }
        let bytes: Vec<u8> = self.table.iter().flat_map(|s| s.to_le_bytes()).collect();
        self.put(&marker(bytes.len() as u64 / SECTOR, GRAIN_TABLE))?;
        let at = self.sector()?;
        if let Some(slot) = self.directory.get_mut(self.table_number as usize) {
            *slot = at;
        }
        self.put(&bytes)?;
        self.table.fill(0);
        Ok(())
    }

    /// The directory, the footer that knows where it is, and the end.
    fn finish(mut self) -> io::Result<()> {
        self.end_table()?;
        let mut bytes: Vec<u8> = self.directory.iter().flat_map(|s| s.to_le_bytes()).collect();
        bytes.resize(bytes.len().next_multiple_of(SECTOR as usize), 0);
        self.put(&marker(bytes.len() as u64 / SECTOR, GRAIN_DIRECTORY))?;
        let directory = self.at;
        self.put(&bytes)?;
        self.put(&marker(1, FOOTER))?;
        debug_assert_ne!(directory, AT_END);
        self.put(&header(self.capacity, directory))?;
        self.put(&marker(0, END_OF_STREAM))?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::digest::Digest;
    use std::io::Read;

    const SIZE: u64 = 80 << 20;

    /// A sparse disk with a few things on it, among them zeros that are written.
    fn disk() -> File {
        let file = tempfile::NamedTempFile::new().unwrap();
        let disk = File::options().read(true).write(true).open(file.path()).unwrap();
        disk.set_len(SIZE).unwrap();
        for (at, data) in [(0, vec![1; 700]), (65536 * 3, vec![0; 70_000]), (SIZE - 5, vec![9; 5])] {
            disk.file().write_all_at(&data, at).unwrap();
        }
        let noise: Vec<u8> = (0..200_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        disk.file().write_all_at(&noise, 40 << 20).unwrap();
        disk
    }

    fn made(threads: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let identity = Identity { name: "box.vmdk", cid: 7, uuid: "6c616269-0000-8000-8000-000000000001" };
        let done = std::sync::atomic::AtomicU64::new(0);
        let advance = |n| {
            done.fetch_add(n, std::sync::atomic::Ordering::Relaxed);
        };
        write(&disk(), SIZE, identity, threads, &mut out, &advance).unwrap();
        assert_eq!(done.into_inner(), SIZE);
        out
    }

    #[test]
    fn grains_come_back_through_directory_and_tables() {
        let vmdk = made(3);
        assert_eq!(vmdk, made(1));
        let number = |at: usize| u32::from_le_bytes(vmdk[at..at + 4].try_into().unwrap()) as usize;
        let footer = vmdk.len() - 1024;
        assert_eq!((&vmdk[footer..footer + 4], number(footer - 512 + 12)), (&b"KDMV"[..], FOOTER as usize));
        let directory = number(footer + 56) * 512;
        let mut back = vec![0; SIZE as usize];
        for grain in 0..SIZE as usize / 65536 {
            let table = number(directory + grain / 512 * 4) * 512;
            let at = if table == 0 { 0 } else { number(table + grain % 512 * 4) * 512 };
            if at == 0 {
                continue;
            }
            assert_eq!(number(at), grain * 128);
            let packed = &vmdk[at + 12..at + 12 + number(at + 8)];
            flate2::read::ZlibDecoder::new(packed).read_exact(&mut back[grain * 65536..(grain + 1) * 65536]).unwrap();
        }
        let mut whole = Vec::new();
        let mut disk = disk();
        disk.read_to_end(&mut whole).unwrap();
        assert!(back == whole);
        assert!(Digest::of(&vmdk).to_string().starts_with("sha256:7b36a70909f4818b"), "{}", Digest::of(&vmdk));
    }
}
