//! Garbage collection: mark from the roots, sweep what is old enough. Only under the exclusive lock.
//!
//! A realisation keeps nothing, so what no root names goes, outputs of steps too; the realisation goes with the first of its
//! outputs (and when it can not be read), and is made again by the next build that needs it. What a lab's steps were last
//! built from goes with the lab's root. Toolchain trees go when nobody used them for the grace period,
//! scratch directories of steps that failed or were interrupted when they are as old.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;

use super::{Access, Store, StoreError};
use crate::base::digest::Digest;

/// What a collection removed, or would remove.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Collected {
    /// Blobs, sorted.
    pub blobs: Vec<Digest>,
    /// Their bytes.
    pub blob_bytes: u64,
    /// Abandoned downloads.
    pub parts: usize,
    /// Their bytes.
    pub part_bytes: u64,
    /// Unreferenced, but younger than the grace period.
    pub kept_young: usize,
    /// Realisations whose outputs are gone.
    pub realisations: usize,
    /// Toolchain trees that nobody used.
    pub toolchains: usize,
    /// Scratch directories of steps that failed or were interrupted.
    pub scratch: usize,
}

/// Who uses how much of a store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Usage {
    /// Per lab: bytes it needs, and of those, bytes no other lab needs.
    pub labs: BTreeMap<String, LabUsage>,
    /// Bytes of all blobs.
    pub blob_bytes: u64,
    /// Number of blobs.
    pub blobs: usize,
    /// Bytes no root keeps.
    pub unreferenced_bytes: u64,
    /// Bytes of downloads under way or abandoned.
    pub part_bytes: u64,
}

/// One lab's share of a store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct LabUsage {
    /// All it needs.
    pub bytes: u64,
    /// What only it needs.
    pub own_bytes: u64,
}

impl Store {
    /// Removes blobs that no root keeps, and abandoned downloads, when they were last written before `before`.
    /// With `dry_run` only says what it would remove.
    ///
    /// # Errors
    /// A root that can not be read (then nothing is removed), I/O errors.
    pub fn collect(&self, before: SystemTime, dry_run: bool) -> Result<Collected, StoreError> {
        debug_assert!(dry_run || self.access == Access::Exclusive, "who deletes holds the exclusive lock");
        let marked: BTreeSet<Digest> = self.roots()?.into_iter().flat_map(|r| r.blobs.into_keys()).collect();
        let mut done = Collected::default();
        for (digest, entry) in self.blobs()? {
            if marked.contains(&digest) {
                continue;
            }
            if entry.modified > before {
                done.kept_young += 1;
                continue;
            }
            done.blobs.push(digest);
            done.blob_bytes = done.blob_bytes.saturating_add(entry.size);
            remove(&entry.path, dry_run)?;
        }
        for entry in entries(&self.tmp_dir())?.into_iter().filter(|e| e.modified <= before) {
            done.parts += 1;
            done.part_bytes = done.part_bytes.saturating_add(entry.size);
            remove(&entry.path, dry_run)?;
        }
        done.realisations = self.collect_realisations(&done.blobs, before, dry_run)?;
        done.toolchains = self.collect_toolchains(before, dry_run)?;
        done.scratch = self.collect_scratch(before, dry_run)?;
        Ok(done)
    }

    /// Realisations that lost an output, `gone` or before, and last builds of labs that have no root any more.
    fn collect_realisations(&self, gone: &[Digest], before: SystemTime, dry_run: bool) -> Result<usize, StoreError> {
        let mut removed = 0;
        for key in self.realisation_keys()? {
            let lives = match self.realisation(&key) {
                Ok(Some(r)) => {
                    self.is_realised(&r) && !r.outputs.values().any(|o| gone.binary_search(&o.digest).is_ok())
                }
                // Of a format that counts for nothing, or taken away meanwhile.
                Ok(None) => false,
                Err(StoreError::Damaged { .. }) => false,
                Err(e) => return Err(e),
            };
            if !lives {
                removed += 1;
                if !dry_run {
                    self.remove_realisation(&key)?;
                }
            }
        }
        let rooted = self.labs()?;
        for lab in self.last_labs()?.into_iter().filter(|lab| !rooted.contains(lab)) {
            let dir = self.last_dir(&lab);
            let old = fs_err::metadata(&dir).and_then(|m| m.modified()).is_ok_and(|t| t <= before);
            if old && !dry_run {
                self.remove_last_builds(&lab)?;
            }
        }
        Ok(removed)
    }

    /// Who uses how much.
    ///
    /// # Errors
    /// A root that can not be read, I/O errors.
    pub fn usage(&self) -> Result<Usage, StoreError> {
        let roots = self.roots()?;
        let mut users: BTreeMap<Digest, usize> = BTreeMap::new();
        for digest in roots.iter().flat_map(|r| r.blobs.keys()) {
            *users.entry(*digest).or_default() += 1;
        }
        let mut usage = Usage::default();
        for root in &roots {
            let own = root.blobs.iter().filter(|(d, _)| users.get(d) == Some(&1)).map(|(_, size)| *size);
            let share = LabUsage { bytes: sum(root.blobs.values().copied()), own_bytes: sum(own) };
            usage.labs.insert(root.lab.clone(), share);
        }
        for (digest, entry) in self.blobs()? {
            usage.blobs += 1;
            usage.blob_bytes = usage.blob_bytes.saturating_add(entry.size);
            if !users.contains_key(&digest) {
                usage.unreferenced_bytes = usage.unreferenced_bytes.saturating_add(entry.size);
            }
        }
        usage.part_bytes = sum(entries(&self.tmp_dir())?.iter().map(|e| e.size));
        Ok(usage)
    }

    /// Every blob with its file, sorted. A file whose name is no digest is nobody's and is left alone.
    pub(super) fn blobs(&self) -> Result<BTreeMap<Digest, Entry>, StoreError> {
        let named = entries(&self.blobs_dir())?.into_iter().filter_map(|entry| {
            let name = entry.path.file_name()?.to_str()?;
            Some((Digest::from_hex(name).ok()?, entry))
        });
        Ok(named.collect())
    }
}

/// Sizes come from files that anybody may have written: they may add up to more than 2^64.
fn sum(sizes: impl Iterator<Item = u64>) -> u64 {
    sizes.fold(0, u64::saturating_add)
}

/// A file of the store.
pub(super) struct Entry {
    pub(super) path: PathBuf,
    pub(super) size: u64,
    modified: SystemTime,
}

fn entries(dir: &Path) -> Result<Vec<Entry>, StoreError> {
    let failed = |e| StoreError::io(dir, "read", e);
    let mut found = Vec::new();
    for entry in fs_err::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        // A download that ends while we look takes its file away: that is no failure.
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_file() {
            found.push(Entry { path: entry.path(), size: meta.len(), modified: meta.modified().map_err(failed)? });
        }
    }
    Ok(found)
}

fn remove(path: &Path, dry_run: bool) -> Result<(), StoreError> {
    if dry_run {
        return Ok(());
    }
    fs_err::remove_file(path).map_err(|e| StoreError::io(path, "remove", e))
}
