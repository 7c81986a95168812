//! Realisations: what a build key came to, and what each lab's steps were last built from.
//!
//! ```text
//! realisations/<key hex>               JSON: the step's name and its outputs, and a digest of all that (`sealed`)
//! realisations/last/<lab>/<step hex>   JSON: the key document of the step's last build for that lab (for `labimg why`);
//!                                      the name is the SHA-256 of the step's name, which may hold any character
//! ```
//!
//! A realisation keeps no blob: roots do. It counts only while every output is in the store, and the garbage collector
//! removes it with the first of them. A file that can not be read is told of and never trusted; it is written anew by the
//! next build.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Store, StoreError, sealed};
use crate::base::digest::Digest;
use crate::base::{atomic, regular};

/// Format of the files: another number is not read.
const FORMAT: u32 = 2;
/// Format of files without a digest of their own: nobody can tell whether they are what they were. They count as none.
const UNSEALED: u32 = 1;
/// The fact of a layer that is the digest of the tar inside (image-spec, "Layer DiffID").
pub const DIFF_ID: &str = "diff-id";
/// The folder of last builds beside the realisations.
const LAST: &str = "last";
/// Larger files are not ours.
const LIMIT: u64 = crate::base::bounds::INDEX_BYTES;

/// A blob of the store that a step made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// What dependants need to know of it beside the bytes: a layer's diff id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub facts: BTreeMap<String, String>,
}

/// Everything a step made, by name; a step with one output calls it `out`.
pub type Outputs = BTreeMap<String, Output>;

/// What a build key came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Realisation {
    format: u32,
    /// The build key; the file's name says it, too.
    pub key: Digest,
    /// The step that was built, for people.
    pub step: String,
    /// What it made.
    pub outputs: Outputs,
}

/// What a step was last built from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LastBuild {
    format: u32,
    /// The lab.
    pub lab: String,
    /// The step.
    pub step: String,
    /// Its build key.
    pub key: Digest,
    /// The document that the key is the digest of.
    pub document: serde_json::Value,
}

impl Realisation {
    /// The realisation of `key`.
    pub fn new(key: Digest, step: &str, outputs: Outputs) -> Self {
        Self { format: FORMAT, key, step: step.to_owned(), outputs }
    }
}

impl LastBuild {
    /// The last build of `step` for `lab`.
    pub fn new(lab: &str, step: &str, key: Digest, document: serde_json::Value) -> Self {
        Self { format: FORMAT, lab: lab.to_owned(), step: step.to_owned(), key, document }
    }
}

impl Store {
    /// What `key` came to, where that is known. Whether the outputs are (still) there is for the caller to ask:
    /// [`Self::is_realised`].
    ///
    /// # Errors
    /// [`StoreError::Damaged`] for a file that says something else than its name, or nothing that can be read.
    pub fn realisation(&self, key: &Digest) -> Result<Option<Realisation>, StoreError> {
        let path = self.realisation_path(key);
        let Some(found) = read::<Realisation>(&path, |r| r.format)? else { return Ok(None) };
        if found.key == *key { Ok(Some(found)) } else { Err(damaged(&path, format!("it is of key {}", found.key))) }
    }

    /// Whether every output is in the store with its size.
    pub fn is_realised(&self, realisation: &Realisation) -> bool {
        realisation.outputs.values().all(|o| self.has(&o.digest, o.size))
    }

    /// Remembers what a key came to, atomically. An equal file is not rewritten.
    ///
    /// # Errors
    /// An output that is not in the store, I/O errors.
    pub fn write_realisation(&self, realisation: &Realisation) -> Result<(), StoreError> {
        // Who takes all of them away takes the directory, too.
        let dir = self.realisations_dir();
        fs_err::create_dir_all(&dir).map_err(|e| StoreError::io(&dir, "create", e))?;
        if let Some(output) = realisation.outputs.values().find(|o| !self.has(&o.digest, o.size)) {
            return Err(StoreError::Missing { digest: output.digest, store: self.root.clone() });
        }
        write(&self.realisation_path(&realisation.key), realisation)
    }

    /// Forgets what a key came to.
    ///
    /// # Errors
    /// I/O errors; one that is not there is none.
    pub fn remove_realisation(&self, key: &Digest) -> Result<(), StoreError> {
        remove(&self.realisation_path(key))
    }

    /// The keys of all realisations, readable or not, sorted.
    ///
    /// # Errors
    /// When they can not be listed.
    pub fn realisation_keys(&self) -> Result<Vec<Digest>, StoreError> {
        let mut keys: Vec<Digest> =
            names(&self.realisations_dir())?.iter().filter_map(|n| Digest::from_hex(n).ok()).collect();
        keys.sort();
        Ok(keys)
    }

    /// What `step` was last built from for `lab`.
    ///
    /// # Errors
    /// As [`Self::realisation`].
    pub fn last_build(&self, lab: &str, step: &str) -> Result<Option<LastBuild>, StoreError> {
        let path = self.last_path(lab, step);
        let Some(found) = read::<LastBuild>(&path, |l| l.format)? else { return Ok(None) };
        match found.lab == lab && found.step == step {
            true => Ok(Some(found)),
            false => Err(damaged(&path, format!("it is of step `{}` of lab `{}`", found.step, found.lab))),
        }
    }

    /// Remembers what a step was built from. An equal file is not rewritten.
    ///
    /// # Errors
    /// I/O errors.
    pub fn write_last_build(&self, last: &LastBuild) -> Result<(), StoreError> {
        let path = self.last_path(&last.lab, &last.step);
        let dir = atomic::parent(&path);
        regular::refuse_link(dir).map_err(|e| StoreError::io(dir, "write", e))?;
        fs_err::create_dir_all(dir).map_err(|e| StoreError::io(dir, "create", e))?;
        write(&path, last)
    }

    /// Labs with remembered builds, sorted.
    ///
    /// # Errors
    /// When they can not be listed.
    pub fn last_labs(&self) -> Result<Vec<String>, StoreError> {
        names(&self.realisations_dir().join(LAST))
    }

    /// Forgets the builds of a lab.
    ///
    /// # Errors
    /// I/O errors; a lab without any is none.
    pub fn remove_last_builds(&self, lab: &str) -> Result<(), StoreError> {
        let dir = self.last_dir(lab);
        match fs_err::remove_dir_all(&dir) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(StoreError::io(&dir, "remove", e)),
            _ => Ok(()),
        }
    }

    pub(super) fn realisation_path(&self, key: &Digest) -> PathBuf {
        self.realisations_dir().join(key.hex())
    }

    pub(super) fn last_dir(&self, lab: &str) -> PathBuf {
        self.realisations_dir().join(LAST).join(lab)
    }

    fn last_path(&self, lab: &str, step: &str) -> PathBuf {
        self.last_dir(lab).join(Digest::of(step.as_bytes()).hex())
    }

    fn realisations_dir(&self) -> PathBuf {
        self.root.join("realisations")
    }
}

/// Reads a file that may not be there.
fn read<T: DeserializeOwned>(path: &Path, format: impl Fn(&T) -> u32) -> Result<Option<T>, StoreError> {
    match fs_err::metadata(path) {
        Ok(meta) if meta.len() > LIMIT => return Err(damaged(path, format!("it has {} bytes", meta.len()))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(StoreError::io(path, "read", e)),
        Ok(_) => {}
    }
    let bytes = match fs_err::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(StoreError::io(path, "read", e)),
    };
    let (value, sealed) = sealed::unseal(&bytes).map_err(|why| damaged(path, why))?;
    if value.get("format").and_then(serde_json::Value::as_u64) == Some(u64::from(UNSEALED)) && !sealed {
        return Ok(None);
    }
    let found: T = serde_json::from_value(value).map_err(|e| damaged(path, e.to_string()))?;
    match format(&found) {
        FORMAT if sealed => Ok(Some(found)),
        FORMAT => Err(damaged(path, "it has no digest".to_owned())),
        other => Err(damaged(path, format!("format {other} is not {FORMAT}"))),
    }
}

fn write(path: &Path, value: &impl Serialize) -> Result<(), StoreError> {
    let text = sealed::seal(value).map_err(|e| damaged(path, e.to_string()))?;
    if fs_err::read(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    atomic::write_file(path, &text).map_err(|e| StoreError::io(path, "write", e))
}

/// Names in a folder, sorted, without those of files being written; none when it is not there.
fn names(dir: &Path) -> Result<Vec<String>, StoreError> {
    let failed = |e| StoreError::io(dir, "read", e);
    let listed = match fs_err::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    let mut found = Vec::new();
    for entry in listed {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            found.push(name);
        }
    }
    found.sort();
    Ok(found)
}

pub(super) fn remove(path: &Path) -> Result<(), StoreError> {
    match fs_err::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(StoreError::io(path, "remove", e)),
        _ => Ok(()),
    }
}

fn damaged(path: &Path, why: String) -> StoreError {
    StoreError::Damaged { path: path.to_owned(), why }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Access;
    use serde_json::json;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Access::Shared).unwrap();
        (dir, store)
    }

    fn outputs(store: &Store, text: &str) -> Outputs {
        let digest = store.put(text.as_bytes()).unwrap();
        let facts = BTreeMap::from([("diff-id".to_owned(), "x".to_owned())]);
        BTreeMap::from([("out".to_owned(), Output { digest, size: text.len() as u64, facts })])
    }

    #[test]
    fn a_realisation_comes_back_and_counts_while_its_outputs_are_there() {
        let (_dir, store) = store();
        let key = Digest::of(b"key");
        assert_eq!(store.realisation(&key).unwrap(), None);
        let made = Realisation::new(key, "step render", outputs(&store, "text"));
        store.write_realisation(&made).unwrap();
        assert_eq!(store.realisation(&key).unwrap(), Some(made.clone()));
        assert_eq!(store.realisation_keys().unwrap(), [key]);
        assert!(store.is_realised(&made));
        store.discard(&Digest::of(b"text")).unwrap();
        assert!(!store.is_realised(&made));
        assert!(matches!(store.write_realisation(&made), Err(StoreError::Missing { .. })));
        store.remove_realisation(&key).unwrap();
        store.remove_realisation(&key).unwrap();
        assert_eq!(store.realisation(&key).unwrap(), None);
    }

    #[test]
    fn a_store_whose_realisations_were_taken_away_gets_new_ones() {
        let (_dir, store) = store();
        fs_err::remove_dir_all(store.realisations_dir()).unwrap();
        let key = Digest::of(b"key");
        assert_eq!(store.realisation(&key).unwrap(), None);
        store.write_realisation(&Realisation::new(key, "step", outputs(&store, "x"))).unwrap();
        assert!(store.realisation(&key).unwrap().is_some());
    }

    #[test]
    fn damaged_files_are_told() {
        let (_dir, store) = store();
        let (key, other) = (Digest::of(b"key"), Digest::of(b"other"));
        let made = Realisation::new(other, "x", outputs(&store, "text"));
        let wrong_format = Realisation { format: 3, key, ..made.clone() };
        for text in [
            String::new(),
            "{".to_owned(),
            serde_json::to_string(&made).unwrap(),
            serde_json::to_string(&wrong_format).unwrap(),
        ] {
            fs_err::write(store.realisation_path(&key), &text).unwrap();
            assert!(matches!(store.realisation(&key), Err(StoreError::Damaged { .. })), "{text}");
        }
    }

    #[test]
    fn a_fact_that_rots_is_told_and_a_file_that_can_not_tell_counts_for_nothing() {
        let (_dir, store) = store();
        let key = Digest::of(b"key");
        let made = Realisation::new(key, "x", outputs(&store, "text"));
        store.write_realisation(&made).unwrap();
        let path = store.realisation_path(&key);
        let text = fs_err::read_to_string(&path).unwrap();
        for (from, to) in
            [(r#""diff-id":"x""#, r#""diff-id":"y""#), (r#""size":4"#, r#""size":5"#), ("digest", "digesu")]
        {
            fs_err::write(&path, text.replacen(from, to, 1)).unwrap();
            assert!(matches!(store.realisation(&key), Err(StoreError::Damaged { .. })), "{to}");
        }
        let old = Realisation { format: UNSEALED, ..made };
        fs_err::write(&path, serde_json::to_vec(&old).unwrap()).unwrap();
        assert_eq!(store.realisation(&key).unwrap(), None);
    }

    #[test]
    fn last_builds_are_by_lab_and_step() {
        let (_dir, store) = store();
        let name = "image reg.lan/app:1 linux/amd64 ../../packages";
        let last = LastBuild::new("lab", name, Digest::of(b"key"), json!({"params": {"b": 1, "a": [2]}}));
        store.write_last_build(&last).unwrap();
        assert_eq!(store.last_build("lab", name).unwrap(), Some(last));
        assert_eq!(store.last_build("lab", "other").unwrap(), None);
        assert_eq!((store.last_labs().unwrap(), store.realisation_keys().unwrap()), (vec!["lab".to_owned()], vec![]));
        store.remove_last_builds("lab").unwrap();
        assert_eq!(store.last_build("lab", name).unwrap(), None);
    }
}
