//! `labimg fetch`: fills the store with everything a lock names.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::failed::{self, Doing, file_name};
use super::profile::{OnDisk, load};
use super::{Ctx, OpsError, carry};
use crate::base::digest::Digest;
use crate::model::lock::{Lock, toolchain_set};
use crate::model::platform::Platform;
use crate::source::file::check_executable;
use crate::source::{SourceError, fetch as source};
use crate::store::image::image_blobs;
use crate::store::root::Made;
use crate::store::{Access, Store};

/// What a fetch brought.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct FetchOutcome {
    /// Blobs that came over the network.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Blobs the lab needs in all.
    pub total_blobs: usize,
    /// Their bytes.
    pub total_bytes: u64,
}

/// Fetches everything the lock of the profile at `path` names.
///
/// # Errors
/// No lock, a stale one, and whatever keeps a blob from arriving. What arrived stays; the next run goes on.
pub async fn fetch(ctx: &Ctx, path: &Path) -> Result<FetchOutcome, OpsError> {
    let disk = load(path)?;
    let lock = disk.valid_lock()?;
    let store = ctx.open_store(Access::Shared)?;
    let fetched = fill(ctx, &store, &disk, &lock).await?;
    store.write_root(&lock, Made::AsBefore, &needed(&store, &lock)?)?;
    Ok(fetched)
}

/// Brings what the store lacks. Without the network when nothing is missing.
///
/// # Errors
/// As [`fetch`].
pub async fn fill(ctx: &Ctx, store: &Arc<Store>, disk: &OnDisk, lock: &Lock) -> Result<FetchOutcome, OpsError> {
    put_locals(store, disk, lock)?;
    carry::put(ctx, store, disk, lock)?;
    let fetched = source::fetch_lock(&ctx.net, store, &for_here(lock)).await.map_err(|error| match error {
        SourceError::Of { input, source } => failed::input(disk, &input, Doing::Fetching, *source),
        error => error.into(),
    })?;
    check_programs(store, disk, lock)?;
    let blobs = needed(store, lock)?;
    Ok(FetchOutcome {
        blobs: fetched.blobs,
        bytes: fetched.bytes,
        total_blobs: blobs.len(),
        total_bytes: blobs.values().fold(0, |sum, size| sum.saturating_add(*size)),
    })
}

/// What the profile calls a program is one: the lock does not say, and the profile may have come to say it after locking.
fn check_programs(store: &Store, disk: &OnDisk, lock: &Lock) -> Result<(), OpsError> {
    for file in &lock.files {
        let key = (file.kind, file.name.clone(), file.platform);
        if disk.inputs.files.get(&key).is_some_and(|input| input.executable) {
            let input = file_name(&key);
            check_executable(store, file).map_err(|e| failed::input(disk, &input, Doing::Fetching, e))?;
        }
    }
    Ok(())
}

/// The lock without what only other machines build with: the toolchain of their architecture.
fn for_here(lock: &Lock) -> Lock {
    let mut here = lock.clone();
    here.packages.retain(|p| used_here(&p.sets));
    here
}

fn used_here(sets: &[String]) -> bool {
    let foreign = |set: &String| ["amd64", "arm64"].iter().any(|a| *set == toolchain_set(a) && Some(*a) != here());
    !sets.iter().all(foreign)
}

fn here() -> Option<&'static str> {
    Platform::here().map(Platform::arch)
}

/// Every blob a lab needs, with its size in bytes: what its bundle holds, and what its own images are made from.
///
/// # Errors
/// A manifest that is not in the store or can not be read.
pub fn needed(store: &Store, lock: &Lock) -> Result<BTreeMap<Digest, u64>, OpsError> {
    let mut blobs = BTreeMap::new();
    for image in &lock.images {
        blobs.extend(image_blobs(store, image)?.into_iter().map(|b| (b.digest, b.size)));
    }
    blobs.extend(lock.charts.iter().map(|c| (c.digest, c.size)));
    blobs.extend(lock.files.iter().map(|f| f.content()));
    blobs.extend(lock.locals.iter().map(|l| (l.digest, l.size)));
    blobs.extend(lock.packages.iter().filter(|p| used_here(&p.sets)).map(|p| (p.digest, p.size)));
    blobs.extend(lock.wheels.iter().map(|w| (w.digest, w.size)));
    blobs.extend(lock.carried.iter().map(|p| (p.digest, p.size)));
    Ok(blobs)
}

/// Puts the files beside the profile into the store.
pub(super) fn put_locals(store: &Store, disk: &OnDisk, lock: &Lock) -> Result<(), OpsError> {
    for local in lock.locals.iter().filter(|l| !store.has(&l.digest, l.size)) {
        let path = disk.dir.join(&local.path);
        let file = fs_err::File::open(&path)?;
        store.put_reader(file, Some(&local.digest), &path.display().to_string())?;
    }
    Ok(())
}
