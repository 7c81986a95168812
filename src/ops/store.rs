//! `labimg store …`: check, gc, du, path, rm.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::fetch::needed;
use super::{Ctx, OpsError};
use crate::base::digest::Digest;
use crate::model::lock::Lock;
use crate::source::fetch as source;
use crate::store::check::{BadBlob, BadRecord};
use crate::store::gc::{Collected, Usage};
use crate::store::{Access, BlobSource, Store};

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
    /// Records of the store (roots, what steps came to) that can not be believed.
    pub records: Vec<BadRecord>,
    /// Those that can not be believed still.
    pub remaining_records: Vec<BadRecord>,
    /// Labs whose blobs could not all be fetched.
    pub failed: Vec<Failed>,
}

/// A lab that could not be mended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Failed {
    /// The lab.
    pub lab: String,
    /// What happened.
    pub why: String,
}

/// The store, which these verbs only look after: they make none.
fn open(ctx: &Ctx, access: Access) -> Result<Arc<Store>, OpsError> {
    Ok(Arc::new(Store::open_existing(&ctx.store, access)?))
}

/// Re-hashes the store and compares its records with what they were made from; with `repair` throws bad blobs away and fetches
/// them anew through the locks of the roots, writes roots anew from their locks, and forgets what steps came to, so that the next
/// build runs them. Blobs that can not be read are left alone: the next try may read them.
///
/// # Errors
/// A store that can not be read. What can not be fetched is part of the outcome.
pub async fn check(ctx: &Ctx, repair: bool) -> Result<CheckOutcome, OpsError> {
    let access = if repair { Access::Exclusive } else { Access::Shared };
    let store = open(ctx, access)?;
    let found = store.check(ctx.jobs, ctx.reporter.as_ref())?;
    let mut outcome = CheckOutcome {
        blobs: found.blobs,
        bytes: found.bytes,
        bad: found.bad.clone(),
        repaired: Vec::new(),
        remaining: found.bad,
        remaining_records: found.records.clone(),
        records: found.records,
        failed: Vec::new(),
    };
    if !repair || (outcome.bad.is_empty() && outcome.records.is_empty()) {
        return Ok(outcome);
    }
    for key in outcome.records.iter().filter_map(|record| record.key) {
        store.remove_realisation(&key)?;
    }
    for bad in outcome.bad.iter().filter(|bad| bad.readable) {
        store.discard(&bad.digest)?;
    }
    for (lab, lock) in store.root_locks()? {
        let mended = match lock {
            Ok(lock) => mend(ctx, &store, &lock, &outcome).await,
            Err(e) => Err(e.into()),
        };
        if let Err(e) = mended {
            outcome.failed.push(Failed { lab, why: e.to_string() });
        }
    }
    let mended = |bad: &BadBlob| bad.readable && (bad.labs.is_empty() || store.blob_size(&bad.digest).is_some());
    let (repaired, remaining) = outcome.bad.iter().cloned().partition::<Vec<_>, _>(mended);
    outcome.repaired = repaired.into_iter().map(|bad| bad.digest).collect();
    outcome.remaining = remaining;
    if !outcome.records.is_empty() {
        outcome.remaining_records = store.check_records(&outcome.remaining.iter().map(|bad| bad.digest).collect())?;
    }
    Ok(outcome)
}

/// Fetches what a lab lacks, and writes its root anew where that can not be believed.
async fn mend(ctx: &Ctx, store: &Arc<Store>, lock: &Lock, found: &CheckOutcome) -> Result<(), OpsError> {
    let of_lab = found.records.iter().filter(|r| r.lab.as_deref() == Some(&*lock.name));
    let bad: Vec<_> = of_lab.filter_map(|r| r.path.file_name()?.to_str()).collect();
    if bad.contains(&"lock.toml") {
        return Err(OpsError::user("its lock is not what it was: `labimg build` of its profile writes it anew"));
    }
    if !found.bad.is_empty() {
        source::fetch_lock(&ctx.net, store, lock).await?;
    }
    match bad.is_empty() {
        true => Ok(()),
        false => Ok(store.mend_root(lock, &needed(store, lock)?, !bad.contains(&"index.json"))?),
    }
}

/// Forgets a lab: what only it needed is free for `gc` then.
///
/// # Errors
/// A lab the store does not know, a store in use by another labimg.
pub fn rm(ctx: &Ctx, lab: &str) -> Result<(), OpsError> {
    let store = open(ctx, Access::Exclusive)?;
    let labs = store.labs()?;
    if !labs.iter().any(|known| known == lab) {
        return Err(OpsError::hinted(format!("the store has no lab `{lab}`"), labs_there(&labs)));
    }
    Ok(store.remove_root(lab)?)
}

fn labs_there(labs: &[String]) -> String {
    format!("labs there: {}", if labs.is_empty() { "none".to_owned() } else { labs.join(", ") })
}

/// Removes what no lab needs and what is older than `grace`.
///
/// # Errors
/// A store in use by another labimg, or one that can not be read.
pub fn gc(ctx: &Ctx, now: SystemTime, grace: Duration, dry_run: bool) -> Result<Collected, OpsError> {
    let access = if dry_run { Access::Shared } else { Access::Exclusive };
    let store = open(ctx, access)?;
    let before = now.checked_sub(grace).unwrap_or(SystemTime::UNIX_EPOCH);
    Ok(store.collect(before, dry_run)?)
}

/// Who uses how much of the store.
///
/// # Errors
/// A store that can not be read.
pub fn du(ctx: &Ctx) -> Result<Usage, OpsError> {
    Ok(open(ctx, Access::Shared)?.usage()?)
}

/// Where the store is, or a blob in it, or a lab's root.
///
/// # Errors
/// A blob or root that is not there.
pub fn path(ctx: &Ctx, what: Option<&str>) -> Result<PathBuf, OpsError> {
    let store = open(ctx, Access::Shared)?;
    let Some(what) = what else { return Ok(store.path().to_owned()) };
    if let Ok(digest) = what.parse::<Digest>().or_else(|_| Digest::from_hex(what)) {
        return match store.blob_size(&digest) {
            Some(_) => Ok(store.blob_path(&digest)),
            None => Err(OpsError::user(format!("the store has no blob {digest}"))),
        };
    }
    let known = store.labs()?;
    match known.iter().any(|lab| lab == what) {
        true => Ok(store.root_dir(what)),
        false => {
            Err(OpsError::hinted(format!("`{what}` is neither a digest nor a lab in the store"), labs_there(&known)))
        }
    }
}
