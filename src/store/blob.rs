//! Blobs: reading them, and writing small ones.

use std::io::{Read, Write};

use super::{Store, StoreError};
use crate::base::atomic;
use crate::base::digest::{Digest, Hasher, hash_reader};

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

    /// Hashes a blob.
    ///
    /// # Errors
    /// [`StoreError::BadBlob`] when its bytes are not what its name says; when it is not there or can not be read.
    pub fn verify(&self, digest: &Digest) -> Result<(), StoreError> {
        let file = self.blob_file(digest)?;
        let (found, _) = hash_reader(file).map_err(|e| StoreError::io(&self.blob_path(digest), "read", e))?;
        if found == *digest {
            return Ok(());
        }
        Err(StoreError::BadBlob { digest: *digest, why: format!("its bytes have digest {found}") })
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
        self.keep(file, &digest)?;
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
        let (file, found, size, ()) = self.spool(|out| {
            let mut buffer = vec![0; 256 * 1024];
            loop {
                let n = reader.read(&mut buffer).map_err(|e| StoreError::io(std::path::Path::new(what), "read", e))?;
                if n == 0 {
                    return Ok::<(), StoreError>(());
                }
                out.write_all(&buffer[..n]).map_err(|e| StoreError::io(&self.tmp_dir(), "write in", e))?;
            }
        })?;
        if let Some(expected) = expected.filter(|d| **d != found) {
            return Err(StoreError::Mismatch { what: what.to_owned(), expected: *expected, found });
        }
        self.keep(file, &found)?;
        Ok((found, size))
    }

    /// Stores what `write` writes, hashed on the way; gives its digest, its size, and what `write` gives.
    ///
    /// # Errors
    /// Those of `write`, nothing is stored then; a write that fails is told as the store's failure whatever `write` makes of it.
    pub fn put_with<T, E: From<StoreError>>(
        &self,
        write: impl FnOnce(&mut dyn Write) -> Result<T, E>,
    ) -> Result<(Digest, u64, T), E> {
        let (file, digest, size, made) = self.spool(write)?;
        if !self.has(&digest, size) {
            self.keep(file, &digest)?;
        }
        Ok((digest, size, made))
    }

    /// A temporary file with what `write` writes.
    fn spool<T, E: From<StoreError>>(
        &self,
        write: impl FnOnce(&mut dyn Write) -> Result<T, E>,
    ) -> Result<(tempfile::NamedTempFile, Digest, u64, T), E> {
        let tmp = self.tmp_dir();
        let failed = |e| StoreError::io(&tmp, "write in", e);
        let file = tempfile::NamedTempFile::new_in(&tmp).map_err(failed)?;
        let mut out = Hashed { file, hasher: Hasher::new(), size: 0, failure: None };
        let made = write(&mut out);
        match out.failure {
            Some(failure) => Err(failed(failure).into()),
            None => Ok((out.file, out.hasher.finish(), out.size, made?)),
        }
    }

    fn keep(&self, file: tempfile::NamedTempFile, digest: &Digest) -> Result<(), StoreError> {
        let (file, path) = file.into_parts();
        self.install(&file, &path, digest)?;
        path.keep().map_err(|e| StoreError::io(&self.tmp_dir(), "keep a file in", e.error)).ok();
        Ok(())
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

/// Hashes and counts what goes into a temporary file, and remembers the first failure.
struct Hashed {
    file: tempfile::NamedTempFile,
    hasher: Hasher,
    size: u64,
    failure: Option<std::io::Error>,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self.file.write(bytes) {
            Ok(n) => {
                self.hasher.update(&bytes[..n]);
                self.size += n as u64;
                Ok(n)
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => Err(e),
            Err(e) => {
                let again = std::io::Error::new(e.kind(), e.to_string());
                self.failure.get_or_insert(e);
                Err(again)
            }
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Access;
    use super::*;

    #[test]
    fn what_fails_while_it_is_written_is_not_stored() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Access::Shared).unwrap();
        let (digest, size, made) = store
            .put_with(|out| {
                out.write_all(b"one ").and_then(|()| out.write_all(b"blob")).unwrap();
                Ok::<_, StoreError>(7)
            })
            .unwrap();
        assert_eq!((digest, size, made), (Digest::of(b"one blob"), 8, 7));
        assert!(store.has(&digest, 8));
        let failed = store.put_with(|out| {
            out.write_all(b"half").unwrap();
            Err::<(), _>(StoreError::NoStore { path: "x".into() })
        });
        assert!(matches!(failed, Err(StoreError::NoStore { .. })) && !store.has(&Digest::of(b"half"), 4));
        assert_eq!(fs_err::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
    }
}
