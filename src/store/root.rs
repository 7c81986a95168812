//! Roots: what a lab keeps from the garbage collector, each also an OCI image layout that other tools read
//! (image-spec, "Image Layout").

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::layout::{OCI_LAYOUT, OciDescriptor, oci_index};
use super::{Access, BlobSource, LOCK_PATIENCE, Store, StoreError, sealed};
use crate::base::bounded;
use crate::base::bounds::{INDEX_BYTES, LOCK_BYTES};
use crate::base::digest::Digest;
use crate::base::flock::{self, Mode};
use crate::base::{atomic, regular};
use crate::model::lock::{Lock, LockedImage, wire};

/// Where a root's `blobs` leads.
const BLOBS: &str = "../../blobs";

/// What a root holds, as `root.json` says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Root {
    /// Format of this file: 1.
    format: u32,
    /// The lab's name.
    pub lab: String,
    /// Every blob the lab needs, with its size in bytes.
    pub blobs: BTreeMap<Digest, u64>,
    /// Digests of the files beside it; roots of before have none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) files: BTreeMap<String, Digest>,
}

/// Images that labimg made for a lab: a root names them beside those of the lock.
#[derive(Debug, Clone, Copy)]
pub enum Made<'a> {
    /// Those the root has, as long as its lock is this one.
    AsBefore,
    /// These.
    These(&'a [LockedImage]),
}

/// A lab's name and its lock, or why that can not be read.
pub type RootLock = (String, Result<Lock, StoreError>);

impl Store {
    /// Writes the root of a lab: its layout, its lock, and last its list of blobs. Equal files are not rewritten.
    /// Two writers of one root take turns.
    ///
    /// # Errors
    /// A blob that is not in the store, a root that another process keeps locked, or I/O errors.
    pub fn write_root(&self, lock: &Lock, made: Made<'_>, blobs: &BTreeMap<Digest, u64>) -> Result<(), StoreError> {
        for (digest, size) in blobs {
            match self.blob_size(digest) {
                Some(found) if found == *size => {}
                Some(found) => {
                    let why = format!("it has {found} bytes, not {size}");
                    return Err(StoreError::BadBlob { digest: *digest, why });
                }
                None => return Err(StoreError::Missing { digest: *digest, store: self.root.clone() }),
            }
        }
        let dir = self.roots_dir().join(&lock.name);
        regular::refuse_link(&dir).map_err(|e| StoreError::io(&dir, "write", e))?;
        let text = wire::to_text(lock).map_err(|e| damaged(&dir, e.to_string()))?;
        let dir_text = |name: &str| fs_err::read(dir.join(name)).unwrap_or_default();
        if matches!(made, Made::AsBefore) && dir_text("lock.toml") == text.as_bytes() && self.keeps(&dir, blobs) {
            return Ok(());
        }
        let images = lock.images.iter().chain(match made {
            Made::AsBefore => &[],
            Made::These(images) => images,
        });
        let named = images.map(|i| OciDescriptor::new(&i.media_type, i.digest, i.size).named(&i.reference.tagged()));
        let mut files = vec![
            ("oci-layout", OCI_LAYOUT.as_bytes().to_vec()),
            ("index.json", oci_index(named.collect())),
            ("lock.toml", text.into_bytes()),
        ];
        let beside = files.iter().map(|(name, text)| ((*name).to_owned(), Digest::of(text))).collect();
        let root = Root { format: 1, lab: lock.name.clone(), blobs: blobs.clone(), files: beside };
        files.push(("root.json", sealed::seal(&root).map_err(|e| damaged(&dir, e.to_string()))?));
        if files.iter().all(|(name, text)| unchanged(&dir.join(name), text)) {
            return Ok(());
        }
        let _turn = flock::lock(&self.root_lock(&lock.name), Mode::Exclusive, LOCK_PATIENCE)?;
        fs_err::create_dir_all(&dir).map_err(|e| StoreError::io(&dir, "create", e))?;
        let link = dir.join("blobs");
        if fs_err::read_link(&link).is_ok_and(|to| to != Path::new(BLOBS)) {
            fs_err::remove_file(&link).map_err(|e| StoreError::io(&link, "replace", e))?;
        }
        match fs_err::os::unix::fs::symlink(BLOBS, &link) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(StoreError::io(&link, "create", e)),
            _ => {}
        }
        for (name, text) in files {
            let path = dir.join(name);
            atomic::write_file(&path, &text).map_err(|e| StoreError::io(&path, "write", e))?;
        }
        Ok(())
    }

    /// Whether the root in `dir` keeps all of `blobs`.
    fn keeps(&self, dir: &Path, blobs: &BTreeMap<Digest, u64>) -> bool {
        let path = dir.join("root.json");
        let root = bounded::read_text(&path, INDEX_BYTES).ok().and_then(|text| read_root(&path, &text).ok());
        root.is_some_and(|root| blobs.keys().all(|digest| root.blobs.contains_key(digest)))
    }

    /// The root of one lab.
    ///
    /// # Errors
    /// A lab that has none, or one that can not be read.
    pub fn root(&self, lab: &str) -> Result<Root, StoreError> {
        let dir = self.root_dir(lab);
        root_in(&dir)?.ok_or_else(|| StoreError::io(&dir.join("root.json"), "read", io::ErrorKind::NotFound.into()))
    }

    /// Every root, sorted by lab.
    ///
    /// # Errors
    /// I/O errors, and a root that can not be read: nobody may delete blobs then.
    pub fn roots(&self) -> Result<Vec<Root>, StoreError> {
        let mut roots = Vec::new();
        for dir in self.root_dirs()? {
            roots.extend(root_in(&dir)?);
        }
        roots.sort_by(|a, b| a.lab.cmp(&b.lab));
        Ok(roots)
    }

    /// The root of a lab, `None` where it is under construction.
    ///
    /// # Errors
    /// One that can not be read, or is not what it was.
    pub(super) fn root_if_whole(&self, lab: &str) -> Result<Option<Root>, StoreError> {
        root_in(&self.root_dir(lab))
    }

    /// The locks of all roots with their labs, sorted: what `store check --repair` fetches through. One that can not be read
    /// does not hide the others.
    ///
    /// # Errors
    /// When the roots can not be listed.
    pub fn root_locks(&self) -> Result<Vec<RootLock>, StoreError> {
        let mut locks = Vec::new();
        for lab in self.labs()? {
            let path = self.root_dir(&lab).join("lock.toml");
            match bounded::read_text(&path, LOCK_BYTES) {
                Ok(text) => locks.push((lab, wire::parse(&text).map_err(|e| damaged(&path, e.to_string())))),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => locks.push((lab, Err(StoreError::io(&path, "read", e)))),
            }
        }
        Ok(locks)
    }

    /// The names of all labs with a root, sound or not, sorted.
    ///
    /// # Errors
    /// When the roots can not be listed.
    pub fn labs(&self) -> Result<Vec<String>, StoreError> {
        let name = |dir: PathBuf| dir.file_name().map(|n| n.to_string_lossy().into_owned());
        Ok(self.root_dirs()?.into_iter().filter_map(name).collect())
    }

    /// Removes the root of a lab that [`Self::labs`] names; what only it kept is the garbage collector's then. The list of
    /// blobs goes first: a root without one keeps nothing.
    ///
    /// # Errors
    /// I/O errors.
    pub fn remove_root(&self, lab: &str) -> Result<(), StoreError> {
        debug_assert!(self.access == Access::Exclusive, "who deletes holds the exclusive lock");
        let dir = self.root_dir(lab);
        if regular::refuse_link(&dir).is_err() {
            // What it leads to is nobody's root.
            return fs_err::remove_file(&dir).map_err(|e| StoreError::io(&dir, "remove", e));
        }
        for file in [dir.join("root.json"), self.root_lock(lab)] {
            match fs_err::remove_file(&file) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(StoreError::io(&file, "remove", e)),
                _ => {}
            }
        }
        fs_err::remove_dir_all(&dir).map_err(|e| StoreError::io(&dir, "remove", e))
    }

    /// Every root's directory; names with a dot are locks.
    fn root_dirs(&self) -> Result<BTreeSet<PathBuf>, StoreError> {
        let dir = self.roots_dir();
        let failed = |e| StoreError::io(&dir, "read", e);
        let mut found = BTreeSet::new();
        for entry in fs_err::read_dir(&dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if !entry.file_name().to_string_lossy().starts_with('.') {
                found.insert(entry.path());
            }
        }
        Ok(found)
    }

    fn root_lock(&self, lab: &str) -> PathBuf {
        self.roots_dir().join(format!(".{lab}.lock"))
    }

    /// The directory of a lab's root, whether it is there or not.
    pub fn root_dir(&self, lab: &str) -> PathBuf {
        self.roots_dir().join(lab)
    }
}

fn read_root(path: &Path, text: &str) -> Result<Root, StoreError> {
    let (value, _) = sealed::unseal(text.as_bytes()).map_err(|why| damaged(path, why))?;
    let root: Root = serde_json::from_value(value).map_err(|e| damaged(path, e.to_string()))?;
    if root.format == 1 { Ok(root) } else { Err(damaged(path, format!("format {} is not 1", root.format))) }
}

fn root_in(dir: &Path) -> Result<Option<Root>, StoreError> {
    let path = dir.join("root.json");
    match fs_err::read(&path) {
        Ok(text) => read_root(&path, &String::from_utf8_lossy(&text)).map(Some),
        // A root under construction has its list of blobs written last.
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(StoreError::io(&path, "read", e)),
    }
}

fn damaged(path: &Path, why: String) -> StoreError {
    StoreError::Damaged { path: path.to_owned(), why }
}

fn unchanged(path: &Path, text: &[u8]) -> bool {
    fs_err::read(path).is_ok_and(|old| old == text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fs_err::os::unix::fs::symlink;

    #[test]
    fn links_in_a_store_are_told_and_not_followed() {
        let temp = tempfile::tempdir().unwrap();
        let (at, victim) = (temp.path().join("store"), temp.path().join("victim"));
        fs_err::create_dir(&victim).unwrap();
        fs_err::write(victim.join("root.json"), "{}").unwrap();
        let lock = Lock { name: "lab".to_owned(), ..Lock::default() };
        {
            let store = Store::open(&at, Access::Exclusive).unwrap();
            symlink(&victim, at.join("roots/lab")).unwrap();
            let error = store.write_root(&lock, Made::These(&[]), &BTreeMap::new()).unwrap_err().to_string();
            assert!(error.contains("roots/lab` is a link to"), "{error}");
            store.remove_root("lab").unwrap();
            assert!(!at.join("roots/lab").exists() && victim.join("root.json").is_file());
            // A root's own link leads to the store's blobs and nowhere else.
            fs_err::create_dir(at.join("roots/lab")).unwrap();
            symlink(&victim, at.join("roots/lab/blobs")).unwrap();
            store.write_root(&lock, Made::These(&[]), &BTreeMap::new()).unwrap();
            assert_eq!(fs_err::read_link(at.join("roots/lab/blobs")).unwrap(), Path::new(BLOBS));
        }
        for folder in ["tmp", "blobs/sha256", "scratch", "realisations/last"] {
            let place = at.join(folder);
            let _ = fs_err::remove_dir_all(&place);
            symlink(&victim, &place).unwrap();
            let error = Store::open(&at, Access::Shared).err().unwrap().to_string();
            assert!(error.contains(&format!("{folder}` is a link to")), "{error}");
            fs_err::remove_file(&place).unwrap();
            fs_err::create_dir_all(&place).unwrap();
        }
        // The store itself may stand behind a link of the person's.
        symlink(&at, temp.path().join("mine")).unwrap();
        assert!(Store::open(&temp.path().join("mine"), Access::Shared).is_ok());
    }

    #[test]
    fn a_root_is_written_by_one_at_a_time_and_locks_are_no_labs() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Access::Shared).unwrap();
        let lock = Lock { name: "lab".to_owned(), ..wire::parse("version = 1\nname = \"lab\"\nepoch = 1\n").unwrap() };
        store.write_root(&lock, Made::These(&[]), &BTreeMap::new()).unwrap();
        assert!(dir.path().join("roots/.lab.lock").is_file());
        assert_eq!((store.labs().unwrap(), store.roots().unwrap().len()), (vec!["lab".to_owned()], 1));
        // Equal files need no turn: this would wait for long otherwise.
        let _other = flock::lock(&store.root_lock("lab"), Mode::Exclusive, LOCK_PATIENCE).unwrap();
        store.write_root(&lock, Made::These(&[]), &BTreeMap::new()).unwrap();
    }
}
