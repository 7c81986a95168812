//! Downloads under way: one writer per blob, within and across processes, and parts that outlive a crash.

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{Store, StoreError};
use crate::base::digest::{Digest, Hasher};
use crate::base::{flock, regular};

/// What a download is filed under while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartialKey {
    /// The digest is known: whatever arrives is checked against it.
    Digest(Digest),
    /// Only the URL is known (its hash): the first download of a file that no lock names yet.
    Url(Digest),
}

impl PartialKey {
    /// The key of a download whose digest nobody knows yet.
    pub fn url(url: &str) -> Self {
        Self::Url(Digest::of(url.as_bytes()))
    }

    fn file_name(&self) -> String {
        match self {
            Self::Digest(d) => format!("{}.part", d.hex()),
            Self::Url(d) => format!("url-{}.part", d.hex()),
        }
    }
}

/// The answer to "may I download this?".
pub enum Claim {
    /// It is in the store already (perhaps since a moment ago, by somebody else). Its size in bytes.
    Present(u64),
    /// It is yours to write.
    Write(Box<Partial>),
}

/// The one open part of a download. Dropping it keeps the bytes for the next try.
pub struct Partial {
    file: fs_err::File,
    path: PathBuf,
    hasher: Hasher,
    len: u64,
    _turn: tokio::sync::OwnedMutexGuard<()>,
}

impl Store {
    /// Waits until nobody else writes this blob; then says that it is there, or hands out its part.
    ///
    /// # Errors
    /// When the part can not be opened (a read-only store, a full disk).
    pub async fn claim(&self, key: PartialKey) -> Result<Claim, StoreError> {
        let name = key.file_name();
        let turn = self.turn(&name).lock_owned().await;
        if let Some(size) = self.present(&key) {
            return Ok(Claim::Present(size));
        }
        let path = self.tmp_dir().join(&name);
        loop {
            // A link would become the blob.
            let file = regular::open_own(&path).map_err(|e| StoreError::io(&path, "write", e))?;
            while !try_lock(&file, &path)? {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            // Whoever held it may have made a blob of it, which moves the very file we have open.
            if let Some(size) = self.present(&key) {
                if flock::same_file(&file, &path) {
                    remove(&path); // Made by our own opening, a moment too late.
                }
                return Ok(Claim::Present(size));
            }
            if flock::same_file(&file, &path) {
                let hasher = Hasher::new();
                let mut partial = Partial { file, path, hasher, len: 0, _turn: turn };
                partial.rehash()?;
                return Ok(Claim::Write(Box::new(partial)));
            }
        }
    }

    fn present(&self, key: &PartialKey) -> Option<u64> {
        use super::BlobSource;
        match key {
            PartialKey::Digest(digest) => self.blob_size(digest),
            PartialKey::Url(_) => None,
        }
    }

    fn turn(&self, name: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.in_flight.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        turns.entry(name.to_owned()).or_default().clone()
    }

    /// Makes a finished part a blob.
    ///
    /// # Errors
    /// [`StoreError::Mismatch`] when the bytes are not `expected` (the part is thrown away then), and I/O errors.
    pub fn commit(&self, partial: Partial, expected: Option<&Digest>, what: &str) -> Result<(Digest, u64), StoreError> {
        let Partial { file, path, hasher, len, _turn, .. } = partial;
        let found = hasher.finish();
        if let Some(expected) = expected.filter(|d| **d != found) {
            remove(&path);
            remove(&validator_path(&path));
            return Err(StoreError::Mismatch { what: what.to_owned(), expected: *expected, found });
        }
        self.install(file.file(), &path, &found)?;
        remove(&validator_path(&path));
        Ok((found, len))
    }
}

impl Partial {
    /// How many bytes are there: the next one asked for starts here.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing is there yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The validator (`ETag` or `Last-Modified`) of the response that the bytes so far came from.
    pub fn validator(&self) -> Option<String> {
        fs_err::read_to_string(validator_path(&self.path)).ok().filter(|text| !text.is_empty())
    }

    /// Remembers the validator, across runs.
    ///
    /// # Errors
    /// When it can not be written.
    pub fn set_validator(&mut self, validator: Option<&str>) -> Result<(), StoreError> {
        let path = validator_path(&self.path);
        match validator {
            Some(text) => write_own(&path, text).map_err(|e| StoreError::io(&path, "write", e)),
            None => {
                remove(&path);
                Ok(())
            }
        }
    }

    /// Takes the next bytes: hashed and written in one go.
    ///
    /// # Errors
    /// When they can not be written; those before stay.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.file.write_all(bytes).map_err(|e| StoreError::io(&self.path, "write", e))?;
        self.hasher.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Forgets all bytes: the peer has other ones now, or these were wrong.
    ///
    /// # Errors
    /// When the file can not be cut.
    pub fn restart(&mut self) -> Result<(), StoreError> {
        self.file.file().set_len(0).map_err(|e| StoreError::io(&self.path, "cut", e))?;
        self.file.seek(SeekFrom::Start(0)).map_err(|e| StoreError::io(&self.path, "seek", e))?;
        self.set_validator(None)?;
        (self.hasher, self.len) = (Hasher::new(), 0);
        Ok(())
    }

    /// The digest of the bytes so far.
    pub fn digest(&self) -> Digest {
        self.hasher.clone().finish()
    }

    /// Reads the bytes so far, from the start. Nothing can be written after that but what starts anew ([`Self::restart`]).
    ///
    /// # Errors
    /// When the file can not be rewound.
    pub fn reader(&mut self) -> Result<impl Read + '_, StoreError> {
        self.file.seek(SeekFrom::Start(0)).map_err(|e| StoreError::io(&self.path, "seek", e))?;
        Ok(&mut self.file)
    }

    /// Takes in the bytes an earlier run left.
    fn rehash(&mut self) -> Result<(), StoreError> {
        let failed = |e| StoreError::io(&self.path, "read", e);
        let mut buffer = vec![0; 256 * 1024];
        self.file.seek(SeekFrom::Start(0)).map_err(failed)?;
        loop {
            let n = self.file.read(&mut buffer).map_err(failed)?;
            if n == 0 {
                break;
            }
            self.hasher.update(&buffer[..n]);
            self.len += n as u64;
        }
        Ok(())
    }
}

fn write_own(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = regular::open_own(path)?;
    file.set_len(0)?;
    file.write_all(text.as_bytes())
}

fn validator_path(part: &Path) -> PathBuf {
    part.with_extension("etag")
}

fn remove(path: &Path) {
    let _ = fs_err::remove_file(path);
}

fn try_lock(file: &fs_err::File, path: &Path) -> Result<bool, StoreError> {
    match file.file().try_lock() {
        Ok(()) => Ok(true),
        Err(std::fs::TryLockError::WouldBlock) => Ok(false),
        Err(std::fs::TryLockError::Error(e)) => Err(StoreError::io(path, "lock", e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Access;

    #[tokio::test]
    async fn wrong_bytes_leave_neither_part_nor_validator() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Access::Shared).unwrap();
        let digest = Digest::of(b"right");
        let Claim::Write(mut partial) = store.claim(PartialKey::Digest(digest)).await.unwrap() else { panic!() };
        partial.write(b"wrong").unwrap();
        partial.set_validator(Some("\"tag\"")).unwrap();
        assert!(matches!(store.commit(*partial, Some(&digest), "x"), Err(StoreError::Mismatch { .. })));
        assert_eq!(fs_err::read_dir(store.tmp_dir()).unwrap().count(), 0);
    }
}
