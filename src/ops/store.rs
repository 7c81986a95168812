//! `labimg store …`: check, gc, du, path.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::{Ctx, OpsError};
use crate::base::digest::Digest;
use crate::source::fetch as source;
use crate::store::check::BadBlob;
use crate::store::gc::{Collected, Usage};
use crate::store::{Access, BlobSource};

/// What `store check` found, and mended.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct CheckOutcome {
    /// Blobs hashed.
    pub blobs: usize,
    /// Bytes hashed.
    pub bytes: u64,
    /// What was wrong.
    pub bad: Vec<BadBlob>,
    /// What was fetched anew, or thrown away because no lab needs it.
    pub repaired: Vec<Digest>,
    /// What is wrong still.
    pub remaining: Vec<BadBlob>,
}

/// Re-hashes the store; with `repair` throws bad blobs away and fetches them anew through the locks of the roots.
///
/// # Errors
/// A store that can not be read; with `repair`, whatever keeps a blob from arriving.
pub async fn check(ctx: &Ctx, repair: bool) -> Result<CheckOutcome, OpsError> {
    let access = if repair { Access::Exclusive } else { Access::Shared };
    let store = ctx.open_store(access)?;
    let found = store.check(ctx.jobs, ctx.reporter.as_ref())?;
    let mut outcome = CheckOutcome {
        blobs: found.blobs,
        bytes: found.bytes,
        bad: found.bad.clone(),
        repaired: Vec::new(),
        remaining: found.bad,
    };
    if !repair || outcome.bad.is_empty() {
        return Ok(outcome);
    }
    for bad in &outcome.bad {
        store.discard(&bad.digest)?;
    }
    for lock in store.root_locks()? {
        source::fetch_lock(&ctx.net, &store, &lock).await?;
    }
    let there = |bad: &BadBlob| bad.labs.is_empty() || store.blob_size(&bad.digest).is_some();
    (outcome.repaired, outcome.remaining) = (Vec::new(), Vec::new());
    for bad in &outcome.bad {
        match there(bad) {
            true => outcome.repaired.push(bad.digest),
            false => outcome.remaining.push(bad.clone()),
        }
    }
    Ok(outcome)
}

/// Removes what no lab needs and what is older than `grace`.
///
/// # Errors
/// A store in use by another labimg, or one that can not be read.
pub fn gc(ctx: &Ctx, now: SystemTime, grace: Duration, dry_run: bool) -> Result<Collected, OpsError> {
    let access = if dry_run { Access::Shared } else { Access::Exclusive };
    let store = ctx.open_store(access)?;
    let before = now.checked_sub(grace).unwrap_or(SystemTime::UNIX_EPOCH);
    Ok(store.collect(before, dry_run)?)
}

/// Who uses how much of the store.
///
/// # Errors
/// A store that can not be read.
pub fn du(ctx: &Ctx) -> Result<Usage, OpsError> {
    Ok(ctx.open_store(Access::Shared)?.usage()?)
}

/// Where the store is, or a blob in it, or a lab's root.
///
/// # Errors
/// A blob or root that is not there.
pub fn path(ctx: &Ctx, what: Option<&str>) -> Result<PathBuf, OpsError> {
    let store = ctx.open_store(Access::Shared)?;
    let Some(what) = what else { return Ok(store.path().to_owned()) };
    if let Ok(digest) = what.parse::<Digest>().or_else(|_| Digest::from_hex(what)) {
        return match store.blob_size(&digest) {
            Some(_) => Ok(store.blob_path(&digest)),
            None => Err(OpsError::user(format!("the store has no blob {digest}"))),
        };
    }
    let known: Vec<String> = store.roots()?.into_iter().map(|r| r.lab).collect();
    match known.iter().any(|lab| lab == what) {
        true => Ok(store.root_dir(what)),
        false => Err(OpsError::hinted(
            format!("`{what}` is neither a digest nor a lab in the store"),
            format!("labs there: {}", if known.is_empty() { "none".to_owned() } else { known.join(", ") }),
        )),
    }
}
