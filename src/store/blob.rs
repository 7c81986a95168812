//! Blobs: reading them, and writing small ones.

use std::io::{Read, Write};

use super::{Store, StoreError};
use crate::base::atomic;
use crate::base::digest::{Digest, Hasher};

/// Anything that holds blobs: a store, or a bundle file.
pub trait BlobSource: Send + Sync {
    /// The blob's size in bytes, or `None` when it is not there.
    fn blob_size(&self, digest: &Digest) -> Option<u64>;

    /// A reader over the blob's bytes from its start. The caller hashes them when it must know that they are right.
    ///
    /// # Errors
    /// When the blob is not there or can not be opened.
    fn open_blob(&self, digest: &Digest) -> Result<Box<dyn Read + Send>, StoreError>;

    /// A whole small blob (a manifest, an image configuration), its digest verified.
    ///
    /// # Errors
    /// As [`Self::open_blob`]; a blob larger than `limit` bytes or with other bytes than its name says.
    fn read_blob(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::new();
        let what = || format!("blob {digest}");
        let io = |e| StoreError::io(std::path::Path::new(&what()), "read", e);
        self.open_blob(digest)?.take(limit + 1).read_to_end(&mut bytes).map_err(io)?;
        let found = Digest::of(&bytes);
        if found != *digest {
            return Err(StoreError::Mismatch { what: what(), expected: *digest, found });
        }
        Ok(bytes)
    }
}

impl BlobSource for Store {
    fn blob_size(&self, digest: &Digest) -> Option<u64> {
        fs_err::metadata(self.blob_path(digest)).ok().filter(|m| m.is_file()).map(|m| m.len())
    }

    fn open_blob(&self, digest: &Digest) -> Result<Box<dyn Read + Send>, StoreError> {
        Ok(Box::new(self.blob_file(digest)?))
    }
}

impl Store {
    /// The open file of a blob.
    ///
    /// # Errors
    /// When it is not there or can not be opened.
    pub fn blob_file(&self, digest: &Digest) -> Result<fs_err::File, StoreError> {
        let path = self.blob_path(digest);
        fs_err::File::open(&path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => StoreError::Missing { digest: *digest, store: self.root.clone() },
            _ => StoreError::io(&path, "open", e),
        })
    }

    /// Whether the blob is there with this size. A file of another size is not the blob, whatever its name.
    pub fn has(&self, digest: &Digest, size: u64) -> bool {
        self.blob_size(digest) == Some(size)
    }

    /// Stores a small blob that is already in memory.
    ///
    /// # Errors
    /// When it can not be written.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::of(bytes);
        if self.has(&digest, bytes.len() as u64) {
            return Ok(digest);
        }
        let tmp = self.tmp_dir();
        let mut file = tempfile::NamedTempFile::new_in(&tmp).map_err(|e| StoreError::io(&tmp, "write in", e))?;
        file.write_all(bytes).map_err(|e| StoreError::io(&tmp, "write in", e))?;
        let (file, path) = file.into_parts();
        self.install(&file, &path, &digest)?;
        path.keep().map_err(|e| StoreError::io(&tmp, "keep a file in", e.error)).ok();
        Ok(digest)
    }

    /// Stores what `reader` gives; `expected` is what it must be, where known.
    ///
    /// # Errors
    /// When it can not be read or written, or has another digest.
    pub fn put_reader(
        &self,
        mut reader: impl Read,
        expected: Option<&Digest>,
        what: &str,
    ) -> Result<(Digest, u64), StoreError> {
        let tmp = self.tmp_dir();
        let mut file = tempfile::NamedTempFile::new_in(&tmp).map_err(|e| StoreError::io(&tmp, "write in", e))?;
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; 256 * 1024];
        let mut size = 0;
        loop {
            let n = reader.read(&mut buffer).map_err(|e| StoreError::io(std::path::Path::new(what), "read", e))?;
            if n == 0 {
                break;
            }
            hasher.update(&buffer[..n]);
            file.write_all(&buffer[..n]).map_err(|e| StoreError::io(&tmp, "write in", e))?;
            size += n as u64;
        }
        let found = hasher.finish();
        if let Some(expected) = expected.filter(|d| **d != found) {
            return Err(StoreError::Mismatch { what: what.to_owned(), expected: *expected, found });
        }
        let (file, path) = file.into_parts();
        self.install(&file, &path, &found)?;
        path.keep().map_err(|e| StoreError::io(&tmp, "keep a file in", e.error)).ok();
        Ok((found, size))
    }

    /// Sync, rename under the digest, mode 0444, sync the directory: the one way into `blobs/`.
    pub(super) fn install(
        &self,
        file: &std::fs::File,
        path: &std::path::Path,
        digest: &Digest,
    ) -> Result<(), StoreError> {
        use std::os::unix::fs::PermissionsExt;
        let target = self.blob_path(digest);
        file.sync_data().map_err(|e| StoreError::io(path, "sync", e))?;
        fs_err::rename(path, &target).map_err(|e| StoreError::io(&target, "write", e))?;
        // Not before: a part that can not be written is lost to the next run, and to whoever waits for it.
        file.set_permissions(std::fs::Permissions::from_mode(0o444))
            .map_err(|e| StoreError::io(&target, "chmod", e))?;
        atomic::sync_dir(&self.blobs_dir()).map_err(|e| StoreError::io(&target, "sync", e))
    }
}
