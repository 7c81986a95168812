//! Reads a bundle in place. Only the index is read at first; nothing in it is believed before it was checked.

use std::collections::HashMap;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use super::index::{Index, Member};
use super::{BLOBS, BundleError, FORMAT, INDEX_LIMIT, INDEX_PATH, SIGNATURES};
use crate::base::bounded;
use crate::base::digest::Digest;
use crate::base::tarfmt::{self, BLOCK, END, PAGE};
use crate::model::lock::LockedImage;
use crate::store::{BlobSource, StoreError};

/// An open bundle. All its methods may be called from several threads at once.
pub struct Bundle {
    path: PathBuf,
    file: Arc<std::fs::File>,
    index: Index,
    index_len: u64,
    identity: Digest,
    file_size: u64,
    blobs: HashMap<Digest, usize>,
}

/// A reader over one member; knows where it is by itself, so that any number may share the file.
pub struct MemberReader {
    file: Arc<std::fs::File>,
    at: u64,
    end: u64,
}

impl Bundle {
    /// Opens the bundle at `path`: reads and checks its index, that the file is as long as it must be, and that `index.json` is the
    /// one that follows from the contents.
    ///
    /// # Errors
    /// Another kind of file, another format, an index that can not be right, a file that is cut off.
    pub fn open(path: &Path) -> Result<Self, BundleError> {
        // Before it is opened: opening a FIFO waits for somebody to write into it.
        let meta = fs_err::metadata(path).map_err(|e| BundleError::io(path, "open", e))?;
        if !meta.is_file() {
            return Err(BundleError::NotABundle { path: path.to_owned(), why: "it is no regular file".to_owned() });
        }
        let file = fs_err::File::open(path).map_err(|e| BundleError::io(path, "open", e))?;
        let file_size = file.metadata().map_err(|e| BundleError::io(path, "open", e))?.len();
        let bytes = read_index(&file, path, file_size)?;
        let index = parse_index(path, &bytes)?;
        index.validate(bytes.len() as u64).map_err(|e| BundleError::Damaged {
            path: path.to_owned(),
            member: e.member,
            why: e.why,
        })?;
        if file_size < index.size {
            return Err(truncated(path, &index, file_size));
        }
        let of_blob = |(i, m): (usize, &Member)| m.path.starts_with(BLOBS).then_some((m.digest, i));
        let blobs = index.members.iter().enumerate().filter_map(of_blob).collect();
        let identity = Digest::of(&bytes);
        let file = Arc::new(file.into_parts().0);
        let index_len = bytes.len() as u64;
        let bundle = Self { path: path.to_owned(), file, index, index_len, identity, file_size, blobs };
        bundle.check_layout().map_err(|e| BundleError::Damaged {
            path: path.to_owned(),
            member: e.member,
            why: e.why,
        })?;
        Ok(bundle)
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its index.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Its identity: the digest of its index's exact bytes.
    pub fn identity(&self) -> Digest {
        self.identity
    }

    /// The length of the file in bytes, signatures included.
    pub fn file_size(&self) -> u64 {
        self.file_size
    }

    /// Length of the index's data in bytes, padding included.
    pub fn index_len(&self) -> u64 {
        self.index_len
    }

    /// The images as the lock has them (without where they were found).
    pub fn images(&self) -> Vec<LockedImage> {
        self.index.contents.images.iter().map(LockedImage::from).collect()
    }

    /// The member of this path. The index itself is none.
    pub fn member(&self, path: &str) -> Option<&Member> {
        self.index.members.iter().find(|m| m.path == path)
    }

    /// The member that holds this blob.
    pub fn blob(&self, digest: &Digest) -> Option<&Member> {
        self.blobs.get(digest).map(|i| &self.index.members[*i])
    }

    /// A reader over a member's bytes; the caller hashes them when it must know that they are right.
    pub fn reader(&self, member: &Member) -> MemberReader {
        MemberReader { file: Arc::clone(&self.file), at: member.offset, end: member.offset + member.size }
    }

    /// The index's exact bytes, read again (a small buffer's worth of memory beats keeping them).
    pub fn index_reader(&self) -> MemberReader {
        MemberReader { file: Arc::clone(&self.file), at: BLOCK, end: BLOCK + self.index_len }
    }

    /// A small member (the lock, the profile) as verified text.
    ///
    /// # Errors
    /// When it is not there, larger than `limit` bytes, damaged, or not UTF-8.
    pub fn text(&self, path: &str, limit: u64) -> Result<String, BundleError> {
        let missing = || BundleError::NotFound { path: self.path.clone(), what: format!("`{path}`") };
        let member = self.member(path).ok_or_else(missing)?;
        let damaged = |why: String| BundleError::Damaged { path: self.path.clone(), member: path.to_owned(), why };
        if member.size > limit {
            return Err(damaged(format!("{} bytes; the limit is {limit}", member.size)));
        }
        let mut bytes = Vec::new();
        self.reader(member).read_to_end(&mut bytes).map_err(|e| BundleError::io(&self.path, "read", e))?;
        if Digest::of(&bytes) != member.digest {
            return Err(damaged(format!("its digest is {}, not {}", Digest::of(&bytes), member.digest)));
        }
        String::from_utf8(bytes).map_err(|e| damaged(e.to_string()))
    }

    /// The file itself.
    pub(super) fn file(&self) -> &std::fs::File {
        &self.file
    }

    /// Whether signatures stand behind the members.
    pub fn is_signed(&self) -> bool {
        signature_at(&self.file, self.index.size - END)
    }
}

impl BlobSource for Bundle {
    fn blob_size(&self, digest: &Digest) -> Option<u64> {
        self.blob(digest).map(|m| m.size)
    }

    fn open_blob(&self, digest: &Digest) -> Result<Box<dyn Read + Send>, StoreError> {
        match self.blob(digest) {
            Some(member) => Ok(Box::new(self.reader(member))),
            None => Err(StoreError::Missing { digest: *digest, store: self.path.clone() }),
        }
    }
}

impl Read for MemberReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = buffer.len().min(usize::try_from(self.end - self.at).unwrap_or(usize::MAX));
        if want == 0 {
            return Ok(0);
        }
        let n = self.file.read_at(&mut buffer[..want], self.at)?;
        if n == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the bundle was cut off while it was read"));
        }
        self.at += n as u64;
        Ok(n)
    }
}

/// The index's bytes, padding included.
fn read_index(file: &fs_err::File, path: &Path, file_size: u64) -> Result<Vec<u8>, BundleError> {
    let foreign = |why: &str| BundleError::NotABundle { path: path.to_owned(), why: why.to_owned() };
    let failed = |e| BundleError::io(path, "read", e);
    if file_size < BLOCK {
        return Err(foreign(if file_size == 0 { "it is empty" } else { "it is too short" }));
    }
    let mut block = [0; BLOCK as usize];
    file.file().read_exact_at(&mut block, 0).map_err(failed)?;
    let header = tarfmt::parse(&block).ok_or_else(|| foreign("it does not start with a tar header"))?;
    if header.path != INDEX_PATH || header.kind != b'0' {
        return Err(foreign("its first member is not `labimg/index.json`"));
    }
    let damaged = |why: String| BundleError::Damaged { path: path.to_owned(), member: INDEX_PATH.to_owned(), why };
    if header.size > INDEX_LIMIT || !(header.size + BLOCK).is_multiple_of(PAGE) {
        return Err(damaged(format!("an index can not have {} bytes", header.size)));
    }
    if file_size < BLOCK + header.size {
        let member = INDEX_PATH.to_owned();
        return Err(BundleError::Truncated {
            path: path.to_owned(),
            found: file_size,
            expected: BLOCK + header.size,
            member,
        });
    }
    let mut bytes = vec![0; header.size as usize];
    file.file().read_exact_at(&mut bytes, BLOCK).map_err(failed)?;
    Ok(bytes)
}

/// Looks at the format number first: what else there is in other formats is not ours to complain about.
fn parse_index(path: &Path, bytes: &[u8]) -> Result<Index, BundleError> {
    #[derive(Deserialize)]
    struct Probe {
        format: u64,
    }
    let damaged = |e: serde_json::Error| BundleError::Damaged {
        path: path.to_owned(),
        member: INDEX_PATH.to_owned(),
        why: e.to_string(),
    };
    let probe: Probe = bounded::from_json(bytes).map_err(damaged)?;
    if probe.format != u64::from(FORMAT) {
        return Err(BundleError::Format { path: path.to_owned(), found: probe.format });
    }
    bounded::from_json(bytes).map_err(damaged)
}

fn truncated(path: &Path, index: &Index, found: u64) -> BundleError {
    // Offsets ascend and sizes are checked, so the sum can not overflow here.
    let cut = index.members.iter().find(|m| m.offset + m.size > found);
    let member = cut.map_or_else(|| "the end of the archive".to_owned(), |m| m.path.clone());
    BundleError::Truncated { path: path.to_owned(), found, expected: index.size, member }
}

/// Whether the file at `path` starts with exactly these bytes and has the right length (or a signed bundle's).
pub(super) fn starts_like(path: &Path, start: &[u8], size: u64) -> bool {
    if !fs_err::metadata(path).is_ok_and(|meta| meta.is_file()) {
        return false;
    }
    let Ok(file) = fs_err::File::open(path) else { return false };
    let Ok(meta) = file.metadata() else { return false };
    let length = meta.len() == size || (meta.len() > size && signature_at(file.file(), size - END));
    let mut buffer = vec![0; start.len()];
    meta.is_file() && length && file.file().read_exact_at(&mut buffer, 0).is_ok() && buffer == start
}

/// Whether a signature's header stands at this offset.
fn signature_at(file: &std::fs::File, at: u64) -> bool {
    let mut block = [0; BLOCK as usize];
    file.read_exact_at(&mut block, at).is_ok() && tarfmt::parse(&block).is_some_and(|h| h.path.starts_with(SIGNATURES))
}
