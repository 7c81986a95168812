//! Writes a bundle: the layout is known to the byte, so several threads copy different pieces to their places at once.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use super::copy::{self, Copying, copying};
use super::index::Member;
use super::part::PartFile;
use super::read::starts_like;
use super::{Bundle, BundleError, Description, Index, Plan, plan};
use crate::base::digest::Digest;
use crate::base::report::{Reporter, Task};
use crate::base::{atomic, tarfmt};
use crate::store::{Store, StoreError};

/// Blobs are copied in pieces of this many bytes, so that one huge layer does not leave the other threads idle.
const PIECE: u64 = 32 << 20;
/// The buffer of each thread where the kernel does not copy: it should stay in a core's own cache.
const BUFFER: usize = 512 * 1024;
/// After how many bytes what was copied is sent to the disk.
const FLUSH_STEP: u64 = 128 << 20;

/// A range of an open file that holds a blob.
#[derive(Debug)]
pub struct FileRange {
    /// The file.
    pub file: File,
    /// Where the blob starts in it.
    pub offset: u64,
    /// The blob's size in bytes.
    pub size: u64,
}

/// Where the kernel can copy blobs from: a store's files, or the members of another bundle.
pub trait BlobFiles: Send + Sync {
    /// The blob's place in a file of its own descriptor.
    ///
    /// # Errors
    /// When the blob is not there or can not be opened.
    fn blob_range(&self, digest: &Digest) -> Result<FileRange, StoreError>;

    /// The directory the blobs' file lies in, to tell whether it shares a file system with the target.
    fn location(&self) -> &Path;
}

impl BlobFiles for Store {
    fn blob_range(&self, digest: &Digest) -> Result<FileRange, StoreError> {
        let file = self.blob_file(digest)?;
        let size = file.metadata().map_err(|e| StoreError::io(file.path(), "read", e))?.len();
        Ok(FileRange { file: file.into_parts().0, offset: 0, size })
    }

    fn location(&self) -> &Path {
        self.path()
    }
}

impl BlobFiles for Bundle {
    fn blob_range(&self, digest: &Digest) -> Result<FileRange, StoreError> {
        let missing = || StoreError::Missing { digest: *digest, store: self.path().to_owned() };
        let member = self.blob(digest).ok_or_else(missing)?;
        let file = self.file().try_clone().map_err(|e| StoreError::io(self.path(), "open", e))?;
        Ok(FileRange { file, offset: member.offset, size: member.size })
    }

    fn location(&self) -> &Path {
        atomic::parent(self.path())
    }
}

/// How to write.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How many threads copy (at least one). The bytes are the same for any number.
    pub threads: usize,
    /// Wait until the file is on disk before it gets its name. Off only where a measurement wants to know what that costs.
    pub sync: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { threads: 2, sync: true }
    }
}

/// Whether there was anything to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The bundle was written.
    Written,
    /// This very bundle stood there already; it was not touched.
    Unchanged,
}

/// What [`write()`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Written, or nothing to do.
    pub outcome: Outcome,
    /// The bundle's identity.
    pub identity: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// Writes the bundle of `description` to `target`, its blobs from `blobs`.
///
/// A bundle of the same identity and length that already stands there is left alone (only its index is read).
///
/// # Errors
/// What the format can not hold; a blob that is missing or of another size than planned; another labimg at the same file; no
/// room, before or while writing. `target` then is what it was before and nothing else is left behind.
pub fn write(
    description: &Description,
    blobs: &dyn BlobFiles,
    target: &Path,
    options: Options,
    reporter: &dyn Reporter,
) -> Result<Written, BundleError> {
    let plan = plan(description)?;
    let size = plan.index.size;
    let mut start = plan.index_header()?;
    start.extend_from_slice(&plan.index_bytes);
    let done = |outcome| Written { outcome, identity: plan.identity, size };
    if starts_like(target, &start, size) {
        return Ok(done(Outcome::Unchanged));
    }
    let part = PartFile::create(target)?;
    check_room(&part, target, size, blobs)?;
    reporter.phase("bundle", Some(size));
    part.file().set_len(size).map_err(|e| BundleError::io(part.path(), "extend", e))?;
    put(&part, &start, 0)?;
    copy_all(&plan, description, blobs, &part, options, reporter)?;
    part.commit(options.sync)?;
    Ok(done(Outcome::Written))
}

/// Says no at once when the file system has too little room. One that shares extents may need none at all, so it is not asked.
fn check_room(part: &PartFile, target: &Path, needed: u64, blobs: &dyn BlobFiles) -> Result<(), BundleError> {
    if copying(part.file(), blobs.location()) == Copying::Shares {
        return Ok(());
    }
    let Ok(stat) = rustix::fs::fstatvfs(part.file()) else { return Ok(()) };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    if free < needed {
        return Err(BundleError::NoRoom { path: target.to_owned(), needed, free });
    }
    Ok(())
}

/// One piece of work: a member's headers and data, or a further piece of its data.
struct Job<'a> {
    member: &'a Member,
    /// Where the headers start; set for the first piece.
    headers_at: Option<u64>,
    /// The bytes, for a member from memory.
    text: Option<&'a [u8]>,
    from: u64,
    len: u64,
}

/// What every thread needs to see.
struct Work<'a> {
    jobs: Vec<Job<'a>>,
    next: AtomicUsize,
    /// Bytes in the file so far.
    copied: AtomicU64,
    stop: AtomicBool,
    error: Mutex<Option<(usize, BundleError)>>,
    blobs: &'a dyn BlobFiles,
    part: &'a PartFile,
    copying: Copying,
    epoch: u64,
    task: Task<'a>,
}

fn copy_all(
    plan: &Plan,
    description: &Description,
    blobs: &dyn BlobFiles,
    part: &PartFile,
    options: Options,
    reporter: &dyn Reporter,
) -> Result<(), BundleError> {
    let label = format!("{}.labimg", plan.index.name);
    let work = Work {
        jobs: jobs(plan, description),
        next: AtomicUsize::new(0),
        copied: AtomicU64::new(0),
        stop: AtomicBool::new(false),
        error: Mutex::new(None),
        blobs,
        part,
        copying: copying(part.file(), blobs.location()),
        epoch: plan.index.epoch,
        task: Task::begin(reporter, &label, Some(plan.index.size)),
    };
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let more: Vec<_> = (1..options.threads.clamp(1, 64)).map(|_| scope.spawn(|| work.run())).collect();
        if options.sync && plan.index.size >= 2 * FLUSH_STEP {
            scope.spawn(|| work.flush_early(&over));
        }
        work.run();
        for thread in more {
            let _ = thread.join();
        }
        over.store(true, Ordering::Relaxed);
    });
    match work.error.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        Some((_, error)) => Err(error),
        None => Ok(()),
    }
}

/// All pieces in file order, which is the order disks like best.
fn jobs<'a>(plan: &'a Plan, description: &'a Description) -> Vec<Job<'a>> {
    let mut at = Index::start(plan.index_bytes.len() as u64);
    let mut jobs = Vec::new();
    for (i, member) in plan.index.members.iter().enumerate() {
        let text = description.texts.get(i).map(|(_, bytes)| bytes.as_slice());
        let piece = |from: u64| Job {
            member,
            headers_at: (from == 0).then_some(at),
            text,
            from,
            len: (member.size - from).min(PIECE),
        };
        jobs.push(piece(0));
        let mut from = PIECE;
        while from < member.size && text.is_none() {
            jobs.push(piece(from));
            from += PIECE;
        }
        at = member.offset + member.size.next_multiple_of(tarfmt::BLOCK);
    }
    jobs
}

impl Work<'_> {
    /// Takes pieces until there are none, or somebody failed.
    fn run(&self) {
        let mut buffer = vec![0; BUFFER];
        while !self.stop.load(Ordering::Relaxed) {
            let i = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(job) = self.jobs.get(i) else { return };
            if let Err(error) = self.one(job, &mut buffer) {
                self.stop.store(true, Ordering::Relaxed);
                let mut first = self.error.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                // The earliest piece speaks, so that the message does not depend on which thread was quicker.
                if first.as_ref().is_none_or(|(at, _)| i < *at) {
                    *first = Some((i, error));
                }
            }
        }
    }

    /// Asks for the bytes so far to be on disk while more are copied, so that the last sync finds little to do. Only that one
    /// counts: a failure here shows there again.
    fn flush_early(&self, over: &AtomicBool) {
        let mut flushed = 0;
        while !over.load(Ordering::Relaxed) {
            let copied = self.copied.load(Ordering::Relaxed);
            if copied - flushed >= FLUSH_STEP {
                let _ = self.part.file().sync_data();
                flushed = copied;
            } else {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        }
    }

    fn one(&self, job: &Job, buffer: &mut [u8]) -> Result<(), BundleError> {
        if let Some(at) = job.headers_at {
            put(self.part, &tarfmt::headers(&job.member.path, job.member.size, self.epoch, at)?, at)?;
        }
        match job.text {
            Some(bytes) => {
                put(self.part, bytes, job.member.offset)?;
                self.task.advance(bytes.len() as u64);
                Ok(())
            }
            None => self.copy(job, buffer),
        }
    }

    fn copy(&self, job: &Job, buffer: &mut [u8]) -> Result<(), BundleError> {
        let Member { digest, size, offset, .. } = job.member;
        let source = self.blobs.blob_range(digest)?;
        let odd = |found| BundleError::BlobSize { digest: *digest, planned: *size, found };
        if source.size != *size {
            return Err(odd(source.size));
        }
        let mut done = 0;
        while done < job.len {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            let (from, to) = (source.offset + job.from + done, offset + job.from + done);
            let left = job.len - done;
            let n = copy::some(self.copying, (&source.file, from), (self.part.file(), to), left, buffer)
                .map_err(|e| e.into_error(digest, self.part.path()))?;
            if n == 0 {
                return Err(odd(job.from + done));
            }
            done += n;
            self.copied.fetch_add(n, Ordering::Relaxed);
            self.task.advance(n);
        }
        Ok(())
    }
}

fn put(part: &PartFile, bytes: &[u8], at: u64) -> Result<(), BundleError> {
    part.file().write_all_at(bytes, at).map_err(|e| BundleError::io(part.path(), "write", e))
}
