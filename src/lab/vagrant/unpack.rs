//! A box taken apart and hashed in one go. Whoever may write its file can change it while it is read: so each header is read
//! once, what a member holds is copied first (where the file system can, without moving a byte) and hashed from the copy, and
//! the digest is of what was kept.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::import::{Wanted, is_plain};
use crate::base::digest::{Digest, Hasher};
use crate::base::own_dir::OwnDir;
use crate::base::regular;
use crate::base::report::{Reporter, Task};
use crate::base::tarfmt::{self, BLOCK};
use crate::lab::error::LabError;

/// Members a box may have.
const MEMBERS: usize = 64;
/// Largest extended header, in bytes: one that states a size has a few dozen.
const RECORDS: u64 = 64 << 10;
/// What Vagrant asks for of a box (Vagrant's documentation, "Box File Format").
const METADATA: &str = "metadata.json";
/// The largest such text that is read, in bytes.
const METADATA_LIMIT: u64 = 1 << 20;
/// What the kernel is asked to copy at once.
const STEP: usize = 8 << 20;

/// Takes the box apart into the new folder `dir`, and sees that its bytes are right.
///
/// # Errors
/// Bytes that are not what the catalog says, and what is no box: then `dir` holds nothing to be used.
pub(super) fn unpack(wanted: &Wanted, dir: &OwnDir, reporter: &dyn Reporter) -> Result<(), LabError> {
    let file = regular::open(&wanted.file)?;
    let (start, size) = match wanted.part {
        Some(part) => part,
        None => (0, file.metadata()?.len()),
    };
    let task = Task::begin(reporter, &format!("import {} ({})", wanted.name, wanted.provider), Some(size));
    let mut source = Source { file, path: wanted.file.clone(), start, size, at: 0, hasher: Hasher::new(), task: &task };
    let taken = source.take_apart(dir).map_err(|e| no_room(e, wanted, dir, size));
    if let Err(broken) = taken {
        // One that was not copied whole says more of its copying than of how it was made.
        return Err(source.whole().ok().map_or(Ok(()), |found| right(wanted, found)).err().unwrap_or(broken));
    }
    right(wanted, source.hasher.finish())?;
    is_box(wanted, dir)
}

/// That the bytes are those the catalog names.
fn right(wanted: &Wanted, found: Digest) -> Result<(), LabError> {
    if found == wanted.digest {
        return Ok(());
    }
    let what = format!("box `{}`", wanted.file.display());
    Err(LabError::mismatch(what, format!("it is {found}, its catalog says {}", wanted.digest))
        .hint("copy it again from where it came, or build it again"))
}

/// That Vagrant will take it for a box.
fn is_box(wanted: &Wanted, dir: &OwnDir) -> Result<(), LabError> {
    let bad = |why: String| {
        LabError::failed(format!("box `{}`", wanted.file.display()), why)
            .hint("labimg did not make that box so: build the lab again")
    };
    let Some(text) = dir.read(METADATA, METADATA_LIMIT)? else {
        return Err(bad(format!("it has no `{METADATA}`: it is no box")));
    };
    match serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&text) {
        Ok(_) => Ok(()),
        Err(e) => Err(bad(format!("its `{METADATA}` can not be read: {e}"))),
    }
}

fn no_room(error: LabError, wanted: &Wanted, dir: &OwnDir, size: u64) -> LabError {
    match error {
        LabError::Io(e) if matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
            let what = format!("box {} ({})", wanted.name, wanted.provider);
            let at = dir.path().parent().unwrap_or(dir.path()).display();
            LabError::failed(
                what,
                format!("there is no room for it at `{at}`: it needs {}", crate::base::size::shown(size)),
            )
            .hint("make room, or name another home of Vagrant's: VAGRANT_HOME=DIR")
        }
        other => other,
    }
}

/// The file a box stands in, and how far it is read.
struct Source<'a> {
    file: fs_err::File,
    path: PathBuf,
    start: u64,
    size: u64,
    at: u64,
    hasher: Hasher,
    task: &'a Task<'a>,
}

impl Source<'_> {
    fn bad(&self, why: String) -> LabError {
        LabError::failed(format!("box `{}`", self.path.display()), why)
    }

    /// Every member into a file of its name, every byte into the hash.
    fn take_apart(&mut self, dir: &OwnDir) -> Result<(), LabError> {
        let (mut count, mut stated) = (0, None);
        while let Some(header) = self.header()? {
            if header.kind == b'x' && header.size <= RECORDS {
                let records = self.bytes(header.size)?;
                self.padding(header.size)?;
                stated = stated_size(&records);
                continue;
            }
            count += 1;
            if count > MEMBERS || !is_plain(&header.path) || !matches!(header.kind, b'0' | 0) {
                return Err(self.bad(format!("`{}` can not be in a box of labimg's", header.path)));
            }
            if dir.has(&header.path) {
                return Err(self.bad(format!("`{}` stands in it twice", header.path)));
            }
            let size = stated.take().unwrap_or(header.size);
            self.member(&header.path, size, dir)?;
            self.padding(size)?;
        }
        // What follows the end of the archive is nobody's, but part of the digest.
        self.skip(self.size - self.at)
    }

    /// The next header; `None` at the end of the archive.
    fn header(&mut self) -> Result<Option<tarfmt::Header>, LabError> {
        if self.at == self.size {
            return Ok(None);
        }
        let block = self.bytes(BLOCK)?;
        if block.iter().all(|b| *b == 0) {
            return Ok(None);
        }
        let header = <&[u8; BLOCK as usize]>::try_from(&block[..]).ok().and_then(tarfmt::parse);
        header.map(Some).ok_or_else(|| self.bad("it is no box of labimg's: it is no plain tar archive".to_owned()))
    }

    /// The next bytes, hashed. Callers ask for few.
    fn bytes(&mut self, count: u64) -> Result<Vec<u8>, LabError> {
        self.require(count)?;
        let mut bytes = vec![0; usize::try_from(count).unwrap_or(0)];
        self.file.file().read_exact_at(&mut bytes, self.start + self.at)?;
        self.hashed(&bytes);
        Ok(bytes)
    }

    fn hashed(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.at += bytes.len() as u64;
        self.task.advance(bytes.len() as u64);
    }

    fn require(&self, count: u64) -> Result<(), LabError> {
        if self.size - self.at < count { Err(self.bad("it is cut off".to_owned())) } else { Ok(()) }
    }

    /// What stands between a member and the next block.
    fn padding(&mut self, size: u64) -> Result<(), LabError> {
        // The last one may be missing, as tar programs have it.
        let left = (size.next_multiple_of(BLOCK) - size).min(self.size - self.at);
        self.bytes(left).map(drop)
    }

    fn skip(&mut self, mut left: u64) -> Result<(), LabError> {
        while left > 0 {
            let count = left.min(1 << 18);
            self.bytes(count)?;
            left -= count;
        }
        Ok(())
    }

    /// Copies the next `size` bytes into a file, and hashes that.
    fn member(&mut self, name: &str, size: u64, dir: &OwnDir) -> Result<(), LabError> {
        self.require(size)?;
        let to = dir.path().join(name);
        let mut target = dir.new_file(name)?;
        copy(&mut self.file, (self.start + self.at, size), &mut target).map_err(|e| LabError::io(&to, "write", e))?;
        target.seek(SeekFrom::Start(0))?;
        let (mut left, mut buffer) = (size, vec![0; 1 << 18]);
        while left > 0 {
            let n = target.read(&mut buffer)?;
            let bytes = buffer.get(..n).filter(|bytes| !bytes.is_empty() && bytes.len() as u64 <= left);
            let bytes = bytes.ok_or_else(|| self.bad(format!("`{name}` did not arrive whole")))?;
            self.hashed(bytes);
            left -= n as u64;
        }
        Ok(())
    }

    /// The digest of all of it, as it stands there now.
    fn whole(&mut self) -> io::Result<Digest> {
        self.file.seek(SeekFrom::Start(self.start))?;
        let (digest, _) = crate::base::digest::hash_reader((&mut self.file).take(self.size))?;
        Ok(digest)
    }
}

/// The size that an extended header states (POSIX.1-2017, pax, "Extended Header").
fn stated_size(records: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(records).ok()?;
    let of = |record: &str| record.split_once(' ')?.1.strip_prefix("size=")?.parse().ok();
    text.lines().find_map(of)
}

/// Copies a range of a file; the kernel shares extents where the file system can.
fn copy(source: &mut fs_err::File, (offset, size): (u64, u64), target: &mut fs_err::File) -> io::Result<()> {
    let (mut at, end, mut out) = (offset, offset + size, 0);
    while at < end {
        let want = usize::try_from(end - at).unwrap_or(STEP).min(STEP);
        match rustix::fs::copy_file_range(source.file(), Some(&mut at), target.file(), Some(&mut out), want) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e @ (rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT)) => return Err(e.into()),
            // Two file systems, or one that does not do it.
            Err(_) => {
                source.seek(SeekFrom::Start(at))?;
                target.seek(SeekFrom::Start(at - offset))?;
                if io::copy(&mut source.take(end - at), target)? != end - at {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                break;
            }
        }
    }
    target.flush()?;
    target.sync_all()
}
