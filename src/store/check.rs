//! Re-hashing everything, in parallel.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::Serialize;

use super::{Store, StoreError};
use crate::base::digest::{Digest, hash_reader};
use crate::base::report::{Reporter, Task};

/// A blob that is not what its name says, or is not there though a root needs it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct BadBlob {
    /// The blob.
    pub digest: Digest,
    /// What is wrong with it.
    pub why: String,
    /// Its file could be read, or is not there: whoever mends it may throw it away. A disk that fails to read may yet
    /// give the bytes another time.
    pub readable: bool,
    /// Labs that need it, sorted.
    pub labs: Vec<String>,
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// Blobs hashed.
    pub blobs: usize,
    /// Bytes hashed.
    pub bytes: u64,
    /// What is wrong, sorted by digest.
    pub bad: Vec<BadBlob>,
    /// Files beside the blobs that are not what they were, or not what they were made from says; sorted by path.
    pub records: Vec<BadRecord>,
}

/// A file of the store's own that can not be believed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct BadRecord {
    /// Where it is, below the store.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: String,
    /// The lab whose root it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lab: Option<String>,
    /// The build key of the step that it remembers the output of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Digest>,
}

impl Store {
    /// Hashes every blob with `jobs` threads, looks for blobs that roots need and that are not there, and compares what
    /// roots and realisations say with what they were made from.
    ///
    /// # Errors
    /// A directory that can not be read. A blob or root that can not be read is a finding.
    pub fn check(&self, jobs: usize, reporter: &dyn Reporter) -> Result<Checked, StoreError> {
        let roots: Vec<_> = self.labs()?.iter().filter_map(|lab| self.root_if_whole(lab).ok().flatten()).collect();
        let blobs: Vec<_> = self.blobs()?.into_iter().collect();
        let users = |digest: &Digest| {
            roots.iter().filter(|r| r.blobs.contains_key(digest)).map(|r| r.lab.clone()).collect::<Vec<_>>()
        };
        let bytes = blobs.iter().fold(0_u64, |sum, (_, e)| sum.saturating_add(e.size));
        reporter.phase("checking", Some(bytes));
        let bad = Mutex::new(Vec::new());
        let next = AtomicUsize::new(0);
        let work = || {
            while let Some((digest, entry)) = blobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                let task = Task::begin(reporter, &digest.short(), Some(entry.size));
                let why = match self.blob_file(digest).map(hash_reader) {
                    Ok(Ok((found, _))) if found == *digest => None,
                    Ok(Ok((found, _))) => Some((format!("its bytes have digest {found}"), true)),
                    Ok(Err(e)) => Some((e.to_string(), false)),
                    Err(e) => Some((e.to_string(), matches!(e, StoreError::Missing { .. }))),
                };
                task.advance(entry.size);
                if let (Some((why, readable)), Ok(mut bad)) = (why, bad.lock()) {
                    bad.push(BadBlob { digest: *digest, why, readable, labs: users(digest) });
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..jobs.clamp(1, 64) {
                scope.spawn(work);
            }
        });
        let mut bad = bad.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        let needed: std::collections::BTreeMap<Digest, u64> = roots.iter().flat_map(|r| r.blobs.clone()).collect();
        for (digest, size) in needed.into_iter().filter(|(digest, size)| !self.has(digest, *size)) {
            if !bad.iter().any(|b| b.digest == digest) {
                let why = format!("it is not there, or not of its {size} bytes");
                bad.push(BadBlob { digest, why, readable: true, labs: users(&digest) });
            }
        }
        bad.sort();
        let records = self.check_records(&bad.iter().map(|b| b.digest).collect())?;
        Ok(Checked { blobs: blobs.len(), bytes, bad, records })
    }

    /// Takes a bad blob out of the store, so that it can be fetched anew.
    ///
    /// # Errors
    /// When it is there and can not be removed.
    pub fn discard(&self, digest: &Digest) -> Result<(), StoreError> {
        let path = self.blob_path(digest);
        match fs_err::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(StoreError::io(&path, "remove", e)),
            _ => Ok(()),
        }
    }
}
