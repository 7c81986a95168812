//! What was worked out from a blob and can be again: `cache/<kind>/<hex of the blob>` names the blob that holds it.
//!
//! Nothing keeps these blobs from the garbage collector: a name whose blob is gone is as good as none.

use std::path::PathBuf;

use super::{BlobSource, Store, StoreError};
use crate::base::digest::Digest;
use crate::base::{atomic, regular};

impl Store {
    /// The blob made from the blob `of`, if it is remembered and still there. `kind` says what was made, and changes
    /// whenever the making does.
    pub fn remembered(&self, kind: &str, of: &Digest) -> Option<Digest> {
        let text = fs_err::read_to_string(self.cache_path(kind, of)).ok()?;
        let made = text.trim().parse().ok()?;
        self.blob_size(&made).map(|_| made)
    }

    /// Remembers that the blob `made` was made from the blob `of`.
    ///
    /// # Errors
    /// When it can not be written.
    pub fn remember(&self, kind: &str, of: &Digest, made: &Digest) -> Result<(), StoreError> {
        let path = self.cache_path(kind, of);
        let dir = atomic::parent(&path);
        regular::refuse_link(dir).map_err(|e| StoreError::io(dir, "write", e))?;
        fs_err::create_dir_all(dir).map_err(|e| StoreError::io(dir, "create", e))?;
        atomic::write_file(&path, format!("{made}\n").as_bytes()).map_err(|e| StoreError::io(&path, "write", e))
    }

    fn cache_path(&self, kind: &str, of: &Digest) -> PathBuf {
        self.root.join("cache").join(kind).join(of.hex())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Access;

    #[test]
    fn what_is_gone_is_not_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Access::Shared).unwrap();
        let (from, made) = (Digest::of(b"from"), store.put(b"made").unwrap());
        assert_eq!(store.remembered("x-1", &from), None);
        store.remember("x-1", &from, &made).unwrap();
        assert_eq!((store.remembered("x-1", &from), store.remembered("x-2", &from)), (Some(made), None));
        store.discard(&made).unwrap();
        assert_eq!(store.remembered("x-1", &from), None);
    }
}
